//! Processes that die in the middle of a run, which goes on.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::place::{Island, PATIENCE, Place, Running, two_islands};

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

/// Island `b` becomes one replica that is cut over two stages of two cards.
fn cut_in_four(place: &Place) {
    let b = Island::new("b", "NVIDIA-GeForce-RTX-4090", 4);
    place.manifests(ENDLESS, &[Island::new("a", "NVIDIA-H100-80GB-HBM3", 1), b]);
    place.edit("count: 4}]", "count: 4}]\n  parallelism: {tensor: 2, pipeline: 2}");
    place.edit("hidden_size: 32", "hidden_size: 128\n      head_dim: 64");
    place.edit("intermediate_size: 64", "intermediate_size: 256");
    place.edit("num_hidden_layers: 1", "num_hidden_layers: 2");
    place.edit("num_key_value_heads: 1", "num_key_value_heads: 2");
}

#[test]
fn all_ranks_of_a_cut_replica_end_when_one_is_killed_in_a_step_and_come_back_with_the_same_model() {
    let place = Place::new();
    cut_in_four(&place);
    let mut running = place.up(&[]);
    let makes_a_step = |record: &Value| record["event"] == "step" && record["island"] == "b";
    for (epoch, rank) in [(1, 3), (2, 1)] {
        running.wait_for("round of b", |record| is_back(record, epoch));
        running.wait_for("step of b", makes_a_step);
        running.kill_rank_unseen("b", rank);
        for _ in 0..4 {
            let end = running.wait_for("end of a rank", |record| record["event"] == "rankExited");
            let expected =
                if end["rank"] == rank { "was killed by signal 9" } else { "ended with code 3: " };
            assert!(end["exit"].as_str().unwrap().starts_with(expected), "{end}");
            assert_eq!((&end["island"], &end["epoch"]), (&"b".into(), &epoch.into()), "{end}");
        }
    }
    running.wait_for("round of b at epoch 3", |record| is_back(record, 3));
    let alone = running.wait_for_round("a");
    assert!(running.wait_for_round("a") > alone);
    let summary = stop(running);
    assert_eq!(summary["islands"]["b"]["restarts"], 2, "{summary}");
    assert_eq!(summary["islands"]["a"]["restarts"], 0, "{summary}");
}

#[test]
fn steps_that_are_not_finite_are_told_of_and_a_round_of_nothing_else_is_given_up() {
    let place = Place::new();
    place.manifests(ENDLESS, &[Island::new("b", "NVIDIA-GeForce-RTX-4090", 2)]);
    place.edit("learningRate: \"1e-2\"", "learningRate: \"1e12\"");
    let mut running = place.up(&[]);
    running
        .wait_for("skipped step", |record| record["event"] == "step" && record["skipped"] == true);
    running.wait_for("round without a contribution", |record| {
        record["reason"].as_str().is_some_and(|reason| {
            reason == "none of 3 steps was finite: no contribution" && record["event"] == "state"
        })
    });
    // The same again would give the same: the run ends by itself, with what to change.
    let (records, code, complaints) = running.end();
    assert_eq!(code, 1, "{complaints}");
    let end = records.last().unwrap();
    let reason = end["outcome"]["reason"].as_str().unwrap();
    for expected in ["failed to train round", "lower the learning rate"] {
        assert!(reason.contains(expected), "{reason}");
    }
    assert!(end["summary"]["islands"]["b"]["skippedSteps"].as_u64() >= Some(3), "{end}");
    assert_eq!(end["summary"]["islands"]["b"]["restarts"], 0, "{end}");
}

/// A worker that does `what` in place of a rank of island `b`, a shell's line.
fn worker_with(place: &Place, what: &str) -> String {
    let (worker, real) = (place.path("worker"), e2e::program("heteroloco-worker"));
    let here = place.path("").display().to_string();
    let text = format!(
        "#!/bin/sh\nhere={here}\ncase \"$*\" in *specs/b.json*) {what};; esac\nexec {} \"$@\"\n",
        real.display()
    );
    fs::write(&worker, text).unwrap();
    fs::set_permissions(&worker, fs::Permissions::from_mode(0o755)).unwrap();
    worker.to_str().unwrap().to_owned()
}

#[test]
fn an_island_whose_configuration_never_works_costs_itself_and_the_others_reach_the_end() {
    let place = Place::new();
    place.manifests(3_000, &two_islands());
    let worker = worker_with(&place, "echo no such card >&2; exit 2");
    let (records, code, complaints) = place.up_with(&[], &[("HETEROLOCO_WORKER", &worker)]).end();
    assert_eq!(code, 0, "{complaints}");
    let given_up = records.iter().find(|record| record["event"] == "islandGivenUp").unwrap();
    assert_eq!(given_up["island"], "b");
    assert!(given_up["reason"].as_str().unwrap().contains("no such card"), "{given_up}");
    let end = records.last().unwrap();
    assert_eq!(end["outcome"]["kind"], "finished", "{end}");
    assert!(end["summary"]["tokens"].as_u64() >= Some(3_000), "{end}");
}

