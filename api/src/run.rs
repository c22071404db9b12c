//! `TrainingRun`: one model being trained by islands.

// kube repeats `type_` for every printed column.
#![allow(clippy::duplicated_attributes)]

use kube::CustomResource;
use plan::model::PRESETS;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::advice;
use crate::crds::{immutable, rule};
use crate::schema::{self, FieldProblem};
use crate::status::{Condition, conditions};
use crate::text::{Decimal, DurationText, Percent, Quantity};

/// One model being trained by islands of any size with SparseLoCo.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "heteroloco.dev",
    version = "v1alpha1",
    kind = "TrainingRun",
    namespaced,
    status = "TrainingRunStatus",
    derive = "PartialEq",
    shortname = "trun",
    category = "heteroloco",
    doc = "One model being trained by islands of any size with SparseLoCo.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Round", type_ = "integer", json_path = ".status.round"),
    printcolumn(name = "Tokens", type_ = "integer", json_path = ".status.tokens"),
    printcolumn(name = "Loss", type_ = "string", json_path = ".status.loss"),
    printcolumn(name = "Islands", type_ = "string", json_path = ".status.islands"),
    printcolumn(
        name = "Checkpoint",
        type_ = "integer",
        json_path = ".status.checkpoint.round",
        priority = 1
    ),
    printcolumn(name = "ETA", type_ = "string", json_path = ".status.eta"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TrainingRunSpec {
    /// The model.
    #[schemars(extend("x-kubernetes-validations" = model_rules()))]
    pub model: Model,
    /// The text that it is trained on.
    pub data: Data,
    /// Tokens after which the run is done.
    #[schemars(range(min = 1))]
    pub tokens: i64,
    /// Seed of initialisation and data order.
    #[serde(default)]
    #[schemars(range(min = 0))]
    #[schemars(extend("x-kubernetes-validations" = immutable("a run keeps its seed")))]
    pub seed: i64,
    /// The batch of an inner step.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-validations" = immutable("a run keeps its batch")))]
    pub batch: Batch,
    /// AdamW inside an island.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// The sparse exchange between islands.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-validations" = immutable("a run keeps its exchange")))]
    pub sparse_lo_co: SparseLoCo,
    /// The rules by which a round ends.
    #[serde(default)]
    pub rounds: Rounds,
    /// Held-out loss.
    #[serde(default)]
    pub evaluation: Evaluation,
    /// Checkpoints: what survives the pods.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// The coordinator, which keeps members, rounds and the record of the run. Clusters only.
    #[serde(default)]
    pub coordinator: Coordinator,
    /// Whether all islands give their cards back and rest until this is false; the coordinator
    /// stays. Clusters only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// The controller that looks after the run, such as `kueue.x-k8s.io/multikueue`; the operator
    /// where absent. Clusters only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[schemars(extend("x-kubernetes-validations" = immutable("a run keeps who manages it")))]
    pub managed_by: Option<String>,
}

/// A field's rules take the place of its type's, so that both stand here.
fn model_rules() -> serde_json::Value {
    serde_json::json!([
        {
            "rule": "[has(self.preset), has(self.config), has(self.from)].exists_one(set, set)",
            "message": "set one of preset, config and from",
        },
        { "rule": "self == oldSelf", "message": "a run keeps its model" },
    ])
}

/// A model: a preset, Hugging Face's `LlamaConfig` keys, or one that is there already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// A model by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = PRESETS))]
    pub preset: Option<String>,
    /// A model by its sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ModelConfig>,
    /// Folder of a Llama model in Hugging Face's form: its `config.json` is the model, and its
    /// parameters are where training starts; on one machine relative to the current folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub from: Option<String>,
}

/// Hugging Face's `LlamaConfig` keys that define the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelConfig {
    /// Width of the residual stream.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub hidden_size: u32,
    /// Width of the gated feed-forward layer.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub intermediate_size: u32,
    /// Decoder layers.
    #[schemars(range(min = 1, max = 4096))]
    pub num_hidden_layers: u32,
    /// Query heads.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub num_attention_heads: u32,
    /// Key and value heads; as many as query heads where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub num_key_value_heads: Option<u32>,
    /// Width of one head; `hidden_size / num_attention_heads` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub head_dim: Option<u32>,
    /// Tokens in the vocabulary.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub vocab_size: u32,
    /// Longest sequence.
    #[serde(default = "default_positions")]
    #[schemars(range(min = 1, max = 16_777_216))]
    pub max_position_embeddings: u32,
    /// Added to the variance in RMSNorm.
    #[serde(default = "default_eps")]
    pub rms_norm_eps: Decimal,
    /// Base of the rotary embedding.
    #[serde(default = "default_theta")]
    pub rope_theta: Decimal,
    /// Whether the output head is the embedding matrix.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Standard deviation of the initial weights.
    #[serde(default = "default_initializer")]
    pub initializer_range: Decimal,
}

