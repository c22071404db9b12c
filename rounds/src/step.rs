//! One step of a run: what happened, and what follows from it.

use crate::record::Entry;
use crate::refusal::Refusal;
use crate::request::{Applied, Fetched, Identity, Join, Kept, Leave, Offer, Ready};
use crate::state::{Millis, State};

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Time passed.
    Tick,
    /// A member is alive.
    Heartbeat(Identity),
    /// An island asks to become a member.
    Join(Join),
    /// A member has θ of a round from a snapshot.
    Ready(Ready),
    /// A member commits to its contribution.
    Offer(Offer),
    /// A member holds contributions of the closed set.
    Fetched(Fetched),
    /// A member applied a committed round.
    Applied(Applied),
    /// A member has written a checkpoint.
    Kept(Kept),
    /// A member leaves.
    Leave(Leave),
}

/// An answer, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Heartbeat: the member is known. Offer: it counts. Applied, ready: θ agrees. Otherwise true.
    pub yes: bool,
    /// For people.
    pub reason: String,
}

/// The consequences of an event.
#[derive(Clone, Debug)]
pub struct Step {
    /// The state after it.
    pub state: State,
    /// The answer to whoever called.
    pub reply: Result<Verdict, Refusal>,
    /// To be appended to the record, in this order, together with saving the state.
    pub entries: Vec<Entry>,
    /// Whether anything changed that has to be saved before it is shown.
    pub changed: bool,
}

impl Verdict {
    pub(crate) fn yes(reason: impl Into<String>) -> Verdict {
        Verdict { yes: true, reason: reason.into() }
    }

    pub(crate) fn no(reason: impl Into<String>) -> Verdict {
        Verdict { yes: false, reason: reason.into() }
    }
}

/// Takes one step. Time is taken into account first, so an event that comes after a deadline finds
/// the state as the deadline left it. A refused event changes nothing beyond that.
pub fn step(mut state: State, event: Event, now: Millis) -> Step {
    let before = state.saved.clone();
    state.timers.now = state.timers.now.max(now);
    state.advance();
    let reply = match event {
        Event::Tick => Ok(Verdict::yes("time passed")),
        Event::Heartbeat(who) => state.heartbeat(&who),
        Event::Join(join) => state.join(join),
        Event::Ready(ready) => state.ready(&ready),
        Event::Offer(offer) => state.offer(offer),
        Event::Fetched(fetched) => state.fetched(fetched),
        Event::Applied(applied) => state.applied(&applied),
        Event::Kept(kept) => state.kept(kept),
        Event::Leave(leave) => state.leave(&leave),
    };
    state.advance();
    let changed = state.saved != before;
    if changed {
        state.saved.version += 1;
    }
    let entries = std::mem::take(&mut state.entries);
    // What is recorded is saved with a new version, and the record goes on from what it was.
    let recorded = state.saved.record_length - before.record_length;
    debug_assert!(changed || recorded == 0, "a record without a change: {entries:?}");
    debug_assert!(recorded <= entries.len() as u64, "what was recorded is handed out");
    debug_assert!(entries.last().is_none_or(|last| last.hash == state.saved.record_hash));
    debug_assert!(state.saved.highest >= before.highest, "no round was never in progress");
    Step { state, reply, entries, changed }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod properties;
