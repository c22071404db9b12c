//! One piece of a contribution: made from θ and the error feedback, checked, taken back.
//!
//! With θ₀ the anchor, e the error feedback and θ the island's parameters after its inner steps:
//!
//! ```text
//! Δ = (θ₀ − λe) − θ             the island began at θ₀ − λe
//! a = βe + Δ = (β − λ)e + (θ₀ − θ)
//! m = Q(top-k(a))               the message (SparseLoCo, equations 1 and 2)
//! e ← a − m                     what quantising lost is fed back too
//! ```

use crate::frame::{self, Frame, FrameWriter, LARGEST_BITS};
use crate::layout::{BLOCK, CHUNK, Chunk, Layout};
use crate::params::{ChunkCode, CodecParams, ValueBits};
use crate::quantise::{self, Levels, Magnitudes, widen};
use crate::select::{GROUPS, Maxima, Selection, largest};
use crate::simd::{self, InstructionSet, Job, LANES, MAGNITUDE, Simd};

/// What a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameId {
    /// The first bytes of blake3 of the run's name; a frame carries eight of them.
    pub run: [u8; 16],
    /// The round.
    pub round: u64,
    /// [`Layout::hash`]; a frame carries its first eight bytes.
    pub layout: [u8; 32],
}

/// Which piece is worked on.
#[derive(Clone, Copy, Debug)]
pub struct PieceAt<'a> {
    /// The model's layout.
    pub layout: &'a Layout,
    /// The run's parameters.
    pub params: &'a CodecParams,
    /// Index of the piece in the layout.
    pub piece: u32,
}

/// What a piece is made from.
#[derive(Clone, Copy, Debug)]
pub struct PieceInput<'a> {
    /// θ₀: this piece of the parameters at the start of the round, in canonical order.
    pub anchor: &'a [f32],
    /// θ after the inner steps: the whole flat buffer, row-major.
    pub theta: &'a [f32],
}

/// What a frame holds.
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
    /// A version that this program does not know.
    #[error("failed to read a frame: version {0} is unknown; 1 is known")]
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

/// Appends this round's frame of a piece to `out` and leaves in `error`, which is this piece of the
/// error feedback in canonical order, what was not sent.
///
/// # Errors
/// When a value is not finite. `out` is then as it was, but `error` is partly overwritten: the
/// island has to take both θ and its error feedback from where they were good.
///
/// # Panics
/// When a slice does not have the length that the layout gives it.
pub fn compress_piece(
    at: PieceAt<'_>,
    id: &FrameId,
    input: PieceInput<'_>,
    error: &mut [f32],
    out: &mut Vec<u8>,
) -> Result<PieceStats, CompressError> {
    compress_with(InstructionSet::best(), Compress { at, id, input, error, out })
}

/// The arguments of [`compress_piece`].
#[derive(Debug)]
pub struct Compress<'a> {
    /// Which piece.
    pub at: PieceAt<'a>,
    /// What the frame belongs to.
    pub id: &'a FrameId,
    /// What it is made from.
    pub input: PieceInput<'a>,
    /// This piece of the error feedback.
    pub error: &'a mut [f32],
    /// Where the frame is appended.
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
    check_lengths(compress.at, compress.input, compress.error);
    set.run(compress)
}

/// The round was closed without this island: e ← a, and nothing is sent.
///
/// # Errors
/// As for [`compress_piece`].
///
/// # Panics
/// When a slice does not have the length that the layout gives it.
pub fn accumulate_piece(
    at: PieceAt<'_>,
    input: PieceInput<'_>,
    error: &mut [f32],
) -> Result<(), CompressError> {
    check_lengths(at, input, error);
    InstructionSet::best().run(Accumulate { at, input, error })
}

/// Checks a frame from outside: that it is whole, of this run, round, layout and piece, and that
/// every bit of it means something. Never panics and allocates next to nothing.
pub fn verify_piece(at: PieceAt<'_>, id: &FrameId, bytes: &[u8]) -> Result<PieceStats, WireError> {
    let codes = frame::codes(at);
    let frame = Frame::parse(at, &codes, bytes)?;
    frame::check_id(id, bytes)?;
    Ok(PieceStats { values: frame.values() })
}

