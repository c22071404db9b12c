//! Contexts and continuations at the edges of what a model sees.

use proptest::prelude::*;

use super::*;
use crate::testing::cases;

#[test]
fn a_continuation_that_fills_the_model_is_scored_and_one_token_more_is_not() {
    let mut replica = replica();
    let longest = "x".repeat(LONGEST);
    let expected = -loss_after(&mut replica, &[u32::from(b'c')], &bytes(&longest));
    let mut scorer = Scorer::new(&mut replica, &Tokenizer::Byte);
    close(scorer.continuation("c", &longest).unwrap(), expected);
    // Whatever goes before, it is cut.
    close(scorer.continuation("a long context and c", &longest).unwrap(), expected);
    let error = scorer.continuation("c", &format!("{longest}x")).unwrap_err();
    assert!(matches!(error, LikelihoodError::TooLong { tokens: 17, longest: 16 }), "{error}");
}

#[test]
fn characters_of_several_bytes_are_several_tokens() {
    let mut replica = replica();
    let expected = -loss_after(&mut replica, &bytes("ß"), &bytes("é"));
    let mut scorer = Scorer::new(&mut replica, &Tokenizer::Byte);
    close(scorer.continuation("ß", "é").unwrap(), expected);
}

#[test]
fn what_python_calls_white_space_at_the_end_of_a_context_is_the_continuation_s() {
    let mut replica = replica();
    for (context, more) in [("a\u{a0}", "b"), ("a \n", "b"), ("a\x1f", "b")] {
        let text = format!("{}{more}", &context[1..]);
        let expected = -loss_after(&mut replica, &bytes("a"), &bytes(&text));
        let mut scorer = Scorer::new(&mut replica, &Tokenizer::Byte);
        close(scorer.continuation(context, more).unwrap(), expected);
    }
}

#[test]
fn what_was_kept_of_the_last_choice_is_not_taken_for_another_one() {
    let mut replica = replica();
    let pairs = [("ab", "c"), ("ab", "cd"), ("abc", "d"), ("ab", "c"), ("xb", "c"), ("", "c")];
    let alone: Vec<f64> = pairs
        .iter()
        .map(|(context, more)| {
            Scorer::new(&mut replica, &Tokenizer::Byte).continuation(context, more).unwrap()
        })
        .collect();
    let mut scorer = Scorer::new(&mut replica, &Tokenizer::Byte);
    for ((context, more), expected) in pairs.iter().zip(alone) {
        close(scorer.continuation(context, more).unwrap(), expected);
    }
}

#[test]
fn the_likelihoods_of_all_next_bytes_add_up_to_one() {
    let mut replica = replica();
    let logits = replica.logits(&bytes("ab"), 1).unwrap();
    let all: f64 = (0..logits.len()).map(|token| log_probability(&logits, token).exp()).sum();
    assert!((all - 1.0).abs() < 1e-9, "{all}");
    let mut scorer = Scorer::new(&mut replica, &Tokenizer::Byte);
    let next: f64 = (0u8..128)
        .map(|byte| scorer.continuation("ab", &char::from(byte).to_string()).unwrap().exp())
        .sum();
    let expected: f64 = (0..128).map(|token| log_probability(&logits, token).exp()).sum();
    assert!((next - expected).abs() < 1e-6, "{next} {expected}");
}

#[test]
fn logits_that_are_far_apart_or_no_numbers_give_what_they_mean() {
    let ln = |logits: &[f32], token| log_probability(logits, token);
    assert_eq!(ln(&[1e4, -1e4], 0), 0.0);
    assert_eq!(ln(&[1e4, -1e4], 1), -2e4);
    assert_eq!(ln(&[f32::NEG_INFINITY, 0.0], 0), f64::NEG_INFINITY);
    assert!((ln(&[f32::MAX, f32::MAX], 1) + 2f64.ln()).abs() < 1e-12);
    for nan in [&[f32::NAN, 0.0][..], &[0.0, f32::NAN], &[f32::NEG_INFINITY; 2]] {
        assert!(ln(nan, 0).is_nan(), "{nan:?}");
    }
}

#[test]
fn an_empty_text_has_nothing_to_foresee() {
    let mut replica = replica();
    let mut scorer = Scorer::new(&mut replica, &Tokenizer::Byte);
    assert_eq!(scorer.rolling("").unwrap(), 0.0);
    let one = scorer.rolling("a").unwrap();
    close(scorer.continuation("", "a").unwrap(), one);
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn windows_score_each_token_once_with_as_much_before_it_as_the_model_sees(
        tokens in 0usize..200,
        longest in 1usize..40,
    ) {
        let mut next = 1;
        for (window, scored) in windows(tokens, longest) {
            prop_assert!(scored >= 1 && window.end <= tokens);
            prop_assert!(window.len() <= longest + 1 && scored < window.len());
            prop_assert_eq!(window.end - scored, next);
            prop_assert!(window.start == 0 || window.len() == longest + 1);
            next = window.end;
        }
        prop_assert_eq!(next, tokens.max(1));
    }
}
