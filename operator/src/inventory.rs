//! What of the cluster matters: nodes with cards, and who holds how many of them.
//!
//! Only this is kept of nodes, pods and ResourceSlices, so that ten thousand of them take little
//! memory.

mod node;
mod pod;
mod slices;

use std::collections::{BTreeMap, BTreeSet};

use api::names::Key;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::resource::v1::ResourceSlice;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::Event;

pub(crate) use node::NodeFacts;
pub(crate) use pod::{PodFacts, Rank, RankState, unscheduled, waits};

use slices::Slices;

/// Nodes and pods, as far as the API server has told.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    nodes: BTreeMap<String, NodeFacts>,
    /// Grows whenever a node comes, goes or is another than before.
    version: u64,
    /// Nodes that have no GPUs as long as no slice says so; only where slices are watched.
    bare: BTreeMap<String, Node>,
    /// What ResourceSlices say, where they are watched.
    slices: Option<Slices>,
    pods: BTreeMap<Key, PodFacts>,
    /// Cards held on a node.
    held: BTreeMap<String, Held>,
    /// Pods of each island.
    ranks: BTreeMap<Key, BTreeSet<Key>>,
    nodes_listed: Listing,
    /// By watched namespace, each with its list.
    pods_listed: Vec<(Option<String>, Listing)>,
}

/// Objects of a list that is being read: the others are gone when it ends.
#[derive(Debug, Default)]
struct Listing {
    seen: Option<BTreeSet<Key>>,
    /// Whether it was read once.
    complete: bool,
}

/// Who holds cards of a node.
#[derive(Debug, Default)]
struct Held {
    /// Pods that are of no island.
    foreign: u32,
    islands: BTreeMap<Key, u32>,
    /// When `foreign` last changed, after the first list.
    changed: Option<Timestamp>,
}

/// What an event changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// An island whose pods changed.
    pub island: Option<Key>,
    /// Whether cards came, went, or changed hands.
    pub capacity: bool,
    /// Whether these are cards of nodes, or of pods of no island.
    pub foreign: bool,
}

impl Inventory {
    /// Of pods in these namespaces; `None` is all.
    pub(crate) fn new(places: Vec<Option<String>>) -> Self {
        let pods_listed = places.into_iter().map(|place| (place, Listing::default())).collect();
        Self { pods_listed, ..Self::default() }
    }

    /// Whether all lists were read.
    pub(crate) fn is_complete(&self) -> bool {
        let slices = self.slices.as_ref().is_none_or(Slices::is_complete);
        self.nodes_listed.complete && slices && self.pods_complete()
    }

    fn pods_complete(&self) -> bool {
        self.pods_listed.iter().all(|(_, listing)| listing.complete)
    }

    /// Takes note of what happened to a node.
    pub(crate) fn node(&mut self, event: Event<Node>) -> Changed {
        let mut capacity = false;
        match event {
            Event::Init => self.nodes_listed.seen = Some(BTreeSet::new()),
            Event::InitApply(node) | Event::Apply(node) => {
                let node = node::pared(node);
                let name = node.metadata.name.clone().unwrap_or_default();
                if let Some(listed) = &mut self.nodes_listed.seen {
                    listed.insert(Key::new("", name.as_str()));
                }
                capacity = self.learn(name, node);
            }
            Event::Delete(node) => {
                let name = node.metadata.name.unwrap_or_default();
                self.bare.remove(&name);
                capacity = self.nodes.remove(&name).is_some();
            }
            Event::InitDone => {
                if let Some(listed) = self.nodes_listed.seen.take() {
                    let before = self.nodes.len();
                    let there = |name: &String| listed.contains(&Key::new("", name.as_str()));
                    self.nodes.retain(|name, _| there(name));
                    self.bare.retain(|name, _| there(name));
                    capacity = before != self.nodes.len() || !self.nodes_listed.complete;
                }
                self.nodes_listed.complete = true;
            }
        }
        self.version += u64::from(capacity);
        Changed { island: None, capacity, foreign: capacity }
    }

    /// Puts what is known of a node in the place of what was; whether that is something else.
    fn learn(&mut self, name: String, object: Node) -> bool {
        let devices = self.slices.as_ref().and_then(|slices| slices.devices(&name));
        match NodeFacts::of(object, devices) {
            Ok(facts) => {
                self.bare.remove(&name);
                let before = self.nodes.insert(name.clone(), facts);
                let now = &self.nodes[&name];
                if before.as_ref().is_none_or(|before| before.notes != now.notes) {
                    for note in &now.notes {
                        tracing::warn!("Node {name}: {note}.");
                    }
                }
                before.as_ref() != Some(now)
            }
            Err(object) => {
                let had_cards = self.nodes.remove(&name).is_some();
                if self.slices.is_some() {
                    self.bare.insert(name, *object);
                }
                had_cards
            }
        }
    }

    /// Has ResourceSlices count from here on: nothing is complete before their list was read.
    pub(crate) fn expect_slices(&mut self) {
        self.slices.get_or_insert_default();
    }

    /// Takes note of what happened to a ResourceSlice.
    pub(crate) fn slice(&mut self, event: Event<ResourceSlice>) -> Changed {
        let done = matches!(event, Event::InitDone);
        let Some(slices) = &mut self.slices else { return Changed::default() };
        let mut capacity = done && !slices.is_complete();
        for node in slices.take(event) {
            let known = self.nodes.get(&node).map(NodeFacts::object);
            if let Some(object) = known.or_else(|| self.bare.get(&node).cloned()) {
                capacity |= self.learn(node, object);
            }
        }
        self.version += u64::from(capacity);
        Changed { island: None, capacity, foreign: capacity }
    }

