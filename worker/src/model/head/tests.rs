//! The head against softmax and cross-entropy in plain f64: whole, a few rows at a time, shared.

use std::thread;
use std::time::Duration;

use tch::Device;

use super::*;
use crate::parallel::{Meeting, Team};
use crate::parameters::Leaf;

const WIDTH: usize = 6;
const VOCABULARY: usize = 13;
const SCALE: f64 = 0.25;

/// Values of both signs, none of them like another.
fn wave(count: usize, step: f64) -> Vec<f32> {
    (0..count).map(|index| ((index as f64 * 1.7 + step).sin() * 2.0) as f32).collect()
}

fn hidden() -> Vec<f32> {
    wave(targets().len() * WIDTH, 0.3)
}

fn weight() -> Vec<f32> {
    wave(VOCABULARY * WIDTH, 1.1)
}

/// First and last of the vocabulary, and one twice.
fn targets() -> Vec<i64> {
    vec![0, 12, 5, 5, 7, 1, 11]
}

/// Loss and gradients of hidden states and weights.
#[derive(Debug, PartialEq)]
struct Found {
    loss: f64,
    hidden: Vec<f64>,
    weight: Vec<f64>,
}

fn expected() -> Found {
    let (hidden, weight) = (hidden(), weight());
    let mut found =
        Found { loss: 0.0, hidden: vec![0.0; hidden.len()], weight: vec![0.0; weight.len()] };
    for (token, target) in targets().into_iter().enumerate() {
        let x = &hidden[token * WIDTH..(token + 1) * WIDTH];
        let dot = |row: &[f32]| -> f64 {
            row.iter().zip(x).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let logits: Vec<f64> = weight.chunks(WIDTH).map(dot).collect();
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        found.loss += sum.ln() - logits[target as usize];
        for (row, logit) in logits.iter().enumerate() {
            let one = if row as i64 == target { 1.0 } else { 0.0 };
            let slope = SCALE * (logit.exp() / sum - one);
            for at in 0..WIDTH {
                found.hidden[token * WIDTH + at] += slope * f64::from(weight[row * WIDTH + at]);
                found.weight[row * WIDTH + at] += slope * f64::from(x[at]);
            }
        }
    }
    found
}

/// A head of some rows; `vocabulary` decides how many tokens are taken at a time.
fn head(rows: Range<i64>, vocabulary: i64, ops: Ops, peers: Peers) -> Head {
    let values = &weight()[rows.start as usize * WIDTH..rows.end as usize * WIDTH];
    let shape = [rows.end - rows.start, WIDTH as i64];
    let value = Tensor::from_slice(values).view(shape).set_requires_grad(true);
    let leaf = Leaf { gradient: value.detach().zeros_like(), value };
    Head { weight: Weight::new(leaf, ops.kind()).unwrap(), rows, vocabulary, ops, peers }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.f_to_kind(Kind::Double).unwrap().flatten(0, -1)).unwrap()
}

fn found(head: &Head) -> Found {
    let _no_grad = tch::no_grad_guard();
    let hidden = Tensor::from_slice(&hidden()).view([-1, WIDTH as i64]);
    let targets = Tensor::from_slice(&targets());
    let (loss, gradient) = head.loss_and_gradient(&hidden, &targets, SCALE).unwrap();
    let alone = head.loss(&hidden, &targets).unwrap();
    assert_eq!(alone.double_value(&[]), loss.double_value(&[]), "with or without gradients");
    Found {
        loss: loss.double_value(&[]),
        hidden: values(&gradient),
        weight: values(head.weight.gradient()),
    }
}

fn near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 1e-5, "{what} {at}: {found} {expected}");
    }
}

fn check(found: &Found, what: &str) {
    let expected = expected();
    near(&[found.loss], &[expected.loss], &format!("{what}: the loss"));
    near(&found.hidden, &expected.hidden, &format!("{what}: hidden states"));
    near(&found.weight, &expected.weight, &format!("{what}: weights"));
}

