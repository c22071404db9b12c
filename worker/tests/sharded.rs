//! However a model is cut, it computes the same: losses, gradients, and what goes on after the cut
//! was changed.

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use collective::{Faults, Group};
use contract::exit::EXIT_LOST;
use member::{Theta, span_of};
use plan::model::{Llama, LlamaConfig};
use plan::spec::{
    BatchSpec, CardSpec, DeviceSpec, IslandSpec, OptimizerSpec, PipelineCompression, Precision,
    RankSpec, Sharding, StageSpec,
};
use sparseloco::Layout;
use worker::devices::{Devices, DevicesSetup, Values};
use worker::error::RunError;
use worker::interrupt::Interrupt;
use worker::model::{MicroBatches, ModelError};
use worker::sums::Sums;
use worker::{init, parameters};

const LENGTH: usize = 24;
/// Sequences of a step.
const SEQUENCES: usize = 8;
const VOCABULARY: u32 = 200;

/// Four layers, grouped heads, a vocabulary that does not end with a chunk.
fn model(tied: bool) -> Llama {
    let config = LlamaConfig {
        hidden_size: 128,
        intermediate_size: 256,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: Some(64),
        vocab_size: VOCABULARY,
        max_position_embeddings: LENGTH as u32,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tie_word_embeddings: tied,
        initializer_range: 0.1,
    };
    config.validate().expect("a model")
}

/// A way to cut the model, and to give its parts to processes.
#[derive(Clone, Debug)]
struct Shape {
    tensor: u32,
    layers: Vec<u32>,
    recompute: bool,
    compression: Option<u32>,
    /// Micro-batches of each replica, of `SEQUENCES / their sum` sequences.
    batches: Vec<u32>,
    /// Devices of a process.
    devices: usize,
    /// Every device.
    device: DeviceSpec,
}

fn shape(tensor: u32, layers: &[u32], batches: &[u32]) -> Shape {
    Shape {
        tensor,
        layers: layers.to_vec(),
        recompute: false,
        compression: None,
        batches: batches.to_vec(),
        devices: 1,
        device: DeviceSpec::Cpu { threads: 1, speed: 1.0 },
    }
}

fn whole() -> Shape {
    shape(1, &[4], &[4])
}

impl Shape {
    fn island(&self) -> IslandSpec {
        let count = self.tensor as usize * self.layers.len() * self.batches.len();
        let card = CardSpec {
            product: "any".into(),
            device: self.device,
            memory_bytes: 1,
            planned_bytes: 1,
        };
        let rank = RankSpec { node: None, devices: vec![card; self.devices] };
        let size = SEQUENCES as u32 / self.batches.iter().sum::<u32>();
        let stage = |layers: &u32| StageSpec { layers: *layers, recompute: self.recompute };
        let batch = |count: &u32| BatchSpec { micro_batches: *count, micro_batch_size: size };
        IslandSpec {
            name: "island".into(),
            index: 0,
            epoch: 1,
            inner_steps: 1,
            tokens_per_second: 1.0,
            sharding: Sharding {
                tensor: self.tensor,
                stages: self.layers.iter().map(stage).collect(),
                compression: self.compression.map(|rank| PipelineCompression { rank }),
            },
            batches: self.batches.iter().map(batch).collect(),
            ranks: vec![rank; count / self.devices],
        }
    }
}

/// Canonical values of the whole model, and the losses that led to them.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    theta: Vec<f32>,
    moments: [Vec<f32>; 2],
    steps: u64,
    losses: Vec<f64>,
}

fn layout(model: &Llama) -> Layout {
    parameters::Layout::new(model.tensors()).canonical().expect("a layout")
}

