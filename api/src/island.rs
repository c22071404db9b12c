//! `ComputeIsland`: GPUs that act as one participant of a run.

// kube repeats `type_` for every printed column.
#![allow(clippy::duplicated_attributes)]

mod count;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crds::{immutable, rule};
use crate::selector::NodeSelector;
use crate::status::{Condition, conditions};
use crate::text::{Decimal, DurationText, Quantity};

pub(crate) use count::CARDS_MAX;
pub use count::{Count, CountRange};

/// GPUs with fast links between them that act as one participant of a run: one replica of the
/// model, trained on its own share of the data, and a sparse exchange with the other islands once a
/// round.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "heteroloco.dev",
    version = "v1alpha1",
    kind = "ComputeIsland",
    namespaced,
    status = "ComputeIslandStatus",
    derive = "PartialEq",
    shortname = "islands",
    shortname = "island",
    shortname = "isl",
    category = "heteroloco",
    doc = "GPUs with fast links between them that act as one participant of a training run.",
    printcolumn(name = "Run", type_ = "string", json_path = ".spec.runRef.name"),
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
    printcolumn(name = "GPUs", type_ = "integer", json_path = ".status.plan.cards"),
    printcolumn(name = "Memory", type_ = "string", json_path = ".status.plan.memory"),
    printcolumn(name = "Plan", type_ = "string", json_path = ".status.plan.layout"),
    printcolumn(name = "Round", type_ = "integer", json_path = ".status.round"),
    printcolumn(name = "Tok/s", type_ = "integer", json_path = ".status.tokensPerSecond"),
    printcolumn(
        name = "Planned Tok/s",
        type_ = "integer",
        json_path = ".status.plan.tokensPerSecond",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.runRef.name"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rule(
    "self.objective != 'PerCost' || self.devices.all(device, has(device.costPerHour))",
    "objective PerCost needs costPerHour of every device"
)))]
pub struct ComputeIslandSpec {
    /// The run that the island takes part in.
    #[schemars(extend("x-kubernetes-validations" = immutable("an island stays with its run")))]
    pub run_ref: RunRef,
    /// The goal of the island's plan: `Throughput` is tokens a second, `PerWatt` these for each
    /// watt of the cards used, `PerCost` these for what the cards used cost. With the last two,
    /// cards that are not worth it may be left unused.
    #[serde(default)]
    pub objective: Objective,
    /// Cards that may be used, best first.
    #[schemars(length(min = 1, max = 32))]
    #[schemars(extend("x-kubernetes-validations" = rule(
        "self.all(device, self.exists_one(other, other.product == device.product))",
        "list every product once"
    )))]
    pub devices: Vec<Device>,
    /// Least memory over all its cards together, mixed as they may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_memory: Option<Quantity>,
    /// Nodes whose cards may be used; all nodes where absent. Clusters only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<NodeSelector>,
    /// The island's link to the others, by which rounds are planned; measured where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<Uplink>,
    /// How the island treats other users of its cards. Clusters only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Idle>,
    /// Layout over the cards; what is absent is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<Parallelism>,
    /// Settings of what pipeline stages keep and send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<Pipeline>,
    /// Whether the island gives its cards back and rests until this is false. Clusters only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// How long all of the island's pods may take to run together: then they are deleted, so that
    /// none holds a card in vain, and tried again later; `10m` where absent. Clusters only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_deadline: Option<DurationText>,
    /// Taints of nodes that the island's pods tolerate. Clusters only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
}

/// A taint that is tolerated, as pods say it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's key; every key where absent, with the operator `Exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317))]
    pub key: Option<String>,
    /// `Equal` or `Exists`.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// The taint's value, for `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// The taint's effect; every effect where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// How a toleration meets a taint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum TolerationOperator {
    /// Key and value are the taint's.
    #[default]
    Equal,
    /// The key is the taint's.
    Exists,
}

/// The effect of a taint on pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum TaintEffect {
    /// None is placed there.
    NoSchedule,
    /// None is placed there if there is another node.
    PreferNoSchedule,
    /// None stays there.
    NoExecute,
}

