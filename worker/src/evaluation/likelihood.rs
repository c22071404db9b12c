//! Log-likelihoods of texts under a model, cut into tokens and windows as lm-evaluation-harness
//! does for a causal model of Hugging Face transformers.

use std::ops::Range;

use data::{Tokenizer, TokenizerError};

use super::score::is_space;
use crate::model::{ModelError, Replica};

/// Why a text has no log-likelihood.
#[derive(Debug, thiserror::Error)]
pub enum LikelihoodError {
    /// It cannot be told apart from its context.
    #[error(
        "failed to score a text after its context: its tokens are those of the context, so that \
         none is left"
    )]
    NoTokens,
    /// The model cannot see all of it at once.
    #[error(
        "failed to score a text of {tokens} tokens after its context: the model sees {longest}"
    )]
    TooLong {
        /// Tokens of the text.
        tokens: usize,
        /// Positions of the model.
        longest: usize,
    },
    /// The tokenizer refused it.
    #[error("failed to encode a text")]
    Tokenizer(#[from] TokenizerError),
    /// The model refused it.
    #[error("failed to compute log-likelihoods")]
    Model(#[from] ModelError),
}

/// A model with its tokenizer.
#[derive(Debug)]
pub struct Scorer<'a> {
    replica: &'a mut Replica,
    tokenizer: &'a Tokenizer,
    /// The last input, the number of its last positions, and their logits: choices of one token
    /// share them.
    last: (Vec<u32>, usize, Vec<f32>),
}

impl<'a> Scorer<'a> {
    /// Scores with this model.
    pub fn new(replica: &'a mut Replica, tokenizer: &'a Tokenizer) -> Self {
        Self { replica, tokenizer, last: Default::default() }
    }

    /// The log-likelihood in nats of `continuation` after `context`; an empty context is the token
    /// that ends a document.
    ///
    /// # Errors
    /// No token of the continuation is left, or the model cannot take so many.
    pub fn continuation(
        &mut self,
        context: &str,
        continuation: &str,
    ) -> Result<f64, LikelihoodError> {
        let (tokens, scored) = self.encode_pair(context, continuation)?;
        self.scored(&tokens, scored)
    }

    /// The log-likelihood in nats of a text of any length, each token predicted once: the first of
    /// them after the token that ends a document, others in windows of the model's length.
    ///
    /// # Errors
    /// The tokenizer or the model refused.
    pub fn rolling(&mut self, text: &str) -> Result<f64, LikelihoodError> {
        let mut tokens = vec![self.tokenizer.end_token()];
        self.tokenizer.encode(text, &mut tokens)?;
        let mut sum = 0.0;
        for (window, scored) in windows(tokens.len(), self.longest()) {
            let window = &tokens[window];
            if scored + 1 == window.len() {
                sum -= self.replica.loss(window, 1, scored)?;
            } else {
                sum += self.scored(window, scored)?;
            }
        }
        Ok(sum)
    }

    fn longest(&self) -> usize {
        self.replica.model().config().max_position_embeddings as usize
    }

    /// All tokens of a pair, and how many of them are the continuation's. Both are encoded as one,
    /// and what is not the context's is the continuation's, with the spaces between them.
    fn encode_pair(
        &self,
        context: &str,
        continuation: &str,
    ) -> Result<(Vec<u32>, usize), LikelihoodError> {
        let mut tokens = Vec::new();
        self.tokenizer.encode(context.trim_end_matches(is_space), &mut tokens)?;
        let mut before = tokens.len();
        tokens.clear();
        self.tokenizer.encode(&format!("{context}{continuation}"), &mut tokens)?;
        if before == 0 {
            let end = self.tokenizer.end_token();
            if tokens.first() != Some(&end) {
                tokens.insert(0, end);
            }
            before = 1;
        }
        let scored = tokens.len().saturating_sub(before);
        Ok((tokens, scored))
    }

    /// The log-likelihood of the last `scored` tokens after the others, of which the model sees as
    /// many of the last as it can.
    fn scored(&mut self, tokens: &[u32], scored: usize) -> Result<f64, LikelihoodError> {
        let longest = self.longest();
        if scored == 0 {
            return Err(LikelihoodError::NoTokens);
        }
        if scored > longest {
            return Err(LikelihoodError::TooLong { tokens: scored, longest });
        }
        let seen = &tokens[tokens.len().saturating_sub(longest + 1)..];
        let input = &seen[..seen.len() - 1];
        if self.last.0 != input || self.last.1 != scored {
            let logits = self.replica.logits(input, scored)?;
            self.last = (input.to_vec(), scored, logits);
        }
        let logits = &self.last.2;
        let rows = logits.chunks_exact(logits.len() / scored);
        let targets = &seen[seen.len() - scored..];
        Ok(rows.zip(targets).map(|(row, target)| log_probability(row, *target as usize)).sum())
    }
}

/// The log-softmax of `logits` at a token.
fn log_probability(logits: &[f32], token: usize) -> f64 {
    let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|logit| libm::exp(f64::from(*logit) - highest)).sum();
    f64::from(logits[token]) - highest - libm::log(sum)
}

/// Windows of at most `longest` inputs and one token more over `tokens` of which the first is not
/// scored, each with the number of its last tokens that are scored. The last one reaches back as
/// far as it can.
fn windows(tokens: usize, longest: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
    (1..tokens).step_by(longest).map(move |first| {
        let end = tokens.min(first + longest);
        (end.saturating_sub(longest + 1)..end, end - first)
    })
}

#[cfg(test)]
mod tests;
