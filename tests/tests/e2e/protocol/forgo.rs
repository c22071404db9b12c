//! Islands that have nothing to contribute in a round, because their steps were not finite.

use rounds::config::RunConfig;

use super::assert_identical;
use super::toy::{Cluster, Island, Running, Script};

/// A run whose rounds close a second after half of the islands have offered.
fn rules(islands: u32) -> RunConfig {
    RunConfig {
        name: "toy".into(),
        islands,
        minimum: islands,
        quorum_percent: 50,
        grace_ms: 1_000,
        deadline_ms: 20_000,
        fetch_deadline_ms: 5_000,
        lease_ms: 1_500,
        go_back_after_ms: 10_000,
        go_back: false,
        tokens: 1_200,
        max_members: 16,
    }
}

fn forgoes(round: u64, times: u32) -> Script {
    Script { forgoes: Some((round, times)), ..Script::default() }
}

#[test]
fn an_island_that_forgoes_a_round_applies_what_the_others_commit() {
    let cluster = Cluster::with(rules(3));
    let islands = [
        cluster.island("one", 1),
        cluster.island_with("two", 2, 1, forgoes(2, 1)),
        cluster.island("three", 3),
    ];
    let islands = islands.map(Running::finish);
    assert_identical(&islands);
    for island in &islands {
        assert_eq!(island.ended, "finished", "{}", island.name);
        assert_eq!(island.sets.get(&2), Some(&2), "{} applied the others' round", island.name);
        assert_eq!(island.sets.get(&3), Some(&3), "{} applied all of the next", island.name);
        assert_eq!(island.synced, 0, "{} needed no snapshot", island.name);
    }
    assert_eq!(islands[1].forgone, [2], "it waited instead of training again");
}

#[test]
fn a_round_that_all_islands_forgo_is_tried_again() {
    for islands in 1..=2 {
        let cluster = Cluster::with(rules(islands));
        let names = (1..=islands).map(|ranks| (format!("of-{ranks}"), ranks));
        let running: Vec<Running> = names
            .map(|(name, ranks)| cluster.island_with(&name, ranks, 1, forgoes(2, 1)))
            .collect();
        let ended: Vec<Island> = running.into_iter().map(Running::finish).collect();
        assert_identical(&ended);
        for island in &ended {
            assert_eq!(island.ended, "finished", "{}", island.name);
            assert_eq!(island.forgone, [2], "{}", island.name);
            assert!(island.sets.get(&2) >= Some(&1), "{} had the round", island.name);
        }
    }
}

#[test]
fn an_island_alone_whose_every_try_fails_says_so() {
    let cluster = Cluster::with(rules(1));
    let island = cluster.island_with("alone", 2, 1, forgoes(1, u32::MAX)).finish();
    assert!(island.ended.contains("failed to train round 1 in 3 tries"), "{}", island.ended);
}
