//! The exact k largest magnitudes of a chunk; among equals the lower position wins.
//!
//! Magnitudes are compared as integers (an f32 without its sign), which orders them exactly. The
//! k-th largest of the groups' maxima is at most the k-th largest value, so nothing below it can be
//! kept: one pass collects the few values that are not below, and the exact threshold is searched
//! among those alone.

use crate::layout::CHUNK;
use crate::simd::{LANES, MAGNITUDE, Simd};

/// Groups of a chunk: value i is in group i mod 256.
pub(crate) const GROUPS: usize = 256;

/// Magnitude bits of the largest value of each group.
pub(crate) type Maxima = [u32; GROUPS];

/// Where a selection does its work, and its result.
pub(crate) struct Selection {
    candidates: [u32; CHUNK + LANES],
    magnitudes: [u32; CHUNK + LANES],
    positions: [u16; CHUNK],
    kept: usize,
}

impl Selection {
    /// An empty selection.
    pub(crate) fn new() -> Selection {
        Selection {
            candidates: [0; CHUNK + LANES],
            magnitudes: [0; CHUNK + LANES],
            positions: [0; CHUNK],
            kept: 0,
        }
    }

    /// Positions of what was kept, increasing.
    pub(crate) fn positions(&self) -> &[u16] {
        &self.positions[..self.kept]
    }

    /// Keeps the `k` largest of `values`, whose groups' maxima are `maxima`. The length of `values`
    /// is a multiple of [`LANES`]; padding is zeros at the end, which lose against every value.
    #[inline(always)]
    pub(crate) fn top<S: Simd>(&mut self, simd: S, values: &[f32], maxima: &Maxima, k: usize) {
        let floor = floor(maxima, k);
        let found = simd.at_least(values, floor, &mut self.candidates);
        let padded = found.next_multiple_of(LANES);
        let candidates = &self.candidates[..found];
        for (to, &from) in self.magnitudes.iter_mut().zip(candidates) {
            *to = values[from as usize].to_bits() & MAGNITUDE;
        }
        self.magnitudes[found..padded].fill(0);
        let (least, ties) = threshold(&self.magnitudes[..padded], floor, k);
        let mut kept = 0;
        let mut spare = ties;
        for (&candidate, &magnitude) in candidates.iter().zip(&self.magnitudes) {
            let tie = magnitude == least;
            let keep = magnitude > least || (tie && spare > 0);
            self.positions[kept & (CHUNK - 1)] = candidate as u16;
            kept += usize::from(keep);
            spare -= usize::from(tie && keep);
        }
        self.kept = kept;
    }
}

/// A magnitude that at least k groups reach, few more if that is found quickly.
#[inline(always)]
fn floor(maxima: &Maxima, k: usize) -> u32 {
    if k > GROUPS {
        return 0;
    }
    let mut low = maxima.iter().fold(u32::MAX, |least, &value| least.min(value));
    let mut high = largest(maxima) + 1;
    let enough = k + k / 8;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let count = count_at_least(maxima, middle);
        if count < k {
            high = middle;
        } else {
            low = middle;
            if count <= enough {
                break;
            }
        }
    }
    low
}

/// The magnitude at or above which values are kept, and how many of those that equal it.
#[inline(always)]
fn threshold(magnitudes: &[u32], floor: u32, k: usize) -> (u32, usize) {
    let mut low = floor;
    let mut high = largest(magnitudes) + 1;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let count = count_at_least(magnitudes, middle);
        if count == k {
            return (middle, k);
        }
        if count < k {
            high = middle;
        } else {
            low = middle;
        }
    }
    (low, k - count_at_least(magnitudes, low + 1))
}

/// The largest of `magnitudes`.
#[inline(always)]
pub(crate) fn largest(magnitudes: &[u32]) -> u32 {
    magnitudes.iter().fold(0, |most, &value| most.max(value))
}

#[inline(always)]
fn count_at_least(magnitudes: &[u32], least: u32) -> usize {
    magnitudes.iter().map(|&value| u32::from(value >= least)).sum::<u32>() as usize
}
