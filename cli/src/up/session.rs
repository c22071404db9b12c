//! One session of a run: its processes, and the loop that feeds what they do to the supervisor, the
//! record and the screen, and does what the supervisor decides.

mod checkpoints;
mod history;
mod signals;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use plan::event::WorkerEvent;
use plan::planner::{IslandPlan, RunPlan};
use plan::schedule::extended;
use plan::shard::Grid;
use plan::spec::{DeviceSpec, ENVIRONMENT, WorkerSpec};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use self::checkpoints::Checkpoints;
pub use self::checkpoints::CheckpointsError;
use self::signals::StopSignals;
use super::coordinator::{self, Told};
use super::event::{Begin, Body, IslandBegin, Outcome, RankEvent, Record, UpEvent};
use super::process::{self, Handle, Launch, Report, Who};
use super::run_dir::{RunDir, RunDirError, Saved};
use super::screen::Screen;
use super::state::RunState;
use super::summary::Summary;
use super::supervise::{Action, Event, Exit, Policy, Supervisor};

/// Lines and exits of children that are not dealt with yet; children wait when it is full.
const REPORTS: usize = 1024;
/// The coordinator serves within this time of its first start.
const COORDINATOR_START: Duration = Duration::from_secs(30);
/// How often bars are brought up to date.
const REDRAW: Duration = Duration::from_millis(200);
/// Longest piece of a line of a child that is shown.
const SHOWN: usize = 200;

/// What a session is about.
#[derive(Debug)]
pub struct Setting {
    /// The run's folder.
    pub dir: RunDir,
    /// What each island does.
    pub plan: RunPlan,
    /// Why cards are emulated; absent where they are real.
    pub emulated: Option<String>,
    /// Said at the beginning, a sentence each.
    pub notes: Vec<String>,
    /// What the processes run.
    pub programs: Programs,
    /// Hash of the data's index.
    pub data_hash: String,
    /// The earlier session's end, where the run goes on.
    pub earlier: Option<Saved>,
    /// Whether events are printed in place of words.
    pub json: bool,
}

/// What the processes run.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `heteroloco-worker`.
    pub worker: PathBuf,
    /// `heteroloco-coordinator`.
    pub coordinator: PathBuf,
}

