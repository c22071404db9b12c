//! The world: a clock, a queue of what is to happen, the islands and their coordinator.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::rc::Rc;

use rounds::config::{Config, RunConfig};
use rounds::decide::Directive;
use rounds::refusal::Refusal;
use rounds::request::Identity;
use rounds::step::{Event, Verdict};
use rounds::types::{Phase, RunView};

use crate::coordinator::{Caller, Disk, Process};
use crate::faults::Plan;
use crate::island::{Busy, Call, Checkpoint, Island};
use crate::judge::{Fault, Judge, Rules};
use crate::rng::Rng;

mod member;
mod mishaps;
mod network;

pub(crate) const LEASE_MS: u64 = 1_500;
const DEADLINE_MS: u64 = 6_000;
const FETCH_DEADLINE_MS: u64 = 20_000;
const GO_BACK_MS: u64 = 8_000;
/// Tokens of a sample.
const SAMPLE_TOKENS: u64 = 10;
/// Inner steps of a round, and samples of one of them.
const STEPS: u32 = 4;
const STEP_SAMPLES: u64 = 2;
/// How long after the last mishap a run may take to come to its end.
const PATIENCE_MS: u64 = 180_000;
/// Happenings of one world, a guard against one that never ends.
const HAPPENINGS_MAX: u64 = 400_000;

/// The outcome of a world.
#[derive(Debug)]
pub struct Outcome {
    /// The law that was broken first.
    pub fault: Option<Fault>,
    /// Rounds that were committed and stand.
    pub rounds: u64,
    /// Milliseconds of the world's clock.
    pub ms: u64,
    /// The events, a line each; empty unless asked for.
    pub trace: String,
}

/// Says whether to write down what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// No.
    Off,
    /// All of it.
    On,
}

/// Something that is to happen.
pub(crate) enum Happening {
    Look { island: usize, life: u64 },
    Beat { island: usize, life: u64 },
    Arrive { event: Event, caller: Caller },
    Answer { caller: Caller, reply: Result<Verdict, Refusal> },
    Silence { caller: Caller },
    View { island: usize, life: u64, view: Rc<RunView> },
    Step { island: usize, life: u64, round: u64, step: u32 },
    Fetched { island: usize, life: u64, round: u64, owner: String, from: usize },
    Synced { island: usize, life: u64, from: usize, round: u64 },
    Durable { island: usize, life: u64, kept: Checkpoint },
    Restart { island: usize, life: u64 },
    Tick { term: u64 },
    Written { term: u64 },
    CoordinatorUp { term: u64 },
    Mishap(crate::faults::Mishap),
}

pub(crate) struct World {
    pub(crate) now: u64,
    count: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) config: Config,
    pub(crate) islands: Vec<Island>,
    pub(crate) coordinator: Option<Process>,
    /// Counts coordinators.
    pub(crate) term: u64,
    pub(crate) disk: Disk,
    pub(crate) older: VecDeque<Disk>,
    /// The newest view that anybody was shown, since the disk was last intact.
    pub(crate) shown: Option<Rc<RunView>>,
    pub(crate) judge: Judge,
    /// A bit was flipped.
    pub(crate) flipped: bool,
    calls: u64,
    trace: Option<String>,
}

/// Runs the world of `seed` to its end, or to the first thing that is broken.
pub fn simulate(seed: u64, trace: Trace) -> Outcome {
    let mut world = World::new(seed, trace);
    let fault = world.run().err();
    if let Some(fault) = &fault {
        world.tell(|| format!("BROKEN: {fault}"));
    }
    let rounds = world.shown.as_ref().map_or(0, |view| view.round);
    Outcome { fault, rounds, ms: world.now, trace: world.trace.unwrap_or_default() }
}

fn config(plan: &Plan) -> Config {
    let round = plan.islands as u64 * u64::from(STEPS) * STEP_SAMPLES * SAMPLE_TOKENS;
    let islands = u32::try_from(plan.islands).unwrap_or(1);
    let rules = RunConfig {
        name: "sim".into(),
        islands,
        minimum: islands.div_ceil(2),
        quorum_percent: plan.quorum_percent,
        grace_ms: plan.grace,
        deadline_ms: DEADLINE_MS,
        fetch_deadline_ms: FETCH_DEADLINE_MS,
        lease_ms: LEASE_MS,
        go_back_after_ms: GO_BACK_MS,
        go_back: false,
        tokens: round * plan.rounds,
        max_members: 16,
    };
    rules.validate().expect("the plan draws rules that can be followed")
}

