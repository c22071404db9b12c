//! Metrics against their definitions over random answers.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::testing::cases;

/// The sample's standard error from the zeros and ones themselves.
fn standard_error(right: usize, all: usize) -> f64 {
    let mean = right as f64 / all as f64;
    let squares = right as f64 * (1.0 - mean).powi(2) + (all - right) as f64 * mean.powi(2);
    (squares / (all as f64 - 1.0)).sqrt() / (all as f64).sqrt()
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn a_share_has_the_standard_error_of_its_zeros_and_ones(
        all in 2usize..2_000,
        part in 0.0..=1.0f64,
    ) {
        let right = (all as f64 * part) as usize;
        let share = Share::of(right, all);
        prop_assert!((0.0..=1.0).contains(&share.value));
        let expected = standard_error(right, all);
        prop_assert!((share.stderr.unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn exactly_one_choice_of_a_question_is_the_answer_by_each_metric(
        choices in vec(("[aé]{1,6}", -30.0..0.0f64), 1..6),
    ) {
        let (texts, values): (Vec<String>, Vec<f64>) = choices.into_iter().unzip();
        let of = |gold| AnswerScore::of([(&texts[..], &values[..], gold)].into_iter());
        let scores: Vec<AnswerScore> = (0..texts.len()).map(of).collect();
        for metric in [
            |score: &AnswerScore| score.acc.value,
            |score: &AnswerScore| score.acc_norm.value,
            |score: &AnswerScore| score.acc_bytes.value,
        ] {
            prop_assert_eq!(scores.iter().map(metric).sum::<f64>(), 1.0);
        }
        // The likeliest for its length, by looking at every other one.
        let rate = |at: usize| values[at] / texts[at].chars().count() as f64;
        let all = 0..texts.len();
        let best = all.clone().find(|at| all.clone().all(|other| rate(*at) >= rate(other)));
        prop_assert_eq!(scores[best.unwrap()].acc_norm.value, 1.0);
    }

    #[test]
    fn texts_are_weighed_by_their_length_and_not_one_by_one(
        texts in vec(("[a é]{1,12}", -50.0..0.0f64), 1..6),
    ) {
        let score = TextScore::of(texts.iter().map(|(text, value)| (&text[..], *value)));
        let nats: f64 = texts.iter().map(|(_, value)| -value).sum();
        let bytes: usize = texts.iter().map(|(text, _)| text.len()).sum();
        prop_assert!((score.byte_perplexity.ln() - nats / bytes as f64).abs() < 1e-9);
        prop_assert!((score.bits_per_byte - score.byte_perplexity.log2()).abs() < 1e-9);
        let words: usize = texts.iter().map(|(text, _)| words(text)).sum();
        prop_assert!((score.word_perplexity.ln() - nats / words as f64).abs() < 1e-9);
    }

    #[test]
    fn words_are_those_that_a_split_at_white_space_gives(text in "[ab \t\u{a0}\n]{0,20}") {
        // re.split(r"\s+", text): what stands between runs of white space, empty or not.
        let mut pieces = 1;
        let mut rest = &text[..];
        while let Some(at) = rest.find(is_space) {
            pieces += 1;
            rest = rest[at..].trim_start_matches(is_space);
        }
        prop_assert_eq!(words(&text), pieces);
    }
}

#[test]
fn a_model_that_gives_no_numbers_is_right_where_the_first_choice_is() {
    // As numpy's argmax, by which the harness chooses: of nothing but NaN the first.
    let choices = ["a", "b", "c"].map(String::from);
    let score = |values: &[f64], gold| {
        AnswerScore::of([(&choices[..], values, gold)].into_iter()).acc.value
    };
    assert_eq!([0, 1, 2].map(|gold| score(&[f64::NAN; 3], gold)), [1.0, 0.0, 0.0]);
    let impossible = [f64::NEG_INFINITY, f64::NEG_INFINITY, -1e300];
    assert_eq!([0, 1, 2].map(|gold| score(&impossible, gold)), [0.0, 0.0, 1.0]);
}

#[test]
fn all_right_and_none_right_are_sure() {
    for right in [0, 10] {
        let share = Share::of(right, 10);
        assert_eq!((share.value, share.stderr), (right as f64 / 10.0, Some(0.0)));
    }
}

#[test]
fn white_space_is_python_s() {
    // str.isspace() of CPython for these code points.
    let spaces = ['\t', '\n', '\x0b', '\x0c', '\r', '\x1c', '\x1d', '\x1e', '\x1f', ' ', '\u{85}'];
    let more = ['\u{a0}', '\u{1680}', '\u{2000}', '\u{200a}', '\u{2028}', '\u{2029}', '\u{3000}'];
    assert!(spaces.into_iter().chain(more).all(is_space));
    for other in ['a', '\x00', '\x1b', '\u{200b}', '\u{feff}', '\u{180e}'] {
        assert!(!is_space(other), "{other:?}");
    }
}
