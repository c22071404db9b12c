//! How long work takes on a card: a roofline by kind of operation, for libtorch run eagerly.
//!
//! Products of matrices take their FLOPs at what the card reaches in them, or the time to read
//! their weights; everything else takes the bytes that it moves. Both follow one another, for
//! nothing is fused.

use crate::cluster::Reached;
use crate::gpu;
use crate::memory::activation_bytes;
use crate::model::Llama;
use crate::part::Parts;
use crate::spec::Precision;

/// Share of the dense TFLOP/s that large products of matrices reach: cuBLAS on A100 and H100.
const MATMUL: f64 = 0.7;
/// Share of the memory's bandwidth that elementwise kernels reach.
const STREAM: f64 = 0.8;
/// Times that a kept activation is written and read in forward, by kernels that are not fused.
const FORWARD_PASSES: f64 = 3.0;
/// The same in backward: read, and its gradient written and read.
const BACKWARD_PASSES: f64 = 5.0;
/// Bytes moved for a parameter to add a micro-batch's gradient to the sum in f32.
const GRADIENT_BYTES: f64 = 10.0;
/// Bytes moved for a logit, forward and backward: log-softmax and its gradient in f32.
const LOGIT_BYTES: f64 = 40.0;
/// Bytes that AdamW moves for a parameter: weight, gradient and moments read, all but the gradient
/// written, f32.
const ADAMW_BYTES: f64 = 28.0;
/// Seconds below which a layer's kernels cannot be launched, forward and backward.
const GPU_LAYER_SECONDS: f64 = 3e-4;
/// Seconds that a CPU's calls of a layer's operators take beside their work.
const CPU_LAYER_SECONDS: f64 = 2e-4;
/// Seconds a parameter takes in AdamW on one CPU thread.
const CPU_ADAMW_SECONDS: f64 = 1.4e-9;
/// Tokens of a micro-batch beyond which a card gains nothing: a GPU is full; a CPU's caches are.
const USEFUL_GPU_TOKENS: u32 = 32_768;
/// See [`USEFUL_GPU_TOKENS`].
const USEFUL_CPU_TOKENS: u32 = 2_048;

/// Sequences of a micro-batch, however short they are: what a search tries is bounded.
const SEQUENCES_MAX: u32 = 64;

/// How fast a card is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Speed {
    /// FLOP/s reached in products of matrices; on a CPU, in all of training.
    flops: f64,
    /// Bytes a second reached in everything else; infinite where `flops` counts it.
    bytes: f64,
    /// Seconds of a layer, forward and backward, beside or below its work.
    layer_seconds: f64,
    /// Whether launches run beside the work, so that the longer of both counts.
    asynchronous: bool,
    /// Seconds of AdamW for a parameter.
    adamw_seconds: f64,
}

impl Speed {
    /// The speed of `threads` threads of a CPU.
    pub(crate) fn cpu(threads: u32, measured: Option<Reached>) -> Self {
        // The catalogue's figure is what training reaches; large products alone reach more.
        let each = measured.map_or(gpu::cpu().fp32_tflops, |it| MATMUL * it.f32_tflops);
        Self {
            flops: each * f64::from(threads) * 1e12,
            bytes: f64::INFINITY,
            layer_seconds: CPU_LAYER_SECONDS,
            asynchronous: false,
            adamw_seconds: CPU_ADAMW_SECONDS,
        }
    }

    /// A GPU, by datasheet or as measured.
    pub(crate) fn gpu(
        peak_tflops: f64,
        bandwidth_gbps: f64,
        precision: Precision,
        measured: Option<Reached>,
    ) -> Self {
        let reached = measured.and_then(|it| match precision {
            Precision::Bf16 => it.bf16_tflops,
            Precision::F32 => Some(it.f32_tflops),
        });
        let streamed = measured.map_or(bandwidth_gbps * STREAM, |it| it.bandwidth_gbps) * 1e9;
        Self {
            flops: reached.unwrap_or(peak_tflops * MATMUL) * 1e12,
            bytes: streamed,
            layer_seconds: GPU_LAYER_SECONDS,
            asynchronous: true,
            adamw_seconds: ADAMW_BYTES / streamed,
        }
    }

