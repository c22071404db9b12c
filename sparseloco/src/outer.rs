//! The outer step: aggregate a round's contributions and move θ.

use crate::codec::{CodecParams, PieceAt, WireError};

/// How contributions become one update u.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// u = Σ wᵢ vᵢ / Σ wᵢ over all islands.
    Paper,
    /// Per position, divide by the weight of those that sent it; residuals of the others are clipped.
    Counted,
}

/// The outer optimiser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OuterParams {
    /// The rule.
    pub rule: Rule,
    /// α of this round.
    pub alpha: f32,
}

/// One island's frame and its weight.
#[derive(Clone, Copy, Debug)]
pub struct Weighted<'a> {
    /// Tokens trained on.
    pub weight: u64,
    /// The frame.
    pub bytes: &'a [u8],
}

/// What an outer step changes, in canonical order, this piece.
#[derive(Debug)]
pub struct PieceState<'a> {
    /// θ at the start of the round; becomes θ at the start of the next.
    pub anchor: &'a mut [f32],
    /// This island's error feedback.
    pub error: &'a mut [f32],
}

/// Why a set was not applied. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A frame is no valid frame.
    #[error("failed to apply contribution {index} of the set")]
    Frame {
        /// Index in the set.
        index: usize,
        /// What is wrong with it.
        source: WireError,
    },
}

/// Aggregates `set` in its order and makes the outer step in place: θ ← θ − α·u.
/// `own` is the index of this island's own contribution in `set`.
pub fn apply_piece(
    at: PieceAt<'_>,
    outer: &OuterParams,
    set: &[Weighted<'_>],
    own: Option<usize>,
    state: PieceState<'_>,
) -> Result<(), ApplyError> {
    let _ = (at, outer, set, own, state);
    unimplemented!()
}

/// Where the island starts its next round: anchor − λ·e.
pub fn local_start(params: &CodecParams, anchor: &[f32], error: &[f32], out: &mut [f32]) {
    let _ = (params, anchor, error, out);
    unimplemented!()
}
