//! Processes that die in the middle of a run, which goes on.

use std::net::TcpListener;
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::place::{PATIENCE, Place, Running, two_islands};

/// More than these tests train.
const ENDLESS: u64 = 10_000_000;

fn is_back(record: &Value, epoch: u64) -> bool {
    record["event"] == "round" && record["island"] == "b" && record["epoch"] == epoch
}

/// Stops the run and looks back on it.
fn stop(running: Running) -> Value {
    running.interrupt();
    let (records, code, complaints) = running.end();
    assert_eq!(code, 130, "{complaints}");
    let end = records.last().unwrap();
    assert_eq!(end["summary"]["replicasIdentical"], true, "{end}");
    end["summary"].clone()
}

/// Kills a rank of island `b` when it is about to be in `state`, and waits until the island has
/// committed a round at its next epoch.
fn run_with_a_rank_killed_while(state: &str, rank: u32) {
    let place = Place::new();
    place.manifests(ENDLESS, &two_islands());
    let mut running = place.up(&[]);
    running.wait_for_round("b");
    running.wait_for_state("b", state);
    running.kill_rank("b", rank);
    running.wait_for("end of the rank", |record| record["event"] == "rankExited");
    let alone = running.wait_for_round("a");
    running.wait_for("round of b at epoch 2", |record| is_back(record, 2));
    assert!(running.wait_for_round("a") > alone);
    let summary = stop(running);
    assert_eq!(summary["islands"]["b"]["restarts"], 1, "{summary}");
    assert_eq!(summary["islands"]["a"]["restarts"], 0, "{summary}");
}

#[test]
fn an_island_whose_rank_is_killed_while_it_trains_comes_back() {
    run_with_a_rank_killed_while("training", 1);
}

#[test]
fn an_island_whose_leader_is_killed_while_it_exchanges_comes_back() {
    run_with_a_rank_killed_while("exchanging", 0);
}

#[test]
fn an_island_whose_rank_is_killed_while_it_waits_comes_back() {
    run_with_a_rank_killed_while("waiting", 1);
}

#[test]
fn a_coordinator_whose_port_is_taken_while_it_is_away_comes_back_and_nobody_else_was_started_again()
{
    let place = Place::new();
    place.manifests(ENDLESS, &two_islands());
    let mut running = place.up(&[]);
    let started = running.wait_for("coordinator", |r| r["event"] == "coordinatorStarted");
    let address = started["address"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    running.wait_for_round("b");
    let taker = thread::spawn(move || {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Ok(listener) = TcpListener::bind(&address) {
                return listener;
            }
            thread::yield_now();
        }
        panic!("the port of a killed coordinator stays in use");
    });
    running.kill_coordinator();
    let away = |record: &Value| record["event"] == "coordinatorRestarting";
    running.wait_for("first restart", away);
    let taken = taker.join().unwrap();
    let again = running.wait_for("restart in vain", away);
    let reason = again["reason"].as_str().unwrap();
    assert!(reason.contains("failed to listen") && reason.contains("in use"), "{reason}");
    running.wait_for("another restart in vain", away);
    drop(taken);
    running.wait_for("coordinator", |record| record["event"] == "coordinatorStarted");
    let before = running.wait_for_round("b");
    assert!(running.wait_for_round("b") > before);
    let summary = stop(running);
    assert_eq!(summary["islands"]["a"]["restarts"], 0, "{summary}");
    assert_eq!(summary["islands"]["b"]["restarts"], 0, "{summary}");
}
