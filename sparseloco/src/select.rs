//! The exact k largest magnitudes of a chunk; among equals the lower position wins.
//!
//! Magnitudes are compared as integers (an f32 without its sign), which orders them exactly. The
//! k-th largest of the groups' maxima is at most the k-th largest value, so nothing below it can be
//! kept: one pass collects the few values that are not below, and the exact threshold is searched
//! among those alone.

use crate::layout::CHUNK;
use crate::pass::{Ahead, Current};
use crate::simd::{MAGNITUDE, ROW, Simd};

/// Groups of a chunk: value i is in group i mod 256.
pub(crate) const GROUPS: usize = 256;

/// The largest magnitude of each group. NaN is larger than all.
pub(crate) type Maxima = [f32; GROUPS];

/// Candidates of a row that are written without asking how many there are.
const USUAL: usize = 4;

/// The working memory of a selection, and its result.
pub(crate) struct Selection {
    candidates: [u16; CHUNK + USUAL],
    magnitudes: [f32; CHUNK + ROW],
    positions: [u16; CHUNK],
    found: usize,
    kept: usize,
}

impl Selection {
    /// An empty selection.
    pub(crate) fn new() -> Selection {
        Selection {
            candidates: [0; CHUNK + USUAL],
            magnitudes: [0.0; CHUNK + ROW],
            positions: [0; CHUNK],
            found: 0,
            kept: 0,
        }
    }

    /// Positions of what was kept, increasing.
    pub(crate) fn positions(&self) -> &[u16] {
        &self.positions[..self.kept]
    }

    /// Keeps the largest of `rows`, whose groups' maxima are `maxima`. Padding is zeros at the
    /// end, which lose against every value.
    #[inline(always)]
    pub(crate) fn top<S: Simd>(
        &mut self,
        simd: S,
        rows: &[[f32; ROW]],
        maxima: &Maxima,
        current: &Current<'_>,
    ) {
        let k = current.code.kept;

        let floor = floor(simd, maxima, k);
        self.collect(simd, rows, floor, &current.ahead);
        let padded = self.found.next_multiple_of(ROW);
        let values = rows.as_flattened();
        for (to, &from) in self.magnitudes.iter_mut().zip(&self.candidates[..self.found]) {
            *to = values[usize::from(from)].abs();
        }
        self.magnitudes[self.found..padded].fill(0.0);
        let (least, ties) = threshold(simd, &self.magnitudes[..padded], floor, k);
        match ties {
            None => self.keep(least),
            Some(ties) => self.keep_ties(least, ties),
        }
    }

    /// Makes candidates of all values of at least `floor`.
    #[inline(always)]
    fn collect<S: Simd>(&mut self, simd: S, rows: &[[f32; ROW]], floor: u32, ahead: &Ahead<'_>) {
        let mut found = 0;
        for (row, values) in rows.iter().enumerate().take(CHUNK / ROW) {
            ahead.ask_residual(row);
            let mut bits = simd.at_least(values, MAGNITUDE, floor);
            let count = bits.count_ones() as usize;
            let mut next = || {
                let position = row * ROW + bits.trailing_zeros() as usize;
                bits &= bits.wrapping_sub(1);
                position as u16
            };
            let to = &mut self.candidates[found..];
            for slot in &mut to[..USUAL] {
                *slot = next();
            }
            if count > USUAL {
                for slot in &mut to[USUAL..count] {
                    *slot = next();
                }
            }
            found += count;
        }
        self.found = found;
    }

    /// Keeps the candidates of at least `least`.
    #[inline(always)]
    fn keep(&mut self, least: u32) {
        let mut kept = 0;
        for (&candidate, magnitude) in self.candidates[..self.found].iter().zip(&self.magnitudes) {
            self.positions[kept & (CHUNK - 1)] = candidate;
            kept += usize::from(magnitude.to_bits() >= least);
        }
        self.kept = kept;
    }

    /// Keeps the candidates above `least` and the first `ties` that equal it.
    #[cold]
    fn keep_ties(&mut self, least: u32, mut ties: usize) {
        self.kept = 0;
        for (&candidate, magnitude) in self.candidates[..self.found].iter().zip(&self.magnitudes) {
            let tie = magnitude.to_bits() == least && ties > 0;
            if magnitude.to_bits() > least || tie {
                self.positions[self.kept] = candidate;
                self.kept += 1;
                ties -= usize::from(tie);
            }
        }
    }
}

/// A magnitude that at least k groups reach, few more if that is found quickly.
#[inline(always)]
fn floor<S: Simd>(simd: S, maxima: &Maxima, k: usize) -> u32 {
    if k > GROUPS {
        return 0;
    }
    let mut low = maxima.iter().fold(u32::MAX, |least, value| least.min(value.to_bits()));
    let mut high = largest(maxima) + 1;
    let enough = k + k / 8;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let count = count_at_least(simd, maxima, middle);
        (low, high) = half(low, middle, high, count < k);
        if (k..=enough).contains(&count) {
            break;
        }
    }
    low
}

/// The magnitude at or above which values are kept, and how many of those that equal it are kept,
/// unless all are.
#[inline(always)]
fn threshold<S: Simd>(simd: S, magnitudes: &[f32], floor: u32, k: usize) -> (u32, Option<usize>) {
    let mut low = floor;
    let mut high = largest(magnitudes) + 1;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let count = count_at_least(simd, magnitudes, middle);
        if count == k {
            return (middle, None);
        }
        (low, high) = half(low, middle, high, count < k);
    }
    (low, Some(k - count_at_least(simd, magnitudes, low + 1)))
}

/// The lower or the upper half. Chance decides which, so no branch may.
#[inline(always)]
fn half(low: u32, middle: u32, high: u32, lower: bool) -> (u32, u32) {
    let select = std::hint::select_unpredictable::<u32>;
    (select(lower, low, middle), select(lower, middle, high))
}

/// The bits of the largest of `magnitudes`.
#[inline(always)]
pub(crate) fn largest(magnitudes: &[f32]) -> u32 {
    magnitudes.iter().fold(0, |most, value| most.max(value.to_bits()))
}

/// `magnitudes` is whole rows.
#[inline(always)]
fn count_at_least<S: Simd>(simd: S, magnitudes: &[f32], least: u32) -> usize {
    let rows = magnitudes.as_chunks().0.iter();
    rows.map(|row| simd.at_least(row, MAGNITUDE, least).count_ones()).sum::<u32>() as usize
}
