//! Nodes of a cluster, from what `kubectl get nodes -o yaml` or `-o json` prints.
//!
//! Cards are what the device plugin offers. What they are is measured, or what slices of NVIDIA's
//! DRA driver say, or what GPU feature discovery labels, or what the catalogue has, the first that
//! there is.

mod cards;
mod measured;
mod read;
mod slices;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node as Object;
use plan::cluster::{Links, Node, Topology};

pub use read::NodesError;
pub use slices::{DRIVER, Devices, Slice};

/// Bytes of text that are read.
const TEXT_MAX: usize = 64 << 20;
/// Nodes that are read.
const NODES_MAX: usize = 10_000;
/// Nodes that a note lists by name.
const LISTED: usize = 3;
/// More bytes than any card has, so that sums of cards do not overflow.
const CARD_BYTES_MAX: u64 = 1 << 50;

/// The annotation of a node with the record that `heteroloco probe` printed there.
pub const CAPABILITY: &str = "heteroloco.dev/capability";
/// The label that tells a node from others; not always its name.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Kubernetes itself has no label for racks: ours, and then the one that many clusters use.
const RACKS: [&str; 2] = ["heteroloco.dev/rack", "topology.kubernetes.io/rack"];
const CLIQUE: &str = "nvidia.com/gpu.clique";

/// What can be planned with, and what cannot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundNodes {
    /// Nodes with cards that can be used, with their labels, in the order in which they stand.
    pub nodes: Vec<(Node, BTreeMap<String, String>)>,
    /// What was left out and why, and what is not known, a sentence each.
    pub notes: Vec<String>,
}

impl FoundNodes {
    /// The label [`HOSTNAME`] of each node by its name, as [`crate::proposal::island`] needs it.
    pub fn hostnames(&self) -> BTreeMap<&str, &str> {
        let labelled = self.nodes.iter().filter_map(|(node, labels)| {
            labels.get(HOSTNAME).map(|hostname| (node.name.as_str(), hostname.as_str()))
        });
        labelled.collect()
    }
}

/// Reads Kubernetes' Node objects: a List, or documents of one node each.
///
/// # Errors
/// When the text is no such thing or too much of it. A node whose cards cannot be used is no error,
/// but left out with a note.
pub fn nodes(text: &str) -> Result<FoundNodes, NodesError> {
    let objects = read::objects(text)?;
    let mut names = BTreeSet::new();
    let mut notes = Notes::default();
    let mut nodes = Vec::new();
    for (at, object) in objects.into_iter().enumerate() {
        let name = object.metadata.name.clone().filter(|name| !name.is_empty());
        let name = name.ok_or(NodesError::Unnamed(at + 1))?;
        if !names.insert(name.clone()) {
            return Err(NodesError::Twice(name));
        }
        match of_object(object, None) {
            Ok(usable) => {
                usable.notes.into_iter().for_each(|note| notes.put(note, &name));
                nodes.push((usable.node, usable.labels));
            }
            Err(why) => notes.put(why, &name),
        }
    }
    Ok(FoundNodes { nodes, notes: notes.sentences() })
}

/// A node with cards that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Usable {
    /// Its cards and its place.
    pub node: Node,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What is not as it should be, or not known, a clause each.
    pub notes: Vec<String>,
}

/// One node, with what its ResourceSlices say where they were read.
///
/// # Errors
/// Why there is none to plan with, a clause.
pub fn of_object(mut object: Object, devices: Option<&Devices>) -> Result<Usable, String> {
    let name = object.metadata.name.take().unwrap_or_default();
    let mut labels = object.metadata.labels.take().unwrap_or_default();
    let found = match unavailable(&object) {
        Some(why) => Err(why.to_owned()),
        None => cards::cards(&labels, object.status.as_ref(), devices),
    };
    let cards::Found { cards, mut notes } = found.map_err(|why| format!("left out, {why}"))?;
    // Every kubelet sets it; a file that was written by hand may lack it.
    labels.entry(HOSTNAME.to_owned()).or_insert_with(|| name.clone());
    let topology = topology(&labels);
    let mut node = Node { name, topology, cards, links: Links::default() };
    let record = object.metadata.annotations.as_ref().and_then(|own| own.get(CAPABILITY));
    notes.extend(record.and_then(|record| measured::apply(&mut node, record).err()));
    notes.extend(node.cards.first().and_then(cards::without_memory));
    Ok(Usable { node, labels, notes })
}

/// Why nothing new is started on a node.
fn unavailable(object: &Object) -> Option<&'static str> {
    if object.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        return Some("cordoned: kubectl uncordon it to use its cards");
    }
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    ready.is_some_and(|ready| ready.status != "True").then_some("not ready: see kubectl describe")
}

fn topology(labels: &BTreeMap<String, String>) -> Topology {
    let value = |key: &str| labels.get(key).filter(|value| !value.is_empty()).cloned();
    Topology { zone: value(ZONE), rack: RACKS.into_iter().find_map(value), clique: value(CLIQUE) }
}

/// What is to be said, once for all nodes of which it is true.
#[derive(Default)]
struct Notes(BTreeMap<String, Vec<String>>);

impl Notes {
    fn put(&mut self, note: String, node: &str) {
        self.0.entry(note).or_default().push(node.to_owned());
    }

    fn sentences(self) -> Vec<String> {
        let sentence = |(note, nodes): (String, Vec<String>)| {
            let what = if nodes.len() == 1 { "node" } else { "nodes" };
            let listed = nodes[..nodes.len().min(LISTED)].join(", ");
            match nodes.len().saturating_sub(LISTED) {
                0 => format!("{what} {listed}: {note}"),
                more => format!("{what} {listed} and {more} more: {note}"),
            }
        };
        self.0.into_iter().map(sentence).collect()
    }
}
