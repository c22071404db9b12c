//! What of a node matters.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Taint};
use plan::cluster::{Links, Node as Machine, Topology};

/// The label by which a node is known to have GPUs.
const PRODUCT: &str = "nvidia.com/gpu.product";

/// A node with GPUs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeFacts {
    /// Its cards, all that are allocatable.
    pub machine: Machine,
    /// The same while it is cordoned or not ready.
    pub nominal: Machine,
    /// Why its cards cannot be used, a clause: then the machine has none.
    pub unusable: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Taints that keep pods away: (key, value, effect).
    pub taints: Vec<(String, String, String)>,
}

/// A node as it is when nothing is wrong with it.
fn nominal(mut node: Node) -> Option<Machine> {
    if let Some(spec) = &mut node.spec {
        spec.unschedulable = None;
    }
    if let Some(status) = &mut node.status {
        status.conditions = None;
    }
    api::nodes::of_object(node).ok().map(|(machine, _)| machine)
}

impl NodeFacts {
    /// `None` of a node without GPUs. A node that is cordoned or not ready has none that can be
    /// used.
    pub(crate) fn of(node: Node) -> Option<Self> {
        let nominal = nominal(node.clone());
        let own = node.metadata.labels.clone().unwrap_or_default();
        if !own.contains_key(PRODUCT) {
            return None;
        }
        let name = node.metadata.name.clone().unwrap_or_default();
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let (machine, labels, unusable) = match api::nodes::of_object(node) {
            Ok((machine, labels)) => (machine, labels, None),
            Err(why) => {
                let (topology, links) = (Topology::default(), Links::default());
                (Machine { name, topology, cards: vec![], links }, own, Some(why))
            }
        };
        let keeps_away = |taint: &Taint| taint.effect != "PreferNoSchedule";
        let taint = |taint: Taint| (taint.key, taint.value.unwrap_or_default(), taint.effect);
        let taints = taints.into_iter().filter(keeps_away).map(taint).collect();
        let nominal = nominal.unwrap_or_else(|| machine.clone());
        Some(Self { machine, nominal, unusable, labels, taints })
    }

    /// Whether pods with these tolerations may be there.
    pub(crate) fn admits(&self, tolerations: &[api::island::Toleration]) -> bool {
        self.taints.iter().all(|(key, value, effect)| {
            // The device plugin's own taint, which pods tolerate that ask for cards.
            key == crate::names::GPU
                || tolerations.iter().any(|it| it.tolerates(key, value, effect))
        })
    }
}
