//! From what is asked for to what every rank does, or the reasons why not.

use std::path::PathBuf;

use crate::gpu;
use crate::memory::Memory;
use crate::outer::{self, OuterPlan, OuterRequest, Participant};
use crate::request::{Execution, IslandRequest, RoundRules, RunRequest, Tokenizer};
use crate::schedule::warmup_tokens;
use crate::spec::{IslandSpec, RunSpec, ScheduleSpec};

mod answer;
mod cards;
mod cost;
mod island;
mod search;
#[cfg(test)]
pub(crate) mod tests;

pub use answer::explain::RunnerUp;
pub use answer::refusal::{Reason, Refusal, Refusals};
pub use answer::usage::Usage;
pub use answer::whole::{holds, tokens_per_second};
pub use cards::CARDS_MAX;
pub use cost::price::StepTime;
#[cfg(any(test, feature = "exhaustive"))]
pub use search::exhaustive;

use answer::refusal;
use cards::{Chosen, Host, Pool};
use island::Planner;

/// The plan of a run: of every island, and of the rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct RunPlan {
    /// The specification that all islands share.
    pub run: RunSpec,
    /// The tokenizer that the data has to be made with.
    pub tokenizer: Tokenizer,
    /// The rules by which a round ends.
    pub rounds: RoundRules,
    /// Folder for checkpoints; the run folder's own where absent.
    pub checkpoint: Option<PathBuf>,
    /// The islands, in the order in which they were given.
    pub islands: Vec<IslandPlan>,
    /// Whether cards are emulated on CPU.
    pub emulated: bool,
    /// H of every island, and what their exchange costs.
    pub outer: OuterPlan,
    /// Bytes that one island's contribution is expected to take.
    pub contribution_bytes: u64,
    /// Bytes of the same pseudo-gradient as dense f32.
    pub dense_bytes: u64,
}

/// The plan of one island.
#[derive(Clone, Debug, PartialEq)]
pub struct IslandPlan {
    /// The specification that its ranks are given; epoch 1, which whoever starts them again
    /// replaces.
    pub spec: IslandSpec,
    /// One entry for each position of the grid: the devices of all ranks, one after another.
    pub cards: Vec<CardPlan>,
    /// The time of an inner step by its parts.
    pub step: StepTime,
    /// The correction of that by measured steps; 1 where nothing was measured.
    pub correction: f64,
    /// How much of its cards it uses.
    pub usage: Usage,
    /// Model FLOP/s, which recompute does not raise, for each dense FLOP/s of the cards used.
    pub mfu: f64,
    /// Why it is so, a sentence each.
    pub reasons: Vec<String>,
    /// Other layouts that fit, the best first.
    pub runners_up: Vec<RunnerUp>,
}

impl RunPlan {
    /// How much of their cards all islands use.
    pub fn usage(&self) -> Usage {
        self.islands.iter().map(|island| island.usage).sum()
    }
}

impl IslandPlan {
    /// Seconds of an inner step.
    pub fn step_seconds(&self) -> f64 {
        self.step.total()
    }

    /// Seconds of the inner steps of a round.
    pub fn round_seconds(&self) -> f64 {
        f64::from(self.spec.inner_steps) * self.step_seconds()
    }
}

/// The plan of one card: its memory, and its seconds of an inner step.
#[derive(Clone, Debug, PartialEq)]
pub struct CardPlan {
    /// The node it is on, where nodes have names.
    pub node: Option<String>,
    /// Bytes of the card.
    pub card_bytes: u64,
    /// Bytes it needs, by kind.
    pub memory: Memory,
    /// Seconds that it computes in an inner step.
    pub compute_seconds: f64,
}

