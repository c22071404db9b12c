//! The state of a run: a fold over its [`Record`]s, from which the screen and the summary are made.
//! Folding the records of earlier sessions first makes a resumed run's figures whole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use contract::event::{IslandState, WorkerEvent};

use super::event::{Begin, Body, RankEvent, Record, UpEvent};

/// Rounds over which the run's speed is taken.
const SPEED_ROUNDS: usize = 16;
/// Steps of an island that its plan is compared with.
const CALIBRATION_STEPS: usize = 65;

/// A run as its records tell it.
#[derive(Clone, Debug, Default)]
pub struct RunState {
    /// The newest session's beginning.
    pub begin: Option<Begin>,
    /// Islands by name.
    pub islands: BTreeMap<String, Island>,
    /// Committed rounds by number, as far as they are a part of the run's history.
    pub rounds: BTreeMap<u64, Round>,
    /// Rounds that were lost with all who held them; what they cost stays spent.
    pub abandoned: Vec<Round>,
    /// The rounds that the run went back to, in this order.
    pub rewinds: Vec<u64>,
    /// Held-out loss at the start of a round, nats per token.
    pub heldout: BTreeMap<u64, f64>,
    /// Tokens of all committed rounds.
    pub tokens: u64,
    /// Seconds of all sessions, as far as records reach.
    pub wall: f64,
    /// [`Record::clock`] at the newest session's last record.
    session: Option<f64>,
    /// The same when the newest session's first step or last rounds were seen, and the run's tokens
    /// then.
    recent: VecDeque<(f64, u64)>,
}

/// One island.
#[derive(Clone, Debug, Default)]
pub struct Island {
    /// Its cards, for people.
    pub cards: String,
    /// H: inner steps of a round.
    pub inner_steps: u32,
    /// Seconds of an inner step by its plan, and what measured steps had corrected that by.
    pub planned: Option<(f64, f64)>,
    /// Seconds of this session's steps, the first ones.
    pub steps: Vec<f64>,
    /// Epoch that it runs.
    pub epoch: u64,
    /// The activity that it is at now.
    pub activity: Activity,
    /// The round that it works on.
    pub round: u64,
    /// Inner steps made in that round.
    pub step: u32,
    /// Tokens per second of its inner steps, smoothed.
    pub tokens_per_second: Option<f64>,
    /// Model FLOPs utilisation of its newest step, 0 to 1, where its cards are real and known.
    pub mfu: Option<f64>,
    /// Bytes that left it for other islands.
    pub bytes_sent: u64,
    /// Bytes of its contributions that counted, each once.
    pub contribution_bytes: u64,
    /// Values kept in them.
    pub contribution_values: u64,
    /// Contributions that are in a committed set.
    pub contributions: u64,
    /// Seconds in inner steps.
    pub compute: f64,
    /// Seconds compressing, fetching, aggregating.
    pub exchange: f64,
    /// Seconds waiting for other islands.
    pub waiting: f64,
    /// The device that came nearest to its plan, or went beyond: bytes measured and planned.
    pub fullest: Option<(u64, u64)>,
    /// Bytes between its pipeline stages.
    pub boundary_bytes: u64,
    /// Inner steps that were not finite and changed nothing.
    pub skipped_steps: u64,
    /// Times that it was started again after it broke.
    pub restarts: u64,
    /// The newest complete checkpoint: the round that it resumes at, its folder.
    pub checkpoint: Option<(u64, String)>,
}

/// The activity of an island, as the screen shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// Its processes are not up yet.
    #[default]
    Pending,
    /// The state that its leader reports.
    Working(IslandState),
    /// It broke, and starts again.
    Restarting,
    /// It ended well.
    Ended,
    /// It is not started any more.
    GivenUp,
}

/// One committed round.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Weighted mean training loss of the set.
    pub loss: f32,
    /// Islands in the committed set.
    pub islands: u32,
    /// Tokens of the run, this round included.
    pub tokens: u64,
    /// The report of each island that applied the round, by island.
    pub reports: BTreeMap<String, Report>,
}

/// The account that one island gives of a round that it applied.
#[derive(Clone, Debug)]
pub struct Report {
    /// Epoch in which the island applied it.
    pub epoch: u64,
    /// Hash of θ after the round.
    pub theta_hash: String,
    /// Values kept in its own contribution; none where that is not in the set.
    pub values: u64,
    /// Encoded bytes of that contribution.
    pub bytes: u64,
    /// Bytes that came from other islands.
    pub received: u64,
}

impl Round {
    /// Says whether all islands that applied the round hold the same θ.
    pub fn is_identical(&self) -> bool {
        self.reports.values().map(|report| &report.theta_hash).collect::<BTreeSet<_>>().len() <= 1
    }
}

