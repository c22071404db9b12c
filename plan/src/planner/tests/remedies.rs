//! What a refusal says to change is changed: the island has to be planned then.

use super::*;
use crate::cluster::{Links, Node, NodeCard, Topology};
use crate::model::LlamaConfig;

/// A request with what a clause of a remedy says.
fn follow(
    clause: &str,
    run: &RunRequest,
    island: &IslandRequest,
) -> Option<(RunRequest, IslandRequest)> {
    let (mut run, mut island) = (run.clone(), island.clone());
    let number = |words: &str| clause.strip_prefix(words).and_then(|rest| rest.parse().ok());
    if let Some(length) = number("set batch.sequenceLength to ") {
        run.sequence_length = length;
    } else if let Some(added) = clause.strip_prefix("add ") {
        let (count, product) = added.split_once(" × ").expect("a count and a product");
        let count: u32 = count.parse().expect("a number");
        let device = island.devices.iter_mut().find(|device| device.product == product);
        let device = device.expect("one of its products");
        (device.min, device.max) = (device.min + count, device.max + count);
    } else {
        match clause {
            "leave pipeline.recompute out" => island.pipeline.recompute = None,
            "leave parallelism out" => island.parallelism = Parallelism::default(),
            "leave pipeline.recompute and parallelism out" => {
                island.pipeline.recompute = None;
                island.parallelism = Parallelism::default();
            }
            _ => return None,
        }
    }
    Some((run, island))
}

/// The island's cards on nodes of its own, each entry's eight to a node, as added ones are.
fn cluster(island: &IslandRequest) -> Execution {
    let mut nodes = Vec::new();
    for device in &island.devices {
        let card = NodeCard::named(&device.product);
        let mut left = device.max as usize;
        while left > 0 {
            let here = left.min(8);
            left -= here;
            nodes.push(Node {
                name: format!("node-{}", nodes.len()),
                topology: Topology::default(),
                cards: vec![card.clone(); here],
                links: Links::default(),
            });
        }
    }
    Execution::Cluster { nodes }
}

/// What was refused, and how many of the remedy's clauses were tried.
fn check(
    run: &RunRequest,
    island: &IslandRequest,
    on: fn(&IslandRequest) -> Execution,
) -> Result<(Reason, usize), TestCaseError> {
    let refused = plan_run(run, std::slice::from_ref(island), &on(island)).expect_err("refused");
    let [refusal] = &refused.0[..] else { panic!("one island: {refused}") };
    if refusal.reason != Reason::ModelTooLarge {
        return Ok((refusal.reason, 0));
    }
    let mut tried = 0;
    for clause in refusal.remedy.split(", or ") {
        let Some((run, island)) = follow(clause, run, island) else {
            prop_assert_eq!(clause, "choose a smaller model or cards with more memory");
            continue;
        };
        tried += 1;
        let planned = plan_run(&run, std::slice::from_ref(&island), &on(&island));
        // Threads that emulate a small part of a fast card may hold a model, and be too slow for
        // any round.
        let refused = planned.as_ref().is_err_and(|it| it.0[0].reason != Reason::NoRounds);
        prop_assert!(!refused, "{clause} of {refusal}:\n{:?}", planned.err());
    }
    Ok((refusal.reason, tried))
}

fn emulated(_: &IslandRequest) -> Execution {
    EMULATED
}

#[test]
fn every_remedy_of_islands_that_are_too_small_is_true() {
    let split = |tensor, pipeline, data| Parallelism { tensor, pipeline, data };
    let free = Parallelism::default();
    let h100 = |count| vec![device(H100, count)];
    let mixed = vec![device(RTX4090, 2), device(RTX3090, 1)];
    let no = Some(false);
    // Clauses: the model, the cards, the layout, recompute, and how many remedies were tried.
    type Row<'a> = (&'a str, Vec<DeviceRequest>, Parallelism, Option<bool>);
    let table: [Row<'_>; 11] = [
        ("llama-8b", h100(1), free, None),
        ("llama-8b", h100(2), split(None, Some(2), None), no),
        ("llama-8b", h100(2), split(Some(2), Some(1), None), no),
        ("llama-8b", h100(2), split(Some(1), Some(1), Some(2)), None),
        ("llama-8b", h100(8), split(Some(1), Some(1), None), None),
        ("llama-8b", mixed.clone(), free, None),
        ("llama-8b", mixed, split(Some(1), None, None), no),
        ("covenant-72b", h100(8), free, None),
        ("covenant-72b", h100(16), split(None, None, Some(2)), no),
        ("covenant-72b", vec![device(H100, 8), device(RTX4090, 8)], free, None),
        ("llama-1b", vec![device("NVIDIA-GeForce-RTX-3080", 1)], free, no),
    ];
    let mut tried = 0;
    for (model, devices, parallelism, recompute) in table {
        let pipeline = PipelineRequest { recompute, ..PipelineRequest::default() };
        let island = IslandRequest { parallelism, pipeline, ..island("lab", &devices) };
        for on in [emulated as fn(&IslandRequest) -> Execution, cluster] {
            if plan_run(&run(model, 8), std::slice::from_ref(&island), &on(&island)).is_ok() {
                continue;
            }
            let (reason, count) = check(&run(model, 8), &island, on).expect(model);
            assert_eq!(reason, Reason::ModelTooLarge, "{model}: {island:?}");
            tried += count;
        }
    }
    assert!(tried > 20, "{tried} remedies");
}

