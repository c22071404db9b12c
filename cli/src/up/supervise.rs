//! Who is started, killed and given up: a decision over what happened, the clock passed in.
//! An island lives and dies as a whole: its ranks hold one replica, so one lost rank ends them all,
//! and they come back together at the next epoch.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use plan::event::EXIT_CONFIG;

use super::event::{Outcome, UpEvent};

/// Bounds on restarts and waits.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Restarts of one island (or of the coordinator) within `window` before it is given up.
    pub restarts: usize,
    /// See `restarts`.
    pub window: Duration,
    /// Wait before the first restart; doubles with each further one in the window.
    pub first_backoff: Duration,
    /// Longest wait before a restart.
    pub longest_backoff: Duration,
    /// After being told to end, ranks may take this long: a commit and a checkpoint.
    pub stop_grace: Duration,
    /// After its leader ended well, an island's other ranks may take this long.
    pub leave_grace: Duration,
    /// A killed process is gone after this long, or given up.
    pub kill_wait: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            restarts: 6,
            window: Duration::from_secs(600),
            first_backoff: Duration::from_millis(500),
            longest_backoff: Duration::from_secs(30),
            stop_grace: Duration::from_secs(60),
            leave_grace: Duration::from_secs(30),
            kill_wait: Duration::from_secs(10),
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// It could not be started, or its status could not be read.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(0) => write!(f, "ended"),
            Self::Code(code) => write!(f, "ended with code {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
            Self::Unknown => write!(f, "could not be run"),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The process of a rank is gone.
    RankExited {
        /// Name of the island.
        island: String,
        /// Epoch that the process ran.
        epoch: u64,
        /// The rank.
        rank: u32,
        /// How it ended.
        exit: Exit,
        /// What it said last; may be empty.
        detail: String,
    },
    /// The coordinator's process is gone.
    CoordinatorExited {
        /// How it ended.
        exit: Exit,
        /// What it said last; may be empty.
        detail: String,
    },
    /// The user asks to end (again).
    Stop,
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Start every rank of the island at this epoch.
    StartIsland {
        /// Name of the island.
        island: String,
        /// The epoch.
        epoch: u64,
    },
    /// Kill what is left of an island, at once.
    KillIsland {
        /// Name of the island.
        island: String,
    },
    /// Ask every rank that runs to end: offer, commit, checkpoint, leave.
    StopIslands,
    /// Start the coordinator on the same port and store.
    StartCoordinator,
    /// Ask the coordinator to end.
    StopCoordinator,
    /// Kill the coordinator at once.
    KillCoordinator,
    /// Tell people.
    Announce(UpEvent),
    /// Nothing runs any more, or nothing can be waited for.
    End(Outcome),
}

/// The processes of a run and what becomes of them.
#[derive(Debug)]
pub struct Supervisor {
    policy: Policy,
    islands: BTreeMap<String, Island>,
    coordinator: Coordinator,
    coordinator_restarts: Restarts,
    phase: Phase,
}

#[derive(Debug)]
struct Island {
    world: u32,
    epoch: u64,
    state: State,
    restarts: Restarts,
}

#[derive(Debug)]
enum State {
    /// Ranks that run; once the leader ended well, when the others have to be gone.
    Running { alive: BTreeSet<u32>, leave_by: Option<Duration> },
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

#[derive(Debug, PartialEq)]
enum Coordinator {
    Running,
    Backoff { until: Duration },
    Gone,
}

#[derive(Debug)]
enum Phase {
    Running,
    /// Ranks were told to end, and are killed at `kill_at`.
    Stopping {
        kill_at: Duration,
        killed: bool,
        outcome: Outcome,
    },
    /// Only the coordinator is left; it was told to end.
    Closing {
        kill_at: Duration,
        killed: bool,
        outcome: Outcome,
    },
    Ended,
}

/// When restarts were made, within the policy's window.
#[derive(Debug, Default)]
struct Restarts(VecDeque<Duration>);

impl Restarts {
    /// The wait before the next restart; `None` when there were too many.
    fn next(&mut self, policy: &Policy, now: Duration) -> Option<Duration> {
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

impl Supervisor {
    /// A run whose coordinator is up, with islands `(name, ranks, epoch)` that are still to start.
    pub fn new(
        policy: Policy,
        islands: impl IntoIterator<Item = (String, u32, u64)>,
    ) -> (Self, Vec<Action>) {
        let islands: BTreeMap<_, _> = islands
            .into_iter()
            .map(|(name, world, epoch)| {
                let state = State::Running { alive: (0..world).collect(), leave_by: None };
                (name, Island { world, epoch, state, restarts: Restarts::default() })
            })
            .collect();
        let start = islands
            .iter()
            .map(|(name, i)| Action::StartIsland { island: name.clone(), epoch: i.epoch })
            .collect();
        let supervisor = Self {
            policy,
            islands,
            coordinator: Coordinator::Running,
            coordinator_restarts: Restarts::default(),
            phase: Phase::Running,
        };
        (supervisor, start)
    }

    /// What to do about `event`.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::RankExited { island, epoch, rank, exit, detail } => {
                let ended = Ended { epoch, rank, exit, detail };
                self.rank_exited(&island, &ended, now, &mut actions);
            }
            Event::CoordinatorExited { exit, detail } => {
                self.coordinator_exited(exit, &detail, now, &mut actions);
            }
            Event::Stop => self.stop_asked(now, &mut actions),
            Event::Tick => self.tick(now, &mut actions),
        }
        self.settle(now, &mut actions);
        actions
    }

