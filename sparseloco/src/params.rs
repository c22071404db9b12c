//! The parameters of contributions that a run fixes, and how many values of a chunk that means.

use crate::layout::CHUNK;

/// Bits of a value: its sign, and with two bits which of two magnitudes of its chunk it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueBits {
    /// The sign; every value of a chunk has one magnitude.
    One,
    /// The sign and one of two magnitudes of the chunk.
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
    /// k is between 1 and 4,096.
    #[error("failed to set up the codec: top-k is {0}; it has to be between 1 and 4096")]
    TopK(u32),
    /// β is between 0 and 1.
    #[error("failed to set up the codec: error decay is {0}; it has to be between 0 and 1")]
    ErrorDecay(f32),
    /// λ is between 0 and 1.
    #[error("failed to set up the codec: retention is {0}; it has to be between 0 and 1")]
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
    /// `top_k` values are kept of every full chunk and in proportion of smaller ones. `error_decay`
    /// is β, the part of the residual that survives a round. `retention` is λ, the part of the
    /// residual that stays in the island's own parameters ([`crate::outer::local_start`]).
    pub fn new(
        top_k: u32,
        value_bits: ValueBits,
        error_decay: f32,
        retention: f32,
    ) -> Result<CodecParams, ParamsError> {
        if top_k == 0 || top_k as usize > CHUNK {
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

    /// k: values kept of a full chunk.
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

    /// Values kept of a chunk of `len` values: k · len / 4,096 to the nearest, halves up, at
    /// least 1.
    pub fn kept(&self, len: usize) -> usize {
        ((self.top_k as usize * len + CHUNK / 2) / CHUNK).max(1)
    }
}

/// How the positions of a chunk are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkCode {
    /// Values of the chunk.
    pub(crate) len: usize,
    /// Values kept.
    pub(crate) kept: usize,
    /// Rice parameter: so many low bits of a gap stand in their own plane. The smallest b with
    /// 2^(b+1) · kept ≥ len, which is within a hundredth of a bit of the best for uniform gaps.
    pub(crate) rice: u32,
}

impl ChunkCode {
    /// The code of a chunk of `len` values.
    pub(crate) fn new(params: &CodecParams, len: usize) -> ChunkCode {
        let kept = params.kept(len);
        let rice = len.div_ceil(2 * kept).next_power_of_two().trailing_zeros();
        ChunkCode { len, kept, rice }
    }
}
