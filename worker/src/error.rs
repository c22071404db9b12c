//! Why a rank ends, and with which exit code.

use plan::event::{EXIT_CONFIG, EXIT_LOST};

use crate::checkpoint::CheckpointError;
use crate::hugging_face::ExportError;
use crate::model::ModelError;

/// Ends a rank.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The plan has no such rank.
    #[error("failed to start: the plan has {ranks} ranks, so there is no rank {rank}")]
    NoSuchRank {
        /// As told.
        rank: u32,
        /// Ranks of the plan.
        ranks: usize,
    },
    /// The model cannot see that far.
    #[error(
        "failed to start: sequences of {sequence} tokens, but the model has \
         max_position_embeddings {positions}"
    )]
    SequenceTooLong {
        /// Tokens of a sequence.
        sequence: u32,
        /// The model's positions.
        positions: u32,
    },
    /// No such quantiser.
    #[error("failed to start: valueBits {bits} does not exist; use 1 or 2")]
    ValueBits {
        /// As told.
        bits: u8,
    },
    /// The codec's settings.
    #[error("failed to start: the sparse exchange cannot be set up so")]
    Codec(#[from] sparseloco::ParamsError),
    /// The model's shapes.
    #[error("failed to lay the parameters out")]
    Layout(#[from] sparseloco::layout::LayoutError),
    /// The data.
    #[error("failed to read the training data")]
    Corpus(#[from] data::CorpusError),
    /// Samples cannot be assigned.
    #[error("failed to share out the training data")]
    Sampler(#[from] data::SamplerError),
    /// The model or its device.
    #[error("failed to compute")]
    Model(#[from] ModelError),
    /// The exchange with other islands.
    #[error("failed to take part in the run")]
    Member(#[from] member::MemberError),
    /// The island's ranks.
    #[error("failed to work with the island's other ranks")]
    Group(#[source] collective::CommError),
    /// A checkpoint.
    #[error("failed to keep or restore a checkpoint")]
    Checkpoint(#[from] CheckpointError),
    /// Files in Hugging Face's form.
    #[error("failed to write the model's description")]
    Export(#[from] ExportError),
    /// JSON that this rank or a peer made.
    #[error("failed to exchange a description with the island's other ranks")]
    Manifest(#[source] serde_json::Error),
    /// Another rank could not write its part.
    #[error("failed to complete the checkpoint: another rank could not write its part")]
    PartMissing,
}

impl RunError {
    /// What whoever started the rank is to make of it.
    pub fn exit_code(&self) -> i32 {
        match self {
            RunError::Member(error) if error.is_retryable() => EXIT_LOST,
            RunError::Group(_) | RunError::PartMissing => EXIT_LOST,
            // A full disk may have room again; what is lost is trained again.
            RunError::Checkpoint(CheckpointError::Io { .. }) => EXIT_LOST,
            RunError::Model(_) | RunError::Manifest(_) => 1,
            _ => EXIT_CONFIG,
        }
    }
}

/// The whole chain of causes, outermost first.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