fn start(model: &Llama) -> State {
    let tensors = parameters::Layout::new(model.tensors());
    let mut flat = vec![0.0; tensors.numel()];
    init::fill_all(5, &tensors, model.config().initializer_range, &mut flat);
    let layout = layout(model);
    let mut theta = vec![0.0; flat.len()];
    layout.gather(0..layout.pieces(), &flat, &mut theta);
    let moments = [vec![0.0; flat.len()], vec![0.0; flat.len()]];
    State { theta, moments, steps: 0, losses: Vec::new() }
}

/// The sequences of a step that belong to one replica; a text that can be learnt a little.
fn tokens(shape: &Shape, step: u64, data: u32) -> MicroBatches {
    let total = shape.batches.iter().sum::<u32>() as usize;
    let batch = SEQUENCES / total;
    let first: u32 = shape.batches[..data as usize].iter().sum();
    let row = |sequence: usize| {
        let seed = sequence as u64 * 31 + step * 101;
        (0..=LENGTH as u64).map(move |i| ((seed + i * i % 7 + i * 3) % 193) as u32)
    };
    let micro_batch = |index: u32| {
        let from = (first + index) as usize * batch;
        (from..from + batch).flat_map(row).collect()
    };
    let count = shape.batches[data as usize];
    MicroBatches { tokens: (0..count).map(micro_batch).collect(), batch, length: LENGTH }
}

/// The sequences of a step, by replica.
fn work(shape: &Shape, step: u64) -> Vec<MicroBatches> {
    (0..shape.batches.len() as u32).map(|data| tokens(shape, step, data)).collect()
}

/// Trains on from `state` for some steps.
fn train(model: &Llama, shape: &Shape, state: &State, steps: u64, rate: f64) -> State {
    let island = shape.island();
    let groups = Group::in_memory(island.ranks.len() as u32);
    let ranks = groups.into_iter().map(|group| {
        let (model, shape, island) = (model.clone(), shape.clone(), island.clone());
        let state = state.clone();
        thread::spawn(move || rank(group, (&model, &shape, &island), state, (steps, rate)))
    });
    let ranks: Vec<_> = ranks.collect();
    let mut all = State { losses: state.losses.clone(), ..State::default() };
    for rank in ranks {
        let part = rank.join().expect("no panic");
        all.theta.extend(part.theta);
        for (all, part) in all.moments.iter_mut().zip(part.moments) {
            all.extend(part);
        }
        (all.steps, all.losses) = (part.steps, part.losses);
    }
    all
}

/// The devices of one process.
fn connect(group: &mut Group, model: &Llama, island: &IslandSpec) -> Devices {
    connect_with(group, model, island, &Interrupt::default())
}

fn connect_with(
    group: &mut Group,
    model: &Llama,
    island: &IslandSpec,
    interrupt: &Interrupt,
) -> Devices {
    // So that nothing is clipped, and the first moment of a first step is a tenth of the gradient.
    let optimizer = OptimizerSpec { grad_clip: 1e9, ..OptimizerSpec::default() };
    let setup = DevicesSetup {
        model,
        layout: Arc::new(layout(model)),
        island,
        optimizer: &optimizer,
        seed: 5,
        listen: "127.0.0.1:0",
        interrupt,
    };
    Devices::connect(group, &setup).expect("devices")
}

/// The values that a process keeps between steps.
fn span(model: &Llama, group: &Group) -> Range<usize> {
    let layout = layout(model);
    layout.span(span_of(&layout, group.rank(), group.world_size()))
}

