//! One island under supervision: whether its ranks run, are killed, come back or are done.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use plan::event::Ending;

use super::super::event::UpEvent;
use super::{Action, Exit, Policy, with_detail};

/// An end without the leader's word, of which nobody knows what it means.
pub(super) const WORDLESS: &str = "it ended without saying why";
pub(super) const LEADER_ENDED: &str = "its leader ended";

/// One island: its processes and what its leader said.
#[derive(Debug)]
pub(super) struct Island {
    pub(super) world: u32,
    pub(super) epoch: u64,
    pub(super) state: State,
    pub(super) restarts: Restarts,
    /// What its leader said at its end, in this epoch.
    pub(super) ending: Option<Ending>,
}

/// Where its processes stand.
#[derive(Debug)]
pub(super) enum State {
    /// Ranks that run, and when they have to be gone, where they have to.
    Running { alive: BTreeSet<u32>, leave: Option<Leave> },
    /// Killed ranks that are not gone yet, and what broke the island; nothing, if its leader had
    /// ended well.
    Dying { alive: BTreeSet<u32>, until: Duration, cause: Option<String> },
    /// Starts again then.
    Backoff { until: Duration },
    /// Ended, and well.
    Done,
    /// Will not be started again.
    GivenUp(String),
}

/// When the ranks of an island have to be gone, and why.
#[derive(Debug)]
pub(super) struct Leave {
    pub(super) by: Duration,
    pub(super) why: &'static str,
}

/// When restarts were made, within the policy's window.
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
        Self::Running { alive: (0..world).collect(), leave: None }
    }

    /// Ranks that run have to be gone by then, or earlier where that was said before.
    pub(super) fn leave(&mut self, by: Duration, why: &'static str) {
        if let Self::Running { leave, .. } = self
            && leave.as_ref().is_none_or(|earlier| by < earlier.by)
        {
            *leave = Some(Leave { by, why });
        }
    }
}

impl Island {
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
        match &mut self.state {
            State::Running { alive, leave: Some(leave) } if leave.by <= now => {
                let (alive, why) = (std::mem::take(alive), leave.why);
                let hangs = self.ending.is_none() && alive.contains(&0);
                let cause = if hangs { Some(why.to_owned()) } else { self.unfinished() };
                self.state = State::Dying { alive, until: now + policy.kill_wait, cause };
                let message = format!("{name}: killed: {why}, and its ranks did not end in time");
                actions.push(Action::Announce(UpEvent::Warning { message }));
                actions.push(Action::KillIsland { island: name.to_owned() });
            }
            State::Dying { until, cause, .. } if *until <= now => {
                let cause = cause.as_deref().unwrap_or(LEADER_ENDED);
                let reason = format!("{cause}, and its other ranks could not be killed");
                self.state = State::GivenUp(reason.clone());
                let island = name.to_owned();
                actions.push(Action::Announce(UpEvent::IslandGivenUp { island, reason }));
            }
            State::Backoff { until } if *until <= now => {
                self.epoch += 1;
                self.state = State::running(self.world);
                self.ending = None;
                let (island, epoch) = (name.to_owned(), self.epoch);
                actions.push(Action::StartIsland { island, epoch });
            }
            _ => {}
        }
    }

    /// Why an island whose ranks are gone has not done its part; nothing, if it has.
    pub(super) fn unfinished(&self) -> Option<String> {
        match self.ending {
            Some(Ending::Complete | Ending::Missed) => None,
            Some(Ending::Stopped) => Some("it was asked to stop, but not by this program".into()),
            None => Some(WORDLESS.to_owned()),
        }
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
        let island = name.to_owned();
        if let Some(wait) = self.restarts.next(policy, now) {
            self.state = State::Backoff { until: now + wait };
            let (epoch, after) = (self.epoch + 1, wait.as_secs_f64());
            let event = UpEvent::IslandRestarting { island, epoch, reason: cause, after };
            actions.push(Action::Announce(event));
        } else {
            let (times, window) = (policy.restarts, policy.window.as_secs());
            let reason = format!("{cause}, after {times} restarts within {window} s");
            self.state = State::GivenUp(reason.clone());
            actions.push(Action::Announce(UpEvent::IslandGivenUp { island, reason }));
        }
    }
}

/// The end of one rank.
pub(super) struct Ended {
    pub(super) epoch: u64,
    pub(super) rank: u32,
    pub(super) exit: Exit,
    pub(super) detail: String,
}

impl Ended {
    /// What it said, or how it ended where it said nothing.
    pub(super) fn said(&self) -> String {
        if self.detail.is_empty() { self.to_string() } else { self.detail.clone() }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("rank {} {}", self.rank, self.exit);
        write!(f, "{}", with_detail(text, &self.detail))
    }
}
