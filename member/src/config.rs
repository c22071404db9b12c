//! What a member is told when it starts.

use std::time::Duration;

use proto::Keepalive;
use rounds::request::Identity;
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

impl MemberConfig {
    /// Who the island is to the coordinator.
    pub(crate) fn who(&self) -> Identity {
        let MemberConfig { run, island, epoch, .. } = self;
        Identity { run: run.clone(), island: island.clone(), epoch: *epoch }
    }
}

/// Bounds on a member's waits. `group` has to exceed `coordinator`, because the island's other
/// ranks wait in a collective while the leader speaks with others.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// For a peer rank in a collective.
    pub group: Duration,
    /// For a silent coordinator.
    pub coordinator: Duration,
    /// For the next piece from a rank of another island, until the rest is asked of another.
    pub transfer: Duration,
    /// For any piece of what a committed round lacks here, until the island takes θ from others
    /// instead, which drops its residual.
    pub stall: Duration,
    /// From the request to stop until the island leaves even if its last round is not committed.
    pub stop: Duration,
    /// For the others' offers in a round that this island forwent, until it tries again. It has to
    /// cover a round's training.
    pub forgone: Duration,
    /// For a sign of life on the connections to the coordinator and to other islands.
    pub keepalive: Keepalive,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            group: Duration::from_secs(180),
            coordinator: Duration::from_secs(90),
            transfer: Duration::from_secs(5),
            stall: Duration::from_secs(30),
            stop: Duration::from_secs(45),
            forgone: Duration::from_secs(3600),
            keepalive: Keepalive::default(),
        }
    }
}
