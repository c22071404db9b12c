//! Bytes a data-parallel rank needs, by kind; each kind is a function with its formula.
//!
//! P is the model's number of parameters, h its width, q the width of its query heads, f that of
//! the feed-forward layer, L its layers, V its vocabulary; b sequences of s tokens make a
//! micro-batch.

use crate::model::Llama;
use crate::spec::Precision;

/// Bytes of an f32.
const F32: u64 = 4;

/// What decides how much a rank needs.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The model.
    pub model: &'a Llama,
    /// s.
    pub sequence_length: u32,
    /// b.
    pub micro_batch_size: u32,
    /// What forward and backward compute in.
    pub precision: Precision,
    /// Whether the rank computes in host memory, so that all its bytes are in one place.
    pub on_cpu: bool,
    /// Data-parallel ranks of the island: the outer state is divided over them.
    pub ranks: u32,
    /// Encoded bytes of all contributions of a round, the island's own included.
    pub contributions: u64,
    /// Bytes of the card.
    pub card_bytes: u64,
}

/// Where bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// On the card (or in the process, for a CPU rank): counted against the card's memory.
    Card,
    /// In the host's memory: said, not counted.
    Host,
}

/// One kind of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// What for.
    pub kind: Kind,
    /// Where.
    pub place: Place,
    /// How many.
    pub bytes: u64,
}

/// What bytes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// [`weights`].
    Weights,
    /// [`gradients`].
    Gradients,
    /// [`moments`].
    Moments,
    /// [`activations`].
    Activations,
    /// [`logits`].
    Logits,
    /// [`outer_theta`].
    OuterTheta,
    /// [`error_feedback`].
    ErrorFeedback,
    /// [`buffers`].
    Buffers,
    /// [`context`].
    Context,
}

impl Kind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Gradients => "gradients",
            Self::Moments => "moments",
            Self::Activations => "activations",
            Self::Logits => "logits",
            Self::OuterTheta => "outer θ",
            Self::ErrorFeedback => "error feedback",
            Self::Buffers => "buffers",
            Self::Context => "context",
        }
    }
}

/// Bytes a rank needs, by kind, in the order in which they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The kinds.
    pub terms: Vec<Term>,
}

impl Memory {
    /// What a rank under `load` needs.
    pub fn of(load: &Load<'_>) -> Self {
        let outer = if load.on_cpu { Place::Card } else { Place::Host };
        let term = |kind, place, bytes| Term { kind, place, bytes };
        Self {
            terms: vec![
                term(Kind::Weights, Place::Card, weights(load)),
                term(Kind::Gradients, Place::Card, gradients(load)),
                term(Kind::Moments, Place::Card, moments(load)),
                term(Kind::Activations, Place::Card, activations(load)),
                term(Kind::Logits, Place::Card, logits(load)),
                term(Kind::OuterTheta, outer, outer_theta(load)),
                term(Kind::ErrorFeedback, outer, error_feedback(load)),
                term(Kind::Buffers, outer, buffers(load)),
                term(Kind::Context, Place::Card, context(load)),
            ],
        }
    }

    /// Bytes on the card.
    pub fn card(&self) -> u64 {
        self.sum(Place::Card)
    }

    /// Bytes on the host.
    pub fn host(&self) -> u64 {
        self.sum(Place::Host)
    }

    /// Bytes of one kind, wherever they lie.
    pub fn of_kind(&self, kind: Kind) -> u64 {
        self.terms.iter().filter(|term| term.kind == kind).map(|term| term.bytes).sum()
    }

    fn sum(&self, place: Place) -> u64 {
        self.terms.iter().filter(|term| term.place == place).map(|term| term.bytes).sum()
    }
}

/// Master weights in f32, and their bf16 copy where that is what computes: 4 P, or 6 P.
pub fn weights(load: &Load<'_>) -> u64 {
    load.model.parameters() * (F32 + half_copy(load.precision))
}

