//! One session of a run: its processes, and the loop that feeds what they do to the supervisor, the
//! record and the screen, and does what the supervisor decides.

mod beginning;
mod checkpoints;
mod disk;
mod history;
mod killed;
mod launch;
mod patience;
mod pulse;
mod resume;
mod signals;
mod whole;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use contract::event::WorkerEvent;
use plan::planner::{IslandPlan, RunPlan};
use plan::schedule::extended;
use plan::shard::Grid;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use self::beginning::Beginning;
pub use self::beginning::NoBeginning;
use self::checkpoints::Checkpoints;
pub use self::checkpoints::CheckpointsError;
use self::disk::Trouble;
use self::killed::Killer;
use self::launch::Start;
use self::pulse::Pulse;
use self::signals::StopSignals;
use super::event::{Begin, Body, IslandBegin, Outcome, RankEvent, UpEvent};
use super::heldout::Watch;
use super::journal::Journal;
use super::next::Next;
use super::process::{Handle, Report, Who};
use super::run_dir::{RunDir, RunDirError, Saved};
use super::screen::Screen;
use super::state::RunState;
use super::summary::Summary;
use super::supervise::{Action, Event, Exit, Supervisor};
use crate::memory::Kernel;
use crate::outlook::{self, Outlook};
use contract::coordinator::CoordinatorEvent;
use rounds::whereabouts::Adopted;

/// Lines and exits of children that are not dealt with yet; children wait when it is full.
const REPORTS_MAX: usize = 1024;
/// The coordinator serves within this time of its first start.
const COORDINATOR_START_WAIT: Duration = Duration::from_secs(30);
/// The address that the coordinator listens on at first; a later one takes its place.
const ANY_PORT: &str = "127.0.0.1:0";
/// How often bars are brought up to date.
const REDRAW_EVERY: Duration = Duration::from_millis(200);
/// Longest piece of a line of a child that is shown.
const SHOWN_MAX: usize = 200;

/// The subject of a session.
#[derive(Debug)]
pub struct Setting {
    /// The run's folder.
    pub dir: RunDir,
    /// The plan of every island.
    pub plan: RunPlan,
    /// Why cards are emulated; absent where they are real.
    pub emulated: Option<String>,
    /// Said at the beginning, a sentence each.
    pub notes: Vec<String>,
    /// The programs that the processes run.
    pub programs: Programs,
    /// Hash of the data's index.
    pub data_hash: String,
    /// The earlier session's end, where the run goes on.
    pub earlier: Option<Saved>,
    /// Whether a checkpoint may take the place of what the coordinator knew.
    pub adopt: bool,
    /// Whether events are printed in place of words.
    pub json: bool,
    /// The commands that can be typed when the session is over.
    pub next: Next,
    /// Cores of this machine that the ranks have.
    pub cores: usize,
}

/// The programs that the processes run.
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
    /// The store and the checkpoints that are there do not go together.
    #[error(transparent)]
    Beginning(#[from] NoBeginning),
    /// The coordinator cannot say what its store is.
    #[error("failed to look at the coordinator's store: {0}")]
    Store(String),
    /// The list of events cannot be read.
    #[error("failed to read the events in {}", path.display())]
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
    /// Says whether what the user asked for has to change before it can work.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Checkpoints(error) => error.is_refusal(),
            Self::Beginning(_) => true,
            _ => false,
        }
    }
}

/// A running session.
#[derive(Debug)]
pub struct Session {
    setting: Setting,
    saved: Saved,
    checkpoints: Checkpoints,
    address: String,
    /// The point at which a coordinator with an empty store takes the run up.
    adopt: Option<Adopted>,
    begun: Instant,
    handles: BTreeMap<String, BTreeMap<u32, Handle>>,
    coordinator: Option<Handle>,
    pulse: Pulse,
    /// The last words of a process that failed, until its end is dealt with.
    failures: BTreeMap<Who, String>,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    /// Ends of processes that could not be started at all.
    unstarted: VecDeque<Who>,
    stop: StopSignals,
    supervisor: Supervisor,
    state: RunState,
    screen: Screen,
    events: Journal,
    killer: Killer,
    /// The watch on held-out loss, which says once that it rises.
    heldout: Watch,
    /// Since when the disk takes nothing, where it does not.
    trouble: Option<Trouble>,
    /// Starts that wait for the disk.
    held_back: Vec<Start>,
    /// Islands that the coordinator is to expect.
    expected: u32,
    outcome: Option<Outcome>,
}

