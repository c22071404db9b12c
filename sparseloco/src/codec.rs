//! One piece of a contribution: made from θ and the residual, checked, taken back.
//!
//! With θ₀ the anchor, e the residual and θ the island's parameters after its inner steps:
//!
//! ```text
//! Δ = (θ₀ − λe) − θ             the island began at θ₀ − λe
//! a = βe + Δ = (β − λ)e + (θ₀ − θ)
//! m = Q(top-k(a))               the message (SparseLoCo, equations 1 and 2)
//! e ← a − m                     what quantising lost is fed back too
//! ```

use crate::frame::{self, ChunkValues, Frame, FrameWriter, VERSION};
use crate::layout::{Block, Layout};
use crate::message::Sender;
use crate::params::{ChunkCode, CodecParams};
use crate::pass::{Current, Pass};
use crate::simd::{InstructionSet, Job, Simd};

/// The identity of a frame: the run, round, layout and island that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameId {
    /// The first bytes of blake3 of the run's name; a frame carries eight of them.
    pub run: [u8; 16],
    /// The round.
    pub round: u64,
    /// [`Layout::hash`]; a frame carries its first eight bytes.
    pub layout: [u8; 32],
    /// The first bytes of blake3, in key-derivation mode, of the name of the island that made it;
    /// a frame carries all of them.
    pub island: [u8; 16],
}

impl FrameId {
    /// The identity of the frames of `island`, in a round of the run `run` over the layout of hash
    /// `layout`.
    pub fn new(run: &str, island: &str, round: u64, layout: [u8; 32]) -> FrameId {
        let run = first_half(blake3::hash(run.as_bytes()).into());
        FrameId { run, round, layout, island: island_digest(island) }
    }

    /// The same of another island's frames.
    pub fn for_island(self, island: &str) -> FrameId {
        FrameId { island: island_digest(island), ..self }
    }
}

/// Stands for an island's name in a frame, whose fields have a fixed size.
fn island_digest(name: &str) -> [u8; 16] {
    first_half(blake3::derive_key("heteroloco sparseloco island v1", name.as_bytes()))
}

fn first_half(digest: [u8; 32]) -> [u8; 16] {
    std::array::from_fn(|index| digest[index])
}

/// The piece that is worked on.
#[derive(Clone, Copy, Debug)]
pub struct PieceAt<'a> {
    /// The model's layout.
    pub layout: &'a Layout,
    /// The run's parameters.
    pub params: &'a CodecParams,
    /// Index of the piece in the layout.
    pub piece: u32,
}

/// The parameters that a piece is made from.
#[derive(Clone, Copy, Debug)]
pub struct PieceInput<'a> {
    /// θ₀: this piece of the parameters at the start of the round, in canonical order.
    pub anchor: &'a [f32],
    /// θ after the inner steps: this piece of it, in canonical order.
    pub theta: &'a [f32],
}

/// Figures of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceStats {
    /// Values kept.
    pub values: usize,
}

/// Why a piece was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressError {
    /// A value is NaN, infinite, or 2^96 and more.
    #[error("failed to compress piece {piece}: a value of its chunk {chunk} is not finite")]
    NotFinite {
        /// The piece.
        piece: u32,
        /// The chunk, counted from the piece's first.
        chunk: usize,
    },
}

/// Why bytes are not the frame that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end early.
    #[error("failed to read a frame: it ends early")]
    Truncated,
    /// There are more bytes than a frame.
    #[error("failed to read a frame: bytes follow its end")]
    Trailing,
    /// It does not begin like a frame.
    #[error("failed to read a frame: it does not begin like one")]
    Magic,
    /// Another version of the format than this program's.
    #[error(
        "failed to read a frame: it has version {0} of the wire format, this program reads \
         {VERSION} alone; run the same release on all islands"
    )]
    Version(u8),
    /// The checksum does not match.
    #[error("failed to read a frame: its checksum is wrong")]
    Checksum,
    /// Made with other value bits than the run's.
    #[error("failed to read a frame: its value bits are not the run's")]
    ValueBits,
    /// Made with another k than the run's.
    #[error("failed to read a frame: its top-k is not the run's")]
    TopK,
    /// Another piece.
    #[error("failed to read a frame: it is of another piece")]
    Piece,
    /// Another run.
    #[error("failed to read a frame: it is of another run")]
    Run,
    /// Another round.
    #[error("failed to read a frame: it is of another round")]
    Round,
    /// Another layout.
    #[error("failed to read a frame: it is of another layout")]
    Layout,
    /// Another island made it than the one whose contribution it was said to be.
    #[error("failed to read a frame: it was made by another island")]
    Island,
    /// Magnitudes are negative, not finite, above 2^96 or in the wrong order.
    #[error("failed to read a frame: the magnitudes of chunk {chunk} are out of range")]
    Scale {
        /// The chunk, counted from the piece's first.
        chunk: usize,
    },
    /// A position lies past the end of its chunk.
    #[error("failed to read a frame: a position lies outside chunk {chunk}")]
    Position {
        /// The chunk, counted from the piece's first.
        chunk: usize,
    },
    /// Bits that only fill a byte are set.
    #[error("failed to read a frame: padding is not zero")]
    Padding,
}

