//! The pass over memory: e ← a = (β − λ)e + (θ₀ − θ), chunk after chunk.
//!
//! It is bound by memory. A core has few requests under way at a time, so the next chunk's memory
//! is asked for bit by bit while this one is worked on: its anchor here, its residual during
//! selection, its θ while positions are written.

use std::ops::Range;

use crate::codec::{PieceAt, PieceInput};
use crate::frame::LARGEST_BITS;
use crate::layout::{BLOCK, Block, CHUNK};
use crate::params::ChunkCode;
use crate::select::{GROUPS, Maxima, largest};
use crate::simd;

/// Rows until the groups repeat.
const ROWS: usize = GROUPS / BLOCK;

/// What the passes over the chunks of a piece have in common.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    input: PieceInput<'a>,
    factor: f32,
    start: usize,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(at: PieceAt<'_>, input: PieceInput<'a>) -> Pass<'a> {
        Pass {
            input,
            factor: at.params.error_decay() - at.params.retention(),
            start: at.layout.piece(at.piece).values.start,
        }
    }

    /// e ← a for one chunk, whose part of the error feedback is `error`, and the largest magnitude
    /// of each group. Says whether every value is finite.
    #[inline(always)]
    pub(crate) fn chunk(
        &self,
        chunk: &Block,
        error: &mut [f32],
        maxima: &mut Maxima,
        ahead: &Ahead<'_>,
    ) -> bool {
        maxima.fill(0.0);
        let range = self.range(chunk);
        let (anchor, theta) = (&self.input.anchor[range.clone()], &self.input.theta[range]);
        if chunk.len() < CHUNK {
            self.edge(error, anchor, theta, maxima);
        } else {
            // A copy, so that it can stay in registers.
            let mut groups = [[0.0; BLOCK]; ROWS];
            let (errors, _) = error.as_chunks_mut::<BLOCK>().0.as_chunks_mut::<ROWS>();
            let (anchors, _) = anchor.as_chunks::<BLOCK>().0.as_chunks::<ROWS>();
            let (thetas, _) = theta.as_chunks::<BLOCK>().0.as_chunks::<ROWS>();
            let fours = errors.iter_mut().zip(anchors).zip(thetas);
            for (four, ((errors, anchors), thetas)) in fours.enumerate() {
                for row in 0..ROWS {
                    ahead.ask_anchor(four * ROWS + row);
                    self.row(&anchors[row], &thetas[row], &mut errors[row], &mut groups[row]);
                }
            }
            maxima.copy_from_slice(groups.as_flattened());
        }
        largest(maxima) < LARGEST_BITS
    }

    /// A row of a full chunk.
    #[inline(always)]
    fn row(
        &self,
        anchor: &[f32; BLOCK],
        theta: &[f32; BLOCK],
        error: &mut [f32; BLOCK],
        groups: &mut [f32; BLOCK],
    ) {
        for column in 0..BLOCK {
            let value = self.factor * error[column] + (anchor[column] - theta[column]);
            error[column] = value;
            groups[column] = larger(groups[column], value.abs());
        }
    }

    /// A chunk that is not full.
    fn edge(&self, error: &mut [f32], anchor: &[f32], theta: &[f32], maxima: &mut Maxima) {
        for ((error, anchor), theta) in error.iter_mut().zip(anchor).zip(theta) {
            *error = self.factor * *error + (anchor - theta);
        }
        for some in error.chunks(GROUPS) {
            for (most, value) in maxima.iter_mut().zip(some) {
                *most = larger(*most, value.abs());
            }
        }
    }

    /// What will be asked for ahead of time: the memory of `chunk`, if it is a full one, whose part
    /// of the error feedback begins at `error`.
    #[inline(always)]
    pub(crate) fn ahead<'s>(&self, chunk: Option<&Block>, error: &'s [f32]) -> Ahead<'s>
    where
        'a: 's,
    {
        let Some(chunk) = chunk.filter(|chunk| chunk.len() == CHUNK) else {
            return Ahead { theta: &[], anchor: &[], error: &[] };
        };
        let range = self.range(chunk);
        Ahead {
            theta: self.input.theta[range.clone()].as_chunks().0,
            anchor: self.input.anchor[range].as_chunks().0,
            error: error[..chunk.len()].as_chunks().0,
        }
    }

    /// Where a chunk lies in the piece.
    #[inline(always)]
    fn range(&self, chunk: &Block) -> Range<usize> {
        let first = chunk.canonical - self.start;
        first..first + chunk.len()
    }
}

/// The larger of two magnitudes, NaN above all.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    f32::from_bits(a.to_bits().max(b.to_bits()))
}

/// The chunk that is worked on.
pub(crate) struct Current<'a> {
    /// How much of it is kept.
    pub(crate) code: ChunkCode,
    /// The memory of the chunk after it.
    pub(crate) ahead: Ahead<'a>,
}

/// The rows of a full chunk, to be asked for before they are needed.
pub(crate) struct Ahead<'a> {
    theta: &'a [[f32; BLOCK]],
    anchor: &'a [[f32; BLOCK]],
    error: &'a [[f32; BLOCK]],
}

impl Ahead<'_> {
    /// Asks for row `row` of θ.
    #[inline(always)]
    pub(crate) fn ask_theta(&self, row: usize) {
        if let Some(theta) = self.theta.get(row) {
            simd::prefetch(theta);
        }
    }

    /// Asks for row `row` of the anchor.
    #[inline(always)]
    pub(crate) fn ask_anchor(&self, row: usize) {
        if let Some(anchor) = self.anchor.get(row) {
            simd::prefetch(anchor);
        }
    }

    /// Asks for row `row` of the error feedback.
    #[inline(always)]
    pub(crate) fn ask_error(&self, row: usize) {
        if let Some(error) = self.error.get(row) {
            simd::prefetch(error);
        }
    }
}
