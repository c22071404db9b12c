//! Which cards islands get, and what is known of them.

use super::*;
use crate::cluster::{Links, Node, NodeCard, Reached, Topology};

const GIB: u64 = 1 << 30;

fn node(name: &str, cards: &[(&str, usize)]) -> Node {
    let card = |(product, count): &(&str, usize)| vec![NodeCard::named(product); *count];
    Node {
        name: name.into(),
        topology: Topology::default(),
        cards: cards.iter().flat_map(card).collect(),
        links: Links::default(),
    }
}

/// Node and index of every device of an island of this run's small model.
fn places(islands: &[IslandRequest], nodes: &[Node]) -> Vec<Vec<String>> {
    let on = Execution::Cluster { nodes: nodes.to_vec() };
    let plan = plan_run(&run("llama-demo", 64), islands, &on).expect("it fits");
    let of = |island: &IslandPlan| {
        let mut places: Vec<String> = Vec::new();
        for rank in &island.spec.ranks {
            let node = rank.node.as_deref().expect("nodes have names");
            places.extend(rank.devices.iter().map(|card| match card.device {
                DeviceSpec::Cuda { index, .. } => format!("{node}/{index}"),
                DeviceSpec::Cpu { .. } => format!("{node}/cpu"),
            }));
        }
        places.sort();
        places
    };
    plan.islands.iter().map(of).collect()
}

/// All cards of an island, one replica on each.
fn spread(name: &str, devices: &[DeviceRequest]) -> IslandRequest {
    let count = devices.iter().map(|device| device.max).sum();
    let parallelism = Parallelism { tensor: Some(1), pipeline: Some(1), data: Some(count) };
    IslandRequest { parallelism, ..island(name, devices) }
}

#[test]
fn cards_come_from_the_nodes_that_have_the_most_of_them() {
    let nodes = [
        node("a", &[(H100, 1)]),
        node("b", &[(RTX4090, 1), (H100, 3)]),
        node("c", &[(H100, 2), (RTX4090, 2)]),
    ];
    let of = |count| places(&[spread("i", &[device(H100, count)])], &nodes).remove(0);
    assert_eq!(of(3), ["b/1", "b/2", "b/3"]);
    assert_eq!(of(4), ["b/1", "b/2", "b/3", "c/0"]);
    assert_eq!(of(6), ["a/0", "b/1", "b/2", "b/3", "c/0", "c/1"]);
}

#[test]
fn islands_take_cards_in_turn_each_once_and_only_from_their_own_nodes() {
    let nodes = [node("a", &[(H100, 2)]), node("b", &[(H100, 2)])];
    let own = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    let first = IslandRequest { nodes: own(&["b"]), ..spread("first", &[device(H100, 1)]) };
    let second = spread("second", &[device(H100, 3)]);
    let expected = [vec!["b/0"], vec!["a/0", "a/1", "b/1"]];
    assert_eq!(places(&[first.clone(), second.clone()], &nodes), expected);
    // The other way round nothing is left on b for the one that may use no other.
    let on = Execution::Cluster { nodes: nodes.to_vec() };
    let greedy = spread("greedy", &[device(H100, 4)]);
    let refused = plan_run(&run("llama-demo", 64), &[greedy, first], &on).expect_err("none left");
    let expected = "island first: it asks for 1 × NVIDIA-H100-80GB-HBM3, its nodes have 0 free \
                    (NotEnoughCards): lower the count (or count.min) or change the product";
    assert_eq!(refused.to_string(), expected);
}

#[test]
fn as_many_cards_are_taken_as_there_are_between_the_least_and_the_most() {
    let nodes = [node("a", &[(RTX4090, 3)])];
    let with = |min, max| DeviceRequest { min, max, ..device(RTX4090, 0) };
    let on = Execution::Cluster { nodes: nodes.to_vec() };
    let plan = |min, max| {
        plan_run(&run("llama-demo", 64), &[island("i", &[with(min, max)])], &on)
            .map(|plan| plan.islands[0].usage.given)
    };
    assert_eq!(plan(0, 2), Ok(2));
    assert_eq!(plan(1, 9), Ok(3));
    assert_eq!(plan(3, 3), Ok(3));
    assert_eq!(plan(4, 9).expect_err("three").0[0].reason, Reason::NotEnoughCards);
    // One that may be missing is, and then there is none at all.
    let missing = island("i", &[DeviceRequest { min: 0, max: 2, ..device(H100, 0) }]);
    let (reason, text) = refusal(&run("llama-demo", 64), &missing, &on);
    assert_eq!(reason, Reason::NotEnoughCards);
    assert!(text.contains("none of its cards is here"), "{text}");
}

