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

proptest! {
    /// Whoever comes and goes: positions that were handed out in any pieces to anybody are all
    /// there once, and no sample of them comes twice within an epoch.
    #[test]
    fn no_sample_comes_twice_in_an_epoch_however_it_is_handed_out(
        seed: u64, windows in 1_u64..120, cuts in proptest::collection::vec(0_u64..360, 0..12),
        islands in 1_usize..5,
    ) {
        let sampler = sampler(windows * 16 + 1, seed);
        let end = 3 * windows;
        let mut cuts: Vec<u64> = cuts.into_iter().filter(|cut| *cut < end).collect();
        cuts.extend([0, end]);
        cuts.sort_unstable();
        let ranges: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
        let of = |island: usize| {
            Allotment::new(ranges.iter().skip(island).step_by(islands).cloned())
        };
        let mut positions = Vec::new();
        for island in 0..islands {
            let allotted = of(island);
            positions.extend((0..allotted.samples()).map(|it| allotted.position(it).unwrap()));
        }
        positions.sort_unstable();
        prop_assert_eq!(&positions, &(0..end).collect::<Vec<_>>());
        for epoch in 0..3 {
            let own = &positions[(epoch * windows) as usize..((epoch + 1) * windows) as usize];
            let seen: BTreeSet<u64> = own.iter().map(|at| sampler.sequence(*at)).collect();
            prop_assert_eq!(seen.len() as u64, windows);
        }
    }

    /// Too many to see them all: those that are looked at are unlike, and there.
    #[test]
    fn the_permutation_of_any_size_keeps_numbers_apart(
        count in prop_oneof![1_u64..1 << 20, 1 << 30..1_u64 << 34, (1_u64 << 62)..=u64::MAX],
        seed: u64, first: u64,
    ) {
        let keys = round_keys(seed, 1);
        let looked = count.min(300);
        let first = first % (count - looked + 1);
        let found: BTreeSet<u64> =
            (first..first + looked).map(|at| permute(at, count, &keys)).collect();
        prop_assert_eq!(found.len() as u64, looked);
        prop_assert!(found.iter().all(|value| *value < count));
    }

    #[test]
    fn an_allotment_is_its_ranges_one_after_the_other(
        ranges in proptest::collection::vec((0_u64..50, 0_u64..50), 0..6),
    ) {
        // One that ends before it begins has nothing.
        let ranges: Vec<_> = ranges.into_iter().map(|(start, end)| start..end).collect();
        let allotted = Allotment::new(ranges.clone());
        let all: Vec<u64> = ranges.into_iter().flatten().collect();
        prop_assert_eq!(allotted.samples(), all.len() as u64);
        for (sample, position) in (0..).zip(&all) {
            prop_assert_eq!(allotted.position(sample), Ok(*position));
        }
        prop_assert!(allotted.position(all.len() as u64).is_err());
    }

    #[test]
    fn held_out_sequences_are_unlike_and_end_before_the_last_token(
        windows in 1_u64..5000, sequences in 0_u32..300, length in 1_u32..40,
    ) {
        let tokens = windows * u64::from(length) + 1;
        let held_out = HeldOut::new(tokens, length, sequences).unwrap();
        let firsts: Vec<u64> = held_out.sequences().collect();
        prop_assert_eq!(firsts.len() as u64, windows.min(sequences.into()));
        prop_assert!(firsts.is_sorted_by(|a, b| a < b));
        let length = u64::from(length);
        let fits = |first: &u64| first.is_multiple_of(length) && first + length < tokens;
        prop_assert!(firsts.iter().all(fits));
    }
}

#[test]
fn the_order_is_that_of_the_seed_alone() {
    let order = |seed| -> Vec<u64> {
        let sampler = sampler(16 * 50 + 1, seed);
        (0..50).map(|position| sampler.sequence(position)).collect()
    };
    assert_eq!(order(7), order(7));
    let unlike: BTreeSet<Vec<u64>> = (0..20).map(order).collect();
    assert_eq!(unlike.len(), 20, "every seed has its own order");
    // Tokens behind the last window change nothing.
    let longer = Sampler::new(SamplerOptions { tokens: 16 * 51, seed: 7, sequence_length: 16 });
    let longer = longer.unwrap();
    assert_eq!((0..50).map(|at| longer.sequence(at)).collect::<Vec<_>>(), order(7));
}
