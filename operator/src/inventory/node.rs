//! What of a node matters.

use std::collections::BTreeMap;

use api::names::{GPU, PRODUCT};
use api::nodes::{CAPABILITY, Devices, LeftOut, Usable, nominal, of_object};
use api::occupancy::{self, Taint};
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plan::cluster::{Links, Node as Machine, Topology};

/// Conditions that say whether a node's cards may be used.
const CONDITIONS: [&str; 2] = ["Ready", "NetworkUnavailable"];

/// A node with GPUs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeFacts {
    /// Its cards, all that are allocatable.
    pub machine: Machine,
    /// The same while it is cordoned or not ready.
    pub nominal: Machine,
    /// Why its cards cannot be used: then the machine has none.
    pub unusable: Option<LeftOut>,
    /// What is not as it should be, a clause each.
    pub notes: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// Taints that keep pods away.
    pub taints: Vec<Taint>,
    /// What all this is made of, without the labels.
    object: Node,
}

/// What of a node's object matters. It has no time in it, so that one which only says that it lives
/// is as it was.
pub(super) fn pared(node: Node) -> Node {
    let annotations = node.metadata.annotations.unwrap_or_default();
    let record = annotations.into_iter().find(|(key, _)| key == CAPABILITY);
    let metadata = ObjectMeta {
        name: node.metadata.name,
        labels: node.metadata.labels,
        annotations: record.map(|record| BTreeMap::from([record])),
        deletion_timestamp: node.metadata.deletion_timestamp,
        ..ObjectMeta::default()
    };
    let spec = node.spec.map(|spec| NodeSpec {
        unschedulable: spec.unschedulable,
        taints: spec.taints,
        ..NodeSpec::default()
    });
    let status = node.status.map(|status| {
        let told = status.conditions.into_iter().flatten();
        let told = told.filter(|it| CONDITIONS.contains(&it.type_.as_str()));
        let conditions = told.map(|it| NodeCondition {
            type_: it.type_,
            status: it.status,
            ..NodeCondition::default()
        });
        let info = status.node_info.map(|info| NodeSystemInfo {
            architecture: info.architecture,
            operating_system: info.operating_system,
            ..NodeSystemInfo::default()
        });
        let allocatable = status.allocatable.map(|all| {
            all.into_iter().filter(|(resource, _)| resource == GPU).collect::<BTreeMap<_, _>>()
        });
        NodeStatus {
            allocatable,
            conditions: Some(conditions.collect()),
            node_info: info,
            ..NodeStatus::default()
        }
    });
    Node { metadata, spec, status }
}

impl NodeFacts {
    /// Of a node's object that was pared, and its ResourceSlices; the object where it has no GPUs.
    /// A node that is cordoned or not ready has none that can be used.
    pub(super) fn of(mut object: Node, devices: Option<&Devices>) -> Result<Self, Box<Node>> {
        let labelled = object.metadata.labels.as_ref().is_some_and(|own| own.contains_key(PRODUCT));
        if !labelled && devices.is_none_or(Devices::is_empty) {
            return Err(Box::new(object));
        }
        let nominal = nominal(object.clone(), devices);
        let found = of_object(object.clone(), devices);
        let own = object.metadata.labels.take().unwrap_or_default();
        let taints = occupancy::taints(&object);
        let (machine, labels, unusable, notes) = match found {
            Ok(Usable { node, labels, notes, .. }) => (node, labels, None, notes),
            Err(why) => {
                let name = object.metadata.name.clone().unwrap_or_default();
                let (topology, links) = (Topology::default(), Links::default());
                let none = Machine { name, topology, cards: vec![], links };
                (none, own, Some(why), vec![])
            }
        };
        let nominal = nominal.unwrap_or_else(|| machine.clone());
        Ok(Self { machine, nominal, unusable, notes, labels, taints, object })
    }

    /// The object that these are the facts of.
    pub(super) fn object(&self) -> Node {
        let mut object = self.object.clone();
        object.metadata.labels = Some(self.labels.clone());
        object
    }

    /// Whether pods with these tolerations may be there.
    pub(crate) fn admits(&self, tolerations: &[api::island::Toleration]) -> bool {
        occupancy::kept_away(&self.taints, tolerations).is_none()
    }
}