#[test]
fn more_cards_than_are_planned_for_are_refused_and_as_many_are_not() {
    let refused = |counts: &[u32]| {
        let devices: Vec<_> = counts.iter().map(|count| device(CPU, *count)).collect();
        let asked = IslandRequest {
            // The search is not what is tried here.
            parallelism: Parallelism { data: Some(1), tensor: Some(1), pipeline: Some(1) },
            ..island("many", &devices)
        };
        plan_run(&run("llama-demo", 8), &[asked], &EMULATED).err()
    };
    let most = CARDS_MAX as u32;
    assert_eq!(refused(&[most]), None);
    for counts in [&[most + 1][..], &[most, 1], &[u32::MAX, u32::MAX]] {
        let refusals = refused(counts).expect("too many");
        assert_eq!(refusals.0[0].reason, Reason::TooManyCards);
        let expected = "it has more than 1024 cards, the most that an island is planned for";
        assert_eq!(refusals.0[0].message, expected);
    }
}

/// Memory and tokens a second of an island of one card.
fn alone(device: &DeviceRequest, card: NodeCard) -> (u64, f64) {
    let nodes = vec![Node { cards: vec![card], ..node("a", &[]) }];
    let on = Execution::Cluster { nodes };
    let plan = plan_run(&run("llama-160m", 32), &[island("i", std::slice::from_ref(device))], &on);
    let plan = plan.expect("it fits");
    (devices(&plan.islands[0])[0].memory_bytes, plan.islands[0].spec.tokens_per_second)
}

#[test]
fn the_users_word_counts_before_a_measurement_and_that_before_the_catalogue() {
    let plain = NodeCard::named(RTX4090);
    let slow = Reached { f32_tflops: 20.0, bf16_tflops: Some(30.0), bandwidth_gbps: 500.0 };
    let measured = NodeCard { memory: 20 * GIB, measured: Some(slow), ..plain.clone() };
    let said = |memory, tflops| DeviceRequest { memory, tflops, ..device(RTX4090, 1) };
    let (memory, catalogue) = alone(&said(None, None), plain.clone());
    assert_eq!(memory, plain.memory);
    let (memory, by_measurement) = alone(&said(None, None), measured.clone());
    assert_eq!(memory, 20 * GIB);
    assert!(by_measurement < 0.6 * catalogue, "{by_measurement} of {catalogue}");
    let (memory, by_word) = alone(&said(Some(16 * GIB), Some(165.2)), measured.clone());
    assert_eq!(memory, 16 * GIB);
    assert!((by_word / catalogue - 1.0).abs() < 0.05, "the catalogue's own figure: {by_word}");
    let (_, less) = alone(&said(None, Some(50.0)), measured);
    assert!(less < 0.6 * by_word, "{less} of {by_word}");
}

#[test]
fn a_product_that_nobody_knows_is_planned_by_what_was_measured_or_said() {
    let unknown = |measured| NodeCard { product: "Abacus".into(), memory: 16 * GIB, measured };
    let reached = |bf16_tflops| Reached { f32_tflops: 20.0, bf16_tflops, bandwidth_gbps: 500.0 };
    let (_, half) = alone(&device("Abacus", 1), unknown(Some(reached(Some(80.0)))));
    let (_, single) = alone(&device("Abacus", 1), unknown(Some(reached(None))));
    assert!(single < 0.5 * half, "{single} in f32, {half} in bf16");
    let said = DeviceRequest { tflops: Some(80.0), ..device("Abacus", 1) };
    let (_, said) = alone(&said, unknown(None));
    // A datasheet's figure is not reached, a measured one was.
    assert!(said < half && said > single, "{said}");
    let on =
        Execution::Cluster { nodes: vec![Node { cards: vec![unknown(None)], ..node("a", &[]) }] };
    let (reason, text) = refusal(&run("llama-160m", 8), &island("i", &[device("Abacus", 1)]), &on);
    assert_eq!(reason, Reason::UnknownProduct);
    assert!(text.contains("Abacus is not in the GPU catalogue"), "{text}");
}

