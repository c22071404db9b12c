//! One island: from its cards to its plan, or to what would have to change.

use super::IslandPlan;
use super::answer::describe::{self, Layout};
use super::answer::refusal::{self, Refusal};
use super::answer::shortfall;
use super::answer::{explain, remedy};
use super::cards::{Chosen, Facts, Host};
use super::cost::estimate::Estimator;
use super::cost::fabric::Fabric;
use super::cost::wire;
use super::search::arrange::{self, Seat};
use super::search::{self, Found, TENSOR_MAX};
use crate::memory::{Load, Memory};
use crate::part::{Part, Parts};
use crate::pipeline;
use crate::request::{IslandRequest, RunRequest};
use crate::shard::ShardError;
use crate::spec::BatchSpec;

/// The facts of the run that planning an island needs.
pub(super) struct Planner<'a> {
    pub run: &'a RunRequest,
    pub islands: usize,
    pub contribution_bytes: u64,
}

impl<'a> Planner<'a> {
    pub(super) fn new(run: &'a RunRequest, islands: usize) -> Self {
        Self { run, islands, contribution_bytes: wire::contribution_bytes(&run.model, &run.sparse) }
    }

    /// Plans one island; H and its place among the others are left for when all are known.
    pub(super) fn plan(
        &self,
        island: &IslandRequest,
        cards: &[Chosen],
        hosts: &[Host],
    ) -> Result<IslandPlan, Refusal> {
        let name = &island.name;
        let refuse = |error: ShardError| refusal::unshardable(name, &error);
        self.check(island)?;
        let mut estimator = self.estimator(island, cards, hosts)?;
        let found = search::search(&mut estimator, island);
        let Found { best: Some(best), .. } = &found else {
            return Err(self.refusal(&mut estimator, island, cards, hosts));
        };
        let layout = Layout { name, cards, hosts, best };
        let mut plan = describe::island(&mut estimator, &layout).map_err(refuse)?;
        plan.reasons = explain::reasons(&mut estimator, island, cards, &found);
        plan.runners_up = explain::runners_up(&estimator, &found);
        Ok(plan)
    }

    /// Says whether the island's cards hold the model in any way.
    pub(super) fn holds(&self, island: &IslandRequest, cards: &[Chosen], hosts: &[Host]) -> bool {
        self.estimator(island, cards, hosts)
            .is_ok_and(|mut estimator| shortfall::fits(&mut estimator, &island.parallelism))
    }

    /// Tokens a second of the plan that [`Planner::plan`] makes, without making it.
    pub(super) fn tokens_per_second(
        &self,
        island: &IslandRequest,
        cards: &[Chosen],
        hosts: &[Host],
    ) -> Option<f64> {
        self.check(island).ok()?;
        let mut estimator = self.estimator(island, cards, hosts).ok()?;
        let best = search::search(&mut estimator, island).best?;
        let step_tokens = f64::from(self.run.sequences) * f64::from(self.run.sequence_length);
        Some(step_tokens / best.step.total())
    }

    fn check(&self, island: &IslandRequest) -> Result<(), Refusal> {
        let name = &island.name;
        let hidden = self.run.model.config().hidden_size;
        if let Some(rank) = island.pipeline.compression.map(|compression| compression.rank)
            && !(1..=hidden).contains(&rank)
        {
            let error = ShardError::CompressionRank { rank, hidden };
            return Err(refusal::unshardable(name, &error));
        }
        let layers = self.run.model.config().num_hidden_layers;
        if island.parallelism.pipeline.is_some_and(|stages| stages > layers) {
            let error = ShardError::EmptyStage { stage: layers as usize };
            return Err(refusal::unshardable(name, &error));
        }
        match island.parallelism.data {
            Some(data) if data > self.run.sequences => {
                Err(refusal::too_few_sequences(name, self.run.sequences, data))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn estimator(
        &self,
        island: &IslandRequest,
        cards: &[Chosen],
        hosts: &[Host],
    ) -> Result<Estimator<'_>, Refusal> {
        let (kinds, seats) = kinds(cards);
        let cuts = self.cuts(island, cards.len())?;
        let groups = cuts.iter().map(|parts| arrange::groups(&seats, parts.tensor())).collect();
        let fabric = Fabric::new(hosts, cards);
        Ok(Estimator::new(self, island, kinds, (cuts, groups), fabric))
    }

    /// The tensor-parallel sizes that the model allows.
    fn cuts(&self, island: &IslandRequest, cards: usize) -> Result<Vec<Parts>, Refusal> {
        let model = &self.run.model;
        if let Some(tensor) = island.parallelism.tensor {
            let parts = Parts::new(model, tensor);
            return parts
                .map(|parts| vec![parts])
                .map_err(|error| refusal::unshardable(&island.name, &error));
        }
        let most = TENSOR_MAX.min(cards as u32);
        let cuts: Vec<Parts> =
            (1..=most).filter_map(|tensor| Parts::new(model, tensor).ok()).collect();
        match Parts::new(model, 1) {
            Err(error) if cuts.is_empty() => Err(refusal::unshardable(&island.name, &error)),
            _ => Ok(cuts),
        }
    }

    /// Why nothing was found, and the smallest change with which something is.
    fn refusal(
        &self,
        estimator: &mut Estimator<'_>,
        island: &IslandRequest,
        cards: &[Chosen],
        hosts: &[Host],
    ) -> Refusal {
        let name = &island.name;
        let Some(short) = shortfall::least(estimator, &island.parallelism) else {
            return refusal::too_few_alike(name, &island.parallelism);
        };
        let remedy = remedy::find(self, island, cards, hosts);
        refusal::too_large(name, &short, remedy)
    }

    /// The memory that a card needs for its part, in an island of so many ranks.
    pub(super) fn memory(&self, card: &Facts, part: Part, ranks: u32, batch: BatchSpec) -> Memory {
        Memory::of(&self.load(card, part, ranks, batch))
    }

    /// The same in bytes at most, which grow with layers as a straight line.
    pub(super) fn needs(&self, card: &Facts, part: Part, ranks: u32, batch: BatchSpec) -> u64 {
        Memory::apart(&self.load(card, part, ranks, batch))
    }

    fn load(&self, card: &Facts, part: Part, ranks: u32, batch: BatchSpec) -> Load<'_> {
        Load {
            model: &self.run.model,
            part,
            in_flight: pipeline::in_flight(part.stage, part.stages, batch.micro_batches),
            sequence_length: self.run.sequence_length,
            micro_batch_size: batch.micro_batch_size,
            precision: card.precision,
            on_cpu: card.on_cpu(),
            ranks,
            contributions: self.contribution_bytes.saturating_mul(self.islands as u64),
            card_bytes: card.memory,
        }
    }
}

/// The kinds of card there are, and the kind and node of each card.
fn kinds(cards: &[Chosen]) -> (Vec<Facts>, Vec<Seat>) {
    let mut kinds: Vec<Facts> = Vec::new();
    let mut seats = Vec::with_capacity(cards.len());
    for card in cards {
        let kind = kinds.iter().position(|facts| *facts == card.facts);
        let kind = kind.unwrap_or_else(|| {
            kinds.push(card.facts.clone());
            kinds.len() - 1
        });
        seats.push(Seat { kind, node: card.node });
    }
    (kinds, seats)
}
