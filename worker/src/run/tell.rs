//! What a rank tells of its run: states, steps, rounds, and the held-out loss that it measures for
//! that. Only the island's leader speaks; metrics are every rank's own.

use contract::event::{IslandState, WorkerEvent};
use data::{HeldOut, Split};
use member::{RoundReport, StepControl};

use super::Rank;
use crate::error::{RunError, chain};
use crate::events::emit;
use crate::model::MicroBatches;
use crate::skips::Made;
use crate::unread::ReadStep;

impl Rank<'_> {
    /// Only the leader speaks for the island.
    pub(super) fn leads(&self) -> bool {
        self.rank == 0
    }

    pub(super) fn tell(&self, state: IslandState, round: u64, reason: &str) {
        if self.leads() {
            emit(&WorkerEvent::State { state, round, reason: reason.to_string() });
        }
    }

    pub(super) fn report_step(&self, round: u64, read: ReadStep, made: Made) {
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
                mfu: self.mfu(control.tokens, seconds),
            });
        }
    }

    /// Share of the cards' peak that a step reached; nothing where they are emulated or not known.
    fn mfu(&self, tokens: u64, seconds: f64) -> Option<f64> {
        let flops = tokens as f64 * self.flops_per_token;
        self.peak_tflops.map(|peak| flops / (seconds.max(1e-9) * peak * 1e12))
    }

    pub(super) fn after_round(&mut self, report: &RoundReport) -> Result<(), RunError> {
        let compute_seconds = std::mem::take(&mut self.compute_seconds);
        self.metrics.round(report);
        self.memory.news().iter().for_each(emit);
        let bytes_sent = self.devices.take_boundary_bytes();
        if bytes_sent > 0 {
            self.metrics.boundary(bytes_sent);
            emit(&WorkerEvent::Boundary { round: report.round, bytes_sent });
        }
        if self.leads() {
            self.tell_round(report, compute_seconds);
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

    fn tell_round(&self, report: &RoundReport, compute_seconds: f64) {
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

    /// Held-out loss of θ, shared out over the island's replicas.
    pub(super) fn evaluate(&mut self) -> Result<(), RunError> {
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
