//! Tests of replicas that are split over cards.

use super::*;

/// A GeForce card of so much memory.
fn small(gib: u64, count: u32) -> DeviceRequest {
    DeviceRequest { memory: Some(gib << 30), ..device(RTX3090, count) }
}

fn split(tensor: u32, pipeline: u32) -> Parallelism {
    Parallelism { tensor: Some(tensor), pipeline: Some(pipeline), data: None }
}

fn this_machine(product: &str, count: u32) -> Execution {
    local(&(0..count).map(|index| card(index, product)).collect::<Vec<_>>())
}

fn planned(model: &str, sequences: u32, island: &IslandRequest, on: &Execution) -> IslandPlan {
    let plan = plan_run(&run(model, sequences), std::slice::from_ref(island), on);
    plan.expect("it fits").islands.remove(0)
}

/// Data, stages, tensor.
fn shape(island: &IslandPlan) -> [u32; 3] {
    let Grid { data, stages, tensor } = Grid::of(&island.spec);
    [data, stages, tensor]
}

fn layers(island: &IslandPlan) -> Vec<u32> {
    island.spec.sharding.stages.iter().map(|stage| stage.layers).collect()
}

fn products(island: &IslandPlan) -> Vec<&str> {
    devices(island).into_iter().map(|card| card.product.as_str()).collect()
}

#[test]
fn a_model_that_no_card_holds_is_split_over_all_and_says_why() {
    let cards = island("lab", &[device(RTX4090, 8)]);
    let plan = planned("llama-8b", 32, &cards, &this_machine(RTX4090, 8));
    assert_eq!(shape(&plan), [1, 8, 1]);
    assert_eq!(layers(&plan).iter().sum::<u32>(), 32);
    assert!(layers(&plan)[7] < layers(&plan)[1], "the head is work: {:?}", layers(&plan));
    let reason = &plan.reasons[0];
    assert!(reason.starts_with("a replica is split pp 8 × tp 1: the model needs "), "{reason}");
    assert!(
        reason.ends_with(" has 24.0 GiB; of the ways that fit this is the fastest"),
        "{reason}"
    );
    // A model that fits two cards has a replica on every two.
    let halves =
        planned("llama-160m", 64, &island("lab", &[small(4, 8)]), &this_machine(RTX3090, 8));
    assert_eq!(shape(&halves), [4, 2, 1]);
    assert_eq!(sequences(&halves), [16; 4]);
}

#[test]
fn a_layout_that_is_asked_for_is_planned_though_one_card_would_do() {
    let asked = IslandRequest { parallelism: split(2, 3), ..island("lab", &[device(RTX3090, 12)]) };
    let plan = planned("llama-160m", 24, &asked, &this_machine(RTX3090, 12));
    assert_eq!(shape(&plan), [2, 3, 2]);
    assert_eq!(plan.reasons[0], "a replica is split pp 3 × tp 2, as asked");
    assert_eq!(sequences(&plan), [12, 12]);
    let devices: Vec<_> = devices(&plan).iter().map(|card| card.device).collect();
    let cuda = |index| DeviceSpec::Cuda { index, precision: Precision::Bf16 };
    assert_eq!(devices, (0..12).map(cuda).collect::<Vec<_>>(), "neighbours stay together");
}

#[test]
fn what_is_fixed_in_part_leaves_the_rest_to_the_planner() {
    let machine = this_machine(RTX3090, 8);
    let with = |parallelism| IslandRequest { parallelism, ..island("lab", &[device(RTX3090, 8)]) };
    let part = |tensor, pipeline, data| {
        shape(&planned("llama-160m", 64, &with(Parallelism { tensor, pipeline, data }), &machine))
    };
    assert_eq!(part(Some(2), None, None), [4, 1, 2]);
    assert_eq!(part(None, Some(4), Some(2)), [2, 4, 1]);
    assert_eq!(part(Some(4), None, Some(1))[2], 4);
    assert_eq!(part(Some(1), Some(1), None), [8, 1, 1]);
}

