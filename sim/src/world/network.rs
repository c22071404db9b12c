//! The network between islands and the coordinator: requests, answers and views, late, lost or
//! doubled; and the coordinator's turns.

use std::rc::Rc;

use rounds::refusal::Refusal;
use rounds::request::{Applied, Fetched, Join, Kept, Leave, Offer, Ready};
use rounds::step::{Event, Verdict};
use rounds::turn::{Shown, Turn};
use rounds::types::{Digest, RankAddress};

use super::{Happening, STEP_SAMPLES, STEPS, World};
use crate::coordinator::{CALLS_QUEUED_MAX, Caller, Process};
use crate::island::{Busy, Call, Island};
use crate::judge::Fault;

/// An answer that is not there by then is asked for again.
const CALL_WAIT_MS: u64 = 700;
/// Unanswered calls after which a process gives up and ends.
const TRIES_MAX: u32 = 40;
/// Stores of the past that an older one may be taken from.
const OLDER_MAX: usize = 60;

impl World {
    fn delay(&mut self) -> u64 {
        let most = self.plan.delay;
        self.rng.between(1, most)
    }

    /// Says whether a message gets through between an island and the coordinator.
    fn passes(&mut self, island: usize) -> bool {
        let cut = self.islands[island].cut_until > self.now;
        let noisy = self.now < self.plan.quiet_at;
        !(cut || (noisy && self.rng.chance(self.plan.lost)))
    }

    /// Sends the call that an island waits for.
    pub(crate) fn send(&mut self, island: usize, call: u64) {
        let caller = Caller { island, life: self.islands[island].life, call };
        let Some(event) = self.event(island) else { return };
        self.after(CALL_WAIT_MS, Happening::Silence { caller });
        self.deliver(event, caller);
    }

    pub(crate) fn deliver(&mut self, event: Event, caller: Caller) {
        if self.passes(caller.island) {
            let delay = self.delay();
            self.after(delay, Happening::Arrive { event: event.clone(), caller });
        }
        if self.now < self.plan.quiet_at && self.rng.chance(self.plan.doubled) {
            let delay = self.delay() * 5;
            self.after(delay, Happening::Arrive { event, caller });
        }
    }

    fn event(&self, island: usize) -> Option<Event> {
        let who = self.identity(island);
        let Island { at, offer, busy, .. } = &self.islands[island];
        let Busy::Calling { what, .. } = busy else { return None };
        let (round, theta_hash) = (at.round, at.theta);
        Some(match what {
            Call::Join => Event::Join(Join {
                ranks: vec![RankAddress {
                    address: format!("{}:{}", who.island, who.epoch),
                    first_piece: 0,
                    end_piece: 4,
                }],
                who,
                layout_hash: Digest([7; 32]),
                round,
                theta_hash,
                tokens_per_second_milli: 1,
                inner_steps: STEPS,
                round_samples: u64::from(STEPS) * STEP_SAMPLES,
                tokens: at.tokens,
                samples: at.samples,
                complaint: String::new(),
            }),
            Call::Ready => Event::Ready(Ready { who, round, theta_hash }),
            Call::Offer => {
                let contribution = offer.clone()?;
                Event::Offer(Offer { who, round, contribution, leaving: false })
            }
            Call::Fetched => Event::Fetched(self.report(island, who)),
            Call::Applied { round } => Event::Applied(Applied { who, round: *round, theta_hash }),
            Call::Kept { round } => Event::Kept(Kept { who, round: *round }),
            Call::Leave => Event::Leave(Leave { who, reason: "the run is done".into() }),
        })
    }

    fn report(&self, island: usize, who: rounds::request::Identity) -> Fetched {
        let Island { view, store, at, .. } = &self.islands[island];
        let closed = view.iter().flat_map(|view| &view.closed);
        let held = closed.filter(|c| self.islands[island].holds(at.round, c));
        let have = held.map(|contribution| contribution.island.clone()).collect();
        let pieces = store.keys().filter(|(round, _)| *round == at.round).count() as u64;
        Fetched { who, round: at.round, have, pieces, rejected: [].into() }
    }

    /// No answer in time: the call is made again, and after many the process ends.
    pub(crate) fn silence(&mut self, caller: Caller) {
        let Caller { island, life, call } = caller;
        let waits =
            matches!(&self.islands[island].busy, Busy::Calling { call: c, .. } if *c == call);
        if !self.is_live(island, life) || !waits {
            return;
        }
        if self.islands[island].frozen_until > self.now {
            let thaws = self.islands[island].frozen_until;
            return self.at(thaws, Happening::Silence { caller });
        }
        self.islands[island].tries += 1;
        if self.islands[island].tries > TRIES_MAX {
            let name = self.islands[island].name.clone();
            self.tell(|| format!("{name} ends: no answer"));
            self.kill(island, 500);
            return;
        }
        self.send(island, call);
    }

    pub(crate) fn arrive(&mut self, event: Event, caller: Caller) -> Result<(), Fault> {
        let Some(process) = &mut self.coordinator else { return Ok(()) };
        if process.writing.is_none() {
            return self.take(event, Some(caller));
        }
        if process.inbox.len() < CALLS_QUEUED_MAX {
            process.inbox.push_back((event, caller));
        }
        Ok(())
    }

