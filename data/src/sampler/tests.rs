//! Tests of the order of text.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn sampler(tokens: u64, seed: u64) -> Sampler {
    Sampler::new(SamplerOptions { tokens, seed, sequence_length: 16 }).unwrap()
}

/// `docs/data.md` shows these numbers; whoever recomputes the order may check against them.
#[test]
fn the_documented_examples_hold() {
    let sequences = |seed| -> Vec<u64> {
        let sampler = sampler(16 * 1000 + 1, seed);
        [0, 1, 2, 999, 1000, 1001].map(|position| sampler.sequence(position)).to_vec()
    };
    let rows = [7, 8].map(|seed| {
        let firsts: Vec<_> = sequences(seed).iter().map(u64::to_string).collect();
        format!("| {seed} | {} |", firsts.join(", "))
    });
    let page = include_str!("../../../docs/data.md");
    for row in &rows {
        assert!(page.contains(row), "docs/data.md lacks {row}");
    }
    assert_eq!(sequences(7)[0], 6048);
}

#[test]
fn a_sample_ends_before_the_last_token() {
    for tokens in [17, 33, 34, 48, 49] {
        let sampler = sampler(tokens, 7);
        for position in 0..3 * sampler.windows() {
            assert!(sampler.sequence(position) + 16 < tokens, "{tokens} {position}");
        }
    }
}

#[test]
fn the_order_differs_between_epochs() {
    let sampler = sampler(16 * 100 + 1, 7);
    let epoch = |number: u64| -> Vec<u64> {
        (number * 100..(number + 1) * 100).map(|position| sampler.sequence(position)).collect()
    };
    assert_ne!(epoch(0), epoch(1));
    assert_ne!(epoch(1), epoch(2));
}

#[test]
fn text_without_a_window_is_refused() {
    let new = |tokens, sequence_length| {
        Sampler::new(SamplerOptions { tokens, seed: 7, sequence_length }).map(|it| it.windows())
    };
    assert_eq!(new(100, 0), Err(SamplerError::NoSequence));
    for tokens in [0, 1, 16] {
        let few = SamplerError::TooFewTokens { tokens, sequence_length: 16 };
        assert_eq!(new(tokens, 16), Err(few));
    }
    assert_eq!(new(17, 16), Ok(1));
}

#[test]
fn the_largest_numbers_are_no_problem() {
    let largest = SamplerOptions { tokens: u64::MAX, seed: u64::MAX, sequence_length: 1 };
    let sampler = Sampler::new(largest).unwrap();
    assert!(sampler.sequence(u64::MAX) < u64::MAX - 1);
    let all = Allotment::new([0..u64::MAX, 0..u64::MAX]);
    assert_eq!(all.samples(), u64::MAX);
    assert_eq!(all.position(u64::MAX), Ok(0));
}

#[test]
fn an_island_goes_through_its_ranges_one_after_the_other() {
    let allotted = Allotment::new([7..9, 40..40, 2..4, 100..101]);
    let positions: Vec<_> = (0..5).map(|sample| allotted.position(sample).unwrap()).collect();
    assert_eq!(positions, [7, 8, 2, 3, 100]);
    let beyond = SamplerError::NotAllotted { sample: 5, samples: 5 };
    assert_eq!(allotted.position(5), Err(beyond));
    let nothing = SamplerError::NotAllotted { sample: 0, samples: 0 };
    assert_eq!(Allotment::default().position(0), Err(nothing));
}

#[test]
fn held_out_sequences_are_spread_and_bounded() {
    let held_out = HeldOut::new(16 * 10 + 1, 16, 4).unwrap();
    assert_eq!(held_out.sequences().collect::<Vec<_>>(), [0, 32, 80, 112]);
    let all = HeldOut::new(16 * 10 + 1, 16, 1000).unwrap();
    assert_eq!(all.sequences().collect::<Vec<_>>(), (0..10).map(|at| at * 16).collect::<Vec<_>>());
    assert!(HeldOut::new(16, 16, 4).is_err());
    assert_eq!(HeldOut::new(17, 16, 0).unwrap().sequences().len(), 0);
}

proptest! {
    #[test]
    fn the_permutation_visits_every_number_once(count in 1u64..700, seed: u64, epoch: u64) {
        let keys = round_keys(seed, epoch);
        let visited: BTreeSet<u64> = (0..count).map(|at| permute(at, count, &keys)).collect();
        prop_assert_eq!(visited, (0..count).collect::<BTreeSet<_>>());
    }

    #[test]
    fn every_window_is_seen_before_any_comes_again(
        seed: u64, windows in 1u64..300, epoch in 0u64..5,
    ) {
        let sampler = sampler(windows * 16 + 1, seed);
        prop_assert_eq!(sampler.windows(), windows);
        let positions = epoch * windows..(epoch + 1) * windows;
        let seen: BTreeSet<u64> = positions.map(|position| sampler.sequence(position)).collect();
        prop_assert_eq!(seen, (0..windows).map(|window| window * 16).collect::<BTreeSet<_>>());
    }
}
