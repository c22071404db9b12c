//! Tests of the magnitudes where rounding could put them in the wrong order or out of range.

use super::*;
use crate::frame::{MAGNITUDE_MAX, MAGNITUDE_MAX_BITS};
use crate::layout::CHUNK;
use crate::testing::{Random, near_a_tie};

/// Checks both quantisers on magnitudes for which zeros fill up the lanes.
fn check(mut magnitudes: Vec<f32>) {
    let count = magnitudes.len();
    magnitudes.resize(count.next_multiple_of(LANES), 0.0);
    for levels in [one(&magnitudes, count), two(&magnitudes, count)] {
        let (low, high) = (widen(levels.low), widen(levels.high));
        let ordered = low.is_sign_positive() && low <= high && high <= MAGNITUDE_MAX;
        assert!(ordered, "{low:e} and {high:e} of {count} values from {:e}", magnitudes[0]);
    }
}

#[test]
fn the_lower_magnitude_is_never_above_the_higher_one_whatever_k_is() {
    let mut random = Random(13);
    for count in 1..=CHUNK {
        (0..3).for_each(|_| check(near_a_tie(count, &mut random)));
    }
    // Sums of few values are seldom wrong by enough.
    for count in (1..=256).cycle().take(100_000) {
        check(near_a_tie(count, &mut random));
    }
}

#[test]
fn magnitudes_of_the_largest_values_stay_within_what_a_frame_may_hold() {
    let mut random = Random(14);
    for count in 1..=CHUNK {
        let below = |random: &mut Random| {
            let less = (random.next() as u32 | 1) >> (random.next() % 32);
            f32::from_bits(MAGNITUDE_MAX_BITS - less.clamp(1, MAGNITUDE_MAX_BITS))
        };
        let few = 1 + random.next() as usize % 3;
        let mut magnitudes = vec![f32::from_bits(MAGNITUDE_MAX_BITS - 1); count];
        magnitudes.iter_mut().take(few).for_each(|value| *value = below(&mut random));
        check(magnitudes);
    }
}
