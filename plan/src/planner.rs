//! From what is asked for to what every rank does, or the reasons why not.

use std::path::PathBuf;

use crate::memory::Memory;
use crate::request::{Execution, InnerSteps, IslandRequest, RoundRules, RunRequest, Tokenizer};
use crate::spec::{IslandSpec, RunSpec};

mod cards;
mod describe;
mod explain;
mod groups;
mod island;
mod refusal;
mod sharding;
mod shortfall;
mod split;
mod stages;
#[cfg(test)]
mod tests;
mod time;
mod whole;
mod wire;

pub use refusal::{Reason, Refusal, Refusals};

use cards::{Chosen, Pool};
use island::Planner;

/// H of the fastest island where the run leaves it open: SparseLoCo's and Covenant-72B's 30.
pub const AUTO_INNER_STEPS: u32 = 30;

/// What every island of a run does.
#[derive(Clone, Debug, PartialEq)]
pub struct RunPlan {
    /// What all islands share.
    pub run: RunSpec,
    /// What the data has to be tokenised with.
    pub tokenizer: Tokenizer,
    /// When a round ends.
    pub rounds: RoundRules,
    /// Folder for checkpoints; the run folder's own where absent.
    pub checkpoint: Option<PathBuf>,
    /// The islands, in the order in which they were given.
    pub islands: Vec<IslandPlan>,
    /// Whether cards are emulated on CPU.
    pub emulated: bool,
    /// Tokens of a round, all islands.
    pub round_tokens: u64,
    /// Seconds of a round's inner steps, by the slowest island.
    pub round_seconds: f64,
    /// Bytes that one island's contribution is expected to take.
    pub contribution_bytes: u64,
    /// Bytes of the same pseudo-gradient as dense f32.
    pub dense_bytes: u64,
    /// Why it is so, a sentence each.
    pub reasons: Vec<String>,
}

/// What one island does.
#[derive(Clone, Debug, PartialEq)]
pub struct IslandPlan {
    /// What its ranks are told; epoch 1, which whoever starts them again replaces.
    pub spec: IslandSpec,
    /// One entry for each rank of `spec.ranks`.
    pub ranks: Vec<RankPlan>,
    /// Seconds of an inner step.
    pub step_seconds: f64,
    /// Tokens of a round.
    pub round_tokens: u64,
    /// Why it is so, a sentence each.
    pub reasons: Vec<String>,
}

impl IslandPlan {
    /// Seconds of the inner steps of a round.
    pub fn round_seconds(&self) -> f64 {
        f64::from(self.spec.inner_steps) * self.step_seconds
    }
}

/// What one rank needs and gives.
#[derive(Clone, Debug, PartialEq)]
pub struct RankPlan {
    /// Bytes of the card.
    pub card_bytes: u64,
    /// Bytes it needs, by kind.
    pub memory: Memory,
    /// Seconds of its micro-batches in an inner step.
    pub compute_seconds: f64,
}

/// Plans every island: data parallel over cards that each hold the model, or over groups of cards
/// that hold it together.
///
/// # Errors
/// All refusals of all islands; a plan is for all or for none.
pub fn plan_run(
    run: &RunRequest,
    islands: &[IslandRequest],
    execution: &Execution,
) -> Result<RunPlan, Refusals> {
    let chosen = choose_cards(islands, execution)?;
    let planner = Planner::new(run, &chosen, execution);
    let (mut plans, mut refusals) = (Vec::new(), Vec::new());
    for (island, cards) in islands.iter().zip(chosen) {
        match planner.plan(island, cards) {
            Ok(plan) => plans.push(plan),
            Err(refusal) => refusals.push(refusal),
        }
    }
    if !refusals.is_empty() {
        return Err(Refusals(refusals));
    }
    let reasons = share_rounds(run, &mut plans);
    Ok(finish(run, plans, planner.contribution_bytes, execution, reasons))
}