/// Appends this round's frame of a piece to `out` and leaves in `residual`, which is the piece's
/// residual in canonical order, what was not sent.
///
/// # Errors
/// When a value is not finite. `out` is then as it was, but `residual` is partly overwritten: the
/// island has to take both θ and its residual from where they were good.
///
/// # Panics
/// When a slice does not have the length of the piece.
pub fn compress_piece(
    at: PieceAt<'_>,
    id: &FrameId,
    input: PieceInput<'_>,
    residual: &mut [f32],
    out: &mut Vec<u8>,
) -> Result<PieceStats, CompressError> {
    compress_with(InstructionSet::best(), Compress { at, id, input, residual, out })
}

/// The arguments of [`compress_piece`].
#[derive(Debug)]
pub struct Compress<'a> {
    /// The piece.
    pub at: PieceAt<'a>,
    /// The identity of the frame.
    pub id: &'a FrameId,
    /// The parameters that it is made from.
    pub input: PieceInput<'a>,
    /// This piece of the residual.
    pub residual: &'a mut [f32],
    /// The buffer that the frame is appended to.
    pub out: &'a mut Vec<u8>,
}

/// [`compress_piece`] with a certain instruction set, for tests and measurements.
///
/// # Errors
/// As for [`compress_piece`].
///
/// # Panics
/// As for [`compress_piece`].
pub fn compress_with(
    set: InstructionSet,
    compress: Compress<'_>,
) -> Result<PieceStats, CompressError> {
    check_lengths(compress.at, compress.input, compress.residual);
    set.run(compress)
}

/// Checks a frame from outside: that it is whole, of this run, round, layout, island and piece, and
/// that every bit of it means something. What passes, [`crate::outer::apply_piece`] and
/// [`restore_piece`] take too: they make the same check. Allocates next to nothing.
///
/// # Errors
/// What is wrong with `bytes`, which may be anything.
///
/// # Panics
/// When the layout has no piece `at.piece`.
pub fn verify_piece(at: PieceAt<'_>, id: &FrameId, bytes: &[u8]) -> Result<PieceStats, WireError> {
    let codes = frame::codes(at);
    let frame = Frame::parse(InstructionSet::best(), at, id, &codes, bytes)?;
    Ok(PieceStats { values: frame.values() })
}

/// e ← e + m, for a contribution of this island that was not committed.
///
/// # Errors
/// When `bytes` is not the frame that was expected; `residual` is then as it was.
///
/// # Panics
/// When `residual` does not have the length of the piece.
pub fn restore_piece(
    at: PieceAt<'_>,
    id: &FrameId,
    bytes: &[u8],
    residual: &mut [f32],
) -> Result<(), WireError> {
    let codes = frame::codes(at);
    let mut reader = Frame::parse(InstructionSet::best(), at, id, &codes, bytes)?.reader();
    assert_eq!(residual.len(), at.layout.piece(at.piece).values.len(), "values of the piece");
    let mut values = ChunkValues::new();
    let mut rest = residual;
    for code in &codes {
        let (chunk, after) = rest.split_at_mut(code.len);
        reader.chunk(code, &mut values);
        for (&position, value) in values.positions().iter().zip(values.values()) {
            chunk[usize::from(position)] += value;
        }
        rest = after;
    }
    Ok(())
}

fn check_lengths(at: PieceAt<'_>, input: PieceInput<'_>, residual: &[f32]) {
    let values = at.layout.piece(at.piece).values.len();
    assert_eq!(input.theta.len(), values, "values of the piece's θ");
    assert_eq!(input.anchor.len(), values, "values of the piece's anchor");
    assert_eq!(residual.len(), values, "values of the piece's residual");
}

impl Job for Compress<'_> {
    type Output = Result<PieceStats, CompressError>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let Compress { at, id, input, residual, out } = self;
        let chunks: Vec<Block> = at.layout.piece_blocks(at.piece).collect();
        let pass = Pass::new(at, input);
        let mut writer = FrameWriter::new(at);
        let mut sender = Sender::new();
        let mut rest = residual;
        for (index, chunk) in chunks.iter().enumerate() {
            let (this, after) = rest.split_at_mut(chunk.len());
            let code = ChunkCode::new(at.params, chunk.len());
            let current = Current { code, ahead: pass.ahead(chunks.get(index + 1), after) };
            if !pass.chunk(chunk, this, &mut sender.maxima, &current.ahead) {
                return Err(CompressError::NotFinite { piece: at.piece, chunk: index });
            }
            sender.send(simd, &current, this, &mut writer);
            rest = after;
        }
        let stats = PieceStats { values: writer.values() };
        writer.finish(at, id, out);
        Ok(stats)
    }
}

#[cfg(test)]
mod tests;
