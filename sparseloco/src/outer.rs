//! The outer step: a round's contributions become one update u, and θ ← θ − αu.
//!
//! Everything is f32 in a fixed order, so that it is the same on every machine and sharding: a
//! chunk's contributions are added in the order of the set, position by position.

use crate::aggregate::{ChunkSum, shares};
use crate::codec::{FrameId, PieceAt, WireError};
use crate::frame::{self, ChunkValues, Frame, Planes};
use crate::layout::CHUNK;
use crate::limit;
use crate::params::{ChunkCode, CodecParams};
use crate::simd::{self, InstructionSet, Job, Simd};

/// How contributions v₁ … vₙ with shares sᵢ = wᵢ / Σ w become one update u.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// u = Σ sᵢ vᵢ: the mean over all islands (SparseLoCo, equation 2, weighted by tokens).
    Paper,
    /// At position p of a matrix, u\[p\] = Σ sᵢ vᵢ\[p\] / max(S, [`SHARE_MIN`]) where S is the
    /// sum of the shares of those that sent p: the mean over its senders, with a bound on what one
    /// of many may decide alone. A vector has the plain mean, as under [`Rule::Paper`].
    ///
    /// Values that arrived from others need not be sent again. Where this island did not send p,
    /// its residual shrinks toward zero by the part of u with its sign: e\[p\] ← e\[p\] −
    /// clamp(u\[p\], min(e\[p\], 0), max(e\[p\], 0)).
    ///
    /// [`SHARE_MIN`]: crate::aggregate::SHARE_MIN
    Counted,
}

/// The outer optimiser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OuterParams {
    /// How contributions become one update.
    pub rule: Rule,
    /// α of this round.
    pub alpha: f32,
}

/// One island's frame and its weight.
#[derive(Clone, Copy, Debug)]
pub struct Weighted<'a> {
    /// Tokens trained on.
    pub weight: u64,
    /// The identity that the frame has to have: the round's, and the island whose contribution it
    /// is.
    pub id: FrameId,
    /// The frame of this piece.
    pub bytes: &'a [u8],
}

/// The state that an outer step changes: one piece, in canonical order.
#[derive(Debug)]
pub struct PieceState<'a> {
    /// θ at the start of the round; becomes θ at the start of the next.
    pub anchor: &'a mut [f32],
    /// This island's residual.
    pub residual: &'a mut [f32],
}

/// Why a set was not applied. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The frame of one contribution is not valid.
    #[error("failed to apply contribution {index} of the set")]
    Frame {
        /// Its index in the set.
        index: usize,
        /// The problem with the frame.
        source: WireError,
    },
    /// Every weight of the set is zero.
    #[error("failed to apply the set: all weights are zero")]
    NoWeight,
}

/// Aggregates `set` in its order and makes the outer step in place. `own` is the index of this
/// island's contribution in `set`. An empty set changes nothing. Contributions of an absurd norm
/// are scaled down first ([`crate::limit`]).
///
/// # Errors
/// When a frame is not what [`crate::codec::verify_piece`] accepts, or all weights are zero;
/// nothing has changed then.
///
/// # Panics
/// When a slice does not have the length of the piece, or `own` is not in the set.
pub fn apply_piece(
    at: PieceAt<'_>,
    outer: &OuterParams,
    set: &[Weighted<'_>],
    own: Option<usize>,
    state: PieceState<'_>,
) -> Result<(), ApplyError> {
    apply_with(InstructionSet::best(), Apply { at, outer, set, own, state })
}

/// The arguments of [`apply_piece`].
#[derive(Debug)]
pub struct Apply<'a> {
    /// The piece.
    pub at: PieceAt<'a>,
    /// The outer optimiser.
    pub outer: &'a OuterParams,
    /// The set, in its order.
    pub set: &'a [Weighted<'a>],
    /// Index of this island's contribution in it.
    pub own: Option<usize>,
    /// The state that is changed.
    pub state: PieceState<'a>,
}

