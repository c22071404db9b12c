//! How a round goes on: offers, the closed set, the commit, and going back when all is lost.

use std::collections::BTreeSet;

use crate::record::{Deed, Entry};
use crate::refusal::Refusal;
use crate::request::{Fetched, Offer};
use crate::state::{COMMITS_KEPT, Member, Millis, Report, STARTS_KEPT, Start, State, Timers};
use crate::step::Verdict;
use crate::text::{Text, rest};
use crate::types::{Commit, Contribution, MemberState, Phase, SampleRange};

/// Moves of the phase that one step may make; what is left follows with the next step.
const MOVES_MAX: usize = 8;
/// Islands that a reason names.
const NAMED_MAX: usize = 8;

impl State {
    pub(crate) fn offer(&mut self, offer: Offer) -> Result<Verdict, Refusal> {
        self.authorise(&offer.who)?;
        let Offer { who, round, contribution, leaving } = offer;
        let current = self.saved.round;
        self.check_reached(round)?;
        if round != current || self.saved.phase == Phase::Done {
            return Ok(Verdict::no(format!("round {round} is over")));
        }
        let earlier = self.offer_of(&who.island, who.epoch);
        let is_same = earlier == Some(&contribution);
        if self.saved.phase == Phase::Fetching {
            let counts = is_same && self.saved.closed.contains(&who.island);
            let late = Verdict::no(format!("round {round} was closed without it"));
            return Ok(if counts { Verdict::yes("offered before") } else { late });
        }
        let Some((_, member)) = self.holders().find(|(island, _)| **island == who.island) else {
            return Err(Refusal::NotHolding { round });
        };
        if self.saved.phase == Phase::Training && member.state == MemberState::Ready {
            return Ok(Verdict::no(format!("the island takes part from round {} on", round + 1)));
        }
        if earlier.is_some() && !is_same {
            return Err(Refusal::OfferChanged { round });
        }
        self.saved.offers.insert(who.island.clone(), contribution);
        if let Some(member) = self.saved.members.get_mut(&who.island) {
            member.leaving |= leaving;
        }
        Ok(Verdict::yes("offered"))
    }

    pub(crate) fn fetched(&mut self, fetched: Fetched) -> Result<Verdict, Refusal> {
        self.authorise(&fetched.who)?;
        let (round, current) = (fetched.round, self.saved.round);
        self.check_reached(round)?;
        if round != current || self.saved.phase != Phase::Fetching {
            return Ok(Verdict::yes(format!("nothing of round {round} is to be fetched now")));
        }
        let epoch = fetched.who.epoch;
        let closed = &self.saved.closed;
        let have: BTreeSet<_> =
            fetched.have.into_iter().filter(|island| closed.contains(island)).collect();
        let reports = &mut self.saved.reports;
        match reports.get_mut(&fetched.who.island).filter(|report| report.epoch == epoch) {
            Some(report) => report.have.extend(have),
            None => {
                reports.insert(fetched.who.island, Report { epoch, have });
            }
        }
        Ok(Verdict::yes("noted"))
    }

    /// Lets time and what has happened move the run on as far as it goes.
    pub(crate) fn advance(&mut self) {
        self.expire();
        for _ in 0..MOVES_MAX {
            let moved = match self.saved.phase {
                Phase::Waiting => self.begin(),
                Phase::Training => self.train(),
                Phase::Fetching => self.fetch(),
                Phase::Done => self.is_lost() && self.begin(),
            };
            if !moved {
                break;
            }
        }
        self.allot_samples();
    }

    /// When the phase may move on without an event.
    pub(crate) fn phase_wakeups(&self) -> impl Iterator<Item = Millis> {
        let (config, timers) = (&self.config, &self.timers);
        let wakeups = match self.saved.phase {
            Phase::Waiting | Phase::Done => {
                [timers.enough.map(|since| since.plus(config.grace_ms)), None]
            }
            Phase::Training => [Some(timers.phase.plus(config.deadline_ms)), self.closes_at()],
            Phase::Fetching => [config.fetch_deadline_ms, config.grace_ms]
                .map(|after| Some(timers.phase.plus(after))),
        };
        wakeups.into_iter().flatten()
    }

    fn has_no_followers(&self) -> bool {
        self.saved.members.values().all(|member| member.state == MemberState::Syncing)
    }

    /// Members are there, and none of them can go on.
    fn is_lost(&self) -> bool {
        !self.saved.members.is_empty() && self.has_no_followers()
    }

