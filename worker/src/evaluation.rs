//! What a trained model is worth: held-out loss on prepared data, and the scores of
//! lm-evaluation-harness on local files, by the same rules, so that the figures are the same.
//!
//! Questions are scored zero-shot by the log-likelihood of each choice after its context, texts by
//! their rolling log-likelihood. What the harness's tasks do to a document before it becomes a
//! context is in `prompt`, its metrics are in `score`.

mod command;
mod documents;
mod likelihood;
mod prompt;
mod report;
mod score;

pub use command::{EvalArguments, eval_command};
pub use documents::{Documents, LineProblem, Question, TaskError, Text, read_documents};
pub use likelihood::{LikelihoodError, Scorer};
pub use report::{HeldOutReport, Report, TaskReport};
pub use score::{AnswerScore, Share, TextScore};