/// The goal of an island's plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Objective {
    /// Tokens a second.
    #[default]
    Throughput,
    /// Tokens a second for each watt of the cards used.
    PerWatt,
    /// Tokens a second for what the cards used cost.
    PerCost,
}

/// A `TrainingRun` in the island's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunRef {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// Cards of one product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// The product as GPU feature discovery labels it (`nvidia.com/gpu.product`), such as
    /// `NVIDIA-H100-80GB-HBM3`; a trailing `*` matches a family; `cpu` computes on the CPU. Slices
    /// of MIG and shared cards are used only where it says so: `NVIDIA-A100-SXM4-40GB-MIG-3g.20gb`,
    /// `NVIDIA-A100-SXM4-40GB-MIG-*`, `Tesla-T4-SHARED`.
    #[schemars(length(min = 1, max = 63))]
    pub product: String,
    /// How many: a number, or `{min, max}` to take what there is.
    #[serde(default)]
    #[schemars(schema_with = "count")]
    pub count: Count,
    /// Memory of one card, where the label lies; needed where neither the GPU catalogue nor the
    /// machine says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Dense TFLOP/s of one card in what it trains in (bf16, or f32 where the card has no bf16),
    /// such as `"330"`: above 0 and at most 100000. Takes the place of the GPU catalogue's figure;
    /// needed where neither that nor a measurement says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tflops: Option<Decimal>,
    /// Cost of one card for an hour, such as `"1.89"`, in any currency, the same for all devices:
    /// above 0. Objective `PerCost` needs it of every device; nothing else looks at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_hour: Option<Decimal>,
}

/// A number or an object is not a type of Kubernetes' schemas: the field is left open there, and
/// checked here and by the operator.
fn count(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}

/// A link to the other islands, bits per second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Uplink {
    /// From the island.
    pub up: Quantity,
    /// To the island.
    pub down: Quantity,
}

/// How an island treats other users of its cards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Idle {
    /// Says whether the island gives way.
    pub policy: IdlePolicy,
    /// How long cards have to be idle before the island takes them back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<DurationText>,
}

/// Says whether an island gives way to other users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum IdlePolicy {
    /// Its cards are its own.
    Dedicated,
    /// It uses what nobody else wants, and gives way at once.
    Harvest,
}

/// Layout over an island's cards; what is absent is planned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Parallelism {
    /// Cards that share each layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub tensor: Option<u32>,
    /// Stages that hold consecutive layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub pipeline: Option<u32>,
    /// Replicas inside the island.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub data: Option<u32>,
}

/// Settings of what pipeline stages keep between forward and backward, and send to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pipeline {
    /// Compresses activations and their gradients between stages, for slow links inside the island;
    /// nothing is compressed where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// True to compute activations again in backward, which takes a third more time and less
    /// memory; where absent, only if memory demands it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recompute: Option<bool>,
}

/// Compression to a subspace that all stages share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Compression {
    /// Dimensions of the subspace, at most the model's hidden_size; fewer send less and cost more
    /// loss.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub rank: u32,
    /// `Always`, or `WhereSlow`: only where the links between stages slow the island down, as
    /// compression costs loss and gains nothing on fast links.
    #[serde(default)]
    pub mode: CompressionMode,
}

/// Says when stages compress what they send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum CompressionMode {
    /// Whatever the links are.
    #[default]
    Always,
    /// Only where links slow the island down.
    WhereSlow,
}

