//! Tests of grouping: tables of clusters and their islands.

mod names;
mod omitted;
mod planned;
mod properties;

use std::cell::Cell;

use super::*;
use crate::cluster::{Curve, Links, Reached, Topology};
use crate::planner::CARDS_MAX;

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

fn sum(nodes: &[Node]) -> u64 {
    nodes.iter().flat_map(|node| &node.cards).map(|card| card.memory).sum()
}

/// A planner whose islands make so many tokens a second for each node and GiB, times a factor for
/// each node more than one, and which counts what it is asked.
struct Fake {
    model: u64,
    factor: f64,
    asked: Cell<[usize; 2]>,
}

impl Fake {
    fn new(model: u64, factor: f64) -> Self {
        Self { model, factor, asked: Cell::default() }
    }

    fn count(&self, at: usize, more: usize) {
        let mut asked = self.asked.get();
        asked[at] += more;
        self.asked.set(asked);
    }
}

impl Predict for Fake {
    fn holds(&self, nodes: &[Node]) -> bool {
        self.count(0, 1);
        sum(nodes) >= self.model * GIB
    }

    fn tokens_per_second(&self, nodes: &[Node]) -> Option<f64> {
        let cards: usize = nodes.iter().map(|node| node.cards.len()).sum();
        self.count(1, cards.min(CARDS_MAX));
        let speed = (sum(nodes) / GIB) as f64 * self.factor.powi(nodes.len() as i32 - 1);
        (sum(nodes) >= self.model * GIB).then_some(speed)
    }
}

/// Islands for a model of so many GiB that does not mind how it is cut, and for which each further
/// node of an island costs a hundredth.
fn group(nodes: &[Node], wishes: &Wishes, model: u64) -> Grouping {
    propose(nodes, wishes, &Fake::new(model, 0.99))
}

/// The same for one that each further node makes faster by a hundredth.
fn quick(nodes: &[Node], wishes: &Wishes, model: u64) -> Grouping {
    propose(nodes, wishes, &Fake::new(model, 1.01))
}

fn reason(grouping: &Grouping, at: usize) -> String {
    grouping.proposals[at].reason.to_string()
}

fn left_reason(grouping: &Grouping, at: usize) -> String {
    grouping.left_out[at].reason.to_string()
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
    Wishes { min_memory: some(min), max_memory: some(max), ..Wishes::default() }
}

fn labelled() -> [Node; 12] {
    let h100 = [(H100, 80); 4];
    [
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
        linked(node("f2", NOWHERE, &h100), 12.1),
        linked(node("f3", NOWHERE, &h100), 0.9),
    ]
}

#[test]
fn what_holds_the_model_is_joined_with_what_is_near_where_that_is_faster() {
    let grouping = group(&labelled(), &none(), 100);
    let alone = labelled().map(|node| format!("{0}: {0}", node.name));
    assert_eq!((islands(&grouping), &grouping.left_out), (alone.to_vec(), &vec![]));
    let apart = "node a1: the model fits; kept apart from what is near, which would not be faster: \
                 634 tokens/s together, 640 tokens/s apart";
    assert_eq!(
        (reason(&grouping, 0), reason(&grouping, 7)),
        (apart.into(), "node e1: the model fits".into())
    );
    let grouping = quick(&labelled(), &none(), 100);
    let expected =
        ["d1: d1", "e1: e1", "e2: e2", "east: a1 a2 a3 b1 b2 c1", "f1-and-1: f1 f2", "f3: f3"];
    assert_eq!(
        (islands(&grouping), &grouping.left_out),
        (expected.map(String::from).to_vec(), &vec![])
    );
    let joined = &grouping.proposals[4];
    assert_eq!((&joined.products[..], joined.memory), (&[(H100.into(), 8)][..], 640 * GIB));
    let faster = "2 nodes of a fast network: joined because that is faster: 646 tokens/s together, \
                  640 tokens/s apart";
    assert_eq!(reason(&grouping, 4), faster);
}

