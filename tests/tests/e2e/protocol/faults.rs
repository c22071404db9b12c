//! Islands and the coordinator die at every point of a round; the run goes on and loses nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rounds::config::RunConfig;

use super::assert_identical;
use super::toy::{Cluster, Gate, Island, Point, Running, Script};

/// A run that goes on with one of two islands.
fn rules(tokens: u64) -> RunConfig {
    RunConfig {
        name: "toy".into(),
        islands: 2,
        minimum: 1,
        quorum_percent: 50,
        grace_ms: 5_000,
        deadline_ms: 20_000,
        fetch_deadline_ms: 3_000,
        lease_ms: 1_500,
        go_back_after_ms: 10_000,
        go_back: false,
        tokens,
        max_members: 16,
    }
}

#[test]
fn an_island_killed_at_any_point_of_a_round_comes_back_and_the_run_goes_on() {
    let points = [
        Point::BeforeTraining,
        Point::WhileTraining,
        Point::BeforeOffer,
        Point::AfterOffer,
        Point::AfterApply,
    ];
    for point in points {
        let cluster = Cluster::with(rules(u64::MAX / 2));
        let gate = Gate::at(6);
        let waits = Script { waits: Some(Arc::clone(&gate)), ..Script::default() };
        let steady = cluster.island_with("steady", 1, 1, waits);
        let kill = Script { kill: Some((2, point)), ..Script::default() };
        let killed = cluster.island_with("flaky", 2, 1, kill).finish();
        assert_eq!(killed.ended, "killed", "{point:?}");
        // Beyond the rounds of which others still serve the contributions.
        steady.wait_for_rounds(5);
        let opens = Script { opens: Some(gate), ..Script::default() };
        let back = cluster.island_with("flaky", 2, 2, opens);
        back.wait_for_rounds(4);
        back.stop.store(true, Ordering::Relaxed);
        let back = back.finish();
        steady.stop.store(true, Ordering::Relaxed);
        let steady = steady.finish();
        assert_eq!([&steady.ended[..], &back.ended[..]], ["stopped"; 2], "{point:?}");
        assert!(back.synced >= 1, "{point:?}: it had to fetch θ");
        let rounds: Vec<u64> = steady.hashes.keys().copied().collect();
        assert_eq!(rounds, (0..rounds.len() as u64).collect::<Vec<_>>(), "{point:?}: none lost");
        let both = back.hashes.keys().filter(|round| steady.sets.get(round) == Some(&2)).count();
        assert!(both > 0, "{point:?}: the island that came back contributed");
        assert_identical(&[killed, back, steady]);
    }
}

#[test]
fn a_coordinator_that_restarts_at_any_moment_loses_no_round() {
    let cluster = Cluster::start(2, 30);
    let islands = [cluster.island("one", 1), cluster.island("two", 2)];
    for round in [2, 5, 9, 14] {
        islands[0].wait_for_rounds(round);
        cluster.restart();
    }
    let islands: Vec<Island> = islands.into_iter().map(Running::finish).collect();
    assert_identical(&islands);
    for island in &islands {
        assert_eq!(island.ended, "finished");
        assert_eq!(island.hashes.len(), 30, "every round was applied by {}", island.name);
    }
}

#[test]
fn islands_wait_for_a_coordinator_that_is_gone_and_go_on() {
    let cluster = Cluster::start(2, 20);
    let islands = [cluster.island("one", 1), cluster.island("two", 2)];
    islands[1].wait_for_rounds(4);
    cluster.stop_coordinator();
    // Both finish the round's training, fail to offer it, and keep trying.
    cluster.restart();
    let islands: Vec<Island> = islands.into_iter().map(Running::finish).collect();
    assert_identical(&islands);
    assert!(islands.iter().all(|island| island.hashes.len() == 20));
}

#[test]
fn an_island_that_is_told_to_stop_offers_its_work_and_leaves() {
    let cluster = Cluster::with(rules(4000));
    let (stays, leaves) = (cluster.island("stays", 1), cluster.island("leaves", 2));
    leaves.wait_for_rounds(3);
    leaves.stop.store(true, Ordering::Relaxed);
    let leaves = leaves.finish();
    assert_eq!(leaves.ended, "stopped");
    let stays = stays.finish();
    assert_eq!(stays.ended, "finished");
    let last = *leaves.hashes.keys().next_back().expect("some round");
    assert_eq!(stays.sets.get(&last), Some(&2), "its last offer was committed");
    assert_identical(&[stays, leaves]);
}

#[test]
fn an_island_that_comes_back_after_the_end_learns_that_it_missed_it() {
    let cluster = Cluster::with(rules(400));
    let steady = cluster.island("steady", 1);
    let kill = Script { kill: Some((0, Point::AfterApply)), ..Script::default() };
    let killed = cluster.island_with("flaky", 2, 1, kill).finish();
    assert_eq!([killed.ended, steady.finish().ended], ["killed", "finished"]);
    let back = cluster.island_with("flaky", 2, 2, Script::default()).finish();
    assert_eq!(back.ended, "missed");
}

#[test]
fn a_newer_epoch_takes_the_place_of_an_older_one_and_an_older_is_refused() {
    let cluster = Cluster::with(rules(4000));
    let first = cluster.island_with("one", 1, 5, Script::default());
    let other = cluster.island("two", 2);
    first.wait_for_rounds(2);
    let older = cluster.island_with("one", 1, 4, Script::default()).finish();
    assert!(older.ended.contains("older") || older.ended.contains("epoch"), "{}", older.ended);
    let twin = cluster.island_with("one", 1, 5, Script::default()).finish();
    assert_ne!(twin.ended, "finished", "two islands of one name and epoch");
    assert_eq!(first.finish().ended, "finished");
    assert_eq!(other.finish().ended, "finished");
}
