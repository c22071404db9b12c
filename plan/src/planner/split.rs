//! How the sequences of an inner step are divided over cards of unlike speed.

use super::time::Pace;

/// What a rank's work costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Of the whole model.
    pub pace: Pace,
    /// Largest micro-batch; at least 1.
    pub largest: u32,
}

/// What a rank does in an inner step. No micro-batches: better without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub micro_batches: u32,
    pub micro_batch_size: u32,
}

impl Share {
    /// Seconds of an inner step.
    pub(super) fn seconds(&self, cost: &Cost) -> f64 {
        f64::from(self.micro_batches) * cost.pace.micro_batch(self.micro_batch_size)
    }
}

/// Divides `sequences` so that the last rank ends as early as possible.
///
/// A rank's micro-batches are of one size. For every granule g that divides the sequences and fits
/// every rank, ranks get multiples of g, each next one going to the rank that would end it first;
/// each rank then takes the largest micro-batch that divides its part. The best g wins, the largest
/// of equals.
pub(super) fn split(sequences: u32, costs: &[Cost]) -> Vec<Share> {
    let largest = costs.iter().map(|cost| cost.largest).min().unwrap_or(1);
    let candidates = (1..=largest.min(sequences)).rev().filter(|g| sequences.is_multiple_of(*g));
    let seconds = |shares: &[Share]| {
        shares.iter().zip(costs).map(|(share, cost)| share.seconds(cost)).fold(0.0, f64::max)
    };
    candidates
        .map(|granule| by_granule(sequences / granule, granule, costs))
        .reduce(|best, shares| if seconds(&shares) < seconds(&best) { shares } else { best })
        .unwrap_or_default()
}

fn by_granule(granules: u32, granule: u32, costs: &[Cost]) -> Vec<Share> {
    let seconds: Vec<_> = costs.iter().map(|cost| cost.pace.sequence_seconds).collect();
    let counts = divide(granules, &seconds);
    counts
        .into_iter()
        .zip(costs)
        .map(|(count, cost)| {
            let fits = (1..=count.min(cost.largest / granule).max(1)).rev();
            let together = fits.into_iter().find(|d| count.is_multiple_of(*d)).unwrap_or(1);
            Share { micro_batches: count / together, micro_batch_size: together * granule }
        })
        .collect()
}

/// Divides granules over workers that take so many seconds for one: first the whole part of each
/// worker's share by speed, which no best division undercuts, then the rest one by one to whoever
/// would end it first.
pub(super) fn divide(granules: u32, seconds: &[f64]) -> Vec<u32> {
    let speed: f64 = seconds.iter().map(|each| 1.0 / each).sum();
    let part = |each: &f64| f64::from(granules) / each / speed;
    let mut counts: Vec<_> = seconds.iter().map(|each| (part(each) - 1e-9) as u32).collect();
    for _ in counts.iter().sum::<u32>()..granules {
        let end = |worker: usize| f64::from(counts[worker] + 1) * seconds[worker];
        let first = (0..seconds.len()).min_by(|a, b| end(*a).total_cmp(&end(*b)));
        if let Some(worker) = first {
            counts[worker] += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cost(sequence_seconds: f64, largest: u32) -> Cost {
        Cost { pace: Pace { sequence_seconds, micro_batch_seconds: 0.01 }, largest }
    }

    fn share(micro_batches: u32, micro_batch_size: u32) -> Share {
        Share { micro_batches, micro_batch_size }
    }

    #[test]
    fn equal_cards_share_equally_in_the_largest_micro_batches() {
        assert_eq!(split(16, &[cost(1.0, 4); 2]), [share(2, 4); 2]);
        assert_eq!(split(16, &[cost(1.0, 99)]), [share(1, 16)]);
    }

    #[test]
    fn a_card_of_twice_the_speed_takes_twice_the_sequences() {
        assert_eq!(split(12, &[cost(0.5, 8), cost(1.0, 8)]), [share(1, 8), share(1, 4)]);
    }

    #[test]
    fn a_small_card_takes_smaller_micro_batches_than_a_large_one() {
        assert_eq!(split(16, &[cost(1.0, 8), cost(1.0, 2)]), [share(1, 8), share(4, 2)]);
    }

    #[test]
    fn a_card_that_would_hold_up_the_others_gets_nothing() {
        assert_eq!(split(8, &[cost(0.1, 8), cost(10.0, 8)])[1].micro_batches, 0);
    }

    proptest! {
        #[test]
        fn every_sequence_goes_to_one_card_and_none_exceeds_its_largest(
            sequences in 1_u32..400,
            costs in prop::collection::vec((0.01_f64..10.0, 1_u32..40), 1..6),
        ) {
            let costs: Vec<_> = costs.into_iter().map(|(t, largest)| cost(t, largest)).collect();
            let shares = split(sequences, &costs);
            let total: u32 =
                shares.iter().map(|share| share.micro_batches * share.micro_batch_size).sum();
            prop_assert_eq!(total, sequences);
            for (share, cost) in shares.iter().zip(&costs) {
                prop_assert!(share.micro_batch_size <= cost.largest);
            }
        }

        #[test]
        fn without_a_cost_per_micro_batch_no_division_ends_earlier(
            sequences in 1_u32..12,
            seconds in prop::collection::vec(0.01_f64..10.0, 3),
        ) {
            let costs: Vec<_> = seconds
                .iter()
                .map(|t| Pace { sequence_seconds: *t, micro_batch_seconds: 0.0 })
                .map(|pace| Cost { pace, largest: 1 })
                .collect();
            let end = |counts: [u32; 3]| {
                counts.iter().zip(&seconds).map(|(n, t)| f64::from(*n) * t).fold(0.0, f64::max)
            };
            let shares = split(sequences, &costs);
            let ours = end([0, 1, 2].map(|rank: usize| shares[rank].micro_batches));
            let best = (0..=sequences)
                .flat_map(|a| (0..=sequences - a).map(move |b| [a, b, sequences - a - b]))
                .map(end)
                .fold(f64::INFINITY, f64::min);
            prop_assert!(ours <= best * (1.0 + 1e-9), "{} > {}", ours, best);
        }
    }
}
