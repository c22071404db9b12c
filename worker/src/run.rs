//! One rank's run, from its spec to its end: the train loop.

mod keep;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use data::{Allotment, HeldOut, Split};
use member::{Member, MemberConfig, RoundReport, StepControl, Timeouts, Turn};
use plan::event::{Ending, IslandState, WorkerEvent};
use plan::schedule::{self, Schedule};
use plan::shard::Position;
use plan::spec::{BatchSpec, IslandSpec, RankSpec, Rule, WorkerSpec};
use rounds::types::Digest;
use sparseloco::layout::Layout;
use sparseloco::outer::{self, OuterParams};
use sparseloco::{CodecParams, ValueBits};

use crate::devices::{self, Devices, DevicesSetup};
use crate::error::{RunError, chain};
use crate::events::emit;
use crate::interrupt::Interrupt;
use crate::memory::{self, Memory};
use crate::metrics::Metrics;
use crate::model::{MicroBatches, ModelError};
use crate::parameters;
use crate::skips::{Made, Skips};
use crate::sums::Sums;
use crate::text::{Text, TextOptions};
use crate::unread::{ReadStep, Unread, only_device};

/// Why a round has no contribution where it was stopped in its first step.
const INTERRUPTED: &str = "stopped in the first step of the round: no contribution";

/// Everything a rank works with.
struct Rank<'a> {
    spec: &'a WorkerSpec,
    text: Text,
    schedule: Schedule,
    layout: Arc<Layout>,
    devices: Devices,
    member: Member,
    compute_seconds: f64,
    unread: Unread,
    skips: Skips,
    /// A step was left because the island is to stop: its devices make no more of them.
    interrupted: bool,
    saved: Option<u64>,
    memory: Memory,
    metrics: &'a Metrics,
}

/// The island's part of a round.
struct Assignment {
    /// What it trains on.
    samples: Allotment,
    /// Tokens of the run when the round began.
    before: u64,
    /// Tokens that the round is expected to give, over all islands.
    expected: u64,
}

/// What the inner steps of a round came to.
enum Trained {
    /// Sums over the island, and steps made.
    Work(StepControl, u32),
    /// Nothing that others could use, and why.
    Nothing(String),
}

/// Runs one rank to the end of the run, or until `stop` is set and its work is handed over.
/// Returns why it ended.
pub fn run(
    spec: &WorkerSpec,
    resume: bool,
    stop: Arc<AtomicBool>,
    metrics: &Metrics,
) -> Result<Ending, RunError> {
    let cards = &rank_spec(spec)?.devices;
    let ran = Rank::start(spec, resume, stop, metrics).and_then(Rank::follow);
    ran.map_err(|error| memory::explain(error, cards))
}

