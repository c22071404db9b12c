//! Runs that are asked for another number of tokens, more than once and from older checkpoints.

use super::*;

fn rate(run: &RunSpec, tokens: f64) -> f64 {
    Schedule::of(run).rate(tokens)
}

#[test]
fn a_run_that_is_asked_for_what_it_was_asked_for_keeps_its_schedule() {
    let run = with(10, 1000, 11_000);
    for done in [0, 500, 1000, 6000, 11_000, 20_000] {
        assert_eq!(extended(&run, done, 11_000), run.schedule, "{done}");
    }
    let longer = resumed(&run, 6000, 26_000);
    assert_eq!(extended(&longer, 9000, 26_000), longer.schedule);
}

/// It had gone on at 6000 for longer, then came back to a checkpoint of its warm-up: that goes on,
/// and does not become a plateau of its beginning.
#[test]
fn a_run_that_came_back_behind_its_warm_up_warms_up_again() {
    let run = with(10, 1000, 11_000);
    let longer = resumed(&run, 6000, 26_000);
    for done in [0, 1, 400, 999] {
        let again = resumed(&longer, done, 30_000);
        assert_eq!(again.schedule, longer.schedule, "{done}");
        assert_eq!(rate(&again, done as f64), rate(&longer, done as f64));
        let warm = rate(&again, 999.0);
        assert!((warm - 1.1).abs() < 1e-12, "as high as it was at 6000: {warm}");
        assert_eq!(rate(&again, 30_000.0), 0.2);
    }
}

#[test]
fn a_run_that_came_back_between_its_warm_up_and_where_it_fell_from_falls_from_there() {
    let run = with(10, 1000, 11_000);
    let longer = resumed(&run, 6000, 26_000);
    let again = resumed(&longer, 3000, 20_000);
    let anchor = again.schedule.anchor.expect("after the warm-up");
    assert_eq!(anchor.tokens, 3000);
    assert_eq!(rate(&again, 3000.0), rate(&longer, 3000.0));
    assert!(rate(&again, 3001.0) < rate(&again, 3000.0));
    assert_eq!(rate(&again, 20_000.0), 0.2);
}

#[test]
fn a_run_that_is_asked_for_less_than_it_has_is_at_its_floor_at_once() {
    let run = with(10, 1000, 11_000);
    let shorter = resumed(&run, 6000, 5000);
    for tokens in [5000.0, 6000.0, 7000.0] {
        assert_eq!(rate(&shorter, tokens), 0.2, "{tokens}");
    }
}

#[test]
fn the_first_step_has_the_rate_of_one_step_of_the_warm_up() {
    for steps in [1_u64, 2, 10, 1000] {
        let schedule = Schedule::new(&optimizer(steps), 100.0, 1000.0);
        assert!((schedule.rate(0.0) - 2.0 / steps as f64).abs() < 1e-12, "{steps}");
        assert!(schedule.rate(100.0) <= 2.0);
    }
    // No warm-up at all is one of no tokens: the peak from the first step on.
    let schedule = Schedule::new(&optimizer(0), 0.0, 1000.0);
    assert_eq!(schedule.rate(0.0), 2.0);
}

#[test]
fn a_member_is_in_a_round_as_far_as_its_own_steps_are() {
    let table = [
        ((0, 10), 1000.0),
        ((5, 10), 1200.0),
        ((10, 10), 1400.0),
        // Of a member that makes one step, and of one that would make none.
        ((0, 1), 1000.0),
        ((0, 0), 1000.0),
    ];
    for (at, expected) in table {
        assert_eq!(position(1000, 400, at), expected, "{at:?}");
    }
    assert!(position(u64::MAX, u64::MAX, (u32::MAX, 1)).is_finite());
}

proptest! {
    #[test]
    fn a_run_without_changes_rises_once_and_falls_once(
        warmup in 1_u64..2000,
        total in 2001_u64..20_000,
        warmup_steps in 1_u64..100,
        mut at in prop::collection::vec(0.0_f64..25_000.0, 2..30),
    ) {
        let schedule = Schedule::of(&with(warmup_steps, warmup, total));
        at.sort_by(f64::total_cmp);
        for pair in at.windows(2) {
            let [before, after] = [pair[0], pair[1]].map(|tokens| schedule.rate(tokens));
            if pair[1] < warmup as f64 {
                prop_assert!(before <= after + 1e-12);
            }
            if pair[0] >= warmup as f64 {
                prop_assert!(before + 1e-12 >= after);
            }
        }
    }

    #[test]
    fn whatever_was_changed_before_a_rate_stays_in_its_range_and_ends_at_the_floor(
        warmup in 0_u64..2000,
        changes in prop::collection::vec((0_u64..30_000, 1_u64..30_000), 0..6),
        at in prop::collection::vec(0.0_f64..40_000.0, 1..20),
    ) {
        // Here a run may come back to any checkpoint, and be asked for anything.
        let mut run = with(10, warmup, 15_000);
        for (done, tokens) in changes {
            let next = resumed(&run, done, tokens);
            if done < tokens && done < run.tokens {
                let [was, is] = [&run, &next].map(|run| rate(run, done as f64));
                prop_assert!((was - is).abs() < 1e-12, "{was} became {is} at {done}");
            }
            run = next;
        }
        for at in at {
            let rate = rate(&run, at);
            prop_assert!(rate > 0.0 && rate <= 2.0, "{rate} at {at}");
        }
        prop_assert_eq!(rate(&run, run.tokens as f64), 0.2);
    }
}
