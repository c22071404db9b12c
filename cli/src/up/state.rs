//! What is known of a run: a fold over its [`Record`]s, from which the screen and the summary are
//! made. Folding the records of earlier sessions first makes a resumed run's figures whole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use plan::event::{IslandState, WorkerEvent};

use super::event::{Begin, Body, RankEvent, Record, UpEvent};

/// Rounds over which the run's speed is taken.
const SPEED_ROUNDS: usize = 16;

/// A run as its records tell it.
#[derive(Clone, Debug, Default)]
pub struct RunState {
    /// The newest session's beginning.
    pub begin: Option<Begin>,
    /// Islands by name.
    pub islands: BTreeMap<String, Island>,
    /// Committed rounds by number.
    pub rounds: BTreeMap<u64, Round>,
    /// Held-out loss at the start of a round, nats per token.
    pub heldout: BTreeMap<u64, f64>,
    /// Tokens of all committed rounds.
    pub tokens: u64,
    /// Seconds of all sessions, as far as records reach.
    pub wall: f64,
    /// The time of the newest session's last record, Unix seconds.
    session: Option<f64>,
    /// When the newest session's first step or last rounds were seen, and the run's tokens then.
    recent: VecDeque<(f64, u64)>,
}

/// One island.
#[derive(Clone, Debug, Default)]
pub struct Island {
    /// Its cards, for people.
    pub cards: String,
    /// H: inner steps of a round.
    pub inner_steps: u32,
    /// Epoch that it runs.
    pub epoch: u64,
    /// What it does now.
    pub activity: Activity,
    /// The round that it works on.
    pub round: u64,
    /// Inner steps made in that round.
    pub step: u32,
    /// Tokens per second of its inner steps, smoothed.
    pub tokens_per_second: Option<f64>,
    /// Bytes that left it for other islands.
    pub bytes_sent: u64,
    /// Bytes of its contributions, each counted once.
    pub contribution_bytes: u64,
    /// Values kept in its contributions.
    pub contribution_values: u64,
    /// Contributions made.
    pub contributions: u64,
    /// Seconds in inner steps.
    pub compute: f64,
    /// Seconds compressing, fetching, aggregating.
    pub exchange: f64,
    /// Seconds waiting for other islands.
    pub waiting: f64,
    /// Times that it was started again after it broke.
    pub restarts: u64,
    /// The newest complete checkpoint: the round that it resumes at, its folder.
    pub checkpoint: Option<(u64, String)>,
}

/// What an island does, as the screen shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// Its processes are not up yet.
    #[default]
    Pending,
    /// What its leader says.
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
    /// By island: hash of θ after the round.
    pub hashes: BTreeMap<String, String>,
    /// By island: values kept in its own contribution.
    pub values: BTreeMap<String, u64>,
}

impl Round {
    /// Whether all islands that applied the round hold the same θ.
    pub fn is_identical(&self) -> bool {
        self.hashes.values().collect::<BTreeSet<_>>().len() <= 1
    }
}

impl RunState {
    /// Takes one more record into account.
    pub fn apply(&mut self, record: &Record) {
        if let Body::Up(UpEvent::Begin(begin)) = &record.body {
            self.begin_session(begin, record.at);
        }
        if let Some(last) = &mut self.session {
            self.wall += (record.at - *last).max(0.0);
            *last = last.max(record.at);
        }
        match &record.body {
            Body::Up(event) => self.apply_own(event),
            Body::Rank(event) => self.apply_rank(event, record.at),
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

    fn begin_session(&mut self, begin: &Begin, at: f64) {
        self.session = Some(at);
        self.recent.clear();
        for named in &begin.islands {
            let island = self.islands.entry(named.name.clone()).or_default();
            island.cards.clone_from(&named.cards);
            island.inner_steps = named.inner_steps;
            island.activity = Activity::Pending;
        }
        self.begin = Some(begin.clone());
    }

    fn apply_own(&mut self, event: &UpEvent) {
        match event {
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
            WorkerEvent::Step { round, step, tokens: made, seconds, .. } => {
                island.round = *round;
                island.step = *step;
                island.note_speed(*made as f64 / seconds.max(1e-9));
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
            WorkerEvent::Finished { .. }
            | WorkerEvent::Listening { .. }
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
            contribution_bytes,
            contribution_values,
            bytes_sent,
            compute_seconds,
            exchange_seconds,
            waiting_seconds,
            ..
        } = &record.event
        else {
            return;
        };
        if *tokens > self.tokens {
            self.recent.push_back((at, *tokens));
        }
        if self.recent.len() > SPEED_ROUNDS {
            self.recent.pop_front();
        }
        self.tokens = *tokens;
        let name = &record.island;
        let entry = self.rounds.entry(*round).or_default();
        (entry.loss, entry.islands) = (*loss, *islands);
        entry.hashes.insert(name.clone(), theta_hash.clone());
        entry.values.insert(name.clone(), *contribution_values);
        let island = self.island(name);
        island.contributions += u64::from(*contribution_values > 0);
        island.contribution_bytes += contribution_bytes;
        island.contribution_values += contribution_values;
        island.bytes_sent += bytes_sent;
        island.compute += compute_seconds;
        island.exchange += exchange_seconds;
        island.waiting += waiting_seconds;
    }

    fn island(&mut self, name: &str) -> &mut Island {
        self.islands.entry(name.to_owned()).or_default()
    }
}

impl Island {
    fn note_speed(&mut self, tokens_per_second: f64) {
        let smoothed = self.tokens_per_second.unwrap_or(tokens_per_second);
        self.tokens_per_second = Some(0.8 * smoothed + 0.2 * tokens_per_second);
    }
}
