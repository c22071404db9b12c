//! Bytes a device needs, by kind; each kind is a function with its formula.
//!
//! P is the model's number of parameters, h its width, q the width of its query heads, f that of
//! the feed-forward layer, V its vocabulary; b sequences of s tokens make a micro-batch. A device
//! holds N of the P parameters, among them a t-th of each of the L layers of its stage (t is the
//! tensor-parallel size), and works on up to m micro-batches at a time.

use crate::model::Llama;
use crate::part::Part;
use crate::spec::Precision;

/// Bytes of an f32.
const F32: u64 = 4;
/// Logits that exist at a time on a CPU: what fits its cache.
pub const CPU_LOGITS: u64 = 1 << 20;
/// Logits that exist at a time on a card: what keeps it busy.
pub const CARD_LOGITS: u64 = 1 << 26;

/// The facts that decide how much memory a device needs. Each computes for a rank of its own.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The model.
    pub model: &'a Llama,
    /// The part of it that the device holds.
    pub part: Part,
    /// m: micro-batches between their forward and their backward.
    pub in_flight: u32,
    /// s.
    pub sequence_length: u32,
    /// b.
    pub micro_batch_size: u32,
    /// The precision that forward and backward compute in.
    pub precision: Precision,
    /// Whether the device is the host, so that all its bytes are in one place.
    pub on_cpu: bool,
    /// Ranks of the island: the outer state is divided over them, whatever they hold.
    pub ranks: u32,
    /// Encoded bytes of all contributions of a round, the island's own included.
    pub contributions: u64,
    /// Bytes of the card.
    pub card_bytes: u64,
}

/// The memory that bytes lie in.
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
    /// The use of the bytes.
    pub kind: Kind,
    /// The memory that they lie in.
    pub place: Place,
    /// How many.
    pub bytes: u64,
}

/// The use of bytes.
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
    /// [`subspace`].
    Subspace,
    /// [`outer_theta`].
    OuterTheta,
    /// [`error_feedback`].
    ErrorFeedback,
    /// [`pipeline`].
    Pipeline,
    /// [`projections`].
    Projections,
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
            Self::Subspace => "subspace",
            Self::OuterTheta => "outer θ",
            Self::ErrorFeedback => "error feedback",
            Self::Pipeline => "pipeline",
            Self::Projections => "projections",
            Self::Buffers => "buffers",
            Self::Context => "context",
        }
    }
}

/// Bytes a device needs, by kind, in the order in which they are shown. Kinds that only stages, or
/// only compression, need are left out where there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The kinds.
    pub terms: Vec<Term>,
}

impl Memory {
    /// The memory that a device under `load` needs.
    pub fn of(load: &Load<'_>) -> Self {
        let outer = if load.on_cpu { Place::Card } else { Place::Host };
        let (staged, compressed) = (load.part.stages > 1, load.part.compression.is_some());
        let terms = [
            (true, Kind::Weights, Place::Card, weights(load)),
            (true, Kind::Gradients, Place::Card, gradients(load)),
            (true, Kind::Moments, Place::Card, moments(load)),
            (true, Kind::Activations, Place::Card, activations(load)),
            (true, Kind::Logits, Place::Card, logits(load)),
            (compressed, Kind::Subspace, Place::Card, subspace(load)),
            (true, Kind::OuterTheta, outer, outer_theta(load)),
            (true, Kind::ErrorFeedback, outer, error_feedback(load)),
            (staged, Kind::Pipeline, Place::Card, pipeline(load)),
            (compressed, Kind::Projections, outer, projections(load)),
            (true, Kind::Buffers, outer, buffers(load) - reused(load)),
            (true, Kind::Context, Place::Card, context(load)),
        ];
        let there = terms.into_iter().filter(|(there, ..)| *there);
        Self { terms: there.map(|(_, kind, place, bytes)| Term { kind, place, bytes }).collect() }
    }

    /// Bytes on the card, nothing being used twice: not less than [`Memory::card`], and as much
    /// more for every further layer.
    pub fn apart(load: &Load<'_>) -> u64 {
        Self::of(load).card().saturating_add(reused(load))
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
        let there = self.terms.iter().filter(|term| term.place == place);
        there.fold(0, |sum, term| term.bytes.saturating_add(sum))
    }
}