impl Session {
    /// Starts the coordinator and every rank.
    ///
    /// # Errors
    /// When a file or a process cannot be made, or the coordinator does not come up.
    pub async fn start(mut setting: Setting) -> Result<Self, SessionError> {
        let checkpoints = Checkpoints::new(&setting.dir, &setting.plan);
        let mut saved = first_epochs(&setting, &checkpoints);
        let (state, events) = look_back(&setting, &checkpoints, &saved)?;
        if let Some(earlier) = &setting.earlier {
            let run = &mut setting.plan.run;
            run.schedule = extended(&earlier.run, state.tokens, run.tokens);
            saved.run.schedule = run.schedule;
        }
        let islands = setting.plan.islands.iter().map(|island| {
            let (name, world) = (island.spec.name.clone(), island.spec.ranks.len() as u32);
            let epoch = saved.epochs.get(&name).copied().unwrap_or(1);
            (name, world, epoch)
        });
        let expected = u32::try_from(setting.plan.islands.len()).unwrap_or(u32::MAX);
        let (supervisor, actions) = Supervisor::new(patience::policy(&setting.plan), islands);
        let mut session = Self {
            screen: Screen::new(setting.json),
            setting,
            saved,
            checkpoints,
            address: String::new(),
            adopt: None,
            begun: Instant::now(),
            handles: BTreeMap::new(),
            coordinator: None,
            pulse: Pulse::default(),
            failures: BTreeMap::new(),
            reports: mpsc::channel(REPORTS_MAX),
            unstarted: VecDeque::new(),
            stop: StopSignals::new().map_err(SessionError::Signals)?,
            supervisor,
            state,
            events,
            killer: Killer::new(Kernel::default()),
            heldout: Watch::default(),
            trouble: None,
            held_back: Vec::new(),
            expected,
            outcome: None,
        };
        let beginning = session.beginning().await?;
        session.setting.dir.save(&session.saved)?;
        session.begin(&beginning);
        session.take_up(beginning)?;
        session.start_coordinator(ANY_PORT)?;
        session.address = session.coordinator_address().await?;
        session.pulse.serves();
        let address = format!("http://{}", session.address);
        session.record(Body::Up(UpEvent::CoordinatorStarted { address }));
        session.act(actions);
        Ok(session)
    }

    /// Goes on until nothing runs any more; how it ended.
    pub async fn run(mut self) -> Outcome {
        let mut answers = pulse::ask(self.address.clone());
        let mut redraw = tokio::time::interval(REDRAW_EVERY);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while self.outcome.is_none() {
            let wake = self.supervisor.wake_at().map(|at| self.begun + at);
            let retry = self.trouble.map(|trouble| trouble.retry);
            let event = tokio::select! {
                Some(report) = next(&mut self.unstarted, &mut self.reports.1) => self.take(report),
                () = self.stop.recv() => Some(Event::Stop),
                () = sleep_until(wake) => Some(Event::Tick),
                Some(answered) = answers.recv() => self.take_answer(answered),
                () = sleep_until(retry) => { self.write_again(); None }
                _ = redraw.tick() => { self.screen.draw(&self.state); None }
            };
            if let Some(event) = event {
                let actions = self.supervisor.on(event, self.begun.elapsed());
                self.act(actions);
            }
        }
        self.finish()
    }

