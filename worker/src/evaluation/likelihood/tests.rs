//! Log-likelihoods are those that the model's own loss gives, for whatever cut.

use plan::model::LlamaConfig;
use plan::spec::{DeviceSpec, OptimizerSpec};

use super::*;

mod edges;

const LONGEST: usize = 16;

fn replica() -> Replica {
    let config = LlamaConfig {
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: None,
        vocab_size: 257,
        max_position_embeddings: LONGEST as u32,
        rms_norm_eps: 1e-5,
        rope_theta: 500.0,
        tie_word_embeddings: false,
        initializer_range: 0.3,
    };
    let device = DeviceSpec::Cpu { threads: 1, speed: 1.0 };
    Replica::new(&config, 3, &device, &OptimizerSpec::default()).unwrap()
}

/// The loss of `text`'s last tokens alone: of all of it, less that of what goes before.
fn loss_after(replica: &mut Replica, before: &[u32], text: &[u32]) -> f64 {
    let all = [before, text].concat();
    let whole = replica.loss(&all, 1, all.len() - 1).unwrap();
    match before.len() {
        1 => whole,
        length => whole - replica.loss(before, 1, length - 1).unwrap(),
    }
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-4, "{found} {expected}");
}

#[test]
fn a_continuation_has_the_likelihood_that_the_loss_says() {
    let mut replica = replica();
    let expected = -loss_after(&mut replica, &bytes("one two"), &bytes(" three"));
    let mut scorer = Scorer::new(&mut replica, &Tokenizer::Byte);
    close(scorer.continuation("one two", " three").unwrap(), expected);
    // Spaces at the end of the context are the continuation's.
    close(scorer.continuation("one two ", "three").unwrap(), expected);
}

#[test]
fn an_empty_context_is_the_end_token() {
    let mut replica = replica();
    let expected = -loss_after(&mut replica, &[256], &bytes(" a"));
    let mut scorer = Scorer::new(&mut replica, &Tokenizer::Byte);
    close(scorer.continuation("", " a").unwrap(), expected);
    close(scorer.continuation(" ", "a").unwrap(), expected);
}

#[test]
fn a_context_that_is_too_long_is_cut_from_the_left() {
    let mut replica = replica();
    let expected = -loss_after(&mut replica, &bytes("3456789abcd"), &bytes(" three"));
    let mut scorer = Scorer::new(&mut replica, &Tokenizer::Byte);
    close(scorer.continuation("0123456789abcd", " three").unwrap(), expected);
}

#[test]
fn choices_of_one_token_get_what_each_gets_alone() {
    let mut replica = replica();
    let alone: Vec<f64> = ["A", "B", "A"]
        .iter()
        .map(|choice| Scorer::new(&mut replica, &Tokenizer::Byte).continuation("x:", choice))
        .collect::<Result<_, _>>()
        .unwrap();
    let mut scorer = Scorer::new(&mut replica, &Tokenizer::Byte);
    let together = ["A", "B", "A"].map(|choice| scorer.continuation("x:", choice).unwrap());
    assert_eq!(together[..], alone[..]);
    assert_ne!(together[0], together[1]);
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let mut replica = replica();
    let mut scorer = Scorer::new(&mut replica, &Tokenizer::Byte);
    let long = "x".repeat(LONGEST + 1);
    let error = scorer.continuation("a", &long).unwrap_err();
    assert!(matches!(error, LikelihoodError::TooLong { tokens: 17, longest: 16 }), "{error}");
    let error = scorer.continuation("a", "").unwrap_err();
    assert!(matches!(error, LikelihoodError::NoTokens), "{error}");
}

#[test]
fn every_token_of_a_long_text_is_predicted_once() {
    for tokens in [2, 16, 17, 18, 33, 40] {
        let mut next = 1;
        for (window, scored) in windows(tokens, LONGEST) {
            assert_eq!(window.end - scored, next);
            assert!(scored < window.len() && window.len() <= LONGEST + 1);
            // No window has less context than it could.
            assert!(window.start == 0 || window.len() == LONGEST + 1);
            next = window.end;
        }
        assert_eq!(next, tokens);
    }
    assert_eq!(windows(1, LONGEST).count(), 0);
}

#[test]
fn a_rolling_likelihood_is_the_sum_over_its_windows() {
    let mut replica = replica();
    let text = "0123456789abcdefghij";
    let tokens = [vec![256], bytes(text)].concat();
    let first = loss_after(&mut replica, &tokens[..1], &tokens[1..17]);
    let second = loss_after(&mut replica, &tokens[4..17], &tokens[17..]);
    let mut scorer = Scorer::new(&mut replica, &Tokenizer::Byte);
    close(scorer.rolling(text).unwrap(), -first - second);
}