fn default_positions() -> u32 {
    2048
}

fn default_eps() -> Decimal {
    "1e-6".into()
}

fn default_theta() -> Decimal {
    "10000".into()
}

fn default_initializer() -> Decimal {
    "0.02".into()
}

/// The text that a model is trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    /// Folder made by `heteroloco data prepare`; on one machine relative to the current folder.
    #[schemars(length(min = 1, max = 4096))]
    pub path: String,
    /// `byte`, or the path of the Hugging Face `tokenizer.json` that the data was prepared with.
    #[serde(default = "default_tokenizer")]
    #[schemars(length(min = 1, max = 4096))]
    pub tokenizer: String,
    /// The volume that is mounted at `path`, to be read only. Clusters only, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
}

/// The place of a folder in a cluster: one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rule(
    "has(self.claimName) != has(self.hostPath)",
    "set one of claimName and hostPath"
)))]
pub struct Volume {
    /// A PersistentVolumeClaim of the run's namespace; islands on several nodes need one that these
    /// can mount together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: Option<String>,
    /// A folder that every node has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub host_path: Option<String>,
    /// Folder in the volume; its root where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub sub_path: Option<String>,
}

/// The coordinator of a run, which keeps members, rounds and the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Coordinator {
    /// Size of its volume.
    #[schemars(extend("x-kubernetes-validations" = immutable("a volume keeps its size")))]
    pub storage: Quantity,
    /// Class of its volume; the cluster's default where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[schemars(extend("x-kubernetes-validations" = immutable("a volume keeps its class")))]
    pub storage_class_name: Option<String>,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self { storage: "1Gi".into(), storage_class_name: None }
    }
}

fn default_tokenizer() -> String {
    "byte".into()
}

/// The batch of an inner step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Batch {
    /// Sequences of one inner step of one island.
    #[schemars(range(min = 1, max = 65_536))]
    pub sequences: u32,
    /// Tokens of a sequence; the model's longest where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_777_216))]
    pub sequence_length: Option<u32>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { sequences: 64, sequence_length: None }
    }
}

/// AdamW with linear warm-up and cosine decay over the run's tokens; the warm-up is given in inner
/// steps of the fastest island.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Optimizer {
    /// Peak learning rate.
    pub learning_rate: Decimal,
    /// Learning rate at the end, as a fraction of the peak.
    pub min_learning_rate_ratio: Decimal,
    /// Inner steps of linear warm-up.
    #[schemars(range(min = 0, max = 100_000_000))]
    pub warmup_steps: u32,
    /// Decoupled weight decay, on matrices only.
    pub weight_decay: Decimal,
    /// First moment's decay.
    pub beta1: Decimal,
    /// Second moment's decay.
    pub beta2: Decimal,
    /// Added to the root of the second moment.
    pub epsilon: Decimal,
    /// Global gradient norm is clipped to this.
    pub grad_clip: Decimal,
}

impl Default for Optimizer {
    fn default() -> Self {
        Self {
            learning_rate: "3e-4".into(),
            min_learning_rate_ratio: "0.1".into(),
            warmup_steps: 500,
            weight_decay: "0.1".into(),
            beta1: "0.9".into(),
            beta2: "0.95".into(),
            epsilon: "1e-8".into(),
            grad_clip: "1.0".into(),
        }
    }
}

/// The sparse exchange between islands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SparseLoCo {
    /// H of the fastest island: inner steps between exchanges; the others' follow from their speed.
    /// `auto` or a number.
    #[schemars(schema_with = "inner_steps")]
    #[schemars(extend("x-kubernetes-validations" = rule(
        "type(self) == int ? self >= 1 && self <= 100000 : self == 'auto'",
        "innerSteps is auto or a number from 1 to 100000"
    )))]
    pub inner_steps: InnerSteps,
    /// Values of a chunk.
    #[schemars(extend("x-kubernetes-validations" = rule(
        "self == 4096",
        "this version has chunks of 4096 only"
    )))]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub chunk: u32,
    /// Values kept of each chunk.
    #[schemars(range(min = 1, max = 4096))]
    pub top_k: u32,
    /// 1: sign and scale; 2: sign, scale and a magnitude bit.
    #[schemars(range(min = 1, max = 2))]
    pub value_bits: u32,
    /// β of the error feedback, above 0 and at most 1.
    pub error_decay: Decimal,
    /// α of the outer step, above 0; `1.5` with the rule `counted` and `1.0` with `paper` where
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outer_learning_rate: Option<Decimal>,
    /// How contributions are combined: `paper` divides by the weight of all islands, `counted` by
    /// the weight of those that sent a position, and clips the others' residual.
    pub rule: OuterRule,
    /// λ: share of the residual that an island keeps in its own weights, 0 to 1; `0.5` with the
    /// rule `counted` and `0` with `paper` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Decimal>,
    /// Rounds by which the exchange may lag behind training.
    #[schemars(extend("x-kubernetes-validations" = rule(
        "self == 0",
        "this version has no overlap: set 0"
    )))]
    #[schemars(range(min = 0, max = 1_000))]
    pub overlap: u32,
}

