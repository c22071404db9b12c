//! The bytes of one piece: a header and five planes. `docs/wire-format.md` is the specification.

use crate::bits::{BitWriter, field, select, word};
use crate::codec::{FrameId, PieceAt, WireError};
use crate::layout::PIECE_CHUNKS;
use crate::params::{ChunkCode, ValueBits};
use crate::quantise::{Levels, widen};

/// The first bytes of every frame.
pub const MAGIC: [u8; 4] = *b"SLoC";
/// The version that this crate writes and reads.
pub const VERSION: u8 = 1;
/// Bytes before the planes.
pub const HEADER_BYTES: usize = 40;

/// Largest magnitude in a frame, 2^96: sums and products of such values stay finite in f32.
pub const LARGEST: f32 = f32::from_bits(LARGEST_BITS);
pub(crate) const LARGEST_BITS: u32 = (127 + 96) << 23;

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
        code: ChunkCode,
        positions: &[u16],
        values: &[f32],
        levels: Levels,
    ) {
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
        for &position in positions {
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
    header
}

/// CRC-32C of a frame without its checksum field.
fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..CHECKSUM.start]), &frame[CHECKSUM.end..])
}

/// What a chunk's head says: its magnitudes and how many values have the higher one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Head {
    low: f32,
    high: f32,
}

/// A frame whose every bit has been checked.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    planes: Planes<'a>,
    codes: &'a [ChunkCode],
    squares: [f64; PIECE_CHUNKS],
    values: usize,
}

/// The codes of a piece's chunks, which its frames are read with.
pub(crate) fn codes(at: PieceAt<'_>) -> Vec<ChunkCode> {
    at.layout.piece_chunks(at.piece).map(|chunk| ChunkCode::new(at.params, chunk.len())).collect()
}

impl<'a> Frame<'a> {
    /// Checks all but what the frame belongs to.
    pub(crate) fn parse(
        at: PieceAt<'_>,
        codes: &'a [ChunkCode],
        bytes: &'a [u8],
    ) -> Result<Frame<'a>, WireError> {
        check_header(at, bytes)?;
        let planes = Planes::start(at.params.value_bits(), codes, bytes);
        if bytes.len() * 8 < planes.unary {
            return Err(WireError::Truncated);
        }
        planes.check_padding(codes)?;
        let mut frame = Frame { planes, codes, squares: [0.0; PIECE_CHUNKS], values: 0 };
        let mut reader = frame.planes;
        for (chunk, code) in codes.iter().enumerate() {
            frame.squares[chunk] = reader.check_chunk(code, chunk)?;
            frame.values += code.kept;
        }
        match reader.unary.div_ceil(8).cmp(&bytes.len()) {
            std::cmp::Ordering::Less => return Err(WireError::Trailing),
            std::cmp::Ordering::Greater => return Err(WireError::Truncated),
            std::cmp::Ordering::Equal => {}
        }
        if word(bytes, reader.unary) != 0 {
            return Err(WireError::Padding);
        }
        Ok(frame)
    }

    /// Number of values.
    pub(crate) fn values(&self) -> usize {
        self.values
    }

    /// The squared norm of each chunk.
    pub(crate) fn squares(&self) -> &[f64] {
        &self.squares[..self.codes.len()]
    }

    /// Reads the chunks in order.
    pub(crate) fn reader(&self) -> Planes<'a> {
        self.planes
    }
}

/// Checks that a frame is of this run, round and layout.
pub(crate) fn check_id(id: &FrameId, bytes: &[u8]) -> Result<(), WireError> {
    let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(WireError::Truncated)?;
    if header[24..32] != id.run[..8] {
        return Err(WireError::Run);
    }
    if header[16..24] != id.round.to_le_bytes() {
        return Err(WireError::Round);
    }
    if header[32..40] != id.layout[..8] {
        return Err(WireError::Layout);
    }
    Ok(())
}

fn check_header(at: PieceAt<'_>, bytes: &[u8]) -> Result<(), WireError> {
    let found = bytes.first_chunk::<HEADER_BYTES>().ok_or(WireError::Truncated)?;
    if found[0..4] != MAGIC {
        return Err(WireError::Magic);
    }
    if found[4] != VERSION {
        return Err(WireError::Version(found[4]));
    }
    if found[CHECKSUM] != checksum(bytes).to_le_bytes() {
        return Err(WireError::Checksum);
    }
    if u32::from(found[5]) != at.params.value_bits().count() {
        return Err(WireError::ValueBits);
    }
    if u32::from(u16::from_le_bytes([found[6], found[7]])) != at.params.top_k() {
        return Err(WireError::TopK);
    }
    if found[8..12] != at.piece.to_le_bytes() {
        return Err(WireError::Piece);
    }
    Ok(())
}

/// Where reading stands in each plane, in bits from the start of the frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planes<'a> {
    bytes: &'a [u8],
    value_bits: ValueBits,
    scales: usize,
    signs: usize,
    magnitudes: usize,
    lows: usize,
    unary: usize,
}

