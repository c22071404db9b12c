//! The learning rate as a pure function of the run's tokens.
//!
//! It rises linearly to its peak over the warm-up, then falls along half a cosine to its floor,
//! which it reaches when the run has the tokens that it was asked for, and stays there. Tokens are
//! counted over all islands, so islands of unlike speed are at the same point, and a round that
//! counts for less moves the schedule on by less.
//!
//! A run that goes on with another number of tokens falls from where it is ([`extended`]): the rate
//! never jumps.

use std::f64::consts::PI;

use crate::spec::{Anchor, OptimizerSpec, RunSpec, ScheduleSpec};

/// A run's schedule. Rates follow from positions: tokens of the run, or whatever unit the warm-up
/// and the total are in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    peak: f64,
    /// Share of the peak at the end.
    floor: f64,
    /// Share of the peak at the very beginning: that of the first step of the warm-up.
    first: f64,
    warmup: f64,
    total: f64,
    /// The tokens at which the fall begins, and the share of the peak that it begins from.
    from: (f64, f64),
}

impl Schedule {
    /// The schedule of a run, by its tokens.
    pub fn of(run: &RunSpec) -> Schedule {
        let ScheduleSpec { warmup_tokens, anchor } = run.schedule;
        let plain = Schedule::new(&run.optimizer, warmup_tokens as f64, run.tokens as f64);
        let from = anchor.map_or(plain.from, |anchor| (anchor.tokens as f64, anchor.ratio));
        Schedule { from, ..plain }
    }

    /// A schedule from its beginning, with warm-up and end in any one unit.
    pub fn new(optimizer: &OptimizerSpec, warmup: f64, total: f64) -> Schedule {
        Schedule {
            peak: optimizer.learning_rate,
            floor: optimizer.min_learning_rate_ratio,
            first: 1.0 / optimizer.warmup_steps.max(1) as f64,
            warmup,
            total,
            from: (warmup, 1.0),
        }
    }

    /// The learning rate of a step that begins at `position`. The first step has the rate of one
    /// step of the warm-up, not 0.
    pub fn rate(&self, position: f64) -> f64 {
        self.peak * self.ratio(position)
    }

    /// The learning rate as a share of the peak.
    fn ratio(&self, position: f64) -> f64 {
        let (from, top) = self.from;
        if position >= self.total {
            return self.floor;
        }
        if position < from {
            return self.warm(position).min(top);
        }
        let progress = (position - from) / (self.total - from);
        self.floor + (top - self.floor) * 0.5 * (1.0 + libm::cos(PI * progress))
    }

    fn warm(&self, position: f64) -> f64 {
        if position >= self.warmup {
            return 1.0;
        }
        (self.first + position / self.warmup).min(1.0)
    }
}

/// Tokens of a warm-up that is given in steps, where a whole round of all islands takes
/// `reference_steps`.
pub fn warmup_tokens(warmup_steps: u64, round_tokens: u64, reference_steps: u32) -> u64 {
    let tokens = u128::from(warmup_steps) * u128::from(round_tokens);
    u64::try_from(tokens / u128::from(reference_steps.max(1))).unwrap_or(u64::MAX)
}

/// The schedule of `run` when it goes on after `done` tokens and is asked for `tokens` in all. In
/// the warm-up nothing changes but the end; afterwards the rate falls from where it is to the floor
/// at the new end. A run that had ended is at its floor and stays there.
pub fn extended(run: &RunSpec, done: u64, tokens: u64) -> ScheduleSpec {
    let spec = run.schedule;
    // A run that came back behind its warm-up warms up again, whatever was changed afterwards.
    if tokens == run.tokens || done < spec.warmup_tokens {
        return spec;
    }
    let ratio = Schedule::of(run).ratio(done as f64);
    ScheduleSpec { anchor: Some(Anchor { tokens: done, ratio }), ..spec }
}

/// Tokens of the run when a member begins a step of a round: those that the run had when the round
/// began, and the share of the round's expected tokens that the member has made of its steps.
pub fn position(before: u64, expected: u64, (step, steps): (u32, u32)) -> f64 {
    before as f64 + expected as f64 * f64::from(step) / f64::from(steps.max(1))
}

#[cfg(test)]
mod tests;
