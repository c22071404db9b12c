//! The model against an independent reference, finite differences, and itself.

use super::*;

mod laws;
mod reference;

/// Grouped heads, a width of the heads that is not the model's, an odd vocabulary.
fn config(tied: bool) -> LlamaConfig {
    LlamaConfig {
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: Some(8),
        vocab_size: 37,
        max_position_embeddings: 16,
        rms_norm_eps: 1e-5,
        rope_theta: 500.0,
        tie_word_embeddings: tied,
        initializer_range: 0.2,
    }
}

fn optimizer() -> OptimizerSpec {
    OptimizerSpec { learning_rate: 1e-2, warmup_steps: 0, ..OptimizerSpec::default() }
}

fn cpu(threads: u32) -> DeviceSpec {
    DeviceSpec::Cpu { threads, speed: 1.0 }
}

fn replica(tied: bool) -> Replica {
    Replica::new(&config(tied), 11, &cpu(1), &optimizer()).unwrap()
}

/// `batch` sequences of `seq` inputs; no two rows are alike.
fn tokens(batch: usize, seq: usize) -> Vec<u32> {
    (0..batch * (seq + 1)).map(|i| (i * i * 31 + i * 7 + 3) as u32 % 37).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn logits_are_those_of_an_independent_reference_in_f64() {
    for tied in [false, true] {
        let mut replica = replica(tied);
        let tokens = tokens(1, 12);
        let theta = replica.theta().unwrap().to_vec();
        let expected =
            reference::logits(&config(tied), replica.layout().tensors(), &theta, &tokens);
        let logits = replica.logits(&tokens, tokens.len()).unwrap();
        let worst = logits.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs());
        assert!(worst.fold(0.0, f64::max) < 2e-5, "tied: {tied}");
        let last = replica.logits(&tokens, 1).unwrap();
        assert!(largest_difference(&last, &logits[logits.len() - 37..]) < 1e-5);
    }
}

#[test]
fn the_loss_is_the_cross_entropy_of_the_reference() {
    let mut replica = replica(false);
    let (batch, seq) = (3, 7);
    let tokens = tokens(batch, seq);
    let theta = replica.theta().unwrap().to_vec();
    let expected: f64 = tokens
        .chunks(seq + 1)
        .map(|row| reference::loss(&config(false), replica.layout().tensors(), &theta, row))
        .sum();
    assert!((replica.loss(&tokens, batch, seq).unwrap() - expected).abs() < 1e-4);
    let trained = replica.forward_backward(&tokens, batch, seq, 0.5).unwrap();
    assert!((trained - expected).abs() < 1e-4);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for tied in [false, true] {
        let mut replica = replica(tied);
        let tokens = tokens(1, 9);
        let scale = 1.0 / 9.0;
        replica.forward_backward(&tokens, 1, 9, scale).unwrap();
        let gradient = replica.gradients().unwrap().to_vec();
        let theta: Vec<f32> = replica.theta().unwrap().to_vec();
        let tensors = replica.layout().tensors().to_vec();
        let layout = Layout::new(tensors.clone());
        // Some values of every tensor; the reference is f64, so small steps are safe.
        for (tensor, range) in layout.ranges() {
            for place in range.clone().step_by((range.len() / 5).max(1)) {
                let at = |change: f64| {
                    let loss = |v: &dyn Fn(usize) -> f64| {
                        reference::loss_of(&config(tied), &tensors, v, &tokens)
                    };
                    loss(&|i| f64::from(theta[i]) + if i == place { change } else { 0.0 })
                };
                let expected = (at(1e-4) - at(-1e-4)) / 2e-4 * scale;
                let found = f64::from(gradient[place]);
                let name = &tensor.name;
                assert!((found - expected).abs() < 1e-5, "{name} {place}: {found} {expected}");
            }
        }
    }
}

#[test]
fn initial_parameters_are_the_same_bits_for_any_number_of_threads() {
    let theta = |threads| {
        let mut replica = Replica::new(&config(false), 5, &cpu(threads), &optimizer()).unwrap();
        replica.theta().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<u32>>()
    };
    assert_eq!(theta(1), theta(2));
}

