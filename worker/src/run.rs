//! One rank's run, from what it is told to its end. What a round is made of is in `train`, what
//! people hear of it in `tell`, what is kept on disk in `keep`.

mod keep;
mod tell;
mod train;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use contract::event::{Ending, IslandState, WorkerEvent};
use contract::worker::WorkerSpec;
use member::{Member, MemberConfig, Timeouts, Turn};
use plan::gpu;
use plan::schedule::Schedule;
use plan::spec::{BatchSpec, IslandSpec, RankSpec, Rule};
use rounds::types::Digest;
use sparseloco::layout::Layout;
use sparseloco::outer::{self, OuterParams};
use sparseloco::{CodecParams, ValueBits};

use self::train::Trained;
use crate::ahead::{ReadAhead, Shape};
use crate::devices::{self, Devices, DevicesSetup};
use crate::error::RunError;
use crate::events::emit;
use crate::interrupt::Interrupt;
use crate::memory::{self, Memory};
use crate::metrics::Metrics;
use crate::parameters;
use crate::skips::Skips;
use crate::text::{Text, TextOptions};
use crate::unread::Unread;

/// Everything a rank works with.
struct Rank<'a> {
    spec: &'a WorkerSpec,
    rank: u32,
    text: Arc<Text>,
    ahead: ReadAhead,
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
    /// Of the model, forward and backward.
    flops_per_token: f64,
    /// Of the island's cards; nothing where they are emulated or not known.
    peak_tflops: Option<f64>,
}

/// Runs rank `rank` of an island to the end of the run, or until `stop` is set and its work is
/// handed over. Returns why it ended.
pub fn run(
    (spec, rank): (&WorkerSpec, u32),
    resume: bool,
    stop: Arc<AtomicBool>,
    metrics: &Metrics,
) -> Result<Ending, RunError> {
    let cards = &rank_spec(spec, rank)?.devices;
    let ran = Rank::start((spec, rank), resume, stop, metrics).and_then(Rank::follow);
    ran.map_err(|error| memory::explain(error, cards))
}

impl<'a> Rank<'a> {
    fn start(
        (spec, rank): (&'a WorkerSpec, u32),
        resume: bool,
        stop: Arc<AtomicBool>,
        metrics: &'a Metrics,
    ) -> Result<Rank<'a>, RunError> {
        let model = spec.run.model.validate().map_err(RunError::Config)?;
        devices::check(&model, &spec.island)?;
        let text = Arc::new(open_text(spec, rank)?);
        let layout = Arc::new(parameters::Layout::new(model.tensors()).canonical()?);
        let interrupt = Interrupt::new(Arc::clone(&stop));
        let mut member = Member::connect(member_config(spec, rank)?, Arc::clone(&layout), stop)?;
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
            rank,
            ahead: ReadAhead::new(Arc::clone(&text), shape(spec, &devices))?,
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
            memory: Memory::new(&rank_spec(spec, rank)?.devices),
            metrics,
            flops_per_token: model.flops_per_token(spec.run.sequence_length),
            peak_tflops: gpu::tflops_of(&spec.island),
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
}

fn rank_spec(spec: &WorkerSpec, rank: u32) -> Result<&RankSpec, RunError> {
    let ranks = spec.island.ranks.len();
    spec.island.ranks.get(rank as usize).ok_or(RunError::NoSuchRank { rank, ranks })
}

/// What an inner step needs of the text.
fn shape(spec: &WorkerSpec, devices: &Devices) -> Shape {
    let positions = devices.positions();
    let batches = spec.island.batches.clone();
    let here = |data: u32| positions.iter().any(|at| at.data == data);
    let here = (0..).take(batches.len()).map(here).collect();
    Shape { batches, here, length: spec.run.sequence_length as usize }
}

fn open_text(spec: &WorkerSpec, rank: u32) -> Result<Text, RunError> {
    let run = &spec.run;
    let (sequence, positions) = (run.sequence_length, run.model.max_position_embeddings);
    if sequence > positions {
        return Err(RunError::SequenceTooLong { sequence, positions });
    }
    let text = Text::open(&TextOptions::of(spec, rank))?;
    let (windows, round) = (text.windows(), round_samples(&spec.island));
    if windows < round {
        tracing::warn!(windows, round, "The island trains on some text twice in a round.");
    }
    Ok(text)
}

fn member_config(spec: &WorkerSpec, rank: u32) -> Result<MemberConfig, RunError> {
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
        rank,
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

#[cfg(test)]
mod tests;
