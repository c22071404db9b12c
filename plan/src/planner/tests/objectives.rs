//! What a plan is best at, and what it says of itself.

use super::*;
use crate::cluster::{Curve, Links, Node, NodeCard, Topology};

const L40S: &str = "NVIDIA-L40S";

fn planned(model: &str, sequences: u32, island: &IslandRequest, on: &Execution) -> IslandPlan {
    let plan = plan_run(&run(model, sequences), std::slice::from_ref(island), on);
    plan.expect("it fits").islands.remove(0)
}

fn products(island: &IslandPlan) -> Vec<String> {
    let mut products: Vec<String> =
        devices(island).into_iter().map(|card| card.product.clone()).collect();
    products.sort();
    products.dedup();
    products
}

/// Cards each on a node of its own, with so many bytes a second between nodes.
fn apart(product: &str, count: usize, speed: f64) -> Execution {
    let node = |at: usize| Node {
        name: format!("node-{at}"),
        topology: Topology::default(),
        cards: vec![NodeCard::named(product)],
        links: Links { network: Some(Curve::linear(1e-4, speed)), ..Links::default() },
    };
    Execution::Cluster { nodes: (0..count).map(node).collect() }
}

fn says(island: &IslandPlan, words: &str) -> bool {
    island.reasons.iter().any(|reason| reason.contains(words))
}

/// An L40S has 362 TFLOP/s and 864 GB/s for 350 W, an L4 121 and 300 for 72: more of both for each
/// watt, less in all.
#[test]
fn the_objective_decides_which_cards_are_of_use() {
    let cost = |product, cost| DeviceRequest { cost_per_hour: Some(cost), ..device(product, 1) };
    let with = |objective, [l40s, l4]: [f64; 2]| {
        let devices = [cost(L40S, l40s), cost("NVIDIA-L4", l4)];
        let asked = IslandRequest { objective, ..island("mixed", &devices) };
        let cards = local(&[card(0, L40S), card(1, "NVIDIA-L4")]);
        planned("llama-160m", 64, &asked, &cards)
    };
    let all = with(Objective::Throughput, [1.0, 1.0]);
    assert_eq!(products(&all), ["NVIDIA-L4", L40S]);
    let frugal = with(Objective::PerWatt, [1.0, 1.0]);
    assert_eq!(products(&frugal), ["NVIDIA-L4"]);
    assert!(says(&frugal, "left out 1 × NVIDIA-L40S"), "{:?}", frugal.reasons);
    assert_eq!(products(&with(Objective::PerCost, [10.0, 0.1])), ["NVIDIA-L4"]);
    assert_eq!(products(&with(Objective::PerCost, [0.1, 10.0])), [L40S]);
    assert!(frugal.spec.tokens_per_second < all.spec.tokens_per_second);
    // What is left out was given, and is not used.
    assert_eq!((frugal.usage.used, frugal.usage.given), (1, 2));
    assert_eq!(frugal.usage.speed(), 121.0 / (121.0 + 362.0));
}

#[test]
fn compression_where_links_are_slow_is_used_there_only() {
    let with = |speed, where_slow| {
        let asked = IslandRequest {
            parallelism: Parallelism { tensor: Some(1), pipeline: Some(2), data: Some(1) },
            pipeline: PipelineRequest {
                compression: Some(PipelineCompression { rank: 16 }),
                compress_where_slow: where_slow,
                recompute: None,
            },
            ..island("lab", &[device(RTX4090, 2)])
        };
        planned("llama-160m", 32, &asked, &apart(RTX4090, 2, speed))
    };
    let fast = with(1e11, true);
    assert_eq!(fast.spec.sharding.compression, None);
    assert!(says(&fast, "pipeline.compression is not used: the links do not ask for it"));
    let slow = with(1e7, true);
    assert_eq!(slow.spec.sharding.compression, Some(PipelineCompression { rank: 16 }));
    assert!(says(&slow, "16 of 768 values of a token cross between stages"));
    // Without that wish it is used whatever the links.
    assert!(with(1e11, false).spec.sharding.compression.is_some());
    assert_eq!(with(1e7, false).spec, slow.spec);
}

