//! Tests of the learning rate's schedule.

mod changes;

use proptest::prelude::*;

use super::*;
use crate::spec::tests::run;

fn optimizer(warmup_steps: u64) -> OptimizerSpec {
    OptimizerSpec { learning_rate: 2.0, warmup_steps, ..OptimizerSpec::default() }
}

fn with(warmup_steps: u64, warmup_tokens: u64, tokens: u64) -> RunSpec {
    let schedule = ScheduleSpec { warmup_tokens, anchor: None };
    RunSpec { optimizer: optimizer(warmup_steps), schedule, tokens, ..run() }
}

/// `run` as it goes on.
fn resumed(run: &RunSpec, done: u64, tokens: u64) -> RunSpec {
    RunSpec { schedule: extended(run, done, tokens), tokens, ..run.clone() }
}

#[test]
fn the_rate_warms_up_and_falls_along_a_cosine() {
    let table = [
        (0.0, 0.2),
        (450.0, 1.1),
        (900.0, 2.0),
        (1000.0, 2.0),
        (6000.0, 1.1),
        (11_000.0, 0.2),
        (50_000.0, 0.2),
    ];
    let schedule = Schedule::of(&with(10, 1000, 11_000));
    for (tokens, expected) in table {
        let rate = schedule.rate(tokens);
        assert!((rate - expected).abs() < 1e-12, "{tokens}: {rate}");
    }
}

#[test]
fn the_rate_never_leaves_its_range_however_short_the_run() {
    for (warmup, total) in [(0, 0), (0, 1), (10, 5), (10, 10)] {
        let schedule = Schedule::of(&with(warmup, warmup, total));
        for position in [0.0, 0.5, 4.0, 9.75, 10.0, 11.0] {
            let rate = schedule.rate(position);
            assert!((0.0..=2.0).contains(&rate) && rate > 0.0, "{warmup} {total} {position}");
        }
    }
}

/// Half of the tokens came from an island that is gone: it takes twice the rounds now, and the rate
/// of a token stays what it was.
#[test]
fn islands_that_come_and_go_do_not_move_the_schedule() {
    let run = with(0, 0, 100_000);
    let rates = |expected: u64| {
        let steps = (0..10).map(|step| position(40_000, expected, (step, 10)));
        steps.map(|at| Schedule::of(&run).rate(at)).collect::<Vec<_>>()
    };
    let (both, one) = (rates(2000), rates(1000));
    assert_eq!(both[0], one[0]);
    assert_eq!(both[1], one[2]);
    assert_eq!(both[4], one[8]);
}

#[test]
fn a_run_that_goes_on_for_longer_falls_from_where_it_is() {
    let run = with(10, 1000, 11_000);
    let longer = resumed(&run, 6000, 26_000);
    let rate = |run: &RunSpec, tokens: f64| Schedule::of(run).rate(tokens);
    assert_eq!(rate(&longer, 6000.0), rate(&run, 6000.0));
    // Half of the way from 1.1 to the floor of 0.2, at half of the tokens that are left.
    assert!((rate(&longer, 16_000.0) - 0.65).abs() < 1e-12);
    assert_eq!(rate(&longer, 26_000.0), 0.2);
    // An earlier checkpoint than the one that it went on from.
    assert_eq!(rate(&longer, 5000.0), rate(&run, 6000.0));
    assert_eq!(rate(&longer, 100.0), rate(&run, 100.0));
}

#[test]
fn a_run_in_its_warm_up_goes_on_with_it() {
    let run = with(10, 1000, 11_000);
    let longer = resumed(&run, 500, 21_000);
    assert_eq!(longer.schedule, run.schedule);
    let table = [(500.0, 1.2), (1000.0, 2.0), (11_000.0, 1.1), (21_000.0, 0.2)];
    for (tokens, expected) in table {
        let rate = Schedule::of(&longer).rate(tokens);
        assert!((rate - expected).abs() < 1e-12, "{tokens}: {rate}");
    }
}

#[test]
fn a_run_that_had_ended_goes_on_at_its_floor() {
    let run = with(10, 1000, 11_000);
    let longer = resumed(&run, 11_050, 22_000);
    for tokens in [11_050.0, 15_000.0, 21_999.0, 22_000.0, 30_000.0] {
        assert!((Schedule::of(&longer).rate(tokens) - 0.2).abs() < 1e-12, "{tokens}");
    }
}

#[test]
fn the_warm_up_in_tokens_is_that_of_its_steps() {
    assert_eq!(warmup_tokens(500, 30_000, 30), 500_000);
    assert_eq!(warmup_tokens(3, 100, 7), 42);
    assert_eq!(warmup_tokens(u64::MAX, u64::MAX, 1), u64::MAX);
    assert_eq!(warmup_tokens(1, 1, 0), 1);
}

proptest! {
    #[test]
    fn through_any_changes_the_rate_is_continuous_falls_and_ends_at_its_floor(
        warmup in 0u64..2000,
        first_end in 1u64..20_000,
        changes in prop::collection::vec((0u64..5000, 1u64..20_000), 0..5),
    ) {
        let mut now = with(10, warmup, warmup + first_end);
        let mut done = warmup;
        let mut last = f64::INFINITY;
        for (more, left) in changes {
            for step in 0..10u32 {
                let rate = Schedule::of(&now).rate(position(done, more, (step, 10)));
                prop_assert!(rate <= last + 1e-12, "{rate} after {last}");
                prop_assert!((0.2 - 1e-12..=2.0).contains(&rate), "{rate}");
                last = rate;
            }
            done += more;
            let next = resumed(&now, done, done + left);
            let [was, is] = [&now, &next].map(|run| Schedule::of(run).rate(done as f64));
            prop_assert!((was - is).abs() < 1e-12, "{was} became {is} at {done}");
            now = next;
        }
        let end = now.tokens;
        prop_assert_eq!(Schedule::of(&now).rate(end as f64), 0.2);
        prop_assert_eq!(Schedule::of(&now).rate(end as f64 * 10.0), 0.2);
        let before = Schedule::of(&now).rate(end as f64 * (1.0 - 1e-9));
        prop_assert!(before <= last + 1e-12 && (before - 0.2).abs() < 1e-2, "{before}");
    }
}
