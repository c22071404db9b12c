//! Membership: joining, leases, leaving, and agreement on θ.

use crate::refusal::Refusal;
use crate::request::{Applied, Identity, Join, Kept, Leave, Ready};
use crate::state::{LayoutId, MEMBER_NAMES_MAX, Member, Start, State};
use crate::step::Verdict;
use crate::types::{Digest, MemberState, Phase, RankAddress};

impl State {
    pub(crate) fn heartbeat(&mut self, who: &Identity) -> Result<Verdict, Refusal> {
        match self.authorise(who) {
            Ok(()) => Ok(Verdict::yes("known")),
            Err(Refusal::UnknownMember { .. }) => Ok(Verdict::no("the lease has ended; join")),
            Err(refusal) => Err(refusal),
        }
    }

    pub(crate) fn join(&mut self, join: Join) -> Result<Verdict, Refusal> {
        self.check_epoch(&join.who)?;
        let island = &join.who.island;
        let known = self.saved.members.get(island).filter(|m| m.epoch == join.who.epoch);
        if known.is_some_and(|member| member.ranks != join.ranks) {
            let epoch = join.who.epoch;
            return Err(Refusal::AlreadyMember { island: island.clone(), epoch });
        }
        if known.is_some_and(|member| self.is_overtaken(member, join.round)) {
            // A copy of a call that was made before: the member has come further since.
            self.renew(island);
            return Ok(Verdict::yes("known to be further"));
        }
        let layout = self.check_layout(&join)?;
        self.check_beginning(&join)?;
        self.check_room(island)?;

        let stays = known.filter(|m| (m.round, m.theta) == (join.round, join.theta_hash));
        let state = stays.map_or(MemberState::Syncing, |member| member.state);
        let missed = stays.map_or(0, |member| member.missed);
        let descends = stays.is_some_and(|member| member.descends);
        self.saved.layout = Some(layout);
        self.saved.epochs.insert(island.clone(), join.who.epoch);
        let (round, theta) = (join.round, join.theta_hash);
        // It has lost the later checkpoints that it kept before, or it would join with one of them.
        self.saved.kept.retain(|keeper, kept| keeper != island || *kept <= round);
        let member = Member {
            epoch: join.who.epoch,
            ranks: join.ranks,
            state,
            round,
            theta,
            leaving: false,
            round_samples: join.round_samples,
            inner_steps: join.inner_steps,
            tokens: join.tokens,
            samples: join.samples,
            missed,
            descends,
            complaint: join.complaint,
        };
        self.saved.members.insert(island.clone(), member);
        self.timers.joined = self.timers.now;
        self.renew(island);
        Ok(Verdict::yes(self.take_in(island, round, theta, self.standing())))
    }

    /// Says whether a member has come further than `round`, in which a call of the same epoch says
    /// it is. One that goes back does so because the run did.
    fn is_overtaken(&self, member: &Member, round: u64) -> bool {
        round < member.round && member.round <= self.saved.round && self.may_be_true(member)
    }

    pub(crate) fn ready(&mut self, ready: &Ready) -> Result<Verdict, Refusal> {
        self.authorise(&ready.who)?;
        let round = ready.round;
        self.check_reached(&ready.who, round)?;
        if round > self.saved.round {
            return Ok(Verdict::no(format!("round {round} was taken back")));
        }
        let recorded = self.saved.starts.get(&round).and_then(|start| start.theta);
        if recorded != Some(ready.theta_hash) {
            return Ok(Verdict::no(format!("θ of round {round} differs from the others'")));
        }
        let (island, theta) = (&ready.who.island, ready.theta_hash);
        Ok(Verdict::yes(self.take_in(island, round, theta, MemberState::Ready)))
    }

