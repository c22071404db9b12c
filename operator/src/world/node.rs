//! What of a node matters.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Taint};
use plan::cluster::Node as Machine;

/// A node with cards that can be used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeFacts {
    /// Its cards, all that are allocatable.
    pub machine: Machine,
    pub labels: BTreeMap<String, String>,
    /// Taints that keep pods away: (key, value, effect).
    pub taints: Vec<(String, String, String)>,
}

impl NodeFacts {
    /// `None` where there is no card that can be used now. A node that is cordoned or not ready has
    /// none.
    pub(crate) fn of(node: Node) -> Option<Self> {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let (machine, labels) = api::nodes::of_object(node).ok()?;
        let keeps_away = |taint: &Taint| taint.effect != "PreferNoSchedule";
        let taint = |taint: Taint| (taint.key, taint.value.unwrap_or_default(), taint.effect);
        let taints = taints.into_iter().filter(keeps_away).map(taint).collect();
        Some(Self { machine, labels, taints })
    }

    /// Whether pods with these tolerations may be there.
    pub(crate) fn admits(&self, tolerations: &[api::island::Toleration]) -> bool {
        self.taints.iter().all(|(key, value, effect)| {
            // The device plugin's own taint, which Kubernetes lets pods tolerate that ask for cards.
            key == crate::names::GPU
                || tolerations.iter().any(|it| it.tolerates(key, value, effect))
        })
    }
}
