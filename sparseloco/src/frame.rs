//! The bytes of one piece: a header and five planes. `docs/wire-format.md` is the specification.

mod read;

use crate::bits::BitWriter;
use crate::codec::{FrameId, PieceAt, WireError};
use crate::layout::PIECE_CHUNKS;
use crate::params::{ChunkCode, ValueBits};
use crate::pass::Current;
use crate::quantise::Levels;

pub(crate) use read::{ChunkValues, Frame, Planes};

/// The first bytes of every frame.
pub const MAGIC: [u8; 4] = *b"SLoC";
/// The version that this crate writes and reads.
pub const VERSION: u8 = 2;
/// Bytes before the planes.
pub const HEADER_BYTES: usize = 56;

/// Largest magnitude in a frame, 2^96: sums and products of such values stay finite in f32.
pub const MAGNITUDE_MAX: f32 = f32::from_bits(MAGNITUDE_MAX_BITS);
pub(crate) const MAGNITUDE_MAX_BITS: u32 = (127 + 96) << 23;

const CHECKSUM: std::ops::Range<usize> = 12..16;

/// The planes of a frame that is being written.
pub(crate) struct FrameWriter {
    value_bits: ValueBits,
    scales: Vec<u8>,
    signs: BitWriter,
    magnitudes: BitWriter,
    lows: BitWriter,
    unary: BitWriter,
    values: usize,
}

impl FrameWriter {
    pub(crate) fn new(at: PieceAt<'_>) -> FrameWriter {
        let codes = codes(at);
        let sum = |bits: fn(&ChunkCode) -> usize| codes.iter().map(bits).sum();
        let values = sum(|code| code.kept);
        FrameWriter {
            value_bits: at.params.value_bits(),
            scales: Vec::with_capacity(4 * PIECE_CHUNKS),
            signs: BitWriter::new(values),
            magnitudes: BitWriter::new(values),
            lows: BitWriter::new(sum(|code| code.kept * code.rice as usize)),
            unary: BitWriter::new(sum(|code| code.kept + (code.len >> code.rice))),
            values: 0,
        }
    }

    /// Bits of its values.
    pub(crate) fn value_bits(&self) -> ValueBits {
        self.value_bits
    }

    /// Number of values so far.
    pub(crate) fn values(&self) -> usize {
        self.values
    }

    /// Appends a chunk's values, which are `values`, at `positions`.
    #[inline(always)]
    pub(crate) fn chunk(
        &mut self,
        current: &Current<'_>,
        positions: &[u16],
        values: &[f32],
        levels: Levels,
    ) {
        let Current { code, ahead } = current;

        self.values += positions.len();
        self.scales.extend_from_slice(&levels.low.to_le_bytes());
        if self.value_bits == ValueBits::Two {
            self.scales.extend_from_slice(&levels.high.to_le_bytes());
        }
        for some in values.chunks(64) {
            self.signs.put(mask(some, |value| value.is_sign_negative()), some.len() as u32);
            if self.value_bits == ValueBits::Two {
                let high = mask(some, |value| value.abs() > levels.split);
                self.magnitudes.put(high, some.len() as u32);
            }
        }
        // Moved out and back, so that their words stay in registers.
        let mut lows = std::mem::take(&mut self.lows);
        let mut unary = std::mem::take(&mut self.unary);
        let mut next = 0;
        for (row, &position) in positions.iter().enumerate() {
            ahead.ask_theta(row);
            let gap = u32::from(position) - next;
            next = u32::from(position) + 1;
            lows.put(u64::from(gap & ((1 << code.rice) - 1)), code.rice);
            unary.put_unary(gap >> code.rice);
        }
        (self.lows, self.unary) = (lows, unary);
    }

    /// Appends the whole frame to `out`.
    pub(crate) fn finish(mut self, at: PieceAt<'_>, id: &FrameId, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&header(at, id));
        out.extend_from_slice(&self.scales);
        for plane in [&mut self.signs, &mut self.magnitudes, &mut self.lows, &mut self.unary] {
            out.extend_from_slice(plane.finish());
        }
        let checksum = checksum(&out[start..]);
        out[start..][CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// One bit for each of at most 64 values.
#[inline(always)]
fn mask(values: &[f32], bit: impl Fn(f32) -> bool) -> u64 {
    values.iter().rev().fold(0, |mask, &value| mask << 1 | u64::from(bit(value)))
}

/// A header whose checksum is still zero.
fn header(at: PieceAt<'_>, id: &FrameId) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..4].copy_from_slice(&MAGIC);
    header[4] = VERSION;
    header[5] = at.params.value_bits().count() as u8;
    header[6..8].copy_from_slice(&(at.params.top_k() as u16).to_le_bytes());
    header[8..12].copy_from_slice(&at.piece.to_le_bytes());
    header[16..24].copy_from_slice(&id.round.to_le_bytes());
    header[24..32].copy_from_slice(&id.run[..8]);
    header[32..40].copy_from_slice(&id.layout[..8]);
    header[40..56].copy_from_slice(&id.island);
    header
}

/// CRC-32C of a frame without its checksum field.
fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..CHECKSUM.start]), &frame[CHECKSUM.end..])
}

/// The codes of a piece's chunks, which its frames are read with.
pub(crate) fn codes(at: PieceAt<'_>) -> Vec<ChunkCode> {
    at.layout.piece_blocks(at.piece).map(|chunk| ChunkCode::new(at.params, chunk.len())).collect()
}

/// Checks that a frame is whole, of this version, and belongs where it is expected.
fn check_header(at: PieceAt<'_>, id: &FrameId, bytes: &[u8]) -> Result<(), WireError> {
    check_version(bytes)?;
    let found = bytes.first_chunk::<HEADER_BYTES>().ok_or(WireError::Truncated)?;
    if found[CHECKSUM] != checksum(bytes).to_le_bytes() {
        return Err(WireError::Checksum);
    }
    let expected = header(at, id);
    let fields = [
        (5..6, WireError::ValueBits),
        (6..8, WireError::TopK),
        (8..12, WireError::Piece),
        (16..24, WireError::Round),
        (24..32, WireError::Run),
        (32..40, WireError::Layout),
        (40..56, WireError::Island),
    ];
    let differs =
        fields.into_iter().find(|(field, _)| found[field.clone()] != expected[field.clone()]);
    differs.map_or(Ok(()), |(_, error)| Err(error))
}

/// Comes before all else, as the header of another version may have another length.
fn check_version(bytes: &[u8]) -> Result<(), WireError> {
    let [magic @ .., version] = bytes.first_chunk::<5>().ok_or(WireError::Truncated)?;
    if *magic != MAGIC {
        return Err(WireError::Magic);
    }
    if *version == VERSION { Ok(()) } else { Err(WireError::Version(*version)) }
}

#[cfg(test)]
mod tests;
