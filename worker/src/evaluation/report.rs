//! What an evaluation found, for people and as JSON.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::score::{AnswerScore, Share, TextScore};

/// All that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The checkpoint's folder.
    pub checkpoint: PathBuf,
    /// On prepared data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOutReport>,
    /// On each file.
    pub tasks: Vec<TaskReport>,
}

/// Loss on the validation split of prepared data.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldOutReport {
    /// The data's folder.
    pub data: PathBuf,
    /// Tokens predicted.
    pub tokens: u64,
    /// Nats a token.
    pub loss: f64,
    /// Its exp.
    pub perplexity: f64,
    /// Where each token is a byte: bits for each of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
}

/// The scores of one file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskReport {
    /// The file.
    pub file: PathBuf,
    /// Over all its documents.
    pub score: Score,
    /// Of each of them.
    pub documents: Vec<DocumentReport>,
}

/// The metrics of a file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Score {
    /// Of questions.
    Answers(AnswerScore),
    /// Of texts.
    Texts(TextScore),
}

/// One document.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DocumentReport {
    /// Line of the file, counted from 1.
    pub line: usize,
    /// Of each choice after the context, or of the text; nats.
    pub log_likelihoods: Vec<f64>,
    /// Position of the right choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gold: Option<usize>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(found) = &self.held_out {
            writeln!(f, "{}: {} held-out tokens", found.data.display(), found.tokens)?;
            line(f, "loss", found.loss, " nats/token")?;
            line(f, "perplexity", found.perplexity, "")?;
            if let Some(bits) = found.bits_per_byte {
                line(f, "bits_per_byte", bits, "")?;
            }
        }
        for task in &self.tasks {
            write!(f, "{}: {} ", task.file.display(), task.documents.len())?;
            match &task.score {
                Score::Answers(score) => {
                    writeln!(f, "questions")?;
                    share(f, "acc", score.acc)?;
                    share(f, "acc_norm", score.acc_norm)?;
                    share(f, "acc_bytes", score.acc_bytes)?;
                }
                Score::Texts(score) => {
                    writeln!(f, "texts")?;
                    line(f, "word_perplexity", score.word_perplexity, "")?;
                    line(f, "byte_perplexity", score.byte_perplexity, "")?;
                    line(f, "bits_per_byte", score.bits_per_byte, "")?;
                }
            }
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, value: f64, more: &str) -> fmt::Result {
    writeln!(f, "  {name:<15} {value:.4}{more}")
}

fn share(f: &mut fmt::Formatter<'_>, name: &str, share: Share) -> fmt::Result {
    let stderr = share.stderr.map(|error| format!(" ± {error:.4}")).unwrap_or_default();
    line(f, name, share.value, &stderr)
}

#[cfg(test)]
mod tests;
