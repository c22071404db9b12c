//! The supervisor: who is started, killed and given up, decided from events, the clock passed in.
//! An island lives and dies as a whole: its ranks hold one replica, so one lost rank ends them all,
//! and they come back together at the next epoch. What broke it, and whether that lasts, is for
//! [`contract::fate`] to say. An island that cannot go on costs itself alone: the run goes on while
//! one is left.

mod island;

use std::collections::BTreeMap;
use std::time::Duration;

use contract::event::Ending;
use contract::exit::EXIT_CONFIG;
use contract::fate::{Cause, End, WORD_WAIT, Why};

use self::island::{Going, Island, LEADER_ENDED, Restarts, State};
use super::event::{Outcome, UpEvent};
pub use contract::fate::Exit;

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
    /// After one island completed the run, the others may take this long: the last round, an
    /// evaluation and a checkpoint.
    pub finish_grace: Duration,
    /// After a rank ended badly, the others' own ends are waited for so long.
    pub word_wait: Duration,
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
            finish_grace: Duration::from_secs(60),
            word_wait: WORD_WAIT,
            kill_wait: Duration::from_secs(10),
        }
    }
}

/// An event that the supervisor acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The leader of an island says that it ends well. This comes before its process is gone.
    LeaderFinished {
        /// Name of the island.
        island: String,
        /// Epoch that the leader ran.
        epoch: u64,
        /// Why it ends.
        ending: Ending,
    },
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
        /// Its last words; may be empty.
        detail: String,
    },
    /// The coordinator's process is gone.
    CoordinatorExited {
        /// How it ended.
        exit: Exit,
        /// Its last words; may be empty.
        detail: String,
    },
    /// The coordinator's process is there and does not answer.
    CoordinatorSilent {
        /// For how long.
        silence: Duration,
    },
    /// The user asks to end (again).
    Stop,
    /// Time has passed.
    Tick,
}

/// An action of the session.
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
    StartCoordinator {
        /// Islands that it is to expect.
        islands: u32,
    },
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

#[derive(Debug, PartialEq)]
enum Coordinator {
    Running,
    /// Told to end, to be started again with the islands that are left; killed then.
    Replaced {
        kill_at: Duration,
        killed: bool,
    },
    Backoff {
        until: Duration,
    },
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

impl Supervisor {
    /// A run whose coordinator is up, with islands `(name, ranks, epoch)` that are still to start.
    pub fn new(
        policy: Policy,
        islands: impl IntoIterator<Item = (String, u32, u64)>,
    ) -> (Self, Vec<Action>) {
        let islands: BTreeMap<_, _> = islands
            .into_iter()
            .map(|(name, world, epoch)| {
                let state = State::running(world);
                let restarts = Restarts::default();
                (name, Island { world, epoch, state, restarts, ending: None, ends: Vec::new() })
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

    /// The actions that follow from `event`.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::LeaderFinished { island, epoch, ending } => {
                if self.leader_finished(&island, epoch, ending, now) {
                    self.run_completed(now, &mut actions);
                }
            }
            Event::RankExited { island, epoch, rank, exit, detail } => {
                let end = End { rank, exit, said: detail };
                self.rank_exited((&island, epoch), end, now, &mut actions);
            }
            Event::CoordinatorExited { exit, detail } => {
                self.coordinator_exited(exit, &detail, now, &mut actions);
            }
            Event::CoordinatorSilent { silence } => self.coordinator_silent(silence, &mut actions),
            Event::Stop => self.stop_asked(now, &mut actions),
            Event::Tick => self.tick(now, &mut actions),
        }
        self.settle(now, &mut actions);
        actions
    }