    /// When a [`Event::Tick`] is due.
    pub fn wake_at(&self) -> Option<Duration> {
        let islands = self.islands.values().filter_map(|island| match &island.state {
            State::Running { leave_by, .. } => *leave_by,
            State::Dying { until, .. } | State::Backoff { until } => Some(*until),
            State::Done | State::GivenUp(_) => None,
        });
        let coordinator = match self.coordinator {
            Coordinator::Backoff { until } => Some(until),
            Coordinator::Running | Coordinator::Gone => None,
        };
        let phase = match &self.phase {
            Phase::Stopping { kill_at, .. } | Phase::Closing { kill_at, .. } => Some(*kill_at),
            Phase::Running | Phase::Ended => None,
        };
        islands.chain(coordinator).chain(phase).min()
    }

    fn rank_exited(&mut self, name: &str, ended: &Ended, now: Duration, actions: &mut Vec<Action>) {
        let stopping = !matches!(self.phase, Phase::Running);
        let policy = self.policy;
        let island = self.islands.get_mut(name).filter(|island| island.epoch == ended.epoch);
        let Some(island) = island else { return };
        match &mut island.state {
            State::Running { alive, leave_by } => {
                alive.remove(&ended.rank);
                if ended.exit == Exit::Code(0) || stopping || leave_by.is_some() {
                    if ended.rank == 0 || stopping {
                        *leave_by = Some(now + policy.leave_grace);
                    }
                    if alive.is_empty() {
                        island.state = State::Done;
                    }
                } else {
                    let alive = std::mem::take(alive);
                    if !alive.is_empty() {
                        actions.push(Action::KillIsland { island: name.to_owned() });
                    }
                    let until = now + policy.kill_wait;
                    island.state = State::Dying { alive, until, cause: Some(ended.to_string()) };
                }
            }
            State::Dying { alive, .. } => {
                alive.remove(&ended.rank);
            }
            State::Backoff { .. } | State::Done | State::GivenUp(_) => {}
        }
        if ended.exit == Exit::Code(EXIT_CONFIG) && !stopping {
            self.stop(Outcome::Refused(format!("{name}: {}", ended.said())), now, actions);
        }
    }

    fn coordinator_exited(
        &mut self,
        exit: Exit,
        detail: &str,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        self.coordinator = Coordinator::Gone;
        if matches!(self.phase, Phase::Closing { .. } | Phase::Ended) {
            return;
        }
        let reason = with_detail(format!("coordinator {exit}"), detail);
        if exit == Exit::Code(EXIT_CONFIG) {
            return self.stop(Outcome::Refused(reason), now, actions);
        }
        match self.coordinator_restarts.next(&self.policy, now) {
            Some(wait) => {
                self.coordinator = Coordinator::Backoff { until: now + wait };
                let after = wait.as_secs_f64();
                actions.push(Action::Announce(UpEvent::CoordinatorRestarting { reason, after }));
            }
            None => self.stop(Outcome::Failed(format!("{reason}, too often")), now, actions),
        }
    }

