//! Training data: text in, token shards out, and the rule by which every island finds its samples.
//!
//! [`prepare`] turns files into a corpus folder, [`Corpus`] reads one, [`Sampler`] says which
//! tokens an island trains on. `docs/data.md` describes the folder and the assignment for those who
//! want to recompute either with other tools.

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
pub use sampler::{HeldOut, Sampler, SamplerError, SamplerOptions, StepShape};
pub use tokenizer::{Tokenizer, TokenizerChoice, TokenizerError};
