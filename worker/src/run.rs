//! One rank's run, from its spec to its end: the train loop.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use data::{Corpus, HeldOut, Sampler, SamplerOptions, Split, StepShape};
use member::{
    Member, MemberConfig, OuterState, RoundReport, StepControl, Theta, ThetaError, Timeouts, Turn,
};
use plan::event::{Ending, IslandState, WorkerEvent};
use plan::spec::{RankSpec, Rule, WorkerSpec};
use rounds::types::Digest;
use sparseloco::layout::Layout;
use sparseloco::outer::{self, OuterParams};
use sparseloco::{CodecParams, ValueBits};

use crate::checkpoint::{self, Checkpoint, Part};
use crate::error::RunError;
use crate::events::emit;
use crate::metrics::Metrics;
use crate::model::Replica;
use crate::pace::Pace;
use crate::schedule::learning_rate;

/// Everything a rank works with.
struct Rank<'a> {
    spec: &'a WorkerSpec,
    corpus: Corpus,
    sampler: Sampler,
    layout: Arc<Layout>,
    replica: Replica,
    member: Member,
    pace: Pace,
    compute_seconds: f64,
    saved: Option<u64>,
    metrics: &'a Metrics,
}

/// Runs one rank to the end of the run, or until `stop` is set and its work is handed over.
/// Returns why it ended.
pub fn run(
    spec: &WorkerSpec,
    resume: bool,
    stop: Arc<AtomicBool>,
    metrics: &Metrics,
) -> Result<Ending, RunError> {
    let mut rank = Rank::start(spec, resume, stop, metrics)?;
    loop {
        match rank.member.next(&mut rank.replica)? {
            Turn::Train { round } => {
                let (trained, steps) = rank.train_round(round)?;
                rank.tell(IslandState::Exchanging, round, "");
                rank.member.offer(&mut rank.replica, trained, steps)?;
                rank.tell(IslandState::Waiting, round, "");
            }
            Turn::Applied(report) => rank.after_round(&report)?,
            Turn::Synced { round } => rank.tell(IslandState::Syncing, round, "θ was fetched"),
            Turn::Finished => {
                rank.evaluate()?;
                rank.save()?;
                return Ok(rank.end(Ending::Complete));
            }
            Turn::Missed => return Ok(rank.end(Ending::Missed)),
            Turn::Stopped => {
                rank.save()?;
                return Ok(rank.end(Ending::Stopped));
            }
        }
    }
}

impl<'a> Rank<'a> {
    fn start(
        spec: &'a WorkerSpec,
        resume: bool,
        stop: Arc<AtomicBool>,
        metrics: &'a Metrics,
    ) -> Result<Rank<'a>, RunError> {
        let (corpus, sampler) = open_data(spec)?;
        let island = &spec.island;
        let own = rank_spec(spec)?;
        let replica =
            Replica::new(&spec.run.model, spec.run.seed, &own.device, &spec.run.optimizer)?;
        let layout = Arc::new(replica.layout().canonical()?);
        let member = Member::connect(member_config(spec)?, Arc::clone(&layout), stop)?;
        let pace = Pace::new(&own.device);
        let mut rank = Rank {
            spec,
            corpus,
            sampler,
            layout,
            replica,
            member,
            pace,
            compute_seconds: 0.0,
            saved: None,
            metrics,
        };
        let address = rank.member.address().to_string();
        emit(&WorkerEvent::Listening { address, metrics: spec.metrics.clone() });
        rank.tell(IslandState::Starting, 0, &format!("{} ranks met", island.ranks.len()));
        let outer = rank.restore(resume)?;
        let first = outer.round == 0;
        rank.member.begin(&mut rank.replica, outer)?;
        if first {
            rank.evaluate()?;
        }
        Ok(rank)
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

