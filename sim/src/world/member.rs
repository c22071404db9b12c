//! A member's loop: look at the view, decide, act.

use std::rc::Rc;

use rounds::decide::{Directive, decide, is_closed};
use rounds::refusal::Refusal;
use rounds::step::{Event, Verdict};
use rounds::types::{Commit, Contribution, Digest, MemberState, RunView, SampleRange};

use super::{Happening, LEASE_MS, SAMPLE_TOKENS, STEP_SAMPLES, STEPS, World};
use crate::coordinator::Caller;
use crate::island::{Busy, Call, Checkpoint, Island, theta_after};
use crate::judge::Fault;

/// How often an island looks at its view by itself.
const LOOK_MS: u64 = 120;
/// A commit that cannot be had for so long costs a snapshot.
const LACK_MS: u64 = 3_000;

impl World {
    /// The time at which a process that stands still goes on; nothing where it does not.
    fn thaws(&self, island: usize) -> Option<u64> {
        let until = self.islands[island].frozen_until;
        (until > self.now).then_some(until)
    }

    pub(crate) fn beat(&mut self, island: usize, life: u64) {
        if !self.is_live(island, life) || self.islands[island].busy == Busy::Ended {
            return;
        }
        self.after(LEASE_MS / 3, Happening::Beat { island, life });
        if self.thaws(island).is_some() {
            return;
        }
        let who = self.identity(island);
        let caller = Caller { island, life, call: 0 };
        self.deliver(Event::Heartbeat(who), caller);
        // The stream of views is made up again with the next beat.
        self.show_to(island);
    }

    pub(crate) fn see(&mut self, island: usize, life: u64, view: Rc<RunView>) {
        if !self.is_live(island, life) {
            return;
        }
        // A view that was overtaken by a newer one of the same coordinator is no news.
        let version = |view: &Rc<RunView>| view.version;
        let known = self.islands[island].view.as_ref().map(version);
        let newest = self.coordinator.as_ref().map(|process| version(&process.view));
        if known > Some(view.version) && newest > Some(view.version) {
            return;
        }
        self.islands[island].view = Some(view);
        self.look_now(island);
    }

    fn look_now(&mut self, island: usize) {
        self.look_in(island, 0);
    }

    /// One look is due at a time: the next that is asked for.
    pub(crate) fn look_in(&mut self, island: usize, ms: u64) {
        let at = self.now + ms;
        let me = &mut self.islands[island];
        if me.looks_at.is_some_and(|due| due <= at) {
            return;
        }
        me.looks_at = Some(at);
        let life = me.life;
        self.at(at, Happening::Look { island, life });
    }

    pub(crate) fn look(&mut self, island: usize, life: u64) {
        if !self.is_live(island, life) || self.islands[island].looks_at != Some(self.now) {
            return;
        }
        self.islands[island].looks_at = None;
        if self.islands[island].busy != Busy::No {
            return;
        }
        if let Some(thaws) = self.thaws(island) {
            return self.look_in(island, thaws - self.now);
        }
        let Island { view, standing, .. } = &mut self.islands[island];
        view.iter().for_each(|view| standing.heed(view));
        let directive = match view {
            Some(view) => decide(view, standing),
            None => Directive::Join,
        };
        self.trace_directive(island, &directive);
        self.act(island, directive);
        if self.islands[island].busy == Busy::No {
            self.look_in(island, LOOK_MS);
        }
    }

    fn act(&mut self, island: usize, directive: Directive) {
        match directive {
            Directive::Join => self.call(island, Call::Join),
            Directive::Train { round } => self.train(island, round),
            Directive::OfferAgain => self.call(island, Call::Offer),
            Directive::Fetch { set } => self.fetch(island, &set),
            Directive::Apply { commit } => self.apply(island, &commit),
            Directive::Sync { round, hash } => self.sync(island, round, hash),
            Directive::Rewind { round } => self.rewind(island, round),
            Directive::Finish => {
                let kept = self.islands[island].at;
                self.islands[island].disk.push(kept);
                self.call(island, Call::Leave);
            }
            Directive::Miss => self.call(island, Call::Leave),
            Directive::Wait { .. } => {}
        }
    }

    fn step_ms(&self, island: usize) -> u64 {
        self.plan.round_ms[island] / u64::from(STEPS)
    }

    fn train(&mut self, island: usize, round: u64) {
        let ms = self.step_ms(island);
        let me = &mut self.islands[island];
        me.standing.forgone = false;
        me.busy = Busy::Training;
        let (life, name) = (me.life, me.name.clone());
        let own = me.view.as_ref().and_then(|view| view.member(&name, me.epoch));
        me.samples = own.map(|member| member.samples.clone()).unwrap_or_default();
        let samples = self.islands[island].samples.clone();
        self.tell(|| format!("{name}: text {samples:?}"));
        self.after(ms, Happening::Step { island, life, round, step: 1 });
    }

