//! Why something is not planned, and what to change.

use std::fmt;

use super::shortfall::Shortfall;
use crate::gpu;
use crate::outer::OuterError;
use crate::request::{DeviceRequest, Parallelism};
use crate::shard::ShardError;
use crate::words::gib;

/// Why a plan was refused. The list is closed: it is what `status` shows as a condition's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No island takes part.
    NoIslands,
    /// The islands' rounds cannot be planned together.
    NoRounds,
    /// The catalogue does not know the product.
    UnknownProduct,
    /// There are fewer cards than the island asks for.
    NotEnoughCards,
    /// The cards do not hold the model, each or together.
    ModelTooLarge,
    /// There are more cards than an island is planned for.
    TooManyCards,
    /// All cards together have less than `minMemory`.
    BelowMinimumMemory,
    /// An inner step has fewer sequences than the island has replicas.
    BatchTooSmall,
    /// The model cannot be cut as asked.
    Unshardable,
}

impl Reason {
    /// Its name, as conditions have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoIslands => "NoIslands",
            Self::NoRounds => "NoRounds",
            Self::UnknownProduct => "UnknownProduct",
            Self::NotEnoughCards => "NotEnoughCards",
            Self::ModelTooLarge => "ModelTooLarge",
            Self::TooManyCards => "TooManyCards",
            Self::BelowMinimumMemory => "BelowMinimumMemory",
            Self::BatchTooSmall => "BatchTooSmall",
            Self::Unshardable => "Unshardable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One refusal: what does not go and what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The island; absent where the whole run is refused.
    pub island: Option<String>,
    /// Why.
    pub reason: Reason,
    /// The message: what was needed and what there is.
    pub message: String,
    /// The change that would help.
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

fn refuse(island: &str, reason: Reason, message: String, remedy: impl Into<String>) -> Refusal {
    Refusal { island: Some(island.to_owned()), reason, message, remedy: remedy.into() }
}

pub(crate) fn no_islands() -> Refusal {
    Refusal {
        island: None,
        reason: Reason::NoIslands,
        message: "the run has no island".into(),
        remedy: "add a ComputeIsland whose runRef names the run".into(),
    }
}

pub(crate) fn no_rounds(error: &OuterError) -> Refusal {
    Refusal {
        island: None,
        reason: Reason::NoRounds,
        message: "the islands' rounds cannot be planned".into(),
        remedy: error.to_string(),
    }
}

pub(crate) fn unshardable(island: &str, error: &ShardError) -> Refusal {
    let remedy = match error {
        ShardError::EmptyStage { stage } => {
            format!("lower parallelism.pipeline to at most {stage} or leave it out")
        }
        ShardError::Layers { .. } => "leave parallelism out".into(),
        ShardError::CompressionRank { .. } => "change pipeline.compression.rank".into(),
        ShardError::NoTensor
        | ShardError::DoesNotDivide { .. }
        | ShardError::InsideChunk { .. }
        | ShardError::Vocabulary { .. } => {
            "change parallelism.tensor, or leave it out to have it planned".into()
        }
    };
    refuse(island, Reason::Unshardable, error.to_string(), remedy)
}

pub(crate) fn unknown_product(island: &str, product: &str) -> Refusal {
    refuse(
        island,
        Reason::UnknownProduct,
        format!("{product} is not in the GPU catalogue"),
        format!(
            "choose one of {}, or set its memory and tflops",
            gpu::suggestions(product).join(", ")
        ),
    )
}

pub(crate) fn not_enough(
    island: &str,
    device: &DeviceRequest,
    (found, part): (usize, Option<&str>),
    cluster: bool,
) -> Refusal {
    let (place, emulate) = match cluster {
        true => ("its nodes have", ""),
        false => ("this machine has", ", or emulate the cards"),
    };
    refuse(
        island,
        Reason::NotEnoughCards,
        format!("it asks for {} × {}, {place} {found} free", device.min, device.product),
        match part {
            Some(part) => format!("have the product be {part} to use parts of cards"),
            None => format!("lower the count (or count.min) or change the product{emulate}"),
        },
    )
}

pub(crate) fn too_many_cards(island: &str, most: usize) -> Refusal {
    refuse(
        island,
        Reason::TooManyCards,
        format!("it has more than {most} cards, the most that an island is planned for"),
        "make several islands of it",
    )
}

pub(crate) fn no_memory(island: &str, product: &str) -> Refusal {
    refuse(
        island,
        Reason::UnknownProduct,
        format!("nothing is known of the memory of {product}"),
        "set memory on the device, above 0",
    )
}

pub(crate) fn zero_memory(island: &str, product: &str) -> Refusal {
    refuse(
        island,
        Reason::ModelTooLarge,
        format!("the memory of {product} is set to 0"),
        "set memory on the device above 0, or leave it out where the product is known",
    )
}

pub(crate) fn too_few_for_layout(island: &str, wanted: u64, found: usize) -> Refusal {
    refuse(
        island,
        Reason::NotEnoughCards,
        format!("its parallelism takes {wanted} cards, it has {found}"),
        "lower parallelism or raise the devices' counts",
    )
}

pub(crate) fn too_few_alike(island: &str, layout: &Parallelism) -> Refusal {
    let ways = |ways: Option<u32>| ways.unwrap_or(1);
    let (data, stages, tensor) = (ways(layout.data), ways(layout.pipeline), ways(layout.tensor));
    refuse(
        island,
        Reason::NotEnoughCards,
        format!(
            "its parallelism takes {} × {tensor} cards of one product; it has fewer such groups",
            u64::from(data) * u64::from(stages)
        ),
        "lower parallelism.tensor or give it more cards of one product",
    )
}

pub(crate) fn no_cards(island: &str) -> Refusal {
    refuse(
        island,
        Reason::NotEnoughCards,
        "none of its cards is here".into(),
        "change the products or emulate the cards",
    )
}

pub(crate) fn below_minimum(island: &str, wanted: u64, found: u64) -> Refusal {
    refuse(
        island,
        Reason::BelowMinimumMemory,
        format!("its cards have {} together, minMemory is {}", gib(found), gib(wanted)),
        "add cards or lower minMemory",
    )
}

/// `remedies` were tried and would do.
pub(crate) fn too_large(island: &str, short: &Shortfall, mut remedies: Vec<String>) -> Refusal {
    let Shortfall { needed, given, stages, tensor, cards, .. } = short;
    let recompute = if short.recompute { " with recompute" } else { "" };
    let message = match cards {
        1 => format!("needs {}{recompute}; {} has {}", gib(*needed), short.product, gib(*given)),
        _ => format!(
            "needs {} over {cards} cards (pp {stages} × tp {tensor}{recompute}), which have {}; \
             {} of them on one {} of {}",
            gib(*needed),
            gib(*given),
            gib(short.card_needs),
            short.product,
            gib(short.card_bytes),
        ),
    };
    remedies.push("choose a smaller model or cards with more memory".into());
    refuse(island, Reason::ModelTooLarge, message, remedies.join(", or "))
}

pub(crate) fn too_few_sequences(island: &str, sequences: u32, replicas: u32) -> Refusal {
    refuse(
        island,
        Reason::BatchTooSmall,
        format!("an inner step has {sequences} sequences for {replicas} replicas"),
        format!("raise batch.sequences to at least {replicas} or lower parallelism.data"),
    )
}
