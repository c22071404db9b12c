//! The round between islands, in this process: a real coordinator, real members over loopback, and
//! a trainer that any laptop can follow. Members are killed at every point of a round.

mod faults;
mod forgo;
mod hostile;
mod late;
mod toy;

use toy::{Cluster, Island};

/// Every round that any island reported must have one hash only.
fn assert_identical(islands: &[Island]) {
    let mut by_round = std::collections::BTreeMap::new();
    for island in islands {
        for (round, hash) in &island.hashes {
            let first = by_round.entry(*round).or_insert(*hash);
            assert_eq!(first, hash, "θ after round {round} on island {}", island.name);
        }
    }
}

#[test]
fn islands_of_unlike_size_hold_the_same_parameters_after_every_round() {
    let cluster = Cluster::start(3, 12);
    let runs =
        [("one", 1), ("two", 2), ("three", 3)].map(|(name, ranks)| cluster.island(name, ranks));
    let islands: Vec<Island> = runs.into_iter().map(toy::Running::finish).collect();
    assert_identical(&islands);
    for island in &islands {
        assert_eq!(island.hashes.len(), 12, "rounds of {}", island.name);
        assert!(island.distance < 0.2, "{} is {} from the optimum", island.name, island.distance);
    }
}

#[test]
fn an_island_alone_is_a_run_as_well() {
    let cluster = Cluster::start(1, 6);
    let island = cluster.island("alone", 1).finish();
    assert_eq!(island.hashes.len(), 6);
    assert_eq!(island.ended, "finished");
}
