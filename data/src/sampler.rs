//! The order of a run's text: which tokens stand where is a pure function of the run's seed and
//! public numbers.
//!
//! The training tokens are cut into windows of `sequence_length` tokens (a sample reads one token
//! more, the last target). The order is endless, one window at each position: for each data epoch a
//! keyed permutation orders all windows, and one epoch follows the other. The run's coordinator
//! hands every position to one island, once ([`Allotment`]), so no window comes again while another
//! was not seen, whoever comes and goes.

use std::ops::Range;

const FEISTEL_ROUNDS: usize = 8;

/// Why samples cannot be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    /// A sequence has at least one token.
    #[error("failed to order the text: a sequence needs at least one token")]
    NoSequence,
    /// Not even one window.
    #[error(
        "failed to order the text: {tokens} tokens are too few for a sequence of \
         {sequence_length} and its last target: prepare more data or shorten the sequences"
    )]
    TooFewTokens {
        /// Tokens at hand.
        tokens: u64,
        /// Tokens of a sequence.
        sequence_length: u32,
    },
    /// The island was given fewer samples than it trains on.
    #[error(
        "failed to find sample {sample} of the round: the coordinator gave the island {samples}; \
         the island has to join again"
    )]
    NotAllotted {
        /// Number of the sample.
        sample: u64,
        /// How many there are.
        samples: u64,
    },
}

/// The numbers that the order depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerOptions {
    /// Training tokens of the corpus.
    pub tokens: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Tokens of a sequence, without the last target.
    pub sequence_length: u32,
}

/// The run's order of text, the same for all islands.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    windows: u64,
}

impl Sampler {
    /// Checks that there is at least one window.
    ///
    /// # Errors
    /// There is none.
    pub fn new(options: SamplerOptions) -> Result<Self, SamplerError> {
        let SamplerOptions { tokens, sequence_length, .. } = options;
        Ok(Self { options, windows: windows(tokens, sequence_length)? })
    }

    /// Positions of a data epoch: all windows, each once.
    #[must_use]
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// First training token of the sample at a position; its targets reach to the token
    /// `sequence_length` further on, which exists.
    #[must_use]
    pub fn sequence(&self, position: u64) -> u64 {
        let (epoch, turn) = (position / self.windows, position % self.windows);
        let keys = round_keys(self.options.seed, epoch);
        permute(turn, self.windows, &keys) * u64::from(self.options.sequence_length)
    }
}

/// The positions of the order that an island trains on in a round, in its own order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allotment(Vec<Range<u64>>);

impl Allotment {
    /// As the coordinator handed them out.
    pub fn new(ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        Self(ranges.into_iter().collect())
    }

    /// How many there are.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.0.iter().fold(0, |sum, range| sum.saturating_add(count(range)))
    }

    /// Position of the round's sample of this number, from 0.
    ///
    /// # Errors
    /// The island has fewer samples.
    pub fn position(&self, sample: u64) -> Result<u64, SamplerError> {
        let mut left = sample;
        for range in &self.0 {
            if left < count(range) {
                return Ok(range.start + left);
            }
            left -= count(range);
        }
        Err(SamplerError::NotAllotted { sample, samples: self.samples() })
    }
}

fn count(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// The validation sequences of a run: always the same, spread evenly over the validation tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldOut {
    windows: u64,
    sequences: u32,
    sequence_length: u32,
}

impl HeldOut {
    /// Takes `sequences` of the validation tokens, or as many as there are.
    ///
    /// # Errors
    /// There is not one sequence.
    pub fn new(tokens: u64, sequence_length: u32, sequences: u32) -> Result<Self, SamplerError> {
        let windows = windows(tokens, sequence_length)?;
        let sequences = u32::try_from(windows).unwrap_or(u32::MAX).min(sequences);
        Ok(Self { windows, sequences, sequence_length })
    }

    /// First validation token of each sequence.
    pub fn sequences(self) -> impl ExactSizeIterator<Item = u64> {
        (0..self.sequences).map(move |index| {
            let spread = u128::from(index) * u128::from(self.windows) / u128::from(self.sequences);
            let window = u64::try_from(spread).expect("below the number of windows");
            window * u64::from(self.sequence_length)
        })
    }
}

/// Whole sequences with one further token as the last target; at least one.
fn windows(tokens: u64, sequence_length: u32) -> Result<u64, SamplerError> {
    let windows = tokens.saturating_sub(1).checked_div(u64::from(sequence_length));
    match windows.ok_or(SamplerError::NoSequence)? {
        0 => Err(SamplerError::TooFewTokens { tokens, sequence_length }),
        windows => Ok(windows),
    }
}

/// The keys of a data epoch's permutation: blake3 in key-derivation mode over seed and epoch, both
/// little-endian, read as little-endian words.
fn round_keys(seed: u64, epoch: u64) -> [u64; FEISTEL_ROUNDS] {
    let mut hasher = blake3::Hasher::new_derive_key("heteroloco data order 1");
    hasher.update(&seed.to_le_bytes()).update(&epoch.to_le_bytes());
    let mut reader = hasher.finalize_xof();
    std::array::from_fn(|_| {
        let mut word = [0; 8];
        reader.fill(&mut word);
        u64::from_le_bytes(word)
    })
}

/// A keyed permutation of `0..count`: a balanced Feistel network over the smallest even number of
/// bits that holds `count`, walked until it lands inside (at most four steps in expectation).
fn permute(position: u64, count: u64, keys: &[u64; FEISTEL_ROUNDS]) -> u64 {
    let bits = u64::BITS - count.saturating_sub(1).leading_zeros();
    let half = bits.div_ceil(2).max(1);
    let mask = (1u64 << half) - 1;
    let mut value = position;
    loop {
        let (mut left, mut right) = (value >> half, value & mask);
        for key in keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        value = (left << half) | right;
        if value < count {
            return value;
        }
    }
}

/// `SplitMix64`'s finaliser.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
