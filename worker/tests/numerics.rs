//! Numerics over ranks and islands: how the work is cut must not change what is computed.

use std::thread;

use collective::Group;
use plan::model::LlamaConfig;
use plan::spec::{DeviceSpec, OptimizerSpec};
use sparseloco::outer::{Dense, OuterParams, Rule, apply_dense};
use sparseloco::{CodecParams, PieceAt, ValueBits};
use worker::model::Replica;

const LENGTH: usize = 32;
const STEPS: u64 = 8;

fn model() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 64,
        intermediate_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: None,
        vocab_size: 320,
        max_position_embeddings: LENGTH as u32,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tie_word_embeddings: true,
        initializer_range: 0.02,
    }
}

fn replica() -> Replica {
    let optimizer =
        OptimizerSpec { learning_rate: 1e-3, warmup_steps: 0, ..OptimizerSpec::default() };
    Replica::new(&model(), 7, &DeviceSpec::Cpu { threads: 1, speed: 1.0 }, &optimizer)
        .expect("a replica")
}

/// `count` sequences of a step, from the one numbered `first`.
fn sequences(step: u64, first: usize, count: usize) -> Vec<u32> {
    let token = |index: usize| ((index as u64 * 7919 + step * 104_729) % 251) as u32;
    (first * (LENGTH + 1)..(first + count) * (LENGTH + 1)).map(token).collect()
}

/// A rank's θ and the step losses of its island, with `shares[rank]` sequences for each rank.
fn island(shares: &[usize]) -> Vec<(Vec<f32>, Vec<f64>)> {
    let total: usize = shares.iter().sum();
    let groups = Group::in_memory(shares.len() as u32);
    let ranks = groups.into_iter().enumerate().map(|(rank, mut group)| {
        let shares = shares.to_vec();
        thread::spawn(move || {
            let mut replica = replica();
            let (first, own) = (shares[..rank].iter().sum::<usize>(), shares[rank]);
            let scale = 1.0 / (total * LENGTH) as f64;
            let mut losses = Vec::new();
            for step in 0..STEPS {
                let tokens = sequences(step, first, own);
                let loss = replica.forward_backward(&tokens, own, LENGTH, scale).expect("a loss");
                group.all_reduce(replica.gradients().expect("gradients")).expect("a sum");
                replica.store_gradients().expect("stored");
                replica.optimizer_step(1e-3).expect("a step");
                let mut sum = [loss as f32];
                group.all_reduce(&mut sum).expect("a sum");
                losses.push(f64::from(sum[0]) * scale);
            }
            (replica.theta().expect("θ").to_vec(), losses)
        })
    });
    let ranks: Vec<_> = ranks.collect();
    ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect()
}

/// Root mean square of the difference, relative to that of the change that training made.
fn distance(a: &[f32], b: &[f32], start: &[f32]) -> f64 {
    let norm = |x: &[f32], y: &[f32]| -> f64 {
        x.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>().sqrt()
    };
    norm(a, b) / norm(a, start)
}

#[test]
fn a_batch_trains_the_same_on_one_rank_and_on_two_or_three_even_uneven_ones() {
    let start = replica().theta().expect("θ").to_vec();
    let (alone, losses) = island(&[6]).remove(0);
    for shares in [vec![3, 3], vec![4, 2], vec![1, 2, 3]] {
        let ranks = island(&shares);
        for (theta, _) in &ranks {
            assert_eq!(theta, &ranks[0].0, "ranks of one island hold the same bits");
        }
        for (ours, theirs) in losses.iter().zip(&ranks[0].1) {
            assert!((ours / theirs - 1.0).abs() < 1e-5, "{shares:?}: loss {ours} or {theirs}");
        }
        // AdamW divides by the root of the second moment, so where a gradient is nearly nothing the
        // order of additions decides its sign: the bound is on the whole, relative to the change.
        let apart = distance(&alone, &ranks[0].0, &start);
        assert!(apart < 2e-3, "{shares:?}: θ differs by {apart} of the change");
    }
}

#[test]
fn one_step_rounds_with_every_value_kept_are_data_parallel_sgd() {
    let rate = 0.05f32;
    let mut together = replica();
    let mut island = replica();
    let layout = together.layout().canonical().expect("a layout");
    let all = 0..layout.pieces();
    let params = CodecParams::new(4096, ValueBits::Two, 1.0, 0.0).expect("parameters");
    let outer = OuterParams { rule: Rule::Paper, alpha: 1.0 };
    let mut anchor = vec![0.0; layout.values()];
    layout.gather(all.clone(), island.theta().expect("θ"), &mut anchor);
    for step in 0..STEPS {
        let (batches, scale) = ([0, 2].map(|first| sequences(step, first, 2)), 1.0 / LENGTH as f64);
        let mut changes = Vec::new();
        for tokens in &batches {
            layout.scatter(all.clone(), &anchor, island.theta().expect("θ"));
            island.store_theta().expect("stored");
            island.forward_backward(tokens, 2, LENGTH, scale / 2.0).expect("a loss");
            let gradient = island.gradients().expect("gradients").to_vec();
            island.gradients().expect("gradients").fill(0.0);
            island.store_gradients().expect("stored");
            let mut change = vec![0.0; layout.values()];
            let flat: Vec<f32> = gradient.iter().map(|g| rate * g).collect();
            layout.gather(all.clone(), &flat, &mut change);
            changes.push(change);
        }
        for piece in all.clone() {
            let span = layout.piece(piece).values;
            let set: Vec<Dense<'_>> = changes
                .iter()
                .map(|change| Dense { weight: 64, values: &change[span.clone()] })
                .collect();
            let at = PieceAt { layout: &layout, params: &params, piece };
            apply_dense(at, &outer, &set, &mut anchor[span]).expect("applied");
        }
        for tokens in &batches {
            together.forward_backward(tokens, 2, LENGTH, scale / 4.0).expect("a loss");
        }
        let gradient = together.gradients().expect("gradients").to_vec();
        together.gradients().expect("gradients").fill(0.0);
        together.store_gradients().expect("stored");
        for (value, gradient) in together.theta().expect("θ").iter_mut().zip(gradient) {
            *value -= rate * gradient;
        }
        together.store_theta().expect("stored");
    }
    let mut expected = vec![0.0; layout.values()];
    layout.gather(all.clone(), together.theta().expect("θ"), &mut expected);
    let mut start = vec![0.0; layout.values()];
    layout.gather(all, replica().theta().expect("θ"), &mut start);
    let apart = distance(&expected, &anchor, &start);
    assert!(apart < 1e-4, "θ differs by {apart} of the change");
}
