//! A trainer that minimises ‖θ − target‖², and islands of threads that run it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use collective::Group;
use member::{
    Member, MemberConfig, MemberError, OuterState, RoundReport, StepControl, Theta, ThetaError,
    Timeouts, Turn, span_of,
};
use rounds::config::RunConfig;
use rounds::types::Digest;
use sparseloco::outer::{OuterParams, Rule};
use sparseloco::{CodecParams, Layout, TensorShape, ValueBits};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Inner steps of a round.
const STEPS: u32 = 4;
/// Tokens of a step of one rank.
const TOKENS: u64 = 10;
/// No wait of a test is longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The point of a round at which an island is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// Before its first inner step.
    BeforeTraining,
    /// In the middle of its inner steps.
    WhileTraining,
    /// After it has trained and before it offers anything.
    BeforeOffer,
    /// After it has offered and before it fetches anything.
    AfterOffer,
    /// After it has applied the round.
    AfterApply,
}

/// A round that some islands do not end before others are up with it: toy rounds take milliseconds,
/// so a newcomer would otherwise run after them for ever.
#[derive(Debug, Default)]
pub(super) struct Gate {
    round: u64,
    open: Mutex<bool>,
    news: Condvar,
}

impl Gate {
    pub(super) fn at(round: u64) -> Arc<Gate> {
        Arc::new(Gate { round, ..Gate::default() })
    }

    fn pass(&self, round: u64) {
        if round >= self.round {
            let open = self.open.lock().expect("no panic");
            let (_open, waited) =
                self.news.wait_timeout_while(open, PATIENCE, |open| !*open).expect("no panic");
            assert!(!waited.timed_out(), "nobody came up with round {}", self.round);
        }
    }

    fn reached(&self, round: u64) {
        if round >= self.round {
            *self.open.lock().expect("no panic") = true;
            self.news.notify_all();
        }
    }
}

/// The events that an island meets besides training.
#[derive(Clone, Default)]
pub(super) struct Script {
    /// It is killed at a point of a round.
    pub(super) kill: Option<(u64, Point)>,
    /// It does not end this round before the gate is open.
    pub(super) waits: Option<Arc<Gate>>,
    /// It opens the gate when it is up with its round.
    pub(super) opens: Option<Arc<Gate>>,
    /// It forgoes a round so many times, as if its steps were not finite.
    pub(super) forgoes: Option<(u64, u32)>,
    /// The steps of this round take so long.
    pub(super) slow: Option<(u64, Duration)>,
}

impl Script {
    /// The pause of a step of a round.
    fn pause(&self, round: u64) -> Duration {
        self.slow.filter(|(at, _)| *at == round).map_or(Duration::ZERO, |(_, pause)| pause)
    }
}

/// A quadratic bowl, whose values every rank holds in canonical order.
struct Toy {
    layout: Arc<Layout>,
    theta: Vec<f32>,
    target: Vec<f32>,
}

impl Toy {
    fn new(layout: Arc<Layout>) -> Toy {
        let values = layout.values();
        let target = (0..values).map(|i| ((i % 29) as f32 - 14.0) / 14.0).collect();
        Toy { layout, theta: initial(values), target }
    }

    /// The values of each rank's span.
    fn spans(&self, group: &Group) -> Vec<Range<usize>> {
        let world_size = group.world_size();
        let spans = (0..world_size).map(|rank| span_of(&self.layout, rank, world_size));
        spans.map(|pieces| self.layout.span(pieces)).collect()
    }
}

impl Theta for Toy {
    fn collect(&mut self, group: &mut Group, span: &mut [f32]) -> Result<(), ThetaError> {
        let own = self.spans(group)[group.rank() as usize].clone();
        span.copy_from_slice(&self.theta[own]);
        Ok(())
    }

    fn spread(&mut self, group: &mut Group, span: &[f32]) -> Result<(), ThetaError> {
        let spans = self.spans(group);
        self.theta[spans[group.rank() as usize].clone()].copy_from_slice(span);
        for (rank, span) in (0..).zip(spans) {
            group.broadcast(&mut self.theta[span], rank)?;
        }
        Ok(())
    }
}

/// The history of an island.
pub(super) struct Island {
    pub(super) name: String,
    /// Hash of θ after each round that it applied.
    pub(super) hashes: BTreeMap<u64, Digest>,
    /// Root of the mean squared distance from the optimum.
    pub(super) distance: f64,
    /// Why it ended.
    pub(super) ended: String,
    /// Islands in each committed set that it applied.
    pub(super) sets: BTreeMap<u64, u32>,
    /// Snapshots that it took.
    pub(super) synced: u32,
    /// Rounds that it trained and forwent, as often as it did.
    pub(super) forgone: Vec<u64>,
    /// Rounds that it trained in vain, and by how much its residual then differs from all of what
    /// it had to send.
    pub(super) vain: BTreeMap<u64, f32>,
    /// Steps of each round that it offered.
    pub(super) steps: BTreeMap<u64, u32>,
}