    fn begin(&mut self, beginning: &Beginning) {
        let plan = &self.setting.plan;
        let outlook = Outlook::of(plan, beginning.tokens(self.state.tokens), self.setting.cores);
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
            expected_tokens: Some(outlook.tokens),
            round_seconds: Some(outlook.round_seconds),
            expected_seconds: Some(outlook.seconds()),
            parameters: plan.dense_bytes / 4,
            islands: islands.collect(),
        };
        let warnings = outlook::too_long(plan, &outlook).into_iter();
        let warnings: Vec<String> = self.setting.notes.iter().cloned().chain(warnings).collect();
        self.record(Body::Up(UpEvent::Begin(begin)));
        for message in warnings {
            self.record(Body::Up(UpEvent::Warning { message }));
        }
    }

    /// Waits for the coordinator's first line.
    async fn coordinator_address(&mut self) -> Result<String, SessionError> {
        let wait = async {
            loop {
                match next(&mut self.unstarted, &mut self.reports.1).await {
                    Some(Report::Line(_, line)) => {
                        if let Ok(CoordinatorEvent::Listening { address, .. }) =
                            serde_json::from_str(&line)
                        {
                            return Ok(address);
                        }
                    }
                    Some(Report::Exited { who, exit, last, .. }) => {
                        let said = self.failures.remove(&who).unwrap_or(last);
                        return Err(format!("it {exit}: {said}"));
                    }
                    None => return Err("its output ended".to_owned()),
                }
            }
        };
        let waited = tokio::time::timeout(COORDINATOR_START_WAIT, wait).await;
        let late = || format!("it did not serve within {} s", COORDINATOR_START_WAIT.as_secs());
        waited.unwrap_or_else(|_| Err(late())).map_err(SessionError::Coordinator)
    }

    /// Records a report, and turns it into an event for the supervisor.
    fn take(&mut self, report: Report) -> Option<Event> {
        match report {
            Report::Line(who, line) => self.take_line(who, &line),
            Report::Exited { who, exit, killed, last } => {
                let (exit, full) = self.killer.look(exit, killed);
                let last = if matches!(exit, Exit::Signal(_)) { String::new() } else { last };
                let detail = self.detail(&who, exit, full.map_or(last, str::to_owned));
                if let Who::Rank { .. } = who {
                    return self.rank_exited(who, exit, detail);
                }
                self.coordinator = None;
                Some(Event::CoordinatorExited { exit, detail })
            }
        }
    }

    fn rank_exited(&mut self, who: Who, exit: Exit, detail: String) -> Option<Event> {
        let Who::Rank { island, epoch, rank } = who else { return None };
        if let Some(ranks) = self.handles.get_mut(&island) {
            ranks.remove(&rank);
        }
        let shown = if detail.is_empty() { exit.to_string() } else { format!("{exit}: {detail}") };
        let exited = UpEvent::RankExited { island: island.clone(), rank, epoch, exit: shown };
        self.record(Body::Up(exited));
        Some(Event::RankExited { island, epoch, rank, exit, detail })
    }

    fn take_line(&mut self, who: Who, line: &str) -> Option<Event> {
        let Who::Rank { ref island, epoch, rank } = who else {
            self.take_coordinator_line(line);
            return None;
        };
        let island = island.clone();
        let Ok(event) = serde_json::from_str::<WorkerEvent>(line) else {
            let line: String = line.chars().take(SHOWN_MAX).collect();
            let message = format!("{island}: rank {rank} said what is no event: {line}");
            self.record(Body::Up(UpEvent::Warning { message }));
            return None;
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
        let evaluated = matches!(event, WorkerEvent::Evaluation { .. });
        self.record(Body::Rank(RankEvent { island, rank, epoch, event }));
        let rises = evaluated.then(|| self.heldout.note(&self.state.heldout)).flatten();
        if let Some(message) = rises {
            self.record(Body::Up(UpEvent::Warning { message }));
        }
        last_word
    }

    fn take_coordinator_line(&mut self, line: &str) {
        let Ok(CoordinatorEvent::Listening { address, .. }) = serde_json::from_str(line) else {
            return;
        };
        self.pulse.serves();
        let address = format!("http://{address}");
        self.record(Body::Up(UpEvent::CoordinatorStarted { address }));
    }

    /// A coordinator that is there and does not answer is told of.
    fn take_answer(&mut self, answered: bool) -> Option<Event> {
        self.coordinator.as_ref()?;
        let silence = self.pulse.beat(answered)?;
        Some(Event::CoordinatorSilent { silence })
    }

    /// Why a process ended: what it said, or else `last`: why it was killed, or the end of its log
    /// where it broke without a word.
    fn detail(&mut self, who: &Who, exit: Exit, last: String) -> String {
        let said = self.failures.remove(who).unwrap_or_default();
        if !said.is_empty() || exit == Exit::Code(0) {
            return said;
        }
        last
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::StartIsland { island, epoch } => {
                    self.start_when_written(Start::Island { name: island, epoch });
                }
                Action::KillIsland { island } => {
                    let ranks = self.handles.get(&island).into_iter();
                    ranks.flat_map(BTreeMap::values).for_each(Handle::kill);
                    self.drop_held_back(Some(&island));
                }
                Action::StopIslands => {
                    self.handles.values().flat_map(BTreeMap::values).for_each(Handle::terminate);
                    for island in self.setting.plan.islands.clone() {
                        self.drop_held_back(Some(&island.spec.name));
                    }
                }
                Action::StartCoordinator { islands } => {
                    self.expected = islands;
                    self.start_when_written(Start::Coordinator);
                }
                Action::StopCoordinator => {
                    self.coordinator.iter().for_each(Handle::terminate);
                    self.drop_held_back(None);
                }
                Action::KillCoordinator => {
                    self.coordinator.iter().for_each(Handle::kill);
                    self.drop_held_back(None);
                }
                Action::Announce(event) => self.record(Body::Up(event)),
                Action::End(outcome) => self.outcome = Some(outcome),
            }
        }
    }

    fn finish(mut self) -> Outcome {
        let outcome = self.outcome.take().unwrap_or(Outcome::Finished);
        let summary = Summary::of(&self.state);
        let end = UpEvent::End { outcome: outcome.clone(), summary: Box::new(summary.clone()) };
        self.record(Body::Up(end));
        let text = format!("\n{}\n{}", summary.text(), self.setting.next.text(&outcome, &summary));
        for failed in self.write_last(&summary) {
            // Standard error may be a file on the same disk.
            let _ = writeln!(io::stderr(), "heteroloco: {failed}");
        }
        self.screen.finish(&text);
        outcome
    }
}

/// The state that earlier sessions reached, if this one can go on from there; the files that it
/// needs to go on itself are written first. A refusal leaves nothing in the folder of a new run.
fn look_back(
    setting: &Setting,
    checkpoints: &Checkpoints,
    saved: &Saved,
) -> Result<(RunState, Journal), SessionError> {
    if setting.earlier.is_none() {
        setting.dir.save(saved)?;
        checkpoints.begin().inspect_err(|_| setting.dir.forget())?;
    }
    let path = setting.dir.events();
    let (state, events) =
        history::open(&path).map_err(|source| SessionError::Events { path, source })?;
    if let Some(earlier) = &setting.earlier {
        checkpoints.go_on(earlier)?;
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
        Some(who) => {
            let (exit, last) = (Exit::Unknown, String::new());
            Some(Report::Exited { who, exit, killed: false, last })
        }
        None => reports.recv().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
