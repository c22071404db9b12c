//! One island: which of its cards take part, and what each does in an inner step.

use super::cards::Chosen;
use super::refusal::{self, Refusal};
use super::split::{self, Cost, Share};
use super::{IslandPlan, RankPlan, time, wire};
use crate::memory::{Load, Memory};
use crate::request::{Execution, IslandRequest, RunRequest};
use crate::spec::{DeviceSpec, IslandSpec, Precision, RankSpec};

/// What planning an island has to know of the run.
pub(super) struct Planner<'a> {
    run: &'a RunRequest,
    execution: &'a Execution,
    /// TFLOP/s of the run's fastest card: what an emulated card's speed is measured against.
    fastest_tflops: f64,
    islands: u64,
    pub(super) contribution_bytes: u64,
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
        mut cards: Vec<Chosen>,
    ) -> Result<IslandPlan, Refusal> {
        let mut reasons = Vec::new();
        let shares = loop {
            // With fewer cards each holds more of the outer state, so this is asked every time.
            self.drop_what_does_not_hold(island, &mut cards, &mut reasons)?;
            if (self.run.sequences as usize) < cards.len() {
                return Err(refusal::batch_too_small(
                    &island.name,
                    self.run.sequences,
                    cards.len(),
                ));
            }
            let shares = split::split(self.run.sequences, &self.costs(&cards));
            if shares.iter().all(|share| share.micro_batches > 0) {
                break shares;
            }
            cards = leave_out_the_slow(cards, &shares, &mut reasons);
        };
        Ok(self.describe(&island.name, &cards, &shares, reasons))
    }

    /// Refuses a card that does not hold the model with one sequence, or leaves it out where the
    /// island asks for none of its kind.
    fn drop_what_does_not_hold(
        &self,
        island: &IslandRequest,
        cards: &mut Vec<Chosen>,
        reasons: &mut Vec<String>,
    ) -> Result<(), Refusal> {
        loop {
            let ranks = cards.len() as u32;
            let needs = |card: &Chosen| self.memory(card, ranks, 1).card();
            let Some(small) = cards.iter().position(|card| needs(card) > card.memory) else {
                return Ok(());
            };
            let (needed, card) = (needs(&cards[small]), cards.remove(small));
            if !card.optional || cards.is_empty() {
                return Err(refusal::model_too_large(&island.name, &card, needed));
            }
            reasons.push(format!(
                "left out {}: the model needs {}, it has {}",
                card.product,
                refusal::gib(needed),
                refusal::gib(card.memory)
            ));
        }
    }

    fn memory(&self, card: &Chosen, ranks: u32, micro_batch_size: u32) -> Memory {
        Memory::of(&Load {
            model: &self.run.model,
            sequence_length: self.run.sequence_length,
            micro_batch_size,
            precision: card.precision(),
            on_cpu: card.on_cpu(),
            ranks,
            contributions: self.contribution_bytes * self.islands,
            card_bytes: card.memory,
        })
    }

    fn costs(&self, cards: &[Chosen]) -> Vec<Cost> {
        let ranks = cards.len() as u32;
        let cost = |card: &Chosen| {
            let fixed = self.memory(card, ranks, 0).card();
            let each = self.memory(card, ranks, 1).card() - fixed;
            let fits = card.memory.saturating_sub(fixed) / each.max(1);
            let useful = time::useful_micro_batch(card, self.run.sequence_length);
            let speed = self.speed(card);
            Cost {
                sequence_seconds: time::sequence_seconds(card, self.run) / speed,
                micro_batch_seconds: time::micro_batch_seconds(card, &self.run.model) / speed,
                largest: fits.clamp(1, useful.into()) as u32,
            }
        };
        cards.iter().map(cost).collect()
    }

    /// Share of the CPU's own speed that an emulated card runs at; 1 for what is real.
    fn speed(&self, card: &Chosen) -> f64 {
        match self.execution {
            Execution::Emulated { .. } => card.card.tflops() / self.fastest_tflops,
            Execution::Local { .. } => 1.0,
        }
    }

    fn describe(
        &self,
        name: &str,
        cards: &[Chosen],
        shares: &[Share],
        mut reasons: Vec<String>,
    ) -> IslandPlan {
        let run = self.run;
        let costs = self.costs(cards);
        let ranks: Vec<_> = cards
            .iter()
            .zip(shares.iter().zip(&costs))
            .map(|(card, (share, cost))| RankPlan {
                card_bytes: card.memory,
                memory: self.memory(card, cards.len() as u32, share.micro_batch_size),
                compute_seconds: share.seconds(cost)
                    + time::optimizer_seconds(card, &run.model) / self.speed(card),
            })
            .collect();
        let slowest = ranks.iter().map(|rank| rank.compute_seconds).fold(0.0, f64::max);
        let step_seconds = slowest + time::all_reduce_seconds(cards.len(), &run.model);
        reasons.extend(explain(cards, shares));
        let step_tokens = f64::from(run.sequences) * f64::from(run.sequence_length);
        let tokens_per_second = step_tokens / step_seconds;
        IslandPlan {
            spec: IslandSpec {
                name: name.to_owned(),
                index: 0,
                islands: 0,
                epoch: 1,
                inner_steps: 0,
                tokens_per_second,
                ranks: self.rank_specs(cards, shares),
            },
            ranks,
            step_seconds,
            round_tokens: 0,
            reasons,
        }
    }

    fn rank_specs(&self, cards: &[Chosen], shares: &[Share]) -> Vec<RankSpec> {
        cards
            .iter()
            .zip(shares)
            .map(|(card, share)| RankSpec {
                product: card.product.clone(),
                micro_batches: share.micro_batches,
                micro_batch_size: share.micro_batch_size,
                device: match card.cuda_index {
                    Some(index) => DeviceSpec::Cuda { index, precision: card.precision() },
                    None => DeviceSpec::Cpu {
                        threads: self.execution.threads(),
                        speed: self.speed(card),
                    },
                },
            })
            .collect()
    }
}

fn leave_out_the_slow(
    cards: Vec<Chosen>,
    shares: &[Share],
    reasons: &mut Vec<String>,
) -> Vec<Chosen> {
    let mut kept = Vec::new();
    for (card, share) in cards.into_iter().zip(shares) {
        if share.micro_batches > 0 {
            kept.push(card);
        } else {
            reasons.push(format!(
                "left out {}: the others are done before it ends one sequence",
                card.product
            ));
        }
    }
    kept
}

fn explain(cards: &[Chosen], shares: &[Share]) -> Vec<String> {
    let mut reasons = Vec::new();
    let sequences = |share: &Share| share.micro_batches * share.micro_batch_size;
    if shares.iter().any(|share| sequences(share) != sequences(&shares[0])) {
        reasons.push("faster cards take more sequences, so that all end a step together".into());
    }
    let slow = |card: &&Chosen| card.precision() == Precision::F32 && card.cuda_index.is_some();
    if let Some(card) = cards.iter().find(slow) {
        reasons.push(format!("{} has no bf16: it computes in f32, slowly", card.product));
    }
    reasons
}