/// Plans every island: which of its cards it uses, how many share each layer, how many stages and
/// replicas there are, so that it makes the most tokens a second.
///
/// # Errors
/// All refusals of all islands; a plan is for all or for none.
pub fn plan_run(
    run: &RunRequest,
    islands: &[IslandRequest],
    execution: &Execution,
) -> Result<RunPlan, Refusals> {
    let (chosen, hosts) = choose_cards(islands, execution)?;
    let planner = Planner::new(run, islands.len());
    let (mut plans, mut refusals) = (Vec::new(), Vec::new());
    for (island, cards) in islands.iter().zip(&chosen) {
        match planner.plan(island, cards, &hosts) {
            Ok(mut plan) => {
                plan.reasons.extend(assumed(island, execution));
                plans.push(plan);
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    if !refusals.is_empty() {
        return Err(Refusals(refusals));
    }
    let outer = rounds(&planner, islands, &plans)?;
    for (plan, round) in plans.iter_mut().zip(&outer.islands) {
        plan.spec.inner_steps = round.inner_steps;
    }
    Ok(finish(&planner, plans, outer, execution))
}

/// Plans one of so many islands by itself; H and its place among the others are left at 0.
///
/// # Errors
/// Why it is refused, and what to change.
pub fn plan_island(
    run: &RunRequest,
    islands: usize,
    island: &IslandRequest,
    execution: &Execution,
) -> Result<IslandPlan, Refusal> {
    let mut pool = Pool::new(execution);
    let cards = pool.choose(island)?;
    Planner::new(run, islands).plan(island, &cards, &pool.into_hosts())
}

/// The agreement of a run's islands when it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Beginning {
    /// The specification that all islands share.
    pub run: RunSpec,
    /// H of every island, and what their exchange costs.
    pub outer: OuterPlan,
}

/// Begins a run with islands that were planned one at a time.
///
/// # Errors
/// When no H suits them.
pub fn begin(run: &RunRequest, islands: Vec<Participant>) -> Result<Beginning, Refusals> {
    let outer = plan_rounds(&Planner::new(run, islands.len()), islands)?;
    Ok(Beginning { run: run_spec(run, &outer), outer })
}

/// The cards of every island, each card given once, and the nodes they are on.
fn choose_cards(
    islands: &[IslandRequest],
    execution: &Execution,
) -> Result<(Vec<Vec<Chosen>>, Vec<Host>), Refusals> {
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
    if !refusals.is_empty() {
        return Err(Refusals(refusals));
    }
    if let Execution::Emulated { cores } = execution {
        cards::emulate(&mut chosen, *cores);
    }
    Ok((chosen, pool.into_hosts()))
}

/// Sentences on what an island's families are taken to be: emulated cards are nobody's, so that
/// nobody says.
fn assumed(island: &IslandRequest, execution: &Execution) -> Vec<String> {
    match execution {
        Execution::Emulated { .. } => {
            island.devices.iter().filter_map(|device| gpu::assumed(&device.product)).collect()
        }
        Execution::Local { .. } | Execution::Cluster { .. } => Vec::new(),
    }
}

/// H of every island.
fn rounds(
    planner: &Planner<'_>,
    islands: &[IslandRequest],
    plans: &[IslandPlan],
) -> Result<OuterPlan, Refusals> {
    let run = planner.run;
    let participant = |(island, plan): (&IslandRequest, &IslandPlan)| Participant {
        name: island.name.clone(),
        step_seconds: plan.step_seconds(),
        step_tokens: u64::from(run.sequences) * u64::from(run.sequence_length),
        uplink: island.uplink,
    };
    plan_rounds(planner, islands.iter().zip(plans).map(participant).collect())
}

fn plan_rounds(planner: &Planner<'_>, islands: Vec<Participant>) -> Result<OuterPlan, Refusals> {
    let run = planner.run;
    let request = OuterRequest {
        islands,
        contribution_bytes: planner.contribution_bytes,
        dense_bytes: run.model.parameters() * 4,
        inner_steps: run.inner_steps,
        deadline_seconds: run.rounds.deadline.as_secs_f64(),
    };
    outer::plan_rounds(&request).map_err(|error| Refusals(vec![refusal::no_rounds(&error)]))
}

fn run_spec(run: &RunRequest, outer: &OuterPlan) -> RunSpec {
    RunSpec {
        name: run.name.clone(),
        seed: run.seed,
        model: run.model.config().clone(),
        from: run.from.clone(),
        data: run.data.clone(),
        sequence_length: run.sequence_length,
        tokens: run.tokens,
        reference_steps: outer.reference_steps,
        total_rounds: run.tokens.div_ceil(outer.round_tokens.max(1)).max(1),
        optimizer: run.optimizer.clone(),
        schedule: ScheduleSpec {
            warmup_tokens: warmup_tokens(
                run.optimizer.warmup_steps,
                outer.round_tokens,
                outer.reference_steps,
            ),
            anchor: None,
        },
        sparse: run.sparse.clone(),
        checkpoint_every_rounds: run.checkpoint_every_rounds,
        evaluation: run.evaluation.clone(),
    }
}

fn finish(
    planner: &Planner<'_>,
    islands: Vec<IslandPlan>,
    outer: OuterPlan,
    execution: &Execution,
) -> RunPlan {
    let run = planner.run;
    RunPlan {
        run: run_spec(run, &outer),
        tokenizer: run.tokenizer.clone(),
        rounds: run.rounds,
        checkpoint: run.checkpoint.clone(),
        islands: number(islands),
        emulated: matches!(execution, Execution::Emulated { .. }),
        outer,
        contribution_bytes: planner.contribution_bytes,
        dense_bytes: run.model.parameters() * 4,
    }
}

/// Gives every island its place among the others.
fn number(mut islands: Vec<IslandPlan>) -> Vec<IslandPlan> {
    for (index, island) in (0..).zip(&mut islands) {
        island.spec.index = index;
    }
    islands
}
