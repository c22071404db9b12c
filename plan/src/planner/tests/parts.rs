//! Slices of MIG and shared cards.

use super::*;
use crate::cluster::{Links, Node, NodeCard, Topology};

const SLICE: &str = "NVIDIA-A100-SXM4-40GB-MIG-3g.20gb";
const SHARED: &str = "NVIDIA-A100-SXM4-40GB-SHARED";

fn node(name: &str, product: &str, mib: u64, count: usize) -> Node {
    let card = NodeCard { product: product.into(), memory: mib << 20, measured: None };
    Node {
        name: name.into(),
        topology: Topology::default(),
        cards: vec![card; count],
        links: Links::default(),
    }
}

fn replicas(count: u32) -> Parallelism {
    Parallelism { data: Some(count), ..Parallelism::default() }
}

fn on(nodes: Vec<Node>, product: &str, count: u32) -> Result<IslandPlan, Refusals> {
    let parallelism = replicas(count);
    let island = IslandRequest { parallelism, ..island("lab", &[device(product, count)]) };
    let execution = Execution::Cluster { nodes };
    plan_run(&run("llama-160m", 64), &[island], &execution).map(|mut plan| plan.islands.remove(0))
}

#[test]
fn every_part_of_a_card_has_a_process_of_its_own() {
    let cases = [
        (SLICE, 19_968, vec![1, 1]),
        (SHARED, 20_268, vec![1, 1]),
        ("NVIDIA-A100-SXM4-40GB", 40_536, vec![2]),
    ];
    for (product, mib, processes) in cases {
        let plan = on(vec![node("a", product, mib, 2)], product, 2).expect(product);
        let devices: Vec<_> = plan.spec.ranks.iter().map(|rank| rank.devices.len()).collect();
        assert_eq!(devices, processes, "{product}");
        let memory = mib << 20;
        assert!(devices_of(&plan).all(|card| (card.0.as_str(), card.1) == (product, memory)));
    }
}

fn devices_of(plan: &IslandPlan) -> impl Iterator<Item = (String, u64)> {
    devices(plan).into_iter().map(|card| (card.product.clone(), card.memory_bytes))
}

#[test]
fn a_part_of_a_card_is_as_fast_as_its_share() {
    let speed = |product: &str, mib: u64| {
        let plan = on(vec![node("a", product, mib, 1)], product, 1).expect(product);
        plan.spec.tokens_per_second
    };
    let whole = speed("NVIDIA-A100-SXM4-40GB", 40_536);
    let ratio = |part: f64| part / whole;
    let sevenths = ratio(speed(SLICE, 19_968));
    assert!((0.9..1.1).contains(&(sevenths * 7.0 / 3.0)), "{sevenths}");
    let quarter = ratio(speed(SHARED, 10_134));
    assert!((0.9..1.1).contains(&(quarter * 4.0)), "{quarter}");
}

#[test]
fn a_family_does_not_mean_parts_and_the_refusal_says_how_to_have_them() {
    let nodes = || vec![node("a", SLICE, 19_968, 2)];
    let refused = on(nodes(), "NVIDIA-A100*", 2).expect_err("parts");
    assert_eq!(refused.0[0].reason, Reason::NotEnoughCards);
    assert_eq!(refused.0[0].remedy, format!("have the product be {SLICE} to use parts of cards"));
    assert!(on(nodes(), "NVIDIA-A100-SXM4-40GB-MIG-*", 2).is_ok());
}

#[test]
fn whole_cards_that_are_too_few_are_not_answered_with_parts() {
    let nodes = vec![node("a", "NVIDIA-A100-SXM4-40GB", 40_536, 1), node("b", SLICE, 19_968, 2)];
    let refused = on(nodes, "NVIDIA-A100*", 2).expect_err("one whole card");
    assert!(refused.0[0].remedy.starts_with("lower the count"), "{refused}");
}

#[test]
fn a_known_slice_is_emulated_by_its_share_and_a_shared_card_by_the_memory_that_is_said() {
    let planned = |device: DeviceRequest| {
        plan_run(&run("llama-demo", 8), &[island("lab", &[device])], &EMULATED)
    };
    let memory = |plan: &RunPlan| devices(&plan.islands[0])[0].memory_bytes;
    assert_eq!(memory(&planned(device(SLICE, 1)).expect("known")), 20_000_000_000);
    let refused = planned(device(SHARED, 1)).expect_err("by how many is not known");
    assert_eq!(refused.0[0].remedy, "set memory on the device, above 0");
    let said = DeviceRequest { memory: Some(10 << 30), ..device(SHARED, 1) };
    assert_eq!(memory(&planned(said).expect("said")), 10 << 30);
}
