//! How long work takes: estimates good enough to share it out, corrected by what a run reports.

use super::cards::Chosen;
use crate::model::Llama;
use crate::part::Part;
use crate::request::RunRequest;

/// Share of its dense TFLOP/s that a GPU reaches in training: INTELLECT-1 reports 36 to 41%.
const GPU_UTILISATION: f64 = 0.4;
/// Seconds a layer's kernel launches add to a micro-batch, forward and backward, on a GPU.
const GPU_LAYER_SECONDS: f64 = 3e-4;
/// The same for a CPU's calls of operators.
const CPU_LAYER_SECONDS: f64 = 2e-4;
/// Tokens of a micro-batch beyond which a card gains nothing: a GPU is full; a CPU's caches are.
const USEFUL_GPU_TOKENS: u32 = 32_768;
/// See [`USEFUL_GPU_TOKENS`].
const USEFUL_CPU_TOKENS: u32 = 2_048;
/// Bytes that AdamW moves for a parameter: weight, gradient and moments read, all but the gradient
/// written, f32.
const ADAMW_BYTES: f64 = 28.0;
/// Seconds a parameter takes in AdamW on one CPU thread.
const CPU_ADAMW_SECONDS: f64 = 1.4e-9;
/// Bytes per second between an island's processes.
const LINK_BYTES_PER_SECOND: f64 = 1e9;
/// All-reduces of a layer in forward and backward, and in a forward that is made again: one after
/// attention and one after the feed-forward layer each way (Shoeybi et al. 2019, section 3).
const LAYER_ALL_REDUCES: f64 = 4.0;
/// See [`LAYER_ALL_REDUCES`].
const RECOMPUTE_ALL_REDUCES: f64 = 2.0;
/// What recompute adds to forward and backward, which is twice as much work as forward.
const RECOMPUTE: f64 = 1.0 / 3.0;

/// How fast a part of the model is worked through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Seconds a sequence takes.
    pub sequence_seconds: f64,
    /// Seconds a micro-batch takes beside its sequences.
    pub micro_batch_seconds: f64,
}

impl Pace {
    /// Of a card that computes at `speed` of its full speed.
    pub(super) fn of(card: &Chosen, run: &RunRequest, part: &Part, speed: f64) -> Self {
        Self {
            sequence_seconds: sequence_seconds(card, run, part) / speed + link_seconds(run, part),
            micro_batch_seconds: micro_batch_seconds(card, part) / speed,
        }
    }

    /// Seconds of a micro-batch of so many sequences.
    pub(super) fn micro_batch(&self, sequences: u32) -> f64 {
        self.micro_batch_seconds + f64::from(sequences) * self.sequence_seconds
    }
}

/// Seconds of forward and backward of one sequence, at the card's full speed.
fn sequence_seconds(card: &Chosen, run: &RunRequest, part: &Part) -> f64 {
    let layer = run.model.layer_flops_per_token(run.sequence_length) / f64::from(part.tensor);
    let token = layers(part) * layer + run.model.head_flops_per_token(part.head_rows);
    token * f64::from(run.sequence_length) / (card.sustained_tflops(GPU_UTILISATION) * 1e12)
}

/// Seconds a micro-batch takes beside its sequences.
fn micro_batch_seconds(card: &Chosen, part: &Part) -> f64 {
    let layer = if card.on_cpu() { CPU_LAYER_SECONDS } else { GPU_LAYER_SECONDS };
    layers(part) * layer
}

/// Layers to work through, counting recompute.
fn layers(part: &Part) -> f64 {
    f64::from(part.layers) * if part.recompute { 1.0 + RECOMPUTE } else { 1.0 }
}

/// Seconds in which one sequence's activations and gradients cross to tensor-parallel peers and
/// neighbouring stages; the embedding and the head have an all-reduce each.
fn link_seconds(run: &RunRequest, part: &Part) -> f64 {
    let hidden = run.model.config().hidden_size;
    let values = |width: u32| f64::from(run.sequence_length) * f64::from(width);
    let layer = LAYER_ALL_REDUCES + if part.recompute { RECOMPUTE_ALL_REDUCES } else { 0.0 };
    let ends = f64::from(u8::from(part.stage == 0) + u8::from(part.is_last()));
    let all_reduces = f64::from(part.layers) * layer + ends;
    let crossing = 4.0 * values(part.compression.unwrap_or(hidden)) / LINK_BYTES_PER_SECOND;
    all_reduces * all_reduce_seconds(part.tensor, values(hidden))
        + f64::from(part.boundaries()) * crossing
}

/// Sequences of the largest micro-batch that is of use; at least 1.
pub(super) fn useful_micro_batch(card: &Chosen, sequence_length: u32) -> u32 {
    let tokens = if card.on_cpu() { USEFUL_CPU_TOKENS } else { USEFUL_GPU_TOKENS };
    (tokens / sequence_length).max(1)
}

/// Seconds of a pipeline: the slowest stage works through every micro-batch, and waits once for
/// each of the other stages (see [`crate::pipeline::bubble`]).
pub(super) fn pipeline_seconds(stages: u32, micro_batches: u32, slowest: f64) -> f64 {
    f64::from(micro_batches + stages - 1) * slowest
}

/// Seconds of the AdamW step of so many parameters.
pub(super) fn optimizer_seconds(card: &Chosen, parameters: u64) -> f64 {
    let parameters = parameters as f64;
    if card.on_cpu() {
        parameters * CPU_ADAMW_SECONDS
    } else {
        parameters * ADAMW_BYTES / (card.card.bandwidth_gbps * 1e9)
    }
}

/// Seconds in which replicas add up the gradients of their parts, and the first and the last stage
/// those of an embedding that both have.
pub(super) fn gradient_seconds(model: &Llama, replicas: u32, parts: &[Part]) -> f64 {
    let config = model.config();
    let most = parts.iter().map(|part| part.parameters).max().unwrap_or(0);
    let both = match parts {
        [first, .., _] if config.tie_word_embeddings => {
            let embedding = f64::from(config.vocab_size) * f64::from(config.hidden_size);
            embedding / f64::from(first.tensor)
        }
        _ => 0.0,
    };
    all_reduce_seconds(replicas, most as f64) + all_reduce_seconds(2, both)
}

/// Seconds of a ring all-reduce: each rank sends and receives 2 (n - 1) / n of the values.
fn all_reduce_seconds(ranks: u32, values: f64) -> f64 {
    let ranks = f64::from(ranks);
    2.0 * (ranks - 1.0) / ranks * 4.0 * values / LINK_BYTES_PER_SECOND
}
