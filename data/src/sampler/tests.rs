//! Tests of the assignment of samples.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn options(tokens: u64, islands: u32) -> SamplerOptions {
    SamplerOptions { tokens, seed: 7, sequence_length: 16, island: 0, islands }
}

/// `docs/data.md` shows these numbers; whoever recomputes the assignment may check against them.
#[test]
fn the_documented_examples_hold() {
    let sequences = |seed, island| -> Vec<u64> {
        let options = SamplerOptions { seed, island, ..options(16 * 1000 + 1, 3) };
        let sampler = Sampler::new(options).unwrap();
        [0, 1, 2, 332, 333].map(|sample| sampler.sequence(sample)).to_vec()
    };
    assert_eq!(sequences(7, 0), [6048, 13680, 11680, 4560, 13760]);
    assert_eq!(sequences(7, 2), [4304, 7376, 15568, 8032, 4032]);
    assert_eq!(sequences(8, 0), [14592, 14864, 7936, 5952, 3264]);
}

#[test]
fn a_sample_ends_before_the_last_token() {
    for tokens in [17, 33, 34, 48, 49] {
        let sampler = Sampler::new(options(tokens, 1)).unwrap();
        for sample in 0..3 * sampler.samples_per_epoch() {
            assert!(sampler.sequence(sample) + 16 < tokens, "{tokens} {sample}");
        }
    }
}

#[test]
fn the_order_differs_between_epochs() {
    let sampler = Sampler::new(options(16 * 100 + 1, 2)).unwrap();
    let epoch = |number: u64| -> Vec<u64> {
        (number * 50..(number + 1) * 50).map(|sample| sampler.sequence(sample)).collect()
    };
    assert_ne!(epoch(0), epoch(1));
    assert_ne!(epoch(1), epoch(2));
}

#[test]
fn impossible_assignments_are_refused() {
    let sequence_length = 0;
    let none = Sampler::new(SamplerOptions { sequence_length, ..options(100, 1) });
    assert_eq!(none.unwrap_err(), SamplerError::NoSequence);
    let island = Sampler::new(SamplerOptions { island: 2, ..options(100, 2) });
    assert_eq!(island.unwrap_err(), SamplerError::NoSuchIsland { island: 2, islands: 2 });
    for tokens in [0, 16, 48] {
        let few = Sampler::new(options(tokens, 3)).unwrap_err();
        assert!(matches!(few, SamplerError::TooFewTokens { .. }), "{few}");
    }
    assert!(Sampler::new(options(49, 3)).is_ok());
}

#[test]
fn the_largest_numbers_are_no_problem() {
    let largest = SamplerOptions {
        tokens: u64::MAX,
        seed: u64::MAX,
        sequence_length: 1,
        island: u32::MAX - 1,
        islands: u32::MAX,
    };
    let sampler = Sampler::new(largest).unwrap();
    assert!(sampler.sequence(u64::MAX) < u64::MAX - 1);
    let shape = StepShape { inner_steps: u32::MAX, sequences: u32::MAX };
    let _wraps = sampler.sequence(shape.first_sample(u64::MAX, u32::MAX));
}

#[test]
fn steps_follow_each_other_across_rounds() {
    let shape = StepShape { inner_steps: 5, sequences: 3 };
    let firsts: Vec<u64> =
        (0..4).flat_map(|round| (0..5).map(move |step| shape.first_sample(round, step))).collect();
    assert_eq!(firsts, (0..20).map(|step| step * 3).collect::<Vec<_>>());
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
    fn within_a_data_epoch_no_window_is_given_twice(
        seed: u64, islands in 1u32..9, windows in 9u64..300, epoch in 0u64..5,
    ) {
        let mut given = BTreeSet::new();
        for island in 0..islands {
            let options = SamplerOptions { seed, island, ..options(windows * 16 + 1, islands) };
            let sampler = Sampler::new(options).unwrap();
            let samples = sampler.samples_per_epoch();
            for sample in epoch * samples..(epoch + 1) * samples {
                let first = sampler.sequence(sample);
                prop_assert_eq!(first % 16, 0);
                prop_assert!(given.insert(first));
            }
        }
        let left_out = windows - given.len() as u64;
        prop_assert!(left_out < u64::from(islands));
    }
}
