//! Worlds of processes that end, hang and die in any order: what holds of a run whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Turn {
    /// The leader of an island says its last word.
    Says(usize, Ending),
    /// A rank of an island ends.
    Ends(usize, u32, Exit),
    /// The coordinator ends.
    Breaks(Exit),
    /// The coordinator does not answer.
    Hangs,
    /// Seconds pass.
    Passes(u64),
    /// Time passes until something is due.
    Due,
    /// The user asks to end.
    Stop,
}

/// Which processes do as they are told.
#[derive(Clone, Copy, Debug)]
struct Nature {
    /// They are gone when they are killed.
    mortal: bool,
    /// The coordinator ends when it is asked to.
    polite: bool,
}

#[derive(Debug)]
struct Life {
    epoch: u64,
    world: u32,
    /// Ranks that nobody has seen the end of.
    alive: BTreeSet<u32>,
    /// Those of them that were killed.
    dying: BTreeSet<u32>,
    /// The leader has said its last word.
    spoke: bool,
    given_up: bool,
    restarts: Vec<Duration>,
}

struct World {
    run: Supervisor,
    nature: Nature,
    now: Duration,
    islands: BTreeMap<String, Life>,
    coordinator: bool,
    coordinator_dying: bool,
    /// A leader said that the run is complete, and was there to say it.
    complete: bool,
    stopping: bool,
    end: Option<Outcome>,
}

impl World {
    fn new(nature: Nature) -> Self {
        let islands = [("a".to_owned(), 3, 1), ("b".to_owned(), 1, 4), ("c".to_owned(), 2, 1)];
        let (run, actions) = Supervisor::new(policy(), islands.clone());
        let life = |world, epoch| Life {
            epoch: epoch - 1,
            world,
            alive: BTreeSet::new(),
            dying: BTreeSet::new(),
            spoke: false,
            given_up: false,
            restarts: Vec::new(),
        };
        let islands = islands.into_iter().map(|(name, world, epoch)| (name, life(world, epoch)));
        let mut world = Self {
            run,
            nature,
            now: Duration::ZERO,
            islands: islands.collect(),
            coordinator: true,
            coordinator_dying: false,
            complete: false,
            stopping: false,
            end: None,
        };
        world.act(actions);
        world
    }

