//! Tests of plans: tables of what is planned and refused, and what holds for any request.

mod answers;
mod bounds;
mod chosen;
mod grids;
mod objectives;
mod optimal;
mod parts;
mod prices;
mod remedies;
mod sharding;

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::gpu::{self, CATALOGUE, CPU};
use crate::model::{PRESETS, preset};
use crate::request::InnerSteps;
use crate::request::{DeviceRequest, LocalCard, Objective, Parallelism, PipelineRequest};
use crate::shard::{Grid, Position, Sharded};
use crate::spec::{
    CardSpec, DeviceSpec, EvaluationSpec, OptimizerSpec, PipelineCompression, Precision, Rule,
    SparseSpec,
};

const H100: &str = "NVIDIA-H100-80GB-HBM3";
const RTX4090: &str = "NVIDIA-GeForce-RTX-4090";
const RTX3090: &str = "NVIDIA-GeForce-RTX-3090";
const EMULATED: Execution = Execution::Emulated { cores: 1 };

pub(crate) fn run(model: &str, sequences: u32) -> RunRequest {
    let model = preset(model).expect("a preset").validate().expect("a sound preset");
    RunRequest {
        name: "run".into(),
        seed: 7,
        sequences,
        sequence_length: model.config().max_position_embeddings.min(2048),
        model,
        from: None,
        data: "data".into(),
        tokenizer: Tokenizer::Byte,
        tokens: 1_000_000_000,
        optimizer: OptimizerSpec {
            learning_rate: 3e-4,
            min_learning_rate_ratio: 0.1,
            warmup_steps: 10,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            grad_clip: 1.0,
        },
        inner_steps: InnerSteps::Auto,
        sparse: SparseSpec {
            top_k: 64,
            value_bits: 2,
            error_decay: 0.95,
            outer_learning_rate: 1.0,
            rule: Rule::Counted,
            retention: 0.5,
        },
        evaluation: EvaluationSpec { every_rounds: 10, sequences: 8 },
        rounds: RoundRules {
            quorum_percent: 60,
            grace: Duration::from_secs(30),
            deadline: Duration::from_secs(1500),
            go_back: false,
        },
        checkpoint: None,
        checkpoint_every_rounds: 10,
    }
}

fn device(product: &str, count: u32) -> DeviceRequest {
    DeviceRequest {
        product: product.into(),
        min: count,
        max: count,
        memory: None,
        tflops: None,
        cost_per_hour: None,
    }
}

fn island(name: &str, devices: &[DeviceRequest]) -> IslandRequest {
    IslandRequest {
        name: name.into(),
        devices: devices.to_vec(),
        min_memory: 0,
        parallelism: Parallelism::default(),
        pipeline: PipelineRequest::default(),
        objective: Objective::default(),
        uplink: None,
        nodes: None,
        correction: 1.0,
    }
}

fn card(index: u32, product: &str) -> LocalCard {
    let memory = gpu::lookup(product).map_or(1 << 30, gpu::Card::memory);
    LocalCard { index, product: product.into(), memory }
}

fn local(cards: &[LocalCard]) -> Execution {
    Execution::Local { cards: cards.to_vec(), threads: 2 }
}

fn sequences(island: &IslandPlan) -> Vec<u32> {
    island.spec.batches.iter().map(|batch| batch.micro_batches * batch.micro_batch_size).collect()
}

/// The cards of an island, by position.
fn devices(island: &IslandPlan) -> Vec<&CardSpec> {
    island.spec.ranks.iter().flat_map(|rank| &rank.devices).collect()
}

fn speeds(island: &IslandPlan) -> Vec<f64> {
    let speed = |card: &CardSpec| match card.device {
        DeviceSpec::Cpu { speed, .. } => speed,
        DeviceSpec::Cuda { .. } => panic!("not emulated"),
    };
    devices(island).into_iter().map(speed).collect()
}

fn refusal(run: &RunRequest, island: &IslandRequest, execution: &Execution) -> (Reason, String) {
    let refusals = plan_run(run, std::slice::from_ref(island), execution).expect_err("refused");
    assert_eq!(refusals.0.len(), 1, "{refusals}");
    (refusals.0[0].reason, refusals.to_string())
}

