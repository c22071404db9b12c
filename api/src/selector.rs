//! The nodes that an island may use, as Kubernetes' label selectors say it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crds::rule;
use crate::schema::FieldProblem;

/// Nodes, by their labels: those for which everything holds that stands here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelector {
    /// Labels that a node has to carry, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub match_labels: BTreeMap<String, String>,
    /// Further conditions on a node's labels, such as
    /// `{key: kubernetes.io/hostname, operator: In, values: [node-1, node-2]}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub match_expressions: Vec<NodeRequirement>,
}

/// A condition on one label of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rule(
    "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
    "In and NotIn need values, Exists and DoesNotExist take none"
)))]
pub struct NodeRequirement {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// `In`: the label is there and has one of the values; `NotIn`: it has none of them or is not
    /// there; `Exists` and `DoesNotExist`: it is or is not there, with any value.
    pub operator: NodeOperator,
    /// Values of the label, for `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "values")]
    pub values: Vec<String>,
}

/// How a label and values go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum NodeOperator {
    /// It is there and has one of the values.
    In,
    /// It has none of the values, or is not there.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// As many as an island may have nodes: a card in each.
fn values(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": plan::planner::CARDS_MAX,
        "items": { "type": "string", "maxLength": 63, "description": "A value of the label." },
    })
}

impl NodeSelector {
    /// Says whether a node with these labels is one of them; an empty selector takes every node.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let carries = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        self.match_labels.iter().all(carries)
            && self.match_expressions.iter().all(|requirement| requirement.holds(labels))
    }

    /// Its parts that make no sense, for the selector at `path`.
    pub(crate) fn problems(&self, path: &str) -> Vec<FieldProblem> {
        let requirements = self.match_expressions.iter().enumerate();
        let problem = |(i, requirement): (usize, &NodeRequirement)| {
            let path = format!("{path}.matchExpressions[{i}].values");
            Some(FieldProblem::new(path, requirement.problem()?))
        };
        requirements.filter_map(problem).collect()
    }
}

impl NodeRequirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            NodeOperator::In => listed,
            NodeOperator::NotIn => !listed,
            NodeOperator::Exists => value.is_some(),
            NodeOperator::DoesNotExist => value.is_none(),
        }
    }

    fn problem(&self) -> Option<String> {
        let compares = matches!(self.operator, NodeOperator::In | NodeOperator::NotIn);
        match (compares, self.values.is_empty()) {
            (true, true) => Some(format!("{:?} needs at least one value", self.operator)),
            (false, false) => Some(format!("{:?} takes no values: leave them out", self.operator)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn selector(yaml: &str) -> NodeSelector {
        serde_yaml::from_str(yaml).expect(yaml)
    }

    #[test]
    fn nodes_are_selected_as_kubernetes_selects_them() {
        let east = labels(&[("zone", "east"), ("disk", "")]);
        let cases = [
            ("{}", true),
            ("matchLabels: {zone: east}", true),
            ("matchLabels: {zone: west}", false),
            ("matchLabels: {zone: east, rack: r1}", false),
            ("matchLabels: {disk: ''}", true),
            ("matchLabels: {rack: ''}", false),
            ("matchExpressions: [{key: zone, operator: In, values: [west, east]}]", true),
            ("matchExpressions: [{key: zone, operator: In, values: [west]}]", false),
            ("matchExpressions: [{key: rack, operator: In, values: ['']}]", false),
            ("matchExpressions: [{key: zone, operator: NotIn, values: [west, east]}]", false),
            ("matchExpressions: [{key: zone, operator: NotIn, values: [west]}]", true),
            ("matchExpressions: [{key: rack, operator: NotIn, values: [r1]}]", true),
            ("matchExpressions: [{key: disk, operator: Exists}]", true),
            ("matchExpressions: [{key: rack, operator: Exists}]", false),
            ("matchExpressions: [{key: rack, operator: DoesNotExist}]", true),
            ("matchExpressions: [{key: zone, operator: DoesNotExist}]", false),
        ];
        for (yaml, selected) in cases {
            assert_eq!(selector(yaml).selects(&east), selected, "{yaml}");
        }
    }

    #[test]
    fn labels_and_expressions_have_to_hold_all() {
        let both = "{matchLabels: {zone: east}, matchExpressions: [{key: rack, operator: Exists}, \
                    {key: rack, operator: NotIn, values: [r9]}]}";
        let cases = [
            (&[("zone", "east"), ("rack", "r1")][..], true),
            (&[("zone", "east"), ("rack", "r9")], false),
            (&[("zone", "east")], false),
            (&[("rack", "r1")], false),
            (&[], false),
        ];
        for (of, selected) in cases {
            assert_eq!(selector(both).selects(&labels(of)), selected, "{of:?}");
        }
    }
}

#[cfg(test)]
mod laws;
