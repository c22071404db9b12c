//! Conditions, which all kinds report in the same way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One aspect of a resource's state, as in `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The aspect that it is about, such as `Ready`.
    #[serde(rename = "type")]
    #[schemars(length(max = 316))]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: ConditionStatus,
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The time at which `status` last changed, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// One CamelCase word for programs.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// A sentence for people; says what to change where something is wrong.
    #[schemars(length(max = 32768))]
    pub message: String,
}

impl Condition {
    /// The condition of a type, where something was said of it.
    pub fn find(all: &[Self], kind: ConditionType) -> Option<&Self> {
        all.iter().find(|condition| condition.kind == kind.as_str())
    }
}

/// The aspects that the operator's conditions are about. What other programs add is a text of
/// their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionType {
    /// It does what it is there for.
    Ready,
    /// An island has a plan.
    Planned,
    /// The cards that an island asks for are there.
    CapacitySatisfied,
    /// The run counts an island as a member.
    Joined,
    /// An island goes on, but not as it should.
    Degraded,
    /// A run's coordinator answers.
    Coordinated,
    /// All tokens of a run are trained on.
    Complete,
}

impl ConditionType {
    /// Its name, as `type` of a condition has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Planned => "Planned",
            Self::CapacitySatisfied => "CapacitySatisfied",
            Self::Joined => "Joined",
            Self::Degraded => "Degraded",
            Self::Coordinated => "Coordinated",
            Self::Complete => "Complete",
        }
    }
}

/// Says whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

/// Conditions, one of each type, as server-side apply merges them.
pub(crate) fn conditions(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let items = generator.subschema_for::<Condition>();
    schemars::json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": items,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}