#[test]
fn slower_islands_make_fewer_steps_so_that_all_end_a_round_together() {
    let islands = [
        island("dc", &[device(H100, 1)]),
        island("lab", &[device(RTX4090, 2)]),
        island("desk", &[device(RTX3090, 2)]),
    ];
    let plan = plan_run(&run("llama-demo", 8), &islands, &EMULATED).expect("it fits");
    let steps: Vec<_> = plan.islands.iter().map(|island| island.spec.inner_steps).collect();
    // 2 × 165.2 and 2 × 71.0 TFLOP/s against 989.5, less what two cards lose to each other.
    assert_eq!(steps, [30, 9, 4]);
    assert_eq!(speeds(&plan.islands[1]), [165.2 / 989.5; 2]);
    assert_eq!(plan.outer.round_tokens, (30 + 9 + 4) * 8 * 256);
    assert_eq!(plan.run.total_rounds, 1_000_000_000_u64.div_ceil(plan.outer.round_tokens));
    let step = plan.outer.round_tokens / u64::from(plan.outer.reference_steps);
    let warmup = plan.run.schedule.warmup_tokens;
    assert!((10 * step..10 * (step + 1)).contains(&warmup), "{warmup}: ten steps of {step}");
    assert!(plan.emulated);
    for (index, island) in (0..).zip(&plan.islands) {
        assert_eq!((island.spec.index, island.spec.epoch), (index, 1));
    }
}

