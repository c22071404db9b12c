//! The specification that a plan gives: the run that all islands share, and each island's layout.
//! Ranks are told both (`contract::worker`), and choose nothing themselves.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::LlamaConfig;

#[cfg(test)]
mod json;

/// The specification that all islands of a run share. Its hash is compared when islands join.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RunSpec {
    /// Name of the `TrainingRun`.
    pub name: String,
    /// Seed of initialisation and data order.
    pub seed: u64,
    /// The model.
    pub model: LlamaConfig,
    /// Folder with θ of round 0 in Hugging Face's form, an absolute path; drawn from the seed where
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Folder made by `heteroloco data prepare`.
    pub data: PathBuf,
    /// Tokens per sequence; at most `model.max_position_embeddings`.
    pub sequence_length: u32,
    /// Tokens after which the run is done.
    pub tokens: u64,
    /// Inner steps of the fastest island in a round.
    pub reference_steps: u32,
    /// Rounds that `tokens` is expected to take, for display.
    pub total_rounds: u64,
    /// The inner optimiser.
    pub optimizer: OptimizerSpec,
    /// The schedule of its learning rate by the run's tokens.
    #[serde(default)]
    pub schedule: ScheduleSpec,
    /// The outer exchange.
    pub sparse: SparseSpec,
    /// Checkpoint after every so many rounds.
    pub checkpoint_every_rounds: u32,
    /// Held-out loss after every so many rounds, on so many validation sequences.
    pub evaluation: EvaluationSpec,
}

/// The figures that the learning rate depends on besides the optimiser and the run's tokens: see
/// [`crate::schedule`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ScheduleSpec {
    /// Tokens of the run, over all islands, in which the learning rate rises.
    pub warmup_tokens: u64,
    /// The point at which the rate fell anew, once the run was asked for another number of tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Anchor>,
}

/// A point of the schedule from which the learning rate falls to the floor at the run's end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Anchor {
    /// Tokens of the run.
    pub tokens: u64,
    /// The rate there, as a share of the peak.
    pub ratio: f64,
}

/// AdamW inside an island, with warm-up and cosine decay over the run's tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OptimizerSpec {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning rate at the end, as a fraction of the peak.
    pub min_learning_rate_ratio: f64,
    /// Steps of linear warm-up, counted in steps of the fastest island; the plan converts them to
    /// tokens ([`ScheduleSpec::warmup_tokens`]).
    pub warmup_steps: u64,
    /// Decoupled weight decay, on matrices only.
    pub weight_decay: f64,
    /// First moment's decay.
    pub beta1: f64,
    /// Second moment's decay.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Global gradient norm is clipped to this.
    pub grad_clip: f64,
}

/// The values that `TrainingRun` gives where nothing is said.
impl Default for OptimizerSpec {
    fn default() -> OptimizerSpec {
        OptimizerSpec {
            learning_rate: 3e-4,
            min_learning_rate_ratio: 0.1,
            warmup_steps: 500,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            grad_clip: 1.0,
        }
    }
}

/// SparseLoCo's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SparseSpec {
    /// Values kept of each full chunk of 4,096.
    pub top_k: u32,
    /// 1: sign and scale; 2: sign, scale and a magnitude bit.
    pub value_bits: u8,
    /// β of the error feedback.
    pub error_decay: f32,
    /// α of the outer step.
    pub outer_learning_rate: f32,
    /// How contributions are combined.
    pub rule: Rule,
    /// λ: share of the unsent residual that an island starts its next round from.
    pub retention: f32,
}

/// How contributions are combined into the outer step; equations in `sparseloco::outer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Divide by the weight of all islands (SparseLoCo's paper).
    Paper,
    /// Divide by the weight of the islands that sent the position, and clip the others' residual.
    Counted,
}

/// Held-out evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EvaluationSpec {
    /// After every so many rounds; the first and the last are always measured.
    pub every_rounds: u32,
    /// Validation sequences used, always the same ones.
    pub sequences: u32,
}

/// The plan that all ranks of an island share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IslandSpec {
    /// Name of the `ComputeIsland`.
    pub name: String,
    /// Position among the run's islands.
    pub index: u32,
    /// Epoch of the plan.
    pub epoch: u64,
    /// H: inner steps of a round.
    pub inner_steps: u32,
    /// Speed that the island is expected to train at, tokens a second.
    pub tokens_per_second: f64,
    /// How one replica of the model is cut over devices.
    pub sharding: Sharding,
    /// The batch of each data-parallel replica in an inner step; their number is the data-parallel
    /// size.
    pub batches: Vec<BatchSpec>,
    /// One entry for each process. Their devices, one after another, take the positions of the
    /// island in the order of [`crate::shard::Grid`].
    pub ranks: Vec<RankSpec>,
}