impl RunState {
    /// Takes one more record into account.
    pub fn apply(&mut self, record: &Record) {
        let now = record.clock();
        if let Body::Up(UpEvent::Begin(begin)) = &record.body {
            self.begin_session(begin, now);
        }
        if let Some(last) = &mut self.session {
            self.wall += (now - *last).max(0.0);
            *last = last.max(now);
        }
        match &record.body {
            Body::Up(event) => self.apply_own(event),
            Body::Rank(event) => self.apply_rank(event, now),
        }
    }

    /// Tokens per second over the last committed rounds of the newest session.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let ((since, before), (until, after)) = (self.recent.front()?, self.recent.back()?);
        let seconds = until - since;
        (after > before && seconds > 0.0).then(|| (after - before) as f64 / seconds)
    }

    /// Seconds until the run has its tokens, at the newest session's speed.
    pub fn seconds_left(&self) -> Option<f64> {
        let target = self.begin.as_ref()?.tokens;
        Some(target.saturating_sub(self.tokens) as f64 / self.tokens_per_second()?)
    }

    /// Rounds of the run's history. Some may have been committed while nobody took notes.
    pub fn committed(&self) -> u64 {
        self.rounds.last_key_value().map_or(0, |(last, _)| last + 1)
    }

    fn begin_session(&mut self, begin: &Begin, at: f64) {
        self.session = Some(at);
        self.recent.clear();
        for named in &begin.islands {
            let island = self.islands.entry(named.name.clone()).or_default();
            island.cards.clone_from(&named.cards);
            island.inner_steps = named.inner_steps;
            island.planned = named.step_seconds.zip(named.correction);
            island.steps.clear();
            island.activity = Activity::Pending;
        }
        self.begin = Some(begin.clone());
    }

    fn apply_own(&mut self, event: &UpEvent) {
        match event {
            UpEvent::BeganAgain { .. } => self.go_back(0, 0),
            UpEvent::Adopted { round, tokens, .. } => self.go_back(*round, *tokens),
            UpEvent::IslandStarted { island, epoch } => {
                let island = self.island(island);
                island.epoch = *epoch;
                island.activity = Activity::Working(IslandState::Starting);
                island.step = 0;
            }
            UpEvent::IslandRestarting { island, .. } => {
                let island = self.island(island);
                island.activity = Activity::Restarting;
                island.restarts += 1;
            }
            UpEvent::IslandGivenUp { island, .. } => {
                self.island(island).activity = Activity::GivenUp;
            }
            _ => {}
        }
    }

    fn apply_rank(&mut self, record: &RankEvent, at: f64) {
        let tokens = self.tokens;
        let island = self.islands.entry(record.island.clone()).or_default();
        if record.epoch < island.epoch {
            return;
        }
        match &record.event {
            WorkerEvent::State { state, round, .. } => {
                island.activity = Activity::Working(*state);
                island.round = *round;
                if *state == IslandState::Training && self.recent.is_empty() {
                    self.recent.push_back((at, tokens));
                }
            }
            WorkerEvent::Step { round, step, tokens: made, seconds, skipped, mfu, .. } => {
                island.round = *round;
                island.step = *step;
                island.skipped_steps += u64::from(*skipped);
                island.note_speed(*made as f64 / seconds.max(1e-9));
                island.mfu = mfu.or(island.mfu);
                if island.steps.len() < CALIBRATION_STEPS {
                    island.steps.push(*seconds);
                }
            }
            WorkerEvent::Round { .. } => self.apply_round(record, at),
            WorkerEvent::Evaluation { round, heldout_loss } => {
                self.heldout.insert(*round, *heldout_loss);
            }
            WorkerEvent::Checkpoint { round, path } => {
                island.checkpoint = Some((*round, path.clone()));
            }
            WorkerEvent::Finished { .. } if record.rank == 0 => {
                island.activity = Activity::Ended;
            }
            WorkerEvent::Memory { peak_bytes, planned_bytes, .. } => {
                island.note_memory((*peak_bytes, *planned_bytes));
            }
            WorkerEvent::Boundary { bytes_sent, .. } => island.boundary_bytes += bytes_sent,
            WorkerEvent::Finished { .. }
            | WorkerEvent::Listening { .. }
            | WorkerEvent::Warning { .. }
            | WorkerEvent::Failed { .. } => {}
        }
    }

    fn apply_round(&mut self, record: &RankEvent, at: f64) {
        let WorkerEvent::Round {
            round,
            tokens,
            islands,
            loss,
            theta_hash,
            contributed,
            contribution_bytes,
            contribution_values,
            bytes_sent,
            bytes_received,
            compute_seconds,
            exchange_seconds,
            waiting_seconds,
            ..
        } = &record.event
        else {
            return;
        };
        let name = &record.island;
        if self.is_rewound(record, *round, theta_hash) {
            self.rewind(*round);
        }
        let entry = self.rounds.entry(*round).or_default();
        (entry.loss, entry.islands, entry.tokens) = (*loss, *islands, *tokens);
        let (epoch, theta_hash) = (record.epoch, theta_hash.clone());
        // An offer that did not count reached nobody: it is no contribution.
        let (bytes, values) =
            if *contributed { (*contribution_bytes, *contribution_values) } else { (0, 0) };
        let report = Report { epoch, theta_hash, values, bytes, received: *bytes_received };
        match entry.reports.get_mut(name) {
            // What it contributed when it applied the round first is what came of it.
            Some(known) if known.theta_hash == report.theta_hash => known.epoch = epoch,
            _ => drop(entry.reports.insert(name.clone(), report)),
        }
        self.note_tokens(at);
        let island = self.island(name);
        island.contributions += u64::from(values > 0);
        island.contribution_bytes += bytes;
        island.contribution_values += values;
        island.bytes_sent += bytes_sent;
        island.compute += compute_seconds;
        island.exchange += exchange_seconds;
        island.waiting += waiting_seconds;
    }

    /// Says whether a report of `round` tells that the run went back to it: its island had reported
    /// that round or a later one already, or nobody who reported one of them still holds it, and
    /// this θ is another than theirs. An island that came back applies again what others hold, to
    /// the same θ; where nobody holds it, the same may be made anew.
    fn is_rewound(&self, record: &RankEvent, round: u64, theta_hash: &str) -> bool {
        let mut later = self.rounds.range(round..).map(|(_, later)| later).peekable();
        if later.peek().is_none() {
            return false;
        }
        let told_again = |later: &Round| later.reports.contains_key(&record.island);
        let nobody_holds = |later: &Round| {
            later.reports.iter().all(|(name, report)| !self.holds(name, report.epoch))
        };
        let same = |report: &Report| report.theta_hash == theta_hash;
        let known = self.rounds.get(&round).is_some_and(|r| r.reports.values().any(same));
        let again = later.clone().any(told_again);
        if again == known { later.all(nobody_holds) } else { again }
    }

    /// Says whether an island may still have what it had in that epoch.
    fn holds(&self, name: &str, epoch: u64) -> bool {
        let island = self.islands.get(name);
        island.is_some_and(|i| i.epoch <= epoch && i.activity != Activity::GivenUp)
    }

    /// `round` and all after it are made anew: what is known of them belongs to no history.
    fn rewind(&mut self, round: u64) {
        self.abandoned.extend(self.rounds.split_off(&round).into_values());
        // A loss at the start of `round` is the one of θ before it, and stays true.
        self.heldout.split_off(&(round + 1));
        self.recent.clear();
        self.rewinds.push(round);
    }

    /// The run goes on from the start of `round`, at so many tokens.
    fn go_back(&mut self, round: u64, tokens: u64) {
        if self.rounds.range(round..).next().is_some() {
            self.rewind(round);
        }
        self.tokens = tokens;
    }

    /// Hash of θ at the start of `round`, where all who told of it say the same.
    pub fn theta_at(&self, round: u64) -> Option<String> {
        let before = self.rounds.get(&round.checked_sub(1)?)?;
        let hash = &before.reports.values().next()?.theta_hash;
        let is_digest = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_digest && before.is_identical()).then(|| hash.clone())
    }

    /// An island that is late may report an old round: only the newest round counts.
    fn note_tokens(&mut self, at: f64) {
        let tokens = self.rounds.last_key_value().map_or(0, |(_, newest)| newest.tokens);
        if tokens > self.tokens || self.recent.is_empty() {
            self.recent.push_back((at, tokens));
        }
        if self.recent.len() > SPEED_ROUNDS {
            self.recent.pop_front();
        }
        self.tokens = tokens;
    }

    fn island(&mut self, name: &str) -> &mut Island {
        self.islands.entry(name.to_owned()).or_default()
    }
}

impl Island {
    fn note_memory(&mut self, now: (u64, u64)) {
        let share = |(peak, planned): (u64, u64)| peak as f64 / planned.max(1) as f64;
        if self.fullest.is_none_or(|before| share(now) > share(before)) {
            self.fullest = Some(now);
        }
    }

    fn note_speed(&mut self, tokens_per_second: f64) {
        let smoothed = self.tokens_per_second.unwrap_or(tokens_per_second);
        self.tokens_per_second = Some(0.8 * smoothed + 0.2 * tokens_per_second);
    }
}