    /// At a share of its speed.
    pub(crate) fn slowed(self, share: f64) -> Self {
        Self {
            flops: self.flops * share,
            bytes: self.bytes * share,
            layer_seconds: self.layer_seconds / share,
            adamw_seconds: self.adamw_seconds / share,
            ..self
        }
    }

    /// Seconds of the AdamW step of so many parameters.
    pub(crate) fn optimizer(&self, parameters: u64) -> f64 {
        parameters as f64 * self.adamw_seconds
    }

    /// With `share` of a layer's launches.
    fn launched(&self, work: f64, share: f64) -> f64 {
        let launches = self.layer_seconds * share;
        if self.asynchronous { work.max(launches) } else { work + launches }
    }
}

/// Seconds of a micro-batch in a layer or beside the layers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Seconds {
    pub forward: f64,
    pub backward: f64,
}

impl Seconds {
    pub(crate) fn both(self) -> f64 {
        self.forward + self.backward
    }
}

/// A micro-batch's work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work<'a> {
    pub model: &'a Llama,
    pub parts: &'a Parts,
    pub sequence_length: u32,
    /// Sequences.
    pub size: u32,
    pub precision: Precision,
}

impl Work<'_> {
    pub(crate) fn tokens(&self) -> f64 {
        f64::from(self.size) * f64::from(self.sequence_length)
    }

    /// Seconds of a layer's share on each tensor-parallel device.
    pub(crate) fn layer(&self, speed: &Speed) -> Seconds {
        let ways = f64::from(self.parts.tensor());
        let parameters = self.model.layer_parameters() as f64 / ways;
        let flops = self.model.layer_flops_per_token(self.sequence_length) / ways * self.tokens();
        let kept = activation_bytes(self.model, self.parts.tensor(), self.precision) as f64;
        let moved = kept * self.tokens() / speed.bytes;
        let weights = f64::from(self.precision.bytes()) * parameters / speed.bytes;
        let forward = (flops / 3.0 / speed.flops).max(weights) + FORWARD_PASSES * moved;
        let backward = (flops * 2.0 / 3.0 / speed.flops).max(2.0 * weights)
            + BACKWARD_PASSES * moved
            + GRADIENT_BYTES * parameters / speed.bytes;
        Seconds {
            forward: speed.launched(forward, 1.0 / 3.0),
            backward: speed.launched(backward, 2.0 / 3.0),
        }
    }

    /// Seconds of so many rows of the head: products, and the loss.
    pub(crate) fn head(&self, speed: &Speed, rows: u64) -> Seconds {
        let flops = self.model.head_flops_per_token(rows) * self.tokens();
        let parameters = rows as f64 * f64::from(self.model.config().hidden_size);
        let weights = f64::from(self.precision.bytes()) * parameters / speed.bytes;
        let loss = LOGIT_BYTES * rows as f64 * self.tokens() / speed.bytes;
        Seconds {
            forward: (flops / 3.0 / speed.flops).max(weights) + loss / 2.0,
            backward: (flops * 2.0 / 3.0 / speed.flops).max(2.0 * weights)
                + loss / 2.0
                + GRADIENT_BYTES * parameters / speed.bytes,
        }
    }
}

/// Sequences of the largest micro-batch that is of use; at least 1.
pub(crate) fn useful_micro_batch(on_cpu: bool, sequence_length: u32) -> u32 {
    let tokens = if on_cpu { USEFUL_CPU_TOKENS } else { USEFUL_GPU_TOKENS };
    (tokens / sequence_length).clamp(1, SEQUENCES_MAX)
}