impl Island {
    /// Takes note of a round that ended with this `residual`; `due` is what there was to send, if
    /// it trained.
    fn note(&mut self, report: &RoundReport, residual: &[f32], due: &[f32]) {
        self.hashes.insert(report.round, report.theta_hash.expect("a hash"));
        self.sets.insert(report.round, report.islands);
        if !report.contributed && !due.is_empty() {
            let differences = residual.iter().zip(due).map(|(a, b)| (a - b).abs());
            self.vain.insert(report.round, differences.fold(0.0, f32::max));
        }
    }
}

/// An island at work.
pub(super) struct Running {
    ends: Receiver<(u32, Island)>,
    ranks: u32,
    pub(super) stop: Arc<AtomicBool>,
    progress: Progress,
}

/// Rounds applied by an island's leader, and the news of it.
type Progress = Arc<(Mutex<u64>, Condvar)>;

impl Running {
    /// Waits for its end, boundedly; the leader's account.
    pub(super) fn finish(self) -> Island {
        let mut leader = None;
        for _ in 0..self.ranks {
            let (rank, island) = self.ends.recv_timeout(PATIENCE).expect("every rank ends");
            if rank == 0 {
                leader = Some(island);
            }
        }
        leader.expect("a leader")
    }

    /// Waits until the island has applied so many rounds.
    pub(super) fn wait_for_rounds(&self, rounds: u64) {
        let (count, news) = &*self.progress;
        let applied = count.lock().expect("no panic");
        let (_applied, waited) = news
            .wait_timeout_while(applied, PATIENCE, |applied| *applied < rounds)
            .expect("no panic");
        assert!(!waited.timed_out(), "{rounds} rounds were never applied");
    }
}

/// A coordinator on a port of this machine, and what its islands share.
pub(super) struct Cluster {
    runtime: Runtime,
    shutdown: Mutex<Option<oneshot::Sender<()>>>,
    pub(super) address: String,
    config: RunConfig,
    folder: TempDir,
    served: Mutex<Option<tokio::task::JoinHandle<()>>>,
    pub(super) rule: Rule,
}

impl Cluster {
    /// A run of `rounds` rounds that begins when `islands` islands have joined.
    pub(super) fn start(islands: u32, rounds: u64) -> Cluster {
        // Tokens depend on who takes part; the run ends by them, so tests give the whole number.
        let tokens = rounds * u64::from(STEPS) * TOKENS * total_ranks(islands);
        Cluster::with(RunConfig {
            name: "toy".into(),
            islands,
            minimum: islands,
            quorum_percent: 50,
            // Never waited for, as nobody is missing; a busy machine makes its steps in it.
            grace_ms: 20_000,
            deadline_ms: 20_000,
            fetch_deadline_ms: 5_000,
            lease_ms: 1_500,
            go_back_after_ms: 10_000,
            go_back: false,
            tokens,
            max_members: 16,
        })
    }

    pub(super) fn with(config: RunConfig) -> Cluster {
        let runtime = Runtime::new().expect("a runtime");
        let folder = TempDir::new().expect("a folder");
        let cluster = Cluster {
            runtime,
            shutdown: Mutex::new(None),
            address: String::new(),
            config,
            folder,
            served: Mutex::new(None),
            rule: Rule::Counted,
        };
        let address = cluster.serve("127.0.0.1:0");
        Cluster { address, ..cluster }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("coordinator.redb")
    }

    fn serve(&self, listen: &str) -> String {
        let config = self.config.clone().validate().expect("valid rules");
        let (stop, stopped) = oneshot::channel();
        let (listen, path) = (listen.to_string(), self.store());
        let (address, task) = self.runtime.block_on(async move {
            let members = coordinator::listen(&listen).await.expect("a free port");
            let address = members.local_addr().expect("an address").to_string();
            let store = coordinator::store::Store::open(&path).expect("a store");
            let listeners = coordinator::Listeners { members, metrics: None };
            let task = tokio::spawn(async move {
                let stopped = async {
                    let _ = stopped.await;
                };
                coordinator::run(listeners, config, store, stopped).await.expect("served");
            });
            (address, task)
        });
        *self.shutdown.lock().expect("no panic") = Some(stop);
        *self.served.lock().expect("no panic") = Some(task);
        address
    }