    /// An inner step is made; the last one is followed by the offer.
    pub(crate) fn step(&mut self, island: usize, life: u64, round: u64, step: u32) {
        if !self.is_live(island, life) || self.islands[island].busy != Busy::Training {
            return;
        }
        if let Some(thaws) = self.thaws(island) {
            return self.at(thaws, Happening::Step { island, life, round, step });
        }
        let view = self.islands[island].view.as_ref();
        let over = view.is_some_and(|view| is_closed(view, round) || view.closing);
        if step < STEPS && !over {
            let (ms, step) = (self.step_ms(island), step + 1);
            return self.after(ms, Happening::Step { island, life, round, step });
        }
        let me = &mut self.islands[island];
        let used = u64::from(step) * STEP_SAMPLES;
        me.samples = first_of(&me.samples, used);
        let text = format!("{} {} {round} {} {:?}", me.name, me.epoch, me.at.theta, me.samples);
        let digest = Digest(*blake3::hash(text.as_bytes()).as_bytes());
        let offer = Contribution {
            island: me.name.clone(),
            epoch: me.epoch,
            digest,
            bytes: 100,
            tokens: used * SAMPLE_TOKENS,
            steps: step,
            loss: 1.0,
        };
        me.store.insert((round, me.name.clone()), digest);
        self.judge.offers(round, &offer, &me.samples);
        me.offer = Some(offer);
        self.call(island, Call::Offer);
    }

    /// Starts what is lacking of a closed set, and reports what came.
    fn fetch(&mut self, island: usize, set: &[Contribution]) {
        let round = self.islands[island].at.round;
        let lacking = self.start_transfers(island, round, set);
        let me = &self.islands[island];
        let held = set.iter().filter(|c| me.holds(round, c)).map(|c| c.island.clone());
        let now = (round, held.collect());
        if lacking == 0 || me.reported.as_ref() != Some(&now) {
            self.islands[island].reported = Some(now);
            self.call(island, Call::Fetched);
        }
    }

    /// Transfers of what an island lacks of `set`, from whoever has it; how much it lacks.
    fn start_transfers(&mut self, island: usize, round: u64, set: &[Contribution]) -> usize {
        let me = &self.islands[island];
        let lacking: Vec<_> = set.iter().filter(|c| !me.holds(round, c)).cloned().collect();
        for contribution in &lacking {
            let owner = contribution.island.clone();
            if self.islands[island].fetching.contains(&(round, owner.clone())) {
                continue;
            }
            let serves = |from: &usize| {
                *from != island
                    && self.can_serve(island, *from)
                    && self.islands[*from].holds(round, contribution)
            };
            let Some(from) = (0..self.islands.len()).find(serves) else { continue };
            self.islands[island].fetching.insert((round, owner.clone()));
            let (life, ms) = (self.islands[island].life, self.rng.between(20, 400));
            self.after(ms, Happening::Fetched { island, life, round, owner, from });
        }
        lacking.len()
    }

    fn can_serve(&self, island: usize, from: usize) -> bool {
        let (me, other) = (&self.islands[island], &self.islands[from]);
        let cut = me.cut_until > self.now || other.cut_until > self.now;
        other.alive && other.frozen_until <= self.now && !cut && other.busy != Busy::Ended
    }

    pub(crate) fn got(&mut self, (island, life): (usize, u64), key: (u64, String), from: usize) {
        if !self.is_live(island, life) {
            return;
        }
        self.islands[island].fetching.remove(&key);
        let came =
            self.can_serve(island, from).then(|| self.islands[from].store.get(&key)).flatten();
        if let Some(digest) = came.copied() {
            self.islands[island].store.insert(key, digest);
        }
        self.look_now(island);
    }

    fn apply(&mut self, island: usize, commit: &Commit) {
        let lacking = self.start_transfers(island, commit.round, &commit.set);
        let now = self.now;
        let me = &mut self.islands[island];
        if lacking > 0 {
            let since = *me.lacks_since.get_or_insert(now);
            me.standing.needs_snapshot = now - since >= LACK_MS;
            return;
        }
        let mut theta = theta_after(me.at.theta, commit);
        if std::mem::take(&mut me.flips) {
            theta.0[31] ^= 1;
        }
        let round = commit.round + 1;
        me.stand_at(Checkpoint { round, theta, tokens: commit.tokens, samples: commit.samples });
        self.call(island, Call::Applied { round: commit.round });
    }

