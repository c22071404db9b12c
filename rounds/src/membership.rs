//! Who takes part: joining, leases, leaving, and agreement on θ.

use crate::refusal::Refusal;
use crate::request::{Applied, Identity, Join, Kept, Leave, Ready};
use crate::state::{LayoutId, Member, NAMES_PER_MEMBER, Start, State, Vote};
use crate::step::Verdict;
use crate::types::{Checkpoint, Digest, MemberState, Phase, RankAddress};

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
        let layout = self.check_layout(&join)?;
        self.check_round(&join)?;
        self.check_room(island)?;

        let stays = known.filter(|m| (m.round, m.theta) == (join.round, join.theta_hash));
        let state = stays.map_or(MemberState::Syncing, |member| member.state);
        self.saved.layout = Some(layout);
        self.saved.epochs.insert(island.clone(), join.who.epoch);
        if join.round == 0 {
            // Who comes first says what θ of round 0 is; `check_round` has compared the others'.
            self.saved.starts.entry(0).or_default().theta = Some(join.theta_hash);
        }
        let (round, theta) = (join.round, join.theta_hash);
        let member = Member {
            epoch: join.who.epoch,
            ranks: join.ranks,
            state,
            round,
            theta,
            leaving: false,
            round_samples: join.round_samples,
            inner_steps: join.inner_steps,
        };
        self.saved.members.insert(island.clone(), member);
        self.renew(island);
        Ok(Verdict::yes(self.take_in(island, round, theta, self.standing())))
    }

    pub(crate) fn ready(&mut self, ready: &Ready) -> Result<Verdict, Refusal> {
        self.authorise(&ready.who)?;
        let round = ready.round;
        self.check_reached(round)?;
        if round > self.saved.round {
            return Ok(Verdict::no(format!("round {round} was taken back")));
        }
        let recorded = self.saved.starts.get(&round).and_then(|start| start.theta);
        let undecided = round == self.saved.round && recorded.is_none();
        if !undecided && recorded != Some(ready.theta_hash) {
            return Err(Refusal::ThetaDiffers { round });
        }
        let (island, theta) = (&ready.who.island, ready.theta_hash);
        Ok(Verdict::yes(self.take_in(island, round, theta, MemberState::Ready)))
    }

    pub(crate) fn applied(&mut self, applied: &Applied) -> Result<Verdict, Refusal> {
        self.authorise(&applied.who)?;
        let (island, theta) = (&applied.who.island, applied.theta_hash);
        let next = applied.round.saturating_add(1);
        self.check_reached(next)?;
        if next > self.saved.round {
            return Ok(Verdict::no(format!("round {} was taken back", applied.round)));
        }
        if next == self.saved.round {
            self.vote(island, theta);
        }
        let agreed = self.saved.starts.get(&next).and_then(|start| start.theta);
        let held = self.saved.members.get(island).map_or(0, |member| member.round);
        if next >= held {
            self.take_in(island, next, theta, self.standing());
        }
        if agreed == Some(theta) {
            Ok(Verdict::yes("θ agrees"))
        } else {
            Ok(Verdict::no(format!("θ of round {next} differs from the others'")))
        }
    }

    pub(crate) fn kept(&mut self, kept: Kept) -> Result<Verdict, Refusal> {
        self.authorise(&kept.who)?;
        let round = kept.round;
        self.check_reached(round)?;
        if round > self.saved.round {
            return Ok(Verdict::no(format!("round {round} was taken back")));
        }
        if self.saved.checkpoint.as_ref().is_none_or(|last| last.round < round) {
            self.saved.checkpoint = Some(Checkpoint { round, island: kept.who.island });
        }
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

    /// What a member that holds θ of the round in progress is.
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

    /// Notes that a member holds θ of `round`, and lets it take part as `standing` if it can. One
    /// that agrees counts as a vote, so that a single other cannot turn the run away from it.
    fn take_in(
        &mut self,
        island: &str,
        round: u64,
        theta: Digest,
        standing: MemberState,
    ) -> &'static str {
        let current = self.saved.round;
        if let Some(member) = self.saved.members.get_mut(island) {
            (member.round, member.theta) = (round, theta);
        }
        if round == current && self.start().theta.is_none_or(|agreed| agreed == theta) {
            self.vote(island, theta);
        }
        let Some(member) = self.saved.members.get(island) else { return "unknown" };
        let verified = self.is_verified(member);
        let is_syncing = member.state == MemberState::Syncing;
        if !verified {
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

    /// Counts a hash of θ at the start of the round in progress. Most votes win; of equals the one
    /// that was there first. Members that hold another θ cannot take part.
    fn vote(&mut self, island: &str, theta: Digest) {
        let votes = &mut self.saved.votes;
        match votes.iter_mut().find(|vote| vote.island == island) {
            Some(vote) => vote.theta = theta,
            None => votes.push(Vote { island: island.to_string(), theta }),
        }
        let count = |theta| votes.iter().filter(|vote| vote.theta == theta).count();
        let mut agreed = (0, theta);
        for vote in votes.iter() {
            let votes = count(vote.theta);
            if votes > agreed.0 {
                agreed = (votes, vote.theta);
            }
        }
        let round = self.saved.round;
        self.saved.starts.entry(round).or_default().theta = Some(agreed.1);
        let differs = |m: &Member| m.round == round && m.theta != agreed.1;
        let members = self.saved.members.iter().filter(|(_, member)| differs(member));
        for island in members.map(|(island, _)| island.clone()).collect::<Vec<_>>() {
            self.demote(&island);
        }
    }

    fn renew(&mut self, island: &str) {
        let ends = self.timers.now.plus(self.config.lease_ms);
        self.timers.leases.insert(island.to_string(), ends);
    }

    /// Offers stay: in a closed set others may serve them, and before that only a member's count.
    fn remove(&mut self, island: &str) {
        self.saved.members.remove(island);
        self.timers.leases.remove(island);
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

    /// A round that the run was in once may be spoken of, even if it was taken back since.
    pub(crate) fn check_reached(&self, round: u64) -> Result<(), Refusal> {
        if round > self.saved.highest {
            return Err(Refusal::NotReached { round, current: self.saved.round });
        }
        Ok(())
    }

    fn check_round(&self, join: &Join) -> Result<(), Refusal> {
        self.check_reached(join.round)?;
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
        let names_full = !is_known && self.saved.epochs.len() >= room * NAMES_PER_MEMBER;
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
