//! Why a member cannot go on.

use collective::CommError;
use sparseloco::codec::CompressError;
use sparseloco::outer::ApplyError;

use crate::session::SessionError;

/// Ends the rank; whoever started the island decides about another epoch.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The address to listen on is taken or not ours.
    #[error("failed to listen on {address:?}")]
    Listen {
        /// As configured.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The asynchronous runtime did not start.
    #[error("failed to start the network threads")]
    Runtime(#[source] std::io::Error),
    /// A rank of the island is lost or confused.
    #[error("failed to {operation} within the island")]
    Group {
        /// What the ranks were doing.
        operation: &'static str,
        /// Why.
        source: CommError,
    },
    /// The coordinator refused or is gone.
    #[error("failed to follow the run")]
    Session(#[from] SessionError),
    /// The parameters are on a device that failed.
    #[error("failed to reach the parameters")]
    Theta(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Training diverged: the update cannot be encoded.
    #[error("failed to compress round {round}: training diverged; lower the learning rate")]
    Compress {
        /// The round.
        round: u64,
        /// What is not finite.
        source: CompressError,
    },
    /// A committed round cannot be applied.
    #[error("failed to apply round {round}: its set is not what was verified; start again")]
    Apply {
        /// The round.
        round: u64,
        /// What is wrong with it.
        source: ApplyError,
    },
    /// The island could not make a contribution, try after try.
    #[error(
        "failed to train round {round} in {times} tries, the last for: {reason}; \
         lower the learning rate"
    )]
    Forgone {
        /// The round.
        round: u64,
        /// How often it was tried.
        times: u32,
        /// What the trainer said of the last try.
        reason: String,
    },
    /// The leader sent something else than a view.
    #[error("failed to read what the island's leader sent")]
    Leader(#[source] serde_json::Error),
}

impl MemberError {
    /// Whether starting the island again at a newer epoch is in vain. Of what [`Theta`] says,
    /// whoever implements it knows; training that diverged is left to the caller, too.
    ///
    /// [`Theta`]: crate::Theta
    pub fn is_final(&self) -> bool {
        match self {
            MemberError::Group { source, .. } => source.is_final(),
            MemberError::Session(error) => error.is_final(),
            MemberError::Listen { .. }
            | MemberError::Runtime(_)
            | MemberError::Theta(_)
            | MemberError::Compress { .. }
            | MemberError::Forgone { .. }
            | MemberError::Apply { .. }
            | MemberError::Leader(_) => false,
        }
    }
}
