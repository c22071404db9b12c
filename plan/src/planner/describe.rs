//! What every rank of a layout is told, needs and gives.

use super::cards::Chosen;
use super::island::{Layout, Planner};
use super::{IslandPlan, RankPlan, time};
use crate::memory::Memory;
use crate::part::{Part, Parts};
use crate::shard::{Grid, ShardError, Sharded};
use crate::spec::{CardSpec, DeviceSpec, IslandSpec, Precision, RankSpec};

/// Describes an island; H and its place among the others are left for when all are known.
///
/// # Errors
/// When the layout does not divide the model.
pub(super) fn island(
    planner: &Planner<'_>,
    name: &str,
    layout: Layout,
) -> Result<IslandPlan, ShardError> {
    let run = planner.run;
    Sharded::new(&run.model, &layout.sharding)?;
    let parts = Parts::new(&run.model, layout.sharding.tensor)?;
    let mut reasons = layout.reasons;
    reasons.extend(slow(&layout.cards));
    let mut spec = IslandSpec {
        name: name.to_owned(),
        index: 0,
        islands: 0,
        epoch: 1,
        inner_steps: 0,
        tokens_per_second: 0.0,
        sharding: layout.sharding,
        batches: layout.batches,
        ranks: Vec::new(),
    };
    let positions = positions(planner, &spec, &parts, &layout.cards);
    let step_seconds = step_seconds(planner, &spec, &parts, &positions);
    let step_tokens = f64::from(run.sequences) * f64::from(run.sequence_length);
    spec.tokens_per_second = step_tokens / step_seconds;
    spec.ranks = positions.iter().map(|position| rank_spec(planner, position)).collect();
    let ranks = positions.into_iter().map(|position| RankPlan {
        card_bytes: position.card.memory,
        memory: position.memory,
        compute_seconds: position.compute_seconds,
    });
    Ok(IslandPlan { spec, ranks: ranks.collect(), step_seconds, round_tokens: 0, reasons })
}

/// A card at its place.
struct Position<'a> {
    card: &'a Chosen,
    data: u32,
    memory: Memory,
    /// Of a micro-batch.
    micro_batch_seconds: f64,
    optimizer_seconds: f64,
    /// Of an inner step.
    compute_seconds: f64,
}

fn positions<'a>(
    planner: &Planner<'_>,
    spec: &IslandSpec,
    parts: &Parts,
    cards: &'a [Chosen],
) -> Vec<Position<'a>> {
    let grid = Grid::of(spec);
    let position = |(index, card): (u32, &'a Chosen)| {
        let at = grid.position(index);
        let part = parts.part(&spec.sharding, at.stage, at.tensor);
        let batch = spec.batches[at.data as usize];
        let micro_batch_seconds = planner.pace(card, &part).micro_batch(batch.micro_batch_size);
        let optimizer_seconds =
            time::optimizer_seconds(card, part.parameters) / planner.speed(card);
        let micro_batches = f64::from(batch.micro_batches);
        Position {
            card,
            data: at.data,
            memory: planner.memory(card, part, grid.size(), batch),
            micro_batch_seconds,
            optimizer_seconds,
            compute_seconds: micro_batches * micro_batch_seconds + optimizer_seconds,
        }
    };
    (0..).zip(cards).map(position).collect()
}

fn step_seconds(
    planner: &Planner<'_>,
    spec: &IslandSpec,
    parts: &Parts,
    positions: &[Position<'_>],
) -> f64 {
    let grid = Grid::of(spec);
    let replica = |data: u32| {
        let own = || positions.iter().filter(move |position| position.data == data);
        let slowest = own().map(|position| position.micro_batch_seconds).fold(0.0, f64::max);
        let optimizer = own().map(|position| position.optimizer_seconds).fold(0.0, f64::max);
        let micro_batches = spec.batches[data as usize].micro_batches;
        time::pipeline_seconds(grid.stages, micro_batches, slowest) + optimizer
    };
    let heaviest = |stage| parts.part(&spec.sharding, stage, parts.heaviest());
    let held: Vec<Part> = (0..grid.stages).map(heaviest).collect();
    let replicas = (0..grid.data).map(replica).fold(0.0, f64::max);
    replicas + time::gradient_seconds(&planner.run.model, grid.data, &held)
}

fn rank_spec(planner: &Planner<'_>, position: &Position<'_>) -> RankSpec {
    let card = position.card;
    let device = match card.cuda_index {
        Some(index) => DeviceSpec::Cuda { index, precision: card.precision() },
        None => DeviceSpec::Cpu { threads: card.threads, speed: planner.speed(card) },
    };
    RankSpec {
        devices: vec![CardSpec {
            product: card.product.clone(),
            device,
            memory_bytes: card.memory,
            planned_bytes: position.memory.card(),
        }],
    }
}

fn slow(cards: &[Chosen]) -> Option<String> {
    let slow = |card: &&Chosen| card.precision() == Precision::F32 && card.cuda_index.is_some();
    let card = cards.iter().find(slow)?;
    Some(format!("{} has no bf16: it computes in f32, slowly", card.product))
}