/// Master weights in f32, and where bf16 is what computes, one copy in it that all micro-batches of
/// a step share: 4 N or 6 N.
pub fn weights(load: &Load<'_>) -> u64 {
    load.part.parameters * (F32 + half_copy(load.precision))
}

/// Gradients summed over micro-batches in f32, and the largest product's own before it is added:
/// gate and up, which are one, or the head's rows v: 4 N + max(2 f / t, v) h (4 or 6).
pub fn gradients(load: &Load<'_>) -> u64 {
    let config = load.model.config();
    let gate_up = 2 * u64::from(config.intermediate_size) / u64::from(load.part.tensor);
    let largest = gate_up.max(load.part.head_rows) * u64::from(config.hidden_size);
    load.part.parameters * F32 + largest * (F32 + half_copy(load.precision))
}

/// AdamW's two moments in f32: 8 N.
pub fn moments(load: &Load<'_>) -> u64 {
    load.part.parameters * 2 * F32
}

/// Activations that backward needs from forward, for the m micro-batches in flight.
///
/// Per token and layer, with a the bytes of a computed value (4 or 2) and v the width of the value
/// heads: both norms keep their input and the normalised input in f32 (16 h); the projections keep
/// their inputs (2 a h); attention keeps the projected and the turned queries and keys, the values,
/// its output and that output laid out for the projection (a (4 q + 3 v) / t), and, fused, no
/// scores; the feed-forward layer keeps gate, up, the activated gate and the product (4 a f / t).
/// With recompute that is there for one layer of one micro-batch, and every layer in flight keeps
/// its input (4 h).
///
/// Beside the layers, in flight: what enters the stage, its gradient, and the last norm or what
/// leaves the stage, and its gradient (16 h). Once: the gradients in flight through one layer
/// (a (4 f / t + 2 h)).
pub fn activations(load: &Load<'_>) -> u64 {
    let config = load.model.config();
    let value = u64::from(load.precision.bytes());
    let hidden = u64::from(config.hidden_size);
    let wide = u64::from(config.intermediate_size) / u64::from(load.part.tensor);
    let layer = activation_bytes(load.model, load.part.tensor, load.precision);
    let (kept, at_a_time) = if load.part.recompute { (F32 * hidden, layer) } else { (layer, 0) };
    let in_flight = u64::from(load.part.layers) * kept + 16 * hidden;
    let once = at_a_time + value * (4 * wide + 2 * hidden);
    // Deep pipelines of absurdly large models would overflow.
    tokens(load).saturating_mul(u64::from(load.in_flight).saturating_mul(in_flight) + once)
}

/// Bytes that backward needs of a token in a layer shared by so many devices; see [`activations`].
pub fn activation_bytes(model: &Llama, tensor: u32, precision: Precision) -> u64 {
    let config = model.config();
    let (hidden, ways) = (u64::from(config.hidden_size), u64::from(tensor));
    let attention = (4 * model.query_width() + 3 * model.key_value_width()) / ways;
    let wide = 4 * u64::from(config.intermediate_size) / ways;
    16 * hidden + u64::from(precision.bytes()) * (2 * hidden + attention + wide)
}

/// On the last stage, logits, their log-softmax and what lies between in f32, beside their gradient
/// in bf16 where that is what computes: 12 or 14 bytes a logit. The head takes tokens by chunks of
/// about [`CPU_LOGITS`] or [`CARD_LOGITS`].
pub fn logits(load: &Load<'_>) -> u64 {
    let rows = load.part.head_rows;
    let chunk = if load.on_cpu { CPU_LOGITS } else { CARD_LOGITS };
    let at_a_time = (tokens(load) * rows).min(chunk.max(rows));
    at_a_time * (3 * F32 + half_copy(load.precision))
}

