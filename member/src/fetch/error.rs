//! Why a fetch from one source fails, and what that says of the source.

use std::time::Duration;

use tonic::{Code, Status};

/// Why a fetch from one source failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The peer's address is not one.
    #[error("failed to use the address {address:?} of a peer")]
    Address {
        /// The address.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The peer refused or is gone.
    #[error("failed to fetch from {address}: {}", status.message())]
    Peer {
        /// Who was asked.
        address: String,
        /// The answer.
        status: Box<Status>,
    },
    /// The peer gave nothing for too long.
    #[error("failed to fetch from {address}: it gave nothing for {} s", wait.as_secs_f32())]
    Silent {
        /// Who was asked.
        address: String,
        /// The bound.
        wait: Duration,
    },
    /// What a source sent is not what was asked of it.
    #[error("failed to accept what {address} sent: {reason}")]
    Content {
        /// Who sent it.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// What was offered cannot be used, whoever serves it.
    #[error("failed to accept what island {island} offered: {reason}")]
    Offered {
        /// Who offered it.
        island: String,
        /// What is wrong.
        reason: String,
    },
    /// No member serves it.
    #[error("failed to find a member that serves it")]
    NoSource,
}

impl FetchError {
    /// How much it says of why something cannot be had: the one that says most is told.
    pub(crate) fn weight(&self) -> u8 {
        match self {
            FetchError::Offered { .. } => 5,
            FetchError::Content { .. } => 4,
            FetchError::Silent { .. } => 3,
            FetchError::Peer { status, .. } => match status.code() {
                Code::NotFound | Code::FailedPrecondition => 1,
                _ => 2,
            },
            FetchError::Address { .. } => 2,
            FetchError::NoSource => 0,
        }
    }

    /// The source says that it has it, or will have it, but may not give it yet.
    pub(crate) fn is_early(&self) -> bool {
        let code = |status: &Status| status.code() == Code::FailedPrecondition;
        matches!(self, FetchError::Peer { status, .. } if code(status))
    }

    /// The connection may be dead.
    pub(crate) fn is_of_the_line(&self) -> bool {
        let answers = [Code::NotFound, Code::FailedPrecondition, Code::OutOfRange];
        match self {
            FetchError::Peer { status, .. } => !answers.contains(&status.code()),
            FetchError::Silent { .. } => true,
            _ => false,
        }
    }

    pub(crate) fn peer(address: &str, status: Status) -> FetchError {
        FetchError::Peer { address: address.to_string(), status: Box::new(status) }
    }

    pub(crate) fn content(address: &str, reason: String) -> FetchError {
        FetchError::Content { address: address.to_string(), reason }
    }
}
