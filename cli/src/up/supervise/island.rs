//! One island under supervision: whether its ranks run, are killed, come back or are done.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use plan::event::{EXIT_LOST, EXIT_MEMORY, Ending};

use super::super::event::UpEvent;
use super::{Action, Exit, Policy, not_again, with_detail};

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
    /// Ranks that run, and when they have to be gone, where they have to. Of a rank that lost
    /// another: that it did, and how long the other is waited for, whose end says more.
    Running { alive: BTreeSet<u32>, leave: Option<Leave>, lost: Option<(Duration, Cause)> },
    /// Killed ranks that are not gone yet, and what broke the island; nothing, if its leader had
    /// ended well.
    Dying { alive: BTreeSet<u32>, until: Duration, cause: Option<Cause> },
    /// Starts again then.
    Backoff { until: Duration },
    /// Ended, and well.
    Done,
    /// Will not be started again.
    GivenUp(String),
}

/// What broke an island.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) what: String,
    /// It would break again in the same way.
    pub(super) lasts: bool,
}

impl Cause {
    /// Something that a restart may change.
    pub(super) fn passing(what: impl Into<String>) -> Self {
        Self { what: what.into(), lasts: false }
    }
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
        Self::Running { alive: (0..world).collect(), leave: None, lost: None }
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

/// Where the whole run stands when something happens to an island.
#[derive(Clone, Copy)]
pub(super) struct Going<'a> {
    pub(super) policy: &'a Policy,
    pub(super) now: Duration,
    pub(super) stopping: bool,
    pub(super) complete: bool,
}

impl Island {
    /// Takes note of the end of one of its ranks.
    pub(super) fn rank_exited(
        &mut self,
        name: &str,
        ended: &Ended,
        going: Going<'_>,
        actions: &mut Vec<Action>,
    ) {
        let Going { policy, now, stopping, complete } = going;
        match &mut self.state {
            State::Running { alive, lost, .. } => {
                let led = self.ending.is_none() && alive.contains(&0) || lost.is_some();
                alive.remove(&ended.rank);
                let follows = ended.exit == Exit::Code(EXIT_LOST);
                if ended.exit != Exit::Code(0) && !stopping && led {
                    if follows && !complete && !alive.is_empty() {
                        lost.get_or_insert_with(|| (now + policy.lost_grace, ended.cause()));
                        return;
                    }
                    let first = lost.take().filter(|_| follows).map(|(_, cause)| cause);
                    let cause = first.unwrap_or_else(|| ended.cause());
                    self.die(name, cause, now + policy.kill_wait, actions);
                    if complete {
                        actions.push(not_again(name, &format!("{ended}; ")));
                    }
                } else if alive.is_empty() {
                    let first = lost.take().map(|(_, cause)| cause);
                    let (alive, cause) = (BTreeSet::new(), first.or_else(|| self.unfinished()));
                    self.state = State::Dying { alive, until: now, cause };
                } else if ended.rank == 0 || stopping {
                    self.state.leave(now + policy.leave_grace, LEADER_ENDED);
                }
            }
            State::Dying { alive, cause, .. } => {
                alive.remove(&ended.rank);
                if ended.cause().lasts && cause.is_some() {
                    *cause = Some(ended.cause());
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
        match &mut self.state {
            State::Running { lost: Some((by, cause)), .. } if *by <= now => {
                let cause = cause.clone();
                self.die(name, cause, now + policy.kill_wait, actions);
            }
            State::Running { alive, leave: Some(leave), .. } if leave.by <= now => {
                let (alive, why) = (std::mem::take(alive), leave.why);
                let hangs = self.ending.is_none() && alive.contains(&0);
                let cause = if hangs { Some(Cause::passing(why)) } else { self.unfinished() };
                self.state = State::Dying { alive, until: now + policy.kill_wait, cause };
                let message = format!("{name}: killed: {why}, and its ranks did not end in time");
                actions.push(Action::Announce(UpEvent::Warning { message }));
                actions.push(Action::KillIsland { island: name.to_owned() });
            }
            State::Dying { until, cause, .. } if *until <= now => {
                let cause = cause.as_ref().map_or(LEADER_ENDED, |cause| &cause.what);
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
    pub(super) fn unfinished(&self) -> Option<Cause> {
        match self.ending {
            Some(Ending::Complete | Ending::Missed) => None,
            Some(Ending::Stopped) => {
                Some(Cause::passing("it was asked to stop, but not by this program"))
            }
            None => Some(Cause::passing(WORDLESS)),
        }
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
        let island = name.to_owned();
        let wait = if cause.lasts { None } else { self.restarts.next(policy, now) };
        if let Some(wait) = wait {
            self.state = State::Backoff { until: now + wait };
            let (epoch, after) = (self.epoch + 1, wait.as_secs_f64());
            let event = UpEvent::IslandRestarting { island, epoch, reason: cause.what, after };
            actions.push(Action::Announce(event));
        } else {
            let (times, window) = (policy.restarts, policy.window.as_secs());
            let reason = match cause {
                Cause { what, lasts: true } => what,
                Cause { what, .. } => format!("{what}, after {times} restarts within {window} s"),
            };
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
    pub(super) fn cause(&self) -> Cause {
        Cause { what: self.to_string(), lasts: self.exit == Exit::Code(EXIT_MEMORY) }
    }

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
