//! Seconds of a round by H, and the choice of H.

use super::{AUTO_INNER_STEPS, INNER_STEPS_MAX, IslandRound, OuterRequest, Participant, Transfer};
use crate::request::InnerSteps;

/// Utilisation that `Auto` raises H for.
const GOAL: f64 = 0.9;
/// Share of the deadline that a round may take by plan: estimates err.
pub(super) const OF_DEADLINE: f64 = 0.8;
/// Keeps floor() from losing a step to rounding.
const ROUNDING: f64 = 1e-12;

/// The figures that do not depend on H.
pub(super) struct Pace<'a> {
    pub(super) islands: &'a [&'a Participant],
    pub(super) fastest: &'a Participant,
    /// Bytes that go up, and down, at each island.
    bytes: u64,
    /// Seconds of the exchange.
    pub(super) exchange: f64,
}

/// A round of some H.
pub(super) struct Round {
    pub(super) seconds: f64,
    pub(super) tokens: f64,
    pub(super) utilisation: f64,
}

impl Round {
    /// Tokens a second.
    pub(super) fn rate(&self) -> f64 {
        self.tokens / self.seconds
    }
}

impl<'a> Pace<'a> {
    /// `islands` is not empty, its figures are checked.
    pub(super) fn of(islands: &'a [&'a Participant], contribution: u64) -> Self {
        let faster = |best: &'a Participant, other: &'a Participant| {
            if other.step_seconds < best.step_seconds { other } else { best }
        };
        let fastest = islands[1..].iter().fold(islands[0], |best, other| faster(best, other));
        let bytes = contribution.saturating_mul(islands.len() as u64 - 1);
        let mut pace = Self { islands, fastest, bytes, exchange: 0.0 };
        pace.exchange = islands.iter().map(|island| pace.exchange_of(island)).fold(0.0, f64::max);
        pace
    }

    fn transfer(&self, bits: Option<f64>) -> Transfer {
        let seconds = bits.map(|bits| self.bytes as f64 * 8.0 / bits);
        Transfer { bytes: self.bytes, seconds }
    }

    pub(super) fn exchange_of(&self, island: &Participant) -> f64 {
        let seconds = |bits| self.transfer(bits).seconds.unwrap_or(0.0);
        let uplink = island.uplink;
        seconds(uplink.map(|uplink| uplink.up)).max(seconds(uplink.map(|uplink| uplink.down)))
    }

    /// Seconds in which the fastest makes so many steps, and all others as many as fit.
    pub(super) fn window(&self, steps: u32) -> f64 {
        f64::from(steps) * self.fastest.step_seconds
    }

    fn steps(island: &Participant, window: f64) -> u32 {
        steps_within(window, island.step_seconds)
    }

    pub(super) fn round(&self, window: f64) -> Round {
        let (mut compute, mut tokens, mut speed) = (0.0_f64, 0.0, 0.0);
        for island in self.islands {
            let steps = f64::from(Self::steps(island, window));
            compute = compute.max(steps * island.step_seconds);
            tokens += steps * island.step_tokens as f64;
            speed += island.step_tokens as f64 / island.step_seconds;
        }
        let seconds = compute + self.exchange;
        Round { seconds, tokens, utilisation: tokens / (seconds * speed) }
    }

    /// The round in which the fastest makes so many steps.
    pub(super) fn round_of(&self, steps: u32) -> Round {
        self.round(self.window(steps))
    }

    pub(super) fn island(&self, island: &Participant, window: f64, run: &Round) -> IslandRound {
        let inner_steps = Self::steps(island, window);
        let compute_seconds = f64::from(inner_steps) * island.step_seconds;
        IslandRound {
            name: island.name.clone(),
            inner_steps,
            compute_seconds,
            upload: self.transfer(island.uplink.map(|uplink| uplink.up)),
            download: self.transfer(island.uplink.map(|uplink| uplink.down)),
            round_seconds: compute_seconds + self.exchange_of(island),
            utilisation: compute_seconds / run.seconds,
        }
    }
}

/// Steps of so many seconds that fit into a window, at least 1.
pub(super) fn steps_within(window: f64, step_seconds: f64) -> u32 {
    (window / step_seconds * (1.0 + ROUNDING)).floor().max(1.0) as u32
}

/// H of the fastest island.
pub(super) struct Choice {
    pub(super) steps: u32,
    pub(super) why: Why,
}

/// The reason for this H.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Asked,
    /// The papers' figure does.
    Published,
    Raised,
    /// As far as the papers or the deadline allow, and it is not enough.
    RaisedInVain,
    Lowered,
    /// No H makes a round end in time.
    NeverInTime,
}

pub(super) fn choose(pace: &Pace<'_>, request: &OuterRequest) -> Choice {
    match request.inner_steps {
        InnerSteps::Fixed(steps) => Choice { steps, why: Why::Asked },
        InnerSteps::Auto => automatic(pace, request.deadline_seconds),
    }
}

/// A round never gets shorter with more steps, so the first that is too long ends the search.
pub(super) fn automatic(pace: &Pace<'_>, deadline: f64) -> Choice {
    let in_time = |round: &Round| round.seconds <= OF_DEADLINE * deadline;
    if !in_time(&pace.round_of(1)) {
        return Choice { steps: AUTO_INNER_STEPS, why: Why::NeverInTime };
    }
    if !in_time(&pace.round_of(AUTO_INNER_STEPS)) {
        let steps = (1..AUTO_INNER_STEPS).rev().find(|steps| in_time(&pace.round_of(*steps)));
        return Choice { steps: steps.unwrap_or(1), why: Why::Lowered };
    }
    let rounds = (AUTO_INNER_STEPS..=INNER_STEPS_MAX).map(|steps| (steps, pace.round_of(steps)));
    let mut last = AUTO_INNER_STEPS;
    for (steps, round) in rounds.take_while(|(_, round)| in_time(round)) {
        if round.utilisation >= GOAL {
            let why = if steps == AUTO_INNER_STEPS { Why::Published } else { Why::Raised };
            return Choice { steps, why };
        }
        last = steps;
    }
    Choice { steps: last, why: Why::RaisedInVain }
}