    fn happens(&mut self, event: Event) {
        let ticks = event == Event::Tick;
        let actions = self.run.on(event, self.now);
        self.act(actions);
        let wake = self.run.wake_at();
        if self.end.is_none() && ticks {
            assert!(wake.is_none_or(|at| at > self.now), "it is due again at once: {wake:?}");
        }
        assert!(wake.is_none_or(|at| at < self.now + at_most()), "no clock has {wake:?}");
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            assert_eq!(self.end, None, "nothing is done after the end: {action:?}");
            match action {
                Action::StartIsland { island, epoch } => self.start(&island, epoch),
                Action::KillIsland { island } => {
                    let life = self.islands.get_mut(&island).unwrap();
                    life.dying.clone_from(&life.alive);
                }
                Action::StopIslands => self.stopping = true,
                Action::StartCoordinator { islands } => {
                    assert!(!self.coordinator, "there are two coordinators");
                    let left = self.islands.values().filter(|life| !life.given_up).count();
                    assert_eq!(islands as usize, left);
                    self.coordinator = true;
                }
                Action::StopCoordinator => {
                    assert!(self.coordinator, "nobody is there to be stopped");
                    self.coordinator_dying |= self.nature.polite;
                }
                Action::KillCoordinator => self.coordinator_dying |= self.nature.mortal,
                Action::Announce(event) => self.hear(&event),
                Action::End(outcome) => self.end = Some(outcome),
            }
        }
    }

    fn start(&mut self, island: &str, epoch: u64) {
        assert!(!self.complete && !self.stopping, "{island} is started in vain");
        let life = self.islands.get_mut(island).unwrap();
        assert!(life.alive.is_empty(), "{island} lives twice: {:?} of before", life.alive);
        assert!(!life.given_up, "{island} was given up");
        assert_eq!(epoch, life.epoch + 1);
        (life.epoch, life.spoke) = (epoch, false);
        life.alive = (0..life.world).collect();
        life.dying.clear();
    }

    fn hear(&mut self, event: &UpEvent) {
        match event {
            UpEvent::IslandRestarting { island, epoch, after, .. } => {
                let life = self.islands.get_mut(island).unwrap();
                assert_eq!(*epoch, life.epoch + 1);
                assert!((1.0..=3.0).contains(after), "{after}");
                life.restarts.retain(|at| *at + policy().window > self.now);
                life.restarts.push(self.now);
                assert!(life.restarts.len() <= policy().restarts, "{island}: {:?}", life.restarts);
            }
            UpEvent::IslandGivenUp { island, reason } => {
                let life = self.islands.get_mut(island).unwrap();
                assert!(!life.given_up && !reason.is_empty(), "{island}: {reason}");
                life.given_up = true;
            }
            _ => {}
        }
    }

    /// The ends of what was killed come, the last rank's first.
    fn bury(&mut self) {
        if self.nature.mortal {
            let mut dead = Vec::new();
            for (name, life) in &self.islands {
                dead.extend(life.dying.iter().rev().map(|rank| (name.clone(), life.epoch, *rank)));
            }
            for (name, epoch, rank) in dead {
                self.rank_ends(&name, epoch, rank, KILLED);
            }
        }
        if self.coordinator && std::mem::take(&mut self.coordinator_dying) {
            self.coordinator = false;
            self.happens(lost(KILLED));
        }
    }

    fn rank_ends(&mut self, name: &str, epoch: u64, rank: u32, exit: Exit) {
        let life = self.islands.get_mut(name).unwrap();
        if life.epoch == epoch && life.alive.remove(&rank) {
            life.dying.remove(&rank);
            self.happens(exited(name, epoch, rank, exit));
        }
    }

    fn turn(&mut self, turn: &Turn) {
        if self.end.is_some() {
            return;
        }
        let name = |at: usize| ["a", "b", "c"][at % 3].to_owned();
        match *turn {
            Turn::Says(at, ending) => {
                let life = self.islands.get_mut(&name(at)).unwrap();
                let leads = life.alive.contains(&0) && !life.dying.contains(&0) && !life.given_up;
                if leads && !std::mem::replace(&mut life.spoke, true) {
                    let epoch = life.epoch;
                    self.complete |= ending == Ending::Complete;
                    self.happens(says(&name(at), epoch, ending));
                }
            }
            Turn::Ends(at, rank, exit) => {
                let life = &self.islands[&name(at)];
                let (epoch, rank) = (life.epoch, rank % life.world);
                if !life.dying.contains(&rank) {
                    self.rank_ends(&name(at), epoch, rank, exit);
                }
            }
            Turn::Breaks(exit) => {
                if std::mem::take(&mut self.coordinator) {
                    self.coordinator_dying = false;
                    self.happens(lost(exit));
                }
            }
            Turn::Hangs => self.happens(Event::CoordinatorSilent { silence: at(20) }),
            Turn::Passes(seconds) => {
                self.now += at(seconds);
                if self.run.wake_at().is_some_and(|at| at <= self.now) {
                    self.happens(Event::Tick);
                }
            }
            Turn::Due => {
                if let Some(due) = self.run.wake_at() {
                    self.now = self.now.max(due);
                    self.happens(Event::Tick);
                }
            }
            Turn::Stop => self.happens(Event::Stop),
        }
    }

    fn play(&mut self, turns: &[Turn]) {
        for turn in turns {
            self.turn(turn);
            self.bury();
        }
    }

    /// What an outcome has to say of what happened.
    fn check_end(&self) {
        let outcome = self.end.as_ref().expect("it ended");
        let finished = *outcome == Outcome::Finished;
        let refused = matches!(outcome, Outcome::Refused(_));
        assert!(finished == self.complete || (self.complete && refused), "{outcome:?}");
    }
}

/// Longer than any wait of the policy.
fn at_most() -> Duration {
    at(1000)
}

fn exit() -> impl Strategy<Value = Exit> {
    let codes = vec![0, EXIT_FAILED, EXIT_CONFIG, EXIT_LOST, EXIT_MEMORY, EXIT_DIVERGED, 101];
    prop_oneof![
        5 => select(codes).prop_map(Exit::Code),
        1 => select(vec![KILLED, Exit::NoMemory, Exit::Removed, Exit::Unknown]),
    ]
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let ending = select(vec![Ending::Complete, Ending::Missed, Ending::Stopped]);
    let turn = prop_oneof![
        5 => (0..3_usize, 0..3_u32, exit()).prop_map(|(at, rank, exit)| Turn::Ends(at, rank, exit)),
        2 => (0..3_usize, ending).prop_map(|(at, ending)| Turn::Says(at, ending)),
        1 => exit().prop_map(Turn::Breaks),
        1 => Just(Turn::Hangs),
        2 => (0..40_u64).prop_map(Turn::Passes),
        4 => Just(Turn::Due),
    ];
    vec(turn, 0..40)
}