    fn stop_asked(&mut self, now: Duration, actions: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::Running => self.stop(Outcome::Stopped, now, actions),
            Phase::Stopping { kill_at, .. } | Phase::Closing { kill_at, .. } => {
                *kill_at = now;
                self.tick(now, actions);
            }
            Phase::Ended => {}
        }
    }

    fn stop(&mut self, outcome: Outcome, now: Duration, actions: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        let reason = outcome.to_string();
        let kill_at = now + self.policy.stop_grace;
        self.phase = Phase::Stopping { kill_at, killed: false, outcome };
        for island in self.islands.values_mut() {
            if matches!(island.state, State::Backoff { .. }) {
                island.state = State::Done;
            }
        }
        actions.push(Action::Announce(UpEvent::Stopping { reason }));
        actions.push(Action::StopIslands);
    }

    fn tick(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if matches!(self.coordinator, Coordinator::Backoff { until } if until <= now) {
            self.coordinator = Coordinator::Running;
            actions.push(Action::StartCoordinator);
        }
        for (name, island) in &mut self.islands {
            island.tick(name, &self.policy, now, actions);
        }
        match &mut self.phase {
            Phase::Stopping { kill_at, killed, .. } if *kill_at <= now => {
                if *killed {
                    self.abandon();
                    return;
                }
                *killed = true;
                *kill_at = now + self.policy.kill_wait;
                let running = self.islands.iter().filter(|(_, i)| i.is_alive());
                actions.extend(running.map(|(n, _)| Action::KillIsland { island: n.clone() }));
            }
            Phase::Closing { kill_at, killed, .. } if *kill_at <= now => {
                if *killed {
                    self.coordinator = Coordinator::Gone;
                    return;
                }
                *killed = true;
                *kill_at = now + self.policy.kill_wait;
                actions.push(Action::KillCoordinator);
            }
            _ => {}
        }
    }

    /// Killed processes that do not go away are not waited for.
    fn abandon(&mut self) {
        for island in self.islands.values_mut().filter(|i| i.is_alive()) {
            island.state = State::GivenUp("could not be killed".to_owned());
        }
    }

    /// Consequences that several events share: dead islands restart, a run without islands ends.
    fn settle(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let stopping = !matches!(self.phase, Phase::Running);
        for (name, island) in &mut self.islands {
            island.bury(name, &self.policy, (!stopping).then_some(now), actions);
        }
        if self.islands.values().all(|i| matches!(i.state, State::Done | State::GivenUp(_))) {
            self.close(now, actions);
        }
        if let Phase::Closing { outcome, .. } = &self.phase
            && self.coordinator != Coordinator::Running
        {
            actions.push(Action::End(outcome.clone()));
            self.phase = Phase::Ended;
        }
    }

    fn close(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let outcome = match &self.phase {
            Phase::Running => self.natural_outcome(),
            Phase::Stopping { outcome, .. } => outcome.clone(),
            Phase::Closing { .. } | Phase::Ended => return,
        };
        if self.coordinator == Coordinator::Running {
            actions.push(Action::StopCoordinator);
        }
        let kill_at = now + self.policy.kill_wait;
        self.phase = Phase::Closing { kill_at, killed: false, outcome };
    }

    fn natural_outcome(&self) -> Outcome {
        let reasons: Vec<String> = self
            .islands
            .iter()
            .filter_map(|(name, island)| match &island.state {
                State::GivenUp(reason) => Some(format!("{name}: {reason}")),
                _ => None,
            })
            .collect();
        if reasons.len() < self.islands.len() {
            return Outcome::Finished;
        }
        Outcome::Failed(format!("every island was given up ({})", reasons.join("; ")))
    }
}

impl Island {
    fn is_alive(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Dying { .. })
    }

    fn tick(&mut self, name: &str, policy: &Policy, now: Duration, actions: &mut Vec<Action>) {
        match &mut self.state {
            State::Running { alive, leave_by: Some(by) } if *by <= now => {
                let alive = std::mem::take(alive);
                self.state = State::Dying { alive, until: now + policy.kill_wait, cause: None };
                actions.push(Action::KillIsland { island: name.to_owned() });
            }
            State::Dying { until, cause, .. } if *until <= now => {
                let cause = cause.as_deref().unwrap_or("its leader ended");
                let reason = format!("{cause}, and the other ranks could not be killed");
                self.state = State::GivenUp(reason.clone());
                let island = name.to_owned();
                actions.push(Action::Announce(UpEvent::IslandGivenUp { island, reason }));
            }
            State::Backoff { until } if *until <= now => {
                self.epoch += 1;
                self.state = State::Running { alive: (0..self.world).collect(), leave_by: None };
                let (island, epoch) = (name.to_owned(), self.epoch);
                actions.push(Action::StartIsland { island, epoch });
            }
            _ => {}
        }
    }

    /// An island whose killed ranks are all gone comes back later, is given up, or, where nothing
    /// is restarted any more (`now` absent), is done.
    fn bury(
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
        let (Some(now), Some(cause)) = (now, cause.clone()) else {
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
struct Ended {
    epoch: u64,
    rank: u32,
    exit: Exit,
    detail: String,
}

impl Ended {
    /// What it said, or how it ended where it said nothing.
    fn said(&self) -> String {
        if self.detail.is_empty() { self.to_string() } else { self.detail.clone() }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("rank {} {}", self.rank, self.exit);
        write!(f, "{}", with_detail(text, &self.detail))
    }
}

fn with_detail(text: String, detail: &str) -> String {
    if detail.is_empty() { text } else { format!("{text}: {detail}") }
}

#[cfg(test)]
mod tests;