    /// The time at which an [`Event::Tick`] is due.
    pub fn wake_at(&self) -> Option<Duration> {
        let islands = self.islands.values().filter_map(|island| match &island.state {
            State::Running { leave, word, .. } => {
                leave.as_ref().map(|leave| leave.by).into_iter().chain(*word).min()
            }
            State::Dying { until, .. } | State::Backoff { until } => Some(*until),
            State::Done | State::GivenUp(_) => None,
        });
        let coordinator = match self.coordinator {
            Coordinator::Backoff { until: at }
            | Coordinator::Replaced { kill_at: at, killed: false } => Some(at),
            Coordinator::Running | Coordinator::Replaced { .. } | Coordinator::Gone => None,
        };
        let phase = match &self.phase {
            Phase::Stopping { kill_at, .. } | Phase::Closing { kill_at, .. } => Some(*kill_at),
            Phase::Running | Phase::Ended => None,
        };
        islands.chain(coordinator).chain(phase).min()
    }

    /// Notes the leader's last word; whether it is that the run is complete.
    fn leader_finished(&mut self, name: &str, epoch: u64, ending: Ending, now: Duration) -> bool {
        let by = now + self.policy.leave_grace;
        let island = self.islands.get_mut(name).filter(|island| island.epoch == epoch);
        let Some(island) = island else { return false };
        island.ending = Some(ending);
        island.state.leave(by, LEADER_ENDED);
        ending == Ending::Complete
    }

