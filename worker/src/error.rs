//! Why a rank ends, and with which exit code.

use collective::CommError;
use contract::exit::{EXIT_CONFIG, EXIT_DIVERGED, EXIT_FAILED, EXIT_LOST, EXIT_MEMORY};
use data::SamplerError;
use member::MemberError;

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
    #[error("failed to find the island's samples in the training data")]
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
    Group(#[source] CommError),
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
    /// The operating system refused what a rank needs besides.
    #[error("failed to {operation}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl RunError {
    /// What whoever started the rank is to make of it. Every error says for itself whether it would
    /// come again; what only could not be read or written is tried again.
    pub fn exit_code(&self) -> i32 {
        match self {
            RunError::OutOfMemory { .. } => EXIT_MEMORY,
            RunError::NoSuchRank { .. }
            | RunError::SequenceTooLong { .. }
            | RunError::Config(_)
            | RunError::Sharding(_)
            | RunError::Positions { .. }
            | RunError::Contradiction(_)
            | RunError::ValueBits { .. }
            | RunError::Codec(_)
            | RunError::Layout(_)
            | RunError::Sampler(SamplerError::NoSequence | SamplerError::TooFewTokens { .. }) => {
                EXIT_CONFIG
            }
            // The island joins again and gets what it needs.
            RunError::Sampler(SamplerError::NotAllotted { .. }) => EXIT_FAILED,
            RunError::Corpus(error) => of_own(error.is_final()),
            RunError::Import(error) => of_own(error.is_final()),
            RunError::Checkpoint(error) => of_own(error.is_final()),
            RunError::Export(error) => of_own(error.is_final()),
            RunError::Model(error) => of_model(error),
            RunError::Member(error) => of_member(error),
            RunError::Group(error) => of_group(error),
            RunError::Manifest(_) | RunError::System { .. } => EXIT_FAILED,
            RunError::PartMissing => EXIT_LOST,
        }
    }

    /// Whether a checkpoint was not written, and all of the island's ranks know.
    pub(crate) fn is_unsaved(&self) -> bool {
        matches!(
            self,
            RunError::Checkpoint(_)
                | RunError::Export(_)
                | RunError::Corpus(_)
                | RunError::PartMissing
        )
    }
}

/// Of what went wrong in this rank alone.
fn of_own(is_final: bool) -> i32 {
    if is_final { EXIT_CONFIG } else { EXIT_FAILED }
}

fn of_group(error: &CommError) -> i32 {
    match error {
        CommError::Listen { .. } | CommError::Runtime { .. } => EXIT_FAILED,
        CommError::Config { .. }
        | CommError::Argument { .. }
        | CommError::PeerLost { .. }
        | CommError::Timeout { .. }
        | CommError::EpochMismatch { .. }
        | CommError::Protocol { .. }
        | CommError::Killed => {
            if error.is_final() {
                EXIT_CONFIG
            } else {
                EXIT_LOST
            }
        }
    }
}

fn of_model(error: &ModelError) -> i32 {
    match error {
        // What the plan says cannot be, or a card that is not there or cannot do it.
        ModelError::Config(_)
        | ModelError::Shard(_)
        | ModelError::TooLong { .. }
        | ModelError::Device { .. }
        | ModelError::NoBf16 { .. } => EXIT_CONFIG,
        ModelError::Peers(PeerError::Group(error)) => of_group(error),
        ModelError::Interrupted
        | ModelError::Peers(PeerError::Late { .. } | PeerError::Gone { .. }) => EXIT_LOST,
        ModelError::Peers(PeerError::Torch { .. })
        | ModelError::Stage(_)
        | ModelError::Layout(_)
        | ModelError::Shape { .. }
        | ModelError::Token { .. }
        | ModelError::Torch(_)
        | ModelError::Shim(_)
        | ModelError::Host(_) => EXIT_FAILED,
    }
}

fn of_member(error: &MemberError) -> i32 {
    match error {
        MemberError::Listen { .. } | MemberError::Runtime(_) => EXIT_FAILED,
        MemberError::Group { source, .. } => of_group(source),
        MemberError::Session(error) => {
            if error.is_final() {
                EXIT_CONFIG
            } else {
                EXIT_LOST
            }
        }
        MemberError::Theta(source) => {
            source.downcast_ref::<RunError>().map_or(EXIT_FAILED, RunError::exit_code)
        }
        MemberError::Compress { .. } | MemberError::Forgone { .. } => EXIT_DIVERGED,
        MemberError::Leader(_) => EXIT_LOST,
        MemberError::Apply { .. } => EXIT_FAILED,
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
mod codes;

#[cfg(test)]
mod tests {
    use data::CorpusError;

    use super::*;

    fn no_room() -> std::io::Error {
        std::io::ErrorKind::StorageFull.into()
    }

    #[test]
    fn what_cannot_be_read_or_written_is_tried_again_and_what_is_read_and_wrong_is_not() {
        let path = || std::path::PathBuf::from("shard");
        let full = || CheckpointError::Io { operation: "write", path: path(), source: no_room() };
        let json = |text: &str| {
            let source = serde_json::from_str::<u32>(text).expect_err("no number");
            RunError::Corpus(CorpusError::Parse { path: path(), source })
        };
        let tokenizer = data::TokenizerError::Read { path: path(), source: no_room() };
        let address = "127.0.0.1:1".to_string();
        let listen = MemberError::Listen { address: address.clone(), source: no_room() };
        let source = std::sync::Arc::new(no_room());
        let collective = CommError::Listen { address, source };
        let again: [RunError; 12] = [
            CorpusError::Read { path: path(), source: no_room() }.into(),
            CorpusError::Size { path: path(), expected: 8, found: 4 }.into(),
            CorpusError::Tokenizer(tokenizer).into(),
            json(""),
            full().into(),
            CheckpointError::None { path: path() }.into(),
            ExportError::Write(full()).into(),
            ExportError::Folder { path: path(), source: no_room() }.into(),
            ImportError::Io { operation: "read", path: path(), source: no_room() }.into(),
            listen.into(),
            RunError::Group(collective),
            RunError::System { operation: "listen for signals", source: no_room() },
        ];
        for error in again {
            assert_eq!(error.exit_code(), EXIT_FAILED, "{error:?}");
        }
        let never: [RunError; 5] = [
            CorpusError::Hash { path: path() }.into(),
            json("x"),
            CheckpointError::Damaged { path: path(), reason: String::new() }.into(),
            ExportError::Write(CheckpointError::Damaged { path: path(), reason: String::new() })
                .into(),
            ImportError::Damaged { path: path(), reason: String::new() }.into(),
        ];
        for error in never {
            assert_eq!(error.exit_code(), EXIT_CONFIG, "{error:?}");
        }
    }

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
            (forgone.into(), EXIT_DIVERGED),
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