/// A session could not go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The run folder cannot be written.
    #[error("failed to keep the run folder")]
    RunDir(#[from] RunDirError),
    /// The folder of the checkpoints cannot be used.
    #[error(transparent)]
    Checkpoints(#[from] CheckpointsError),
    /// The list of events cannot be read or written.
    #[error("failed to keep the events in {}", path.display())]
    Events {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Signals cannot be caught.
    #[error("failed to listen for signals")]
    Signals(#[source] io::Error),
    /// The coordinator did not come up.
    #[error("failed to start the coordinator: {0}")]
    Coordinator(String),
}

impl SessionError {
    /// Whether what the user asked for has to change before it can work.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Checkpoints(_))
    }
}

/// A running session.
#[derive(Debug)]
pub struct Session {
    setting: Setting,
    saved: Saved,
    checkpoints: Checkpoints,
    address: String,
    begun: Instant,
    handles: BTreeMap<String, BTreeMap<u32, Handle>>,
    coordinator: Option<Handle>,
    /// What a process said when it failed, until its end is dealt with.
    failures: BTreeMap<Who, String>,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    /// Ends of processes that could not be started at all.
    unstarted: VecDeque<Who>,
    stop: StopSignals,
    supervisor: Supervisor,
    state: RunState,
    screen: Screen,
    events: File,
    outcome: Option<Outcome>,
}

impl Session {
    /// Starts the coordinator and every rank.
    ///
    /// # Errors
    /// When a file or a process cannot be made, or the coordinator does not come up.
    pub async fn start(mut setting: Setting) -> Result<Self, SessionError> {
        let checkpoints = Checkpoints::new(&setting.dir, &setting.plan);
        let (state, events) = look_back(&setting, &checkpoints)?;
        if let Some(earlier) = &setting.earlier {
            let run = &mut setting.plan.run;
            run.schedule = extended(&earlier.run, state.tokens, run.tokens);
        }
        let saved = first_epochs(&setting, &checkpoints);
        setting.dir.save(&saved)?;
        let islands = setting.plan.islands.iter().map(|island| {
            let (name, world) = (island.spec.name.clone(), island.spec.ranks.len() as u32);
            let epoch = saved.epochs.get(&name).copied().unwrap_or(1);
            (name, world, epoch)
        });
        let (supervisor, actions) = Supervisor::new(Policy::default(), islands);
        let mut session = Self {
            screen: Screen::new(setting.json),
            setting,
            saved,
            checkpoints,
            address: String::new(),
            begun: Instant::now(),
            handles: BTreeMap::new(),
            coordinator: None,
            failures: BTreeMap::new(),
            reports: mpsc::channel(REPORTS),
            unstarted: VecDeque::new(),
            stop: StopSignals::new().map_err(SessionError::Signals)?,
            supervisor,
            state,
            events,
            outcome: None,
        };
        session.begin()?;
        session.start_coordinator("127.0.0.1:0")?;
        session.address = session.coordinator_address().await?;
        let address = format!("http://{}", session.address);
        session.record(Body::Up(UpEvent::CoordinatorStarted { address }))?;
        session.act(actions)?;
        Ok(session)
    }

    /// Goes on until nothing runs any more.
    ///
    /// # Errors
    /// When the run folder cannot be written.
    pub async fn run(mut self) -> Result<Outcome, SessionError> {
        let mut redraw = tokio::time::interval(REDRAW);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while self.outcome.is_none() {
            let wake = self.supervisor.wake_at().map(|at| self.begun + at);
            let event = tokio::select! {
                Some(report) = next(&mut self.unstarted, &mut self.reports.1) => self.take(report)?,
                () = self.stop.recv() => Some(Event::Stop),
                () = sleep_until(wake) => Some(Event::Tick),
                _ = redraw.tick() => { self.screen.draw(&self.state); None }
            };
            if let Some(event) = event {
                let actions = self.supervisor.on(event, self.begun.elapsed());
                self.act(actions)?;
            }
        }
        self.finish()
    }

    fn begin(&mut self) -> Result<(), SessionError> {
        let plan = &self.setting.plan;
        let islands = plan.islands.iter().map(|island| IslandBegin {
            name: island.spec.name.clone(),
            cards: cards(island),
            inner_steps: island.spec.inner_steps,
            step_seconds: Some(island.step_seconds()),
            correction: Some(island.correction),
        });
        let begin = Begin {
            run: plan.run.name.clone(),
            resumed: self.setting.earlier.is_some(),
            emulated: self.setting.emulated.clone(),
            tokens: plan.run.tokens,
            rounds: plan.run.total_rounds,
            parameters: plan.dense_bytes / 4,
            islands: islands.collect(),
        };
        self.record(Body::Up(UpEvent::Begin(begin)))?;
        for message in self.setting.notes.clone() {
            self.record(Body::Up(UpEvent::Warning { message }))?;
        }
        Ok(())
    }

    /// Waits for the coordinator's first line.
    async fn coordinator_address(&mut self) -> Result<String, SessionError> {
        let log = self.setting.dir.log(&Who::Coordinator.to_string())?;
        let wait = async {
            loop {
                match next(&mut self.unstarted, &mut self.reports.1).await {
                    Some(Report::Line(_, line)) => {
                        if let Ok(Told::Listening { address }) = serde_json::from_str(&line) {
                            return Ok(address);
                        }
                    }
                    Some(Report::Exited(who, exit)) => {
                        let said = self.failures.remove(&who);
                        let said = said.unwrap_or_else(|| process::last_line(&log));
                        return Err(format!("it {exit}: {said}"));
                    }
                    None => return Err("its output ended".to_owned()),
                }
            }
        };
        let waited = tokio::time::timeout(COORDINATOR_START, wait).await;
        let late = || format!("it did not serve within {} s", COORDINATOR_START.as_secs());
        waited.unwrap_or_else(|_| Err(late())).map_err(SessionError::Coordinator)
    }

    /// What a report means to the supervisor, after it is recorded.
    fn take(&mut self, report: Report) -> Result<Option<Event>, SessionError> {
        match report {
            Report::Line(who, line) => self.take_line(who, &line),
            Report::Exited(Who::Coordinator, exit) => {
                self.coordinator = None;
                let detail = self.detail(&Who::Coordinator, exit)?;
                Ok(Some(Event::CoordinatorExited { exit, detail }))
            }
            Report::Exited(who @ Who::Rank { .. }, exit) => {
                let detail = self.detail(&who, exit)?;
                self.rank_exited(who, exit, detail)
            }
        }
    }

    fn rank_exited(
        &mut self,
        who: Who,
        exit: Exit,
        detail: String,
    ) -> Result<Option<Event>, SessionError> {
        let Who::Rank { island, epoch, rank } = who else { return Ok(None) };
        if let Some(ranks) = self.handles.get_mut(&island) {
            ranks.remove(&rank);
        }
        let shown = if detail.is_empty() { exit.to_string() } else { format!("{exit}: {detail}") };
        let exited = UpEvent::RankExited { island: island.clone(), rank, epoch, exit: shown };
        self.record(Body::Up(exited))?;
        Ok(Some(Event::RankExited { island, epoch, rank, exit, detail }))
    }

    fn take_line(&mut self, who: Who, line: &str) -> Result<Option<Event>, SessionError> {
        let Who::Rank { ref island, epoch, rank } = who else {
            return self.take_coordinator_line(line).map(|()| None);
        };
        let island = island.clone();
        let Ok(event) = serde_json::from_str::<WorkerEvent>(line) else {
            let line: String = line.chars().take(SHOWN).collect();
            let message = format!("{island}: rank {rank} said what is no event: {line}");
            return self.record(Body::Up(UpEvent::Warning { message })).map(|()| None);
        };
        if let WorkerEvent::Failed { error } = &event {
            self.failures.insert(who, error.clone());
        }
        // Only the leader speaks for its island.
        let last_word = match &event {
            WorkerEvent::Finished { ending } if rank == 0 => {
                let (island, ending) = (island.clone(), *ending);
                Some(Event::LeaderFinished { island, epoch, ending })
            }
            _ => None,
        };
        self.record(Body::Rank(RankEvent { island, rank, epoch, event }))?;
        Ok(last_word)
    }

    fn take_coordinator_line(&mut self, line: &str) -> Result<(), SessionError> {
        let Ok(Told::Listening { address }) = serde_json::from_str(line) else { return Ok(()) };
        let address = format!("http://{address}");
        self.record(Body::Up(UpEvent::CoordinatorStarted { address }))
    }

    /// Why a process ended: what it said, or the end of its log where it broke without a word.
    fn detail(&mut self, who: &Who, exit: Exit) -> Result<String, SessionError> {
        let said = self.failures.remove(who).unwrap_or_default();
        if !said.is_empty() || matches!(exit, Exit::Code(0) | Exit::Signal(_)) {
            return Ok(said);
        }
        Ok(process::last_line(&self.setting.dir.log(&who.to_string())?))
    }

    fn act(&mut self, actions: Vec<Action>) -> Result<(), SessionError> {
        for action in actions {
            match action {
                Action::StartIsland { island, epoch } => self.start_island(&island, epoch)?,
                Action::KillIsland { island } => {
                    let ranks = self.handles.get(&island).into_iter();
                    ranks.flat_map(BTreeMap::values).for_each(Handle::kill);
                }
                Action::StopIslands => {
                    self.handles.values().flat_map(BTreeMap::values).for_each(Handle::terminate);
                }
                Action::StartCoordinator => {
                    let address = self.address.clone();
                    self.start_coordinator(&address)?;
                }
                Action::StopCoordinator => {
                    self.coordinator.iter().for_each(Handle::terminate);
                }
                Action::KillCoordinator => {
                    self.coordinator.iter().for_each(Handle::kill);
                }
                Action::Announce(event) => self.record(Body::Up(event))?,
                Action::End(outcome) => self.outcome = Some(outcome),
            }
        }
        Ok(())
    }

    fn start_coordinator(&mut self, listen: &str) -> Result<(), SessionError> {
        let dir = &self.setting.dir;
        let spec = coordinator::spec(&self.setting.plan, dir.path(), listen);
        let spec = dir.write_json("coordinator.json", &spec)?;
        let launch = Launch {
            who: Who::Coordinator,
            program: self.setting.programs.coordinator.clone(),
            args: vec!["--spec".into(), spec.into()],
            env: Vec::new(),
            log: dir.log(&Who::Coordinator.to_string())?,
        };
        self.coordinator = self.launch(launch);
        Ok(())
    }

    /// Starts all ranks of an island. The epoch is on disk before any of them speaks in its name.
    fn start_island(&mut self, name: &str, epoch: u64) -> Result<(), SessionError> {
        let Some(at) = self.setting.plan.islands.iter().position(|i| i.spec.name == name) else {
            return Ok(());
        };
        self.saved.epochs.insert(name.to_owned(), epoch);
        self.setting.dir.save(&self.saved)?;
        let island = name.to_owned();
        self.record(Body::Up(UpEvent::IslandStarted { island, epoch }))?;
        let resume = self.setting.earlier.is_some() || epoch > 1;
        let mut ranks = BTreeMap::new();
        for rank in 0..self.setting.plan.islands[at].spec.ranks.len() as u32 {
            let launch = self.rank_launch(at, rank, epoch, resume)?;
            if let Some(handle) = self.launch(launch) {
                ranks.insert(rank, handle);
            }
        }
        self.handles.insert(name.to_owned(), ranks);
        Ok(())
    }

    fn rank_launch(
        &self,
        at: usize,
        rank: u32,
        epoch: u64,
        resume: bool,
    ) -> Result<Launch, SessionError> {
        let (dir, plan) = (&self.setting.dir, &self.setting.plan);
        let mut island = plan.islands[at].spec.clone();
        island.epoch = epoch;
        let (name, device) = (island.name.clone(), island.ranks[rank as usize].devices[0].device);
        let spec = WorkerSpec {
            run: plan.run.clone(),
            island,
            rank,
            coordinator: format!("http://{}", self.address),
            listen: "127.0.0.1:0".to_owned(),
            collective_listen: "127.0.0.1:0".to_owned(),
            metrics: Some("127.0.0.1:0".to_owned()),
            checkpoint_dir: self.checkpoints.of(&name),
        };
        let who = Who::Rank { island: name, epoch, rank };
        let mut args = vec!["--spec".into(), dir.write_spec(&spec)?.into()];
        if resume {
            args.push("--resume".into());
        }
        Ok(Launch {
            log: dir.log(&who.to_string())?,
            who,
            program: self.setting.programs.worker.clone(),
            args,
            env: environment(device),
        })
    }

    /// A process that does not start counts as one that ended at once.
    fn launch(&mut self, launch: Launch) -> Option<Handle> {
        let (who, program) = (launch.who.clone(), launch.program.clone());
        let started = process::start(launch, self.reports.0.clone());
        started
            .map_err(|error| {
                let said = format!("failed to start {}: {error}", program.display());
                self.failures.insert(who.clone(), said);
                self.unstarted.push_back(who);
            })
            .ok()
    }

    /// Writes down and shows what happened.
    fn record(&mut self, body: Body) -> Result<(), SessionError> {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let record = Record { at: at.as_secs_f64(), body };
        let write = |events: &mut File| -> io::Result<()> {
            let mut line = serde_json::to_vec(&record)?;
            line.push(b'\n');
            events.write_all(&line)
        };
        write(&mut self.events)
            .map_err(|source| SessionError::Events { path: self.setting.dir.events(), source })?;
        self.state.apply(&record);
        self.screen.record(&record, &self.state);
        Ok(())
    }

    fn finish(mut self) -> Result<Outcome, SessionError> {
        let outcome = self.outcome.take().unwrap_or(Outcome::Finished);
        let summary = Summary::of(&self.state);
        self.setting.dir.write_json("summary.json", &summary)?;
        let end = UpEvent::End { outcome: outcome.clone(), summary: Box::new(summary.clone()) };
        self.record(Body::Up(end))?;
        let mut text = format!("\n{}{}", summary.text(), summary.figures());
        if outcome == Outcome::Stopped {
            text += "stopped; the same command with --resume goes on";
        }
        self.screen.finish(&text);
        Ok(outcome)
    }
}

/// What earlier sessions reached, and whether this one can go on from there; a refusal comes before
/// anything is written to the folder of a new run.
fn look_back(
    setting: &Setting,
    checkpoints: &Checkpoints,
) -> Result<(RunState, File), SessionError> {
    if setting.earlier.is_none() {
        checkpoints.begin()?;
    }
    let path = setting.dir.events();
    let (state, events) =
        history::open(&path).map_err(|source| SessionError::Events { path, source })?;
    if let Some(earlier) = &setting.earlier {
        checkpoints.go_on(earlier, state.committed() as usize)?;
    }
    Ok((state, events))
}

/// Epochs of a session's first start: beyond all that were used before.
fn first_epochs(setting: &Setting, checkpoints: &Checkpoints) -> Saved {
    let earlier = setting.earlier.as_ref().map(|saved| saved.epochs.clone()).unwrap_or_default();
    let mut epochs = earlier.clone();
    for island in &setting.plan.islands {
        let name = &island.spec.name;
        epochs.insert(name.clone(), earlier.get(name).map_or(1, |epoch| epoch + 1));
    }
    Saved {
        run: setting.plan.run.clone(),
        data_hash: setting.data_hash.clone(),
        epochs,
        checkpoints: Some(checkpoints.saved()),
    }
}

/// Ranks on the CPU share few cores: threads that spin while they wait would slow all others down.
fn environment(device: DeviceSpec) -> Vec<(&'static str, String)> {
    let own = match device {
        DeviceSpec::Cpu { threads, .. } => vec![
            ("OMP_NUM_THREADS", threads.to_string()),
            ("OMP_WAIT_POLICY", "PASSIVE".to_owned()),
            ("GOMP_SPINCOUNT", "0".to_owned()),
        ],
        // The order in which the management library counts cards.
        DeviceSpec::Cuda { .. } => vec![("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned())],
    };
    let all = ENVIRONMENT.into_iter().map(|(name, value)| (name, value.to_owned()));
    all.chain(own).collect()
}

/// `2 × NVIDIA-GeForce-RTX-4090 + 1 × cpu`, and how replicas are split over them.
fn cards(island: &IslandPlan) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for card in island.spec.ranks.iter().flat_map(|rank| &rank.devices) {
        match counts.iter_mut().find(|(product, _)| *product == card.product) {
            Some((_, count)) => *count += 1,
            None => counts.push((&card.product, 1)),
        }
    }
    let parts: Vec<String> = counts.iter().map(|(p, n)| format!("{n} × {p}")).collect();
    let cards = parts.join(" + ");
    match Grid::of(&island.spec) {
        Grid { stages: 1, tensor: 1, .. } => cards,
        Grid { stages, tensor, .. } => format!("{cards}, pp {stages} × tp {tensor}"),
    }
}

/// The next end of a process, or line of one.
async fn next(
    unstarted: &mut VecDeque<Who>,
    reports: &mut mpsc::Receiver<Report>,
) -> Option<Report> {
    match unstarted.pop_front() {
        Some(who) => Some(Report::Exited(who, Exit::Unknown)),
        None => reports.recv().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