    pub(crate) fn applied(&mut self, applied: &Applied) -> Result<Verdict, Refusal> {
        self.authorise(&applied.who)?;
        let (island, theta) = (&applied.who.island, applied.theta_hash);
        let next = applied.round.saturating_add(1);
        self.check_reached(&applied.who, next)?;
        if next > self.saved.round {
            // It has left the round that the run went back to.
            if let Some(member) = self.saved.members.get_mut(island) {
                (member.round, member.theta) = (next, theta);
            }
            self.demote(island);
            return Ok(Verdict::no(format!("round {} was taken back", applied.round)));
        }
        let member = self.saved.members.get(island);
        let held = member.map_or(0, |member| member.round);
        let descends = member.is_some_and(|m| m.descends || self.is_verified(m));
        if next >= held {
            self.take_in(island, next, theta, self.standing());
        }
        if let Some(member) = self.saved.members.get_mut(island).filter(|_| next == held + 1) {
            member.descends = descends;
        }
        self.agree(false);
        let agreed = self.saved.starts.get(&next).and_then(|start| start.theta);
        match agreed {
            Some(agreed) if agreed == theta => Ok(Verdict::yes("θ agrees")),
            None if next == self.saved.round => Ok(Verdict::yes("the others are still to say")),
            _ => Ok(Verdict::no(format!("θ of round {next} differs from the others'"))),
        }
    }

    pub(crate) fn kept(&mut self, kept: Kept) -> Result<Verdict, Refusal> {
        self.authorise(&kept.who)?;
        let round = kept.round;
        self.check_reached(&kept.who, round)?;
        if round > self.saved.round {
            return Ok(Verdict::no(format!("round {round} was taken back")));
        }
        let newest = self.saved.kept.entry(kept.who.island).or_default();
        *newest = round.max(*newest);
        Ok(Verdict::yes("noted"))
    }

    pub(crate) fn leave(&mut self, leave: &Leave) -> Result<Verdict, Refusal> {
        self.authorise(&leave.who)?;
        self.remove(&leave.who.island);
        Ok(Verdict::yes(format!("island {} left: {}", leave.who.island, leave.reason)))
    }

    /// Removes the members whose lease has ended.
    pub(crate) fn expire(&mut self) {
        let now = self.timers.now;
        let ended = self.timers.leases.iter().filter(|(_, ends)| **ends <= now);
        for island in ended.map(|(island, _)| island.clone()).collect::<Vec<_>>() {
            self.remove(&island);
        }
    }

    /// The member that `who` is, its lease renewed.
    pub(crate) fn authorise(&mut self, who: &Identity) -> Result<(), Refusal> {
        self.check_epoch(who)?;
        if !self.is_member(&who.island, who.epoch) {
            let Identity { island, epoch, .. } = who.clone();
            return Err(Refusal::UnknownMember { island, epoch });
        }
        self.renew(&who.island);
        Ok(())
    }

    /// The state of a member that holds θ of the round in progress.
    pub(crate) fn standing(&self) -> MemberState {
        if self.saved.phase == Phase::Training { MemberState::Active } else { MemberState::Ready }
    }

    /// Makes a member one that cannot take part: its θ is not the run's, so its offer is void.
    pub(crate) fn demote(&mut self, island: &str) {
        let Some(member) = self.saved.members.get_mut(island) else { return };
        member.state = MemberState::Syncing;
        let epoch = member.epoch;
        if self.offer_of(island, epoch).is_some() {
            self.saved.offers.remove(island);
            self.saved.closed.remove(island);
        }
    }