    /// Takes note of what happened to a pod in the watch of so many.
    pub(crate) fn pod(&mut self, watch: usize, event: Event<Pod>, now: Timestamp) -> Vec<Changed> {
        let Some((place, listing)) = self.pods_listed.get_mut(watch) else { return vec![] };
        match event {
            Event::Init => {
                listing.seen = Some(BTreeSet::new());
                vec![]
            }
            Event::InitApply(pod) | Event::Apply(pod) => {
                let Some((key, facts)) = PodFacts::of(&pod) else { return vec![] };
                if let Some(seen) = &mut listing.seen {
                    seen.insert(key.clone());
                }
                vec![self.put(key, Some(facts), now)]
            }
            Event::Delete(pod) => {
                let Some((key, _)) = PodFacts::of(&pod) else { return vec![] };
                vec![self.put(key, None, now)]
            }
            Event::InitDone => {
                let seen = listing.seen.take().unwrap_or_default();
                let place = place.clone();
                let here = |key: &&Key| place.as_ref().is_none_or(|own| *own == key.namespace);
                let gone = self.pods.keys().filter(here).filter(|key| !seen.contains(key));
                let gone: Vec<Key> = gone.cloned().collect();
                let mut changed: Vec<Changed> =
                    gone.into_iter().map(|key| self.put(key, None, now)).collect();
                if let Some((_, listing)) = self.pods_listed.get_mut(watch) {
                    listing.complete = true;
                }
                changed.push(Changed { island: None, capacity: true, foreign: true });
                changed
            }
        }
    }

    /// Puts facts in the place of what was known of a pod.
    fn put(&mut self, key: Key, facts: Option<PodFacts>, now: Timestamp) -> Changed {
        let facts = facts.filter(PodFacts::matters);
        let before = self.pods.get(&key).cloned();
        if before == facts {
            return Changed::default();
        }
        let of = |facts: &Option<PodFacts>| facts.as_ref().and_then(PodFacts::holding);
        let (held, holds) = (of(&before), of(&facts));
        let capacity = held != holds;
        let foreign = [&held, &holds].into_iter().flatten().any(|holding| holding.island.is_none());
        if capacity {
            self.hold(held, holds, now);
        }
        let either = facts.as_ref().or(before.as_ref());
        let island = either.and_then(|pod| pod.rank.as_ref()).map(|rank| rank.island.clone());
        if let Some(island) = &island {
            let pods = self.ranks.entry(island.clone()).or_default();
            if facts.is_some() {
                pods.insert(key.clone());
            } else {
                pods.remove(&key);
            }
            if pods.is_empty() {
                self.ranks.remove(island);
            }
        }
        match facts {
            Some(facts) => self.pods.insert(key, facts),
            None => self.pods.remove(&key),
        };
        Changed { foreign: capacity && foreign, island, capacity }
    }

    fn hold(&mut self, held: Option<Holding>, holds: Option<Holding>, now: Timestamp) {
        let settled = self.pods_complete();
        for (holding, more) in [(held, false), (holds, true)] {
            let Some(Holding { node, island, cards }) = holding else { continue };
            let on = self.held.entry(node).or_default();
            let count = match island {
                Some(island) => on.islands.entry(island).or_default(),
                None => {
                    on.changed = settled.then_some(now);
                    &mut on.foreign
                }
            };
            *count = if more { count.saturating_add(cards) } else { count.saturating_sub(cards) };
            on.islands.retain(|_, cards| *cards > 0);
        }
        let nodes = &self.nodes;
        self.held.retain(|node, held| {
            nodes.contains_key(node) || held.foreign > 0 || !held.islands.is_empty()
        });
    }

    /// Nodes with cards, by name.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, &NodeFacts)> {
        self.nodes.iter().map(|(name, facts)| (name.as_str(), facts))
    }

    /// Which nodes these are: the same as long as no node changes.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// A node with cards.
    pub(crate) fn find(&self, node: &str) -> Option<&NodeFacts> {
        self.nodes.get(node)
    }

    /// Cards of a node that pods of no island hold.
    pub(crate) fn foreign(&self, node: &str) -> u32 {
        self.held.get(node).map_or(0, |held| held.foreign)
    }

    /// When cards of a node last went to or came from pods of no island; absent where that was
    /// never seen.
    pub(crate) fn changed(&self, node: &str) -> Option<Timestamp> {
        self.held.get(node).and_then(|held| held.changed)
    }

    /// Cards of a node that pods of islands hold.
    pub(crate) fn islands(&self, node: &str) -> impl Iterator<Item = (&Key, u32)> {
        let held = self.held.get(node).into_iter();
        held.flat_map(|held| held.islands.iter().map(|(island, cards)| (island, *cards)))
    }

    /// The pods of an island's ranks, by name.
    pub(crate) fn ranks(&self, island: &Key) -> Vec<Rank> {
        let pods = self.ranks.get(island).into_iter().flatten();
        pods.filter_map(|key| self.pods.get(key).and_then(|pod| pod.rank.clone())).collect()
    }
}

/// Cards of a node that a pod holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holding {
    node: String,
    /// The island of the pod, where it is of one.
    island: Option<Key>,
    cards: u32,
}

#[cfg(test)]
mod tests;
