//! What is known of the sources of one thing, and what is decided from it: whom to ask next, for
//! what, what follows from how that ended, and what those who wait are told. The time is passed in.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rounds::types::RejectionCause;
use tokio::time::Instant;

use super::claim::{Claim, runs};
use crate::fetch::FetchError;

/// Sources that give parts of one thing at a time.
pub(super) const SOURCES_MAX: usize = 8;
/// From the start until members that did not offer it are asked, too.
const HELP_WAIT: Duration = Duration::from_secs(1);
/// Until a source that failed is asked again: twice as long each time.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(250);
/// Until a source that may not serve it yet is asked again.
const EARLY_WAIT: Duration = Duration::from_millis(50);
/// Failures in a row that count: each doubles the patience with a source.
const FAILURES_MAX: u32 = 3;
/// With nothing to wait for but the members' change.
const LOOK_EVERY: Duration = Duration::from_secs(4);

/// What the members say of a rank that may have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// Of the wanted ones, those that it holds.
    pub(super) pieces: Range<u32>,
    /// It is of the island that offered it.
    pub(super) owns: bool,
    /// Its place among the members.
    pub(super) place: usize,
}

/// A rank of another island that may have it, and how it has served so far.
#[derive(Debug)]
struct Source {
    holder: Holder,
    ready_at: Instant,
    /// In a row.
    failures: u32,
    /// It served what is not it.
    lied: bool,
}

/// Whether a source is asked now, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    /// It is giving already.
    Gives,
    /// It served what is not it, and is never asked again.
    Lied,
    /// It failed, and is asked again at a later time.
    Later,
    /// Whoever offered it is asked alone, as long as that goes well.
    OwnerFirst,
}

/// Which pieces a source is asked for, and why those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The longest run of those that nobody is giving.
    Free(Range<u32>),
    /// Half of the longest run that another source is giving: nothing else is left.
    HalfOf(String),
    /// It holds nothing that is worth asking it for.
    Nothing,
}

/// A source that is asked from now on.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) address: String,
    pub(super) owns: bool,
    /// The longest that it may give nothing.
    pub(super) wait: Duration,
    pub(super) claim: Arc<Claim>,
}

/// What follows from how a source's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// It gave what it was asked for.
    Done,
    /// Whoever serves it, what was offered can never be used.
    Unusable,
    /// It serves what is not it: it is not asked again.
    Lied,
    /// It may not give it yet: it is asked again soon, and has not failed.
    Early,
    /// It is asked again later, with more patience unless it gave something.
    Failed,
}

/// What those who wait are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A source has not failed yet.
    Hopeful,
    /// Pieces are coming, for all that failed.
    Coming,
    /// Every source has failed, or there is none.
    Rejected(RejectionCause),
}

/// The sources of one thing.
pub(super) struct Book {
    started: Instant,
    /// The longest that a source may give nothing at first.
    silence: Duration,
    /// By address.
    sources: BTreeMap<String, Source>,
    /// By the address of who is giving them.
    claims: BTreeMap<String, Arc<Claim>>,
    /// What says most of why it is not here yet.
    telling: FetchError,
    owner_lied: bool,
}

impl Book {
    pub(super) fn new(started: Instant, silence: Duration) -> Book {
        Book {
            started,
            silence,
            sources: BTreeMap::new(),
            claims: BTreeMap::new(),
            telling: FetchError::NoSource,
            owner_lied: false,
        }
    }

    /// Keeps the sources as the members are; what is known of those that stay, stays.
    pub(super) fn look(&mut self, holders: BTreeMap<String, Holder>) {
        let claims = &self.claims;
        self.sources.retain(|at, _| holders.contains_key(at) || claims.contains_key(at));
        for (address, holder) in holders {
            let (ready_at, anew) = (self.started, holder.clone());
            let new = || Source { holder: anew, ready_at, failures: 0, lied: false };
            self.sources.entry(address).or_insert_with(new).holder = holder;
        }
    }

    fn due(&self, address: &str, source: &Source, now: Instant) -> Due {
        if self.claims.contains_key(address) {
            Due::Gives
        } else if source.lied {
            Due::Lied
        } else if source.ready_at > now {
            Due::Later
        } else if source.holder.owns || self.needs_help(now) {
            Due::Now
        } else {
            Due::OwnerFirst
        }
    }

    /// Whether others than the owner are asked: it is gone, failed, or takes long.
    fn needs_help(&self, now: Instant) -> bool {
        let fails = |source: &Source| source.lied || source.failures > 0;
        let mut owners = self.sources.values().filter(|source| source.holder.owns);
        now.duration_since(self.started) >= HELP_WAIT || owners.all(fails)
    }

