//! Requests of members to the run: one struct for each call, checked where it came from the wire.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{Contribution, Digest, RankAddress, Rejection};

/// The caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of the run.
    pub run: String,
    /// Name of the island.
    pub island: String,
    /// Epoch of its plan; the newest one seen for an island wins.
    pub epoch: u64,
}

/// A rank names its address to the other ranks of its island. Not an event of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meet {
    /// The caller.
    pub who: Identity,
    /// The rank, below `world_size`.
    pub rank: u32,
    /// Ranks of the island.
    pub world_size: u32,
    /// `host:port` where the rank serves.
    pub address: String,
    /// Hash of the plan that all ranks of an island must agree on.
    pub plan_hash: Digest,
}

/// An island asks to become a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The caller.
    pub who: Identity,
    /// Its ranks, by rank; together they hold every piece once.
    pub ranks: Vec<RankAddress>,
    /// blake3 of tensor names, shapes, chunking and codec parameters.
    pub layout_hash: Digest,
    /// The island holds θ at the start of this round,
    pub round: u64,
    /// with this hash.
    pub theta_hash: Digest,
    /// Predicted tokens per 1,000 seconds, for display.
    pub tokens_per_second_milli: u64,
    /// H, for display.
    pub inner_steps: u32,
    /// Samples that it trains on in a whole round.
    pub round_samples: u64,
    /// Tokens of the run at the start of `round`, as the island knows,
    pub tokens: u64,
    /// and samples that were handed out by then.
    pub samples: u64,
    /// A complaint about how it came to hold `round`, for people; empty where there is nothing.
    pub complaint: String,
}

/// An island holds θ of a round after a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The caller.
    pub who: Identity,
    /// The round whose θ it holds,
    pub round: u64,
    /// with this hash.
    pub theta_hash: Digest,
}

/// An island commits to its contribution of a round.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The caller; island and epoch are the contribution's.
    pub who: Identity,
    /// The round.
    pub round: u64,
    /// The contribution that it commits to.
    pub contribution: Contribution,
    /// It leaves once the round is committed.
    pub leaving: bool,
}

/// An island tells how far it is with a closed set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The caller.
    pub who: Identity,
    /// The round.
    pub round: u64,
    /// Islands whose contribution it holds.
    pub have: BTreeSet<String>,
    /// Pieces that its ranks have verified so far, of all contributions.
    pub pieces: u64,
    /// Islands whose contribution it cannot hold.
    pub rejected: BTreeMap<String, Rejection>,
}

/// An island applied a committed round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The caller.
    pub who: Identity,
    /// The committed round.
    pub round: u64,
    /// Hash of θ after it.
    pub theta_hash: Digest,
}

/// An island has written a whole checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The caller.
    pub who: Identity,
    /// The round at whose start θ is in it.
    pub round: u64,
}

/// An island leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    /// The caller.
    pub who: Identity,
    /// Why, for people; may be empty.
    pub reason: String,
}