impl<'a> Planes<'a> {
    fn start(value_bits: ValueBits, codes: &[ChunkCode], bytes: &'a [u8]) -> Planes<'a> {
        let values: usize = codes.iter().map(|code| code.kept).sum();
        let lows: usize = codes.iter().map(|code| code.kept * code.rice as usize).sum();
        let bits = value_bits.count() as usize;
        let signs = (HEADER_BYTES + 2 * bits * codes.len()) * 8;
        let magnitudes = signs + values.next_multiple_of(8);
        let low_plane = magnitudes + (bits - 1) * values.next_multiple_of(8);
        Planes {
            bytes,
            value_bits,
            scales: HEADER_BYTES * 8,
            signs,
            magnitudes,
            lows: low_plane,
            unary: low_plane + lows.next_multiple_of(8),
        }
    }

    /// Bits that fill a plane's last byte are zero; the unary plane's are checked at its end.
    fn check_padding(&self, codes: &[ChunkCode]) -> Result<(), WireError> {
        let values: usize = codes.iter().map(|code| code.kept).sum();
        let lows: usize = codes.iter().map(|code| code.kept * code.rice as usize).sum();
        let mut ends = vec![self.signs + values, self.lows + lows];
        if self.value_bits == ValueBits::Two {
            ends.push(self.magnitudes + values);
        }
        let clear = |&end: &usize| field(self.bytes, end, end.wrapping_neg() as u32 % 8) == 0;
        if ends.iter().all(clear) { Ok(()) } else { Err(WireError::Padding) }
    }

    #[inline(always)]
    fn head(&mut self) -> Head {
        let low = widen(field(self.bytes, self.scales, 16) as u16);
        self.scales += 16;
        if self.value_bits == ValueBits::One {
            return Head { low, high: low };
        }
        let high = widen(field(self.bytes, self.scales, 16) as u16);
        self.scales += 16;
        Head { low, high }
    }

    /// Passes a chunk and returns the squared norm of its values. The gaps make positions increase,
    /// so it suffices that the last one lies in the chunk.
    fn check_chunk(&mut self, code: &ChunkCode, chunk: usize) -> Result<f64, WireError> {
        let head = self.head();
        let ordered = head.low.is_sign_positive() && head.low <= head.high && head.high <= LARGEST;
        if !ordered {
            return Err(WireError::Scale { chunk });
        }
        let mut high_count = 0;
        for first in (0..code.kept).step_by(64) {
            let count = (code.kept - first).min(64);
            if self.value_bits == ValueBits::Two {
                let kept = u64::MAX >> (64 - count);
                high_count += (word(self.bytes, self.magnitudes + first) & kept).count_ones();
            }
        }
        let zeros = self.pass_unary(code.kept).ok_or(WireError::Truncated)?;
        let mut lows = 0;
        for index in 0..code.kept {
            let at = self.lows + index * code.rice as usize;
            lows += field(self.bytes, at, code.rice) as usize;
        }
        if (zeros << code.rice) + lows + code.kept > code.len {
            return Err(WireError::Position { chunk });
        }
        self.pass(code);
        let (low, high) = (f64::from(head.low), f64::from(head.high));
        let high_count = f64::from(high_count);
        Ok(low * low * (code.kept as f64 - high_count) + high * high * high_count)
    }

    /// Passes `ones` ones of the unary plane and returns the zeros before the last of them.
    #[inline(always)]
    fn pass_unary(&mut self, ones: usize) -> Option<usize> {
        let start = self.unary;
        let mut left = ones as u32;
        loop {
            let bits = word(self.bytes, self.unary);
            let count = bits.count_ones();
            if count >= left {
                self.unary += select(bits, left - 1) as usize + 1;
                return Some(self.unary - start - ones);
            }
            left -= count;
            self.unary += 64;
            if self.unary > self.bytes.len() * 8 {
                return None;
            }
        }
    }

    #[inline(always)]
    fn pass(&mut self, code: &ChunkCode) {
        self.signs += code.kept;
        self.magnitudes += code.kept;
        self.lows += code.kept * code.rice as usize;
    }

    /// Reads a chunk's positions and values, `code.kept` of them. The frame has been checked.
    #[inline(always)]
    pub(crate) fn chunk(&mut self, code: &ChunkCode, positions: &mut [u16], values: &mut [f32]) {
        let head = self.head();
        for (nth, some) in values[..code.kept].chunks_mut(64).enumerate() {
            let signs = word(self.bytes, self.signs + nth * 64);
            let magnitudes = match self.value_bits {
                ValueBits::One => 0,
                ValueBits::Two => word(self.bytes, self.magnitudes + nth * 64),
            };
            for (bit, value) in some.iter_mut().enumerate() {
                let level = if magnitudes >> bit & 1 == 0 { head.low } else { head.high };
                *value = f32::from_bits(level.to_bits() | ((signs >> bit & 1) as u32) << 31);
            }
        }
        let mut bits = word(self.bytes, self.unary);
        let (mut base, mut previous) = (0, 0);
        let mut below = 0;
        for (index, position) in positions[..code.kept].iter_mut().enumerate() {
            while bits == 0 && self.unary + base < self.bytes.len() * 8 {
                base += 64;
                bits = word(self.bytes, self.unary + base);
            }
            let one = base + bits.trailing_zeros() as usize;
            bits &= bits.wrapping_sub(1);
            previous = one;
            let at = self.lows + index * code.rice as usize;
            below += field(self.bytes, at, code.rice) as usize;
            *position = ((one - index) << code.rice) as u16 + (below + index) as u16;
        }
        self.unary += previous + 1;
        self.pass(code);
    }
}

#[cfg(test)]
mod tests;