    /// Gives every source that may be asked now something to do, the owner and those that served
    /// well first.
    pub(super) fn ask(&mut self, mut missing: Vec<u32>, now: Instant) -> Vec<Ask> {
        missing.retain(|piece| !self.claims.values().any(|claim| claim.left().contains(piece)));
        let due = self.sources.iter().filter(|(at, s)| self.due(at, s, now) == Due::Now);
        let order =
            |(at, s): (&String, &Source)| (!s.holder.owns, s.failures, s.holder.place, at.clone());
        let mut order: Vec<(bool, u32, usize, String)> = due.map(order).collect();
        order.sort();
        let mut asked = Vec::new();
        for (.., address) in order {
            if self.claims.len() >= SOURCES_MAX {
                break;
            }
            let source = &self.sources[&address];
            let range = match self.choose(&source.holder.pieces, &missing) {
                Choice::Free(range) => range,
                Choice::HalfOf(other) => self.claims[&other].split(),
                Choice::Nothing => continue,
            };
            missing.retain(|piece| !range.contains(piece));
            let claim = Claim::of(range);
            let wait = self.silence * 2u32.pow(source.failures);
            let owns = source.holder.owns;
            self.claims.insert(address.clone(), Arc::clone(&claim));
            asked.push(Ask { address, owns, wait, claim });
        }
        asked
    }

    /// What a source that holds `pieces` is asked for; `free` are those that nobody is giving.
    fn choose(&self, pieces: &Range<u32>, free: &[u32]) -> Choice {
        let within = runs(free.iter().copied().filter(|piece| pieces.contains(piece)));
        if let Some(longest) = within.into_iter().max_by_key(|run| run.len()) {
            return Choice::Free(longest);
        }
        let has_all = |left: &Range<u32>| pieces.start <= left.start && left.end <= pieces.end;
        let claims = self.claims.iter().map(|(at, claim)| (at, claim.left()));
        let claims = claims.filter(|(_, left)| left.len() >= 2 && has_all(left));
        let longest = claims.max_by_key(|(_, left)| left.len());
        longest.map_or(Choice::Nothing, |(at, _)| Choice::HalfOf(at.clone()))
    }

    /// Takes note of how the stream of the source at `address` ended.
    pub(super) fn land(
        &mut self,
        address: &str,
        result: Result<(), FetchError>,
        now: Instant,
    ) -> Landing {
        let gave = self.claims.remove(address).is_some_and(|claim| claim.has_moved());
        let elapsed = now.duration_since(self.started);
        let landing = landing(result.as_ref().err(), elapsed < self.silence);
        let Some(source) = self.sources.get_mut(address) else { return landing };
        match landing {
            Landing::Done => source.failures = 0,
            Landing::Unusable => {}
            Landing::Lied => {
                source.lied = true;
                self.owner_lied |= source.holder.owns;
            }
            Landing::Early => source.ready_at = now + EARLY_WAIT,
            Landing::Failed => {
                source.ready_at = now + RETRY_WAIT_MIN * 2u32.pow(source.failures);
                // As patient as before with one that gave something.
                let failures = if gave { source.failures } else { source.failures + 1 };
                source.failures = failures.clamp(1, FAILURES_MAX);
            }
        }
        if let Err(error) = result
            && error.weight() >= self.telling.weight()
        {
            self.telling = error;
        }
        landing
    }

    /// Whether it can be had, as far as is known.
    pub(super) fn verdict(&self) -> Verdict {
        if self.sources.values().any(|source| !source.lied && source.failures == 0) {
            Verdict::Hopeful
        } else if self.claims.values().any(|claim| claim.has_moved()) {
            Verdict::Coming
        } else if self.owner_lied {
            Verdict::Rejected(RejectionCause::Invalid)
        } else {
            Verdict::Rejected(RejectionCause::Unserved)
        }
    }

    /// What says most of why it is not here yet.
    pub(super) fn telling(&self) -> String {
        self.telling.to_string()
    }

    /// When something can be asked of a source that cannot be asked now.
    pub(super) fn wakes_at(&self, now: Instant) -> Instant {
        let is_idle = |at: &String, s: &Source| !s.lied && !self.claims.contains_key(at);
        let idle = self.sources.iter().filter(|(at, source)| is_idle(at, source));
        let times = idle.map(|(_, source)| source.ready_at).chain([self.started + HELP_WAIT]);
        times.filter(|at| *at > now).min().unwrap_or(now + LOOK_EVERY)
    }
}

/// What follows from how a stream ended; `early`: it is so early that the source may not know of
/// the closed round yet.
fn landing(error: Option<&FetchError>, early: bool) -> Landing {
    match error {
        None => Landing::Done,
        Some(FetchError::Offered { .. }) => Landing::Unusable,
        Some(FetchError::Content { .. }) => Landing::Lied,
        Some(error) if early && error.is_early() => Landing::Early,
        Some(_) => Landing::Failed,
    }
}

#[cfg(test)]
mod tests;
