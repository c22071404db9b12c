//! The smallest change with which an island would be planned.

use super::cards::{Chosen, Host, MOST_CARDS};
use super::island::Planner;
use crate::request::{IslandRequest, Parallelism, RunRequest};

/// Cards of a node that are assumed of those that would be added.
const NODE_CARDS: usize = 8;
/// The shortest sequences that are proposed.
const SHORTEST: u32 = 128;

/// Changes that were tried and would do, a clause each, the smallest first.
pub(super) fn find(
    planner: &Planner<'_>,
    island: &IslandRequest,
    cards: &[Chosen],
    hosts: &[Host],
) -> Vec<String> {
    let mut found = Vec::new();
    let holds = |changed: &IslandRequest| planner.holds(changed, cards, hosts);
    let mut relaxed = island.clone();
    if relaxed.pipeline.recompute == Some(false) {
        relaxed.pipeline.recompute = None;
        if holds(&relaxed) {
            found.push("leave pipeline.recompute out".into());
        }
    }
    if relaxed.parallelism != Parallelism::default() {
        relaxed.parallelism = Parallelism::default();
        if holds(&relaxed) {
            found.push("leave parallelism out".into());
        }
    }
    found.extend(shorter(planner.run, &|run| Planner::new(run, 1).holds(island, cards, hosts)));
    found.extend(more(planner, island, cards, hosts));
    found
}

/// The longest half, quarter and so on of the sequences that fits.
fn shorter(run: &RunRequest, holds: &dyn Fn(&RunRequest) -> bool) -> Option<String> {
    let lengths = (1..).map(|halvings| run.sequence_length >> halvings);
    let mut lengths = lengths.take_while(|length| *length >= SHORTEST);
    let length = lengths.find(|sequence_length| {
        holds(&RunRequest { sequence_length: *sequence_length, ..run.clone() })
    })?;
    Some(format!("set batch.sequenceLength to {length}"))
}

/// For each product the least number of further cards that fits.
fn more(
    planner: &Planner<'_>,
    island: &IslandRequest,
    cards: &[Chosen],
    hosts: &[Host],
) -> Vec<String> {
    let mut products: Vec<&Chosen> = Vec::new();
    for card in cards {
        if !products.iter().any(|other| other.facts == card.facts) {
            products.push(card);
        }
    }
    let with = |card: &Chosen, count: usize| {
        let mut cards = cards.to_vec();
        let mut hosts = hosts.to_vec();
        for index in 0..count {
            if index % NODE_CARDS == 0 {
                hosts.push(Host::default());
            }
            cards.push(Chosen { node: hosts.len() - 1, ..card.clone() });
        }
        planner.holds(island, &cards, &hosts)
    };
    let least = |card: &Chosen| {
        let room = MOST_CARDS.saturating_sub(cards.len());
        let doublings = std::iter::successors(Some(1_usize), |count| Some(count * 2));
        let enough =
            doublings.take_while(|count| *count <= room).find(|count| with(card, *count))?;
        let (mut low, mut high) = (enough / 2, enough);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if with(card, middle) { high = middle } else { low = middle }
        }
        Some(format!("add {high} × {}", card.facts.product))
    };
    products.into_iter().filter_map(least).collect()
}