impl World {
    fn new(seed: u64, trace: Trace) -> World {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng);
        let config = config(&plan);
        let rules = Rules {
            quorum_percent: usize::from(plan.quorum_percent),
            grace: plan.grace,
            stall: config.stall_ms(),
            deadline: DEADLINE_MS,
            go_back_after: GO_BACK_MS,
        };
        let names = (0..plan.islands + plan.late).map(|at| Island::new(format!("i{at}")));
        let mut world = World {
            now: 0,
            count: 0,
            queue: BTreeMap::new(),
            rng,
            config,
            islands: names.collect(),
            coordinator: None,
            term: 0,
            disk: Disk::default(),
            older: VecDeque::new(),
            shown: None,
            judge: Judge::new(rules),
            flipped: false,
            calls: 0,
            trace: (trace == Trace::On).then(String::new),
            plan,
        };
        world.start_coordinator().expect("an empty disk breaks nothing");
        for island in 0..world.plan.islands {
            let at = world.rng.between(0, 500);
            world.at(at, Happening::Restart { island, life: 0 });
        }
        for (at, mishap) in world.plan.mishaps.clone() {
            world.at(at, Happening::Mishap(mishap));
        }
        world
    }

    pub(crate) fn at(&mut self, at: u64, what: Happening) {
        self.count += 1;
        self.queue.insert((at.max(self.now), self.count), what);
    }

    pub(crate) fn after(&mut self, ms: u64, what: Happening) {
        self.at(self.now + ms, what);
    }

    pub(crate) fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            // Writing to a String cannot fail.
            let _ = writeln!(trace, "{:>7} {}", self.now, what());
        }
    }

    fn run(&mut self) -> Result<(), Fault> {
        let plan = format!("{:?}", self.plan);
        self.tell(|| plan);
        while let Some(((at, _), what)) = self.queue.pop_first() {
            self.now = at;
            if self.is_over() {
                return Ok(());
            }
            if self.now > self.plan.quiet_at + PATIENCE_MS || self.count > HAPPENINGS_MAX {
                return Err(self.stuck());
            }
            self.happen(what)?;
        }
        // Nothing is left to happen.
        self.now = self.now.max(self.plan.quiet_at + 1);
        if self.is_over() { Ok(()) } else { Err(self.stuck()) }
    }

    fn stuck(&self) -> Fault {
        let view = self.coordinator.as_ref().map(|process| &process.view);
        let why = view.map_or_else(String::new, |view| {
            format!("round {} {:?}: {}", view.round, view.phase, view.reason)
        });
        Fault::Stuck(why)
    }

    /// The run is done, after the last mishap, and every island that could knows it.
    fn is_over(&self) -> bool {
        let done = self.shown.as_ref().is_some_and(|view| view.phase == Phase::Done);
        let ended = self.islands.iter().filter(|island| island.epoch > 0);
        done && self.now > self.plan.quiet_at && ended.clone().all(|i| i.busy == Busy::Ended)
    }

    fn happen(&mut self, what: Happening) -> Result<(), Fault> {
        match what {
            Happening::Look { island, life } => self.look(island, life),
            Happening::Beat { island, life } => self.beat(island, life),
            Happening::Arrive { event, caller } => self.arrive(event, caller)?,
            Happening::Answer { caller, reply } => self.answer(caller, reply)?,
            Happening::Silence { caller } => self.silence(caller),
            Happening::View { island, life, view } => self.see(island, life, view),
            Happening::Step { island, life, round, step } => self.step(island, life, round, step),
            Happening::Fetched { island, life, round, owner, from } => {
                self.got((island, life), (round, owner), from);
            }
            Happening::Synced { island, life, from, round } => {
                self.synced(island, life, from, round);
            }
            Happening::Durable { island, life, kept } => self.durable(island, life, kept),
            Happening::Restart { island, life } => self.restart(island, life),
            Happening::Tick { term } if term == self.term => self.take(Event::Tick, None)?,
            Happening::Written { term } if term == self.term => self.written()?,
            Happening::CoordinatorUp { term } if term == self.term => self.start_coordinator()?,
            Happening::Tick { .. }
            | Happening::Written { .. }
            | Happening::CoordinatorUp { .. } => {}
            Happening::Mishap(mishap) => self.mishap(mishap),
        }
        Ok(())
    }

    /// A new process of an island, unless another came first.
    fn restart(&mut self, island: usize, life: u64) {
        if self.islands[island].alive || self.islands[island].life != life {
            return;
        }
        self.islands[island].start();
        let Island { name, epoch, life, at, .. } = &self.islands[island];
        let (name, epoch, life, round) = (name.clone(), *epoch, *life, at.round);
        self.tell(|| format!("{name} starts at epoch {epoch} with round {round}"));
        self.look_in(island, 0);
        self.after(1, Happening::Beat { island, life });
    }

    pub(crate) fn next_call(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    pub(crate) fn identity(&self, island: usize) -> Identity {
        let Island { name, epoch, .. } = &self.islands[island];
        Identity { run: "sim".into(), island: name.clone(), epoch: *epoch }
    }

    pub(crate) fn is_live(&self, island: usize, life: u64) -> bool {
        self.islands[island].alive && self.islands[island].life == life
    }

    pub(crate) fn call(&mut self, island: usize, what: Call) {
        let call = self.next_call();
        self.islands[island].busy = Busy::Calling { call, what };
        self.send(island, call);
    }

    pub(crate) fn trace_directive(&mut self, island: usize, directive: &Directive) {
        if matches!(directive, Directive::Wait { .. }) {
            return;
        }
        let name = self.islands[island].name.clone();
        let text: String = format!("{directive:?}").chars().take(100).collect();
        self.tell(|| format!("{name}: {text}"));
    }
}
