//! How far an island is with a set, what of that is told, and when it is given up. Pure: each rank
//! says what it has, and all derive the same from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rounds::types::{Contribution, Digest, Rejection, RejectionCause};
use serde::{Deserialize, Serialize};

/// Pieces that have come are told to the coordinator so often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How far a rank, or the whole island, is with a set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holding {
    /// Owners of contributions that are whole.
    pub(crate) have: BTreeSet<String>,
    /// Pieces that were verified.
    pub(crate) pieces: u64,
    /// Owners of contributions that cannot be had.
    pub(crate) rejected: BTreeMap<String, Rejection>,
}

/// Whether the coordinator has to hear of a holding, and why or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It has heard nothing of this set.
    First,
    /// A contribution is whole, or cannot be had, or may be had after all.
    Changed,
    /// More pieces came, and it heard of some a while ago.
    Grown,
    /// More pieces came, but it heard of some only now.
    TooSoon,
    /// It knows.
    Nothing,
}

impl News {
    pub(crate) fn is_told(self) -> bool {
        matches!(self, News::First | News::Changed | News::Grown)
    }
}

/// What the leader told the coordinator last of a closed set.
#[derive(Debug)]
pub(crate) struct Told {
    /// By digest.
    set: Vec<Digest>,
    holding: Holding,
    at: Instant,
}

impl Told {
    pub(crate) fn now(set: &[Contribution], holding: Holding) -> Told {
        Told { set: digests_of(set), holding, at: Instant::now() }
    }

    /// What was told of `set`, and how long ago.
    pub(crate) fn of(&self, set: &[Contribution]) -> Option<(&Holding, Duration)> {
        (self.set == digests_of(set)).then(|| (&self.holding, self.at.elapsed()))
    }
}

/// A set, by what was offered.
pub(crate) fn digests_of(set: &[Contribution]) -> Vec<Digest> {
    set.iter().map(|c| c.digest).collect()
}

impl Holding {
    /// What the island holds when its ranks hold this: a contribution is whole where it is on all
    /// ranks, and rejected where it is on one.
    pub(crate) fn of_island(ranks: Vec<Holding>) -> Holding {
        let mut ranks = ranks.into_iter();
        let mut island = ranks.next().unwrap_or_default();
        for rank in ranks {
            island.have.retain(|owner| rank.have.contains(owner));
            island.pieces = island.pieces.saturating_add(rank.pieces);
            for (owner, rejection) in rank.rejected {
                let worse = rejection.cause == RejectionCause::Invalid;
                let known = island.rejected.get(&owner);
                if known.is_none_or(|k| worse && k.cause == RejectionCause::Unserved) {
                    island.rejected.insert(owner, rejection);
                }
            }
        }
        island
    }

    /// Whether it is all of `set`.
    pub(crate) fn is_all_of(&self, set: &[Contribution]) -> bool {
        set.iter().all(|c| self.have.contains(&c.island))
    }

    /// What of it is news to the coordinator, which heard `told` so long ago.
    pub(crate) fn news(&self, told: Option<(&Holding, Duration)>) -> News {
        let Some((told, ago)) = told else { return News::First };
        if (&told.have, &told.rejected) != (&self.have, &self.rejected) {
            News::Changed
        } else if told.pieces == self.pieces {
            News::Nothing
        } else if ago >= TELL_EVERY {
            News::Grown
        } else {
            News::TooSoon
        }
    }
}

/// Whether what a rank lacks of a committed set is worth waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It lacks nothing.
    Whole,
    /// More of it is on its way.
    Coming,
    /// Nothing of it came for as long as is waited.
    Silent,
    /// What was offered can never be used, whoever serves it.
    Invalid,
    /// Nobody serves it, and the others have dropped it by now.
    Dropped,
}

impl Reach {
    const ALL: [Reach; 5] =
        [Reach::Whole, Reach::Coming, Reach::Silent, Reach::Invalid, Reach::Dropped];

    /// Of one contribution that is missing here, of which nothing came for the time `silent`, and
    /// which cannot be had for `cause` as far as is known. Where others drop it by and by, who does
    /// not serve it never will.
    pub(crate) fn of(
        cause: Option<RejectionCause>,
        (silent, stall): (Duration, Duration),
        is_dropped: bool,
    ) -> Reach {
        match cause {
            Some(RejectionCause::Invalid) => Reach::Invalid,
            Some(RejectionCause::Unserved) if is_dropped => Reach::Dropped,
            _ if silent >= stall => Reach::Silent,
            _ => Reach::Coming,
        }
    }

    fn is_lost(self) -> bool {
        matches!(self, Reach::Silent | Reach::Invalid | Reach::Dropped)
    }

    pub(crate) fn encode(self) -> [u8; 1] {
        [self as u8]
    }

    fn decode(bytes: &[u8]) -> Option<Reach> {
        Reach::ALL.into_iter().find(|reach| reach.encode() == *bytes)
    }

    /// Of the island, whose ranks sent this: lost where one has lost it, with the first one's
    /// reason. Whoever sent something else is waited for.
    pub(crate) fn of_island(ranks: &[Vec<u8>]) -> Reach {
        let mut ranks = ranks.iter().map(|bytes| Reach::decode(bytes).unwrap_or(Reach::Coming));
        if ranks.clone().all(|reach| reach == Reach::Whole) {
            return Reach::Whole;
        }
        ranks.find(|reach| reach.is_lost()).unwrap_or(Reach::Coming)
    }
}

#[cfg(test)]
mod tests;
