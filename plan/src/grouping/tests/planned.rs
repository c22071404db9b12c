//! Tests of pools with the planner's own predictions: what is proposed, and that nothing simpler
//! is predicted to be faster.

use super::*;
use crate::planner::tests::run;
use crate::planner::tokens_per_second;

const RTX4090: &str = "NVIDIA-GeForce-RTX-4090";

fn cards(name: &str, labels: Labels, cards: &[(&str, usize)]) -> Node {
    let card = |&(product, count): &(&str, usize)| vec![NodeCard::named(product); count];
    Node { cards: cards.iter().flat_map(card).collect(), ..node(name, labels, &[]) }
}

/// So many nodes of the same cards in one zone.
fn zone(zone: &'static str, count: usize, own: &[(&str, usize)]) -> Vec<Node> {
    (0..count).map(|at| cards(&format!("{zone}{at:03}"), [zone, "", ""], own)).collect()
}

/// Islands by how many nodes they have: how many islands there are.
fn sizes(grouping: &Grouping) -> Vec<(usize, usize)> {
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for proposal in &grouping.proposals {
        *sizes.entry(proposal.nodes.len()).or_default() += 1;
    }
    sizes.into_iter().collect()
}

/// Predicted tokens a second of all islands together. Those of as many like nodes are as fast.
fn speed(run: &RunRequest, nodes: &[Node], islands: &[Vec<String>]) -> f64 {
    let mut known: Vec<(Vec<&[NodeCard]>, f64)> = Vec::new();
    let mut sum = 0.0;
    for island in islands {
        let own: Vec<Node> =
            nodes.iter().filter(|node| island.contains(&node.name)).cloned().collect();
        let look: Vec<&[NodeCard]> = nodes
            .iter()
            .filter(|node| island.contains(&node.name))
            .map(|it| &it.cards[..])
            .collect();
        let found = known.iter().find(|(other, _)| *other == look).map(|(_, speed)| *speed);
        let wishes = none();
        let ask = || tokens_per_second(run, &own, (wishes.objective, wishes.pipeline));
        let speed = found.unwrap_or_else(|| ask().unwrap_or(0.0));
        known.push((look, speed));
        sum += speed;
    }
    sum
}

/// Groups, and checks that an island for each node and one of all are no faster.
fn planned(run: &RunRequest, nodes: &[Node]) -> Grouping {
    let grouping = for_run(run, nodes, &none());
    let proposed: Vec<_> = grouping.proposals.iter().map(|it| it.nodes.clone()).collect();
    let proposed = speed(run, nodes, &proposed);
    let names = || nodes.iter().map(|node| node.name.clone());
    let each = speed(run, nodes, &names().map(|name| vec![name]).collect::<Vec<_>>());
    let one = speed(run, nodes, &[names().collect()]);
    assert!(proposed >= each && proposed >= one, "{proposed} of {each}, {one}: {grouping:#?}");
    assert!(proposed > 0.0 || (each == 0.0 && one == 0.0), "{grouping:#?}");
    grouping
}

#[test]
fn a_hundred_nodes_under_one_label_are_as_many_islands_as_are_fastest() {
    let nodes = zone("lab", 100, &[(RTX4090, 8)]);
    type Case<'a> = (&'a str, u32, &'a [(usize, usize)]);
    let table: [Case<'_>; 3] = [
        ("llama-1b", 64, &[(1, 100)]),
        ("llama-8b", 64, &[(1, 100)]),
        ("covenant-72b", 192, &[(11, 8), (12, 1)]),
    ];
    for (model, sequences, expected) in table {
        let grouping = planned(&run(model, sequences), &nodes);
        assert_eq!((&sizes(&grouping)[..], &grouping.left_out), (expected, &vec![]), "{model}");
        let apart = |why: &Why| matches!(why, Why::Apart(it) if it.together <= it.apart);
        assert!(grouping.proposals.iter().all(|it| it.reason.why.iter().any(apart)), "{model}");
    }
}

/// The same nodes in one zone, with links of so many GB/s between them where that was measured.
fn moved(nodes: &[Node], to: &str, gbps: Option<f64>) -> Vec<Node> {
    let zone = Some(to.to_owned());
    let moved = |node: &Node| Node {
        topology: Topology { zone: zone.clone(), ..Topology::default() },
        ..gbps.map_or(node.clone(), |gbps| linked(node.clone(), gbps))
    };
    nodes.iter().map(moved).collect()
}

#[test]
fn pools_of_every_sort_are_no_slower_than_simpler_ones() {
    let zones = [zone("a", 3, &[(H100, 8)]), zone("b", 2, &[(RTX4090, 8)])].concat();
    let mixed = moved(&zones, "lab", None);
    let desks = zone("desk", 9, &[(RTX4090, 1)]);
    let clique = |at: usize| {
        let labels = ["dc", "r", ["nv1", "nv2"][at / 4]];
        cards(&format!("c{at}"), labels, &[(H100, 4)])
    };
    let cliques: Vec<Node> = (0..8).map(clique).collect();
    let quick = moved(&zone("q", 4, &[(RTX4090, 8)]), "q", Some(100.0));
    let each = ["a000: a000", "a001: a001", "a002: a002", "b000: b000", "b001: b001"];
    let own = ["c0: c0", "c1: c1", "c2: c2", "c3: c3", "c4: c4", "c5: c5", "c6: c6", "c7: c7"];
    let all = ["dc-r: c0 c1 c2 c3 c4 c5 c6 c7"];
    let nine = "desk: desk000 desk001 desk002 desk003 desk004 desk005 desk006 desk007 desk008";
    // The pool, the model, the islands, and what is left out.
    type Case<'a> = (&'a [Node], &'a str, &'a [&'a str], &'a [&'a str]);
    let table: [Case<'_>; 9] = [
        (&mixed, "llama-8b", &each, &[]),
        (&mixed, "covenant-72b", &["lab: a000 a001 a002"], &["b000 b001"]),
        (&zones, "llama-8b", &each, &[]),
        (&zones, "covenant-72b", &["a: a000 a001 a002"], &["b000 b001"]),
        (&desks, "llama-8b", &[nine], &[]),
        (&desks[..5], "llama-8b", &[], &["desk000 desk001 desk002 desk003 desk004"]),
        (&cliques, "llama-8b", &own, &[]),
        (&cliques, "covenant-72b", &all, &[]),
        (&quick, "llama-8b", &["q: q000 q001 q002", "q003: q003"], &[]),
    ];
    for (nodes, model, expected, left) in table {
        let grouping = planned(&run(model, 192), nodes);
        assert_eq!(islands(&grouping), expected, "{model}: {grouping:#?}");
        assert_eq!(left_out(&grouping), left, "{model}: {grouping:#?}");
    }
}