#[test]
fn stages_take_layers_by_the_speed_of_their_cards() {
    let cards = [device(H100, 2), device(RTX3090, 2)];
    let asked = IslandRequest { parallelism: split(2, 2), ..island("mixed", &cards) };
    let plan = planned("llama-1b", 16, &asked, &EMULATED);
    assert_eq!(shape(&plan), [1, 2, 2]);
    let (layers, products) = (layers(&plan), products(&plan));
    let of = |product| layers[products.iter().position(|found| *found == product).unwrap() / 2];
    assert!(of(H100) >= 4 * of(RTX3090) && of(RTX3090) > 0, "{layers:?}");
    let [least, most] = [of(RTX3090), of(H100)];
    let sentence = format!("stages hold {least} to {most} layers, by the cards' ");
    assert!(plan.reasons.iter().any(|reason| reason.starts_with(&sentence)), "{:?}", plan.reasons);
}

#[test]
fn cards_that_would_only_slow_the_others_down_are_left_out() {
    let cards = [device(H100, 2), device(CPU, 2)];
    let asked = IslandRequest {
        parallelism: Parallelism { pipeline: Some(2), ..Parallelism::default() },
        ..island("mixed", &cards)
    };
    let plan = planned("llama-demo", 16, &asked, &EMULATED);
    assert_eq!(products(&plan), [H100, H100]);
    let left =
        "left out 2 × cpu: no way with more of them is better; an island of their own may use them";
    assert!(plan.reasons.iter().any(|reason| reason == left), "{:?}", plan.reasons);
}

#[test]
fn activations_are_computed_again_where_memory_demands_it_and_not_elsewhere() {
    let plan = |gib, recompute| {
        let asked = IslandRequest {
            parallelism: split(1, 4),
            pipeline: PipelineRequest { recompute, ..PipelineRequest::default() },
            ..island("lab", &[small(gib, 4)])
        };
        plan_run(&run("llama-1b", 32), &[asked], &this_machine(RTX3090, 4)).map(|plan| {
            let stages = &plan.islands[0].spec.sharding.stages;
            (stages.iter().map(|stage| stage.recompute).collect::<Vec<_>>(), plan)
        })
    };
    let ample = |recompute| plan(24, recompute).expect("ample").0;
    assert_eq!(ample(None), [false; 4]);
    assert_eq!(ample(Some(true)), [true; 4]);
    let tight = (1..24).find_map(|gib| Some((gib, plan(gib, None).ok()?)));
    let (gib, (stages, planned)) = tight.expect("some size is just enough");
    assert!(stages[0] && !stages[3], "the first has the most in flight: {stages:?}");
    let reasons = &planned.islands[0].reasons;
    let said = |reason: &String| reason.contains("activations again in backward, where memory");
    assert!(reasons.iter().any(said), "{reasons:?}");
    assert!(plan(gib, Some(false)).is_err());
}

#[test]
fn recompute_alone_may_make_a_model_fit_one_card() {
    let least = |recompute| {
        let asked = |gib| IslandRequest {
            pipeline: PipelineRequest { recompute, ..PipelineRequest::default() },
            ..island("desk", &[small(gib, 1)])
        };
        let fits = |gib: &u64| {
            plan_run(&run("llama-1b", 8), &[asked(*gib)], &this_machine(RTX3090, 1)).is_ok()
        };
        (1..100).find(fits).expect("some size is enough")
    };
    assert!(least(None) < least(Some(false)));
    assert_eq!(least(None), least(Some(true)));
}