    /// Notes that a member holds θ of `round`, and lets it take part as `standing` if it can. While
    /// θ of the round in progress is not agreed, its word may count for it.
    fn take_in(
        &mut self,
        island: &str,
        round: u64,
        theta: Digest,
        standing: MemberState,
    ) -> &'static str {
        let current = self.saved.round;
        let Some(member) = self.saved.members.get_mut(island) else { return "unknown" };
        (member.round, member.theta) = (round, theta);
        let is_syncing = member.state == MemberState::Syncing;
        self.saved.held.insert(island.to_string(), round);
        self.timers.heard.insert(island.to_string());
        if round > self.saved.highest {
            self.demote(island);
            return "ahead of all that the coordinator knows";
        }
        if round == current && self.start().theta.is_none() {
            self.vote(island, theta);
            return "holds θ of the round in progress, as far as it says";
        }
        let verified = self.saved.members.get(island).is_some_and(|m| self.is_verified(m));
        if !verified {
            self.saved.held.remove(island);
            self.demote(island);
            return "θ differs from the run's; a snapshot is needed";
        }
        if round != current {
            if is_syncing {
                self.demote(island);
            }
            return "behind the run; a snapshot or the commits in between are needed";
        }
        if let Some(member) = self.saved.members.get_mut(island).filter(|_| is_syncing) {
            member.state = standing;
        }
        "holds θ of the round in progress"
    }

    fn renew(&mut self, island: &str) {
        let ends = self.timers.now.plus(self.config.lease_ms);
        self.timers.leases.insert(island.to_string(), ends);
    }

    /// Offers stay: in a closed set others may serve them, and before that only a member's count.
    fn remove(&mut self, island: &str) {
        self.saved.members.remove(island);
        self.timers.leases.remove(island);
        self.timers.heard.remove(island);
        if self.saved.highest == 0 && self.saved.members.is_empty() {
            // Nothing was committed, so whoever comes next may begin otherwise.
            self.saved.layout = None;
            self.saved.starts.insert(0, Start::default());
            self.saved.offers.clear();
        }
    }

    fn check_epoch(&self, who: &Identity) -> Result<(), Refusal> {
        if who.run != self.saved.run {
            let (run, asked) = (self.saved.run.clone(), who.run.clone());
            return Err(Refusal::WrongRun { run, asked });
        }
        match self.newest_epoch(&who.island) {
            Some(newest) if newest > who.epoch => {
                let Identity { island, epoch, .. } = who.clone();
                Err(Refusal::Superseded { island, epoch, newest })
            }
            _ => Ok(()),
        }
    }

    fn check_layout(&self, join: &Join) -> Result<LayoutId, Refusal> {
        let pieces = count_pieces(&join.ranks)?;
        let layout = LayoutId { hash: join.layout_hash, pieces };
        if self.saved.layout.is_some_and(|run| run != layout) {
            return Err(Refusal::LayoutDiffers);
        }
        Ok(layout)
    }

    /// A round that the run was in once may be spoken of, even if it was taken back since. Of one
    /// that the run was never in, as far as the coordinator's store goes, it has to hear in a join.
    pub(crate) fn check_reached(&self, who: &Identity, round: u64) -> Result<(), Refusal> {
        if round > self.saved.highest {
            let (island, current) = (who.island.clone(), self.saved.round);
            return Err(Refusal::NotReached { island, round, current });
        }
        Ok(())
    }

    /// Islands of another seed or model are told so at once; whose beginning counts is agreed when
    /// the run begins.
    fn check_beginning(&self, join: &Join) -> Result<(), Refusal> {
        let first = self.saved.starts.get(&0).and_then(|start| start.theta);
        if join.round == 0 && first.is_some_and(|theta| theta != join.theta_hash) {
            return Err(Refusal::ThetaDiffers { round: 0 });
        }
        Ok(())
    }

    fn check_room(&self, island: &str) -> Result<(), Refusal> {
        let max = self.config.max_members;
        let room = max as usize;
        let is_member = self.saved.members.contains_key(island);
        let is_known = self.saved.epochs.contains_key(island);
        let members_full = !is_member && self.saved.members.len() >= room;
        let names_full = !is_known && self.saved.epochs.len() >= room * MEMBER_NAMES_MAX;
        if members_full || names_full { Err(Refusal::Full { max }) } else { Ok(()) }
    }
}

/// The number of pieces, if the ranks hold each of them exactly once.
fn count_pieces(ranks: &[RankAddress]) -> Result<u32, Refusal> {
    let ranges = ranks.iter().map(|rank| (rank.first_piece, rank.end_piece));
    let mut ranges: Vec<_> = ranges.filter(|(first, end)| first < end).collect();
    ranges.sort_unstable();
    let mut end = 0;
    for (first, next) in ranges {
        if first != end {
            let verb = if first > end { "missing" } else { "held twice" };
            let problem = format!("piece {} is {verb}", first.min(end));
            return Err(Refusal::Pieces { problem });
        }
        end = next;
    }
    if end == 0 { Err(Refusal::Pieces { problem: "there is none".into() }) } else { Ok(end) }
}
