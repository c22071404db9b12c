//! One piece of a contribution: compress, verify, take back.

use crate::layout::Layout;

/// Bits of a value: its sign, and with two bits which of two magnitudes of its chunk it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueBits {
    /// Sign only; one magnitude per chunk.
    One,
    /// Sign and one of two magnitudes per chunk.
    Two,
}

impl ValueBits {
    /// 1 or 2.
    pub fn count(self) -> u32 {
        match self {
            ValueBits::One => 1,
            ValueBits::Two => 2,
        }
    }
}

/// Why numbers are no codec parameters.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ParamsError {
    /// k must be 1 to 4,096.
    #[error("failed to set up the codec: top-k {0} is not between 1 and 4096")]
    TopK(u32),
    /// β must be in [0, 1].
    #[error("failed to set up the codec: error decay {0} is not between 0 and 1")]
    ErrorDecay(f32),
    /// λ must be in [0, 1].
    #[error("failed to set up the codec: retention {0} is not between 0 and 1")]
    Retention(f32),
}

/// How contributions are made: k, bits, β and λ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodecParams {
    top_k: u32,
    value_bits: ValueBits,
    error_decay: f32,
    retention: f32,
}

impl CodecParams {
    /// `top_k` values are kept of every full chunk; `error_decay` is β, `retention` λ (0 for none).
    pub fn new(
        top_k: u32,
        value_bits: ValueBits,
        error_decay: f32,
        retention: f32,
    ) -> Result<CodecParams, ParamsError> {
        if !(1..=4096).contains(&top_k) {
            return Err(ParamsError::TopK(top_k));
        }
        if !(0.0..=1.0).contains(&error_decay) {
            return Err(ParamsError::ErrorDecay(error_decay));
        }
        if !(0.0..=1.0).contains(&retention) {
            return Err(ParamsError::Retention(retention));
        }
        Ok(CodecParams { top_k, value_bits, error_decay, retention })
    }

    /// Values kept of a full chunk.
    pub fn top_k(&self) -> u32 {
        self.top_k
    }

    /// Bits of a value.
    pub fn value_bits(&self) -> ValueBits {
        self.value_bits
    }

    /// β.
    pub fn error_decay(&self) -> f32 {
        self.error_decay
    }

    /// λ.
    pub fn retention(&self) -> f32 {
        self.retention
    }
}

/// What a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameId {
    /// The first bytes of blake3 of the run's name.
    pub run: [u8; 16],
    /// The round.
    pub round: u64,
    /// [`Layout::hash`].
    pub layout: [u8; 32],
}

/// Which piece of what is worked on.
#[derive(Clone, Copy, Debug)]
pub struct PieceAt<'a> {
    /// The layout of the model.
    pub layout: &'a Layout,
    /// The run's parameters.
    pub params: &'a CodecParams,
    /// Index of the piece.
    pub piece: u32,
}

/// What a piece is compressed from.
#[derive(Clone, Copy, Debug)]
pub struct PieceInput<'a> {
    /// θ at the start of the round, canonical, this piece.
    pub anchor: &'a [f32],
    /// θ after the inner steps: the whole flat buffer, row-major.
    pub theta: &'a [f32],
}

/// What a piece holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceStats {
    /// Values in the frame.
    pub values: usize,
}

/// Why a piece was not compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressError {
    /// A value is not finite or absurdly large.
    #[error("failed to compress piece {piece}: chunk {chunk} holds a value that is not finite")]
    NotFinite {
        /// The piece.
        piece: u32,
        /// The chunk within the layout.
        chunk: usize,
    },
}

/// Why bytes are no valid frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Too short.
    #[error("failed to read a piece: truncated")]
    Truncated,
}

/// Makes this round's frame of a piece and leaves in `error` what was not sent.
///
/// # Errors
/// When a value is not finite; `error` is then partly updated and `out` is as it was.
pub fn compress_piece(
    at: PieceAt<'_>,
    id: &FrameId,
    input: PieceInput<'_>,
    error: &mut [f32],
    out: &mut Vec<u8>,
) -> Result<PieceStats, CompressError> {
    let _ = (at, id, input, error, out);
    unimplemented!()
}

/// The round was closed without this island: e ← a, nothing is sent.
pub fn accumulate_piece(
    at: PieceAt<'_>,
    input: PieceInput<'_>,
    error: &mut [f32],
) -> Result<(), CompressError> {
    let _ = (at, input, error);
    unimplemented!()
}

/// Checks a frame from outside. Never panics.
pub fn verify_piece(
    at: PieceAt<'_>,
    id: &FrameId,
    bytes: &[u8],
) -> Result<PieceStats, WireError> {
    let _ = (at, id, bytes);
    unimplemented!()
}

/// e ← e + own message, for a contribution that was not committed.
pub fn restore_piece(at: PieceAt<'_>, bytes: &[u8], error: &mut [f32]) -> Result<(), WireError> {
    let _ = (at, bytes, error);
    unimplemented!()
}
