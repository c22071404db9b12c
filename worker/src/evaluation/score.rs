//! Metrics as lm-evaluation-harness defines them. Pure.

use serde::Serialize;

/// The mean of a metric that is 0 or 1 for each question, and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// The share of questions that are right, 0 to 1.
    pub value: f64,
    /// Its standard error, sample deviation over √n; absent for a single question.
    pub stderr: Option<f64>,
}

impl Share {
    /// Of `right` out of `all` questions.
    pub fn of(right: usize, all: usize) -> Share {
        let count = all as f64;
        let value = right as f64 / count;
        let deviation = libm::sqrt(count * value * (1.0 - value) / (count - 1.0));
        Share { value, stderr: (all > 1).then(|| deviation / libm::sqrt(count)) }
    }
}

/// Questions that are answered right when the choice is the likeliest …
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AnswerScore {
    /// … as it is.
    pub acc: Share,
    /// … for its length in characters, which is what the harness calls acc_norm.
    pub acc_norm: Share,
    /// … for its length in bytes.
    pub acc_bytes: Share,
}

impl AnswerScore {
    /// Of questions with their choices, the choices' log-likelihoods and the right one.
    pub fn of<'a>(answers: impl Iterator<Item = (&'a [String], &'a [f64], usize)>) -> Self {
        let (mut all, mut right) = (0, [0; 3]);
        for (choices, log_likelihoods, gold) in answers {
            all += 1;
            let lengths: [fn(&String) -> usize; 3] =
                [|_| 1, |choice| choice.chars().count(), String::len];
            for (right, length) in right.iter_mut().zip(lengths) {
                let pairs = choices.iter().zip(log_likelihoods);
                let weighted = pairs.map(|(choice, value)| value / length(choice) as f64);
                *right += usize::from(likeliest(weighted) == Some(gold));
            }
        }
        let [acc, acc_norm, acc_bytes] = right.map(|right| Share::of(right, all));
        Self { acc, acc_norm, acc_bytes }
    }
}

/// The position of the first of the largest values.
fn likeliest(values: impl Iterator<Item = f64>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, value) in values.enumerate() {
        if best.is_none_or(|(_, highest)| value > highest) {
            best = Some((index, value));
        }
    }
    best.map(|(index, _)| index)
}

/// How well texts were foreseen, over all of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TextScore {
    /// exp of the mean loss of a word; words are what white space separates.
    pub word_perplexity: f64,
    /// exp of the mean loss of a byte of UTF-8.
    pub byte_perplexity: f64,
    /// The mean loss of a byte in bits.
    pub bits_per_byte: f64,
}

impl TextScore {
    /// Of texts with their log-likelihoods.
    pub fn of<'a>(texts: impl Iterator<Item = (&'a str, f64)>) -> Self {
        let (mut loss, mut word_count, mut byte_count) = (0.0, 0, 0);
        for (text, log_likelihood) in texts {
            loss -= log_likelihood;
            word_count += words(text);
            byte_count += text.len();
        }
        let byte_loss = loss / byte_count as f64;
        Self {
            word_perplexity: libm::exp(loss / word_count as f64),
            byte_perplexity: libm::exp(byte_loss),
            bits_per_byte: byte_loss / std::f64::consts::LN_2,
        }
    }
}

/// One more than the runs of white space: an empty word at either end counts.
fn words(text: &str) -> usize {
    let mut count = 1;
    let mut inside = false;
    for character in text.chars() {
        let space = is_space(character);
        count += usize::from(space && !inside);
        inside = space;
    }
    count
}

/// What Python takes for white space: Unicode's, and four separators of ASCII.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

#[cfg(test)]
mod laws;

#[cfg(test)]
mod tests {
    use super::*;

    fn score(choices: &[&str], values: &[f64], gold: usize) -> [f64; 3] {
        let choices: Vec<String> = choices.iter().map(|choice| (*choice).into()).collect();
        let score = AnswerScore::of([(&choices[..], values, gold)].into_iter());
        [score.acc.value, score.acc_norm.value, score.acc_bytes.value]
    }

    #[test]
    fn long_choices_are_not_at_a_disadvantage_once_normalised() {
        assert_eq!(score(&["no", "certainly"], &[-2.0, -3.0], 0), [1.0, 0.0, 0.0]);
        assert_eq!(score(&["no", "certainly"], &[-2.0, -3.0], 1), [0.0, 1.0, 1.0]);
        // Two characters of four bytes against three of three.
        assert_eq!(score(&["éé", "abc"], &[-2.0, -2.7], 0), [1.0, 0.0, 1.0]);
    }

    #[test]
    fn the_first_of_equal_choices_is_the_answer() {
        assert_eq!(score(&["a", "b", "c"], &[-2.0, -1.0, -1.0], 1), [1.0; 3]);
    }

    #[test]
    fn the_standard_error_is_that_of_a_sample() {
        let share = Share::of(3, 4);
        // Deviations ¼, ¼, ¼, ¾: variance (3/16 + 9/16) / 3.
        assert_eq!((share.value, share.stderr), (0.75, Some(0.25)));
        assert_eq!(Share::of(1, 1).stderr, None);
    }

    #[test]
    fn words_are_what_python_splits_at_white_space() {
        for (text, count) in [("", 1), ("one", 1), ("one  two\n", 3), (" a\u{a0}b", 3)] {
            assert_eq!(words(text), count, "{text:?}");
        }
        assert_eq!(words("a\x1fb"), 2);
    }

    #[test]
    fn a_text_of_one_bit_a_byte_has_a_perplexity_of_two() {
        let loss = 4.0 * std::f64::consts::LN_2;
        let score = TextScore::of([("é b", -loss)].into_iter());
        assert!((score.bits_per_byte - 1.0).abs() < 1e-12);
        assert!((score.byte_perplexity - 2.0).abs() < 1e-12);
        assert!((score.word_perplexity - 4.0).abs() < 1e-12);
    }
}