/// [`apply_piece`] with a certain instruction set, for tests and measurements.
///
/// # Errors
/// As for [`apply_piece`].
///
/// # Panics
/// As for [`apply_piece`].
pub fn apply_with(instructions: InstructionSet, apply: Apply<'_>) -> Result<(), ApplyError> {
    let Apply { at, outer, set, own, state } = apply;
    let values = at.layout.piece(at.piece).values.len();
    assert_eq!(state.anchor.len(), values, "values of the piece's anchor");
    assert_eq!(state.residual.len(), values, "values of the piece's residual");
    assert!(own.is_none_or(|own| own < set.len()), "own contribution {own:?} of {}", set.len());
    if set.is_empty() {
        return Ok(());
    }
    let weights: Vec<u64> = set.iter().map(|contribution| contribution.weight).collect();
    let shares = shares(&weights).ok_or(ApplyError::NoWeight)?;
    let codes = frame::codes(at);
    let frames = set
        .iter()
        .enumerate()
        .map(|(index, contribution)| {
            Frame::parse(instructions, at, &contribution.id, &codes, contribution.bytes)
                .map_err(|source| ApplyError::Frame { index, source })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let squares: Vec<&[f64]> = frames.iter().map(Frame::squares).collect();
    let scales = limit::scales(&weights, &squares);
    let readers = frames.iter().map(Frame::reader).collect();
    instructions.run(Step { at, outer, readers, codes: &codes, shares, scales, own, state });
    Ok(())
}

/// The parameters from which an island begins its next round: θ − λe. All slices have one length.
pub fn local_start(params: &CodecParams, anchor: &[f32], residual: &[f32], out: &mut [f32]) {
    assert!(anchor.len() == out.len() && residual.len() == out.len(), "slices of one length");
    let retention = params.retention();
    for ((out, anchor), residual) in out.iter_mut().zip(anchor).zip(residual) {
        *out = anchor - retention * residual;
    }
}

/// The part that one island sent of a piece, with every value kept and none quantised.
#[derive(Clone, Copy, Debug)]
pub struct Dense<'a> {
    /// Tokens trained on.
    pub weight: u64,
    /// a, in canonical order.
    pub values: &'a [f32],
}

/// [`apply_piece`] for contributions that lost nothing on their way: the rule alone, without a
/// codec, as a reference for what the codec costs. Every position counts as sent.
///
/// # Panics
/// When a slice does not have the length of the piece.
pub fn apply_dense(
    at: PieceAt<'_>,
    outer: &OuterParams,
    set: &[Dense<'_>],
    anchor: &mut [f32],
) -> Result<(), ApplyError> {
    let span = at.layout.piece(at.piece).values;
    assert_eq!(anchor.len(), span.len(), "values of the piece's anchor");
    let weights: Vec<u64> = set.iter().map(|contribution| contribution.weight).collect();
    if set.is_empty() {
        return Ok(());
    }
    let shares = shares(&weights).ok_or(ApplyError::NoWeight)?;
    let everywhere: Vec<u16> = (0..CHUNK as u16).collect();
    let mut sum = ChunkSum::new(outer.rule);
    for chunk in at.layout.piece_blocks(at.piece) {
        let range = chunk.canonical - span.start..chunk.canonical - span.start + chunk.len();
        sum.start(chunk.kind);
        for (contribution, &share) in set.iter().zip(&shares) {
            assert_eq!(contribution.values.len(), span.len(), "values of a contribution");
            let values = &contribution.values[range.clone()];
            sum.add(share, 1.0, &everywhere[..values.len()], values);
        }
        sum.step(outer.alpha, &mut anchor[range]);
    }
    Ok(())
}

struct Step<'a> {
    at: PieceAt<'a>,
    outer: &'a OuterParams,
    readers: Vec<Planes<'a>>,
    codes: &'a [ChunkCode],
    shares: Vec<f32>,
    scales: limit::Scales,
    own: Option<usize>,
    state: PieceState<'a>,
}

impl Job for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, _: S) {
        let mut sum = ChunkSum::new(self.outer.rule);
        let mut values = ChunkValues::new();
        let mut own = Vec::with_capacity(CHUNK);
        let (mut anchor, mut residual) = (self.state.anchor, self.state.residual);
        let chunks = self.at.layout.piece_blocks(self.at.piece).zip(self.codes);
        for (index, (chunk, code)) in chunks.enumerate() {
            let (this_anchor, rest_anchor) = anchor.split_at_mut(code.len);
            let (this_residual, rest_residual) = residual.split_at_mut(code.len);
            // There is time to fetch these while the contributions are decoded.
            this_anchor.as_chunks().0.iter().for_each(simd::prefetch);
            this_residual.as_chunks().0.iter().for_each(simd::prefetch);
            sum.start(chunk.kind);
            own.clear();
            for (nth, reader) in self.readers.iter_mut().enumerate() {
                reader.chunk(code, &mut values);
                let (positions, values) = (values.positions(), values.values());
                sum.add(self.shares[nth], self.scales.of(nth, index), positions, values);
                if self.own == Some(nth) {
                    own.extend_from_slice(positions);
                }
            }
            sum.step(self.outer.alpha, this_anchor);
            if self.outer.rule == Rule::Counted {
                sum.clip(&own, this_residual);
            }
            (anchor, residual) = (rest_anchor, rest_residual);
        }
    }
}

#[cfg(test)]
mod tests;
