//! Text from a model, token by token.

mod command;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::model::{ModelError, Replica};

pub use command::{GenerateArguments, generate_command};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only so many of the likeliest tokens are considered; 0 considers all.
    pub top_k: usize,
    /// Seed of the choices.
    pub seed: u64,
}

/// At most `count` tokens that follow `prompt`, which must not be empty; `end` ends them and is not
/// among them. The model sees as many of the last tokens as it has positions.
///
/// # Errors
/// An empty prompt, a token that the model does not have, or libtorch refused.
pub fn generate(
    replica: &mut Replica,
    prompt: &[u32],
    count: usize,
    end: u32,
    sampling: Sampling,
) -> Result<Vec<u32>, ModelError> {
    let mut random = ChaCha8Rng::seed_from_u64(sampling.seed);
    let positions = replica.model().config().max_position_embeddings as usize;
    let mut tokens = prompt.to_vec();
    while tokens.len() < prompt.len() + count {
        let seen = &tokens[tokens.len().saturating_sub(positions)..];
        let logits = replica.logits(seen, 1)?;
        // In [0, 1), with all the bits that an f64 takes.
        let uniform = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let token = choose(&logits, sampling, uniform);
        if token == end {
            break;
        }
        tokens.push(token);
    }
    Ok(tokens.split_off(prompt.len()))
}

/// The token at `uniform` of the cumulated distribution over the likeliest tokens. Equal logits are
/// in the order of their tokens.
fn choose(logits: &[f32], sampling: Sampling, uniform: f64) -> u32 {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    let kept = match (sampling.temperature > 0.0, sampling.top_k) {
        (false, _) => 1,
        (true, 0) => order.len(),
        (true, top_k) => top_k.min(order.len()),
    };
    order.truncate(kept);
    let Some(&best) = order.first() else { return 0 };
    let weight =
        |token: usize| libm::exp(f64::from(logits[token] - logits[best]) / sampling.temperature);
    let mut left = uniform * order.iter().map(|token| weight(*token)).sum::<f64>();
    let found = order.iter().find(|token| {
        left -= weight(**token);
        left < 0.0
    });
    *found.unwrap_or(&best) as u32
}

#[cfg(test)]
mod texts;

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [0.0, 2.0, 1.0, 2.0];

    fn token(temperature: f64, top_k: usize, uniform: f64) -> u32 {
        choose(&LOGITS, Sampling { temperature, top_k, seed: 0 }, uniform)
    }

    #[test]
    fn no_temperature_takes_the_first_likeliest_token() {
        assert_eq!([0.0, 0.5, 0.999].map(|uniform| token(0.0, 0, uniform)), [1, 1, 1]);
    }

    #[test]
    fn only_the_likeliest_tokens_are_considered() {
        assert_eq!([0.0, 0.49, 0.51, 0.999].map(|uniform| token(1.0, 2, uniform)), [1, 1, 3, 3]);
    }

    #[test]
    fn tokens_come_as_often_as_the_softmax_says() {
        let mut counts = [0u32; 4];
        for step in 0..10_000 {
            counts[token(2.0, 0, f64::from(step) / 10_000.0) as usize] += 1;
        }
        let weights = LOGITS.map(|logit| (f64::from(logit) / 2.0).exp());
        for (count, weight) in counts.iter().zip(weights) {
            let expected = weight / weights.iter().sum::<f64>();
            assert!((f64::from(*count) / 10_000.0 - expected).abs() < 1e-3, "{counts:?}");
        }
    }
}
