//! Training data: text in, token shards out, and the order in which a run trains on them.
//!
//! [`prepare`] turns files into a corpus folder, [`Corpus`] reads one, [`Sampler`] says which
//! tokens stand where in the run's order of text. `docs/data.md` describes the folder and the order
//! for those who want to recompute either with other tools.

mod columns;
mod content;
mod corpus;
mod documents;
mod error;
mod form;
mod index;
mod inventory;
mod output;
mod pass;
mod passed;
mod prepare;
mod ratio;
mod records;
mod sampler;
mod shards;
mod streams;
mod tokenizer;
#[cfg(test)]
mod wrappings;

pub use content::without_mark;
pub use corpus::{Check, Corpus, CorpusError, ShardId, Split, patiently};
pub use error::PrepareError;
pub use prepare::{DEFAULT_SHARD_TOKENS, PrepareOptions, PrepareSummary, Progress, prepare};
pub use ratio::{ParseRatioError, Ratio};
pub use sampler::{Allotment, HeldOut, Sampler, SamplerError, SamplerOptions};
pub use tokenizer::{Tokenizer, TokenizerChoice, TokenizerError};