    fn enter(&mut self, phase: Phase, reason: String) -> bool {
        self.saved.phase = phase;
        self.saved.reason = reason;
        let leases = std::mem::take(&mut self.timers.leases);
        let now = self.timers.now;
        self.timers = Timers { now, phase: now, leases, ..Timers::default() };
        true
    }

    // Waiting

    fn begin(&mut self) -> bool {
        let (config, joined) = (&self.config, self.saved.members.len());
        let all = joined >= config.islands as usize;
        let enough = joined >= config.minimum as usize;
        let now = self.timers.now;
        self.timers.enough = enough.then(|| self.timers.enough.unwrap_or(now));
        let waited = self.timers.enough.is_some_and(|since| since.plus(config.grace_ms) <= now);
        if !all && !waited {
            self.saved.reason = format!(
                "round {}: {joined} of {} islands have joined; {} suffice after {} ms",
                self.saved.round, config.islands, config.minimum, config.grace_ms
            );
            return false;
        }
        if self.has_no_followers() {
            return self.go_back();
        }
        let round = self.saved.round;
        for member in self.saved.members.values_mut() {
            if member.state == MemberState::Ready && !member.leaving {
                member.state = MemberState::Active;
            }
        }
        let why = if all { "all islands have joined" } else { "enough islands have joined" };
        self.enter(Phase::Training, format!("round {round} begins: {why}"))
    }

    /// Nobody holds θ of the round in progress: on from the newest round that somebody does hold.
    fn go_back(&mut self) -> bool {
        let from = self.saved.round;
        let members = self.saved.members.values();
        let newest = members.filter(|member| self.is_verified(member)).map(|m| m.round).max();
        let Some(to) = newest.filter(|to| *to <= from) else {
            self.saved.reason = format!(
                "round {from} is lost: none of {} islands holds θ of any round on record",
                self.saved.members.len()
            );
            return false;
        };
        let holders = self.saved.members.iter().filter(|(_, m)| self.is_verified(m));
        let holders = names(holders.filter(|(_, m)| m.round == to).map(|(island, _)| island));
        let reason = format!("no member holds round {from} any more; {holders} held round {to}");
        if to < from {
            self.append(Deed::Rewind { from, to, reason: reason.clone() });
            self.saved.round = to;
            self.saved.starts.split_off(&(to + 1));
            self.saved.commits.retain(|commit| commit.round < to);
            // What θ of `to` never saw is handed out again.
            self.saved.text = Text::from(self.start().samples);
            // Those beyond hold what will never have been.
            self.saved.checkpoint.take_if(|kept| kept.round > to);
            self.clear_round();
        }
        let theta = self.start().theta;
        let (phase, state) = if self.tokens() >= self.config.tokens {
            (Phase::Done, MemberState::Ready)
        } else {
            (Phase::Training, MemberState::Active)
        };
        for member in self.saved.members.values_mut() {
            let holds = member.round == to && Some(member.theta) == theta;
            member.state = if holds { state } else { MemberState::Syncing };
        }
        self.enter(phase, reason)
    }

    // Training

    fn train(&mut self) -> bool {
        let round = self.saved.round;
        if self.has_no_followers() {
            let reason = format!("round {round}: no member holds θ any more");
            return self.enter(Phase::Waiting, reason);
        }
        self.promote_if_nobody_is_active();
        let (offers, active) = (self.live_offers().len(), self.active().count());
        let now = self.timers.now;
        let quorum = self.config.quorum(active);
        self.timers.offered = (offers > 0).then(|| self.timers.offered.unwrap_or(now));
        self.timers.quorum = (offers >= quorum).then(|| self.timers.quorum.unwrap_or(now));
        let missing = self.active().filter(|(island, m)| self.offer_of(island, m.epoch).is_none());
        let missing: Vec<_> = missing.map(|(island, _)| island.clone()).collect();
        if offers > 0 && missing.is_empty() {
            return self.close(format!("round {round} closed: all {offers} islands offered"));
        }
        if self.closes_at().is_some_and(|at| at <= now) {
            let by = if self.timers.quorum.is_some() { "a quorum" } else { "the deadline" };
            let missing = names(missing.iter());
            return self.close(format!("round {round} closed by {by}: without {missing}"));
        }
        let overdue = self.timers.phase.plus(self.config.deadline_ms) <= now;
        if offers > 0 {
            self.saved.reason = format!("round {round}: {offers} of {active} islands have offered");
        } else if overdue {
            self.saved.reason = format!("round {round} is past its deadline; nobody has offered");
        }
        overdue && offers == 0 && self.demote_laggards()
    }