/// How one replica is cut: tensor-parallel within a stage, stage after stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Sharding {
    /// Devices that share each layer (tensor-parallel size); 1 shares nothing.
    pub tensor: u32,
    /// Pipeline stages from the embedding to the head; their number is the pipeline-parallel size.
    pub stages: Vec<StageSpec>,
    /// Compresses what goes between stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<PipelineCompression>,
}

impl Sharding {
    /// The whole model on one device.
    pub fn whole(layers: u32) -> Sharding {
        let stages = vec![StageSpec { layers, recompute: false }];
        Sharding { tensor: 1, stages, compression: None }
    }
}

/// One pipeline stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StageSpec {
    /// Decoder layers that it holds; the first stage has the embedding besides, the last one the
    /// head.
    pub layers: u32,
    /// Keep only the input of each layer between forward and backward, and compute the rest again.
    pub recompute: bool,
}

/// Activations between stages, and their gradients, go as coordinates in a subspace that all
/// stages share (Subspace Networks, arXiv 2506.01260; Heterogeneous SparseLoCo, arXiv 2601.02360).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PipelineCompression {
    /// k: dimensions of the subspace, at most the model's width.
    pub rank: u32,
}

/// The batch of one data-parallel replica in an inner step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BatchSpec {
    /// Micro-batches of an inner step.
    pub micro_batches: u32,
    /// Sequences of a micro-batch.
    pub micro_batch_size: u32,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RankSpec {
    /// The node that it runs on; absent where there is one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The devices that it computes on, at consecutive positions; not empty.
    pub devices: Vec<CardSpec>,
}

/// One device of a rank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CardSpec {
    /// Product name of the card, as GPU feature discovery writes it.
    pub product: String,
    /// The device that it computes on.
    pub device: DeviceSpec,
    /// Bytes of the card.
    pub memory_bytes: u64,
    /// Bytes of it that the plan expects to be used.
    pub planned_bytes: u64,
}

/// The precision of forward and backward; master weights, gradients and moments are f32 in any
/// case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32: CPUs, and cards older than Ampere.
    F32,
    /// bf16, from a copy of the f32 master weights.
    Bf16,
}

impl Precision {
    /// Bytes of a value.
    pub fn bytes(self) -> u32 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// The device that a rank computes on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum DeviceSpec {
    /// A CUDA device by index.
    Cuda {
        /// Index within the process's visible devices.
        index: u32,
        /// The precision that it computes in.
        precision: Precision,
    },
    /// This machine's CPU, which computes in f32.
    Cpu {
        /// Threads that libtorch uses.
        threads: u32,
        /// Slows the rank down to this share (0, 1] of the CPU's own speed: a card of that relative
        /// speed is emulated. 1 does not slow down.
        speed: f64,
    },
}

impl DeviceSpec {
    /// The precision that the device computes in.
    pub fn precision(&self) -> Precision {
        match self {
            DeviceSpec::Cuda { precision, .. } => *precision,
            DeviceSpec::Cpu { .. } => Precision::F32,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const RUN: &str = r#"{
        "name": "mini", "seed": 18446744073709551615,
        "model": {
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
            "vocab_size": 320, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "tie_word_embeddings": true, "initializer_range": 0.02
        },
        "data": "data", "sequenceLength": 64, "tokens": 1000, "referenceSteps": 30,
        "totalRounds": 3,
        "optimizer": {
            "learningRate": 0.0003, "minLearningRateRatio": 0.1, "warmupSteps": 10,
            "weightDecay": 0.1, "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "gradClip": 1.0
        },
        "schedule": {"warmupTokens": 640, "anchor": {"tokens": 700, "ratio": 0.1234567890123}},
        "sparse": {
            "topK": 64, "valueBits": 2, "errorDecay": 0.95, "outerLearningRate": 1.0,
            "rule": "counted", "retention": 0.5
        },
        "checkpointEveryRounds": 10, "evaluation": {"everyRounds": 5, "sequences": 8}
    }"#;

    /// A run of nothing in particular.
    pub(crate) fn run() -> RunSpec {
        serde_json::from_str(RUN).expect("a run")
    }
}