/// Gradients summed over micro-batches in f32, and the two largest matrices' own before they are
/// added (gate and up are one product): 4 P + 2 f h (4 or 6).
pub fn gradients(load: &Load<'_>) -> u64 {
    let config = load.model.config();
    let largest = 2 * u64::from(config.intermediate_size) * u64::from(config.hidden_size);
    load.model.parameters() * F32 + largest * (F32 + half_copy(load.precision))
}

/// AdamW's two moments in f32: 8 P.
pub fn moments(load: &Load<'_>) -> u64 {
    load.model.parameters() * 2 * F32
}

/// What backward needs from forward, without recompute, for one micro-batch.
///
/// Per token and layer, with a the bytes of a computed value (4 or 2) and v the width of the value
/// heads: both norms keep their input and the normalised input in f32 (16 h); the projections keep
/// their inputs (2 a h); attention keeps the projected and the turned queries and keys, the values,
/// its output and that output laid out for the projection (a (4 q + 3 v)), and, fused, no scores;
/// the feed-forward layer keeps gate, up, the activated gate and the product (4 a f). Beside the
/// layers: the embedding, its gradient and the last norm (16 h), and the gradients in flight
/// through one layer (a (4 f + 2 h)).
pub fn activations(load: &Load<'_>) -> u64 {
    let config = load.model.config();
    let value = value_bytes(load.precision);
    let hidden = u64::from(config.hidden_size);
    let wide = u64::from(config.intermediate_size);
    let attention = 4 * load.model.query_width() + 3 * load.model.key_value_width();
    let layer = 16 * hidden + value * (2 * hidden + attention + 4 * wide);
    let beside = 16 * hidden + value * (4 * wide + 2 * hidden);
    tokens(load) * (u64::from(config.num_hidden_layers) * layer + beside)
}

/// Logits, their log-softmax and what lies between in f32, beside their gradient in bf16 where that
/// is what computes: 12 or 14 bytes a logit. The head takes rows by chunks of about 2²⁰ logits.
pub fn logits(load: &Load<'_>) -> u64 {
    const CHUNK: u64 = 1 << 20;
    let vocabulary = u64::from(load.model.config().vocab_size);
    let at_a_time = (tokens(load) * vocabulary).min(CHUNK.max(vocabulary));
    at_a_time * (3 * F32 + half_copy(load.precision))
}

/// θ at the start of the round, the rank's share: 4 P / ranks.
pub fn outer_theta(load: &Load<'_>) -> u64 {
    F32 * share(load)
}

/// Error feedback, the rank's share: 4 P / ranks.
pub fn error_feedback(load: &Load<'_>) -> u64 {
    F32 * share(load)
}

/// What an exchange needs: the rank's share of the new θ, all of θ as it is put together from the
/// shares, and the rank's share of every contribution: 4 P + 4 P / ranks + contributions / ranks.
/// Beside a card, the host's copies of θ, gradients and moments too: 16 P.
pub fn buffers(load: &Load<'_>) -> u64 {
    let all = F32 * load.model.parameters();
    let staged = if load.on_cpu { 0 } else { 4 * all };
    staged + all + F32 * share(load) + load.contributions.div_ceil(load.ranks.into())
}

/// What is there before the first tensor, and what is lost between them: 640 MiB of CUDA context
/// and kernels of libtorch and cuBLAS and 5% of the card for the allocator's fragmentation; or
/// 384 MiB of a CPU process.
pub fn context(load: &Load<'_>) -> u64 {
    if load.on_cpu { 384 << 20 } else { (640 << 20) + load.card_bytes / 20 }
}

fn tokens(load: &Load<'_>) -> u64 {
    u64::from(load.micro_batch_size) * u64::from(load.sequence_length)
}

fn share(load: &Load<'_>) -> u64 {
    load.model.parameters().div_ceil(load.ranks.into())
}

fn value_bytes(precision: Precision) -> u64 {
    match precision {
        Precision::F32 => 4,
        Precision::Bf16 => 2,
    }
}

fn half_copy(precision: Precision) -> u64 {
    match precision {
        Precision::F32 => 0,
        Precision::Bf16 => 2,
    }
}

#[cfg(test)]
mod tests;