#[test]
fn loss_and_gradients_are_those_of_the_formula_however_many_tokens_are_taken_at_a_time() {
    for ops in [Ops::Fused, Ops::Composed(Kind::Float)] {
        let values = if ops == Ops::Fused { CPU_LOGITS } else { CARD_LOGITS } as i64;
        // All of them, three, two, and one, which is the least.
        for vocabulary in [VOCABULARY as i64, values / 3, values / 2, values, 100 * values] {
            let head = head(0..13, vocabulary, ops, Peers::default());
            check(&found(&head), &format!("{ops:?} {vocabulary}"));
        }
    }
}

#[test]
fn peers_that_share_the_vocabulary_find_what_one_alone_finds() {
    for cuts in [&[0, 6, 13][..], &[0, 1, 13], &[0, 4, 5, 13]] {
        for ops in [Ops::Fused, Ops::Composed(Kind::Float)] {
            for vocabulary in [13, 1 << 40] {
                let size = cuts.len() - 1;
                let meeting = Meeting::new(size, None, Duration::from_secs(60));
                let peers = (0..size).map(|index| {
                    let peers = Peers::new(Some(Team::new(&meeting, index, index, size)));
                    let rows = cuts[index]..cuts[index + 1];
                    thread::spawn(move || found(&head(rows, vocabulary, ops, peers)))
                });
                let peers: Vec<_> = peers.collect();
                let found: Vec<Found> = peers.into_iter().map(|p| p.join().unwrap()).collect();
                // Each has the loss and the gradient of all, and the weights' own rows.
                let weight = found.iter().flat_map(|found| found.weight.clone()).collect();
                let first = &found[0];
                assert!(found.iter().all(|found| found.hidden == first.hidden), "{cuts:?}");
                let hidden = first.hidden.clone();
                let all = Found { loss: first.loss, hidden, weight };
                check(&all, &format!("{cuts:?} {ops:?} {vocabulary}"));
            }
        }
    }
}

#[test]
fn logits_that_are_far_apart_overflow_nowhere() {
    let _no_grad = tch::no_grad_guard();
    let hidden = Tensor::from_slice(&[1e4f32, 0.0, 0.0, 0.0, 0.0, 0.0]).view([1, 6]);
    for ops in [Ops::Fused, Ops::Composed(Kind::Float)] {
        let head = head(0..13, 13, ops, Peers::default());
        let logits = values(&head.logits(&hidden).unwrap());
        let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for target in [0usize, 3, 12] {
            let targets = Tensor::from_slice(&[target as i64]);
            let loss = head.loss(&hidden, &targets).unwrap().double_value(&[]);
            let expected = highest - logits[target];
            assert!((loss - expected).abs() <= 1e-6 * expected.max(1.0), "{loss} {expected}");
        }
    }
}

#[test]
fn a_hidden_state_that_is_no_number_makes_a_loss_that_is_none() {
    let _no_grad = tch::no_grad_guard();
    let mut states = hidden();
    states[WIDTH] = f32::NAN;
    let hidden = Tensor::from_slice(&states).view([-1, WIDTH as i64]);
    let targets = Tensor::from_slice(&targets());
    for ops in [Ops::Fused, Ops::Composed(Kind::Float)] {
        let head = head(0..13, 13, ops, Peers::default());
        let (loss, gradient) = head.loss_and_gradient(&hidden, &targets, SCALE).unwrap();
        assert!(loss.double_value(&[]).is_nan(), "{ops:?}");
        let rows = values(&gradient);
        assert!(rows[..WIDTH].iter().all(|value| value.is_finite()), "other tokens are their own");
        assert!(rows[WIDTH..2 * WIDTH].iter().any(|value| value.is_nan()), "{ops:?}");
        assert_eq!(gradient.device(), Device::Cpu);
    }
}
