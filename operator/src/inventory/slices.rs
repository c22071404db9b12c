//! What ResourceSlices say of nodes' cards.

use std::collections::{BTreeMap, BTreeSet};

use api::names::Key;
use api::nodes::{Devices, Slice};
use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::runtime::watcher::Event;

use super::Listing;

/// The slices of NVIDIA's DRA driver, as far as the API server has told.
#[derive(Debug, Default)]
pub(super) struct Slices {
    /// By node and by name.
    known: BTreeMap<String, BTreeMap<String, Slice>>,
    /// What those of a node say together.
    devices: BTreeMap<String, Devices>,
    listed: Listing,
}

impl Slices {
    pub(super) fn is_complete(&self) -> bool {
        self.listed.complete
    }

    /// What is said of a node.
    pub(super) fn devices(&self, node: &str) -> Option<&Devices> {
        self.devices.get(node)
    }

    /// Takes note of what happened to a slice; the nodes of which something else is said now.
    pub(super) fn take(&mut self, event: Event<ResourceSlice>) -> Vec<String> {
        match event {
            Event::Init => self.listed.seen = Some(BTreeSet::new()),
            Event::InitApply(slice) | Event::Apply(slice) => {
                let name = slice.metadata.name.clone().unwrap_or_default();
                let Some(slice) = Slice::of(slice) else { return vec![] };
                let node = slice.node.clone();
                if let Some(seen) = &mut self.listed.seen {
                    seen.insert(Key::new(node.as_str(), name.as_str()));
                }
                self.known.entry(node.clone()).or_default().insert(name, slice);
                return self.settle(node).into_iter().collect();
            }
            Event::Delete(slice) => {
                let node = slice.spec.node_name.unwrap_or_default();
                let name = slice.metadata.name.unwrap_or_default();
                if let Some(own) = self.known.get_mut(&node) {
                    own.remove(&name);
                }
                return self.settle(node).into_iter().collect();
            }
            Event::InitDone => {
                self.listed.complete = true;
                return self.end_list();
            }
        }
        vec![]
    }

    /// Slices that a new list has not are gone.
    fn end_list(&mut self) -> Vec<String> {
        let Some(seen) = self.listed.seen.take() else { return vec![] };
        let mut fewer = Vec::new();
        for (node, own) in &mut self.known {
            let before = own.len();
            own.retain(|name, _| seen.contains(&Key::new(node.as_str(), name.as_str())));
            if own.len() < before {
                fewer.push(node.clone());
            }
        }
        fewer.into_iter().filter_map(|node| self.settle(node)).collect()
    }

    /// The node, where its slices say something else than before. While some of them are missing,
    /// what they said before counts: the driver writes one after another.
    fn settle(&mut self, node: String) -> Option<String> {
        let own = self.known.get(&node).filter(|own| !own.is_empty());
        let changed = match own.map(|own| Devices::of(own.values())) {
            Some(Some(devices)) => {
                let before = self.devices.insert(node.clone(), devices);
                before.as_ref() != self.devices.get(&node)
            }
            Some(None) => false,
            None => {
                self.known.remove(&node);
                self.devices.remove(&node).is_some()
            }
        };
        changed.then_some(node)
    }
}