impl<'a> Rank<'a> {
    fn start(
        spec: &'a WorkerSpec,
        resume: bool,
        stop: Arc<AtomicBool>,
        metrics: &'a Metrics,
    ) -> Result<Rank<'a>, RunError> {
        let model = spec.run.model.validate().map_err(RunError::Config)?;
        devices::check(&model, &spec.island)?;
        let text = open_text(spec)?;
        let layout = Arc::new(parameters::Layout::new(model.tensors()).canonical()?);
        let interrupt = Interrupt::new(Arc::clone(&stop));
        let mut member = Member::connect(member_config(spec)?, Arc::clone(&layout), stop)?;
        let setup = DevicesSetup {
            model: &model,
            layout: Arc::clone(&layout),
            island: &spec.island,
            optimizer: &spec.run.optimizer,
            seed: spec.run.seed,
            listen: &spec.collective_listen,
            interrupt: &interrupt,
        };
        let devices = Devices::connect(member.group(), &setup)?;
        let mut rank = Rank {
            spec,
            text,
            schedule: Schedule::of(&spec.run),
            layout,
            devices,
            member,
            compute_seconds: 0.0,
            unread: Unread::new(&spec.island),
            skips: Skips::default(),
            interrupted: false,
            saved: None,
            memory: Memory::new(&rank_spec(spec)?.devices),
            metrics,
        };
        let address = rank.member.address().to_string();
        emit(&WorkerEvent::Listening { address, metrics: spec.metrics.clone() });
        rank.tell(IslandState::Starting, 0, &format!("{} ranks met", spec.island.ranks.len()));
        let restored = if resume { rank.restore(None)? } else { None };
        let outer = match restored {
            Some(outer) => outer,
            None => rank.fresh()?,
        };
        let first = outer.round == 0;
        rank.member.begin(&mut rank.devices, outer)?;
        if first {
            rank.evaluate()?;
        }
        Ok(rank)
    }

    /// Does what the run asks for until it ends.
    fn follow(mut self) -> Result<Ending, RunError> {
        loop {
            match self.member.next(&mut self.devices)? {
                Turn::Train { round } => self.contribute(round)?,
                Turn::Applied(report) => self.after_round(&report)?,
                Turn::Synced { round } => self.tell(IslandState::Syncing, round, "θ was fetched"),
                Turn::Rewound { round } => self.go_back(round)?,
                Turn::Finished => {
                    self.evaluate()?;
                    self.save_at_last(keep::LAST_SAVES)?;
                    return Ok(self.end(Ending::Complete));
                }
                Turn::Missed => return Ok(self.end(Ending::Missed)),
                Turn::Stopped => {
                    self.save_at_last(keep::STOP_SAVES)?;
                    return Ok(self.end(Ending::Stopped));
                }
            }
        }
    }

    fn contribute(&mut self, round: u64) -> Result<(), RunError> {
        match self.train_round(round)? {
            Trained::Work(trained, steps) => {
                self.tell(IslandState::Exchanging, round, "");
                self.member.offer(&mut self.devices, trained, steps)?;
                self.tell(IslandState::Waiting, round, self.member.forgone_for());
                Ok(())
            }
            Trained::Nothing(reason) => self.forgo(round, &reason),
        }
    }

    fn end(&mut self, ending: Ending) -> Ending {
        self.member.leave(&ending.to_string());
        ending
    }

    /// Only the leader speaks for the island.
    fn leads(&self) -> bool {
        self.spec.rank == 0
    }

    fn tell(&self, state: IslandState, round: u64, reason: &str) {
        if self.leads() {
            emit(&WorkerEvent::State { state, round, reason: reason.to_string() });
        }
    }

    /// The inner steps of a round, fewer when the round closes or the island is to stop.
    fn train_round(&mut self, round: u64) -> Result<Trained, RunError> {
        let span = tracing::info_span!("train", round, island = self.spec.island.name);
        telemetry::set_parent(&span, self.member.traceparent());
        let _entered = span.enter();
        self.tell(IslandState::Training, round, "");
        self.skips = Skips::default();
        let mut total = StepControl::default();
        let steps = self.spec.island.inner_steps;
        let part = self.assignment();
        for step in 0..steps {
            self.member.pace(steps - step - 1);
            let control = self.train_step(&part, step)?;
            total.stop |= control.stop;
            let last = control.stop || control.closed || step + 1 == steps;
            if (last || self.unread.is_due()) && !self.read_steps(round, &mut total)? {
                return Ok(Trained::Nothing(self.skips.reason()));
            }
            if last {
                break;
            }
        }
        Ok(match self.skips.made() {
            0 if self.interrupted => Trained::Nothing(INTERRUPTED.to_string()),
            0 => Trained::Nothing(self.skips.reason()),
            steps => Trained::Work(total, steps),
        })
    }

    /// The island has nothing to offer in this round.
    fn forgo(&mut self, round: u64, reason: &str) -> Result<(), RunError> {
        tracing::warn!(round, "{reason}");
        self.tell(IslandState::Waiting, round, reason);
        Ok(self.member.forgo(&mut self.devices, reason)?)
    }

    /// One inner step: gradients of this rank's micro-batches, their sum over the ranks, AdamW.
    /// What the ranks have said; loss and squares are still to be read.
    fn train_step(&mut self, part: &Assignment, step: u32) -> Result<StepControl, RunError> {
        self.unread.begin();
        self.text.look()?;
        let length = self.spec.run.sequence_length as usize;
        let work = self.read_samples(part, step)?;
        let sequences: usize = self.spec.island.batches.iter().map(sequences).sum();
        let scale = 1.0 / (sequences as f64 * length as f64);
        let mine = self.devices.accumulate(&work, scale);
        let Some((control, sums)) = self.agree(mine)? else {
            return Ok(StepControl { stop: true, ..StepControl::default() });
        };
        let of_round = (step, self.spec.island.inner_steps);
        let rate = self.schedule.rate(schedule::position(part.before, part.expected, of_round));
        self.devices.optimizer_step(rate, &sums)?;
        self.unread.push(step, control, sums);
        Ok(control)
    }

    /// What the ranks say of a step and its sums over all of them; nothing where one left it.
    fn agree(
        &mut self,
        mine: Result<Sums, ModelError>,
    ) -> Result<Option<(StepControl, Sums)>, RunError> {
        let tokens = self.tokens();
        let Some(mine) = self.unless_left(mine)? else { return Ok(None) };
        if only_device(&self.spec.island).is_some() {
            let control = StepControl { tokens, ..StepControl::default() };
            return Ok(Some((self.member.step_control(control)?, mine)));
        }
        let [loss_sum, squares] = mine.read()?;
        let control = StepControl { loss_sum, squares, tokens, ..StepControl::default() };
        let control = self.member.step_control(control)?;
        self.interrupted |= control.interrupted;
        let sums = Sums::of(control.loss_sum, control.squares)?;
        Ok((!control.interrupted).then_some((control, sums)))
    }

    /// Nothing where this rank left what it computed, or another one did and told: that it is gone
    /// from the step is no failure of it.
    fn unless_left<T>(&mut self, mine: Result<T, ModelError>) -> Result<Option<T>, RunError> {
        let error = match mine {
            Ok(mine) => return Ok(Some(mine)),
            Err(error @ (ModelError::Interrupted | ModelError::Peers(_))) => error,
            Err(error) => return Err(error.into()),
        };
        let interrupted = matches!(error, ModelError::Interrupted);
        let control = StepControl { interrupted, ..StepControl::default() };
        let told = self.member.step_control(control);
        if !told.is_ok_and(|told| told.interrupted) {
            return Err(error.into());
        }
        self.interrupted = true;
        Ok(None)
    }

    /// Reads the steps that are not read yet, adds them to `total`, and tells of them. False where
    /// the round is not worth going on with; what was made after that is dropped.
    fn read_steps(&mut self, round: u64, total: &mut StepControl) -> Result<bool, RunError> {
        for read in self.unread.read()? {
            self.compute_seconds += read.seconds;
            let made = self.skips.after(&read.control);
            self.report_step(round, read, made);
            match made {
                Made::Step => {
                    total.loss_sum += read.control.loss_sum;
                    total.tokens += read.control.tokens;
                }
                Made::Nothing => {}
                Made::TooManySkips => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Tokens of a step that this rank counts: those of the replicas whose first device it has.
    fn tokens(&self) -> u64 {
        let first = self.devices.positions().into_iter().filter(|at| at.stage + at.tensor == 0);
        let of = |at: Position| sequences(&self.spec.island.batches[at.data as usize]) as u64;
        first.map(of).sum::<u64>() * u64::from(self.spec.run.sequence_length)
    }

    /// What the island does in the round in progress, as it was last heard of.
    fn assignment(&self) -> Assignment {
        let ranges = self.member.samples();
        let samples = Allotment::new(ranges.iter().map(|range| range.first..range.end));
        let length = u64::from(self.spec.run.sequence_length);
        let expected = self.member.expected_samples().saturating_mul(length);
        Assignment { samples, before: self.member.run_tokens(), expected }
    }

    /// The micro-batches of a step, by replica; none of those that have no device here.
    fn read_samples(
        &mut self,
        part: &Assignment,
        step: u32,
    ) -> Result<Vec<MicroBatches>, RunError> {
        let batches = &self.spec.island.batches;
        let length = self.spec.run.sequence_length as usize;
        let total: u64 = batches.iter().map(|spec| sequences(spec) as u64).sum();
        let mut sample = u64::from(step) * total;
        let mut work = Vec::new();
        for (data, spec) in (0..).zip(batches) {
            let first = sample;
            sample += sequences(spec) as u64;
            let here = self.devices.positions().iter().any(|at| at.data == data);
            let batch = spec.micro_batch_size as usize;
            let count = if here { spec.micro_batches as usize } else { 0 };
            let mut tokens = vec![vec![0; batch * (length + 1)]; count];
            let rows = tokens.iter_mut().flat_map(|tokens| tokens.chunks_exact_mut(length + 1));
            for (row, nth) in rows.zip(first..) {
                self.text.sample(part.samples.position(nth)?, row)?;
            }
            work.push(MicroBatches { tokens, batch, length });
        }
        Ok(work)
    }

    fn report_step(&self, round: u64, read: ReadStep, made: Made) {
        let ReadStep { step, control, seconds } = read;
        let loss = (control.loss_sum / control.tokens.max(1) as f64) as f32;
        let skipped = made != Made::Step;
        if skipped {
            self.metrics.skipped_step();
            tracing::warn!(round, step, "Loss or gradient is not finite: the step was skipped.");
        } else {
            self.metrics.step(round, control.tokens, f64::from(loss), seconds);
        }
        if self.leads() {
            emit(&WorkerEvent::Step {
                round,
                step: step + 1,
                steps: self.spec.island.inner_steps,
                loss,
                tokens: control.tokens,
                seconds,
                skipped,
            });
        }
    }

    fn after_round(&mut self, report: &RoundReport) -> Result<(), RunError> {
        let compute_seconds = std::mem::take(&mut self.compute_seconds);
        self.metrics.round(report);
        self.memory.news().iter().for_each(emit);
        let bytes_sent = self.devices.take_boundary_bytes();
        if bytes_sent > 0 {
            self.metrics.boundary(bytes_sent);
            emit(&WorkerEvent::Boundary { round: report.round, bytes_sent });
        }
        if self.leads() {
            emit(&WorkerEvent::Round {
                round: report.round,
                tokens: self.member.run_tokens(),
                islands: report.islands,
                loss: report.loss,
                theta_hash: report.theta_hash.map(|hash| hash.to_string()).unwrap_or_default(),
                contributed: report.contributed,
                contribution_bytes: report.contribution_bytes,
                contribution_values: report.contribution_values,
                bytes_sent: report.bytes_sent,
                bytes_received: report.bytes_received,
                compute_seconds,
                exchange_seconds: report.exchange_seconds,
                waiting_seconds: report.waiting_seconds,
            });
        }
        let next = report.round + 1;
        if next.is_multiple_of(u64::from(self.spec.run.checkpoint_every_rounds.max(1)))
            && let Err(error) = self.save()
        {
            // A full disk must not end a run whose state is whole in memory.
            tracing::error!(error = %chain(&error), "No checkpoint was written.");
            self.tell(IslandState::Training, next, &chain(&error));
        }
        let every = u64::from(self.spec.run.evaluation.every_rounds.max(1));
        if self.member.leads_run() && next.is_multiple_of(every) {
            self.evaluate()?;
        }
        Ok(())
    }

    /// Held-out loss of θ, shared out over the island's replicas.
    fn evaluate(&mut self) -> Result<(), RunError> {
        if self.interrupted {
            return Ok(());
        }
        let run = &self.spec.run;
        let length = run.sequence_length;
        let tokens = self.text.tokens(Split::Validation);
        let Ok(held_out) = HeldOut::new(tokens, length, run.evaluation.sequences) else {
            tracing::info!("There is no held-out data: nothing is evaluated.");
            return Ok(());
        };
        self.member.load_theta(&mut self.devices)?;
        let replicas = self.spec.island.batches.len();
        let mut work = Vec::new();
        for data in 0..replicas {
            let mut rows = Vec::new();
            for first in held_out.sequences().skip(data).step_by(replicas) {
                let mut row = vec![0u32; length as usize + 1];
                self.text.read(Split::Validation, first, &mut row)?;
                rows.push(row);
            }
            work.push(MicroBatches { tokens: rows, batch: 1, length: length as usize });
        }
        let loss = self.devices.loss(&work);
        let Some(loss_sum) = self.unless_left(loss)? else {
            return Ok(self.member.load_local_start(&mut self.devices)?);
        };
        let all = self.member.step_control(StepControl { loss_sum, ..StepControl::default() })?;
        self.interrupted |= all.interrupted;
        self.member.load_local_start(&mut self.devices)?;
        if all.interrupted {
            return Ok(());
        }
        let tokens = held_out.sequences().count() as u64 * u64::from(length);
        let heldout_loss = all.loss_sum / tokens.max(1) as f64;
        self.metrics.heldout(heldout_loss);
        if self.leads() {
            emit(&WorkerEvent::Evaluation { round: self.member.round(), heldout_loss });
        }
        Ok(())
    }
}

fn rank_spec(spec: &WorkerSpec) -> Result<&RankSpec, RunError> {
    let ranks = spec.island.ranks.len();
    spec.island.ranks.get(spec.rank as usize).ok_or(RunError::NoSuchRank { rank: spec.rank, ranks })
}

fn open_text(spec: &WorkerSpec) -> Result<Text, RunError> {
    let run = &spec.run;
    let (sequence, positions) = (run.sequence_length, run.model.max_position_embeddings);
    if sequence > positions {
        return Err(RunError::SequenceTooLong { sequence, positions });
    }
    let text = Text::open(&TextOptions::of(spec))?;
    let (windows, round) = (text.windows(), round_samples(&spec.island));
    if windows < round {
        tracing::warn!(windows, round, "The island trains on some text twice in a round.");
    }
    Ok(text)
}

fn member_config(spec: &WorkerSpec) -> Result<MemberConfig, RunError> {
    let sparse = &spec.run.sparse;
    let bits = match sparse.value_bits {
        1 => ValueBits::One,
        2 => ValueBits::Two,
        bits => return Err(RunError::ValueBits { bits }),
    };
    let codec = CodecParams::new(sparse.top_k, bits, sparse.error_decay, sparse.retention)?;
    let rule = match sparse.rule {
        Rule::Paper => outer::Rule::Paper,
        Rule::Counted => outer::Rule::Counted,
    };
    let shared = serde_json::to_vec(&(&spec.run, &spec.island)).map_err(RunError::Manifest)?;
    Ok(MemberConfig {
        run: spec.run.name.clone(),
        island: spec.island.name.clone(),
        epoch: spec.island.epoch,
        rank: spec.rank,
        world_size: u32::try_from(spec.island.ranks.len()).unwrap_or(u32::MAX),
        coordinator: spec.coordinator.clone(),
        listen: spec.listen.clone(),
        collective_listen: spec.collective_listen.clone(),
        plan_hash: Digest(*blake3::hash(&shared).as_bytes()),
        codec,
        outer: OuterParams { rule, alpha: sparse.outer_learning_rate },
        inner_steps: spec.island.inner_steps,
        round_samples: round_samples(&spec.island),
        tokens_per_second: spec.island.tokens_per_second,
        timeouts: Timeouts::default(),
    })
}

/// Sequences of a round, over all replicas.
fn round_samples(island: &IslandSpec) -> u64 {
    let step: u64 = island.batches.iter().map(|batch| sequences(batch) as u64).sum();
    step * u64::from(island.inner_steps)
}

/// Sequences of a replica's step.
fn sequences(batch: &BatchSpec) -> usize {
    batch.micro_batches as usize * batch.micro_batch_size as usize
}
