//! The first CUDA card against the CPU, and against itself; on a machine without one, only what the
//! CPU can be asked as well. `bench/gpu/check.py` reads the figures that they print.

use std::sync::Arc;

use collective::Group;
use member::Theta;
use plan::model::LlamaConfig;
use plan::spec::{
    BatchSpec, CardSpec, DeviceSpec, IslandSpec, OptimizerSpec, Precision, RankSpec, Sharding,
};
use worker::devices::{Devices, DevicesSetup};
use worker::init;
use worker::interrupt::Interrupt;
use worker::model::{MicroBatches, Replica};
use worker::parameters::Layout;
use worker::sums::Sums;

const BATCH: usize = 2;
const LENGTH: usize = 64;

fn config() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 128,
        intermediate_size: 256,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: None,
        vocab_size: 320,
        max_position_embeddings: LENGTH as u32,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tie_word_embeddings: true,
        initializer_range: 0.05,
    }
}

/// Loss, gradient, and the parameters after ten steps.
fn train(device: DeviceSpec) -> (f64, Vec<f32>, Vec<f32>) {
    let optimizer = OptimizerSpec { warmup_steps: 0, ..OptimizerSpec::default() };
    let mut replica = Replica::new(&config(), 3, &device, &optimizer).expect("a replica");
    let tokens: Vec<u32> =
        (0..BATCH * (LENGTH + 1)).map(|i| ((i * i * 13 + i * 5) % 317) as u32).collect();
    let scale = 1.0 / (BATCH * LENGTH) as f64;
    let loss = replica.forward_backward(&tokens, BATCH, LENGTH, scale).expect("a loss");
    let gradient = replica.gradients().expect("gradients").to_vec();
    replica.store_gradients().expect("stored");
    replica.optimizer_step(1e-3).expect("a step");
    for _ in 1..10 {
        replica.forward_backward(&tokens, BATCH, LENGTH, scale).expect("a loss");
        replica.optimizer_step(1e-3).expect("a step");
    }
    (loss * scale, gradient, replica.theta().expect("θ").to_vec())
}

/// In figures.
fn name(device: &DeviceSpec) -> &'static str {
    match device {
        DeviceSpec::Cpu { .. } => "cpu",
        DeviceSpec::Cuda { precision: Precision::F32, .. } => "cuda_f32",
        DeviceSpec::Cuda { precision: Precision::Bf16, .. } => "cuda_bf16",
    }
}

fn apart(a: &[f32], b: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|value| f64::from(value).powi(2)).sum()
    };
    let difference = square(&mut a.iter().zip(b).map(|(a, b)| a - b));
    (difference / square(&mut b.iter().copied())).sqrt()
}

#[test]
fn a_card_computes_what_the_cpu_does() {
    if tch::Cuda::device_count() == 0 {
        return;
    }
    let (loss, gradient, theta) = train(DeviceSpec::Cpu { threads: 1, speed: 1.0 });
    for (precision, bound) in [(Precision::F32, 1e-4), (Precision::Bf16, 3e-2)] {
        let device = DeviceSpec::Cuda { index: 0, precision };
        let (on_card, slopes, trained) = train(device);
        let differences = [
            ("loss", (on_card / loss - 1.0).abs()),
            ("gradient", apart(&slopes, &gradient)),
            ("theta_after_ten_steps", apart(&trained, &theta)),
        ];
        for (what, differs) in differences {
            println!("figure {}.{what}_differs_by {differs:.2e} -", name(&device));
        }
        for (what, differs) in differences {
            assert!(differs < bound, "{precision:?}: the {what} differs by {differs}");
        }
    }
}

