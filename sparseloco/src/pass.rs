//! The pass over memory: e ← a = (β − λ)e + (θ₀ − θ), chunk after chunk.
//!
//! It is bound by memory. A core has few requests under way at a time, so the next chunk's memory
//! is asked for bit by bit while this one is worked on: its anchor here, its residual during
//! selection, its θ while positions are written.

use std::ops::Range;

use crate::codec::{PieceAt, PieceInput};
use crate::frame::MAGNITUDE_MAX_BITS;
use crate::layout::{BLOCK, Block, CHUNK};
use crate::params::ChunkCode;
use crate::select::{GROUPS, Maxima, largest};
use crate::simd;

/// Rows until the groups repeat.
const ROWS: usize = GROUPS / BLOCK;

/// The input that all passes over the chunks of a piece have in common.
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

    /// e ← a for one chunk, whose residual is `residual`, and the largest magnitude of each group.
    /// Says whether every value is finite.
    #[inline(always)]
    pub(crate) fn chunk(
        &self,
        chunk: &Block,
        residual: &mut [f32],
        maxima: &mut Maxima,
        ahead: &Ahead<'_>,
    ) -> bool {
        maxima.fill(0.0);
        let range = self.range(chunk);
        let (anchor, theta) = (&self.input.anchor[range.clone()], &self.input.theta[range]);
        if chunk.len() < CHUNK {
            self.edge(residual, anchor, theta, maxima);
        } else {
            // A copy, so that it can stay in registers.
            let mut groups = [[0.0; BLOCK]; ROWS];
            let (residuals, _) = residual.as_chunks_mut::<BLOCK>().0.as_chunks_mut::<ROWS>();
            let (anchors, _) = anchor.as_chunks::<BLOCK>().0.as_chunks::<ROWS>();
            let (thetas, _) = theta.as_chunks::<BLOCK>().0.as_chunks::<ROWS>();
            let fours = residuals.iter_mut().zip(anchors).zip(thetas);
            for (four, ((residuals, anchors), thetas)) in fours.enumerate() {
                for row in 0..ROWS {
                    ahead.ask_anchor(four * ROWS + row);
                    self.row(&anchors[row], &thetas[row], &mut residuals[row], &mut groups[row]);
                }
            }
            maxima.copy_from_slice(groups.as_flattened());
        }
        largest(maxima) < MAGNITUDE_MAX_BITS
    }

    /// A row of a full chunk.
    #[inline(always)]
    fn row(
        &self,
        anchor: &[f32; BLOCK],
        theta: &[f32; BLOCK],
        residual: &mut [f32; BLOCK],
        groups: &mut [f32; BLOCK],
    ) {
        for column in 0..BLOCK {
            let value = self.factor * residual[column] + (anchor[column] - theta[column]);
            residual[column] = value;
            groups[column] = larger(groups[column], value.abs());
        }
    }

    /// A chunk that is not full.
    fn edge(&self, residual: &mut [f32], anchor: &[f32], theta: &[f32], maxima: &mut Maxima) {
        for ((residual, anchor), theta) in residual.iter_mut().zip(anchor).zip(theta) {
            *residual = self.factor * *residual + (anchor - theta);
        }
        for some in residual.chunks(GROUPS) {
            for (most, value) in maxima.iter_mut().zip(some) {
                *most = larger(*most, value.abs());
            }
        }
    }

    /// The memory to ask for ahead of time: that of `chunk`, if it is a full one, whose part of the
    /// residual begins at `residual`.
    #[inline(always)]
    pub(crate) fn ahead<'s>(&self, chunk: Option<&Block>, residual: &'s [f32]) -> Ahead<'s>
    where
        'a: 's,
    {
        let Some(chunk) = chunk.filter(|chunk| chunk.len() == CHUNK) else {
            return Ahead { theta: &[], anchor: &[], residual: &[] };
        };
        let range = self.range(chunk);
        Ahead {
            theta: self.input.theta[range.clone()].as_chunks().0,
            anchor: self.input.anchor[range].as_chunks().0,
            residual: residual[..chunk.len()].as_chunks().0,
        }
    }

    /// The place of a chunk in the piece.
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
    residual: &'a [[f32; BLOCK]],
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

    /// Asks for row `row` of the residual.
    #[inline(always)]
    pub(crate) fn ask_residual(&self, row: usize) {
        if let Some(residual) = self.residual.get(row) {
            simd::prefetch(residual);
        }
    }
}
