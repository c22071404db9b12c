//! From what is asked for to what every rank does, or the reasons why not.

use std::fmt;
use std::path::PathBuf;

use crate::memory::Memory;
use crate::request::{Execution, IslandRequest, RoundRules, RunRequest, Tokenizer};
use crate::spec::{IslandSpec, RunSpec};

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
    /// Tokens per second of inner steps.
    pub tokens_per_second: f64,
    /// Tokens of a round.
    pub round_tokens: u64,
    /// Why it is so, a sentence each.
    pub reasons: Vec<String>,
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

/// Plans every island: data parallel over cards that each hold the model.
///
/// # Errors
/// All refusals of all islands; a plan is for all or for none.
pub fn plan_run(
    run: &RunRequest,
    islands: &[IslandRequest],
    execution: &Execution,
) -> Result<RunPlan, Refusals> {
    let _ = (run, islands, execution);
    Err(Refusals(Vec::new()))
}

/// Why a plan was refused. The list is closed: it is what `status` shows as a condition's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No island takes part.
    NoIslands,
    /// The catalogue does not know the product.
    UnknownProduct,
    /// There are fewer cards than the island asks for.
    NotEnoughCards,
    /// A card does not hold the model.
    ModelTooLarge,
    /// All cards together have less than `minMemory`.
    BelowMinimumMemory,
    /// An inner step has fewer sequences than the island has cards.
    BatchTooSmall,
    /// The layout asked for comes in a later version.
    NotYet,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// One refusal: what does not go and what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The island; absent where the whole run is refused.
    pub island: Option<String>,
    /// Why.
    pub reason: Reason,
    /// What was needed and what there is.
    pub message: String,
    /// What to change.
    pub remedy: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(island) = &self.island {
            write!(f, "island {island}: ")?;
        }
        write!(f, "{} ({}): {}", self.message, self.reason, self.remedy)
    }
}

/// Everything that was refused, a line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusals(pub Vec<Refusal>);

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, refusal) in self.0.iter().enumerate() {
            write!(f, "{}{refusal}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