fn nature() -> impl Strategy<Value = Nature> {
    (any::<bool>(), any::<bool>()).prop_map(|(mortal, polite)| Nature { mortal, polite })
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(cases(600))]

    /// Whatever happened before, and whether or not processes obey.
    #[test]
    fn two_stops_always_end_a_session(turns in turns(), nature in nature(), more in turns()) {
        let mut world = World::new(nature);
        world.play(&turns);
        world.play(&[Turn::Stop, Turn::Stop]);
        for _ in 0..8 {
            world.play(&[Turn::Due]);
        }
        world.check_end();
        let ended = world.end.clone();
        world.play(&more);
        prop_assert_eq!(world.end, ended);
    }

    /// Ranks that only ever lose each other come to an end, too: nothing is started for ever.
    #[test]
    fn a_run_that_gets_nowhere_ends_by_itself(turns in turns(), nature in nature()) {
        let mut world = World::new(nature);
        world.play(&turns);
        for _ in 0..60 {
            let exit = Exit::Code(EXIT_LOST);
            let ends = (0..3).flat_map(|at| (0..3).map(move |rank| Turn::Ends(at, rank, exit)));
            world.play(&ends.collect::<Vec<_>>());
            world.play(&[Turn::Due]);
        }
        world.check_end();
    }

    /// One stop is enough where ranks end when they are asked to, in whatever way.
    #[test]
    fn one_stop_ends_a_session_whose_ranks_obey(
        turns in turns(), polite in any::<bool>(), exits in vec(exit(), 9),
    ) {
        let mut world = World::new(Nature { mortal: true, polite });
        world.play(&turns);
        let trains = |life: &Life| !life.given_up && life.alive.len() > life.dying.len();
        let goes = !world.stopping && !world.complete && world.islands.values().any(trains);
        world.play(&[Turn::Stop]);
        let ends = exits.iter().zip(0_u32..);
        let ends = ends.map(|(exit, at)| Turn::Ends(at as usize / 3, at % 3, *exit));
        world.play(&ends.collect::<Vec<_>>());
        for _ in 0..6 {
            world.play(&[Turn::Due]);
        }
        world.check_end();
        if goes && !world.complete {
            prop_assert_eq!(world.end, Some(Outcome::Stopped));
        }
    }
}

/// A rank that lost another is waited for; when the run's end comes in between, nothing is left to
/// be said, and those that hang are killed when their time is over.
#[test]
fn ranks_that_hang_after_the_runs_end_are_killed_though_another_had_broken_before() {
    let (mut run, _) = Supervisor::new(policy(), [("a".to_owned(), 3, 1)]);
    run.on(exited("a", 1, 1, Exit::Code(EXIT_LOST)), at(1));
    run.on(says("a", 1, Ending::Complete), at(2));
    run.on(exited("a", 1, 0, OK), at(3));
    assert_eq!(run.wake_at(), Some(at(6)));
    assert!(run.on(Event::Tick, at(6)).is_empty());
    assert_eq!(run.wake_at(), Some(at(32)), "nothing is due in between");
    assert_eq!(deeds(run.on(Event::Tick, at(32))), [kill("a")]);
    assert_eq!(run.on(exited("a", 1, 2, KILLED), at(33)), [Action::StopCoordinator]);
    assert_eq!(run.on(lost(OK), at(34)), [Action::End(Outcome::Finished)]);
}

#[test]
fn a_coordinator_that_was_killed_to_be_replaced_is_waited_for_without_a_clock() {
    let mut run = two_islands();
    run.on(refused("b", 0, ""), at(1));
    assert_eq!(run.on(Event::Tick, at(11)), [Action::KillCoordinator]);
    assert_eq!(run.wake_at(), None);
    assert!(run.on(Event::Tick, at(500)).is_empty(), "it is killed once");
    assert_eq!(run.on(lost(KILLED), at(501)), [expecting(1)]);
}

#[test]
fn a_coordinator_that_refuses_what_it_is_told_ends_the_run_as_refused() {
    let mut run = two_islands();
    let detail = "failed to accept the specification".to_owned();
    let refused = Event::CoordinatorExited { exit: Exit::Code(EXIT_CONFIG), detail };
    assert_eq!(deeds(run.on(refused, at(1))), [Action::StopIslands]);
    for rank in 0..2 {
        run.on(exited("a", 1, rank, Exit::Code(EXIT_LOST)), at(2));
    }
    let actions = run.on(exited("b", 1, 0, Exit::Code(EXIT_LOST)), at(3));
    let [Action::End(Outcome::Refused(reason))] = &actions[..] else { panic!("{actions:?}") };
    assert!(reason.ends_with("ended with code 2: failed to accept the specification"), "{reason}");
}
