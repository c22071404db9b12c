//! Nodes of a cluster, from what `kubectl get nodes -o yaml` or `-o json` prints.
//!
//! Cards are what the device plugin offers. Their figures come from the first source that there is:
//! measurements, slices of NVIDIA's DRA driver, labels of GPU feature discovery, the catalogue.

mod cards;
mod measured;
mod read;
mod slices;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::core::v1::Node as Object;
use plan::cluster::{Links, Node, Topology};
use plan::words::named;

use crate::island::Toleration;
use crate::occupancy::{self, Taint, Unusable, kept_away, taints};
use crate::selector::NodeSelector;

pub use cards::NoCards;
pub use read::NodesError;
pub use slices::{DRIVER, Devices, Slice};

/// Bytes of text that are read.
pub const TEXT_MAX: usize = 64 << 20;
/// Nodes that are read.
const NODES_MAX: usize = 10_000;
/// Nodes that a note lists by name.
const LISTED_MAX: usize = 3;
/// More bytes than any card has, so that sums of cards do not overflow.
const CARD_BYTES_MAX: u64 = 1 << 50;
/// Fewer bytes than any card has: they are of another unit.
const CARD_BYTES_MIN: u64 = 256 << 20;

/// The annotation of a node with the record that `heteroloco probe` printed there.
pub const CAPABILITY: &str = "heteroloco.dev/capability";
/// The label that tells a node from others; not always its name.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Kubernetes itself has no label for racks: ours, and then the one that many clusters use.
const RACKS: [&str; 2] = ["heteroloco.dev/rack", "topology.kubernetes.io/rack"];
const CLIQUE: &str = "nvidia.com/gpu.clique";

/// The nodes that can be planned with, and notes on those that cannot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundNodes {
    /// Nodes with cards that can be used, with their labels, in the order in which they stand.
    pub nodes: Vec<(Node, BTreeMap<String, String>)>,
    /// The taints of those that keep pods away, by name.
    taints: BTreeMap<String, Vec<Taint>>,
    /// Notes on what was left out and why, and on what is not known, a sentence each.
    pub notes: Vec<String>,
}

impl FoundNodes {
    /// Names of the nodes that an island's pods may be on, and a sentence of those that it selects
    /// but does not tolerate.
    pub fn selected(
        &self,
        island: &str,
        selector: Option<&NodeSelector>,
        tolerations: &[Toleration],
    ) -> (BTreeSet<String>, Vec<String>) {
        let (mut names, mut notes) = (BTreeSet::new(), Notes::default());
        let selects = |labels| selector.is_none_or(|selector| selector.selects(labels));
        for (node, _) in self.nodes.iter().filter(|(_, labels)| selects(labels)) {
            match self.taints.get(&node.name).and_then(|own| kept_away(own, tolerations)) {
                Some(taint) => {
                    let note = format!("tainted {taint}, which {island} does not tolerate");
                    notes.put(note, &node.name);
                }
                None => drop(names.insert(node.name.clone())),
            }
        }
        (names, notes.sentences())
    }

    /// Leaves out nodes whose taints keep away pods that tolerate nothing.
    pub fn without_tainted(mut self) -> Self {
        let mut notes = Notes::default();
        for (node, taints) in std::mem::take(&mut self.taints) {
            if let Some(taint) = kept_away(&taints, &[]) {
                let why = "and proposed islands tolerate nothing";
                notes.put(format!("left out, tainted {taint}, {why}"), &node);
                self.nodes.retain(|(other, _)| other.name != node);
            }
        }
        self.notes.extend(notes.sentences());
        self
    }

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
    let (mut nodes, mut tainted) = (Vec::new(), BTreeMap::new());
    for (at, object) in objects.into_iter().enumerate() {
        let name = object.metadata.name.clone().filter(|name| !name.is_empty());
        let name = name.ok_or(NodesError::Unnamed(at + 1))?;
        if !names.insert(name.clone()) {
            return Err(NodesError::Twice(name));
        }
        match of_object(object, None) {
            Ok(usable) => {
                usable.notes.into_iter().for_each(|note| notes.put(note, &name));
                if !usable.taints.is_empty() {
                    tainted.insert(name, usable.taints);
                }
                nodes.push((usable.node, usable.labels));
            }
            Err(why) => notes.put(why.to_string(), &name),
        }
    }
    Ok(FoundNodes { nodes, taints: tainted, notes: notes.sentences() })
}

/// A node with cards that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Usable {
    /// Its cards and its place.
    pub node: Node,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints that keep pods away.
    pub taints: Vec<Taint>,
    /// Notes on what is not as it should be, or not known, a clause each.
    pub notes: Vec<String>,
}

/// Why nothing is planned on a node; its text is a clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// None of its cards may be used.
    Unusable(Unusable),
    /// It has none that a rank could ask for.
    NoCards(NoCards),
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(why) => write!(f, "left out, {why}"),
            Self::NoCards(why) => write!(f, "left out, {why}"),
        }
    }
}

/// One node, with what its ResourceSlices say where they were read.
///
/// # Errors
/// Why there is none to plan with.
pub fn of_object(object: Object, devices: Option<&Devices>) -> Result<Usable, LeftOut> {
    match occupancy::unusable(&object) {
        Some(why) => Err(LeftOut::Unusable(why)),
        None => cards_of(object, devices).map_err(LeftOut::NoCards),
    }
}

/// The same, as it is when what ails it has passed; `None` where it has no cards even so.
pub fn nominal(object: Object, devices: Option<&Devices>) -> Option<Node> {
    let lasts = occupancy::unusable(&object).is_some_and(|why| !why.passes());
    if lasts { None } else { cards_of(object, devices).ok().map(|usable| usable.node) }
}

fn cards_of(mut object: Object, devices: Option<&Devices>) -> Result<Usable, NoCards> {
    let name = object.metadata.name.take().unwrap_or_default();
    let mut labels = object.metadata.labels.take().unwrap_or_default();
    let found = cards::cards(&labels, object.status.as_ref(), devices);
    let cards::Found { cards, mut notes } = found?;
    // Every kubelet sets it; a file that was written by hand may lack it.
    labels.entry(HOSTNAME.to_owned()).or_insert_with(|| name.clone());
    let (topology, taints) = (topology(&labels), taints(&object));
    let mut node = Node { name, topology, cards, links: Links::default() };
    let record = object.metadata.annotations.as_ref().and_then(|own| own.get(CAPABILITY));
    notes.extend(record.and_then(|record| measured::apply(&mut node, record).err()));
    notes.extend(node.cards.first().and_then(cards::without_memory));
    Ok(Usable { node, labels, taints, notes })
}

fn topology(labels: &BTreeMap<String, String>) -> Topology {
    let value = |key: &str| labels.get(key).filter(|value| !value.is_empty()).cloned();
    Topology { zone: value(ZONE), rack: RACKS.into_iter().find_map(value), clique: value(CLIQUE) }
}

/// Notes, each said once with the names of all nodes that it is true of.
#[derive(Default)]
struct Notes(BTreeMap<String, Vec<String>>);

impl Notes {
    fn put(&mut self, note: String, node: &str) {
        self.0.entry(note).or_default().push(node.to_owned());
    }

    fn sentences(self) -> Vec<String> {
        let sentence = |(note, nodes): (String, Vec<String>)| {
            let what = if nodes.len() == 1 { "node" } else { "nodes" };
            format!("{what} {}: {note}", named(&nodes, LISTED_MAX))
        };
        self.0.into_iter().map(sentence).collect()
    }
}
