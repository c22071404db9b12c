//! An island's process: the member's loop around [`decide`], with a toy in place of training.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rounds::decide::Standing;
use rounds::types::{Commit, Contribution, Digest, RunView, SampleRange};

/// θ as the toy has it: a digest of all that was ever applied.
pub(crate) fn first_theta() -> Digest {
    Digest(*blake3::hash(b"theta of round 0").as_bytes())
}

/// θ after a commit.
pub(crate) fn theta_after(theta: Digest, commit: &Commit) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&theta.0);
    hasher.update(&commit.round.to_le_bytes());
    for contribution in &commit.set {
        hasher.update(contribution.island.as_bytes());
        hasher.update(&contribution.digest.0);
        hasher.update(&contribution.tokens.to_le_bytes());
    }
    Digest(*hasher.finalize().as_bytes())
}

/// A checkpoint on an island's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) round: u64,
    pub(crate) theta: Digest,
    pub(crate) tokens: u64,
    pub(crate) samples: u64,
}

impl Checkpoint {
    pub(crate) fn first() -> Checkpoint {
        Checkpoint { round: 0, theta: first_theta(), tokens: 0, samples: 0 }
    }
}

/// The work of a process while it decides nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Busy {
    /// Nothing: it looks at its view.
    No,
    /// Inner steps of a round.
    Training,
    /// It waits for the coordinator's answer.
    Calling { call: u64, what: Call },
    /// It takes θ from another island.
    Syncing,
    /// It is done with the run.
    Ended,
}

/// A call to the coordinator; asked again until it is answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Join,
    Ready,
    Offer,
    Fetched,
    Applied { round: u64 },
    Kept { round: u64 },
    Leave,
}

/// One island: its disk, and its process while that lives.
pub(crate) struct Island {
    pub(crate) name: String,
    pub(crate) epoch: u64,
    /// Counts processes; what was meant for an earlier one is void.
    pub(crate) life: u64,
    pub(crate) alive: bool,
    /// The time at which it looks at its view next.
    pub(crate) looks_at: Option<u64>,
    pub(crate) frozen_until: u64,
    pub(crate) cut_until: u64,
    /// Synced checkpoints, oldest first.
    pub(crate) disk: Vec<Checkpoint>,
    pub(crate) standing: Standing,
    pub(crate) at: Checkpoint,
    pub(crate) view: Option<Rc<RunView>>,
    pub(crate) busy: Busy,
    pub(crate) offer: Option<Contribution>,
    /// Contributions that it holds whole: by round and owner.
    pub(crate) store: BTreeMap<(u64, String), Digest>,
    /// Transfers on their way.
    pub(crate) fetching: BTreeSet<(u64, String)>,
    /// Its last report of a closed set.
    pub(crate) reported: Option<(u64, BTreeSet<String>)>,
    /// Samples that it trained on for its offer.
    pub(crate) samples: Vec<SampleRange>,
    /// Since when it cannot get what a commit needs.
    pub(crate) lacks_since: Option<u64>,
    /// Its next θ is wrong by a bit.
    pub(crate) flips: bool,
    pub(crate) tries: u32,
    /// The newest checkpoint that the coordinator acknowledged.
    pub(crate) kept: u64,
}

impl Island {
    pub(crate) fn new(name: String) -> Island {
        Island {
            standing: Standing::at(name.clone(), 0, 0),
            name,
            epoch: 0,
            life: 0,
            alive: false,
            looks_at: None,
            frozen_until: 0,
            cut_until: 0,
            disk: Vec::new(),
            at: Checkpoint::first(),
            view: None,
            busy: Busy::No,
            offer: None,
            store: BTreeMap::new(),
            fetching: BTreeSet::new(),
            reported: None,
            samples: Vec::new(),
            lacks_since: None,
            flips: false,
            tries: 0,
            kept: 0,
        }
    }

    /// A new process, from the newest of what the disk has.
    pub(crate) fn start(&mut self) {
        self.life += 1;
        self.epoch += 1;
        self.alive = true;
        self.view = None;
        self.busy = Busy::No;
        self.looks_at = None;
        self.store.clear();
        self.fetching.clear();
        self.tries = 0;
        self.stand_at(self.disk.last().copied().unwrap_or(Checkpoint::first()));
    }

    pub(crate) fn die(&mut self) {
        self.alive = false;
        self.life += 1;
        self.busy = Busy::No;
    }

    /// Begins a round, in which nothing has happened yet.
    pub(crate) fn stand_at(&mut self, at: Checkpoint) {
        self.at = at;
        self.standing = Standing::at(self.name.clone(), self.epoch, at.round);
        self.offer = None;
        self.reported = None;
        self.lacks_since = None;
        self.store.retain(|(round, _), _| round + 2 > at.round);
    }

    /// The newest checkpoint of the disk that is no newer than `round`.
    pub(crate) fn checkpoint_until(&self, round: u64) -> Option<Checkpoint> {
        self.disk.iter().rev().find(|kept| kept.round <= round).copied()
    }

    pub(crate) fn holds(&self, round: u64, contribution: &Contribution) -> bool {
        let held = self.store.get(&(round, contribution.island.clone()));
        held == Some(&contribution.digest)
    }
}
