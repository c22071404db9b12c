//! `IslandPool`: nodes that the operator groups into `ComputeIsland`s by itself.

// kube repeats `type_` for every printed column.
#![allow(clippy::duplicated_attributes)]

use kube::CustomResource;
use plan::grouping::Wishes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::convert;
use crate::crds::{immutable, rule};
use crate::island::{Idle, Objective, Pipeline, RunRef, Toleration};
use crate::schema::FieldProblem;
use crate::selector::NodeSelector;
use crate::status::{Condition, conditions};
use crate::text::Quantity;

/// Nodes whose cards are grouped into islands, so that these make the most tokens a second. The
/// islands follow the nodes as these come and go.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "heteroloco.dev",
    version = "v1alpha1",
    kind = "IslandPool",
    namespaced,
    status = "IslandPoolStatus",
    derive = "PartialEq",
    shortname = "ipool",
    category = "heteroloco",
    doc = "Nodes that are grouped into ComputeIslands.",
    printcolumn(name = "Run", type_ = "string", json_path = ".spec.runRef.name"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes"),
    printcolumn(name = "Islands", type_ = "integer", json_path = ".status.islands"),
    printcolumn(name = "GPUs", type_ = "integer", json_path = ".status.cards"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rule(
    "!has(self.minMemory) || !has(self.maxMemory) || \
     quantity(self.minMemory).compareTo(quantity(self.maxMemory)) <= 0",
    "minMemory is more than maxMemory"
)))]
pub struct IslandPoolSpec {
    /// The run that the islands take part in.
    #[schemars(extend("x-kubernetes-validations" = immutable("a pool stays with its run")))]
    pub run_ref: RunRef,
    /// Nodes that are grouped; all nodes where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<NodeSelector>,
    /// Products that may be used, as GPU feature discovery labels them; a trailing `*` matches a
    /// family; all whole cards where empty. Slices of MIG and shared cards have to be named, as in
    /// `devices` of a ComputeIsland.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "products")]
    pub products: Vec<String>,
    /// `Topology`: nodes go together that hold the model only so, and nodes of one NVLink domain,
    /// rack or zone that are faster so, with whatever cards. `Product`: the same, but only of nodes
    /// with cards of the same product.
    #[serde(default)]
    pub group_by: GroupBy,
    /// Least memory of an island over all its cards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_memory: Option<Quantity>,
    /// Most memory of an island over all its cards; more is split between nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<Quantity>,
    /// Fields that all of its islands get.
    #[serde(default)]
    pub template: IslandTemplate,
}

/// The rule by which nodes make an island.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum GroupBy {
    /// Fast links.
    #[default]
    Topology,
    /// Fast links and the same cards.
    Product,
}

/// Fields that all islands of a pool get, as in `ComputeIsland`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IslandTemplate {
    /// The goal of an island's plan.
    pub objective: Objective,
    /// How an island treats other users of its cards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Idle>,
    /// Settings of what pipeline stages keep and send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<Pipeline>,
    /// Taints of nodes that the island's pods tolerate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
}

fn products(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string", "minLength": 1, "maxLength": 63,
            "description": "A product, or a family with a trailing `*`.",
        },
    })
}

impl IslandPool {
    /// The wishes that every island has to meet.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn wishes(&self) -> Result<Wishes, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut bytes = |path: &str, text: &Option<Quantity>| {
            let parsed = text.as_ref().map(Quantity::bytes).transpose();
            parsed.unwrap_or_else(|error| {
                problems.push(FieldProblem::new(path, error.to_string()));
                None
            })
        };
        let min_memory = bytes("spec.minMemory", &self.spec.min_memory);
        let max_memory = bytes("spec.maxMemory", &self.spec.max_memory);
        if min_memory.zip(max_memory).is_some_and(|(min, max)| min > max) {
            let message = "is more than maxMemory: lower it, or raise maxMemory";
            problems.push(FieldProblem::new("spec.minMemory", message.to_owned()));
        }
        if let Some(selector) = &self.spec.node_selector {
            problems.extend(selector.problems("spec.nodeSelector"));
        }
        problems.extend(convert::island::tolerations(
            &self.spec.template.tolerations,
            "spec.template.tolerations",
        ));
        let products = self.spec.products.clone();
        if problems.is_empty() {
            let template = &self.spec.template;
            let objective = convert::island::objective(template.objective);
            let pipeline = convert::island::pipeline(template.pipeline.as_ref());
            Ok(Wishes { min_memory, max_memory, products, objective, pipeline })
        } else {
            Err(problems)
        }
    }
}

/// The operator's account of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IslandPoolStatus {
    /// The generation of the spec that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: all nodes are grouped as they should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Nodes with cards that the pool selects.
    #[schemars(range(max = 100_000))]
    pub nodes: u32,
    /// Islands that it made of them.
    #[schemars(range(max = 100_000))]
    pub islands: u32,
    /// Cards of these islands.
    #[schemars(range(max = 1_000_000))]
    pub cards: u32,
    /// Nodes that are in no island, and why, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "left_out")]
    pub left_out: Vec<String>,
}

fn left_out(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": { "type": "string", "maxLength": 1024, "description": "A sentence." },
    })
}

#[cfg(test)]
mod tests;
