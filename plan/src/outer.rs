//! The outer plan: how many inner steps each island makes in a round, and what an exchange costs.
//!
//! A round has two phases and no overlap. All islands compute; when the last has offered, each
//! pulls the contributions of the N − 1 others from their owners (nothing is revealed before, so an
//! island that is done early cannot begin to send). An island so receives N − 1 contributions, and
//! sends its own N − 1 times. Nobody goes on before all have fetched: what the slowest uplink
//! takes, all take.
//!
//! Assumed: up and down go at the same time and at full speed (full duplex, no other traffic);
//! latency and the offer's few bytes count as nothing beside seconds of transfer; compressing and
//! applying cost nothing.

mod check;
mod pace;
mod reasons;
#[cfg(test)]
mod tests;

use crate::cluster::Bandwidth;
use crate::request::InnerSteps;

pub use check::OuterError;

use pace::{Pace, choose};

/// H of the fastest island that `Auto` starts from: SparseLoCo's and Covenant-72B's 30.
pub const AUTO_INNER_STEPS: u32 = 30;
/// The largest H that `Auto` goes to. SparseLoCo was tried with 15, 30, 50, 100 and 250; what more
/// does to the loss is not known. (The paper's figure ends at 100, its authors' announcement at
/// 250.)
pub const INNER_STEPS_MAX: u32 = 250;
/// The largest H of any island.
const STEPS_MAX: u32 = 100_000;
/// The most islands of a plan: as many as a coordinator takes.
pub const ISLANDS_MAX: usize = 1024;

/// Relative gain from which leaving an island out is worth saying: less is within the estimate.
const SLOWING: f64 = 0.01;
/// The most islands that are said to slow the run.
const SLOWING_MAX: usize = 8;

/// The input of the outer plan.
#[derive(Clone, Debug, PartialEq)]
pub struct OuterRequest {
    /// The islands.
    pub islands: Vec<Participant>,
    /// Bytes of one island's contribution.
    pub contribution_bytes: u64,
    /// Bytes of the same pseudo-gradient as dense f32.
    pub dense_bytes: u64,
    /// H of the fastest island.
    pub inner_steps: InnerSteps,
    /// End of a round in any case, seconds from its start.
    pub deadline_seconds: f64,
}

/// The facts about an island that the outer plan needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Participant {
    /// Its name.
    pub name: String,
    /// Seconds of an inner step.
    pub step_seconds: f64,
    /// Tokens of an inner step.
    pub step_tokens: u64,
    /// Its way to the others; absent where nobody measured or said it.
    pub uplink: Option<Bandwidth>,
}

/// Bytes that go one way, and how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    /// Bytes.
    pub bytes: u64,
    /// Seconds; absent where the uplink is not known.
    pub seconds: Option<f64>,
}

/// A round as one island sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct IslandRound {
    /// Its name.
    pub name: String,
    /// H: its inner steps.
    pub inner_steps: u32,
    /// Seconds of them.
    pub compute_seconds: f64,
    /// Its contribution, to each of the others.
    pub upload: Transfer,
    /// The others' contributions.
    pub download: Transfer,
    /// Seconds that it computes and exchanges; in the rest of the run's round it waits.
    pub round_seconds: f64,
    /// Share of the run's round in which it computes.
    pub utilisation: f64,
}

/// A round of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct OuterPlan {
    /// The islands, in the order in which they were given.
    pub islands: Vec<IslandRound>,
    /// H of the fastest island.
    pub reference_steps: u32,
    /// Seconds of the exchange: the slowest uplink's.
    pub exchange_seconds: f64,
    /// Seconds of a round: all wait for the slowest, in computing and again in the exchange.
    pub round_seconds: f64,
    /// Tokens of a round, all islands.
    pub round_tokens: u64,
    /// Share of the tokens that the islands would make if they did nothing but compute.
    pub utilisation: f64,
    /// Islands that cost the run more than they give, the worst first. They are kept: whether an
    /// island takes part is its owner's to say.
    pub slowing: Vec<Slowing>,
    /// Why it is so, and what to change, a sentence each.
    pub reasons: Vec<String>,
}