/// What one process does; its span of the state.
fn rank(
    mut group: Group,
    (model, shape, island): (&Llama, &Shape, &IslandSpec),
    state: State,
    (steps, rate): (u64, f64),
) -> State {
    let span = span(model, &group);
    let mut devices = connect(&mut group, model, island);
    let moments = state.moments.each_ref().map(|moment| &moment[span.clone()]);
    devices.spread_moments(&mut group, moments, state.steps).expect("moments");
    devices.spread(&mut group, &state.theta[span.clone()]).expect("θ");
    let mut losses = state.losses;
    let scale = 1.0 / (SEQUENCES * LENGTH) as f64;
    for step in state.steps..state.steps + steps {
        let mine = devices.accumulate(&work(shape, step), scale).expect("sums");
        let sums = if group.world_size() == 1 { mine } else { agreed(&mut group, &mine) };
        devices.optimizer_step(rate, &sums).expect("a step");
        losses.push(sums.read().expect("sums")[0] * scale);
    }
    let values = span.len();
    let steps = devices.optimizer_steps().expect("steps");
    let mut part = State { steps, losses, ..State::default() };
    part.theta = vec![0.0; values];
    devices.collect(&mut group, &mut part.theta).expect("θ");
    let (mut first, mut second) = (vec![0.0; values], vec![0.0; values]);
    devices.collect_values(Values::Moment1, &mut group, &mut first).expect("moments");
    devices.collect_values(Values::Moment2, &mut group, &mut second).expect("moments");
    part.moments = [first, second];
    part
}

/// The sums over the processes.
fn agreed(group: &mut Group, mine: &Sums) -> Sums {
    let message = mine.read().expect("sums").map(f64::to_le_bytes).concat();
    let all = group.all_gather_bytes(&message).expect("sums");
    let sum = |at: usize| {
        let bytes = all.iter().map(|bytes| bytes[at..at + 8].try_into().expect("8 bytes"));
        bytes.map(f64::from_le_bytes).sum()
    };
    Sums::of(sum(0), sum(8)).expect("sums")
}

/// ‖a − b‖ / ‖b‖, for each tensor; the largest.
fn worst(model: &Llama, a: &[f32], b: &[f32]) -> f64 {
    let layout = layout(model);
    let square = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|value| f64::from(value).powi(2)).sum()
    };
    let mut sums = vec![(0.0, 0.0); model.tensors().len()];
    for block in layout.blocks(0..layout.pieces()) {
        let range = block.canonical..block.canonical + block.rows * block.columns;
        let (a, b) = (&a[range.clone()], &b[range]);
        sums[block.tensor].0 += square(&mut a.iter().zip(b).map(|(a, b)| a - b));
        sums[block.tensor].1 += square(&mut b.iter().copied());
    }
    sums.iter().map(|(apart, size)| (apart / size).sqrt()).fold(0.0, f64::max)
}

fn shapes() -> Vec<Shape> {
    vec![
        shape(2, &[4], &[4]),
        shape(1, &[2, 2], &[4]),
        shape(2, &[2, 2], &[4]),
        shape(1, &[2, 2], &[2, 2]),
        shape(1, &[3, 1], &[1, 3]),
        shape(1, &[2, 1, 1], &[8]),
        Shape { recompute: true, ..whole() },
        Shape { recompute: true, ..shape(2, &[1, 3], &[4]) },
        Shape { devices: 2, ..shape(2, &[4], &[4]) },
        Shape { devices: 2, ..shape(1, &[2, 2], &[4]) },
        Shape { devices: 2, ..shape(1, &[4], &[2, 2]) },
        Shape { devices: 4, ..shape(2, &[2, 2], &[4]) },
        Shape { devices: 2, ..shape(2, &[2, 2], &[4]) },
        Shape { devices: 2, ..shape(1, &[2, 1, 1], &[2, 2]) },
    ]
}

#[test]
fn loss_and_every_gradient_are_those_of_the_unsharded_model() {
    for tied in [true, false] {
        let model = model(tied);
        let start = start(&model);
        let expected = train(&model, &whole(), &start, 1, 0.0);
        for shape in shapes() {
            let state = train(&model, &shape, &start, 1, 0.0);
            let loss = (state.losses[0] / expected.losses[0] - 1.0).abs();
            assert!(loss < 1e-6, "{shape:?}: the loss differs by {loss}");
            let apart = worst(&model, &state.moments[0], &expected.moments[0]);
            assert!(apart < 1e-5, "{shape:?}, tied: {tied}: a gradient differs by {apart}");
            assert_eq!(state.theta, start.theta, "{shape:?}: nothing is lost on the way");
        }
    }
}

