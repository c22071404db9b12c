//! The inner steps of a round: samples, gradients, what all ranks say of a step, the optimiser, and
//! which steps count.

use contract::event::IslandState;
use data::Allotment;
use member::StepControl;
use plan::schedule;
use plan::shard::Position;

use super::{Rank, sequences};
use crate::error::RunError;
use crate::model::ModelError;
use crate::skips::{Made, Skips};
use crate::sums::Sums;
use crate::unread::only_device;

/// Why a round has no contribution where it was stopped in its first step.
const INTERRUPTED: &str = "stopped in the first step of the round: no contribution";

/// Where a round stands in the run.
struct Assignment {
    /// Tokens of the run when the round began.
    before: u64,
    /// Tokens that the round is expected to give, over all islands.
    expected: u64,
}

/// What the inner steps of a round came to.
pub(super) enum Trained {
    /// Sums over the island, and steps made.
    Work(StepControl, u32),
    /// Nothing that others could use, and why.
    Nothing(String),
}

impl Rank<'_> {
    /// The inner steps of a round, fewer when the round closes or the island is to stop.
    pub(super) fn train_round(&mut self, round: u64) -> Result<Trained, RunError> {
        let span = tracing::info_span!("train", round, island = self.spec.island.name);
        telemetry::set_parent(&span, self.member.traceparent());
        let _entered = span.enter();
        self.tell(IslandState::Training, round, "");
        self.skips = Skips::default();
        let mut total = StepControl::default();
        let steps = self.spec.island.inner_steps;
        let part = self.assignment();
        self.ahead.begin(self.samples(), steps)?;
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
    pub(super) fn forgo(&mut self, round: u64, reason: &str) -> Result<(), RunError> {
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
        let work = self.ahead.take(step)?;
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
    pub(super) fn unless_left<T>(
        &mut self,
        mine: Result<T, ModelError>,
    ) -> Result<Option<T>, RunError> {
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

    /// Where the round in progress stands in the run, as it was last heard of.
    fn assignment(&self) -> Assignment {
        let length = u64::from(self.spec.run.sequence_length);
        let expected = self.member.expected_samples().saturating_mul(length);
        Assignment { before: self.member.run_tokens(), expected }
    }

    /// What the island trains on in the round in progress.
    fn samples(&self) -> Allotment {
        let ranges = self.member.samples();
        Allotment::new(ranges.iter().map(|range| range.first..range.end))
    }
}