    fn sync(&mut self, island: usize, round: u64, hash: Digest) {
        let me = &self.islands[island];
        let members: Vec<_> = me.view.iter().flat_map(|view| view.members.clone()).collect();
        let serves = |from: &usize| {
            let other = &self.islands[*from];
            let listed = members.iter().any(|m| {
                m.island == other.name && m.state != MemberState::Syncing && m.round == round
            });
            let holds = other.at.round == round && other.at.theta == hash;
            *from != island && listed && holds && self.can_serve(island, *from)
        };
        let Some(from) = (0..self.islands.len()).find(serves) else { return };
        let life = self.islands[island].life;
        self.islands[island].busy = Busy::Syncing;
        let ms = self.rng.between(50, 900);
        self.after(ms, Happening::Synced { island, life, from, round });
    }

    pub(crate) fn synced(&mut self, island: usize, life: u64, from: usize, round: u64) {
        if !self.is_live(island, life) || self.islands[island].busy != Busy::Syncing {
            return;
        }
        self.islands[island].busy = Busy::No;
        let other = self.islands[from].at;
        if other.round != round || !self.can_serve(island, from) {
            return self.look_now(island);
        }
        let view = self.islands[island].view.clone();
        let (tokens, samples) = view.map_or((0, 0), |view| (view.tokens, view.samples));
        self.islands[island].stand_at(Checkpoint { tokens, samples, ..other });
        self.call(island, Call::Ready);
    }

    /// The run went back: on from an older checkpoint, or else from another's θ.
    fn rewind(&mut self, island: usize, round: u64) {
        let me = &mut self.islands[island];
        me.stand_at(me.checkpoint_until(round).unwrap_or(Checkpoint::first()));
        self.call(island, Call::Join);
    }

    /// The coordinator's answer to what an island asked.
    pub(crate) fn answered(
        &mut self,
        island: usize,
        what: Call,
        reply: Result<Verdict, Refusal>,
    ) -> Result<(), Fault> {
        self.islands[island].busy = Busy::No;
        let name = self.islands[island].name.clone();
        let yes = match reply {
            Ok(verdict) => Some(verdict.yes),
            Err(Refusal::UnknownMember { .. } | Refusal::NotReached { .. }) => None,
            Err(refusal) => return Err(Fault::Refused { island: name, why: refusal.to_string() }),
        };
        match what {
            Call::Join => {
                self.show_to(island);
                let ms = self.plan.delay + 20;
                let life = self.islands[island].life;
                self.islands[island].view = None;
                // The view that shows it is waited for.
                self.islands[island].busy = Busy::Syncing;
                self.after(ms, Happening::Synced { island, life, from: island, round: u64::MAX });
                return Ok(());
            }
            Call::Offer => self.islands[island].standing.offered = true,
            Call::Fetched => self.has_reported(island),
            Call::Applied { .. } => self.has_applied(island, yes),
            Call::Kept { round } if yes == Some(true) => self.islands[island].kept = round,
            Call::Leave => self.islands[island].busy = Busy::Ended,
            Call::Ready | Call::Kept { .. } => {}
        }
        self.look_now(island);
        Ok(())
    }

    fn has_reported(&mut self, island: usize) {
        let me = &mut self.islands[island];
        let Some(view) = me.view.clone() else { return };
        if view.closed.iter().all(|c| me.holds(me.at.round, c)) {
            me.standing.fetched = Some(view.closed.iter().map(|c| c.digest).collect());
        }
    }

    fn has_applied(&mut self, island: usize, agrees: Option<bool>) {
        let every = self.plan.checkpoint_every;
        let me = &mut self.islands[island];
        me.standing.needs_snapshot = agrees == Some(false);
        if me.at.round.is_multiple_of(every) && agrees == Some(true) {
            let (kept, life) = (me.at, me.life);
            let ms = self.rng.between(10, 300);
            self.after(ms, Happening::Durable { island, life, kept });
        }
    }

    /// A checkpoint is on the disk, and the coordinator is told.
    pub(crate) fn durable(&mut self, island: usize, life: u64, kept: Checkpoint) {
        if !self.is_live(island, life) {
            return;
        }
        let me = &mut self.islands[island];
        if me.disk.last().is_none_or(|last| last.round < kept.round) {
            me.disk.push(kept);
        }
        if me.disk.len() > 3 {
            me.disk.remove(0);
        }
        if me.busy == Busy::No {
            self.call(island, Call::Kept { round: kept.round });
        }
    }
}

/// The first `count` positions of `ranges`.
fn first_of(ranges: &[SampleRange], mut count: u64) -> Vec<SampleRange> {
    let mut out = Vec::new();
    for range in ranges {
        let end = range.end.min(range.first + count);
        count -= end - range.first;
        out.push(SampleRange { first: range.first, end });
    }
    out.retain(|range| range.first < range.end);
    out
}
