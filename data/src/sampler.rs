//! Which tokens an island trains on: a pure function of the run's seed and public numbers.
//!
//! The training tokens are cut into windows of `sequence_length` tokens (a sample reads one token
//! more, the last target). For each data epoch a keyed permutation orders the windows; position `p`
//! of that order belongs to island `p mod islands`. So within a data epoch no window is given
//! twice, whatever the number of islands, and windows that do not divide evenly are left out, other
//! ones each epoch. Islands of unlike speed go through their own positions at their own pace.
//!
//! An island numbers its samples by round and step ([`StepShape::first_sample`]) as if it had
//! always run its present plan, so no state has to survive a crash. A committed round's record
//! gives tokens and steps, hence the sequences of a step; the island's epoch names the plan and its
//! inner steps.

const FEISTEL_ROUNDS: usize = 8;

/// Why no samples can be assigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    /// A sequence has at least one token.
    #[error("failed to assign samples: a sequence needs at least one token")]
    NoSequence,
    /// Islands are numbered from zero.
    #[error("failed to assign samples: island {island} of {islands}: count from 0")]
    NoSuchIsland {
        /// Position among the islands.
        island: u32,
        /// Number of islands.
        islands: u32,
    },
    /// Not even one window for each island.
    #[error(
        "failed to assign samples: {tokens} tokens give {windows} sequences of {sequence_length} \
         for {islands} islands: prepare more data or shorten the sequences"
    )]
    TooFewTokens {
        /// Tokens at hand.
        tokens: u64,
        /// Sequences that they give.
        windows: u64,
        /// Tokens of a sequence.
        sequence_length: u32,
        /// Number of islands.
        islands: u32,
    },
}

/// What the assignment depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerOptions {
    /// Training tokens of the corpus.
    pub tokens: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Tokens of a sequence, without the last target.
    pub sequence_length: u32,
    /// Position of the island.
    pub island: u32,
    /// Number of islands that share the data.
    pub islands: u32,
}

/// The samples of one island.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    windows: u64,
}

impl Sampler {
    /// Checks that every island gets at least one window.
    ///
    /// # Errors
    /// Nothing to assign, or no such island.
    pub fn new(options: SamplerOptions) -> Result<Self, SamplerError> {
        let SamplerOptions { tokens, sequence_length, island, islands, .. } = options;
        let windows = windows(tokens, sequence_length)?;
        if island >= islands {
            return Err(SamplerError::NoSuchIsland { island, islands });
        }
        if windows < u64::from(islands) {
            return Err(SamplerError::TooFewTokens { tokens, windows, sequence_length, islands });
        }
        Ok(Self { options, windows })
    }

    /// Samples that the island has in one data epoch.
    #[must_use]
    pub fn samples_per_epoch(&self) -> u64 {
        self.windows / u64::from(self.options.islands)
    }

    /// First training token of the island's sample; its targets reach to the token
    /// `sequence_length` further on, which exists.
    #[must_use]
    pub fn sequence(&self, sample: u64) -> u64 {
        let (epoch, turn) = (sample / self.samples_per_epoch(), sample % self.samples_per_epoch());
        let position = turn * u64::from(self.options.islands) + u64::from(self.options.island);
        let keys = round_keys(self.options.seed, epoch);
        permute(position, self.windows, &keys) * u64::from(self.options.sequence_length)
    }
}

/// How an island's plan cuts its rounds into samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepShape {
    /// H: inner steps of a round.
    pub inner_steps: u32,
    /// Sequences of an inner step, over all ranks.
    pub sequences: u32,
}

impl StepShape {
    /// Number of the first sample of an inner step (`0..inner_steps`) of a round; the step's other
    /// samples follow. `(round · H + step) · sequences`, wrapping in 64 bits.
    #[must_use]
    pub fn first_sample(self, round: u64, step: u32) -> u64 {
        round
            .wrapping_mul(u64::from(self.inner_steps))
            .wrapping_add(u64::from(step))
            .wrapping_mul(u64::from(self.sequences))
    }
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
        if windows == 0 {
            let islands = 1;
            return Err(SamplerError::TooFewTokens { tokens, windows, sequence_length, islands });
        }
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

/// Whole sequences with one further token as the last target.
fn windows(tokens: u64, sequence_length: u32) -> Result<u64, SamplerError> {
    tokens.saturating_sub(1).checked_div(u64::from(sequence_length)).ok_or(SamplerError::NoSequence)
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
