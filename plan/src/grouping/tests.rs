//! Tests of grouping: tables of clusters and their islands.

mod properties;

use std::cell::Cell;

use super::*;
use crate::cluster::{Curve, Links, Topology};

const H100: &str = "NVIDIA-H100-80GB-HBM3";
const RTX3090: &str = "NVIDIA-GeForce-RTX-3090";
const GIB: u64 = 1 << 30;

/// Zone, rack and clique; empty where there is none.
type Labels = [&'static str; 3];
const NOWHERE: Labels = [""; 3];

fn node(name: &str, labels: Labels, cards: &[(&str, u64)]) -> Node {
    let [zone, rack, clique] = labels.map(|l| (!l.is_empty()).then(|| l.to_owned()));
    let card = |&(product, gib): &(&str, u64)| NodeCard {
        product: product.into(),
        memory: gib * GIB,
        measured: None,
    };
    Node {
        name: name.into(),
        topology: Topology { zone, rack, clique },
        cards: cards.iter().map(card).collect(),
        links: Links::default(),
    }
}

/// A node whose messages to others go at so many GB/s.
fn linked(node: Node, gbps: f64) -> Node {
    let network = Some(Curve::linear(1e-5, gbps * 1e9));
    Node { links: Links { network, ..Links::default() }, ..node }
}

fn sum(cards: &[(&Node, &NodeCard)]) -> u64 {
    cards.iter().map(|(_, card)| card.memory).sum()
}

/// Islands for a model of so many GiB that does not mind how it is cut.
fn group(nodes: &[Node], wishes: &Wishes, model: u64) -> Grouping {
    propose(nodes, wishes, |cards| sum(cards) >= model * GIB)
}

/// Names and nodes, in short.
fn islands(grouping: &Grouping) -> Vec<String> {
    let short = |p: &Proposal| format!("{}: {}", p.name, p.nodes.join(" "));
    grouping.proposals.iter().map(short).collect()
}

fn left_out(grouping: &Grouping) -> Vec<String> {
    grouping.left_out.iter().map(|left| left.nodes.join(" ")).collect()
}

fn none() -> Wishes {
    Wishes::default()
}

fn between(min: u64, max: u64) -> Wishes {
    let some = |gib: u64| Some(gib * GIB);
    Wishes { min_memory: some(min), max_memory: some(max), products: Vec::new() }
}

#[test]
fn the_narrowest_fast_domain_makes_an_island() {
    let h100 = [(H100, 80); 4];
    let nodes = [
        node("a1", ["east", "r1", "nv.7"], &h100),
        node("a2", ["east", "r1", "nv.7"], &h100),
        node("a3", ["east", "r1", ""], &h100),
        node("b1", ["east", "r2", ""], &h100),
        node("b2", ["east", "r2", ""], &h100),
        node("c1", ["east", "", ""], &h100),
        node("d1", ["west", "r1", ""], &h100),
        node("e1", NOWHERE, &h100),
        node("e2", NOWHERE, &h100),
        linked(node("f1", NOWHERE, &h100), 12.0),
        linked(node("f2", NOWHERE, &h100), 1.1),
        linked(node("f3", NOWHERE, &h100), 0.9),
    ];
    let grouping = group(&nodes, &none(), 100);
    let expected = [
        "e1: e1",
        "e2: e2",
        "east: c1",
        "east-r1: a3",
        "east-r2: b1 b2",
        "f1-and-1: f1 f2",
        "f3: f3",
        "nv-7: a1 a2",
        "west-r1: d1",
    ];
    assert_eq!(
        (islands(&grouping), grouping.left_out),
        (expected.map(String::from).to_vec(), vec![])
    );
    let clique = &grouping.proposals[7];
    assert_eq!((&clique.products[..], clique.memory), (&[(H100.into(), 8)][..], 640 * GIB));
    assert_eq!(clique.reason, "2 nodes of clique nv.7: NVLink joins them");
}

#[test]
fn what_cannot_be_an_island_joins_others_that_cannot_nearest_first() {
    let small = [(RTX3090, 24)];
    let nodes = [
        node("a", ["east", "r1", ""], &small),
        node("b", ["east", "r2", ""], &small),
        node("c", ["west", "r1", ""], &small),
        node("d", ["west", "r3", "nv"], &small),
        node("e", ["north", "r1", ""], &small),
        node("f", NOWHERE, &small),
    ];
    let grouping = group(&nodes, &none(), 48);
    assert_eq!(islands(&grouping), ["e-and-1: e f", "east: a b", "west: c d"]);
    let reason = "2 nodes of rack r1 of zone east, rack r2 of zone east, which do not all hold the \
                  model with enough memory by themselves, joined in their zone";
    assert_eq!(grouping.proposals[1].reason, reason);
    assert!(grouping.proposals[0].reason.ends_with("links between them may be slow"));
}

#[test]
fn no_more_is_joined_than_it_takes_and_the_best_links_go_first() {
    let small = |name, gbps| linked(node(name, NOWHERE, &[(RTX3090, 24)]), gbps);
    let nodes = [small("a", 0.1), small("b", 0.5), small("c", 0.2), small("d", 0.4)];
    let grouping = group(&nodes, &none(), 48);
    assert_eq!(islands(&grouping), ["a-and-1: a c", "b-and-1: b d"]);
    let grouping = group(&nodes[..3], &none(), 48);
    assert_eq!(
        (islands(&grouping), left_out(&grouping)),
        (vec!["b-and-1: b c".into()], vec!["a".into()])
    );
}

#[test]
fn a_rest_joins_an_island_of_its_zone_but_of_no_other() {
    let nodes = [
        node("big", ["east", "r1", ""], &[(H100, 80)]),
        node("huge", ["east", "r2", ""], &[(H100, 80); 2]),
        node("small", ["east", "r3", ""], &[(RTX3090, 24)]),
        node("stray", ["west", "r1", ""], &[(RTX3090, 24)]),
    ];
    let grouping = group(&nodes, &none(), 80);
    assert_eq!(islands(&grouping), ["east: big small", "east-r2: huge"]);
    assert_eq!(left_out(&grouping), ["stray"]);
    let reason = "rack r1 of zone west does not hold the model with 24.0 GiB, and nothing is left";
    assert!(grouping.left_out[0].reason.starts_with(reason), "{grouping:#?}");
}

#[test]
fn memory_over_any_cards_is_kept_within_what_is_wished() {
    let mixed = [(H100, 80), (RTX3090, 24)];
    let nodes = ["a", "b", "c", "d", "e"].map(|name| node(name, ["lab", "", ""], &mixed));
    let wish = |min, max| islands(&group(&nodes, &between(min, max), 50));
    assert_eq!(wish(128, 1000), ["lab: a b c d e"]);
    assert_eq!(wish(128, 320), ["lab: a b c", "lab-2: d e"]);
    // Even parts of 312 and 208 GiB have too little for 300; full ones leave two nodes.
    let grouping = group(&nodes, &between(300, 320), 50);
    assert_eq!(
        (islands(&grouping), left_out(&grouping)),
        (vec!["lab: a b c".into()], vec!["d e".into()])
    );
    assert!(grouping.left_out[0].reason.contains("has 208.0 GiB, minMemory is 300.0 GiB"));
    // Even parts of 208, 208 and 104 GiB do not hold 150.
    let grouping = group(&nodes, &between(0, 250), 150);
    assert_eq!(islands(&grouping), ["lab: a b", "lab-2: c d"]);
    assert_eq!(grouping.proposals[0].products, [(RTX3090.into(), 2), (H100.into(), 2)]);
    // A node that is above it alone cannot be split.
    let grouping = group(&nodes[..1], &between(0, 100), 10);
    assert!(grouping.left_out[0].reason.contains("104.0 GiB in one node, above maxMemory"));
    assert_eq!(group(&nodes, &between(400, 300), 10).proposals, []);
}

#[test]
fn only_products_that_are_asked_for_are_used() {
    let nodes = [
        node("a", NOWHERE, &[(H100, 80), (RTX3090, 24)]),
        node("b", NOWHERE, &[(RTX3090, 24)]),
        node("empty", NOWHERE, &[]),
    ];
    let wishes = Wishes { products: vec!["NVIDIA-H100*".into()], ..none() };
    let grouping = group(&nodes, &wishes, 50);
    assert_eq!(islands(&grouping), ["a: a"]);
    assert_eq!(grouping.proposals[0].products, [(H100.into(), 1)]);
    let [left] = &grouping.left_out[..] else { panic!("one entry: {grouping:#?}") };
    assert_eq!((&left.products[..], left.memory), (&[(RTX3090.into(), 2)][..], 48 * GIB));
    assert!(left.reason.contains("not the products asked for, NVIDIA-H100*"));
}

#[test]
fn names_are_labels_and_nobody_has_anothers() {
    let long = "Very.Long_Zone".repeat(9);
    let odd = ["lab", "Lab", "lab-2", "", "-_-", "λ", &long];
    let names = unique_names(&odd);
    assert_eq!(names[..6], ["lab", "lab-2", "lab-2-2", "island", "island-2", "island-3"]);
    // The 52nd would be a hyphen.
    assert_eq!(names[6].len(), 51);
    for name in names {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.chars().all(plain) && !name.starts_with('-') && !name.ends_with('-'));
    }
    // Two nodes of one name cannot be told apart.
    let twice = ["a", "a"].map(|name| node(name, NOWHERE, &[(H100, 80)]));
    let grouping = group(&twice, &none(), 10);
    assert_eq!((grouping.proposals.len(), grouping.left_out[0].memory), (0, 160 * GIB));
}

