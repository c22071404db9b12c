//! Which cards an island may be planned on: what is allocatable, less what others hold.

use std::collections::BTreeMap;

use api::island::{ComputeIsland, RankStatus};
use api::names::Key;
use api::occupancy::{self, Claims};
use k8s_openapi::jiff::Timestamp;
use plan::cluster::Node;
use plan::gpu;

use super::reason::{Competitors, Lost, Unusable};
use crate::inventory::{Inventory, NodeFacts};
use crate::ledger::Ledger;

/// What an island may be planned on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Idle {
    /// Nodes with the cards that nobody else holds, by name.
    pub nodes: Vec<Node>,
    /// Nodes that the island selects whose cards can be used, held by others or not.
    pub selected: usize,
    /// Another node that it selects, whose cards cannot be used.
    pub unusable: Option<Unusable>,
    /// Who has cards of these nodes that the island could use.
    pub competitors: Competitors,
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
            let (node, why) = (name.to_owned(), why.clone());
            found.unusable.get_or_insert(Unusable { node, why });
            continue;
        }
        found.selected += 1;
        let all = facts.machine.cards.len() as u32;
        let foreign = inventory.foreign(name);
        let (others, own) = held(inventory, ledger, name, key);
        let wanted = facts.machine.cards.iter().any(|card| wants(island, &card.product));
        let competitors = &mut found.competitors;
        if wanted {
            competitors.foreign = competitors.foreign.saturating_add(foreign.min(all));
            competitors.islands.extend(others.keys().cloned());
        }
        let others = others.values().fold(0, |sum: u32, cards| sum.saturating_add(*cards));
        let settle = occupancy::settles(cooldown, inventory.changed(name), now);
        let (left, settles) = Claims { all, foreign, others, own }.left(settle);
        competitors.settles = competitors.settles.into_iter().chain(settles).min();
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