/// All parts are on one card, which no plan does: whether values come whole from one position to
/// the other can be asked without a second card. `bench/gpu/check.py` reads the figures.
#[test]
fn loss_and_every_gradient_are_those_of_the_unsharded_model_on_a_card_too() {
    if tch::Cuda::device_count() == 0 {
        return;
    }
    let device = DeviceSpec::Cuda { index: 0, precision: Precision::F32 };
    let model = model(true);
    let start = start(&model);
    let expected = train(&model, &Shape { device, ..whole() }, &start, 1, 0.0);
    let states = shapes().into_iter().map(|shape| {
        let state = train(&model, &Shape { device, ..shape.clone() }, &start, 1, 0.0);
        let loss = (state.losses[0] / expected.losses[0] - 1.0).abs();
        (loss, worst(&model, &state.moments[0], &expected.moments[0]), shape)
    });
    let states: Vec<_> = states.collect();
    let largest =
        |of: &dyn Fn(&(f64, f64, Shape)) -> f64| states.iter().map(of).fold(0.0, f64::max);
    println!("figure cuda_f32.sharded_loss_differs_by {:.2e} -", largest(&|state| state.0));
    println!("figure cuda_f32.sharded_gradient_differs_by {:.2e} -", largest(&|state| state.1));
    for (loss, apart, shape) in states {
        assert!(loss < 1e-5, "{shape:?}: the loss differs by {loss}");
        assert!(apart < 1e-3, "{shape:?}: a gradient differs by {apart}");
    }
}

#[test]
fn fifty_steps_follow_one_curve() {
    let model = model(true);
    let start = start(&model);
    let expected = train(&model, &whole(), &start, 50, 1e-3);
    let (first, last) = (expected.losses[0], expected.losses[49]);
    assert!(last < 0.6 * first, "it learns: {first} to {last}");
    for shape in [
        shape(2, &[2, 2], &[4]),
        shape(1, &[2, 1, 1], &[3, 1]),
        Shape { recompute: true, devices: 2, ..shape(2, &[4], &[4]) },
    ] {
        let state = train(&model, &shape, &start, 50, 1e-3);
        for (step, (a, b)) in state.losses.iter().zip(&expected.losses).enumerate() {
            assert!((a / b - 1.0).abs() < 1e-3, "{shape:?}: step {step}: {a} or {b}");
        }
    }
}

#[test]
fn an_island_goes_on_at_any_other_sharding_with_nothing_lost() {
    let model = model(true);
    let all = [
        whole(),
        shape(2, &[4], &[4]),
        shape(1, &[3, 1], &[2, 2]),
        Shape { devices: 2, ..shape(2, &[2, 2], &[4]) },
        shape(1, &[4], &[1, 2, 1]),
    ];
    let start = start(&model);
    for first in &all {
        let before = train(&model, first, &start, 2, 1e-3);
        let on = train(&model, first, &before, 1, 1e-3);
        for second in &all {
            let moved = train(&model, second, &before, 0, 1e-3);
            assert_eq!(moved, before, "{first:?} to {second:?}");
            let state = train(&model, second, &before, 1, 1e-3);
            let loss = (state.losses[2] / on.losses[2] - 1.0).abs();
            assert!(loss < 1e-6, "{first:?} to {second:?}: {loss}");
            let apart = worst(&model, &state.moments[0], &on.moments[0]);
            assert!(apart < 1e-5, "{first:?} to {second:?}: {apart}");
        }
    }
}

#[test]
fn a_subspace_of_full_rank_changes_nothing() {
    let model = model(true);
    let start = start(&model);
    let plain = shape(2, &[2, 2], &[4]);
    let expected = train(&model, &plain, &start, 20, 1e-3);
    let compressed = Shape { compression: Some(128), ..plain };
    let state = train(&model, &compressed, &start, 20, 1e-3);
    for (step, (a, b)) in state.losses.iter().zip(&expected.losses).enumerate() {
        assert!((a / b - 1.0).abs() < 1e-4, "step {step}: {a} or {b}");
    }
}