fn unique_names(nodes: &[&str]) -> Vec<String> {
    let nodes: Vec<_> = nodes.iter().map(|name| node(name, NOWHERE, &[(H100, 80)])).collect();
    let machines = usable(&nodes, &none()).0;
    let name = |node: &Node| {
        let at = machines.iter().position(|machine| machine.node.name == node.name);
        let (members, domains) = (vec![at.expect("usable")], vec![Domain::of(node)]);
        name::of(&machines, &Group { members, memory: 0, domains, part: false, joined: None })
    };
    name::unique(nodes.iter().map(name))
}

#[test]
fn a_thousand_nodes_ask_few_questions() {
    let cards = [(RTX3090, 24); 8];
    let lonely = |n: usize| node(&format!("n{n}"), NOWHERE, &cards);
    let racked = |n: usize| {
        let [zone, rack] = [format!("z{}", n / 100), format!("r{}", n / 2)].map(Some);
        Node { topology: Topology { zone, rack, clique: None }, ..lonely(n) }
    };
    let clusters: [Vec<_>; 2] = [(0..1000).map(lonely).collect(), (0..1000).map(racked).collect()];
    for nodes in &clusters {
        for wishes in [none(), between(500, 5_000)] {
            for model in [100, 1_000, 150_000, 1_000_000] {
                let asked = Cell::new(0);
                propose(nodes, &wishes, |cards| {
                    asked.set(asked.get() + 1);
                    sum(cards) >= model * GIB
                });
                assert!(asked.get() < 3 * nodes.len(), "{} questions", asked.get());
            }
        }
    }
}