/// What of the cards of a plan's ranks is not there any more; cards that other pods hold are not.
pub(crate) fn lost(inventory: &Inventory, ranks: &[RankStatus]) -> Option<Lost> {
    let mut needed: BTreeMap<&str, u32> = BTreeMap::new();
    for rank in ranks {
        let count = needed.entry(&rank.node).or_default();
        *count = count.saturating_add(rank.count);
    }
    needed.into_iter().find_map(|(node, needed)| {
        let owned = || node.to_owned();
        let Some(facts) = inventory.find(node) else { return Some(Lost::Node(owned())) };
        if let Some(why) = &facts.unusable {
            return Some(Lost::Unusable(Unusable { node: owned(), why: why.clone() }));
        }
        let left = (facts.machine.cards.len() as u32).saturating_sub(inventory.foreign(node));
        (left < needed).then(|| Lost::Cards { node: owned(), left, needed })
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use api::island::PlanPhase;
    use api::nodes::LeftOut;
    use api::occupancy::Unusable as Ailing;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::super::examples::{H100, L4, at, held, inventory, island, node, plan, pod};
    use super::super::standing::Plan;
    use super::*;
    use crate::ledger::{Known, Promise};

    fn nodes() -> Vec<k8s_openapi::api::core::v1::Node> {
        vec![node("a", H100, 8, false), node("b", L4, 4, false), node("c", H100, 8, true)]
    }

    /// What island lab may be planned on at second 1000, of these nodes.
    fn found(pods: Vec<(i64, Pod)>, ledger: &Ledger, more: &Value) -> Idle {
        let names = ["a", "b", "c", "gone"].map(str::to_owned);
        let (inventory, island) = (inventory(nodes(), pods), island(&[H100], more));
        idle(&inventory, ledger, &names, (&Key::of(&island), &island), at(1000))
    }

    fn cards(idle: &Idle) -> Vec<(&str, usize)> {
        idle.nodes.iter().map(|node| (node.name.as_str(), node.cards.len())).collect()
    }

    fn promised(ledger: &mut Ledger, island: &str, node: &str, cards: u32) {
        let plan = Plan { ranks: vec![held(node, cards)], ..plan(PlanPhase::Planned, 0) };
        let promise = Promise { run: Key::new("ml", "mini"), plan, known: Known::Nothing };
        ledger.promise(&Key::new("ml", island), promise);
    }

    #[test]
    fn cards_are_idle_that_nobody_else_holds_or_was_promised() {
        let mut ledger = Ledger::default();
        promised(&mut ledger, "lab", "a", 4);
        promised(&mut ledger, "desk", "a", 2);
        promised(&mut ledger, "attic", "b", 1);
        let pods = vec![
            (1, pod("theirs", "a", 1, None)),
            // Of the two that are promised there, not beside them.
            (2, pod("desk-e3-r0", "a", 1, Some("desk"))),
            (3, pod("more", "b", 9, None)),
        ];
        let idle = found(pods, &ledger, &json!({}));
        assert_eq!(cards(&idle), [("a", 5)], "the island's own four count as idle");
        assert_eq!(idle.selected, 2);
        let why = LeftOut::Unusable(Ailing::Cordoned);
        assert_eq!(idle.unusable, Some(Unusable { node: "c".into(), why }));
        // Cards of node b are of no use to it.
        let islands = [Key::new("ml", "desk")].into();
        assert_eq!(idle.competitors, Competitors { islands, foreign: 1, settles: None });
    }

    #[test]
    fn an_island_that_harvests_takes_cards_only_when_they_have_been_idle_for_its_cooldown() {
        let harvests = json!({"idle": {"policy": "Harvest", "cooldown": "5m"}});
        let left = |second: i64| {
            let mut ended = pod("theirs", "a", 3, None);
            let gone = ended.status.get_or_insert_default();
            gone.phase = Some("Succeeded".into());
            vec![(1, pod("theirs", "a", 3, None)), (second, ended)]
        };
        let table = [(600, 8, None), (700, 8, None), (800, 0, Some(100)), (1000, 0, Some(300))];
        for (second, there, wait) in table {
            let idle = found(left(second), &Ledger::default(), &harvests);
            let on_a = cards(&idle).into_iter().find(|(name, _)| *name == "a");
            assert_eq!(on_a.map_or(0, |(_, cards)| cards), there, "left at {second}");
            let settles = wait.map(Duration::from_secs);
            assert_eq!(idle.competitors.settles, settles, "left at {second}");
        }
        let own = found(left(800), &Ledger::default(), &json!({}));
        assert_eq!(cards(&own)[0], ("a", 8), "one that does not harvest takes them at once");
    }

    #[test]
    fn a_plan_whose_cards_are_gone_says_which() {
        let busy = vec![(1, pod("theirs", "b", 3, None))];
        let inventory = inventory(nodes(), busy);
        let of = |ranks: &[(&str, u32)]| {
            let ranks: Vec<RankStatus> = ranks.iter().map(|(on, cards)| held(on, *cards)).collect();
            lost(&inventory, &ranks).map(|lost| lost.to_string())
        };
        let cordoned = "node c: left out, cordoned: kubectl uncordon it to use its cards";
        let table = [
            (&[("a", 4), ("a", 4)][..], None),
            (&[("a", 4), ("a", 5)], Some("8 of 9 cards of node a are left")),
            (&[("b", 1)], None),
            (&[("b", 2)], Some("1 of 2 cards of node b are left")),
            (&[("a", 1), ("c", 1)], Some(cordoned)),
            (&[("d", 1)], Some("node d is gone")),
            (&[("a", u32::MAX), ("a", 1)], Some("8 of 4294967295 cards of node a are left")),
        ];
        for (ranks, said) in table {
            assert_eq!(of(ranks).as_deref(), said, "{ranks:?}");
        }
    }

    #[test]
    fn islands_meet_where_both_could_use_a_card_and_be_on_its_node() {
        let inventory = inventory(nodes(), vec![]);
        let names = ["a", "b"].map(str::to_owned);
        let own = island(&[H100, L4], &json!({}));
        let meets = |products: &[&str], more: Value| {
            let nodes = selected(&inventory, &names, &own);
            meet(&nodes, &own, &island(products, &more))
        };
        assert!(meets(&["NVIDIA-H100*"], json!({})));
        assert!(!meets(&["NVIDIA-A100*"], json!({})));
        let on = |zone: &str| json!({"nodeSelector": {"matchLabels": {"zone": zone}}});
        assert!(meets(&[L4], on("b")));
        assert!(!meets(&[L4], on("a")), "there are none of these");
        let only = island(&[L4], &json!({}));
        assert_eq!(selected(&inventory, &names, &only).len(), 1);
    }
}
