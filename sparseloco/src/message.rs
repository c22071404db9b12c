//! The message of one chunk: select, quantise, encode, and leave the rest.

use crate::frame::FrameWriter;
use crate::layout::CHUNK;
use crate::params::ValueBits;
use crate::pass::Current;
use crate::quantise::{self, LANES, Levels, widen};
use crate::select::{GROUPS, Maxima, Selection};
use crate::simd::{ROW, Simd};

/// The buffers in which chunks become messages.
pub(crate) struct Sender {
    /// The largest magnitudes of the chunk's groups.
    pub(crate) maxima: Maxima,
    selection: Selection,
    padded: [f32; CHUNK],
    values: [f32; CHUNK],
    magnitudes: [f32; CHUNK],
}

impl Sender {
    pub(crate) fn new() -> Sender {
        Sender {
            maxima: [0.0; GROUPS],
            selection: Selection::new(),
            padded: [0.0; CHUNK],
            values: [0.0; CHUNK],
            magnitudes: [0.0; CHUNK],
        }
    }

    /// Writes the message of a chunk whose `residual` holds a, and leaves a − m there.
    #[inline(always)]
    pub(crate) fn send<S: Simd>(
        &mut self,
        simd: S,
        current: &Current<'_>,
        residual: &mut [f32],
        writer: &mut FrameWriter,
    ) {
        let (rows, rest) = residual.as_chunks();
        if rest.is_empty() {
            self.selection.top(simd, rows, &self.maxima, current);
        } else {
            let whole = residual.len().next_multiple_of(ROW);
            self.padded[..residual.len()].copy_from_slice(residual);
            self.padded[residual.len()..whole].fill(0.0);
            let rows = self.padded[..whole].as_chunks().0;
            self.selection.top(simd, rows, &self.maxima, current);
        }
        let positions = self.selection.positions();
        let values = &mut self.values[..positions.len()];
        for (value, &position) in values.iter_mut().zip(positions) {
            *value = residual[usize::from(position)];
        }
        let levels = levels(values, &mut self.magnitudes, writer.value_bits());
        writer.chunk(current, positions, values, levels);
        for value in values.iter_mut() {
            *value -= sent(*value, levels);
        }
        for (&position, &rest) in positions.iter().zip(&*values) {
            residual[usize::from(position)] = rest;
        }
    }
}

/// The magnitudes that stand for `values`; `scratch` has room for theirs.
#[inline(always)]
fn levels(values: &[f32], scratch: &mut [f32; CHUNK], bits: ValueBits) -> Levels {
    let padded = values.len().next_multiple_of(LANES);
    for (to, from) in scratch.iter_mut().zip(values) {
        *to = from.abs();
    }
    scratch[values.len()..padded].fill(0.0);
    match bits {
        ValueBits::One => quantise::one(&scratch[..padded], values.len()),
        ValueBits::Two => quantise::two(&scratch[..padded], values.len()),
    }
}

/// The value that stands for `value` in the message.
#[inline(always)]
fn sent(value: f32, levels: Levels) -> f32 {
    let (low, high) = (widen(levels.low), widen(levels.high));
    let level = if value.abs() > levels.split { high } else { low };
    level.copysign(value)
}
