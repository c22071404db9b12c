//! One island under supervision: whether its ranks run, are killed, come back or are done.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use contract::event::Ending;
use contract::fate::{Cause, End, Epoch, Fate, Why, fate};

use super::super::event::UpEvent;
use super::{Action, Policy, not_again};

pub(super) const LEADER_ENDED: &str = "its leader ended";

/// One island: its processes and what its leader said.
#[derive(Debug)]
pub(super) struct Island {
    pub(super) world: u32,
    pub(super) epoch: u64,
    pub(super) state: State,
    pub(super) restarts: Restarts,
    /// The ending that its leader told of, in this epoch.
    pub(super) ending: Option<Ending>,
    /// Ranks that ended by themselves in this epoch.
    pub(super) ends: Vec<End>,
}

/// The state of its processes.
#[derive(Debug)]
pub(super) enum State {
    /// Ranks that run, and when they have to be gone, where they have to. Where one of them broke
    /// the island: how long the others are waited for, whose ends may say more.
    Running { alive: BTreeSet<u32>, leave: Option<Leave>, word: Option<Duration> },
    /// Killed ranks that are not gone yet, and what broke the island; nothing, if its leader had
    /// ended well.
    Dying { alive: BTreeSet<u32>, until: Duration, cause: Option<Cause> },
    /// Starts again then.
    Backoff { until: Duration },
    /// Ended, and well.
    Done,
    /// Will not be started again.
    GivenUp(Cause),
}

/// The time by which the ranks of an island have to be gone, and why.
#[derive(Debug)]
pub(super) struct Leave {
    pub(super) by: Duration,
    pub(super) why: &'static str,
}

/// The times of restarts within the policy's window.
#[derive(Debug, Default)]
pub(super) struct Restarts(VecDeque<Duration>);

impl Restarts {
    /// The wait before the next restart; `None` when there were too many.
    pub(super) fn next(&mut self, policy: &Policy, now: Duration) -> Option<Duration> {
        while self.0.front().is_some_and(|at| *at + policy.window <= now) {
            self.0.pop_front();
        }
        if self.0.len() >= policy.restarts {
            return None;
        }
        let doubled = u32::try_from(self.0.len()).map_or(u32::MAX, |n| 1 << n.min(20));
        self.0.push_back(now);
        Some(policy.first_backoff.saturating_mul(doubled).min(policy.longest_backoff))
    }
}

impl State {
    pub(super) fn running(world: u32) -> Self {
        Self::Running { alive: (0..world).collect(), leave: None, word: None }
    }

    /// Ranks that run have to be gone by then, or earlier where that was said before.
    pub(super) fn leave(&mut self, by: Duration, why: &'static str) {
        if let Self::Running { leave, .. } = self
            && leave.as_ref().is_none_or(|earlier| by < earlier.by)
        {
            *leave = Some(Leave { by, why });
        }
    }

    /// Ranks that run may say until then what broke the island.
    fn await_word(&mut self, by: Duration) {
        if let Self::Running { word, .. } = self {
            word.get_or_insert(by);
        }
    }

    /// Whether the wait for a word is over; it is over once, since the island may have done its
    /// part by then.
    fn word_is_due(&mut self, now: Duration) -> bool {
        let Self::Running { word, .. } = self else { return false };
        word.take_if(|by| *by <= now).is_some()
    }
}

/// The state of the whole run when something happens to an island.
#[derive(Clone, Copy)]
pub(super) struct Going<'a> {
    pub(super) policy: &'a Policy,
    pub(super) now: Duration,
    pub(super) stopping: bool,
    pub(super) complete: bool,
}

impl Island {
    /// The fate of the island, as far as its ranks have ended.
    fn fate(&self) -> Fate {
        fate(&Epoch { world: self.world, leader: self.ending, ends: &self.ends })
    }

    /// Takes note of the end of one of its ranks.
    pub(super) fn rank_exited(
        &mut self,
        name: &str,
        end: End,
        going: Going<'_>,
        actions: &mut Vec<Action>,
    ) {
        let Going { policy, now, stopping, complete } = going;
        match &mut self.state {
            State::Running { alive, .. } => {
                alive.remove(&end.rank);
                let (gone, led, told) = (alive.is_empty(), end.rank == 0, end.to_string());
                self.ends.push(end);
                match self.fate() {
                    Fate::Waits(_) if !stopping && !complete => {
                        self.state.await_word(now + policy.word_wait);
                    }
                    Fate::Broken(cause) | Fate::Waits(cause) if !stopping => {
                        self.die(name, cause, now + policy.kill_wait, actions);
                        if complete {
                            actions.push(not_again(name, &format!("{told}; ")));
                        }
                    }
                    _ if gone => {
                        let (alive, cause) = (BTreeSet::new(), self.unfinished());
                        self.state = State::Dying { alive, until: now, cause };
                    }
                    _ if led || stopping => {
                        self.state.leave(now + policy.leave_grace, LEADER_ENDED);
                    }
                    _ => {}
                }
            }
            State::Dying { alive, cause, .. } => {
                alive.remove(&end.rank);
                // Others were killed; only what lasts is a word of their own.
                let lasting = Cause::of(&end).filter(|cause| cause.why.lasts());
                if let (Some(first), Some(lasting)) = (cause.as_mut(), lasting) {
                    *first = first.clone().or(lasting);
                }
            }
            State::Backoff { .. } | State::Done | State::GivenUp(_) => {}
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Dying { .. })
    }