#[test]
fn a_batch_at_once_is_its_micro_batches_one_after_the_other() {
    let (batch, seq) = (4, 11);
    let tokens = tokens(batch, seq);
    let scale = 1.0 / (batch * seq) as f64;
    let gradient_of = |micro_batch: usize| {
        let mut replica = replica(true);
        let mut loss = 0.0;
        for part in tokens.chunks(micro_batch * (seq + 1)) {
            loss += replica.forward_backward(part, micro_batch, seq, scale).unwrap();
        }
        (loss, replica.gradients().unwrap().to_vec())
    };
    let (loss, gradient) = gradient_of(4);
    let largest = gradient.iter().fold(0.0f32, |largest, v| largest.max(v.abs()));
    for micro_batch in [1, 2] {
        let (other_loss, other) = gradient_of(micro_batch);
        assert!((loss - other_loss).abs() < 1e-4 * loss);
        assert!(largest_difference(&gradient, &other) < 1e-5 * largest.max(1.0));
    }
}

#[test]
fn training_learns_a_sequence_by_heart() {
    let mut replica = replica(true);
    let tokens = tokens(1, 15);
    let first = replica.loss(&tokens, 1, 15).unwrap();
    for _ in 0..60 {
        replica.forward_backward(&tokens, 1, 15, 1.0 / 15.0).unwrap();
        replica.optimizer_step(1e-2).unwrap();
    }
    let last = replica.loss(&tokens, 1, 15).unwrap();
    assert!(first > 15.0 * 3.0 && last < 15.0 * 0.1, "{first} {last}");
    assert_eq!(replica.optimizer_steps().unwrap(), 60);
}

#[test]
fn two_replicas_that_see_the_same_make_the_same_bits() {
    let trained = || {
        let mut replica = replica(false);
        for _ in 0..3 {
            replica.forward_backward(&tokens(2, 8), 2, 8, 1.0 / 16.0).unwrap();
            replica.optimizer_step(1e-2).unwrap();
        }
        replica.theta().unwrap().to_vec()
    };
    assert_eq!(trained(), trained());
}

#[test]
fn state_that_is_written_back_goes_on_as_if_nothing_had_happened() {
    let step = |replica: &mut Replica| {
        replica.forward_backward(&tokens(2, 8), 2, 8, 1.0 / 16.0).unwrap();
        replica.optimizer_step(1e-2).unwrap()
    };
    let mut first = replica(false);
    step(&mut first);
    let mut second = Replica::new(&config(false), 99, &cpu(1), &optimizer()).unwrap();
    second.theta().unwrap().copy_from_slice(first.theta().unwrap());
    second.store_theta().unwrap();
    let (from, to) = (first.moments().unwrap(), second.moments().unwrap());
    to.0.copy_from_slice(from.0);
    to.1.copy_from_slice(from.1);
    second.store_moments().unwrap();
    second.set_optimizer_steps(first.optimizer_steps().unwrap()).unwrap();
    assert_eq!(step(&mut first).to_bits(), step(&mut second).to_bits());
    assert_eq!(first.theta().unwrap(), second.theta().unwrap());
}

#[test]
fn the_composed_path_computes_what_the_fused_one_does() {
    let (batch, seq) = (3, 13);
    let tokens = tokens(batch, seq);
    let mut fused = replica(true);
    let mut composed = replica(true);
    composed.0.stage.compose(Kind::Float).unwrap();
    let run = |replica: &mut Replica| {
        let scale = 1.0 / (batch * seq) as f64;
        let loss = replica.forward_backward(&tokens, batch, seq, scale).unwrap();
        let held_out = replica.loss(&tokens, batch, seq).unwrap();
        assert!((loss - held_out).abs() < 1e-3);
        (loss, replica.gradients().unwrap().to_vec())
    };
    let ((loss, gradient), (other_loss, other)) = (run(&mut fused), run(&mut composed));
    assert!((loss - other_loss).abs() < 1e-3, "{loss} {other_loss}");
    assert!(largest_difference(&gradient, &other) < 1e-5);
}

#[test]
fn bf16_products_stay_near_f32() {
    let mut coarse = replica(true);
    coarse.0.stage.compose(Kind::BFloat16).unwrap();
    let mut fine = replica(true);
    let tokens = tokens(2, 12);
    let run = |replica: &mut Replica| {
        let loss = replica.forward_backward(&tokens, 2, 12, 1.0 / 24.0).unwrap();
        (loss, replica.gradients().unwrap().to_vec())
    };
    let ((coarse_loss, coarse), (fine_loss, fine)) = (run(&mut coarse), run(&mut fine));
    assert!((coarse_loss / fine_loss - 1.0).abs() < 0.01, "{coarse_loss} {fine_loss}");
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let cosine = dot(&coarse, &fine) / (dot(&coarse, &coarse) * dot(&fine, &fine)).sqrt();
    assert!(cosine > 0.999, "{cosine}");
}