    /// Puts the newest checkpoint into the replica; all ranks take the one that the leader found.
    fn restore(&mut self, resume: bool) -> Result<OuterState, RunError> {
        let span = self.member.span();
        let fresh = OuterState::fresh(0, self.layout.span(span.clone()).len());
        let root = &self.spec.checkpoint_dir;
        let newest = if self.leads() && resume { Checkpoint::newest(root)? } else { None };
        let mut chosen = Vec::new();
        if let Some(newest) = &newest {
            newest.check(&self.spec.run)?;
            chosen = newest.manifest().round.to_le_bytes().to_vec();
        }
        self.member.group().broadcast_bytes(&mut chosen, 0).map_err(RunError::Group)?;
        let Ok(round) = chosen.try_into().map(u64::from_le_bytes) else { return Ok(fresh) };
        let found = match newest {
            Some(newest) => newest,
            None => Checkpoint::open(&checkpoint::folder_of(root, round))?,
        };
        found.check(&self.spec.run)?;
        let error = found.read(Part::Error, &self.layout, span)?;
        // One kind after the other: a second copy of all of them might not fit.
        let pieces = self.layout.pieces();
        let read = |part| found.read(part, &self.layout, 0..pieces);
        self.layout.scatter(0..pieces, &read(Part::Theta)?, self.replica.theta()?);
        self.replica.store_theta()?;
        let (moment1, moment2) = self.replica.moments()?;
        self.layout.scatter(0..pieces, &read(Part::Moment1)?, moment1);
        self.layout.scatter(0..pieces, &read(Part::Moment2)?, moment2);
        self.replica.store_moments()?;
        self.replica.set_optimizer_steps(found.manifest().optimizer_steps);
        self.saved = Some(round);
        self.tell(IslandState::Starting, round, "resumed from a checkpoint");
        Ok(OuterState { round, error })
    }

    /// The inner steps of a round, fewer when the round closes or the island is to stop.
    fn train_round(&mut self, round: u64) -> Result<(StepControl, u32), RunError> {
        let span = tracing::info_span!("train", round, island = self.spec.island.name);
        telemetry::set_parent(&span, self.member.traceparent());
        let _entered = span.enter();
        self.tell(IslandState::Training, round, "");
        let steps = self.spec.island.inner_steps;
        let mut total = StepControl::default();
        for step in 0..steps {
            let control = self.train_step(round, step)?;
            total.loss_sum += control.loss_sum;
            total.tokens += control.tokens;
            total.stop |= control.stop;
            if control.stop || control.closed {
                return Ok((total, step + 1));
            }
        }
        Ok((total, steps))
    }

    /// One inner step: gradients of this rank's micro-batches, their sum over the ranks, AdamW.
    fn train_step(&mut self, round: u64, step: u32) -> Result<StepControl, RunError> {
        let started = Instant::now();
        let loss_sum = self.accumulate_gradients(round, step)?;
        let group = self.member.group();
        if group.world_size() > 1 {
            group.all_reduce(self.replica.gradients()?).map_err(RunError::Group)?;
            self.replica.store_gradients()?;
        }
        self.pace.begin();
        let rate = learning_rate(
            &self.spec.run.optimizer,
            self.schedule_position(round, step),
            (self.spec.run.total_rounds * u64::from(self.spec.run.reference_steps)) as f64,
        );
        let norm = self.replica.optimizer_step(rate)?;
        if !norm.is_finite() {
            tracing::warn!(round, step, "The gradient is not finite: this step changed nothing.");
        }
        self.pace.end();
        let tokens = u64::from(self.own().micro_batches)
            * u64::from(self.own().micro_batch_size)
            * u64::from(self.spec.run.sequence_length);
        let mine = StepControl { loss_sum, tokens, ..StepControl::default() };
        let control = self.member.step_control(mine)?;
        let seconds = started.elapsed().as_secs_f64();
        self.compute_seconds += seconds;
        self.report_step(round, step, control, seconds);
        Ok(control)
    }

    /// Steps of the schedule done before this one: an island that makes fewer steps a round takes
    /// longer ones, so that all islands are at the same point of the schedule.
    fn schedule_position(&self, round: u64, step: u32) -> f64 {
        let reference = f64::from(self.spec.run.reference_steps);
        let share = f64::from(step) / f64::from(self.spec.island.inner_steps);
        (round as f64 + share) * reference
    }

