//! What holds of every pipeline, and small ones by hand.

use proptest::prelude::*;

use super::*;

fn stage(forward: f64, backward: f64, link: f64) -> StageSeconds {
    StageSeconds { forward, backward, forward_link: link, backward_link: link }
}

fn last(ends: &[f64]) -> f64 {
    ends.iter().copied().fold(0.0, f64::max)
}

prop_compose! {
    fn any_stages()(
        times in prop::collection::vec((0.1_f64..3.0, 0.1_f64..3.0, 0.0_f64..2.0), 1..7),
    ) -> Vec<StageSeconds> {
        times.into_iter().map(|(forward, backward, link)| stage(forward, backward, link)).collect()
    }
}

/// F is a forward, B a backward, > a message on its way.
///
/// ```text
/// second   0  1  2  3  4  5  6  7  8  9  10
/// stage 0  F0 F1 .. .. .. .. B0 B0 .. B1 B1
///             >0 >1
/// stage 1  .. .. F0 B0 B0 F1 B1 B1
///                         >0       >1
/// ```
#[test]
fn two_stages_with_messages_of_a_second_are_those_drawn_by_hand() {
    let stages = [stage(1.0, 2.0, 1.0), stage(1.0, 2.0, 0.0)];
    assert_eq!(simulate(&stages, 1), [8.0, 5.0]);
    assert_eq!(simulate(&stages, 2), [11.0, 8.0]);
}

#[test]
fn pipelines_of_a_few_micro_batches_end_as_counted_by_hand() {
    let table: [(&[StageSeconds], u32, &[f64]); 6] = [
        (&[stage(1.0, 2.0, 9.0)], 3, &[9.0]),
        // The last stage has no next one: its link is nobody's.
        (&[stage(1.0, 1.0, 0.0), stage(1.0, 1.0, 9.0)], 1, &[4.0, 3.0]),
        // The second waits for the first at each micro-batch, the first for the second once.
        (&[stage(3.0, 3.0, 0.0), stage(1.0, 1.0, 0.0)], 2, &[12.0, 8.0]),
        // One message at a time: the second is sent when the first has come, after 10 and 19.
        (&[stage(1.0, 1.0, 9.0), stage(1.0, 1.0, 0.0)], 2, &[31.0, 21.0]),
        (&[stage(1.0, 2.0, 0.0); 3], 1, &[9.0, 7.0, 5.0]),
        // A full pipeline of three stages of 3 s: 4 micro-batches and two more turns.
        (&[stage(1.0, 2.0, 0.0); 3], 4, &[18.0, 16.0, 14.0]),
    ];
    for (stages, micro_batches, expected) in table {
        assert_eq!(simulate(stages, micro_batches), expected, "{stages:?} × {micro_batches}");
    }
}

#[test]
fn every_turn_of_a_stage_follows_what_it_needs() {
    // Of four stages the last has nothing to run ahead of, the others one more each.
    for (at, ahead) in [(3, 1), (2, 2), (1, 3), (0, 4)] {
        let work = one_forward_one_backward(at, 4, 9);
        let first = work.iter().position(|work| *work == Work::Backward(0));
        assert_eq!(first, Some(ahead), "stage {at}");
        let end = work.iter().rposition(|work| matches!(work, Work::Forward(_)));
        assert_eq!(end, Some(work.len() - 1 - ahead), "stage {at}");
    }
    // Fewer micro-batches than stages: all forwards, then all backwards.
    let few: Vec<_> = (0..2).map(Work::Forward).chain((0..2).map(Work::Backward)).collect();
    assert_eq!(one_forward_one_backward(0, 5, 2), few);
    assert_eq!((0..5).map(|stage| in_flight(stage, 5, 2)).collect::<Vec<_>>(), [2, 2, 2, 2, 1]);
}

proptest! {
    #[test]
    fn a_stage_works_all_of_its_micro_batches_and_ends_after_them(
        stages in any_stages(),
        micro_batches in 1_u32..12,
    ) {
        let ends = simulate(&stages, micro_batches);
        for (at, (own, end)) in stages.iter().zip(&ends).enumerate() {
            let before: f64 = stages[..at].iter().map(|it| it.forward + it.forward_link).sum();
            let least = before + f64::from(micro_batches) * own.both();
            prop_assert!(*end >= least * (1.0 - 1e-9), "stage {at}: {end} of {least}");
            // Its last gradient goes back to whoever is before it, which so ends later.
            if at > 0 {
                let after = stages[at - 1].backward_link + stages[at - 1].backward;
                prop_assert!(ends[at - 1] >= (end + after) * (1.0 - 1e-9));
            }
        }
    }

    #[test]
    fn seconds_of_another_length_change_nothing_else(
        stages in any_stages(),
        micro_batches in 1_u32..12,
        factor in 0.01_f64..100.0,
    ) {
        let scaled: Vec<_> = stages
            .iter()
            .map(|it| stage(it.forward * factor, it.backward * factor, it.forward_link * factor))
            .collect();
        let ends = simulate(&stages, micro_batches);
        for (own, scaled) in ends.iter().zip(simulate(&scaled, micro_batches)) {
            prop_assert!((scaled / (own * factor) - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn nothing_ends_earlier_with_more_to_do_or_slower_links(
        stages in any_stages(),
        micro_batches in 1_u32..12,
        at in any::<prop::sample::Index>(),
        more in 0.0_f64..2.0,
    ) {
        let ends = simulate(&stages, micro_batches);
        let at = at.index(stages.len());
        let mut slower = vec![stages.clone(); 4];
        slower[0][at].forward += more;
        slower[1][at].backward += more;
        slower[2][at].forward_link += more;
        slower[3][at].backward_link += more;
        let mut later: Vec<Vec<f64>> =
            slower.iter().map(|stages| simulate(stages, micro_batches)).collect();
        later.push(simulate(&stages, micro_batches + 1));
        for later in later {
            let earlier = later.iter().zip(&ends).any(|(later, end)| *later < end * (1.0 - 1e-9));
            prop_assert!(!earlier, "{later:?} of {ends:?}");
        }
    }

    #[test]
    fn of_like_stages_the_estimate_is_the_simulation(
        count in 1_usize..7,
        (forward, backward) in (0.1_f64..3.0, 0.1_f64..3.0),
        micro_batches in 1_u32..90,
    ) {
        let stages = vec![stage(forward, backward, 0.0); count];
        let (guess, exact) = (estimate(&stages, micro_batches), simulate(&stages, micro_batches));
        for (guess, exact) in guess.iter().zip(&exact) {
            prop_assert!((guess / exact - 1.0).abs() < 1e-9, "{guess} of {exact}");
        }
        // The known formula: m + p − 1 turns.
        let turns = f64::from(micro_batches) + count as f64 - 1.0;
        prop_assert!((last(&exact) / (turns * (forward + backward)) - 1.0).abs() < 1e-9);
    }
}
