//! What a member is told when it starts.

use std::time::Duration;

use rounds::types::Digest;
use sparseloco::CodecParams;
use sparseloco::outer::OuterParams;

/// One rank of one island.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// Name of the run.
    pub run: String,
    /// Name of the island.
    pub island: String,
    /// Epoch of the island's plan.
    pub epoch: u64,
    /// This rank.
    pub rank: u32,
    /// Ranks of the island.
    pub world_size: u32,
    /// `http://host:port` of the coordinator.
    pub coordinator: String,
    /// `host:port` for other islands.
    pub listen: String,
    /// `host:port` for the island's ranks.
    pub collective_listen: String,
    /// Hash of what all ranks of the island have to agree on.
    pub plan_hash: Digest,
    /// The compressor.
    pub codec: CodecParams,
    /// The outer step.
    pub outer: OuterParams,
    /// H.
    pub inner_steps: u32,
    /// Samples of a whole round, over all ranks.
    pub round_samples: u64,
    /// What the plan expects, for display.
    pub tokens_per_second: f64,
    /// Bounds on every wait.
    pub timeouts: Timeouts,
}

/// Bounds on a member's waits. `group` has to exceed `coordinator` and `transfer`, because the
/// island's other ranks wait in a collective while the leader speaks with others.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// For a peer rank in a collective.
    pub group: Duration,
    /// For a silent coordinator.
    pub coordinator: Duration,
    /// For one transfer from one peer of another island.
    pub transfer: Duration,
    /// From the request to stop until the island leaves even if its last round is not committed.
    pub stop: Duration,
    /// For the others' offers in a round that this island forwent, until it tries again. It has to
    /// cover a round's training.
    pub forgone: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            group: Duration::from_secs(180),
            coordinator: Duration::from_secs(90),
            transfer: Duration::from_secs(60),
            stop: Duration::from_secs(45),
            forgone: Duration::from_secs(3600),
        }
    }
}