    fn accumulate_gradients(&mut self, round: u64, step: u32) -> Result<f64, RunError> {
        let own = self.own().clone();
        let length = self.spec.run.sequence_length as usize;
        let batch = own.micro_batch_size as usize;
        let (first, sequences) = self.samples(round, step);
        let scale = 1.0 / (f64::from(sequences) * length as f64);
        let mut tokens = vec![0u32; batch * (length + 1)];
        let mut loss_sum = 0.0;
        for micro_batch in 0..u64::from(own.micro_batches) {
            self.pace.begin();
            for (row, sequence) in tokens.chunks_exact_mut(length + 1).zip(0u64..) {
                let sample = first + micro_batch * batch as u64 + sequence;
                self.corpus.read(Split::Train, self.sampler.sequence(sample), row)?;
            }
            loss_sum += self.replica.forward_backward(&tokens, batch, length, scale)?;
            self.pace.end();
        }
        Ok(loss_sum)
    }

    /// The first sample of this rank in an inner step, and the sequences of the whole step.
    fn samples(&self, round: u64, step: u32) -> (u64, u32) {
        let of = |rank: &RankSpec| rank.micro_batches * rank.micro_batch_size;
        let ranks = &self.spec.island.ranks;
        let sequences: u32 = ranks.iter().map(of).sum();
        let before: u32 = ranks.iter().take(self.spec.rank as usize).map(of).sum();
        let shape = StepShape { inner_steps: self.spec.island.inner_steps, sequences };
        (shape.first_sample(round, step).wrapping_add(u64::from(before)), sequences)
    }

    fn own(&self) -> &RankSpec {
        &self.spec.island.ranks[self.spec.rank as usize]
    }

    fn report_step(&self, round: u64, step: u32, control: StepControl, seconds: f64) {
        let loss = (control.loss_sum / control.tokens.max(1) as f64) as f32;
        self.metrics.step(round, control.tokens, f64::from(loss), seconds);
        if self.leads() {
            emit(&WorkerEvent::Step {
                round,
                step: step + 1,
                steps: self.spec.island.inner_steps,
                loss,
                tokens: control.tokens,
                seconds,
            });
        }
    }