    /// Ends the coordinator, and starts another on the same port and store.
    pub(super) fn restart(&self) {
        self.stop_coordinator();
        self.serve(&self.address);
    }

    pub(super) fn stop_coordinator(&self) {
        drop(self.shutdown.lock().expect("no panic").take());
        if let Some(task) = self.served.lock().expect("no panic").take() {
            self.runtime.block_on(task).expect("ended well");
        }
    }

    /// Starts an island that runs to the end.
    pub(super) fn island(&self, name: &str, ranks: u32) -> Running {
        self.island_with(name, ranks, 1, Script::default())
    }

    /// Starts an island at an epoch, with something that happens to it.
    pub(super) fn island_with(
        &self,
        name: &str,
        ranks: u32,
        epoch: u64,
        script: Script,
    ) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let progress = Progress::default();
        let (ended, ends) = std::sync::mpsc::channel();
        for rank in 0..ranks {
            let config = self.member_config(name, epoch, rank, ranks);
            let (stop, progress) = (Arc::clone(&stop), Arc::clone(&progress));
            let (ended, script) = (ended.clone(), script.clone());
            std::thread::spawn(move || {
                // The test may have failed and gone already.
                let _ = ended.send((rank, run(config, &script, stop, &progress)));
            });
        }
        Running { ends, ranks, stop, progress }
    }

    pub(super) fn member_config(
        &self,
        name: &str,
        epoch: u64,
        rank: u32,
        ranks: u32,
    ) -> MemberConfig {
        MemberConfig {
            run: "toy".into(),
            island: name.into(),
            epoch,
            rank,
            world_size: ranks,
            coordinator: format!("http://{}", self.address),
            listen: "127.0.0.1:0".into(),
            collective_listen: "127.0.0.1:0".into(),
            plan_hash: Digest([3; 32]),
            codec: codec(),
            outer: OuterParams { rule: self.rule, alpha: 1.0 },
            inner_steps: STEPS,
            round_samples: u64::from(STEPS),
            tokens_per_second: 1.0,
            timeouts: Timeouts {
                group: Duration::from_secs(30),
                coordinator: Duration::from_secs(20),
                transfer: Duration::from_secs(1),
                stall: Duration::from_secs(5),
                stop: Duration::from_secs(20),
                forgone: Duration::from_secs(8),
                ..Timeouts::default()
            },
        }
    }
}

/// Ranks of the islands that tests start: 1, 2, … in turn.
fn total_ranks(islands: u32) -> u64 {
    (1..=u64::from(islands)).sum()
}

/// Dense enough that a few rounds suffice.
pub(super) fn codec() -> CodecParams {
    CodecParams::new(1024, ValueBits::Two, 0.95, 0.0).expect("valid parameters")
}

/// Three pieces and a little, so that three ranks have something each.
pub(super) fn layout() -> Layout {
    let shape = |name: &str, shape: &[u64]| TensorShape { name: name.into(), shape: shape.into() };
    Layout::new(&[shape("w", &[1024, 800]), shape("b", &[5000])]).expect("valid shapes")
}

/// The θ that every island starts from, in canonical order.
pub(super) fn initial(values: usize) -> Vec<f32> {
    (0..values).map(|index| ((index % 17) as f32 - 8.0) / 8.0).collect()
}

fn run(
    config: MemberConfig,
    script: &Script,
    stop: Arc<AtomicBool>,
    progress: &Progress,
) -> Island {
    let layout = Arc::new(layout());
    let mut toy = Toy::new(Arc::clone(&layout));
    let mut island = Island {
        name: config.island.clone(),
        hashes: BTreeMap::new(),
        distance: 0.0,
        ended: String::new(),
        sets: BTreeMap::new(),
        synced: 0,
        forgone: Vec::new(),
        vain: BTreeMap::new(),
        steps: BTreeMap::new(),
    };
    island.ended = match follow(&config, script, (stop, progress), (&layout, &mut toy, &mut island))
    {
        Ok(ended) => ended.to_string(),
        Err(error) => format!("{error}: {:?}", std::error::Error::source(&error)),
    };
    let squares = toy.theta.iter().zip(&toy.target).map(|(a, b)| f64::from(a - b).powi(2));
    island.distance = (squares.sum::<f64>() / toy.theta.len() as f64).sqrt();
    island
}

/// The state of the run's first round.
fn beginning(layout: &Layout, member: &Member) -> OuterState {
    OuterState::fresh(0, initial(layout.values())[member.span_values()].to_vec())
}