#[test]
fn emulated_cards_get_the_threads_that_have_all_cores_at_work_and_no_more() {
    let islands = [island("dc", &[device(H100, 1)]), island("desk", &[device(RTX3090, 2)])];
    let threads = |cores, islands: &[IslandRequest]| {
        let execution = Execution::Emulated { cores };
        let plan = plan_run(&run("llama-demo", 8), islands, &execution).expect("it fits");
        let cards = plan.islands.iter().flat_map(devices).map(|card| card.device);
        let threads = cards.map(|device| match device {
            DeviceSpec::Cpu { threads, .. } => threads,
            DeviceSpec::Cuda { .. } => panic!("not emulated"),
        });
        threads.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    // A fast card and two of a fourteenth of its speed: 1.14 cores at one thread each.
    for (cores, expected) in [(1, 1), (2, 2), (3, 3), (64, 4)] {
        assert_eq!(threads(cores, &islands), [expected], "{cores} cores");
    }
    assert_eq!(threads(2, &[island("dc", &[device(H100, 4)])]), [1]);
}

#[test]
fn cards_of_unlike_speed_share_an_inner_step_by_their_speed() {
    let mixed = island("mixed", &[device(H100, 1), device(RTX4090, 1), device(RTX3090, 1)]);
    let plan = plan_run(&run("llama-demo", 64), &[mixed], &EMULATED).expect("it fits");
    let mut shares = sequences(&plan.islands[0]);
    shares.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(shares.iter().sum::<u32>(), 64);
    assert!(shares[0] >= 5 * shares[1] && shares[1] >= 2 * shares[2], "{shares:?}");
    assert!(plan.islands[0].reasons.iter().any(|reason| reason.contains("more sequences")));
}

#[test]
fn a_card_too_slow_for_one_sequence_is_left_out_and_said() {
    let mixed = island("mixed", &[device(H100, 1), device(CPU, 1)]);
    let plan = plan_run(&run("llama-demo", 8), &[mixed], &EMULATED).expect("it fits");
    assert_eq!(sequences(&plan.islands[0]), [8]);
    assert_eq!(
        plan.islands[0].reasons,
        ["left out 1 × cpu: no way with more of them is better; an island of their own \
          may use them"]
    );
}

#[test]
fn a_fixed_h_is_that_of_the_fastest_island_and_no_island_makes_less_than_one_step() {
    let islands = [island("dc", &[device(H100, 1)]), island("old", &[device("Tesla-T4", 1)])];
    let request = RunRequest { inner_steps: InnerSteps::Fixed(5), ..run("llama-demo", 8) };
    let plan = plan_run(&request, &islands, &EMULATED).expect("it fits");
    let steps: Vec<_> = plan.islands.iter().map(|island| island.spec.inner_steps).collect();
    assert_eq!(steps, [5, 1]);
    assert_eq!(plan.run.reference_steps, 5);
    assert!(plan.outer.reasons.iter().any(|reason| reason.contains("old")), "{plan:?}");
}

#[test]
fn this_machines_cards_are_each_given_once_in_order() {
    let cards = [card(0, RTX4090), card(1, H100), card(2, RTX4090), card(3, RTX4090)];
    let family = DeviceRequest { min: 1, max: 8, ..device("NVIDIA-GeForce*", 8) };
    let islands = [island("a", &[device(RTX4090, 2)]), island("b", &[family, device(H100, 1)])];
    let plan = plan_run(&run("llama-160m", 8), &islands, &local(&cards)).expect("it fits");
    let devices: Vec<Vec<_>> = (0..2)
        .map(|at| devices(&plan.islands[at]).iter().map(|card| card.device).collect())
        .collect();
    let cuda = |index| DeviceSpec::Cuda { index, precision: Precision::Bf16 };
    assert_eq!(devices, [vec![cuda(0), cuda(2)], vec![cuda(3), cuda(1)]]);
    assert!(!plan.emulated);
}

#[test]
fn a_family_is_a_card_that_is_there_or_else_the_fastest_which_is_said() {
    let reasons = |on: &Execution| {
        let family = island("a", &[device("NVIDIA-GeForce-RTX-40*", 1)]);
        let plan = plan_run(&run("llama-demo", 8), &[family], on).expect("it fits");
        plan.islands[0].reasons.clone()
    };
    let sentence = "NVIDIA-GeForce-RTX-40* is taken to be NVIDIA-GeForce-RTX-4090, the fastest \
                    card of that name";
    assert_eq!(reasons(&EMULATED), [sentence]);
    assert!(reasons(&local(&[card(0, RTX4090)])).is_empty());
}

#[test]
fn the_cpu_is_a_card_of_this_machine_at_its_own_speed() {
    let plan = plan_run(&run("llama-demo", 8), &[island("a", &[device(CPU, 2)])], &local(&[]))
        .expect("it fits");
    let expected = DeviceSpec::Cpu { threads: 2, speed: 1.0 };
    assert!(devices(&plan.islands[0]).iter().all(|card| card.device == expected));
}

#[test]
fn a_card_before_ampere_computes_in_f32_and_says_so() {
    let cards = [card(0, "Tesla-T4")];
    let plan =
        plan_run(&run("llama-160m", 4), &[island("a", &[device("Tesla-T4", 1)])], &local(&cards))
            .expect("it fits");
    assert_eq!(devices(&plan.islands[0])[0].device.precision(), Precision::F32);
    assert!(plan.islands[0].reasons[0].contains("no bf16"), "{:?}", plan.islands[0].reasons);
}

#[test]
fn a_card_that_may_be_missing_and_does_not_hold_the_model_is_left_out() {
    let small = DeviceRequest { min: 0, memory: Some(2 << 30), ..device(RTX3090, 1) };
    let mixed = island("mixed", &[device(H100, 1), small]);
    let plan = plan_run(&run("llama-160m", 8), &[mixed], &EMULATED).expect("it fits");
    assert_eq!(plan.islands[0].spec.ranks.len(), 1);
    assert!(plan.islands[0].reasons[0].starts_with("left out 1 × NVIDIA-GeForce-RTX-3090: "));
}

#[test]
fn each_refusal_says_why_and_what_to_change() {
    let demo = run("llama-demo", 2);
    let lab = |devices: &[DeviceRequest]| island("lab", devices);
    let low = DeviceRequest { memory: Some(1 << 28), ..device(RTX3090, 1) };
    let split = Parallelism { tensor: Some(2), ..Parallelism::default() };
    let data = Parallelism { data: Some(2), ..Parallelism::default() };
    let none = DeviceRequest { memory: Some(0), ..device(RTX3090, 1) };
    let unknown = DeviceRequest { tflops: Some(1.0), ..device("Abacus", 1) };
    let cases = [
        (
            lab(&[none]),
            Reason::ModelTooLarge,
            "the memory of NVIDIA-GeForce-RTX-3090 is set to 0 (ModelTooLarge): set memory on the \
             device above 0",
        ),
        (
            lab(&[unknown]),
            Reason::UnknownProduct,
            "nothing is known of the memory of Abacus (UnknownProduct): set memory on the device",
        ),
        (
            lab(&[device("RTX-4090", 1)]),
            Reason::UnknownProduct,
            "island lab: RTX-4090 is not in the GPU catalogue (UnknownProduct): \
             choose one of NVIDIA-GeForce-RTX-4090",
        ),
        (
            lab(&[low]),
            Reason::ModelTooLarge,
            "MiB with recompute; NVIDIA-GeForce-RTX-3090 has 256 MiB (ModelTooLarge): add 1 × \
             NVIDIA-GeForce-RTX-3090, or choose a smaller model or cards with more memory",
        ),
        (
            IslandRequest { min_memory: 64 << 30, ..lab(&[device(RTX3090, 2)]) },
            Reason::BelowMinimumMemory,
            "its cards have 48.0 GiB together, minMemory is 64.0 GiB",
        ),
        (
            IslandRequest { parallelism: split, ..lab(&[device(RTX3090, 2)]) },
            Reason::Unshardable,
            "every part of the query heads is 96 wide, which is not a multiple of 64 \
             (Unshardable): change parallelism.tensor, or leave it out to have it planned",
        ),
        (
            IslandRequest { parallelism: data, ..lab(&[device(RTX3090, 1)]) },
            Reason::NotEnoughCards,
            "its parallelism takes 2 cards, it has 1 (NotEnoughCards)",
        ),
    ];
    for (island, reason, sentence) in cases {
        let (found, text) = refusal(&demo, &island, &EMULATED);
        assert_eq!(found, reason, "{text}");
        assert!(text.contains(sentence), "{sentence}\n got {text}");
    }
    let (found, text) = refusal(&demo, &lab(&[device(RTX4090, 1)]), &local(&[]));
    assert_eq!(found, Reason::NotEnoughCards);
    assert!(text.contains("it asks for 1 × NVIDIA-GeForce-RTX-4090, this machine has 0 free"));
}

#[test]
fn a_model_for_which_the_cards_are_too_small_is_refused_with_what_is_missing() {
    let (reason, text) =
        refusal(&run("covenant-72b", 8), &island("dc", &[device(H100, 8)]), &EMULATED);
    assert_eq!(reason, Reason::ModelTooLarge);
    assert!(
        text.contains(" over 8 cards (pp 2 × tp 4 with recompute), which have 637.2 GiB; "),
        "{text}"
    );
    assert!(text.contains("(ModelTooLarge): add 20 × NVIDIA-H100-80GB-HBM3, or "), "{text}");
}

#[test]
fn the_refusals_of_all_islands_come_together_and_an_empty_run_is_refused() {
    let large = island("a", &[device(RTX3090, 1)]);
    let islands = [large.clone(), IslandRequest { name: "b".into(), ..large }];
    let refusals = plan_run(&run("llama-8b", 8), &islands, &EMULATED).expect_err("refused");
    let named: Vec<_> = refusals.0.iter().filter_map(|refusal| refusal.island.clone()).collect();
    assert_eq!(named, ["a", "b"]);
    let none = plan_run(&run("llama-demo", 8), &[], &EMULATED).expect_err("refused");
    assert_eq!(none.0[0].reason, Reason::NoIslands);
}

#[test]
fn a_contribution_of_covenant_72b_is_smaller_than_the_papers() {
    // The papers count 14 bits a value: 1.99 GB; ours is at most 10.5.
    let model = preset("covenant-72b").expect("a preset").validate().expect("sound");
    let bytes = cost::wire::contribution_bytes(&model, &run("llama-demo", 1).sparse);
    let bits = bytes as f64 * 8.0 / (model.parameters() as f64 / 64.0);
    assert!((9.0..=10.5).contains(&bits), "{bits}");
}

prop_compose! {
    fn any_island()(
        devices in
            prop::collection::vec((0..CATALOGUE.len(), 0_u32..3, 1_u32..4, 1_u64..200), 1..4),
        [tensor, pipeline, data] in prop::array::uniform3(prop::option::weighted(0.2, 1_u32..4)),
        rank in prop::option::weighted(0.3, 1_u32..100),
        recompute in prop::option::weighted(0.3, any::<bool>()),
    ) -> IslandRequest {
        let devices: Vec<_> = devices
            .into_iter()
            .map(|(at, min, more, gib)| DeviceRequest {
                product: CATALOGUE[at].product.into(),
                min,
                max: min + more,
                memory: (gib < 100).then_some(gib << 30),
                tflops: None,
                cost_per_hour: None,
            })
            .collect();
        let compression = rank.map(|rank| PipelineCompression { rank });
        IslandRequest {
            parallelism: Parallelism { tensor, pipeline, data },
            pipeline: PipelineRequest { compression, recompute, compress_where_slow: false },
            ..island("any", &devices)
        }
    }
}

/// Checks what holds for every plan of an island.
fn check(
    island: &IslandPlan,
    asked: &IslandRequest,
    run: &RunRequest,
) -> Result<(), TestCaseError> {
    let (spec, grid) = (&island.spec, Grid::of(&island.spec));
    prop_assert_eq!(sequences(island).iter().sum::<u32>(), run.sequences);
    for batch in &spec.batches {
        prop_assert!(batch.micro_batches > 0 && batch.micro_batch_size > 0);
    }
    let devices = devices(island);
    prop_assert_eq!(devices.len(), grid.size() as usize);
    prop_assert_eq!(island.cards.len(), devices.len());
    Sharded::new(&run.model, &spec.sharding).map_err(|e| TestCaseError::fail(e.to_string()))?;
    for (index, (plan, card)) in (0..).zip(island.cards.iter().zip(&devices)) {
        prop_assert!(plan.memory.card() <= plan.card_bytes, "{plan:?}");
        prop_assert_eq!(plan.memory.card(), card.planned_bytes);
        let first = Position { tensor: 0, ..grid.position(index) };
        let peer = devices[grid.index(first) as usize];
        prop_assert_eq!(&peer.product, &card.product, "one layer on unlike cards");
    }
    let layout = asked.parallelism;
    prop_assert!(layout.tensor.is_none_or(|ways| ways == grid.tensor));
    prop_assert!(layout.pipeline.is_none_or(|ways| ways == grid.stages));
    prop_assert!(layout.data.is_none_or(|ways| ways == grid.data));
    let mut recompute = spec.sharding.stages.iter().map(|stage| stage.recompute);
    prop_assert!(asked.pipeline.recompute.is_none_or(|asked| recompute.all(|it| it == asked)));
    if grid.stages > 1 {
        prop_assert_eq!(spec.sharding.compression, asked.pipeline.compression);
    }
    Ok(())
}

proptest! {
    #[test]
    fn whatever_is_planned_fits_shares_out_every_sequence_and_ends_rounds_together(
        islands in prop::collection::vec(any_island(), 1..5),
        model in 0..PRESETS.len(),
        sequences_each in 1_u32..300,
        emulated in any::<bool>(),
    ) {
        let request = run(PRESETS[model], sequences_each);
        let cards: Vec<_> = (0..40)
            .map(|index| card(index, CATALOGUE[index as usize % CATALOGUE.len()].product))
            .collect();
        let execution = if emulated { EMULATED } else { local(&cards) };
        let planned = plan_run(&request, &islands, &execution);
        prop_assert_eq!(&planned, &plan_run(&request, &islands, &execution));
        let Ok(plan) = planned else { return Ok(()) };
        let reference = plan.islands.iter().map(|i| i.step_seconds()).fold(f64::INFINITY, f64::min)
            * f64::from(plan.outer.reference_steps);
        for (island, asked) in plan.islands.iter().zip(&islands) {
            check(island, asked, &request)?;
            let single = island.spec.inner_steps == 1;
            let early = reference - island.round_seconds();
            prop_assert!(early >= -1e-9 * reference || single, "{} late", -early);
            prop_assert!(early <= island.step_seconds() * (1.0 + 1e-9));
        }
        prop_assert!(plan.run.total_rounds * plan.outer.round_tokens >= request.tokens);
    }
}