/// H of an island that joins a run whose rounds take so many seconds of inner steps: as many steps
/// as end with the others', one at least.
pub fn joining_steps(compute_seconds: f64, step_seconds: f64) -> u32 {
    pace::steps_within(compute_seconds, step_seconds).min(STEPS_MAX)
}

impl OuterPlan {
    /// Seconds of inner steps in a round: the slowest island's.
    pub fn compute_seconds(&self) -> f64 {
        self.islands.iter().map(|island| island.compute_seconds).fold(0.0, f64::max)
    }

    /// Whether every island makes a step, no more of them than the fastest, and is done with its
    /// round when the run's ends.
    fn holds_every_island(&self) -> bool {
        let most = self.reference_steps.max(1);
        let end = self.round_seconds * (1.0 + 1e-9);
        let fits = |island: &IslandRound| {
            (1..=most).contains(&island.inner_steps) && island.round_seconds <= end
        };
        self.islands.iter().all(fits)
    }

    /// Tokens a second of the run, exchanges included.
    pub fn tokens_per_second(&self) -> f64 {
        self.round_tokens as f64 / self.round_seconds
    }
}

/// An island without which the run makes more tokens a second, by a hundredth at least, where the
/// others compute as long as before. Of two that keep the others waiting with equally long steps
/// neither shows: leaving out one is of no use.
#[derive(Clone, Debug, PartialEq)]
pub struct Slowing {
    /// Its name.
    pub island: String,
    /// The run's tokens a second with it, and without those before it in the list.
    pub with: f64,
    /// Without it, too.
    pub without: f64,
}

/// Plans the rounds of a run.
///
/// H of the fastest island is the asked one, or chosen: 30, raised until cards compute 90 % of a
/// round, lowered until the round takes 80 % of its deadline. All others make as many steps as fit
/// into the same time, at least 1, so that all are done computing together, and exchange together.
///
/// # Errors
/// Figures that make no sense, each with what to change.
pub fn plan_rounds(request: &OuterRequest) -> Result<OuterPlan, OuterError> {
    check::check(request)?;
    let all: Vec<&Participant> = request.islands.iter().collect();
    let pace = Pace::of(&all, request.contribution_bytes);
    let choice = choose(&pace, request);
    let window = pace.window(choice.steps);
    let round = pace.round(window);
    let islands: Vec<_> = all.iter().map(|island| pace.island(island, window, &round)).collect();
    let tokens = |(island, round): (&Participant, &IslandRound)| {
        island.step_tokens.saturating_mul(round.inner_steps.into())
    };
    let round_tokens = request.islands.iter().zip(&islands).map(tokens);
    let mut plan = OuterPlan {
        reference_steps: choice.steps,
        exchange_seconds: pace.exchange,
        round_seconds: round.seconds,
        round_tokens: round_tokens.fold(0, u64::saturating_add),
        utilisation: round.utilisation,
        slowing: slowing(all.clone(), request.contribution_bytes, window),
        islands,
        reasons: Vec::new(),
    };
    debug_assert!(plan.holds_every_island(), "{plan:?}");
    plan.reasons = reasons::reasons(request, &pace, &choice, &plan);
    Ok(plan)
}

/// The island without which the run is fastest, then the next one without that, until none is
/// worth saying: what one slow island costs is not said of all the others, too. All compute as long
/// as planned: that H of 30 lasts longer on the second fastest is no gain of the fastest's leaving.
fn slowing(mut left: Vec<&Participant>, contribution: u64, window: f64) -> Vec<Slowing> {
    let rate = |islands: &[&Participant]| Pace::of(islands, contribution).round(window).rate();
    let without = |islands: &[&Participant], at: usize| {
        let mut others = islands.to_vec();
        others.remove(at);
        rate(&others)
    };
    let (mut with, mut found) = (rate(&left), Vec::new());
    while left.len() > 1 && found.len() < SLOWING_MAX {
        let rates = (0..left.len()).map(|at| (at, without(&left, at)));
        let Some((at, without)) = rates.max_by(|(_, a), (_, b)| a.total_cmp(b)) else { break };
        if without <= with * (1.0 + SLOWING) {
            break;
        }
        found.push(Slowing { island: left.remove(at).name.clone(), with, without });
        with = without;
    }
    found
}