/// The operator's account of an island.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComputeIslandStatus {
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Planned`: there is a plan. `CapacitySatisfied`: the cards that the island asks for are
    /// there. `Joined`: the run counts it as a member. `Degraded`: it goes on, but not as it
    /// should.
    /// `Ready`: it trains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Cards that were found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub devices: Vec<FoundDevice>,
    /// The plan in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,
    /// The round that the island is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<i64>,
    /// Tokens that the island has given to the run, in all rounds that were ever committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<i64>,
    /// Tokens per second that it has given since its ranks last started, to two digits: measured,
    /// with exchanges and waits. `plan.tokensPerSecond` is what was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<i64>,
    /// Its share of the run's tokens, a percentage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub share: Option<String>,
}

/// Cards of one product on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundDevice {
    /// The node.
    #[schemars(length(max = 253))]
    pub node: String,
    /// The product.
    #[schemars(length(max = 63))]
    pub product: String,
    /// How many.
    #[schemars(range(max = 1024))]
    pub count: u32,
    /// Memory of one.
    pub memory: Quantity,
}

/// The plan in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// Its epoch; older epochs are refused. Grows whenever the ranks start again.
    pub epoch: i64,
    /// The generation of the spec that it was made for.
    pub generation: i64,
    /// The generation of the run's spec that it was made for.
    #[serde(default)]
    pub run_generation: i64,
    /// The phase that its pods are in.
    pub phase: PlanPhase,
    /// The time at which it came to this phase, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// Epochs that broke, one after another, since it last ran for a while.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(max = 1_000_000))]
    pub failures: u32,
    /// The island's place among the run's islands.
    #[schemars(range(max = 1_000_000))]
    pub index: u32,
    /// Data-, pipeline- and tensor-parallel sizes, such as `2×4×1`.
    #[schemars(length(max = 32))]
    pub layout: String,
    /// Cards that take part.
    #[schemars(range(max = 1024))]
    pub cards: u32,
    /// Memory of these cards.
    pub memory: Quantity,
    /// H: inner steps of a round; absent until the run has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_000_000))]
    pub inner_steps: Option<u32>,
    /// Seconds of an inner step that are expected.
    pub step_seconds: Decimal,
    /// Tokens per second that are expected.
    pub tokens_per_second: i64,
    /// The part of the model that each rank holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub ranks: Vec<RankStatus>,
    /// Why it is so, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "sentences")]
    pub reasons: Vec<String>,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

fn sentences(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": { "type": "string", "maxLength": 1024, "description": "A sentence." },
    })
}

/// The phase that the pods of a plan are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum PlanPhase {
    /// Cards are set aside; the run has not begun.
    Planned,
    /// Pods are made.
    Starting,
    /// All ranks ran at the same time.
    Running,
    /// A rank ended too early, or never ran; the others are being deleted.
    Stopping,
    /// Nothing runs; it is tried again after a wait.
    Waiting,
    /// All ranks ended well.
    Done,
    /// It would break again in the same way; change the spec.
    Failed,
}

/// The part of the model that one rank holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RankStatus {
    /// The node.
    #[schemars(length(max = 253))]
    pub node: String,
    /// The card.
    #[schemars(length(max = 63))]
    pub product: String,
    /// Cards of that product that it drives.
    #[schemars(range(max = 64))]
    pub count: u32,
    /// Its layers, such as `0-15`; of several stages one after another.
    #[schemars(length(max = 256))]
    pub layers: String,
    /// Memory that it is expected to need.
    pub memory: Quantity,
    /// Memory of the card beyond that.
    pub headroom: Quantity,
}

impl Toleration {
    /// Says whether a taint of this key, value and effect is tolerated.
    pub fn tolerates(&self, key: &str, value: &str, effect: &str) -> bool {
        let effect_name = |own: TaintEffect| match own {
            TaintEffect::NoSchedule => "NoSchedule",
            TaintEffect::PreferNoSchedule => "PreferNoSchedule",
            TaintEffect::NoExecute => "NoExecute",
        };
        self.effect.is_none_or(|own| effect_name(own) == effect)
            && match (&self.key, self.operator) {
                (None, operator) => operator == TolerationOperator::Exists,
                (Some(own), TolerationOperator::Exists) => own == key,
                (Some(own), TolerationOperator::Equal) => {
                    own == key && self.value.as_deref().unwrap_or_default() == value
                }
            }
    }
}

#[cfg(test)]
mod tests;