#[test]
fn slow_networks_keep_a_model_on_one_node() {
    let many = island("lab", &[device(RTX4090, 4)]);
    let fast = planned("llama-160m", 64, &many, &apart(RTX4090, 4, 1e11));
    let slow = planned("llama-160m", 64, &many, &apart(RTX4090, 4, 1e6));
    assert_eq!((fast.usage.used, slow.usage.used), (4, 1));
    assert!(says(&slow, "left out 3 × NVIDIA-GeForce-RTX-4090"), "{:?}", slow.reasons);
}

#[test]
fn a_faster_network_never_makes_an_island_slower() {
    let many = island("lab", &[device(RTX4090, 3)]);
    let mut last = 0.0;
    for speed in [1e6, 1e7, 1e8, 1e9, 1e10, 1e11] {
        let own = planned("llama-160m", 24, &many, &apart(RTX4090, 3, speed));
        let tokens = own.spec.tokens_per_second;
        assert!(tokens >= last * 0.997, "{tokens} after {last}");
        last = tokens;
    }
}

#[test]
fn what_recompute_is_for_is_said() {
    let with = |recompute, gib: u64, count: u32| {
        let small = DeviceRequest { memory: Some(gib << 30), ..device(RTX3090, count) };
        let asked = IslandRequest {
            parallelism: Parallelism { tensor: Some(1), pipeline: Some(count), data: Some(1) },
            pipeline: PipelineRequest { recompute, ..PipelineRequest::default() },
            ..island("lab", &[small])
        };
        let cards: Vec<_> = (0..count).map(|index| card(index, RTX3090)).collect();
        planned("llama-160m", 32, &asked, &local(&cards))
    };
    let all = with(Some(true), 24, 3);
    assert!(says(&all, "all stages compute activations again in backward, as asked"));
    assert!(!says(&with(None, 24, 3), "again in backward"));
    assert!(!says(&with(Some(false), 24, 3), "again in backward"));
}

#[test]
fn a_split_says_whether_it_had_to_be() {
    let cards: Vec<_> = (0..2).map(|index| card(index, RTX4090)).collect();
    let with = |pipeline, tensor| {
        let parallelism = Parallelism { pipeline, tensor, data: None };
        let asked = IslandRequest { parallelism, ..island("lab", &[device(RTX4090, 2)]) };
        planned("llama-160m", 32, &asked, &local(&cards)).reasons
    };
    assert_eq!(with(Some(2), Some(1))[0], "a replica is split pp 2 × tp 1, as asked");
    let part = "a replica is split pp 2 × tp 1, the fastest way that fits what is asked";
    assert_eq!(with(Some(2), None)[0], part);
    assert_eq!(with(Some(1), Some(1)), [""; 0], "nothing is split");
}

#[test]
fn others_that_fit_say_what_they_lose_by() {
    let cards: Vec<_> = (0..4).map(|index| card(index, RTX4090)).collect();
    let own = planned("llama-160m", 64, &island("lab", &[device(RTX4090, 4)]), &local(&cards));
    assert!(!own.runners_up.is_empty() && own.runners_up.len() <= 5);
    for other in &own.runners_up {
        // Percent of the plan's tokens, which are the same in every step.
        let loses = 100.0 * (1.0 - own.step_seconds() / other.step.total());
        assert!((other.loses_percent - loses).abs() < 1e-9, "{other:?}");
        let (seconds, what) = other.reason.split_once(" s more ").expect("seconds and what of");
        let seconds: f64 = seconds.parse().expect("a number");
        let more = match what.split(':').next().expect("what it is") {
            "compute" => other.step.compute - own.step.compute,
            "tensor-parallel sums" => other.step.tensor - own.step.tensor,
            "pipeline bubble" => other.step.bubble - own.step.bubble,
            "gradient all-reduce" => other.step.all_reduce - own.step.all_reduce,
            "optimizer" => other.step.optimizer - own.step.optimizer,
            other => panic!("{other}"),
        };
        assert!((seconds - more).abs() < 1e-3, "{other:?}");
    }
}