#[test]
fn a_value_that_is_no_number_makes_every_step_a_skipped_one_that_changes_nothing() {
    let model = model(true);
    for shape in [
        whole(),
        shape(2, &[2, 2], &[4]),
        shape(1, &[2, 1, 1], &[3, 1]),
        Shape { devices: 2, recompute: true, ..shape(2, &[4], &[2, 2]) },
    ] {
        let mut before = train(&model, &shape, &start(&model), 1, 1e-3);
        let middle = before.theta.len() / 2;
        before.theta[middle] = f32::NAN;
        let after = train(&model, &shape, &before, 2, 1e-3);
        assert!(after.losses[0].is_finite(), "{shape:?}");
        assert!(after.losses[1..].iter().all(|loss| loss.is_nan()), "{shape:?}");
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(bits(&after.theta) == bits(&before.theta), "{shape:?}");
        assert_eq!((&after.moments, after.steps), (&before.moments, 1), "{shape:?}");
    }
}

fn ranks_of(shape: &Shape) -> Vec<Group> {
    Group::in_memory(shape.island().ranks.len() as u32)
}

/// Less than anybody waits for a peer that is silent.
const AT_ONCE: Duration = Duration::from_secs(20);

/// What all ranks say of a step in which one of them does something else. With `held`, none lets go
/// of its devices before all have spoken.
fn break_down(
    groups: Vec<Group>,
    (shape, culprit): (&Shape, u32),
    held: bool,
    fails: impl Fn(&mut Devices) -> ModelError + Copy + Send + 'static,
) -> Vec<RunError> {
    let started = Instant::now();
    let model = model(true);
    let spoken = Arc::new(Barrier::new(if held { groups.len() } else { 1 }));
    let ranks = groups.into_iter().map(|mut group| {
        let (model, shape, island) = (model.clone(), shape.clone(), shape.island());
        let spoken = Arc::clone(&spoken);
        thread::spawn(move || {
            let mut devices = connect(&mut group, &model, &island);
            let values = vec![0.01; span(&model, &group).len()];
            devices.spread(&mut group, &values).expect("θ");
            let said = if group.rank() == culprit {
                fails(&mut devices)
            } else {
                let step = devices.accumulate(&work(&shape, 0), 1.0);
                step.expect_err("another rank has failed")
            };
            spoken.wait();
            RunError::from(said)
        })
    });
    let ranks: Vec<_> = ranks.collect();
    let said = ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect();
    assert!(started.elapsed() < AT_ONCE, "{shape:?}: {:?}", started.elapsed());
    said
}

/// A rank that does not take part in a step.
fn absent(_: &mut Devices) -> ModelError {
    ModelError::Stage("step")
}

#[test]
fn where_one_rank_is_gone_all_others_end_at_once_as_ranks_that_lost_a_peer() {
    for (shape, culprit) in [
        (shape(2, &[4], &[4]), 1),
        (shape(1, &[2, 2], &[4]), 0),
        (shape(1, &[2, 2], &[4]), 1),
        (shape(1, &[4], &[2, 2]), 1),
        (shape(2, &[2, 2], &[4]), 3),
        (Shape { devices: 2, ..shape(2, &[2, 1, 1], &[4]) }, 1),
        (Shape { devices: 2, ..shape(1, &[2, 2], &[2, 2]) }, 0),
    ] {
        let said = break_down(ranks_of(&shape), (&shape, culprit), false, absent);
        for (rank, error) in (0..).zip(&said).filter(|(rank, _)| *rank != culprit) {
            assert_eq!(error.exit_code(), EXIT_LOST, "{shape:?}: rank {rank}: {error:?}");
        }
    }
}

