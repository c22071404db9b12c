//! The closed set of a round: who holds what of it, what is dropped and why, and when it is enough.

use crate::refusal::Refusal;
use crate::request::Fetched;
use crate::state::{Member, Millis, Report, State};
use crate::step::Verdict;
use crate::types::{Contribution, Phase, Rejection, RejectionCause};

/// Why a closed set is committed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enough {
    /// Nobody can get more of it.
    Settled,
    /// A quorum holds every contribution, and the others had the grace.
    Quorum,
    /// Nobody got any further for the grace.
    Stalled,
    /// The deadline of the exchange.
    Deadline,
}

impl State {
    pub(crate) fn fetched(&mut self, fetched: Fetched) -> Result<Verdict, Refusal> {
        self.authorise(&fetched.who)?;
        let Fetched { who, round, have, pieces, rejected } = fetched;
        self.check_reached(&who, round)?;
        if round != self.saved.round || self.saved.phase != Phase::Fetching {
            return Ok(Verdict::yes(format!("nothing of round {round} is to be fetched now")));
        }
        let verified = self.timers.pieces.entry(who.island.clone()).or_default();
        let mut news = pieces > *verified;
        *verified = pieces.max(*verified);
        let closed = &self.saved.closed;
        let have = have.into_iter().filter(|island| closed.contains(island));
        let rejected = rejected.into_iter().filter(|(island, _)| closed.contains(island));
        let report = self.saved.reports.entry(who.island).or_default();
        if report.epoch != who.epoch {
            *report = Report { epoch: who.epoch, ..Report::default() };
        }
        let before = (report.have.len(), report.rejected.len());
        report.have.extend(have);
        report.rejected.extend(rejected);
        // Contributions that came after all are held.
        report.rejected.retain(|island, _| !report.have.contains(island));
        news |= before != (report.have.len(), report.rejected.len());
        if news {
            self.timers.progress = Some(self.timers.now);
        }
        Ok(Verdict::yes("noted"))
    }

    /// Moves a fetching round on, if it can.
    pub(crate) fn fetch(&mut self) -> bool {
        let round = self.saved.round;
        if self.holders().next().is_none() {
            self.saved.closed.clear();
            let reason = format!("round {round}: no member holds θ any more");
            return self.enter(Phase::Waiting, reason);
        }
        let dropped = self.drop_refused();
        let complete = self.is_complete();
        self.timers.complete = complete.then(|| self.timers.complete.unwrap_or(self.timers.now));
        match self.enough() {
            Some(why) => self.commit(why),
            None => dropped,
        }
    }

    /// Drops contributions that a quorum of those that are to hold them refuses for what is in
    /// them: whoever waited for them would wait in vain.
    fn drop_refused(&mut self) -> bool {
        let refused = |owner: &&String| {
            let others = || self.holders().filter(|(island, _)| island != owner);
            let invalid = others().filter(|(island, member)| {
                let rejection = self.rejection(island, member, owner);
                rejection.is_some_and(|rejection| rejection.cause == RejectionCause::Invalid)
            });
            others().count() > 0 && invalid.count() >= self.config.quorum(others().count())
        };
        let refused: Vec<_> = self.saved.closed.iter().filter(refused).cloned().collect();
        for owner in &refused {
            let said = self.saved.reports.values().find_map(|report| report.rejected.get(owner));
            let said = said.map_or("", |rejection| rejection.detail.as_str()).to_string();
            let times = self.saved.rejected.entry(owner.clone()).or_default();
            *times = times.saturating_add(1);
            self.saved.closed.remove(owner);
            self.saved.reason =
                format!("round {}: {owner}'s contribution was refused: {said}", self.saved.round);
        }
        !refused.is_empty()
    }

    fn enough(&self) -> Option<Enough> {
        let (config, timers, now) = (&self.config, &self.timers, self.timers.now);
        let after =
            |since: Option<Millis>, wait| since.is_some_and(|since| since.plus(wait) <= now);
        let progress = Some(timers.progress.unwrap_or(timers.phase));
        let is_final = |rejection: &Rejection| match rejection.cause {
            RejectionCause::Invalid => true,
            // Every source may have failed once, and serve it when it is asked again.
            RejectionCause::Unserved => after(progress, config.unserved_ms()),
        };
        let settled = |(island, member): (&String, &Member)| {
            let held = |owner: &String| {
                self.has((island, member), owner)
                    || self.is_gone(owner)
                    || self.rejection(island, member, owner).is_some_and(is_final)
            };
            self.saved.closed.iter().all(held)
        };
        if self.holders().all(settled) {
            Some(Enough::Settled)
        } else if after(timers.complete, config.grace_ms) {
            Some(Enough::Quorum)
        } else if after(progress, config.stall_ms()) {
            Some(Enough::Stalled)
        } else {
            after(Some(timers.phase), config.fetch_deadline_ms).then_some(Enough::Deadline)
        }
    }

    /// Says whether every contribution is held by so many members that the others need not be
    /// waited for: a quorum, and not by its owner alone.
    fn is_complete(&self) -> bool {
        let live = self.holders().count();
        let enough = self.config.quorum(live).max(2).min(live);
        let holding = |owner: &String| self.holders().filter(|m| self.has(*m, owner)).count();
        self.saved.closed.iter().all(|owner| holding(owner) >= enough)
    }

    fn rejection(&self, island: &str, member: &Member, owner: &str) -> Option<&Rejection> {
        self.report(island, member)?.rejected.get(owner)
    }

    fn report(&self, island: &str, member: &Member) -> Option<&Report> {
        self.saved.reports.get(island).filter(|report| report.epoch == member.epoch)
    }

    /// Says whether a contribution went with its owner before anybody had it whole: after the
    /// grace, in which members that were cut off come back, all who are there have said so. To wait
    /// for the deadline would be in vain.
    fn is_gone(&self, owner: &str) -> bool {
        if self.timers.now < self.timers.phase.plus(self.config.grace_ms) {
            return false;
        }
        let Some(offer) = self.saved.offers.get(owner) else { return true };
        let lacks = |(island, member): (&String, &Member)| {
            self.report(island, member).is_some_and(|report| !report.have.contains(owner))
        };
        !self.is_member(owner, offer.epoch) && self.holders().all(lacks)
    }

    /// Says whether a member holds the contribution of `owner`: its own, or as it reported.
    pub(crate) fn has(&self, (island, member): (&String, &Member), owner: &str) -> bool {
        let own = island == owner && self.offer_of(owner, member.epoch).is_some();
        own || self.report(island, member).is_some_and(|report| report.have.contains(owner))
    }

    /// Says whether those that lack a contribution can still get it after the commit: a quorum
    /// holds it, or its owner and one more.
    pub(crate) fn is_obtainable(&self, contribution: &Contribution) -> bool {
        let owner = contribution.island.as_str();
        let live = self.holders().count();
        let having: Vec<_> = self.holders().filter(|member| self.has(*member, owner)).collect();
        let by_owner =
            having.iter().any(|(island, m)| *island == owner && m.epoch == contribution.epoch);
        having.len() >= self.config.quorum(live) || (by_owner && having.len() >= 2)
    }

    /// Why the contributions that are not committed are not, for people: a name and what was said.
    pub(crate) fn said_of(&self, owner: &str) -> Option<String> {
        let said = self.saved.reports.values().find_map(|report| report.rejected.get(owner))?;
        Some(format!("{owner} ({})", said.detail))
    }
}