    pub(super) fn tick(
        &mut self,
        name: &str,
        policy: &Policy,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        if self.state.word_is_due(now)
            && let Some(cause) = self.unfinished()
        {
            return self.die(name, cause, now + policy.kill_wait, actions);
        }
        match &mut self.state {
            State::Running { alive, leave: Some(leave), .. } if leave.by <= now => {
                let (alive, why) = (std::mem::take(alive), leave.why);
                let hangs = self.ending.is_none() && alive.contains(&0);
                let cause =
                    if hangs { Some(Cause::new(Why::Failed, why)) } else { self.unfinished() };
                self.state = State::Dying { alive, until: now + policy.kill_wait, cause };
                let message = format!("{name}: killed: {why}, and its ranks did not end in time");
                actions.push(Action::Announce(UpEvent::Warning { message }));
                actions.push(Action::KillIsland { island: name.to_owned() });
            }
            State::Dying { until, cause, .. } if *until <= now => {
                let cause = cause.as_ref().map_or(LEADER_ENDED, |cause| &cause.what);
                let reason = format!("{cause}, and its other ranks could not be killed");
                self.give_up(name, Cause::new(Why::Failed, reason), actions);
            }
            State::Backoff { until } if *until <= now => {
                self.epoch += 1;
                self.state = State::running(self.world);
                self.ending = None;
                self.ends.clear();
                let (island, epoch) = (name.to_owned(), self.epoch);
                actions.push(Action::StartIsland { island, epoch });
            }
            _ => {}
        }
    }

    /// Why it has not done its part, as if all of its ranks were gone; nothing, if it has.
    pub(super) fn unfinished(&self) -> Option<Cause> {
        match fate(&Epoch { world: 0, leader: self.ending, ends: &self.ends }) {
            Fate::Broken(cause) | Fate::Waits(cause) => Some(cause),
            Fate::Goes | Fate::Done => None,
        }
    }

    fn give_up(&mut self, name: &str, cause: Cause, actions: &mut Vec<Action>) {
        let (island, reason) = (name.to_owned(), cause.what.clone());
        self.state = State::GivenUp(cause);
        actions.push(Action::Announce(UpEvent::IslandGivenUp { island, reason }));
    }

    /// Kills what is left of a broken island.
    fn die(&mut self, name: &str, cause: Cause, until: Duration, actions: &mut Vec<Action>) {
        let alive = match &mut self.state {
            State::Running { alive, .. } => std::mem::take(alive),
            _ => BTreeSet::new(),
        };
        if !alive.is_empty() {
            actions.push(Action::KillIsland { island: name.to_owned() });
        }
        self.state = State::Dying { alive, until, cause: Some(cause) };
    }

    /// An island whose killed ranks are all gone comes back later, is given up, or, where nothing
    /// is restarted any more (`now` absent), is done.
    pub(super) fn bury(
        &mut self,
        name: &str,
        policy: &Policy,
        now: Option<Duration>,
        actions: &mut Vec<Action>,
    ) {
        let State::Dying { alive, cause, .. } = &self.state else { return };
        if !alive.is_empty() {
            return;
        }
        let cause = cause.clone().filter(|_| self.unfinished().is_some());
        let (Some(now), Some(cause)) = (now, cause) else {
            self.state = State::Done;
            return;
        };
        let wait = if cause.why.lasts() { None } else { self.restarts.next(policy, now) };
        if let Some(wait) = wait {
            self.state = State::Backoff { until: now + wait };
            let (island, epoch, after) = (name.to_owned(), self.epoch + 1, wait.as_secs_f64());
            let event = UpEvent::IslandRestarting { island, epoch, reason: cause.what, after };
            actions.push(Action::Announce(event));
        } else if cause.why.lasts() {
            self.give_up(name, cause, actions);
        } else {
            let (times, window) = (policy.restarts, policy.window.as_secs());
            let what = format!("{}, after {times} restarts within {window} s", cause.what);
            self.give_up(name, Cause { what, ..cause }, actions);
        }
    }
}
