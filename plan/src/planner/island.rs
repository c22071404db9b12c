//! One island: whole replicas where every card holds the model, split ones where not, or where
//! asked for.

use super::cards::Chosen;
use super::refusal::{self, Reason, Refusal};
use super::time::Pace;
use super::{IslandPlan, describe, sharding, whole, wire};
use crate::gpu;
use crate::memory::{Load, Memory};
use crate::part::Part;
use crate::pipeline;
use crate::request::{Execution, IslandRequest, RunRequest};
use crate::shard::ShardError;
use crate::spec::{BatchSpec, Sharding};

/// What planning an island has to know of the run.
pub(super) struct Planner<'a> {
    pub(super) run: &'a RunRequest,
    execution: &'a Execution,
    /// TFLOP/s of the run's fastest card: what an emulated card's speed is measured against.
    fastest_tflops: f64,
    islands: u64,
    pub(super) contribution_bytes: u64,
}

/// How an island works: what its description is made of.
pub(super) struct Layout {
    pub sharding: Sharding,
    /// For each replica.
    pub batches: Vec<BatchSpec>,
    /// For each position.
    pub cards: Vec<Chosen>,
    /// Why it is so.
    pub reasons: Vec<String>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        run: &'a RunRequest,
        chosen: &[Vec<Chosen>],
        execution: &'a Execution,
    ) -> Self {
        let tflops = chosen.iter().flatten().map(|chosen| chosen.card.tflops());
        Self {
            run,
            execution,
            fastest_tflops: tflops.fold(0.0, f64::max),
            islands: chosen.len() as u64,
            contribution_bytes: wire::contribution_bytes(&run.model, &run.sparse),
        }
    }

    /// Plans one island; H and its place among the others are left for when all are known.
    pub(super) fn plan(
        &self,
        island: &IslandRequest,
        cards: Vec<Chosen>,
    ) -> Result<IslandPlan, Refusal> {
        let layout = self.layout(island, cards)?;
        let name = &island.name;
        describe::island(self, name, layout).map_err(|error| refusal::unshardable(name, &error))
    }

    fn layout(&self, island: &IslandRequest, mut cards: Vec<Chosen>) -> Result<Layout, Refusal> {
        self.check_compression(island)
            .map_err(|error| refusal::unshardable(&island.name, &error))?;
        let (layout, recompute) = (&island.parallelism, island.pipeline.recompute);
        let may_be_one = |ways: Option<u32>| ways.is_none_or(|ways| ways == 1);
        let may_be_whole = may_be_one(layout.tensor) && may_be_one(layout.pipeline);
        if !may_be_whole || recompute == Some(true) {
            return sharding::search(self, island, &cards, None);
        }
        let has_to_be_whole = layout.tensor.is_some() && layout.pipeline.is_some();
        let all = cards.clone();
        cards.truncate(layout.data.map_or(usize::MAX, |data| data as usize));
        match whole::layout(self, &island.name, cards) {
            Err(refusal)
                if refusal.reason == Reason::ModelTooLarge
                    && !(has_to_be_whole && recompute.is_some()) =>
            {
                sharding::search(self, island, &all, Some(refusal))
            }
            other => other,
        }
    }

    fn check_compression(&self, island: &IslandRequest) -> Result<(), ShardError> {
        let hidden = self.run.model.config().hidden_size;
        match island.pipeline.compression.map(|compression| compression.rank) {
            Some(rank) if !(1..=hidden).contains(&rank) => {
                Err(ShardError::CompressionRank { rank, hidden })
            }
            _ => Ok(()),
        }
    }

    /// What a card needs for its part, in an island of so many ranks.
    pub(super) fn memory(&self, card: &Chosen, part: Part, ranks: u32, batch: BatchSpec) -> Memory {
        Memory::of(&Load {
            model: &self.run.model,
            part,
            in_flight: pipeline::in_flight(part.stage, part.stages, batch.micro_batches),
            sequence_length: self.run.sequence_length,
            micro_batch_size: batch.micro_batch_size,
            precision: card.precision(),
            on_cpu: card.on_cpu(),
            ranks,
            contributions: self.contribution_bytes * self.islands,
            card_bytes: card.memory,
        })
    }

    pub(super) fn pace(&self, card: &Chosen, part: &Part) -> Pace {
        Pace::of(card, self.run, part, self.speed(card))
    }

    /// What a card computes in comparison with others, in TFLOP/s.
    pub(super) fn tflops(&self, card: &Chosen) -> f64 {
        match self.execution {
            Execution::Emulated { .. } => card.card.tflops(),
            Execution::Local { .. } if card.on_cpu() => {
                gpu::cpu().tflops() * f64::from(card.threads)
            }
            Execution::Local { .. } => card.card.tflops(),
        }
    }

    /// Share of the CPU's own speed that an emulated card runs at; 1 for what is real.
    pub(super) fn speed(&self, card: &Chosen) -> f64 {
        match self.execution {
            Execution::Emulated { .. } => card.card.tflops() / self.fastest_tflops,
            Execution::Local { .. } => 1.0,
        }
    }
}
