//! How the sequences of an inner step are divided over replicas of unlike speed that are one stage
//! each, so that each may have micro-batches of its own size.

use super::divide::{self, Turn};
use crate::spec::BatchSpec;

/// Seconds of a micro-batch by its sequences, from one; as many as fit and are of use.
pub(crate) type Cost = Vec<f64>;

/// Divides `sequences`, at least one to each replica, so that the last ends as early as possible.
///
/// For every granule g that divides the sequences and fits every replica, replicas get multiples of
/// g, each next one going to the replica that would end it first; each then takes the size that
/// ends its part soonest. The best g wins, the largest of equals.
pub(crate) fn split(sequences: u32, costs: &[Cost]) -> Vec<BatchSpec> {
    let largest = costs.iter().map(Vec::len).min().unwrap_or(1) as u32;
    let most = largest.min(sequences / (costs.len() as u32).max(1)).max(1);
    let granules = (1..=most).rev().filter(|granule| sequences.is_multiple_of(*granule));
    let seconds = |batches: &[BatchSpec]| {
        batches
            .iter()
            .zip(costs)
            .map(|(batch, cost)| self::seconds(*batch, cost))
            .fold(0.0, f64::max)
    };
    granules
        .map(|granule| by_granule(sequences / granule, granule, costs))
        .reduce(|best, next| if seconds(&next) < seconds(&best) { next } else { best })
        .unwrap_or_default()
}

fn seconds(batch: BatchSpec, cost: &Cost) -> f64 {
    f64::from(batch.micro_batches) * cost[batch.micro_batch_size as usize - 1]
}

fn by_granule(granules: u32, granule: u32, costs: &[Cost]) -> Vec<BatchSpec> {
    let turn = |cost: &Cost| {
        let each = cost.iter().zip(1..).map(|(seconds, size)| seconds / f64::from(size));
        Turn { once: 0.0, each: each.fold(f64::INFINITY, f64::min) * f64::from(granule) }
    };
    let turns: Vec<Turn> = costs.iter().map(turn).collect();
    let counts = divide::micro_batches(granules, &turns);
    counts.into_iter().zip(costs).map(|(count, cost)| best(count * granule, cost)).collect()
}

/// The size that takes a replica's sequences soonest.
fn best(sequences: u32, cost: &Cost) -> BatchSpec {
    let sizes = (1..=sequences.min(cost.len() as u32)).rev();
    let batches = sizes
        .filter(|size| sequences.is_multiple_of(*size))
        .map(|size| BatchSpec { micro_batches: sequences / size, micro_batch_size: size });
    batches
        .reduce(|best, next| if seconds(next, cost) < seconds(best, cost) { next } else { best })
        .unwrap_or(BatchSpec { micro_batches: sequences, micro_batch_size: 1 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cost(sequence_seconds: f64, largest: u32) -> Cost {
        (1..=largest).map(|size| 0.01 + f64::from(size) * sequence_seconds).collect()
    }

    fn batch(micro_batches: u32, micro_batch_size: u32) -> BatchSpec {
        BatchSpec { micro_batches, micro_batch_size }
    }

    #[test]
    fn equal_cards_share_equally_in_the_largest_micro_batches() {
        assert_eq!(split(16, &[cost(1.0, 4), cost(1.0, 4)]), [batch(2, 4); 2]);
        assert_eq!(split(16, &[cost(1.0, 99)]), [batch(1, 16)]);
    }

    #[test]
    fn a_card_of_twice_the_speed_takes_twice_the_sequences() {
        assert_eq!(split(12, &[cost(0.5, 8), cost(1.0, 8)]), [batch(1, 8), batch(1, 4)]);
    }

    #[test]
    fn a_small_card_takes_smaller_micro_batches_than_a_large_one() {
        assert_eq!(split(16, &[cost(1.0, 8), cost(1.0, 2)]), [batch(1, 8), batch(4, 2)]);
    }

    proptest! {
        #[test]
        fn every_sequence_goes_to_one_card_and_none_exceeds_its_largest(
            sequences in 6_u32..400,
            costs in prop::collection::vec((0.01_f64..10.0, 1_u32..40), 1..6),
        ) {
            let costs: Vec<_> = costs.into_iter().map(|(t, largest)| cost(t, largest)).collect();
            let batches = split(sequences, &costs);
            let total: u32 = batches.iter().map(|b| b.micro_batches * b.micro_batch_size).sum();
            prop_assert_eq!(total, sequences);
            for (batch, cost) in batches.iter().zip(&costs) {
                prop_assert!(batch.micro_batches > 0);
                prop_assert!(batch.micro_batch_size as usize <= cost.len());
            }
        }
    }
}
