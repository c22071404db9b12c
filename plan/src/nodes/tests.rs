//! Tests of assumed nodes and of what records change in them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::cluster::{Curve, Reached};
use crate::request::{Objective, Parallelism, PipelineRequest};

const H100: &str = "NVIDIA-H100-80GB-HBM3";
const RTX4090: &str = "NVIDIA-GeForce-RTX-4090";

fn island(name: &str, devices: &[(&str, u32)]) -> IslandRequest {
    let device = |(product, count): &(&str, u32)| DeviceRequest {
        product: (*product).into(),
        min: *count,
        max: *count,
        memory: None,
        tflops: None,
        cost_per_hour: None,
    };
    IslandRequest {
        name: name.into(),
        devices: devices.iter().map(device).collect(),
        min_memory: 0,
        parallelism: Parallelism::default(),
        pipeline: PipelineRequest::default(),
        objective: Objective::default(),
        uplink: None,
        nodes: None,
        correction: 1.0,
    }
}

fn shown(site: &Site) -> Vec<(&str, &str, usize)> {
    let node = |node: &'_ Node| node.cards[0].product.clone();
    assert!(site.nodes.iter().all(|it| it.cards.iter().all(|card| card.product == node(it))));
    let nodes = site.nodes.iter();
    nodes.map(|it| (it.name.as_str(), it.cards[0].product.as_str(), it.cards.len())).collect()
}

#[test]
fn declared_cards_stand_in_nodes_of_eight_that_are_their_islands_own() {
    let islands = [island("dc", &[(H100, 11)]), island("lab", &[(RTX4090, 2), (gpu::CPU, 1)])];
    let site = Site::assumed(islands.to_vec());
    let expected = [
        ("dc-0-0", H100, 8),
        ("dc-0-1", H100, 3),
        ("lab-0-0", RTX4090, 2),
        ("lab-1-0", gpu::CPU, 1),
    ];
    assert_eq!(shown(&site), expected);
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).into()).collect());
    assert_eq!(site.islands[0].nodes, names(&["dc-0-0", "dc-0-1"]));
    assert_eq!(site.islands[1].nodes, names(&["lab-0-0", "lab-1-0"]));
    assert_eq!(site.nodes[0].cards[0].memory, gpu::lookup(H100).expect("known").memory());
}

#[test]
fn a_family_is_its_fastest_card_which_is_said_and_takes_no_other_entrys() {
    let site = Site::assumed(vec![island("a", &[("NVIDIA-H100*", 2), ("NVIDIA-H100-PCIe", 8)])]);
    assert_eq!(shown(&site), [("a-0-0", H100, 2), ("a-1-0", "NVIDIA-H100-PCIe", 8)]);
    let products: Vec<_> = site.islands[0].devices.iter().map(|it| it.product.as_str()).collect();
    assert_eq!(products, [H100, "NVIDIA-H100-PCIe"]);
    let note = "island a: NVIDIA-H100* is taken to be NVIDIA-H100-80GB-HBM3, the fastest card of \
                that name";
    assert_eq!(site.notes, [note]);
}

#[test]
fn an_unknown_product_has_the_memory_that_its_entry_says() {
    let mut unlike = island("a", &[("Abacus*", 1), ("Slide-Rule", 1)]);
    unlike.devices[1].memory = Some(7);
    let site = Site::assumed(vec![unlike]);
    assert_eq!(shown(&site), [("a-0-0", "Abacus*", 1), ("a-1-0", "Slide-Rule", 1)]);
    assert_eq!(memories(&site.nodes), [0, 7]);
    assert!(site.notes.is_empty(), "{:?}", site.notes);
}

fn memories(nodes: &[Node]) -> Vec<u64> {
    nodes.iter().flat_map(|node| &node.cards).map(|card| card.memory).collect()
}

proptest! {
    #[test]
    fn every_declared_card_is_there_once_up_to_one_more_than_is_planned_for(
        counts in prop::collection::vec(prop::collection::vec(0..3000_u32, 1..5), 1..4),
    ) {
        let named = (0..).zip(&counts).map(|(index, counts): (u32, &Vec<u32>)| {
            let devices: Vec<_> = counts.iter().map(|count| (H100, *count)).collect();
            island(&format!("i{index}"), &devices)
        });
        let site = Site::assumed(named.collect());
        let names: BTreeSet<_> = site.nodes.iter().map(|node| &node.name).collect();
        prop_assert_eq!(names.len(), site.nodes.len());
        prop_assert!(site.nodes.iter().all(|it| (1..=NODE_CARDS).contains(&it.cards.len())));
        for (island, counts) in site.islands.iter().zip(&counts) {
            let own = island.nodes.as_ref().expect("its own");
            let nodes = site.nodes.iter().filter(|node| own.contains(&node.name));
            let cards: usize = nodes.map(|node| node.cards.len()).sum();
            let declared = counts.iter().map(|count| *count as usize).sum::<usize>();
            prop_assert_eq!(cards, declared.min(CARDS_MAX + 1));
        }
    }
}