    /// With an offer: the grace after a quorum, or the deadline. An offer that comes only after the
    /// deadline gives the others the grace, too.
    fn closes_at(&self) -> Option<Millis> {
        let grace = self.config.grace_ms;
        let deadline = self.timers.phase.plus(self.config.deadline_ms);
        let offered = self.timers.offered?;
        let at_deadline = if offered < deadline { deadline } else { offered.plus(grace) };
        let at_quorum = self.timers.quorum.map(|since| since.plus(grace));
        Some(at_quorum.map_or(at_deadline, |at| at.min(at_deadline)))
    }

    fn active(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.saved.members.iter().filter(|(_, member)| member.state == MemberState::Active)
    }

    /// Offers whose owner is there; nobody else has them before the set is closed.
    fn live_offers(&self) -> BTreeSet<String> {
        let offers = self.saved.offers.iter();
        let live = offers.filter(|(island, offer)| self.is_member(island, offer.epoch));
        live.map(|(island, _)| island.clone()).collect()
    }

    /// Without active members nothing would ever be committed, and ready ones would wait for ever.
    fn promote_if_nobody_is_active(&mut self) {
        if self.active().next().is_some() {
            return;
        }
        let round = self.saved.round;
        for member in self.saved.members.values_mut() {
            let is_ready = member.state == MemberState::Ready && member.round == round;
            if is_ready && !member.leaving {
                member.state = MemberState::Active;
            }
        }
    }

    /// Members that never applied the round before cannot offer; they must not hold up those that
    /// could take their place.
    fn demote_laggards(&mut self) -> bool {
        let round = self.saved.round;
        let late: Vec<_> = self.active().filter(|(_, member)| member.round < round).collect();
        let late: Vec<_> = late.into_iter().map(|(island, _)| island.clone()).collect();
        late.iter().for_each(|island| self.demote(island));
        !late.is_empty()
    }

    fn close(&mut self, reason: String) -> bool {
        self.saved.closed = self.live_offers();
        self.enter(Phase::Fetching, reason)
    }

    // Fetching

    fn fetch(&mut self) -> bool {
        let round = self.saved.round;
        if self.holders().next().is_none() {
            self.saved.closed.clear();
            let reason = format!("round {round}: no member holds θ any more");
            return self.enter(Phase::Waiting, reason);
        }
        let complete = |member: &(&String, &Member)| {
            self.saved.closed.iter().all(|owner| self.has(*member, owner) || self.is_gone(owner))
        };
        let all = self.holders().all(|member| complete(&member));
        let overdue = self.timers.phase.plus(self.config.fetch_deadline_ms) <= self.timers.now;
        if all || overdue {
            return self.commit();
        }
        false
    }

    /// Whether a contribution went with its owner before anybody had it whole: after the grace, in
    /// which members that were cut off come back, all who are there have said so. To wait for the
    /// deadline would be in vain.
    fn is_gone(&self, owner: &str) -> bool {
        if self.timers.now < self.timers.phase.plus(self.config.grace_ms) {
            return false;
        }
        let Some(offer) = self.saved.offers.get(owner) else { return true };
        let lacks = |(island, member): (&String, &Member)| {
            let report = self.saved.reports.get(island).filter(|r| r.epoch == member.epoch);
            report.is_some_and(|report| !report.have.contains(owner))
        };
        !self.is_member(owner, offer.epoch) && self.holders().all(lacks)
    }

    /// Whether a member holds the contribution of `owner`: its own, or as it reported.
    fn has(&self, (island, member): (&String, &Member), owner: &str) -> bool {
        let own = island == owner && self.offer_of(owner, member.epoch).is_some();
        let report = self.saved.reports.get(island).filter(|r| r.epoch == member.epoch);
        own || report.is_some_and(|report| report.have.contains(owner))
    }

    /// Whether those that lack a contribution can still get it after the commit: a quorum holds it,
    /// or its owner and one more.
    fn is_obtainable(&self, contribution: &Contribution) -> bool {
        let owner = contribution.island.as_str();
        let live = self.holders().count();
        let having: Vec<_> = self.holders().filter(|member| self.has(*member, owner)).collect();
        let by_owner =
            having.iter().any(|(island, m)| *island == owner && m.epoch == contribution.epoch);
        having.len() >= self.config.quorum(live) || (by_owner && having.len() >= 2)
    }