#[test]
fn compression_belongs_to_pipelines_and_narrows_what_crosses() {
    let rank = 64;
    let plan = |parallelism, compression| {
        let pipeline = PipelineRequest { compression, ..PipelineRequest::default() };
        let asked = IslandRequest { parallelism, pipeline, ..island("lab", &[device(RTX4090, 2)]) };
        planned("llama-160m", 16, &asked, &this_machine(RTX4090, 2))
    };
    let compression = Some(PipelineCompression { rank });
    let (narrow, wide) = (plan(split(1, 2), compression), plan(split(1, 2), None));
    assert_eq!(narrow.spec.sharding.compression, compression);
    assert!(narrow.step_seconds() < wide.step_seconds());
    let reason = "64 of 768 values of a token cross between stages";
    assert!(narrow.reasons.iter().any(|found| found == reason), "{:?}", narrow.reasons);
    let single = plan(split(2, 1), compression);
    assert_eq!(single.spec.sharding.compression, None);
    let reason = "pipeline.compression has no effect on a single stage";
    assert!(single.reasons.iter().any(|found| found == reason), "{:?}", single.reasons);
}

#[test]
fn what_cannot_be_split_is_refused_with_what_to_change() {
    let lab = |parallelism| IslandRequest { parallelism, ..island("lab", &[device(RTX3090, 8)]) };
    let rank = PipelineRequest {
        compression: Some(PipelineCompression { rank: 193 }),
        ..PipelineRequest::default()
    };
    let all = |tensor, pipeline, data| Parallelism {
        tensor: Some(tensor),
        pipeline: Some(pipeline),
        data: Some(data),
    };
    let mixed = island("lab", &[device(RTX3090, 1), device(RTX4090, 3)]);
    let cases = [
        (
            lab(split(1, 7)),
            "pipeline stage 6 has no layer; every stage needs one (Unshardable): lower \
             parallelism.pipeline to at most 6",
        ),
        (
            lab(split(8, 1)),
            "num_attention_heads is 6, which tensor-parallel size 8 does not divide",
        ),
        (
            IslandRequest { pipeline: rank, ..lab(split(1, 2)) },
            "compression rank is 193; it has to lie between 1 and 192 (Unshardable): change \
             pipeline.compression.rank",
        ),
        (lab(all(1, 5, 2)), "its parallelism takes 10 cards, it has 8 (NotEnoughCards)"),
        (lab(all(1, 2, 4)), "an inner step has 3 sequences for 4 replicas (BatchTooSmall)"),
    ];
    for (island, sentence) in cases {
        let (_, text) = refusal(&run("llama-demo", 3), &island, &EMULATED);
        assert!(text.contains(sentence), "{sentence}\n got {text}");
    }
    let uneven = IslandRequest { parallelism: split(2, 2), ..mixed };
    let (reason, text) = refusal(&run("llama-160m", 8), &uneven, &EMULATED);
    assert_eq!(reason, Reason::NotEnoughCards);
    assert!(text.contains("its parallelism takes 2 × 2 cards of one product"), "{text}");
}

#[test]
fn the_refusal_of_a_fixed_layout_says_what_it_needs() {
    let asked = IslandRequest { parallelism: split(2, 2), ..island("lab", &[device(RTX3090, 4)]) };
    let (reason, text) = refusal(&run("llama-8b", 8), &asked, &this_machine(RTX3090, 4));
    assert_eq!(reason, Reason::ModelTooLarge);
    assert!(
        text.contains("over 4 cards (pp 2 × tp 2 with recompute), which have 96.0 GiB"),
        "{text}"
    );
    assert!(text.ends_with("or cards with more memory"), "{text}");
}

#[test]
fn sixty_four_unlike_cards_are_planned() {
    let products = [H100, RTX4090, "NVIDIA-L40S", "NVIDIA-A100-SXM4-40GB"];
    let devices: Vec<_> = products.iter().map(|product| device(product, 16)).collect();
    let plan = planned("covenant-72b", 256, &island("all", &devices), &EMULATED);
    assert_eq!(layers(&plan).iter().sum::<u32>(), 80);
    assert!(plan.spec.ranks.len() > 32, "{:?}", shape(&plan));
}
