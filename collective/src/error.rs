//! Errors of collective operations.

use std::io;
use std::sync::Arc;

use crate::wire::Operation;

/// Why a group could not be made, or why it failed. Cloneable: a failed group repeats its first
/// error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommError {
    /// The configuration contradicts itself.
    #[error("failed to set up the group: {detail}")]
    Config {
        /// The problem.
        detail: String,
    },
    /// The address to listen on cannot be had.
    #[error("failed to listen on {address}")]
    Listen {
        /// As given.
        address: String,
        /// The operating system's reason.
        #[source]
        source: Arc<io::Error>,
    },
    /// The runtime that drives the connections could not be started.
    #[error("failed to start the runtime of the group")]
    Runtime {
        /// The operating system's reason.
        #[source]
        source: Arc<io::Error>,
    },
    /// A peer has gone: its process ended, its connection broke, or it left the group.
    #[error("failed to reach rank {rank}: it has gone")]
    PeerLost {
        /// The rank that has gone.
        rank: u32,
    },
    /// A peer is silent.
    #[error("failed to finish {operation}: rank {rank} was silent for longer than the timeout")]
    Timeout {
        /// The operation in progress.
        operation: Operation,
        /// The rank that was waited for.
        rank: u32,
    },
    /// A peer follows another plan of this island.
    #[error("failed to join rank {rank}: it is at epoch {theirs}, this rank at epoch {ours}")]
    EpochMismatch {
        /// The peer.
        rank: u32,
        /// This rank's epoch.
        ours: u64,
        /// The peer's epoch.
        theirs: u64,
    },
    /// A peer sent what it should not have: another operation, another length, garbage.
    #[error("failed to understand rank {rank}: {detail}")]
    Protocol {
        /// The peer.
        rank: u32,
        /// The difference from what was expected.
        detail: String,
    },
    /// The call's arguments do not fit the group.
    #[error("failed to start {operation}: {detail}")]
    Argument {
        /// The operation that was asked for.
        operation: Operation,
        /// The problem.
        detail: String,
    },
    /// A scheduled fault killed this rank (tests).
    #[error("failed on purpose: a scheduled fault killed this rank")]
    Killed,
}

impl CommError {
    /// Says whether making the same group again is in vain; peers come back, and ports become free.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Config { .. } | Self::Argument { .. } => true,
            Self::Listen { .. }
            | Self::Runtime { .. }
            | Self::PeerLost { .. }
            | Self::Timeout { .. }
            | Self::EpochMismatch { .. }
            | Self::Protocol { .. }
            | Self::Killed => false,
        }
    }

    /// The rank to blame, where there is one.
    pub fn rank(&self) -> Option<u32> {
        match self {
            Self::PeerLost { rank }
            | Self::Timeout { rank, .. }
            | Self::EpochMismatch { rank, .. }
            | Self::Protocol { rank, .. } => Some(*rank),
            _ => None,
        }
    }

    /// The same with ranks of a subgroup called as the group that it is of calls them.
    pub(crate) fn renumbered(mut self, members: &[u32]) -> Self {
        if let Self::PeerLost { rank }
        | Self::Timeout { rank, .. }
        | Self::EpochMismatch { rank, .. }
        | Self::Protocol { rank, .. } = &mut self
            && let Some(member) = members.get(*rank as usize)
        {
            *rank = *member;
        }
        self
    }
}

#[cfg(test)]
mod tests;