#[test]
fn a_joined_island_is_named_by_the_narrowest_place_around_it() {
    let places: [(&[usize], &str); 5] = [
        (&[0, 1], "nv-7: a1 a2"),
        (&[0, 2], "east-r1: a1 a3"),
        (&[3, 4], "east-r2: b1 b2"),
        (&[3, 5], "east: b1 c1"),
        (&[7, 8], "e1-and-1: e1 e2"),
    ];
    for (members, expected) in places {
        let nodes: Vec<Node> = members.iter().map(|at| labelled()[*at].clone()).collect();
        assert_eq!(islands(&group(&nodes, &none(), 600)), [expected]);
    }
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
    let needed = "2 nodes of zone east: joined because the model does not fit in fewer with enough \
                  memory";
    assert_eq!(reason(&grouping, 1), needed);
    assert!(reason(&grouping, 0).ends_with("links between them may be slow"));
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
fn like_nodes_are_spread_over_islands_so_that_none_is_left_over() {
    let islands = |count: usize, model: u64, wishes: &Wishes| {
        let nodes: Vec<_> = (0..count)
            .map(|at| node(&format!("n{at:02}"), ["lab", "", ""], &[(RTX3090, 24)]))
            .collect();
        let grouping = group(&nodes, wishes, model);
        let sizes: Vec<_> = grouping.proposals.iter().map(|it| it.nodes.len()).collect();
        (sizes, left_out(&grouping))
    };
    assert_eq!(islands(7, 70, &none()), (vec![4, 3], vec![]));
    assert_eq!(islands(11, 70, &none()), (vec![4, 4, 3], vec![]));
    assert_eq!(islands(5, 70, &none()), (vec![5], vec![]));
    assert_eq!(islands(3, 200, &none()), (vec![], vec!["n00 n01 n02".to_owned()]));
    // No more than three in one, so that the others make none.
    assert_eq!(islands(5, 70, &between(0, 80)), (vec![3], vec!["n03 n04".to_owned()]));
}

/// A planner of which an island of so many nodes makes these tokens a second.
struct Table(&'static [f64]);

impl Predict for Table {
    fn holds(&self, nodes: &[Node]) -> bool {
        self.tokens_per_second(nodes).is_some()
    }

    fn tokens_per_second(&self, nodes: &[Node]) -> Option<f64> {
        self.0.get(nodes.len() - 1).copied().filter(|speed| *speed > 0.0)
    }
}

#[test]
fn like_nodes_make_islands_of_the_size_at_which_all_are_fastest() {
    let sizes = |count: usize, speeds: &'static [f64]| {
        let name = |at: usize| format!("n{at:02}");
        let nodes: Vec<_> =
            (0..count).map(|at| node(&name(at), ["lab", "", ""], &[(RTX3090, 24)])).collect();
        let grouping = propose(&nodes, &none(), &Table(speeds));
        for why in grouping.proposals.iter().flat_map(|it| &it.reason.why) {
            let (Why::Faster(it) | Why::Apart(it)) = why else { continue };
            let faster = it.together > it.apart;
            assert_eq!(faster, matches!(why, Why::Faster(_)), "{grouping:#?}");
        }
        let mut sizes: Vec<_> = grouping.proposals.iter().map(|it| it.nodes.len()).collect();
        sizes.sort_unstable();
        (sizes, grouping.left_out.len())
    };
    let table: [(usize, &'static [f64], &[usize], usize); 7] = [
        (4, &[10.0, 19.0, 28.0, 35.0], &[1, 1, 1, 1], 0),
        (4, &[10.0, 21.0, 30.0, 40.0], &[2, 2], 0),
        // Three are faster together, the fourth would not be.
        (4, &[10.0, 19.0, 31.0, 38.0], &[1, 3], 0),
        (4, &[10.0, 21.0, 33.0, 45.0], &[4], 0),
        // The model takes two; a third is of no use.
        (3, &[0.0, 10.0, 10.0], &[2], 1),
        (3, &[0.0, 10.0, 11.0], &[3], 0),
        (6, &[0.0, 10.0, 16.0, 17.0, 18.0, 19.0], &[3, 3], 0),
    ];
    for (count, speeds, expected, left) in table {
        assert_eq!(sizes(count, speeds), (expected.to_vec(), left), "{count} of {speeds:?}");
    }
}

#[test]
fn a_rest_joins_an_island_of_its_zone_that_it_makes_faster_but_of_no_other() {
    let nodes = [
        node("big", ["east", "r1", ""], &[(H100, 80)]),
        node("huge", ["east", "r2", ""], &[(H100, 80); 2]),
        node("small", ["east", "r3", ""], &[(RTX3090, 24)]),
        node("stray", ["west", "r1", ""], &[(RTX3090, 24)]),
    ];
    let grouping = group(&nodes, &none(), 80);
    assert_eq!(islands(&grouping), ["east: big small", "huge: huge"]);
    let faster = "joined because that is faster: 103 tokens/s together, 80 tokens/s apart";
    assert!(reason(&grouping, 0).contains(faster), "{grouping:#?}");
    assert_eq!(left_out(&grouping), ["stray"]);
    assert!(left_reason(&grouping, 0).starts_with("node stray cannot hold the model, and"));
    let grouping = propose(&nodes, &none(), &Fake::new(80, 0.7));
    assert_eq!(islands(&grouping), ["big: big", "huge: huge"]);
    assert_eq!(left_out(&grouping), ["small", "stray"]);
    let slower = "would be faster with a node of it: 73 tokens/s together, 80 tokens/s apart";
    assert!(left_reason(&grouping, 0).contains(slower), "{grouping:#?}");
}

#[test]
fn unlike_islands_are_joined_in_pairs_that_gain_most() {
    let cards = [("a", 80), ("b", 100), ("c", 300)];
    let nodes = cards.map(|(name, gib)| node(name, ["lab", "", ""], &[(H100, gib)]));
    assert_eq!(islands(&quick(&nodes, &between(0, 390), 50)), ["b: b", "lab: a c"]);
    assert_eq!(islands(&quick(&nodes, &between(0, 400), 50)), ["a: a", "lab: b c"]);
    assert_eq!(islands(&quick(&nodes, &none(), 50)), ["lab: a b c"]);
}

#[test]
fn memory_over_any_cards_is_kept_within_what_is_wished() {
    let mixed = [(H100, 80), (RTX3090, 24)];
    let nodes = ["a", "b", "c", "d", "e"].map(|name| node(name, ["lab", "", ""], &mixed));
    let wish = |min, max| islands(&group(&nodes, &between(min, max), 50));
    assert_eq!(wish(128, 1000), ["lab: a b c", "lab-2: d e"]);
    assert_eq!(wish(210, 1000), ["lab: a b c d e"]);
    assert_eq!(wish(0, 1000), ["a: a", "b: b", "c: c", "d: d", "e: e"]);
    // Two more nodes would be above 320 GiB, and have too little for 300.
    let grouping = group(&nodes, &between(300, 320), 50);
    assert_eq!(
        (islands(&grouping), left_out(&grouping)),
        (vec!["lab: a b c".into()], vec!["d e".into()])
    );
    assert!(left_reason(&grouping, 0).contains("2 nodes of zone lab make no island of minMemory"));
    // One alone does not hold 150, and three are above 250.
    let grouping = group(&nodes, &between(0, 250), 150);
    assert_eq!(islands(&grouping), ["lab: a b", "lab-2: c d"]);
    assert_eq!(grouping.proposals[0].products, [(RTX3090.into(), 2), (H100.into(), 2)]);
    // A node that is above it alone cannot be split.
    let grouping = group(&nodes[..1], &between(0, 100), 10);
    assert!(left_reason(&grouping, 0).contains("node a alone is above maxMemory of 100.0 GiB"));
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
    assert!(left.reason.to_string().contains("not the products asked for, NVIDIA-H100*"));
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
    name::unique(nodes.iter().map(|node| name::of(&Domain::Node(node))))
}

/// As many nodes of 8 cards, without labels or two to a rack and a hundred to a zone.
fn thousand() -> [Vec<Node>; 2] {
    let lonely = |n: usize| node(&format!("n{n}"), NOWHERE, &[(RTX3090, 24); 8]);
    let racked = |n: usize| {
        let [zone, rack] = [format!("z{}", n / 100), format!("r{}", n / 2)].map(Some);
        Node { topology: Topology { zone, rack, clique: None }, ..lonely(n) }
    };
    [(0..1000).map(lonely).collect(), (0..1000).map(racked).collect()]
}

#[test]
fn a_thousand_nodes_that_are_alike_ask_few_questions() {
    for nodes in &thousand() {
        for wishes in [none(), between(500, 5_000)] {
            for model in [100, 1_000, 150_000, 1_000_000] {
                let planner = Fake::new(model, 0.999);
                propose(nodes, &wishes, &planner);
                let [held, planned] = planner.asked.get();
                assert!(held < 100 && planned <= 2_000, "{held} questions, {planned} cards");
            }
        }
    }
}

#[test]
fn measurements_that_hardly_differ_ask_no_further_questions_and_others_a_bounded_number() {
    let measured = |spread: f64| {
        let mut nodes = thousand()[1].clone();
        for (at, node) in nodes.iter_mut().enumerate() {
            let tflops = 60.0 + spread * at as f64;
            for card in &mut node.cards {
                card.measured = Some(Reached {
                    f32_tflops: tflops,
                    bf16_tflops: Some(tflops),
                    bandwidth_gbps: 800.0,
                });
            }
        }
        nodes
    };
    for (spread, most) in [(0.0, 10), (1e-3, 40), (1.0, 4_000)] {
        let planner = Fake::new(150, 0.999);
        let grouping = propose(&measured(spread), &none(), &planner);
        let [held, planned] = planner.asked.get();
        assert!(held <= most && planned <= 2_000, "{held} questions, {planned} cards");
        assert_eq!(grouping.proposals.len(), 1000);
    }
}