    /// One turn of the coordinator; what changed is shown once it is written.
    pub(crate) fn take(&mut self, event: Event, caller: Option<Caller>) -> Result<(), Fault> {
        if self.coordinator.as_ref().is_none_or(|process| process.writing.is_some()) {
            // A tick; the turn that is being written will look at the clock after it.
            return Ok(());
        }
        self.note(&event);
        let now = self.now;
        let Some(process) = &mut self.coordinator else { return Ok(()) };
        let turn = Turn::take(&process.state, event, process.clock(now));
        let turn = turn.map_err(|unsound| Fault::Unsound(unsound.to_string()))?;
        let writes = turn.to_save().is_some();
        process.writing = Some((turn, caller));
        if writes {
            let (term, ms) = (self.term, self.rng.between(1, 12));
            self.after(ms, Happening::Written { term });
            return Ok(());
        }
        self.show()
    }

    fn note(&mut self, event: &Event) {
        let round = self.coordinator.as_ref().map(|process| process.view.round);
        match event {
            Event::Applied(applied) => {
                let who = applied.who.island.clone();
                self.judge.says(self.now, applied.round + 1, &who, applied.theta_hash);
            }
            Event::Fetched(fetched) if Some(fetched.round) == round => {
                self.judge.got_further(self.now, &fetched.who, fetched.pieces);
            }
            _ => {}
        }
    }

    /// Puts what a turn changed on the disk.
    pub(crate) fn written(&mut self) -> Result<(), Fault> {
        let writing = self.coordinator.as_ref().and_then(|process| process.writing.as_ref());
        if let Some((saved, entries)) = writing.and_then(|(turn, _)| turn.to_save()) {
            self.disk.saved = Some(saved.clone());
            self.disk.record.extend(entries.iter().cloned());
            self.older.push_back(self.disk.clone());
            if self.older.len() > OLDER_MAX {
                self.older.pop_front();
            }
        }
        self.show()
    }

    /// Answers, shows the view, and goes on with whoever waits.
    fn show(&mut self) -> Result<(), Fault> {
        let now = self.now;
        let Some(process) = &mut self.coordinator else { return Ok(()) };
        let Some((turn, caller)) = process.writing.take() else { return Ok(()) };
        let Shown { state, reply, view, entries } = turn.saved();
        process.state = state;
        if let Some(view) = view {
            let before = std::mem::replace(&mut process.view, Rc::new(view));
            let after = Rc::clone(&process.view);
            if before.reason != after.reason || before.phase != after.phase {
                let (round, phase, reason) = (after.round, after.phase, after.reason.clone());
                self.tell(|| format!("coordinator: round {round} {phase:?}: {reason}"));
            }
            self.judge.turn(now, (&before, &after), &entries, &self.islands)?;
            self.shown = Some(after);
            self.broadcast();
        }
        if let Some(caller) = caller
            && self.passes(caller.island)
        {
            let delay = self.delay();
            self.after(delay, Happening::Answer { caller, reply });
        }
        self.go_on()
    }

    fn go_on(&mut self) -> Result<(), Fault> {
        let term = self.term;
        let Some(process) = &mut self.coordinator else { return Ok(()) };
        if let Some((event, caller)) = process.inbox.pop_front() {
            return self.take(event, Some(caller));
        }
        if let Some(at) = process.wakeup() {
            self.at(at, Happening::Tick { term });
        }
        Ok(())
    }

    fn broadcast(&mut self) {
        for island in 0..self.islands.len() {
            self.show_to(island);
        }
    }

    /// Views are levels: one that is lost is made up for by the next look.
    pub(crate) fn show_to(&mut self, island: usize) {
        let Some(process) = &self.coordinator else { return };
        let (view, life) = (Rc::clone(&process.view), self.islands[island].life);
        if self.islands[island].alive && self.passes(island) {
            let delay = self.delay();
            self.after(delay, Happening::View { island, life, view });
        }
    }

    pub(crate) fn start_coordinator(&mut self) -> Result<(), Fault> {
        let process = Process::start(self.config.clone(), &self.disk, self.now);
        let view = Rc::clone(&process.view);
        self.judge.begins_anew(self.now);
        if let Some(shown) = &self.shown {
            self.judge.restarted(shown, &view)?;
        }
        let (round, phase) = (view.round, view.phase);
        self.tell(|| format!("coordinator: up at round {round}, {phase:?}"));
        self.coordinator = Some(process);
        self.broadcast();
        self.take(Event::Tick, None)
    }

    pub(crate) fn answer(
        &mut self,
        caller: Caller,
        reply: Result<Verdict, Refusal>,
    ) -> Result<(), Fault> {
        let Caller { island, life, call } = caller;
        if !self.is_live(island, life) {
            return Ok(());
        }
        if self.islands[island].frozen_until > self.now {
            let thaws = self.islands[island].frozen_until;
            self.at(thaws, Happening::Answer { caller, reply });
            return Ok(());
        }
        let Busy::Calling { call: waited, what } = self.islands[island].busy.clone() else {
            return Ok(());
        };
        if waited != call {
            return Ok(());
        }
        self.islands[island].tries = 0;
        self.answered(island, what, reply)
    }
}
