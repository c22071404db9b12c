//! The sum of a set's contributions to one chunk, and what it does to θ and the residual.

use crate::layout::{CHUNK, ChunkKind};
use crate::outer::Rule;

/// Smallest share by which the counted rule divides. A position that one of up to four equal
/// islands sent has its full value; one that a single of sixteen sent counts four times what the
/// paper's rule makes of it, not sixteen times, so that nobody decides alone by sending what no one
/// else sends.
pub const SHARE_MIN: f32 = 0.25;

/// Each weight over the sum of all; `None` when that is zero.
pub(crate) fn shares(weights: &[u64]) -> Option<Vec<f32>> {
    let total: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    let share = |&weight: &u64| (weight as f64 / total as f64) as f32;
    (total > 0).then(|| weights.iter().map(share).collect())
}

/// Adds contributions to one chunk after another.
pub(crate) struct ChunkSum {
    rule: Rule,
    /// Whether this chunk is divided by the shares of the senders.
    counted: bool,
    sums: [f32; CHUNK],
    shares: [f32; CHUNK],
}

impl ChunkSum {
    pub(crate) fn new(rule: Rule) -> ChunkSum {
        ChunkSum { rule, counted: false, sums: [0.0; CHUNK], shares: [0.0; CHUNK] }
    }

    /// Begins a chunk.
    #[inline(always)]
    pub(crate) fn start(&mut self, kind: ChunkKind) {
        self.counted = self.rule == Rule::Counted && kind == ChunkKind::Matrix;
        self.sums.fill(0.0);
        if self.counted {
            self.shares.fill(0.0);
        }
    }

    /// Adds `scale` times `values` at `positions`, which are below 4,096, with a share.
    #[inline(always)]
    pub(crate) fn add(&mut self, share: f32, scale: f32, positions: &[u16], values: &[f32]) {
        let factor = share * scale;
        let index = |position: u16| usize::from(position) & (CHUNK - 1);
        if self.counted {
            for (&position, value) in positions.iter().zip(values) {
                self.sums[index(position)] += factor * value;
                self.shares[index(position)] += share;
            }
        } else {
            for (&position, value) in positions.iter().zip(values) {
                self.sums[index(position)] += factor * value;
            }
        }
    }

    /// Turns the sums into u and makes the outer step on θ: θ ← θ − αu.
    #[inline(always)]
    pub(crate) fn step(&mut self, alpha: f32, anchor: &mut [f32]) {
        if self.counted {
            for (sum, share) in self.sums.iter_mut().zip(&self.shares) {
                *sum /= larger(*share, SHARE_MIN);
            }
        }
        for (anchor, update) in anchor.iter_mut().zip(&self.sums) {
            *anchor -= alpha * update;
        }
    }

    /// Takes out of the residual what u, made by [`ChunkSum::step`], brought from others; what was
    /// sent from here at the positions `own` stays as it is.
    #[inline(always)]
    pub(crate) fn clip(&mut self, own: &[u16], residual: &mut [f32]) {
        for &position in own {
            self.sums[usize::from(position)] = 0.0;
        }
        for (residual, update) in residual.iter_mut().zip(&self.sums) {
            *residual -= smaller(larger(*update, smaller(*residual, 0.0)), larger(*residual, 0.0));
        }
    }
}

/// `f32::max`, but with the sign of a zero defined: of equals the second.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// `f32::min`, but with the sign of a zero defined: of equals the second.
#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}
