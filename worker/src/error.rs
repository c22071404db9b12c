//! Why a rank ends, and with which exit code.

use member::MemberError;
use plan::event::{EXIT_CONFIG, EXIT_LOST, EXIT_MEMORY};

use crate::checkpoint::CheckpointError;
use crate::hugging_face::{ExportError, ImportError};
use crate::model::ModelError;
use crate::parallel::PeerError;

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
    /// The model makes no sense.
    #[error("failed to start: the plan's model makes no sense")]
    Config(#[source] plan::model::ModelError),
    /// The plan cannot be executed on this model.
    #[error("failed to start: the plan's sharding does not fit the model")]
    Sharding(#[source] plan::shard::ShardError),
    /// The plan contradicts itself.
    #[error(
        "failed to start: the plan's ranks have {devices} devices for {positions} positions of \
         its sharding"
    )]
    Positions {
        /// Devices of all ranks.
        devices: usize,
        /// Data × pipeline × tensor.
        positions: u32,
    },
    /// The plan asks for what cannot be.
    #[error("failed to start: the plan contradicts itself: {0}")]
    Contradiction(&'static str),
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
    /// The model to start from.
    #[error("failed to start from a model that is there (model.from)")]
    Import(#[from] ImportError),
    /// The model or its device.
    #[error("failed to compute")]
    Model(#[from] ModelError),
    /// A device has less room than the plan expects, or the plan expects too little.
    #[error(
        "failed to find room on device {device} ({product}): the plan expects {} of its {}, at \
         most {} were taken; {remedy}",
        gib(*planned_bytes), gib(*memory_bytes), gib(*peak_bytes)
    )]
    OutOfMemory {
        /// Which of the rank's devices.
        device: u32,
        /// Its product.
        product: String,
        /// Bytes that the plan expects.
        planned_bytes: u64,
        /// Bytes that it has.
        memory_bytes: u64,
        /// Most bytes that were taken; 0 where that is unknown.
        peak_bytes: u64,
        /// What to change.
        remedy: &'static str,
        /// What was tried, and what libtorch says.
        source: Box<RunError>,
    },
    /// The exchange with other islands.
    #[error("failed to take part in the run")]
    Member(#[from] MemberError),
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
    /// Another rank could not write its part, or the leader not complete it.
    #[error("failed to complete the checkpoint: another rank could not write its part of it")]
    PartMissing,
}

impl RunError {
    /// What whoever started the rank is to make of it.
    pub fn exit_code(&self) -> i32 {
        match self {
            RunError::OutOfMemory { .. } => EXIT_MEMORY,
            RunError::Member(error) if !error.is_retryable() => EXIT_CONFIG,
            RunError::Member(MemberError::Group { .. } | MemberError::Session(_)) => EXIT_LOST,
            RunError::Member(MemberError::Theta(source)) => {
                source.downcast_ref::<RunError>().map_or(1, RunError::exit_code)
            }
            RunError::Member(_) => 1,
            RunError::Group(_) | RunError::PartMissing => EXIT_LOST,
            // A full disk may have room again; what is lost is trained again.
            RunError::Checkpoint(CheckpointError::Io { .. }) => EXIT_LOST,
            // A card that is not there, or cannot do it, will not be there next time.
            RunError::Model(ModelError::Device { .. } | ModelError::NoBf16 { .. }) => EXIT_CONFIG,
            RunError::Model(ModelError::Peers(PeerError::Torch { .. })) => 1,
            RunError::Model(ModelError::Peers(_)) => EXIT_LOST,
            RunError::Model(_) | RunError::Manifest(_) => 1,
            _ => EXIT_CONFIG,
        }
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

/// The whole chain of causes, outermost first, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = sentence(error);
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&sentence(cause));
        next = cause.source();
    }
    text
}

/// What an error says, without the stack that libtorch adds to it.
fn sentence(error: &dyn std::error::Error) -> String {
    let said = error.to_string();
    let stack = ["frame #", "Exception raised from "];
    let lines = said.lines().take_while(|line| !stack.iter().any(|begin| line.starts_with(begin)));
    lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use collective::CommError;

    use super::*;

    #[test]
    fn the_exit_code_tells_lost_peers_from_plans_that_never_work_and_from_the_rest() {
        let lost = || CommError::PeerLost { rank: 1 };
        let peers = |error| RunError::Model(ModelError::Peers(error));
        let forgone = MemberError::Forgone { round: 1, times: 3, reason: String::new() };
        let message = String::new();
        let table = [
            (RunError::NoSuchRank { rank: 1, ranks: 1 }, EXIT_CONFIG),
            (RunError::Sharding(plan::shard::ShardError::NoTensor), EXIT_CONFIG),
            (RunError::Group(lost()), EXIT_LOST),
            (MemberError::Group { operation: "", source: lost() }.into(), EXIT_LOST),
            (forgone.into(), 1),
            (MemberError::Theta(Box::new(RunError::PartMissing)).into(), EXIT_LOST),
            (MemberError::Theta("no RunError".into()).into(), 1),
            (RunError::PartMissing, EXIT_LOST),
            (peers(PeerError::Group(lost())), EXIT_LOST),
            (peers(PeerError::Gone { operation: "" }), EXIT_LOST),
            (peers(PeerError::Torch { operation: "", message }), 1),
            (RunError::Model(ModelError::Stage("head")), 1),
            (RunError::Model(ModelError::NoBf16 { index: 0 }), EXIT_CONFIG),
        ];
        for (error, code) in table {
            assert_eq!(error.exit_code(), code, "{error:?}");
        }
    }
}