/// With compression to k dimensions, the embedding as it was at first and the basis of the
/// subspace: 4 V h + 4 h k.
pub fn subspace(load: &Load<'_>) -> u64 {
    let config = load.model.config();
    let rank = load.part.compression.map_or(0, u64::from);
    let rows = if rank == 0 { 0 } else { u64::from(config.vocab_size) };
    F32 * u64::from(config.hidden_size) * (rows + rank)
}

/// With compression, the host's copies of the output and down projections: 4 L (q + f) h / t.
pub fn projections(load: &Load<'_>) -> u64 {
    let config = load.model.config();
    let inputs = load.model.query_width() + u64::from(config.intermediate_size);
    let layer = inputs * u64::from(config.hidden_size) / u64::from(load.part.tensor);
    match load.part.compression {
        Some(_) => F32 * u64::from(load.part.layers) * layer,
        None => 0,
    }
}

/// Tensors that wait to cross to and from neighbouring stages: of each neighbour two micro-batches
/// that have come and one that is on its way here, and to it as many as the schedule lets be ahead,
/// and one on its way: 4 b s h (4 + m) for each neighbour, or 4 b s k (4 + m) with compression.
pub fn pipeline(load: &Load<'_>) -> u64 {
    let width = load.part.compression.unwrap_or(load.model.config().hidden_size);
    let each = F32 * tokens(load) * u64::from(width);
    u64::from(load.part.boundaries()) * each * (4 + u64::from(load.in_flight))
}

/// θ at the start of the round, the rank's share: 4 P / ranks.
pub fn outer_theta(load: &Load<'_>) -> u64 {
    F32 * share(load)
}

/// Error feedback, the rank's share: 4 P / ranks.
pub fn error_feedback(load: &Load<'_>) -> u64 {
    F32 * share(load)
}

/// Buffers of an exchange: the rank's share of θ on its way to or from the ranks that train it; two
/// windows of 8 MiB in which values move between ranks; and the rank's share of the contributions
/// of two rounds: 4 P / ranks + 16 MiB + 2 contributions / ranks. Checkpoints go through the same
/// buffers. Beside a card, the host's copies of θ and moments too: 12 N.
pub fn buffers(load: &Load<'_>) -> u64 {
    const WINDOWS: u64 = 2 * (8 << 20);
    let staged = if load.on_cpu { 0 } else { 3 * F32 * load.part.parameters };
    let contributions = 2 * load.contributions.div_ceil(load.ranks.into());
    staged + F32 * share(load) + WINDOWS + contributions
}

/// Bytes of an exchange that lie in the place that activations and logits had, in a process on the
/// CPU: the system's allocator gives large amounts back before it, and keeps about 256 MiB of small
/// blocks; two thirds of an exchange were found to go there (fitted to `make bench-sharding`).
/// Recompute's blocks come and go, and were seen to stay; so were compression's.
fn reused(load: &Load<'_>) -> u64 {
    const KEPT: u64 = 256 << 20;
    if !load.on_cpu || load.part.recompute || load.part.compression.is_some() {
        return 0;
    }
    let before = activations(load).saturating_add(logits(load));
    before.saturating_sub(KEPT).min(buffers(load) / 3 * 2)
}

/// Memory that is taken before the first tensor, and that is lost between tensors: 640 MiB of CUDA
/// context and kernels of libtorch and cuBLAS and 5% of the card for the allocator's fragmentation;
/// or 192 MiB of a CPU process: 80 are the program's and libtorch's own pages, 70 what both have
/// made when the first round begins, the rest what the allocators of its threads keep.
pub fn context(load: &Load<'_>) -> u64 {
    if load.on_cpu { 192 << 20 } else { (640 << 20) + load.card_bytes / 20 }
}

fn tokens(load: &Load<'_>) -> u64 {
    u64::from(load.micro_batch_size) * u64::from(load.sequence_length)
}

fn share(load: &Load<'_>) -> u64 {
    load.model.parameters().div_ceil(load.ranks.into())
}

/// Bytes of a value's copy in what computes, where that is not f32 itself.
fn half_copy(precision: Precision) -> u64 {
    match precision {
        Precision::F32 => 0,
        Precision::Bf16 => precision.bytes().into(),
    }
}

#[cfg(test)]
mod tests;
