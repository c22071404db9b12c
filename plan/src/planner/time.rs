//! How long work takes: estimates good enough to share it out, corrected by what a run reports.

use super::cards::Chosen;
use crate::model::Llama;
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
/// Bytes per second of the ring all-reduce between an island's processes.
const RING_BYTES_PER_SECOND: f64 = 1e9;

/// Seconds of forward and backward of one sequence, at the card's full speed.
pub(super) fn sequence_seconds(card: &Chosen, run: &RunRequest) -> f64 {
    let flops = run.model.flops_per_token(run.sequence_length) * f64::from(run.sequence_length);
    flops / (card.sustained_tflops(GPU_UTILISATION) * 1e12)
}

/// Seconds a micro-batch takes beside its sequences.
pub(super) fn micro_batch_seconds(card: &Chosen, model: &Llama) -> f64 {
    let layer = if card.on_cpu() { CPU_LAYER_SECONDS } else { GPU_LAYER_SECONDS };
    f64::from(model.config().num_hidden_layers) * layer
}

/// Sequences of the largest micro-batch that is of use; at least 1.
pub(super) fn useful_micro_batch(card: &Chosen, sequence_length: u32) -> u32 {
    let tokens = if card.on_cpu() { USEFUL_CPU_TOKENS } else { USEFUL_GPU_TOKENS };
    (tokens / sequence_length).max(1)
}

/// Seconds of the AdamW step.
pub(super) fn optimizer_seconds(card: &Chosen, model: &Llama) -> f64 {
    let parameters = model.parameters() as f64;
    if card.on_cpu() {
        parameters * CPU_ADAMW_SECONDS
    } else {
        parameters * ADAMW_BYTES / (card.card.bandwidth_gbps * 1e9)
    }
}

/// Seconds of the gradients' ring all-reduce: each rank sends and receives 2 (n - 1) / n of them.
pub(super) fn all_reduce_seconds(ranks: usize, model: &Llama) -> f64 {
    let ranks = ranks as f64;
    2.0 * (ranks - 1.0) / ranks * 4.0 * model.parameters() as f64 / RING_BYTES_PER_SECOND
}
