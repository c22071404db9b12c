//! How a round goes on: its beginning, offers, the closed set and the commit.

use std::collections::BTreeSet;

use crate::fetching::Enough;
use crate::record::{Deed, Entry};
use crate::refusal::Refusal;
use crate::request::Offer;
use crate::state::{COMMITS_KEPT_MAX, Member, Millis, STARTS_KEPT_MAX, Start, State, Timers};
use crate::step::Verdict;
use crate::text::rest;
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
        self.check_reached(&who, round)?;
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
            // It was outvoted while it trained, or its lease ended: the view says how it goes on.
            return Ok(Verdict::no(format!("the island does not hold θ of round {round}")));
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
            member.missed = 0;
        }
        Ok(Verdict::yes("offered"))
    }

    /// Lets time and what has happened move the run on as far as it goes.
    pub(crate) fn advance(&mut self) {
        self.expire();
        for _ in 0..MOVES_MAX {
            self.agree(false);
            if self.catch_up() {
                continue;
            }
            if let Some(reason) = self.ahead() {
                self.saved.reason = reason;
                break;
            }
            let moved = match self.saved.phase {
                Phase::Waiting => self.begin(),
                Phase::Training => self.train(),
                Phase::Fetching => self.fetch(),
                // Whoever comes now takes the model; nobody takes the run back.
                Phase::Done => false,
            };
            if !moved {
                break;
            }
        }
        self.allot_samples();
    }

    /// The times at which the phase may move on without an event.
    pub(crate) fn phase_wakeups(&self) -> impl Iterator<Item = Millis> {
        let (config, timers) = (&self.config, &self.timers);
        let grace = |since: Option<Millis>| since.map(|since| since.plus(config.grace_ms));
        let progress = timers.progress.unwrap_or(timers.phase);
        let wakeups = match self.saved.phase {
            Phase::Done => [None; 5],
            Phase::Waiting => [grace(timers.enough), None, None, None, None],
            Phase::Training => {
                [Some(timers.phase.plus(config.deadline_ms)), self.closes_at(), None, None, None]
            }
            Phase::Fetching => [
                Some(timers.phase.plus(config.fetch_deadline_ms)),
                Some(timers.phase.plus(config.grace_ms)),
                grace(timers.complete),
                Some(progress.plus(config.stall_ms())),
                Some(progress.plus(config.unserved_ms())),
            ],
        };
        let waits = self.gives_up_at().chain(grace(timers.voted));
        wakeups.into_iter().flatten().chain(waits)
    }

    fn has_no_followers(&self) -> bool {
        self.saved.members.values().all(|member| member.state == MemberState::Syncing)
    }

    pub(crate) fn enter(&mut self, phase: Phase, reason: String) -> bool {
        self.saved.phase = phase;
        self.saved.reason = reason;
        let leases = std::mem::take(&mut self.timers.leases);
        let heard = std::mem::take(&mut self.timers.heard);
        let Timers { now, joined, ahead, .. } = self.timers;
        self.timers = Timers { now, phase: now, leases, heard, joined, ahead, ..Timers::default() };
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
        let round = self.saved.round;
        let voted = self.timers.voted.filter(|_| self.start().theta.is_none());
        if voted.is_some_and(|since| now < since.plus(config.grace_ms)) {
            self.saved.reason = format!("round {round}: not all have said yet what θ is");
            return false;
        }
        self.agree(true);
        if self.has_no_followers() {
            return self.go_back();
        }
        for member in self.saved.members.values_mut() {
            if member.state == MemberState::Ready && !member.leaving {
                member.state = MemberState::Active;
            }
        }
        let why = if all { "all islands have joined" } else { "enough islands have joined" };
        self.enter(Phase::Training, format!("round {round} begins: {why}"))
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
        self.timers.offered = (offers > 0).then(|| self.timers.offered.unwrap_or(now));
        self.saved.closing = offers >= self.config.quorum(active);
        self.timers.quorum = self.saved.closing.then(|| self.timers.quorum.unwrap_or(now));
        let missing: Vec<_> = self.missing().map(|(island, _)| island.clone()).collect();
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

    /// Active members that have not offered in this round.
    fn missing(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.active().filter(|(island, m)| self.offer_of(island, m.epoch).is_none())
    }

    /// With an offer: the grace after a quorum, or the deadline. An offer that comes only after the
    /// deadline gives the others the grace, too.
    fn closes_at(&self) -> Option<Millis> {
        let grace = self.config.grace_ms;
        let deadline = self.timers.phase.plus(self.config.deadline_ms);
        let offered = self.timers.offered?;
        let at_deadline = if offered < deadline { deadline } else { offered.plus(grace) };
        let at_quorum = self.timers.quorum.map(|since| since.plus(self.grace_of_missing()));
        Some(at_quorum.map_or(at_deadline, |at| at.min(at_deadline)))
    }

    /// How long the missing are waited for after a quorum: who missed rounds before is waited for
    /// half as long with each, so that one that hangs does not cost a grace in every round.
    fn grace_of_missing(&self) -> u64 {
        let halved = |member: &Member| self.config.grace_ms.checked_shr(member.missed).unwrap_or(0);
        self.missing().map(|(_, member)| halved(member)).max().unwrap_or(0)
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
        debug_assert!(self.saved.closed.is_empty(), "a set is closed once");
        // From here on it matters whose θ the contributions belong to.
        let offered = self.live_offers();
        self.agree(true);
        let closed = self.live_offers();
        if closed != offered || closed.is_empty() {
            // Some of those that offered were outvoted: the others may be too few.
            return !closed.is_empty();
        }
        let missing: Vec<_> = self.missing().map(|(island, _)| island.clone()).collect();
        for island in missing {
            if let Some(member) = self.saved.members.get_mut(&island) {
                member.missed = member.missed.saturating_add(1);
            }
        }
        self.saved.closed = closed;
        self.saved.closing = false;
        self.enter(Phase::Fetching, reason)
    }

    // Committing

    pub(crate) fn commit(&mut self, why: Enough) -> bool {
        debug_assert_eq!(self.saved.phase, Phase::Fetching, "only what was closed is committed");
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
            let said = |c: &Contribution| self.said_of(&c.island).unwrap_or(c.island.clone());
            let dropped: Vec<_> = dropped.iter().map(said).collect();
            reason.push_str(&format!("; too few hold those of {}", names(dropped.iter())));
        }
        match why {
            Enough::Settled => {}
            Enough::Quorum => reason.push_str("; a quorum holds them"),
            Enough::Stalled => reason.push_str("; nobody got any further"),
            Enough::Deadline => reason.push_str("; the exchange took too long"),
        }
        self.saved.voters = self.voters_after(&set);
        let record_hash = self.append(Deed::Commit { round, set: set.clone() });
        self.return_samples(&set);
        let samples = self.saved.text.next;
        self.saved.commits.push(Commit { round, set, record_hash, tokens, samples });
        let surplus = self.saved.commits.len().saturating_sub(COMMITS_KEPT_MAX);
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
        let before = self.saved.starts.insert(round, Start { theta: None, tokens, samples });
        debug_assert!(before.is_none(), "round {round} began before, and was not taken back");
        // Round 0 stays: whoever has the seed can begin there.
        self.saved.starts.retain(|start, _| *start == 0 || start + STARTS_KEPT_MAX > round);
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

    pub(crate) fn clear_round(&mut self) {
        self.saved.offers.clear();
        self.saved.closed.clear();
        self.saved.reports.clear();
        self.saved.votes.clear();
        self.saved.allotted.clear();
        self.saved.closing = false;
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
            let offer = saved.offers.get(island);
            let offered = offer.is_some_and(|offer| offer.epoch == member.epoch);
            let is_due = member.state == MemberState::Active && !offered;
            if !is_due || count == Some(member.round_samples) {
                continue;
            }
            saved.text.give_back(saved.allotted.remove(island).into_iter().flatten());
            let ranges = saved.text.hand_out(member.round_samples);
            saved.allotted.insert(island.clone(), ranges);
        }
    }

    /// Hands out again what nobody trained on in the round that ends: the rest of those that made
    /// fewer steps, and all of those that went away without a contribution. Whoever is there has
    /// its work in its residual, even if it did not count.
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

    pub(crate) fn append(&mut self, deed: Deed) -> crate::types::Digest {
        let entry = Entry::new(self.saved.record_length, self.saved.record_hash, deed);
        self.saved.record_length += 1;
        self.saved.record_hash = entry.hash;
        self.entries.push(entry);
        self.saved.record_hash
    }
}

/// A bounded list of names for people.
pub(crate) fn names<'a>(islands: impl Iterator<Item = &'a String>) -> String {
    let islands: Vec<&str> = islands.map(String::as_str).collect();
    let named = islands[..islands.len().min(NAMED_MAX)].join(", ");
    match islands.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
