//! The first CUDA card against the CPU. On a machine without one there is nothing to compare.

use plan::model::LlamaConfig;
use plan::spec::{DeviceSpec, OptimizerSpec, Precision};
use worker::model::Replica;

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
        let (on_card, slopes, trained) = train(DeviceSpec::Cuda { index: 0, precision });
        assert!((on_card / loss - 1.0).abs() < bound, "{precision:?}: {on_card} or {loss}");
        let differs = apart(&slopes, &gradient);
        assert!(differs < bound, "{precision:?}: the gradient differs by {differs}");
        let differs = apart(&trained, &theta);
        assert!(differs < bound, "{precision:?}: after ten steps θ differs by {differs}");
    }
}
