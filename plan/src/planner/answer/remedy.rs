//! The smallest change with which an island would be planned.

use crate::planner::cards::{CARDS_MAX, Chosen, Host};
use crate::planner::island::Planner;
use crate::request::{IslandRequest, Parallelism, RunRequest};

/// Cards of a node that are assumed of those that would be added.
const NODE_CARDS: usize = 8;
/// The shortest sequences that are proposed.
const SHORTEST: u32 = 128;

/// Changes that were tried and would do, a clause each, the smallest first.
pub(crate) fn find(
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
    let room = CARDS_MAX.saturating_sub(cards.len());
    let sentence = |card: &Chosen| {
        let count = least(room, |count| with(card, count))?;
        Some(format!("add {count} × {}", card.facts.product))
    };
    products.into_iter().filter_map(sentence).collect()
}

/// The least count from 1 to `room` that holds, where all larger ones do as well: 1, 2, 4 and so on
/// and at last `room` are tried, and then what lies between the last that does not hold and the
/// first that does.
fn least(room: usize, holds: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut below, mut enough) = (0, room.min(1));
    while enough > below && !holds(enough) {
        (below, enough) = (enough, room.min(2 * enough));
    }
    if enough == below {
        return None;
    }
    while enough - below > 1 {
        let middle = below.midpoint(enough);
        if holds(middle) { enough = middle } else { below = middle }
    }
    Some(enough)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_least_count_is_found_up_to_all_the_room_there_is() {
        for room in 0..70 {
            for wanted in 1..=room {
                assert_eq!(least(room, |count| count >= wanted), Some(wanted), "of {room}");
            }
            assert_eq!(least(room, |_| false), None, "of {room}");
        }
        // Beyond the last power of two.
        assert_eq!(least(1016, |count| count >= 700), Some(700));
    }

    #[test]
    fn few_counts_are_tried_and_none_beyond_the_room() {
        for wanted in 1..=1024 {
            let tried = Cell::new(0);
            let holds = |count| {
                assert!((1..=1000).contains(&count), "{count}");
                tried.set(tried.get() + 1);
                count >= wanted
            };
            assert_eq!(least(1000, holds), (wanted <= 1000).then_some(wanted));
            assert!(tried.get() <= 20, "{wanted}: {}", tried.get());
        }
    }
}