#[test]
fn one_card_less_than_is_proposed_is_not_enough() {
    let asked = |count| island("dc", &[device(H100, count)]);
    for (model, given) in [("llama-8b", 1), ("covenant-72b", 8)] {
        let (_, text) = refusal(&run(model, 8), &asked(given), &EMULATED);
        let (_, rest) = text.split_once(": add ").expect("a number of cards");
        let (count, _) = rest.split_once(' ').expect("a number of cards");
        let count: u32 = count.parse().expect("a number");
        let with = |more| plan_run(&run(model, 8), &[asked(given + more)], &EMULATED);
        assert!(with(count).is_ok() && with(count - 1).is_err(), "{model}: {count}");
    }
}

/// What was said of islands that cannot be cut as asked.
#[test]
fn layouts_that_are_refused_are_planned_as_the_remedy_has_them() {
    let with = |parallelism| IslandRequest { parallelism, ..island("lab", &[device(RTX3090, 8)]) };
    let deep = with(Parallelism { pipeline: Some(7), ..Parallelism::default() });
    let (reason, text) = refusal(&run("llama-demo", 8), &deep, &EMULATED);
    assert_eq!(reason, Reason::Unshardable);
    assert!(text.ends_with("lower parallelism.pipeline to at most 6 or leave it out"), "{text}");
    for pipeline in [Some(6), None] {
        let island = with(Parallelism { pipeline, ..Parallelism::default() });
        assert!(plan_run(&run("llama-demo", 8), &[island], &EMULATED).is_ok(), "{pipeline:?}");
    }
    let many = with(Parallelism { data: Some(8), ..Parallelism::default() });
    let (reason, text) = refusal(&run("llama-demo", 5), &many, &EMULATED);
    assert_eq!(reason, Reason::BatchTooSmall);
    let said = "raise batch.sequences to at least 8 or lower parallelism.data";
    assert!(text.ends_with(said), "{text}");
    assert!(plan_run(&run("llama-demo", 8), &[many], &EMULATED).is_ok());
    let lower = with(Parallelism { data: Some(5), ..Parallelism::default() });
    assert!(plan_run(&run("llama-demo", 5), &[lower], &EMULATED).is_ok());
    let cut = with(Parallelism { tensor: Some(5), ..Parallelism::default() });
    let (reason, text) = refusal(&run("llama-160m", 8), &cut, &EMULATED);
    assert_eq!(reason, Reason::Unshardable);
    assert!(text.contains("change parallelism.tensor, or leave it out"), "{text}");
    assert!(plan_run(&run("llama-160m", 8), &[with(Parallelism::default())], &EMULATED).is_ok());
}

#[test]
fn what_is_below_the_least_memory_says_both_and_enough_is_enough() {
    let cards = |count| IslandRequest {
        min_memory: 48 << 30,
        ..island("lab", &[device("NVIDIA-GeForce-RTX-3090", count)])
    };
    let demo = run("llama-demo", 8);
    let (reason, text) = refusal(&demo, &cards(1), &EMULATED);
    assert_eq!(reason, Reason::BelowMinimumMemory);
    assert!(text.contains("have 24.0 GiB together, minMemory is 48.0 GiB"), "{text}");
    assert!(plan_run(&demo, &[cards(2)], &EMULATED).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn remedies_of_any_island_are_true(
        model in prop::sample::select(vec!["llama-160m", "llama-512m", "llama-1b", "llama-8b"]),
        cards in prop::collection::vec((0..CATALOGUE.len(), 1_u32..5), 1..3),
        [tensor, pipeline, data] in prop::array::uniform3(prop::option::weighted(0.3, 1_u32..3)),
        recompute in prop::option::weighted(0.4, any::<bool>()),
        gib in prop::option::of(1_u64..12),
        nodes in any::<bool>(),
    ) {
        let mut devices: Vec<DeviceRequest> = Vec::new();
        for (at, count) in cards {
            let product = CATALOGUE[at].product;
            if devices.iter().all(|device| device.product != product) {
                let memory = gib.map(|gib| gib << 30);
                devices.push(DeviceRequest { memory, ..device(product, count) });
            }
        }
        let asked = IslandRequest {
            parallelism: Parallelism { tensor, pipeline, data },
            pipeline: PipelineRequest { recompute, ..PipelineRequest::default() },
            ..island("any", &devices)
        };
        let on = if nodes { cluster } else { emulated as fn(&IslandRequest) -> Execution };
        if plan_run(&run(model, 8), std::slice::from_ref(&asked), &on(&asked)).is_err() {
            check(&run(model, 8), &asked, on)?;
        }
    }
}

/// Overflow would panic here, and wrap to a plan that does not fit in a release.
#[test]
fn the_largest_requests_that_are_accepted_are_refused_and_not_overflowed() {
    let wide = LlamaConfig {
        hidden_size: 1 << 20,
        intermediate_size: 1 << 20,
        num_hidden_layers: 64,
        num_attention_heads: 1 << 10,
        num_key_value_heads: 1 << 10,
        head_dim: None,
        vocab_size: 1 << 24,
        max_position_embeddings: 1 << 24,
        ..preset("llama-8b").expect("a preset")
    };
    let heads = LlamaConfig {
        hidden_size: 64,
        num_attention_heads: 1 << 20,
        num_key_value_heads: 1 << 20,
        head_dim: Some(1 << 12),
        ..wide.clone()
    };
    for config in [wide, heads] {
        let model = config.validate().expect("just accepted");
        let request = RunRequest { model, sequence_length: 1 << 24, ..run("llama-demo", 65_536) };
        for product in [H100, CPU] {
            let (reason, text) =
                refusal(&request, &island("lab", &[device(product, 2)]), &EMULATED);
            assert_eq!(reason, Reason::ModelTooLarge, "{text}");
            assert!(text.contains("or cards with more memory"), "{text}");
        }
    }
}
