//! A bound on what one contribution of absurd size can do.
//!
//! For contribution i and chunk c let n(i, c) be the norm of what it sends, r(i) the root mean
//! square of n(i, c) over the piece's chunks, and med the median over the set (of an even number
//! the upper one, so that of two neither is called absurd). Its values in chunk c are scaled so
//! that
//!
//! ```text
//! n(i, c) ≤ 4 · max(med n(·, c), med r(·)) · max(1, w(i) / med w)
//! ```
//!
//! The second argument of the maximum lets one island alone move a chunk that is quiet for the
//! others, such as the embedding of a token that only it has seen. The last factor allows for an
//! island that made more steps than most: its pseudo-gradient is longer. Honest sets stay far below
//! the bound; a minority of any size of numbers cannot move it.

use crate::layout::PIECE_CHUNKS;

/// How far a norm may exceed the usual one.
pub const NORM_FACTOR: f64 = 4.0;

/// By how much each contribution to each chunk is scaled.
pub(crate) struct Scales {
    /// By contribution, then chunk; empty when nothing is scaled.
    scales: Vec<[f32; PIECE_CHUNKS]>,
}

impl Scales {
    /// The scale of a contribution and chunk, at most 1.
    #[inline(always)]
    pub(crate) fn of(&self, contribution: usize, chunk: usize) -> f32 {
        self.scales.get(contribution).map_or(1.0, |scales| scales[chunk])
    }
}

/// The scales of a set from its weights and the squared norms of each contribution's chunks.
pub(crate) fn scales(weights: &[u64], squares: &[&[f64]]) -> Scales {
    let usual_weight = median(weights.iter().map(|&weight| weight as f64));
    let usual_piece = median(squares.iter().map(|squares| mean(squares)));
    let allowed: Vec<f64> = weights
        .iter()
        .map(|&weight| NORM_FACTOR * (weight as f64 / usual_weight.max(1.0)).max(1.0))
        .map(|factor| factor * factor)
        .collect();
    let within = |(squares, allowed): (&&[f64], &f64)| {
        squares.iter().all(|&square| square <= allowed * usual_piece)
    };
    if squares.iter().zip(&allowed).all(within) {
        return Scales { scales: Vec::new() };
    }
    let mut scales = vec![[1.0; PIECE_CHUNKS]; squares.len()];
    for chunk in 0..squares.first().map_or(0, |squares| squares.len()) {
        let usual = median(squares.iter().map(|squares| squares[chunk])).max(usual_piece);
        for (nth, scales) in scales.iter_mut().enumerate() {
            let (square, limit) = (squares[nth][chunk], allowed[nth] * usual);
            if square > limit {
                scales[chunk] = (limit / square).sqrt() as f32;
            }
        }
    }
    Scales { scales }
}

fn mean(squares: &[f64]) -> f64 {
    squares.iter().sum::<f64>() / squares.len() as f64
}

/// The upper median of at least one value.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests;
