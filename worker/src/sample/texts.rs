//! Whole texts: which tokens follow, when they end, and that a seed decides them.

use plan::model::LlamaConfig;
use plan::spec::{DeviceSpec, OptimizerSpec};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::testing::cases;

const POSITIONS: usize = 8;
/// No token of the vocabulary: nothing ends a text.
const NEVER: u32 = u32::MAX;

fn replica() -> Replica {
    let config = LlamaConfig {
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: None,
        vocab_size: 11,
        max_position_embeddings: POSITIONS as u32,
        rms_norm_eps: 1e-5,
        rope_theta: 500.0,
        tie_word_embeddings: false,
        initializer_range: 0.6,
    };
    let device = DeviceSpec::Cpu { threads: 1, speed: 1.0 };
    Replica::new(&config, 5, &device, &OptimizerSpec::default()).unwrap()
}

fn greedy() -> Sampling {
    Sampling { temperature: 0.0, top_k: 0, seed: 0 }
}

fn warm(seed: u64) -> Sampling {
    Sampling { temperature: 2.0, top_k: 0, seed }
}

#[test]
fn without_temperature_each_token_is_the_likeliest_after_the_last_that_the_model_sees() {
    let mut replica = replica();
    let mut expected = vec![3, 1];
    for _ in 0..20 {
        let seen = expected.len().saturating_sub(POSITIONS);
        let logits = replica.logits(&expected[seen..], 1).unwrap();
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        expected.push(logits.iter().position(|logit| *logit == highest).unwrap() as u32);
    }
    for seed in [0, 1] {
        let sampling = Sampling { seed, ..greedy() };
        let found = generate(&mut replica, &[3, 1], 20, NEVER, sampling).unwrap();
        assert_eq!(found, expected[2..], "whatever the seed");
    }
    let one = Sampling { temperature: 5.0, top_k: 1, seed: 9 };
    assert_eq!(generate(&mut replica, &[3, 1], 20, NEVER, one).unwrap(), expected[2..]);
}

#[test]
fn a_seed_decides_a_text_and_another_one_decides_another() {
    let mut replica = replica();
    let mut text = |seed| generate(&mut replica, &[3], 40, NEVER, warm(seed)).unwrap();
    let first = text(7);
    assert_eq!(first, text(7));
    assert_ne!(first, text(8));
    assert!(first.iter().all(|token| *token < 11));
}

#[test]
fn a_shorter_text_is_the_beginning_of_a_longer_one() {
    let mut replica = replica();
    let long = generate(&mut replica, &[3, 4], 30, NEVER, warm(1)).unwrap();
    for count in [0, 1, 7, 29] {
        let short = generate(&mut replica, &[3, 4], count, NEVER, warm(1)).unwrap();
        assert_eq!(short, long[..count]);
    }
}

#[test]
fn the_end_ends_a_text_and_is_not_part_of_it() {
    let mut replica = replica();
    let whole = generate(&mut replica, &[3], 30, NEVER, warm(2)).unwrap();
    for end in 0..11 {
        let found = generate(&mut replica, &[3], 30, end, warm(2)).unwrap();
        let until = whole.iter().position(|token| *token == end).unwrap_or(whole.len());
        assert_eq!(found, whole[..until], "{end}");
    }
    // One in the prompt ends nothing.
    let after = generate(&mut replica, &[3], 2, NEVER, greedy()).unwrap();
    let end = (0..11).find(|token| !after.contains(token)).unwrap();
    let found = generate(&mut replica, &[end, 3], 1, end, greedy()).unwrap();
    let free = generate(&mut replica, &[end, 3], 1, NEVER, greedy()).unwrap();
    assert_eq!(found, if free == [end] { vec![] } else { free });
}

#[test]
fn a_prompt_that_the_model_cannot_take_is_refused() {
    let mut replica = replica();
    let error = generate(&mut replica, &[], 1, NEVER, greedy()).unwrap_err();
    assert!(matches!(error, ModelError::Shape { found: 0, .. }), "{error}");
    let error = generate(&mut replica, &[1, 11], 1, NEVER, greedy()).unwrap_err();
    assert!(matches!(error, ModelError::Token { token: 11, vocabulary: 11 }), "{error}");
    // What lies before the last positions is not looked at.
    let long: Vec<u32> = std::iter::once(99).chain([1; POSITIONS]).collect();
    assert_eq!(generate(&mut replica, &long, 2, NEVER, greedy()).unwrap().len(), 2);
    assert!(generate(&mut replica, &[], 0, NEVER, greedy()).unwrap().is_empty());
}

/// The tokens by falling logits, equal ones in their order.
fn ranked(logits: &[f32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|a, b| {
        logits[*b as usize].partial_cmp(&logits[*a as usize]).unwrap().then(a.cmp(b))
    });
    order
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_choice_is_where_the_uniform_number_falls_in_the_softmax_of_the_likeliest(
        logits in vec((-8i8..8).prop_map(f32::from), 1..9),
        temperature in 0.2..4.0f64,
        top_k in 0usize..12,
        uniform in 0.0..1.0f64,
    ) {
        let order = ranked(&logits);
        let kept = if top_k == 0 { order.len() } else { top_k.min(order.len()) };
        let weight = |token: u32| (f64::from(logits[token as usize]) / temperature).exp();
        let total: f64 = order[..kept].iter().map(|token| weight(*token)).sum();
        let found = choose(&logits, Sampling { temperature, top_k, seed: 0 }, uniform);
        let place = order[..kept].iter().position(|token| *token == found);
        prop_assert!(place.is_some(), "{found} is none of the {kept} likeliest");
        let below: f64 = order[..place.unwrap()].iter().map(|token| weight(*token)).sum();
        let above = below + weight(found);
        let slack = 1e-9 * total;
        prop_assert!(below <= uniform * total + slack && uniform * total <= above + slack);
    }
}

#[test]
fn temperatures_and_logits_at_their_edges_choose_a_token_that_is_there() {
    let inf = f32::INFINITY;
    let sets: [&[f32]; 6] =
        [&[0.0], &[1e30, -1e30], &[-inf, 0.0], &[f32::NAN, 1.0], &[f32::MAX; 3], &[-0.0, 0.0]];
    for logits in sets {
        for temperature in [0.0, f64::MIN_POSITIVE, 1.0, 1e300] {
            for top_k in [0, 1, usize::MAX] {
                for uniform in [0.0, 0.5, 1.0 - f64::EPSILON] {
                    let sampling = Sampling { temperature, top_k, seed: 0 };
                    let token = choose(logits, sampling, uniform) as usize;
                    assert!(token < logits.len(), "{logits:?} {sampling:?} {uniform}");
                }
            }
        }
    }
    // What cannot come does not come, and what is hot comes alike.
    let hot =
        |uniform| choose(&[-inf, 0.0, 1.0], Sampling { temperature: 1e9, ..warm(0) }, uniform);
    assert_eq!([0.1, 0.4, 0.6, 0.9].map(hot), [2, 2, 1, 1]);
    let cold = Sampling { temperature: 1e-9, ..warm(0) };
    assert_eq!(choose(&[0.0, 1e-3], cold, 0.999_999), 1);
}
