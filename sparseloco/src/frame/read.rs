//! Reading frames: first every bit is checked, then chunks are decoded.

use super::{HEADER_BYTES, MAGNITUDE_MAX, check_header};
use crate::bits::{eight_fields, field, select, word};
use crate::codec::{FrameId, PieceAt, WireError};
use crate::layout::{CHUNK, PIECE_CHUNKS};
use crate::params::{ChunkCode, ValueBits};
use crate::quantise::widen;
use crate::simd::{InstructionSet, Job, Simd};

/// Values that are read at once.
const LANES: usize = 16;

/// The head of a chunk: its magnitudes.
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

struct Parse<'a, 'b> {
    at: PieceAt<'b>,
    codes: &'a [ChunkCode],
    bytes: &'a [u8],
}

impl<'a> Job for Parse<'a, '_> {
    type Output = Result<Frame<'a>, WireError>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Self::Output {
        Frame::parse_planes(self)
    }
}

impl<'a> Frame<'a> {
    /// Checks everything.
    pub(crate) fn parse(
        set: InstructionSet,
        at: PieceAt<'_>,
        id: &FrameId,
        codes: &'a [ChunkCode],
        bytes: &'a [u8],
    ) -> Result<Frame<'a>, WireError> {
        check_header(at, id, bytes)?;
        set.run(Parse { at, codes, bytes })
    }

    #[inline(always)]
    fn parse_planes(parse: Parse<'a, '_>) -> Result<Frame<'a>, WireError> {
        let Parse { at, codes, bytes } = parse;
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

/// The positions of reading in each plane, in bits from the start of the frame.
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
    #[inline(always)]
    fn check_chunk(&mut self, code: &ChunkCode, chunk: usize) -> Result<f64, WireError> {
        let head = self.head();
        let ordered =
            head.low.is_sign_positive() && head.low <= head.high && head.high <= MAGNITUDE_MAX;
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
        let lows = self.sum_lows(code);
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

    /// The sum of the low parts of a chunk's gaps.
    #[inline(always)]
    fn sum_lows(&self, code: &ChunkCode) -> usize {
        let mut sums = [0; 8];
        for first in (0..code.kept).step_by(8) {
            let lows = eight_fields(self.bytes, self.lows + first * code.rice as usize, code.rice);
            for (lane, low) in lows.into_iter().enumerate() {
                sums[lane] += if first + lane < code.kept { low } else { 0 };
            }
        }
        sums.iter().sum::<u32>() as usize
    }

    #[inline(always)]
    fn pass(&mut self, code: &ChunkCode) {
        self.signs += code.kept;
        self.magnitudes += code.kept;
        self.lows += code.kept * code.rice as usize;
    }

    /// Reads a chunk into `chunk`. The frame has been checked.
    #[inline(always)]
    pub(crate) fn chunk(&mut self, code: &ChunkCode, chunk: &mut ChunkValues) {
        chunk.kept = code.kept;
        self.values(code.kept, chunk.values.as_chunks_mut().0);
        let ones = &mut chunk.positions[..code.kept];
        self.ones(ones);
        for (nth, eight) in chunk.lows.as_chunks_mut().0.iter_mut().enumerate() {
            if nth * 8 >= code.kept {
                break;
            }
            let at = self.lows + nth * 8 * code.rice as usize;
            *eight = eight_fields(self.bytes, at, code.rice);
        }
        let mut below = 0;
        for ((index, position), low) in (0u32..).zip(ones).zip(&chunk.lows) {
            below += low;
            *position = (((u32::from(*position) - index) << code.rice) + below + index) as u16;
        }
        self.pass(code);
    }

    /// Reads the next values of the sign and magnitude planes.
    #[inline(always)]
    fn values(&mut self, kept: usize, values: &mut [[f32; LANES]]) {
        let head = self.head();
        let (low, other) = (head.low.to_bits(), head.low.to_bits() ^ head.high.to_bits());
        for (nth, some) in values.iter_mut().take(kept.div_ceil(LANES)).enumerate() {
            let signs = field(self.bytes, self.signs + nth * LANES, LANES as u32);
            let magnitudes = match self.value_bits {
                ValueBits::One => 0,
                ValueBits::Two => field(self.bytes, self.magnitudes + nth * LANES, LANES as u32),
            };
            for (bit, value) in some.iter_mut().enumerate() {
                let high = (magnitudes >> bit & 1).wrapping_neg();
                *value = f32::from_bits(low ^ (other & high) | (signs >> bit & 1) << 31);
            }
        }
    }

    /// Reads where in the unary plane, counted from here, the next ones are.
    #[inline(always)]
    fn ones(&mut self, ones: &mut [u16]) {
        let (bytes, start) = (self.bytes, self.unary);
        let (mut bits, mut base) = (word(bytes, start), 0);
        for one in ones.iter_mut() {
            while bits == 0 && start + base < bytes.len() * 8 {
                base += 64;
                bits = word(bytes, start + base);
            }
            *one = (base + bits.trailing_zeros() as usize) as u16;
            bits &= bits.wrapping_sub(1);
        }
        self.unary += ones.last().map_or(0, |&last| usize::from(last) + 1);
    }
}

/// A decoded chunk.
pub(crate) struct ChunkValues {
    positions: [u16; CHUNK],
    values: [f32; CHUNK],
    lows: [u32; CHUNK],
    kept: usize,
}

impl ChunkValues {
    pub(crate) fn new() -> ChunkValues {
        ChunkValues { positions: [0; CHUNK], values: [0.0; CHUNK], lows: [0; CHUNK], kept: 0 }
    }

    /// Increasing.
    pub(crate) fn positions(&self) -> &[u16] {
        &self.positions[..self.kept]
    }

    /// In the order of the positions.
    pub(crate) fn values(&self) -> &[f32] {
        &self.values[..self.kept]
    }
}
