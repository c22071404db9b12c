//! Data parallel over cards that each hold the model, however unlike they are.

use super::cards::Chosen;
use super::island::{Layout, Planner};
use super::refusal::{self, Refusal};
use super::split::{self, Cost, Share};
use super::time;
use crate::part::{Part, Parts};
use crate::spec::{BatchSpec, Sharding};

/// One sequence at a time.
const ONE: BatchSpec = BatchSpec { micro_batches: 1, micro_batch_size: 1 };

/// Gives every card a replica, but those that are left out.
pub(super) fn layout(
    planner: &Planner<'_>,
    name: &str,
    cards: Vec<Chosen>,
) -> Result<Layout, Refusal> {
    let sharding = Sharding::whole(planner.run.model.config().num_hidden_layers);
    let parts = Parts::new(&planner.run.model, sharding.tensor);
    let parts = parts.map_err(|error| refusal::unshardable(name, &error))?;
    Whole { planner, name, part: parts.part(&sharding, 0, 0) }.layout(sharding, cards)
}

struct Whole<'a> {
    planner: &'a Planner<'a>,
    name: &'a str,
    /// All of the model.
    part: Part,
}

impl Whole<'_> {
    fn layout(&self, sharding: Sharding, mut cards: Vec<Chosen>) -> Result<Layout, Refusal> {
        let sequences = self.planner.run.sequences;
        let mut reasons = Vec::new();
        let shares = loop {
            // With fewer cards each holds more of the outer state, so this is asked every time.
            self.drop_what_does_not_hold(&mut cards, &mut reasons)?;
            if (sequences as usize) < cards.len() {
                return Err(refusal::batch_too_small(self.name, sequences, cards.len()));
            }
            let shares = split::split(sequences, &self.costs(&cards));
            if shares.iter().all(|share| share.micro_batches > 0) {
                break shares;
            }
            cards = leave_out_the_slow(cards, &shares, &mut reasons);
        };
        let taken = |share: &Share| share.micro_batches * share.micro_batch_size;
        if shares.iter().any(|share| taken(share) != taken(&shares[0])) {
            let reason = "faster cards take more sequences, so that all end a step together";
            reasons.push(reason.into());
        }
        Ok(Layout { sharding, batches: shares.iter().map(batch).collect(), cards, reasons })
    }

    /// Refuses a card that does not hold the model with one sequence, or leaves it out where the
    /// island asks for none of its kind.
    fn drop_what_does_not_hold(
        &self,
        cards: &mut Vec<Chosen>,
        reasons: &mut Vec<String>,
    ) -> Result<(), Refusal> {
        loop {
            let ranks = cards.len() as u32;
            let needs = |card: &Chosen| self.planner.memory(card, self.part, ranks, ONE).card();
            let Some(small) = cards.iter().position(|card| needs(card) > card.memory) else {
                return Ok(());
            };
            let (needed, card) = (needs(&cards[small]), cards.remove(small));
            if !card.optional || cards.is_empty() {
                return Err(refusal::model_too_large(self.name, &card, needed));
            }
            reasons.push(format!(
                "left out {}: the model needs {}, it has {}",
                card.product,
                refusal::gib(needed),
                refusal::gib(card.memory)
            ));
        }
    }

    fn costs(&self, cards: &[Chosen]) -> Vec<Cost> {
        let ranks = cards.len() as u32;
        let cost = |card: &Chosen| {
            let needs = |micro_batch_size| {
                let batch = BatchSpec { micro_batch_size, ..ONE };
                self.planner.memory(card, self.part, ranks, batch).card()
            };
            let fixed = needs(0);
            let each = needs(1) - fixed;
            let fits = card.memory.saturating_sub(fixed) / each.max(1);
            let useful = time::useful_micro_batch(card, self.planner.run.sequence_length);
            Cost {
                pace: self.planner.pace(card, &self.part),
                largest: fits.clamp(1, useful.into()) as u32,
            }
        };
        cards.iter().map(cost).collect()
    }
}

fn batch(share: &Share) -> BatchSpec {
    BatchSpec { micro_batches: share.micro_batches, micro_batch_size: share.micro_batch_size }
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