impl Default for SparseLoCo {
    fn default() -> Self {
        Self {
            inner_steps: InnerSteps::Auto(Auto::Auto),
            chunk: 4096,
            top_k: 64,
            value_bits: 2,
            error_decay: "0.95".into(),
            outer_learning_rate: None,
            rule: OuterRule::Counted,
            retention: None,
            overlap: 0,
        }
    }
}

/// H of the fastest island.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum InnerSteps {
    /// As many.
    Fixed(u32),
    /// Chosen by the planner.
    Auto(Auto),
}

impl<'de> Deserialize<'de> for InnerSteps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::of(&value).map_err(|problem| D::Error::custom(problem.message))
    }
}

impl InnerSteps {
    /// The steps that a value stands for; whether they make sense is asked later.
    ///
    /// # Errors
    /// What to write in its place.
    pub(crate) fn of(value: &Value) -> Result<Self, FieldProblem> {
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        if let Some(number) = number {
            return Ok(Self::Fixed(number));
        }
        if value == "auto" {
            return Ok(Self::Auto(Auto::Auto));
        }
        let why = format!("it has to be auto or a number, not {}", schema::name(value));
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let number = advice::whole(&text).filter(|number| (1..=100_000).contains(number));
        let word = advice::nearest(&text, ["auto"].into_iter());
        match number.map(|it| it.to_string()).or(word.map(str::to_owned)) {
            Some(meant) => Err(FieldProblem {
                meant: Some(number.map_or_else(|| meant.as_str().into(), Value::from)),
                ..FieldProblem::new("", format!("{why}: {}", advice::write(&meant)))
            }),
            None => Err(FieldProblem::new("", why)),
        }
    }
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// `auto`.
    Auto,
}

fn inner_steps(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "x-kubernetes-int-or-string": true })
}

/// How contributions are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum OuterRule {
    /// Divide by the weight of all islands (SparseLoCo's paper).
    Paper,
    /// Divide by the weight of the islands that sent the position, and clip the others' residual.
    Counted,
}

/// The rules by which a round ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rounds {
    /// Share of the islands whose contributions suffice once `grace` has passed.
    pub quorum: Percent,
    /// Wait for the others after the quorum.
    pub grace: DurationText,
    /// Longest that islands train in a round, once one of them has offered: it closes with what is
    /// there. A plan has the whole round, exchange included, fit into 80 % of it.
    pub deadline: DurationText,
    /// A word that the run may go back behind checkpoints that are known, and go on without islands
    /// that hold newer rounds: where they are lost for good.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub go_back: bool,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { quorum: "60%".into(), grace: "30s".into(), deadline: "25m".into(), go_back: false }
    }
}

/// Held-out loss, measured on the validation part of the data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Evaluation {
    /// After every so many rounds; the first and the last are always measured.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub every_rounds: u32,
    /// Validation sequences used, always the same ones.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub sequences: u32,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self { every_rounds: 10, sequences: 64 }
    }
}

/// Checkpoints: what survives the pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Checkpoint {
    /// Folder; on one machine the run folder's own where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub path: Option<String>,
    /// The volume that is mounted at `path`; where absent, checkpoints are lost with their pod.
    /// Clusters only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// After every so many rounds.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub every_rounds: u32,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { path: None, volume: None, every_rounds: 10 }
    }
}

/// The operator's account of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrainingRunStatus {
    /// The generation of the spec that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Coordinated`: the coordinator answers. `Ready`: enough islands train. `Complete`: all
    /// tokens are trained on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// The round in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round: Option<i64>,
    /// Tokens of all committed rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<i64>,
    /// Training loss of the last committed round, weighted by tokens, nats per token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub loss: Option<String>,
    /// Islands ready of all, such as `3/4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub islands: Option<String>,
    /// Bytes that one island sends in a round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_round: Option<Quantity>,
    /// Share of the time in which the islands compute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilisation: Option<Percent>,
    /// Time that is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub eta: Option<String>,
    /// The newest checkpoint that an island has written whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointStatus>,
}

/// A checkpoint: folder `ISLAND/round-…` below the run's `checkpoint.path`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// The round that a run which begins with it goes on with.
    pub round: i64,
    /// The island that wrote it.
    #[schemars(length(max = 63))]
    pub island: String,
}
