//! Invariants of every state of a run, checked before each one is saved: a defect shows where it is
//! made, and never reaches the disk.

use crate::state::{COMMITS_KEPT_MAX, STARTS_KEPT_MAX, State};
use crate::text::RETURNED_MAX;
use crate::types::{MemberState, Phase};

/// A state that no sequence of events may lead to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to keep the run sound: {0}; this is a defect of the coordinator, please report it")]
pub struct Unsound(pub String);

fn holds(condition: bool, what: impl FnOnce() -> String) -> Result<(), Unsound> {
    if condition { Ok(()) } else { Err(Unsound(what())) }
}

impl State {
    /// Checks what has to hold of a state, whatever has happened.
    ///
    /// # Errors
    /// Says what does not hold.
    pub fn check(&self) -> Result<(), Unsound> {
        self.check_rounds()?;
        self.check_round()?;
        self.check_members()?;
        self.check_bounds()
    }

    /// Rounds, tokens and commits follow each other.
    fn check_rounds(&self) -> Result<(), Unsound> {
        let saved = &self.saved;
        let (round, highest) = (saved.round, saved.highest);
        holds(round <= highest, || format!("round {round} is beyond the highest, {highest}"))?;
        holds(saved.starts.contains_key(&round), || format!("round {round} has no beginning"))?;
        let mut starts = saved.starts.iter().zip(saved.starts.iter().skip(1));
        holds(starts.all(|((_, a), (_, b))| a.tokens <= b.tokens), || "tokens go back".into())?;
        let mut commits = saved.commits.iter().zip(saved.commits.iter().skip(1));
        let in_turn = commits.all(|(a, b)| a.round + 1 == b.round);
        holds(in_turn, || "a round was committed twice or left out".into())?;
        let last = saved.commits.last();
        let fits = last.is_none_or(|last| last.round + 1 == round && last.tokens == self.tokens());
        holds(fits, || format!("the last commit does not lead to round {round}"))
    }

    /// The round in progress is what its phase says.
    fn check_round(&self) -> Result<(), Unsound> {
        let saved = &self.saved;
        let fetching = saved.phase == Phase::Fetching;
        let closed = saved.closed.iter().all(|owner| saved.offers.contains_key(owner));
        holds(closed, || "the closed set has what was never offered".into())?;
        holds(fetching || saved.closed.is_empty(), || {
            "a set is closed outside of its phase".into()
        })?;
        let weighty = saved.offers.values().all(|offer| offer.tokens > 0);
        holds(weighty, || "an offer has no weight".into())?;
        let agreed = self.start().theta.is_some();
        holds(!fetching || agreed || saved.votes.is_empty(), || {
            "a set was closed before θ was agreed".into()
        })?;
        holds(!agreed || saved.votes.is_empty() || self.is_what_was_voted(), || {
            "θ is none that was voted for".into()
        })
    }

    fn is_what_was_voted(&self) -> bool {
        self.saved.votes.iter().any(|vote| Some(vote.theta) == self.start().theta)
    }

    /// Those that take part hold what they say, and are the newest of their name.
    fn check_members(&self) -> Result<(), Unsound> {
        let saved = &self.saved;
        for (island, member) in &saved.members {
            let newest = saved.epochs.get(island) == Some(&member.epoch);
            holds(newest, || format!("{island} is a member at an epoch that is not its newest"))?;
            let leased = self.timers.leases.contains_key(island);
            holds(leased, || format!("{island} is a member without a lease"))?;
            let part = member.state != MemberState::Syncing;
            holds(!part || member.round <= saved.round, || {
                format!("{island} takes part with a round that the run is not in")
            })?;
            let differs = self.start().theta.is_some_and(|theta| theta != member.theta);
            holds(!part || member.round != saved.round || !differs, || {
                format!("{island} takes part with another θ")
            })?;
        }
        let leases = self.timers.leases.keys().all(|island| saved.members.contains_key(island));
        holds(leases, || "there is a lease without a member".into())
    }

    fn check_bounds(&self) -> Result<(), Unsound> {
        let saved = &self.saved;
        let members = self.config.max_members as usize;
        let bounds = [
            ("members", saved.members.len(), members),
            ("offers", saved.offers.len(), saved.epochs.len()),
            ("reports", saved.reports.len(), saved.epochs.len()),
            ("votes", saved.votes.len(), saved.voters.len()),
            ("commits", saved.commits.len(), COMMITS_KEPT_MAX),
            ("starts", saved.starts.len(), usize::try_from(STARTS_KEPT_MAX).unwrap_or(usize::MAX)),
            ("ranges of text", saved.text.returned.len(), RETURNED_MAX),
        ];
        for (what, count, max) in bounds {
            holds(count <= max, || format!("{count} {what}, at most {max}"))?;
        }
        Ok(())
    }
}