/// The cards of every island, each card of this machine given once.
fn choose_cards(
    islands: &[IslandRequest],
    execution: &Execution,
) -> Result<Vec<Vec<Chosen>>, Refusals> {
    if islands.is_empty() {
        return Err(Refusals(vec![refusal::no_islands()]));
    }
    let mut pool = Pool::new(execution);
    let (mut chosen, mut refusals) = (Vec::new(), Vec::new());
    for island in islands {
        match pool.choose(island) {
            Ok(cards) => chosen.push(cards),
            Err(refusal) => refusals.push(refusal),
        }
    }
    if refusals.is_empty() { Ok(chosen) } else { Err(Refusals(refusals)) }
}

/// Sets H of every island: the run's for the fastest, the others' in proportion to their speed, so
/// that all end a round together; at least 1. Gives the reason.
fn share_rounds(run: &RunRequest, plans: &mut [IslandPlan]) -> Vec<String> {
    let reference = reference_steps(run);
    let fastest = plans.iter().map(|plan| plan.step_seconds).fold(f64::INFINITY, f64::min);
    let round_seconds = f64::from(reference) * fastest;
    let mut reasons = vec![match run.inner_steps {
        InnerSteps::Auto => format!("H is {reference} on the fastest island, as in SparseLoCo"),
        InnerSteps::Fixed(_) => format!("H is {reference} on the fastest island, as asked"),
    }];
    for plan in plans {
        let steps = (round_seconds / plan.step_seconds).round().max(1.0) as u32;
        plan.spec.inner_steps = steps;
        plan.round_tokens =
            u64::from(steps) * u64::from(run.sequences) * u64::from(run.sequence_length);
        if plan.step_seconds > 1.5 * round_seconds {
            reasons.push(format!(
                "{} needs {:.1} s for its one step, the fastest island {:.1} s for its round: \
                 raise sparseLoCo.innerSteps or give it fewer or faster cards",
                plan.spec.name, plan.step_seconds, round_seconds
            ));
        }
    }
    reasons
}

/// Inner steps of the fastest island in a round.
fn reference_steps(run: &RunRequest) -> u32 {
    match run.inner_steps {
        InnerSteps::Auto => AUTO_INNER_STEPS,
        InnerSteps::Fixed(steps) => steps,
    }
}

fn finish(
    run: &RunRequest,
    islands: Vec<IslandPlan>,
    contribution_bytes: u64,
    execution: &Execution,
    reasons: Vec<String>,
) -> RunPlan {
    let round_tokens: u64 = islands.iter().map(|island| island.round_tokens).sum();
    let round_seconds = islands.iter().map(IslandPlan::round_seconds).fold(0.0, f64::max);
    RunPlan {
        run: RunSpec {
            name: run.name.clone(),
            seed: run.seed,
            model: run.model.config().clone(),
            from: run.from.clone(),
            data: run.data.clone(),
            sequence_length: run.sequence_length,
            tokens: run.tokens,
            reference_steps: reference_steps(run),
            total_rounds: run.tokens.div_ceil(round_tokens).max(1),
            optimizer: run.optimizer.clone(),
            sparse: run.sparse.clone(),
            checkpoint_every_rounds: run.checkpoint_every_rounds,
            evaluation: run.evaluation.clone(),
        },
        tokenizer: run.tokenizer.clone(),
        rounds: run.rounds,
        checkpoint: run.checkpoint.clone(),
        islands: number(islands),
        emulated: matches!(execution, Execution::Emulated { .. }),
        round_tokens,
        round_seconds,
        contribution_bytes,
        dense_bytes: run.model.parameters() * 4,
        reasons,
    }
}

/// Gives every island its place among those that share the data.
fn number(mut islands: Vec<IslandPlan>) -> Vec<IslandPlan> {
    let count = islands.len() as u32;
    for (index, island) in (0..).zip(&mut islands) {
        island.spec.index = index;
        island.spec.islands = count;
    }
    islands
}