/// e ← e + m, for a contribution of this island that was not committed.
///
/// # Errors
/// When `bytes` is no frame of this piece; `error` is then as it was.
///
/// # Panics
/// When `error` does not have the length of the piece.
pub fn restore_piece(at: PieceAt<'_>, bytes: &[u8], error: &mut [f32]) -> Result<(), WireError> {
    let codes = frame::codes(at);
    let mut reader = Frame::parse(at, &codes, bytes)?.reader();
    assert_eq!(error.len(), at.layout.piece(at.piece).values.len(), "values of the piece");
    let (mut positions, mut values) = ([0; CHUNK], [0.0; CHUNK]);
    let mut rest = error;
    for code in &codes {
        let (chunk, after) = rest.split_at_mut(code.len);
        reader.chunk(code, &mut positions, &mut values);
        for (&position, value) in positions.iter().zip(&values).take(code.kept) {
            chunk[usize::from(position)] += value;
        }
        rest = after;
    }
    Ok(())
}

fn check_lengths(at: PieceAt<'_>, input: PieceInput<'_>, error: &[f32]) {
    let values = at.layout.piece(at.piece).values.len();
    assert_eq!(input.theta.len(), at.layout.values(), "values of the flat buffer");
    assert_eq!(input.anchor.len(), values, "values of the piece's anchor");
    assert_eq!(error.len(), values, "values of the piece's error feedback");
}

impl Job for Compress<'_> {
    type Output = Result<PieceStats, CompressError>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let Compress { at, id, input, error, out } = self;
        let mut writer = FrameWriter::new(at);
        let mut work = Work::new();
        let pass = Pass::new(at, input);
        let mut chunks = at.layout.piece_chunks(at.piece).enumerate().peekable();
        while let Some((index, chunk)) = chunks.next() {
            let next = chunks.peek().map(|(_, next)| next);
            pass.chunk(&chunk, next, error, &mut work.maxima)
                .map_err(|()| CompressError::NotFinite { piece: at.piece, chunk: index })?;
            let code = ChunkCode::new(at.params, chunk.len());
            work.send(simd, code, &mut error[pass.range(&chunk)], &mut writer);
        }
        let stats = PieceStats { values: writer.values() };
        writer.finish(at, id, out);
        Ok(stats)
    }
}

struct Accumulate<'a> {
    at: PieceAt<'a>,
    input: PieceInput<'a>,
    error: &'a mut [f32],
}

impl Job for Accumulate<'_> {
    type Output = Result<(), CompressError>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Self::Output {
        let Accumulate { at, input, error } = self;
        let pass = Pass::new(at, input);
        let mut maxima = [0; GROUPS];
        let mut chunks = at.layout.piece_chunks(at.piece).enumerate().peekable();
        while let Some((index, chunk)) = chunks.next() {
            let next = chunks.peek().map(|(_, next)| next);
            pass.chunk(&chunk, next, error, &mut maxima)
                .map_err(|()| CompressError::NotFinite { piece: at.piece, chunk: index })?;
        }
        Ok(())
    }
}

/// The pass over memory: e ← a for one chunk after another.
struct Pass<'a> {
    input: PieceInput<'a>,
    factor: f32,
    start: usize,
}

