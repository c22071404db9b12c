//! Which cards an island may be planned on: what is allocatable, less what others hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::island::{ComputeIsland, PlanStatus};
use api::occupancy::{self, Claims};
use k8s_openapi::jiff::Timestamp;
use plan::cluster::Node;
use plan::gpu;

use crate::inventory::{Inventory, NodeFacts};
use crate::ledger::Ledger;
use crate::names::Key;

/// What an island may be planned on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Idle {
    /// Nodes with the cards that nobody else holds, by name.
    pub nodes: Vec<Node>,
    /// Nodes that the island selects whose cards can be used, held by others or not.
    pub selected: usize,
    /// Why the cards of another node that it selects cannot be used.
    pub unusable: Option<String>,
    /// Other islands that hold cards there which this one could use.
    pub holders: BTreeSet<Key>,
    /// Cards there that pods of no island hold.
    pub foreign: u32,
    /// When cards that were in use lately have been idle for long enough.
    pub settles: Option<Duration>,
}

/// The idle cards for an island on these nodes. Its own count as idle. An island that harvests does
/// not take cards that somebody used until they have been idle for its cooldown.
pub(crate) fn idle(
    inventory: &Inventory,
    ledger: &Ledger,
    nodes: &[String],
    (key, island): (&Key, &ComputeIsland),
    now: Timestamp,
) -> Idle {
    let cooldown = occupancy::cooldown(island);
    let mut found = Idle::default();
    let own = nodes.iter().filter_map(|name| Some((name.as_str(), inventory.find(name)?)));
    for (name, facts) in own {
        if let Some(why) = &facts.unusable {
            found.unusable.get_or_insert_with(|| format!("node {name}: {why}"));
            continue;
        }
        found.selected += 1;
        let all = facts.machine.cards.len() as u32;
        let foreign = inventory.foreign(name);
        let (others, own) = held(inventory, ledger, name, key);
        let wanted = facts.machine.cards.iter().any(|card| wants(island, &card.product));
        if wanted {
            found.foreign = found.foreign.saturating_add(foreign.min(all));
            found.holders.extend(others.keys().cloned());
        }
        let others = others.values().fold(0, |sum: u32, cards| sum.saturating_add(*cards));
        let settle = occupancy::settles(cooldown, inventory.changed(name), now);
        let (left, settles) = Claims { all, foreign, others, own }.left(settle);
        found.settles = found.settles.into_iter().chain(settles).min();
        if left > 0 {
            let mut machine = facts.machine.clone();
            machine.cards.truncate(left as usize);
            found.nodes.push(machine);
        }
    }
    found
}

/// Cards of a node that each other island holds or was promised, and that this one has.
fn held(inventory: &Inventory, ledger: &Ledger, node: &str, me: &Key) -> (BTreeMap<Key, u32>, u32) {
    let mut islands: BTreeMap<Key, u32> = BTreeMap::new();
    for (island, cards) in inventory.islands(node).chain(ledger.promised(node)) {
        let held = islands.entry(island.clone()).or_default();
        *held = cards.max(*held);
    }
    let own = islands.remove(me).unwrap_or(0);
    (islands, own)
}

/// Whether an island's pods may be on a node.
pub(crate) fn selects(island: &ComputeIsland, facts: &NodeFacts) -> bool {
    let spec = &island.spec;
    spec.node_selector.as_ref().is_none_or(|selector| selector.selects(&facts.labels))
        && facts.admits(&spec.tolerations)
}

/// Whether an island could use a card of a product.
pub(super) fn wants(island: &ComputeIsland, product: &str) -> bool {
    island.spec.devices.iter().any(|device| gpu::matches(&device.product, product))
}

/// Nodes whose cards an island could use.
pub(crate) fn selected<'a>(
    inventory: &'a Inventory,
    nodes: &[String],
    island: &ComputeIsland,
) -> Vec<&'a NodeFacts> {
    let own = nodes.iter().filter_map(|name| inventory.find(name));
    own.filter(|facts| facts.machine.cards.iter().any(|card| wants(island, &card.product)))
        .collect()
}

/// Whether another island could want a card of these nodes that this one could use.
pub(crate) fn meet(nodes: &[&NodeFacts], own: &ComputeIsland, other: &ComputeIsland) -> bool {
    nodes.iter().any(|facts| {
        let both = |product: &str| wants(own, product) && wants(other, product);
        selects(other, facts) && facts.machine.cards.iter().any(|card| both(&card.product))
    })
}

/// What of a plan's cards is not there any more, a sentence; cards that other pods hold are not.
pub(crate) fn lost(inventory: &Inventory, plan: &PlanStatus) -> Option<String> {
    let mut needed: BTreeMap<&str, u32> = BTreeMap::new();
    for rank in &plan.ranks {
        *needed.entry(&rank.node).or_default() += rank.count;
    }
    needed.into_iter().find_map(|(node, count)| {
        let Some(facts) = inventory.find(node) else {
            return Some(format!("node {node} is gone"));
        };
        if let Some(why) = &facts.unusable {
            return Some(format!("node {node}: {why}"));
        }
        let left = (facts.machine.cards.len() as u32).saturating_sub(inventory.foreign(node));
        (left < count).then(|| format!("{left} of {count} cards of node {node} are left"))
    })
}