fn only(device: DeviceSpec) -> IslandSpec {
    let card = CardSpec { product: "any".into(), device, memory_bytes: 1, planned_bytes: 1 };
    IslandSpec {
        name: "island".into(),
        index: 0,
        epoch: 1,
        inner_steps: 1,
        tokens_per_second: 1.0,
        sharding: Sharding::whole(config().num_hidden_layers),
        batches: vec![BatchSpec { micro_batches: 2, micro_batch_size: BATCH as u32 }],
        ranks: vec![RankSpec { node: None, devices: vec![card] }],
    }
}

/// θ, the losses and the steps made, of six steps of an island of one device. The gradient of the
/// third is not finite. With `kept` the sums of all steps are read at the end.
fn six_steps(device: DeviceSpec, kept: bool) -> (Vec<f32>, Vec<f64>, u64) {
    let model = config().validate().expect("a model");
    let tensors = Layout::new(model.tensors());
    let layout = Arc::new(tensors.canonical().expect("a layout"));
    let setup = DevicesSetup {
        model: &model,
        layout: Arc::clone(&layout),
        island: &only(device),
        optimizer: &OptimizerSpec { warmup_steps: 0, ..OptimizerSpec::default() },
        seed: 3,
        listen: "127.0.0.1:0",
        interrupt: &Interrupt::default(),
    };
    let mut group = Group::in_memory(1).remove(0);
    let mut devices = Devices::connect(&mut group, &setup).expect("devices");
    let mut flat = vec![0.0; tensors.numel()];
    init::fill_all(3, &tensors, config().initializer_range, &mut flat);
    let mut theta = vec![0.0; flat.len()];
    layout.gather(0..layout.pieces(), &flat, &mut theta);
    devices.spread(&mut group, &theta).expect("θ");
    let row = |seed: usize| {
        let token = move |i: usize| ((i * i * 13 + i * 5 + seed * 7) % 317) as u32;
        (0..BATCH * (LENGTH + 1)).map(token).collect()
    };
    let work = [MicroBatches { tokens: vec![row(1), row(2)], batch: BATCH, length: LENGTH }];
    let mut all = Vec::new();
    for step in 0..6 {
        let scale = if step == 2 { f64::NAN } else { 1.0 / (2 * BATCH * LENGTH) as f64 };
        let mut sums = devices.accumulate(&work, scale).expect("sums");
        if !kept {
            let [loss, squares] = sums.read().expect("sums");
            sums = Sums::of(loss, squares).expect("sums");
        }
        devices.optimizer_step(1e-3, &sums).expect("a step");
        all.push(sums);
    }
    let losses = all.iter().map(|sums| sums.read().expect("sums")[0]).collect();
    let made = devices.optimizer_steps().expect("steps");
    devices.collect(&mut group, &mut theta).expect("θ");
    (theta, losses, made)
}

#[test]
fn steps_that_the_host_does_not_wait_for_are_those_that_it_judges_itself() {
    let mut all = vec![(DeviceSpec::Cpu { threads: 1, speed: 1.0 }, 0.0)];
    if tch::Cuda::device_count() > 0 {
        // The order in which a card adds is not always the same.
        let card = |precision| DeviceSpec::Cuda { index: 0, precision };
        all.extend([(card(Precision::F32), 1e-3), (card(Precision::Bf16), 3e-2)]);
    }
    for (device, bound) in all {
        let (theta, losses, made) = six_steps(device, true);
        let (expected, told, _) = six_steps(device, false);
        assert_eq!(made, 5, "{device:?}");
        let differs = apart(&theta, &expected);
        println!("figure {}.theta_of_unread_steps_differs_by {differs:.2e} -", name(&device));
        assert!(differs <= bound, "{device:?}: θ differs by {differs}");
        for (loss, told) in losses.iter().zip(&told) {
            assert!((loss / told - 1.0).abs() <= bound, "{device:?}: {loss} or {told}");
        }
        assert!((losses[3] / losses[2] - 1.0).abs() <= bound, "{device:?}: a skip changes nothing");
        assert!(losses[5] < losses[3], "{device:?}: {losses:?}");
    }
}