#[test]
fn the_threads_of_a_clusters_hosts_are_cards_like_others() {
    let host = |name| node(name, &[(CPU, 2), (RTX4090, 1)]);
    let mut nodes = [host("a"), host("b")];
    // Cards on a host of little memory have as much as was measured.
    nodes[1].cards.retain(|card| card.product == CPU);
    let found = places(&[spread("i", &[device(CPU, 4)])], &nodes);
    assert_eq!(found, [["a/cpu", "a/cpu", "b/cpu", "b/cpu"]]);
    let on = Execution::Cluster { nodes: nodes.to_vec() };
    let plan = plan_run(&run("llama-demo", 64), &[spread("i", &[device(CPU, 4)])], &on);
    let ranks = plan.expect("it fits").islands.remove(0).spec.ranks;
    let threads = ranks.iter().map(|rank| (rank.devices.len(), rank.devices[0].device));
    let one = (1, DeviceSpec::Cpu { threads: 1, speed: 1.0 });
    assert_eq!(threads.collect::<Vec<_>>(), [one; 4], "each a process");
}

#[test]
fn emulated_cards_are_as_slow_beside_the_fastest_as_their_datasheets_say() {
    let islands = [
        island("dc", &[device("NVIDIA-B200", 1)]),
        island("old", &[device("Tesla-T4", 1)]),
        island(
            "own",
            &[DeviceRequest { tflops: Some(225.0), memory: Some(GIB), ..device("Abacus", 1) }],
        ),
    ];
    let plan = plan_run(&run("llama-demo", 8), &islands, &EMULATED).expect("it fits");
    let speeds: Vec<f64> = plan.islands.iter().flat_map(speeds).collect();
    assert_eq!(speeds, [1.0, 8.1 / 2250.0, 0.1]);
    // What is emulated computes on the CPU, and so in f32.
    let cards = plan.islands.iter().flat_map(devices);
    assert!(cards.map(|card| card.device.precision()).all(|it| it == Precision::F32));
    let seconds: Vec<f64> = plan.islands.iter().map(IslandPlan::step_seconds).collect();
    assert!((seconds[2] / seconds[0] - 10.0).abs() < 0.01, "{seconds:?}");
}

#[test]
fn neighbours_on_a_node_are_one_process_and_nodes_are_not() {
    let nodes = [node("a", &[(RTX4090, 2)]), node("b", &[(RTX4090, 2)])];
    let on = Execution::Cluster { nodes: nodes.to_vec() };
    let parallelism = Parallelism { tensor: Some(2), pipeline: Some(2), data: Some(1) };
    let asked = IslandRequest { parallelism, ..island("i", &[device(RTX4090, 4)]) };
    let plan = plan_run(&run("llama-160m", 16), &[asked], &on).expect("it fits");
    let ranks: Vec<_> = plan.islands[0].spec.ranks.iter().collect();
    let shown: Vec<_> =
        ranks.iter().map(|rank| (rank.node.as_deref(), rank.devices.len())).collect();
    assert_eq!(shown, [(Some("a"), 2), (Some("b"), 2)]);
}

#[test]
fn a_machine_that_has_too_few_cards_says_how_many_and_that_they_can_be_emulated() {
    let on = local(&[card(0, RTX4090), card(1, H100)]);
    let (reason, text) = refusal(&run("llama-demo", 8), &island("i", &[device(RTX4090, 2)]), &on);
    assert_eq!(reason, Reason::NotEnoughCards);
    let expected = "it asks for 2 × NVIDIA-GeForce-RTX-4090, this machine has 1 free \
                    (NotEnoughCards): lower the count (or count.min) or change the product, or \
                    emulate the cards";
    assert!(text.ends_with(expected), "{text}");
}
