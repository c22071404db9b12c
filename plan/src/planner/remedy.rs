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
    let plain = |island: &IslandRequest, what: [bool; 2]| {
        let mut changed = island.clone();
        if what[0] {
            changed.pipeline.recompute = None;
        }
        if what[1] {
            changed.parallelism = Parallelism::default();
        }
        changed
    };
    let fixed =
        [island.pipeline.recompute == Some(false), island.parallelism != Parallelism::default()];
    let ways = [
        ([true, false], "leave pipeline.recompute out"),
        ([false, true], "leave parallelism out"),
        ([true, true], "leave pipeline.recompute and parallelism out"),
    ];
    for (what, sentence) in ways {
        let there = (0..2).all(|at| fixed[at] || !what[at]);
        if there && found.is_empty() && holds(&plain(island, what)) {
            found.push(sentence.into());
        }
    }
    found.extend(shorter(planner.run, &|run| {
        Planner::new(run, planner.islands).holds(island, cards, hosts)
    }));
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
        let mut below = 0;
        let mut counts = doublings.take_while(|count| *count < room).chain([room]);
        let enough = counts.find(|count| {
            let holds = with(card, *count);
            below = if holds { below } else { *count };
            holds
        })?;
        let (mut low, mut high) = (below, enough);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if with(card, middle) { high = middle } else { low = middle }
        }
        Some(format!("add {high} × {}", card.facts.product))
    };
    products.into_iter().filter_map(least).collect()
}
