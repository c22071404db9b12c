//! The magnitudes that stand for a chunk's kept values: means, rounded to bfloat16.
//!
//! Kept values crowd just above the threshold, so their mean alone leaves 0.2% of their energy;
//! with two bits they are split at a threshold that two Lloyd iterations find from the mean. Sums
//! run over 16 fixed lanes, so that they are the same with every instruction set.

/// Sums run over this many lanes.
pub(crate) const LANES: usize = 16;

/// Lloyd iterations after the split at the mean.
const REFINEMENTS: usize = 2;

/// A chunk's magnitudes as they go over the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Levels {
    /// bfloat16 of the lower magnitude, or the only one.
    pub(crate) low: u16,
    /// bfloat16 of the higher magnitude; equal to `low` with one bit.
    pub(crate) high: u16,
    /// Values above this have the higher magnitude.
    pub(crate) split: f32,
}

impl Levels {
    /// Rounds both magnitudes, which are not negative. The lower one is bounded by the higher one:
    /// it comes from a difference of sums, whose rounding may carry it above.
    #[inline(always)]
    fn new(low: f32, high: f32, split: f32) -> Levels {
        let high = narrow(high);
        Levels { low: narrow(low).min(high), high, split }
    }
}

/// The f32 that a bfloat16 stands for.
#[inline(always)]
pub(crate) fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest bfloat16, ties to even. `value` is finite.
#[inline(always)]
pub(crate) fn narrow(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// One magnitude for the first `count` of `magnitudes`; zeros follow up to whole lanes.
#[inline(always)]
pub(crate) fn one(magnitudes: &[f32], count: usize) -> Levels {
    let mean = total(magnitudes) / count as f32;
    Levels::new(mean, mean, f32::INFINITY)
}

/// Two magnitudes for the first `count` of `magnitudes`; zeros follow up to whole lanes.
#[inline(always)]
pub(crate) fn two(magnitudes: &[f32], count: usize) -> Levels {
    let all = total(magnitudes);
    let mean = all / count as f32;
    let (mut low, mut high, mut split) = (mean, mean, mean);
    for refinement in 0..=REFINEMENTS {
        let (above, above_count) = above(magnitudes, split);
        if above_count == 0 || above_count as usize == count {
            break;
        }
        low = (all - above) / (count as f32 - above_count as f32);
        high = above / above_count as f32;
        if refinement < REFINEMENTS {
            split = 0.5 * (low + high);
        }
    }
    Levels::new(low, high, split)
}

#[inline(always)]
fn total(magnitudes: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    for some in magnitudes.as_chunks::<LANES>().0 {
        for (lane, value) in lanes.iter_mut().zip(some) {
            *lane += value;
        }
    }
    fold(lanes)
}

/// The sum of the magnitudes above `split`, and their number.
#[inline(always)]
fn above(magnitudes: &[f32], split: f32) -> (f32, u32) {
    let mut lanes = [0.0; LANES];
    for some in magnitudes.as_chunks::<LANES>().0 {
        for (lane, &value) in lanes.iter_mut().zip(some) {
            *lane += if value > split { value } else { 0.0 };
        }
    }
    (fold(lanes), magnitudes.iter().map(|&value| u32::from(value > split)).sum())
}

/// Adds the lanes in halves: 8 + 8, 4 + 4, 2 + 2, 1 + 1.
#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests;