impl<'a> Pass<'a> {
    fn new(at: PieceAt<'_>, input: PieceInput<'a>) -> Pass<'a> {
        Pass {
            input,
            factor: at.params.error_decay() - at.params.retention(),
            start: at.layout.piece(at.piece).values.start,
        }
    }

    /// Where a chunk lies in this piece's slices.
    #[inline(always)]
    fn range(&self, chunk: &Chunk) -> std::ops::Range<usize> {
        let first = chunk.canonical - self.start;
        first..first + chunk.len()
    }

    /// e ← a for one chunk, with its groups' maxima; asks for the memory of the next one. Fails
    /// when a value is not finite.
    #[inline(always)]
    fn chunk(
        &self,
        chunk: &Chunk,
        next: Option<&Chunk>,
        error: &mut [f32],
        maxima: &mut Maxima,
    ) -> Result<(), ()> {
        maxima.fill(0);
        let range = self.range(chunk);
        let (error, after) = error[range.start..].split_at_mut(chunk.len());
        let anchor = &self.input.anchor[range.start..];
        let theta = &self.input.theta[chunk.flat..];
        let pairs = (error.as_chunks_mut::<BLOCK>().0, anchor.as_chunks::<BLOCK>().0);
        match (chunk.full_stride(), pairs) {
            (Some(stride), (error, anchor)) if error.len() == BLOCK => {
                for (row, (error, anchor)) in error.iter_mut().zip(anchor).enumerate() {
                    self.prefetch(next, row, after, &self.input.anchor[range.end..]);
                    let theta = theta[row * stride..].first_chunk().expect("a row of the buffer");
                    let groups = &mut maxima.as_chunks_mut::<BLOCK>().0[row % (GROUPS / BLOCK)];
                    self.row(anchor, theta, error, groups);
                }
            }
            _ => self.edge(chunk, error, maxima),
        }
        if largest(maxima) >= LARGEST_BITS { Err(()) } else { Ok(()) }
    }

    /// One row of a full block.
    #[inline(always)]
    fn row(
        &self,
        anchor: &[f32; BLOCK],
        theta: &[f32; BLOCK],
        error: &mut [f32; BLOCK],
        groups: &mut [u32; BLOCK],
    ) {
        for column in 0..BLOCK {
            let value = self.factor * error[column] + (anchor[column] - theta[column]);
            error[column] = value;
            groups[column] = groups[column].max(value.to_bits() & MAGNITUDE);
        }
    }

    /// A chunk that is not full.
    fn edge(&self, chunk: &Chunk, error: &mut [f32], maxima: &mut Maxima) {
        let anchor = &self.input.anchor[self.range(chunk)];
        let rows = error.chunks_exact_mut(chunk.cols).zip(anchor.chunks_exact(chunk.cols));
        for (row, (error, anchor)) in rows.enumerate() {
            let theta = &self.input.theta[chunk.flat + row * chunk.stride..];
            for ((error, anchor), theta) in error.iter_mut().zip(anchor).zip(theta) {
                *error = self.factor * *error + (anchor - theta);
            }
        }
        for some in error.chunks(GROUPS) {
            for (most, value) in maxima.iter_mut().zip(some) {
                *most = (*most).max(value.to_bits() & MAGNITUDE);
            }
        }
    }

    /// Asks for the memory of row `row` of the next chunk, if it is a full one.
    #[inline(always)]
    fn prefetch(&self, next: Option<&Chunk>, row: usize, error: &[f32], anchor: &[f32]) {
        let Some((next, stride)) = next.and_then(|next| Some((next, next.full_stride()?))) else {
            return;
        };
        for line in (0..BLOCK).step_by(LINE) {
            simd::prefetch(self.input.theta, next.flat + row * stride + line);
            simd::prefetch(error, row * BLOCK + line);
            simd::prefetch(anchor, row * BLOCK + line);
        }
    }
}

/// Values of a cache line.
const LINE: usize = 16;

/// Where a chunk is turned into a message.
struct Work {
    maxima: Maxima,
    selection: Selection,
    padded: [f32; CHUNK],
    values: [f32; CHUNK],
    magnitudes: Magnitudes,
}

impl Work {
    fn new() -> Work {
        Work {
            maxima: [0; GROUPS],
            selection: Selection::new(),
            padded: [0.0; CHUNK],
            values: [0.0; CHUNK],
            magnitudes: [0.0; CHUNK],
        }
    }

    /// Writes the message of a chunk whose `error` holds a, and leaves a − m there.
    #[inline(always)]
    fn send<S: Simd>(
        &mut self,
        simd: S,
        code: ChunkCode,
        error: &mut [f32],
        writer: &mut FrameWriter,
    ) {
        if error.len().is_multiple_of(LANES) {
            self.selection.top(simd, error, &self.maxima, code.kept);
        } else {
            let whole = error.len().next_multiple_of(LANES);
            self.padded[..error.len()].copy_from_slice(error);
            self.padded[error.len()..whole].fill(0.0);
            self.selection.top(simd, &self.padded[..whole], &self.maxima, code.kept);
        }
        let positions = self.selection.positions();
        let values = &mut self.values[..positions.len()];
        for (value, &position) in values.iter_mut().zip(positions) {
            *value = error[usize::from(position)];
        }
        let magnitudes = frame::magnitudes(values, &mut self.magnitudes);
        let levels = match writer.value_bits() {
            ValueBits::One => quantise::one(magnitudes, values.len()),
            ValueBits::Two => quantise::two(magnitudes, values.len()),
        };
        for (&position, value) in positions.iter().zip(&*values) {
            error[usize::from(position)] = value - message(*value, levels);
        }
        writer.chunk(code, positions, values, levels);
    }
}

/// What stands for `value` in the message.
#[inline(always)]
fn message(value: f32, levels: Levels) -> f32 {
    let level = if value.abs() > levels.split { levels.high } else { levels.low };
    widen(level).copysign(value)
}
