//! Why a call of a member is refused.

/// A call that has no effect, and why. Refusals are final: the same call is refused again until
/// something else has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another run is coordinated here.
    #[error("failed to find the run {asked:?}: the run {run:?} is coordinated here")]
    WrongRun {
        /// The run that is.
        run: String,
        /// The run that was named.
        asked: String,
    },
    /// A newer epoch of the island was seen.
    #[error(
        "failed to act as epoch {epoch} of island {island:?}: epoch {newest} has taken its place"
    )]
    Superseded {
        /// The island.
        island: String,
        /// Its epoch.
        epoch: u64,
        /// The newest epoch.
        newest: u64,
    },
    /// The island is no member, or not with this epoch.
    #[error("failed to act as epoch {epoch} of island {island:?}: it is not a member; join first")]
    UnknownMember {
        /// The island.
        island: String,
        /// Its epoch.
        epoch: u64,
    },
    /// Somebody else goes by this name.
    #[error(
        "failed to join: island {island:?} is already a member with epoch {epoch} and other \
         addresses; give this one another name, or wait until the other's lease has ended"
    )]
    AlreadyMember {
        /// The island.
        island: String,
        /// Its epoch.
        epoch: u64,
    },
    /// The model, the chunking or the codec is not the run's.
    #[error(
        "failed to join: the layout differs from the run's (hash or number of pieces); model, \
         chunking and codec have to be the same on all islands"
    )]
    LayoutDiffers,
    /// The ranks do not hold every piece exactly once.
    #[error("failed to join: the ranks do not hold every piece once: {problem}")]
    Pieces {
        /// The place at which it goes wrong.
        problem: String,
    },
    /// θ of a round is not the one that the run recorded.
    #[error(
        "failed to accept θ of round {round}: its hash differs from the run's{}",
        if *round == 0 { "; seed and version have to be the same on all islands" } else { "" }
    )]
    ThetaDiffers {
        /// The round.
        round: u64,
    },
    /// The coordinator's store never got so far; not final: the island joins with what it holds.
    #[error(
        "failed to accept round {round} of island {island:?}: the coordinator's store ends at \
         round {current}; the island has to join again"
    )]
    NotReached {
        /// The island that spoke of it.
        island: String,
        /// The round that was named.
        round: u64,
        /// The round in progress.
        current: u64,
    },
    /// No place for another member.
    #[error("failed to join: the run has all the members it takes ({max})")]
    Full {
        /// Most members at a time.
        max: u32,
    },
    /// A second, different offer.
    #[error("failed to offer: the island has committed to another contribution of round {round}")]
    OfferChanged {
        /// The round.
        round: u64,
    },
}
