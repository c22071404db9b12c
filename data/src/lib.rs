//! Training data: text in, token shards out, and the order in which a run trains on them.
//!
//! [`prepare`] turns files into a corpus folder, [`Corpus`] reads one, [`Sampler`] says which
//! tokens stand where in the run's order of text. `docs/data.md` describes the folder and the order
//! for those who want to recompute either with other tools.

mod corpus;
mod documents;
mod index;
mod output;
mod pass;
mod prepare;
mod ratio;
mod sampler;
mod shards;
mod sources;
mod tokenizer;

pub use corpus::{Check, Corpus, CorpusError, ShardId, Split, patiently};
pub use prepare::{
    DEFAULT_SHARD_TOKENS, PrepareError, PrepareOptions, PrepareSummary, Progress, prepare,
};
pub use ratio::{ParseRatioError, Ratio};
pub use sampler::{Allotment, HeldOut, Sampler, SamplerError, SamplerOptions};
pub use tokenizer::{Tokenizer, TokenizerChoice, TokenizerError};