fn follow(
    config: &MemberConfig,
    script: &Script,
    (stop, progress): (Arc<AtomicBool>, &Progress),
    (layout, toy, island): (&Arc<Layout>, &mut Toy, &mut Island),
) -> Result<&'static str, MemberError> {
    let mut member = Member::connect(config.clone(), Arc::clone(layout), stop)?;
    member.begin(toy, beginning(layout, &member))?;
    let dies = |round: u64, point: Point| script.kill == Some((round, point));
    let reached = |round| script.opens.iter().for_each(|gate| gate.reached(round));
    let mut due = Vec::new();
    loop {
        match member.next(toy)? {
            Turn::Train { round } => {
                if dies(round, Point::BeforeTraining) {
                    return Ok("killed");
                }
                script.waits.iter().for_each(|gate| gate.pass(round));
                let dies_at = dies(round, Point::WhileTraining).then_some(2);
                let manner = (dies_at, script.pause(round));
                let Some((total, steps)) = train(&mut member, toy, config, manner)? else {
                    return Ok("killed");
                };
                if dies(round, Point::BeforeOffer) {
                    return Ok("killed");
                }
                let forgone = island.forgone.len() as u32;
                if script.forgoes.is_some_and(|(at, times)| at == round && forgone < times) {
                    toy.theta.fill(f32::NAN);
                    island.forgone.push(round);
                    member.forgo(toy, "its steps were not finite")?;
                    continue;
                }
                due = to_send(&member, toy);
                island.steps.insert(round, steps);
                member.offer(toy, total, steps)?;
                if dies(round, Point::AfterOffer) {
                    return Ok("killed");
                }
            }
            Turn::Applied(report) => {
                island.note(&report, member.residual(), &std::mem::take(&mut due));
                reached(report.round + 1);
                if config.rank == 0 {
                    *progress.0.lock().expect("no panic") += 1;
                    progress.1.notify_all();
                }
                if dies(report.round, Point::AfterApply) {
                    return Ok("killed");
                }
            }
            Turn::Synced { round } => {
                island.synced += 1;
                reached(round);
            }
            Turn::Rewound { .. } => member.begin(toy, beginning(layout, &member))?,
            Turn::Missed => return Ok("missed"),
            Turn::Finished => {
                member.load_theta(toy)?;
                member.leave("finished");
                return Ok("finished");
            }
            Turn::Stopped => {
                member.leave("stopped");
                return Ok("stopped");
            }
        }
    }
}

/// All that a rank has to send at the end of a round: what is left of its residual, and its update.
fn to_send(member: &Member, toy: &Toy) -> Vec<f32> {
    let theta = &toy.theta[member.span_values()];
    let update = member.anchor().into_iter().zip(theta).map(|(anchor, theta)| anchor - theta);
    let decay = codec().error_decay();
    update.zip(member.residual()).map(|(update, residual)| decay * residual + update).collect()
}

/// The inner steps of a round, their sums and how many there were; nothing when the island is
/// killed before step `dies_at`. Each takes as long as the pause.
fn train(
    member: &mut Member,
    toy: &mut Toy,
    config: &MemberConfig,
    (dies_at, pause): (Option<u32>, Duration),
) -> Result<Option<(StepControl, u32)>, MemberError> {
    let mut total = StepControl::default();
    for step in 0..STEPS {
        if dies_at == Some(step) {
            return Ok(None);
        }
        // It works for so long.
        std::thread::park_timeout(pause);
        member.pace(STEPS - step - 1);
        let control = train_step(member, toy, config)?;
        total.loss_sum += control.loss_sum;
        total.tokens += control.tokens;
        total.stop |= control.stop;
        if control.stop || control.closed {
            return Ok(Some((total, step + 1)));
        }
    }
    Ok(Some((total, STEPS)))
}

/// One step down the bowl: the ranks' mean gradient.
fn train_step(
    member: &mut Member,
    toy: &mut Toy,
    config: &MemberConfig,
) -> Result<StepControl, MemberError> {
    let ranks = config.world_size as f32;
    let mut gradient: Vec<f32> =
        toy.theta.iter().zip(&toy.target).map(|(a, b)| (a - b) / ranks).collect();
    let loss_sum = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
    member
        .group()
        .all_reduce(&mut gradient)
        .map_err(|source| MemberError::Group { operation: "sum gradients", source })?;
    for (value, gradient) in toy.theta.iter_mut().zip(gradient) {
        *value -= 0.2 * gradient;
    }
    member.step_control(StepControl { loss_sum, tokens: TOKENS, ..StepControl::default() })
}