#[test]
fn a_device_that_fails_lets_all_others_end_at_once_and_is_named_as_the_cause() {
    // Of two replicas, one is given a token that no model has.
    let foul = |devices: &mut Devices| {
        let mut work = work(&shape(1, &[4], &[2, 2]), 0);
        work[1].tokens[0][0] += VOCABULARY;
        devices.accumulate(&work, 1.0).expect_err("no such token")
    };
    for shape in [
        Shape { devices: 2, ..shape(1, &[4], &[2, 2]) },
        Shape { devices: 4, ..shape(1, &[2, 2], &[2, 2]) },
        Shape { devices: 4, ..shape(2, &[4], &[2, 2]) },
        shape(1, &[4], &[2, 2]),
    ] {
        let culprit = shape.island().ranks.len() as u32 - 1;
        let said = break_down(ranks_of(&shape), (&shape, culprit), false, foul);
        for (rank, error) in (0..).zip(said) {
            if rank == culprit {
                assert!(matches!(error, RunError::Model(ModelError::Token { .. })), "{error:?}");
            } else {
                assert_eq!(error.exit_code(), EXIT_LOST, "{shape:?}: rank {rank}: {error:?}");
            }
        }
    }
}

/// Only one rank knows that it is to stop: the others find it gone from the step, and hand over
/// what was made before all the same.
#[test]
fn a_rank_that_leaves_its_step_takes_the_others_with_it_and_what_was_made_can_be_handed_over() {
    for (shape, culprit) in [
        (whole(), 0),
        (shape(2, &[4], &[4]), 1),
        (shape(1, &[2, 2], &[4]), 0),
        (shape(1, &[4], &[2, 2]), 1),
        (Shape { devices: 2, ..shape(2, &[2, 2], &[4]) }, 1),
    ] {
        let (model, island) = (model(true), shape.island());
        let ranks = ranks_of(&shape).into_iter().map(|mut group| {
            let (model, shape, island) = (model.clone(), shape.clone(), island.clone());
            thread::spawn(move || {
                let stop = Arc::new(AtomicBool::new(group.rank() == culprit));
                let mut devices = connect_with(&mut group, &model, &island, &Interrupt::new(stop));
                let theta = vec![0.5; span(&model, &group).len()];
                devices.spread(&mut group, &theta).expect("θ");
                let error = loop {
                    if let Err(error) = devices.accumulate(&work(&shape, 0), 1.0) {
                        break error;
                    }
                };
                let mut after = vec![0.0; theta.len()];
                devices.collect(&mut group, &mut after).expect("θ");
                devices.spread(&mut group, &after).expect("θ");
                assert_eq!(after, theta, "no step was made");
                (group.rank() == culprit, error)
            })
        });
        for rank in ranks.collect::<Vec<_>>() {
            let (left, error) = rank.join().expect("no panic");
            match error {
                ModelError::Interrupted => assert!(left, "{shape:?}"),
                ModelError::Peers(_) => assert!(!left, "{shape:?}: {error:?}"),
                error => panic!("{shape:?}: {error:?}"),
            }
        }
    }
}

#[test]
fn a_rank_that_is_silent_is_waited_for_no_longer_than_the_groups_timeout_allows() {
    let timeout = Duration::from_secs(2);
    for (shape, culprit) in
        [(shape(2, &[2, 2], &[4]), 3), (Shape { devices: 2, ..shape(1, &[2, 2], &[2, 2]) }, 0)]
    {
        let ranks = shape.island().ranks.len() as u32;
        let groups = Group::in_memory_with(ranks, timeout, &Faults::new());
        let said = break_down(groups, (&shape, culprit), true, absent);
        for (rank, error) in (0..).zip(&said).filter(|(rank, _)| *rank != culprit) {
            assert_eq!(error.exit_code(), EXIT_LOST, "{shape:?}: rank {rank}: {error:?}");
        }
    }
}