    /// One island that holds the whole run is enough: the others are not waited for without end.
    fn run_completed(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let by = now + self.policy.finish_grace;
        for (name, island) in &mut self.islands {
            island.state.leave(by, "the run is complete");
            if matches!(island.state, State::Backoff { .. }) {
                island.state = State::Done;
                actions.push(not_again(name, ""));
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.islands.values().any(|island| island.ending == Some(Ending::Complete))
    }

    fn rank_exited(
        &mut self,
        (name, epoch): (&str, u64),
        end: End,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let (stopping, complete) = (!matches!(self.phase, Phase::Running), self.is_complete());
        let island = self.islands.get_mut(name).filter(|island| island.epoch == epoch);
        let Some(island) = island else { return };
        let going = Going { policy: &self.policy, now, stopping, complete };
        island.rank_exited(name, end, going, actions);
    }

    fn coordinator_exited(
        &mut self,
        exit: Exit,
        detail: &str,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let replaced = matches!(self.coordinator, Coordinator::Replaced { .. });
        self.coordinator = Coordinator::Gone;
        if matches!(self.phase, Phase::Closing { .. } | Phase::Ended) {
            return;
        }
        if replaced {
            self.start_coordinator(actions);
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

    /// One that hangs is killed; its end is dealt with as any other.
    fn coordinator_silent(&self, silence: Duration, actions: &mut Vec<Action>) {
        if self.coordinator == Coordinator::Running {
            let seconds = silence.as_secs();
            let message = format!("the coordinator has not answered for {seconds} s: it is killed");
            actions.push(Action::Announce(UpEvent::Warning { message }));
            actions.push(Action::KillCoordinator);
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
        match &mut self.coordinator {
            Coordinator::Backoff { until } if *until <= now => self.start_coordinator(actions),
            Coordinator::Replaced { kill_at, killed: killed @ false } if *kill_at <= now => {
                *killed = true;
                actions.push(Action::KillCoordinator);
            }
            _ => {}
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
            island.state = State::GivenUp(Cause::new(Why::Failed, "could not be killed"));
        }
    }

    /// Consequences that several events share: dead islands restart, a run without islands ends.
    fn settle(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let restarts = matches!(self.phase, Phase::Running) && !self.is_complete();
        for (name, island) in &mut self.islands {
            island.bury(name, &self.policy, restarts.then_some(now), actions);
        }
        let given_up =
            |action: &Action| matches!(action, Action::Announce(UpEvent::IslandGivenUp { .. }));
        if restarts && actions.iter().any(given_up) {
            self.replace_coordinator(now, actions);
        }
        if self.islands.values().all(|i| matches!(i.state, State::Done | State::GivenUp(_))) {
            self.close(now, actions);
        }
        if let Phase::Closing { outcome, .. } = &self.phase
            && matches!(self.coordinator, Coordinator::Gone | Coordinator::Backoff { .. })
        {
            actions.push(Action::End(outcome.clone()));
            self.phase = Phase::Ended;
        }
    }

    /// The coordinator waits for as many islands as it was told of: those that do not come any more
    /// must not keep the others from beginning. It is started again, as it may be at any time.
    fn replace_coordinator(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.coordinator == Coordinator::Running && self.islands_left() > 0 {
            let kill_at = now + self.policy.kill_wait;
            self.coordinator = Coordinator::Replaced { kill_at, killed: false };
            actions.push(Action::StopCoordinator);
        }
    }

    fn start_coordinator(&mut self, actions: &mut Vec<Action>) {
        self.coordinator = Coordinator::Running;
        actions.push(Action::StartCoordinator { islands: self.islands_left() });
    }

    /// Islands that were not given up.
    fn islands_left(&self) -> u32 {
        let left = self.islands.values().filter(|i| !matches!(i.state, State::GivenUp(_)));
        u32::try_from(left.count()).unwrap_or(u32::MAX)
    }

    fn close(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let outcome = match &self.phase {
            Phase::Running => self.natural_outcome(),
            Phase::Stopping { outcome: Outcome::Stopped | Outcome::Failed(_), .. }
                if self.is_complete() =>
            {
                Outcome::Finished
            }
            Phase::Stopping { outcome, .. } => outcome.clone(),
            Phase::Closing { .. } | Phase::Ended => return,
        };
        if self.coordinator == Coordinator::Running {
            actions.push(Action::StopCoordinator);
        }
        let kill_at = now + self.policy.kill_wait;
        self.phase = Phase::Closing { kill_at, killed: false, outcome };
    }

    /// Only an island that saw the run's end holds its model.
    fn natural_outcome(&self) -> Outcome {
        if self.is_complete() {
            return Outcome::Finished;
        }
        let given_up = |island: &Island| match &island.state {
            State::GivenUp(cause) => Some(cause.clone()),
            _ => None,
        };
        let causes: Option<Vec<Cause>> = self.islands.values().map(given_up).collect();
        let names = self.islands.keys();
        if let Some(causes) = &causes
            && causes.iter().all(|cause| cause.why == Why::Configuration)
        {
            return Outcome::Refused(together(names.zip(causes.iter().map(Cause::sentence))));
        }
        let what = match causes {
            Some(_) => "every island was given up",
            None => "no island was there when the run got its last tokens",
        };
        let reasons = self.islands.values().map(|island| match (&island.state, island.ending) {
            (State::GivenUp(cause), _) => cause.what.clone(),
            (_, Some(ending)) => ending.to_string(),
            (_, None) => island.unfinished().map(|cause| cause.what).unwrap_or_default(),
        });
        Outcome::Failed(format!("{what} ({})", together(names.zip(reasons))))
    }
}

/// Sentences about islands in one text, each sentence once with the names of its islands.
fn together<'a>(said: impl Iterator<Item = (&'a String, String)>) -> String {
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, what) in said {
        match all.iter_mut().find(|(_, other)| *other == what) {
            Some((names, _)) => *names += &format!(", {name}"),
            None => all.push((name.clone(), what)),
        }
    }
    all.iter().map(|(names, what)| format!("{names}: {what}")).collect::<Vec<_>>().join("; ")
}

/// Says that an island does not come back, after what happened to it.
fn not_again(name: &str, what: &str) -> Action {
    let message = format!("{name}: {what}not started again: the run is complete");
    Action::Announce(UpEvent::Warning { message })
}

fn with_detail(text: String, detail: &str) -> String {
    if detail.is_empty() { text } else { format!("{text}: {detail}") }
}

#[cfg(test)]
mod tests;