/// A whole model of the values of [`replica`] that computes as a card does.
fn composed(kind: Kind, recompute: bool) -> Replica {
    let model = config(true).validate().unwrap();
    let mut sharding = Sharding::whole(2);
    sharding.stages[0].recompute = recompute;
    let setup = ShardSetup {
        sharded: Arc::new(Sharded::new(&model, &sharding).unwrap()),
        position: Position { data: 0, stage: 0, tensor: 0 },
        device: &cpu(1),
        optimizer: &optimizer(),
        seed: 11,
        interrupt: &Interrupt::default(),
    };
    let mut shard = Shard::new(&model, setup, Links::default()).unwrap();
    shard.stage.compose(kind).unwrap();
    let mut composed = Replica(shard);
    composed.theta().unwrap().copy_from_slice(replica(true).theta().unwrap());
    composed.store_theta().unwrap();
    composed
}

/// Gradients of three micro-batches that are all forward before the first is backward, as on the
/// first of three stages.
fn in_flight(replica: &mut Replica, work: &[Vec<u32>]) -> Vec<f32> {
    let Shard { stage, .. } = &replica.0;
    let flights: Vec<_> = work
        .iter()
        .map(|tokens| {
            let ids = |skip: usize| {
                let rows = tokens.chunks(13).flat_map(|row| &row[skip..skip + 12]);
                Tensor::from_slice(&rows.map(|id| i64::from(*id)).collect::<Vec<_>>())
            };
            let batch = Batch { inputs: ids(0), targets: ids(1), batch: 2, length: 12 };
            let flight = stage.forward(stage.embed(&batch).unwrap(), &batch).unwrap();
            (batch, flight)
        })
        .collect();
    for (batch, flight) in flights {
        let (_, gradient) = stage.loss_and_gradient(&flight, &batch, 1.0 / 24.0).unwrap();
        let gradient = stage.backward(flight, &batch, gradient, |_| Ok(())).unwrap();
        stage.embed_backward(&batch, &gradient).unwrap();
    }
    replica.gradients().unwrap().to_vec()
}

#[test]
fn one_bf16_copy_of_the_weights_gives_all_micro_batches_the_gradients_of_copies_of_their_own() {
    let work: Vec<Vec<u32>> = tokens(6, 12).chunks(26).map(<[u32]>::to_vec).collect();
    let mut own = composed(Kind::BFloat16, false);
    for tokens in &work {
        own.0.stage.renew().unwrap();
        own.forward_backward(tokens, 2, 12, 1.0 / 24.0).unwrap();
    }
    let own = own.gradients().unwrap().to_vec();
    for recompute in [false, true] {
        let mut shared = composed(Kind::BFloat16, recompute);
        assert_eq!(in_flight(&mut shared, &work), own, "recompute: {recompute}");
    }
}

#[test]
fn a_bf16_copy_follows_every_change_of_the_weights() {
    let tokens = tokens(2, 12);
    let mut trained = composed(Kind::BFloat16, false);
    let before = trained.loss(&tokens, 2, 12).unwrap();
    for _ in 0..2 {
        trained.forward_backward(&tokens, 2, 12, 1.0 / 24.0).unwrap();
        trained.optimizer_step(1e-2).unwrap();
    }
    let after = trained.loss(&tokens, 2, 12).unwrap();
    assert!(after < before, "{after} {before}");
    let mut other = composed(Kind::BFloat16, false);
    other.theta().unwrap().copy_from_slice(trained.theta().unwrap());
    other.store_theta().unwrap();
    assert_eq!(other.loss(&tokens, 2, 12).unwrap(), after);
}

#[test]
fn batches_that_make_no_sense_are_refused_with_a_reason() {
    let mut replica = replica(true);
    let reason = |result: Result<f64, ModelError>| result.unwrap_err().to_string();
    assert!(reason(replica.loss(&[1, 2, 3], 1, 3)).contains("3 tokens are not 1 sequences of 4"));
    assert!(reason(replica.loss(&[], 0, 3)).contains("0 tokens"));
    assert!(reason(replica.loss(&[1, 37, 3], 1, 2)).contains("token 37: the vocabulary has 37"));
    assert!(reason(replica.loss(&tokens(1, 17), 1, 17)).contains("longest has 16"));
    assert!(replica.logits(&[], 1).is_err());
}

#[test]
fn a_card_that_is_not_there_is_an_error_that_says_so() {
    if tch::Cuda::device_count() == 0 {
        let result = Replica::new(
            &config(true),
            1,
            &DeviceSpec::Cuda { index: 3, precision: Precision::F32 },
            &optimizer(),
        );
        let reason = result.unwrap_err().to_string();
        assert!(reason.contains("CUDA device 3: libtorch sees 0"), "{reason}");
    }
}