    fn commit(&mut self) -> bool {
        let round = self.saved.round;
        let closed = self.closed_set();
        let (set, dropped): (Vec<_>, Vec<_>) =
            closed.into_iter().partition(|contribution| self.is_obtainable(contribution));
        let tokens = set.iter().fold(self.tokens(), |sum, c| sum.saturating_add(c.tokens));
        for contribution in &set {
            let given = self.saved.given.entry(contribution.island.clone()).or_default();
            *given = given.saturating_add(contribution.tokens);
        }
        let mut reason = format!("round {round} committed with {} contributions", set.len());
        if !dropped.is_empty() {
            let dropped = names(dropped.iter().map(|contribution| &contribution.island));
            reason.push_str(&format!("; too few hold those of {dropped}"));
        }
        let record_hash = self.append(Deed::Commit { round, set: set.clone() });
        self.return_samples(&set);
        let samples = self.saved.text.next;
        self.saved.commits.push(Commit { round, set, record_hash, tokens, samples });
        let surplus = self.saved.commits.len().saturating_sub(COMMITS_KEPT);
        self.saved.commits.drain(..surplus);
        self.begin_round(tokens);
        let target = self.config.tokens;
        if tokens >= target {
            self.settle_members(MemberState::Ready);
            reason.push_str(&format!("; the run has its {target} tokens"));
            return self.enter(Phase::Done, reason);
        }
        self.settle_members(MemberState::Active);
        self.enter(Phase::Training, reason)
    }

    fn begin_round(&mut self, tokens: u64) {
        self.clear_round();
        let round = self.saved.round + 1;
        self.saved.round = round;
        self.saved.highest = self.saved.highest.max(round);
        let samples = self.saved.text.next;
        self.saved.starts.insert(round, Start { theta: None, tokens, samples });
        // Round 0 stays: whoever has the seed can begin there.
        self.saved.starts.retain(|start, _| *start == 0 || start + STARTS_KEPT > round);
    }

    /// Members that could follow the committed round take part in the next, unless they leave;
    /// the others are too far behind.
    fn settle_members(&mut self, state: MemberState) {
        let committed = self.saved.round - 1;
        for member in self.saved.members.values_mut() {
            let followed = member.state != MemberState::Syncing && member.round == committed;
            member.state = match (followed, member.leaving) {
                (true, false) => state,
                (true, true) => MemberState::Ready,
                (false, _) => MemberState::Syncing,
            };
        }
    }

    fn clear_round(&mut self) {
        self.saved.offers.clear();
        self.saved.closed.clear();
        self.saved.reports.clear();
        self.saved.votes.clear();
        self.saved.allotted.clear();
    }

    /// Gives every member that trains in this round its samples.
    fn allot_samples(&mut self) {
        if self.saved.phase != Phase::Training {
            return;
        }
        let saved = &mut self.saved;
        for (island, member) in &saved.members {
            let held = saved.allotted.get(island);
            let count = held.map(|ranges| ranges.iter().map(SampleRange::count).sum::<u64>());
            let offered = saved.offers.contains_key(island);
            let is_due = member.state == MemberState::Active && !offered;
            if !is_due || count == Some(member.round_samples) {
                continue;
            }
            saved.text.give_back(saved.allotted.remove(island).into_iter().flatten());
            let ranges = saved.text.hand_out(member.round_samples);
            saved.allotted.insert(island.clone(), ranges);
        }
    }

    /// What nobody trained on in the round that ends is handed out again: the rest of those that
    /// made fewer steps, and all of those that went away without a contribution. Whoever is there
    /// has its work in its residual, even if it did not count.
    fn return_samples(&mut self, set: &[Contribution]) {
        for (island, ranges) in std::mem::take(&mut self.saved.allotted) {
            let counted = set.iter().find(|contribution| contribution.island == island);
            let member = self.saved.members.get(&island);
            let used = match (counted, member) {
                (Some(contribution), Some(member)) => member.samples_of(contribution.steps),
                (Some(_), None) | (None, Some(_)) => u64::MAX,
                (None, None) => 0,
            };
            self.saved.text.give_back(rest(&ranges, used));
        }
    }

    fn append(&mut self, deed: Deed) -> crate::types::Digest {
        let entry = Entry::new(self.saved.record_length, self.saved.record_hash, deed);
        self.saved.record_length += 1;
        self.saved.record_hash = entry.hash;
        self.entries.push(entry);
        self.saved.record_hash
    }
}

/// A bounded list of names for people.
fn names<'a>(islands: impl Iterator<Item = &'a String>) -> String {
    let islands: Vec<&str> = islands.map(String::as_str).collect();
    let named = islands[..islands.len().min(NAMED_MAX)].join(", ");
    match islands.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