#[test]
fn an_island_that_cannot_read_its_data_for_a_while_is_tried_again_and_costs_nobody_else() {
    let place = Place::new();
    place.manifests(ENDLESS, &two_islands());
    // The shards of `b` are away at its first two starts.
    let away = "if mkdir $here/one 2>/dev/null || mkdir $here/two 2>/dev/null; then \
        sed -i 's|/data\"|/nowhere\"|' \"$2\"; fi";
    let worker = worker_with(&place, away);
    let mut running = place.up_with(&[], &[("HETEROLOCO_WORKER", &worker)]);
    let again = running.wait_for("restart", |record| record["event"] == "islandRestarting");
    let reason = again["reason"].as_str().unwrap();
    assert!(reason.contains("failed to read the training data"), "{reason}");
    running.wait_for("round of b", |r| r["event"] == "round" && r["island"] == "b");
    let summary = stop(running);
    assert_eq!(summary["islands"]["a"]["restarts"], 0, "{summary}");
    assert!(summary["islands"]["b"]["restarts"].as_u64() >= Some(1), "{summary}");
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

#[test]
fn a_coordinator_that_hangs_is_killed_and_started_again_and_no_island_is() {
    let place = Place::new();
    place.manifests(ENDLESS, &two_islands());
    let mut running = place.up(&[]);
    running.wait_for_round("b");
    running.freeze_coordinator();
    running.wait_for("warning", |record| {
        let message = record["message"].as_str();
        message.is_some_and(|message| message.contains("the coordinator has not answered for 20 s"))
    });
    running.wait_for("coordinator", |record| record["event"] == "coordinatorStarted");
    let before = running.wait_for_round("b");
    assert!(running.wait_for_round("b") > before);
    let summary = stop(running);
    assert_eq!(summary["islands"]["a"]["restarts"], 0, "{summary}");
    assert_eq!(summary["islands"]["b"]["restarts"], 0, "{summary}");
}

fn warns(record: &Value, text: &str) -> bool {
    record["event"] == "warning" && record["message"].as_str().unwrap().contains(text)
}

#[test]
fn a_full_disk_under_a_run_is_told_and_the_run_goes_on_and_writes_again_when_there_is_room() {
    let place = Place::new();
    let disk = place.disk(24 << 20);
    place.manifests(ENDLESS, &two_islands());
    let mut running = place.up(&[]);
    running.wait_for("checkpoint", |record| record["event"] == "checkpoint");
    disk.fill();
    running.wait_for("warning", |record| warns(record, "takes nothing more"));
    let before = running.wait_for_round("a");
    for _ in 0..4 {
        running.wait_for_round("a");
    }
    let after = running.wait_for_round("b");
    assert!(after > before, "no round was made on a full disk: {before}, {after}");
    disk.free();
    running.wait_for("the end of it", |record| warns(record, "nothing was lost"));
    for island in ["a", "b"] {
        let is = |record: &Value| record["event"] == "checkpoint" && record["island"] == island;
        running.wait_for("checkpoint", is);
    }
    let summary = stop(running);
    assert_eq!(summary["islands"]["a"]["restarts"], 0, "{summary}");
    assert_eq!(summary["islands"]["b"]["restarts"], 0, "{summary}");
    let events = std::fs::read_to_string(place.path("runs/tiny/events.jsonl")).unwrap();
    let events: Vec<Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rounds = events.iter().filter(|r| r["event"] == "round" && r["island"] == "a");
    let rounds: Vec<u64> = rounds.map(|record| record["round"].as_u64().unwrap()).collect();
    assert_eq!(rounds, (0..rounds.len() as u64).collect::<Vec<_>>());
    assert_eq!(events.last().unwrap()["event"], "end");
}

/// A card that takes minutes for a step: a large model on a laptop, as far as Ctrl-C goes.
#[test]
fn a_step_that_takes_long_is_left_when_the_run_is_stopped() {
    let place = Place::new();
    let slow = Island::new("b", "Slow-Card", 1);
    place.manifests(ENDLESS, &[Island::new("a", "NVIDIA-H100-80GB-HBM3", 1), slow]);
    place.edit("Slow-Card, count: 1", "Slow-Card, memory: 8Gi, tflops: \"0.01\", count: 1");
    let mut running = place.up(&[]);
    running.wait_for_state("b", "training");
    running.wait_for_state("a", "waiting");
    running.interrupt();
    let (records, code, complaints) = running.end();
    assert_eq!(code, 130, "{complaints}");
    let steps = records.iter().filter(|r| r["event"] == "step" && r["island"] == "b");
    assert_eq!(steps.count(), 0, "the step was not left");
    let left = |r: &Value| r["reason"].as_str().is_some_and(|r| r.starts_with("stopped in the"));
    assert!(records.iter().any(left), "{records:?}");
    let kept = |r: &&Value| r["event"] == "checkpoint" && r["island"] == "a" && r["round"] == 1;
    assert!(records.iter().any(|r| kept(&r)), "what the other made counts: {records:?}");
}