const REACHED: Reached =
    Reached { f32_tflops: 40.0, bf16_tflops: Some(500.0), bandwidth_gbps: 2000.0 };

fn device(product: &str, index: Option<u32>) -> DeviceCapability {
    DeviceCapability {
        product: product.into(),
        index,
        memory_bytes: 1000,
        free_bytes: 900,
        reached: REACHED,
    }
}

fn record(node: &str, devices: Vec<DeviceCapability>) -> Capability {
    Capability {
        node: node.into(),
        devices,
        links: Links::default(),
        all_reduce: None,
        uplink: None,
    }
}

#[test]
fn measured_cards_and_links_take_the_place_of_assumed_ones() {
    let site = Site::assumed(vec![island("dc", &[(H100, 2)]), island("lab", &[(H100, 1)])]);
    let cards = vec![device(H100, Some(1)), device(H100, Some(7)), device(gpu::CPU, None)];
    let mut first = record("dc-0-0", cards);
    first.links.node = Some(Curve::linear(1e-3, 1e9));
    let mut second = record("dc-0-0", Vec::new());
    second.links.network = Some(Curve::linear(1e-2, 1e8));
    let measured = site.clone().measured(&[first.clone(), second.clone()]).expect("it fits");
    let [plain, known] = &measured.nodes[0].cards[..] else { panic!("{measured:#?}") };
    assert_eq!(*plain, site.nodes[0].cards[0]);
    assert_eq!((known.memory, known.measured), (1000, Some(REACHED)));
    let links = Links { process: None, node: first.links.node, network: second.links.network };
    assert_eq!(measured.nodes[0].links, links);
    assert_eq!((&measured.nodes[1], &measured.islands), (&site.nodes[1], &site.islands));
}

#[test]
fn the_threads_of_a_host_share_its_memory() {
    let site = Site::assumed(vec![island("a", &[(gpu::CPU, 4)])]);
    let host = record("a-0-0", vec![device(H100, Some(0)), device(gpu::CPU, None)]);
    let site = site.measured(&[host]).expect("it fits");
    assert_eq!(memories(&site.nodes), [250; 4]);
    assert!(site.nodes[0].cards.iter().all(|card| card.measured == Some(REACHED)));
}

#[test]
fn an_uplink_is_its_islands_where_that_says_none() {
    let bandwidth = |up: f64| Some(Bandwidth { up, down: 2.0 * up });
    let mut said = island("said", &[(H100, 1)]);
    said.uplink = bandwidth(1.0);
    let site = Site::assumed(vec![said, island("dc", &[(H100, 24)]), island("lab", &[(H100, 1)])]);
    let with = |node: &str, up| Capability { uplink: bandwidth(up), ..record(node, Vec::new()) };
    let records = [
        with("said-0-0", 3.0),
        with("dc-0-2", 5.0),
        with("dc-0-1", 4.0),
        record("dc-0-1", Vec::new()),
    ];
    let site = site.measured(&records).expect("it fits");
    let uplinks: Vec<_> = site.islands.iter().map(|island| island.uplink).collect();
    assert_eq!(uplinks, [bandwidth(1.0), bandwidth(4.0), None]);
}

#[test]
fn a_record_of_another_node_or_card_is_refused_by_both_names() {
    let site = || Site::assumed(vec![island("dc", &[(H100, 2)]), island("lab", &[(RTX4090, 160)])]);
    let refused = |record| site().measured(&[record]).expect_err("refused").to_string();
    let unknown = refused(record("elsewhere", Vec::new()));
    assert!(unknown.contains("node elsewhere: the nodes here are dc-0-0, lab-0-0, "), "{unknown}");
    assert!(unknown.contains("lab-0-14 and 5 more; write one of them"), "{unknown}");
    let other = refused(record("dc-0-0", vec![device(H100, Some(0)), device(RTX4090, Some(1))]));
    let expected =
        format!("node dc-0-0: it measured {RTX4090} where the island has card 1, {H100}");
    assert!(other.contains(&expected), "{other}");
}