    fn after_round(&mut self, report: &RoundReport) -> Result<(), RunError> {
        let compute_seconds = std::mem::take(&mut self.compute_seconds);
        self.metrics.round(report);
        if self.leads() {
            emit(&WorkerEvent::Round {
                round: report.round,
                tokens: self.member.run_tokens(),
                islands: report.islands,
                loss: report.loss,
                theta_hash: report.theta_hash.map(|hash| hash.to_string()).unwrap_or_default(),
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
            tracing::error!(error = %crate::error::chain(&error), "No checkpoint was written.");
            self.tell(IslandState::Training, next, &crate::error::chain(&error));
        }
        let every = u64::from(self.spec.run.evaluation.every_rounds.max(1));
        if self.spec.island.index == 0 && next.is_multiple_of(every) {
            self.evaluate()?;
        }
        Ok(())
    }

    /// Held-out loss of θ, shared out over the island's ranks.
    fn evaluate(&mut self) -> Result<(), RunError> {
        let run = &self.spec.run;
        let length = run.sequence_length;
        let tokens = self.corpus.tokens(Split::Validation);
        let Ok(held_out) = HeldOut::new(tokens, length, run.evaluation.sequences) else {
            tracing::info!("There is no held-out data: nothing is evaluated.");
            return Ok(());
        };
        self.member.load_theta(&mut self.replica)?;
        let ranks = self.spec.island.ranks.len();
        let mut row = vec![0u32; length as usize + 1];
        let mut mine = StepControl::default();
        for first in held_out.sequences().skip(self.spec.rank as usize).step_by(ranks) {
            self.corpus.read(Split::Validation, first, &mut row)?;
            mine.loss_sum += self.replica.loss(&row, 1, length as usize)?;
            mine.tokens += u64::from(length);
        }
        let all = self.member.step_control(mine)?;
        self.member.load_local_start(&mut self.replica)?;
        let heldout_loss = all.loss_sum / all.tokens.max(1) as f64;
        self.metrics.heldout(heldout_loss);
        if self.leads() {
            emit(&WorkerEvent::Evaluation { round: self.member.round(), heldout_loss });
        }
        Ok(())
    }

    /// Writes this rank's part; the leader completes the checkpoint once all parts are durable.
    fn save(&mut self) -> Result<(), RunError> {
        let root = &self.spec.checkpoint_dir;
        let (round, span) = (self.member.round(), self.member.span());
        if self.saved == Some(round) {
            return Ok(());
        }
        let written = self.write_part(span);
        let message = match &written {
            Ok(entry) => serde_json::to_vec(entry).map_err(RunError::Manifest)?,
            Err(_) => Vec::new(),
        };
        let all = self.member.group().all_gather_bytes(&message).map_err(RunError::Group)?;
        written?;
        if all.iter().any(Vec::is_empty) {
            return Err(RunError::PartMissing);
        }
        let parts = all.iter().map(|bytes| serde_json::from_slice(bytes));
        let parts = parts.collect::<Result<Vec<_>, _>>().map_err(RunError::Manifest)?;
        if self.leads() {
            let mut manifest = checkpoint::manifest(&self.spec.run, &self.spec.island.name, parts);
            manifest.round = round;
            manifest.tokens = self.member.run_tokens();
            manifest.optimizer_steps = self.replica.optimizer_steps();
            crate::hugging_face::write_companions(
                &checkpoint::folder_of(root, round),
                &self.spec.run.model,
                &self.corpus.tokenizer()?,
            )?;
            let folder = checkpoint::commit(root, &manifest)?;
            emit(&WorkerEvent::Checkpoint { round, path: folder.display().to_string() });
        }
        self.saved = Some(round);
        Ok(())
    }

    fn write_part(&mut self, span: Range<u32>) -> Result<checkpoint::PartEntry, RunError> {
        let length = self.layout.span(span.clone()).len();
        let (mut first, mut second) = (vec![0.0; length], vec![0.0; length]);
        let (moment1, moment2) = self.replica.moments()?;
        self.layout.gather(span.clone(), moment1, &mut first);
        self.layout.gather(span.clone(), moment2, &mut second);
        let theta = self.member.anchor();
        let values = [&theta[..], self.member.error(), &first[..], &second[..]];
        let (root, round) = (&self.spec.checkpoint_dir, self.member.round());
        Ok(checkpoint::write_part(root, round, self.spec.rank, (span, values))?)
    }
}

fn rank_spec(spec: &WorkerSpec) -> Result<&RankSpec, RunError> {
    let ranks = spec.island.ranks.len();
    spec.island.ranks.get(spec.rank as usize).ok_or(RunError::NoSuchRank { rank: spec.rank, ranks })
}

fn open_data(spec: &WorkerSpec) -> Result<(Corpus, Sampler), RunError> {
    let run = &spec.run;
    let corpus = Corpus::open(&run.data)?;
    corpus.check_vocab(run.model.vocab_size)?;
    if run.sequence_length > run.model.max_position_embeddings {
        return Err(RunError::SequenceTooLong {
            sequence: run.sequence_length,
            positions: run.model.max_position_embeddings,
        });
    }
    let sampler = Sampler::new(SamplerOptions {
        tokens: corpus.tokens(Split::Train),
        seed: run.seed,
        sequence_length: run.sequence_length,
        island: spec.island.index,
        islands: spec.island.islands,
    })?;
    Ok((corpus, sampler))
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
        tokens_per_second: spec.island.tokens_per_second,
        timeouts: Timeouts::default(),
    })
}

impl Theta for Replica {
    fn values(&mut self) -> Result<&mut [f32], ThetaError> {
        Ok(self.theta()?)
    }

    fn store(&mut self) -> Result<(), ThetaError> {
        Ok(self.store_theta()?)
    }
}
