//! Runs that end before their time and go on.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::place::{Island, Place, two_islands};

const TOKENS: u64 = 20_000;

/// A run that was stopped by Ctrl-C after its first rounds; what it told.
fn stopped(place: &Place) -> Vec<Value> {
    place.manifests(TOKENS, &two_islands());
    let mut running = place.up(&[]);
    running.wait_for_round("a");
    running.wait_for_round("b");
    running.interrupt();
    let (records, code, complaints) = running.end();
    assert_eq!(code, 130, "{complaints}");
    assert_eq!(records.last().unwrap()["outcome"]["kind"], "stopped");
    records
}

fn rounds(records: &[Value]) -> impl Iterator<Item = u64> {
    records.iter().filter(|r| r["event"] == "round").map(|r| r["round"].as_u64().unwrap())
}

/// The parts of the newest checkpoint of an island.
fn newest_parts(place: &Place, island: &str) -> Vec<PathBuf> {
    let list = |folder: &Path| fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let newest = list(&place.path(format!("runs/tiny/checkpoints/{island}"))).max().unwrap();
    list(&newest).filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect()
}

#[test]
fn a_stopped_run_goes_on_where_it_was_and_reaches_its_end() {
    let place = Place::new();
    let before = stopped(&place);
    let last = rounds(&before).max().unwrap();
    let (after, code, complaints) = place.up(&["--resume"]).end();
    assert_eq!(code, 0, "{complaints}");
    assert_eq!(rounds(&after).min(), Some(last + 1));
    let summary = &after.last().unwrap()["summary"];
    assert_eq!(summary["replicasIdentical"], true, "{summary}");
    assert!(summary["tokens"].as_u64() >= Some(TOKENS), "{summary}");
    assert_eq!(summary["heldoutFirst"][0], 0, "{summary}");
}

#[test]
fn a_run_whose_processes_all_died_at_once_goes_on_from_its_checkpoints() {
    let place = Place::new();
    place.manifests(TOKENS, &two_islands());
    let mut running = place.up(&[]);
    for island in ["a", "b"] {
        let is = |record: &Value| record["event"] == "checkpoint" && record["island"] == island;
        running.wait_for("checkpoint", is);
    }
    running.wait_for_round("a");
    running.kill_everything();
    let (records, code, complaints) = place.up(&["--resume"]).end();
    assert_eq!(code, 0, "{complaints}");
    let summary = &records.last().unwrap()["summary"];
    assert_eq!(summary["replicasIdentical"], true, "{summary}");
    assert!(summary["tokens"].as_u64() >= Some(TOKENS), "{summary}");
}

/// The parts of all checkpoints of an island.
fn parts(place: &Place, island: &str) -> Vec<PathBuf> {
    let list = |folder: &Path| fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let rounds = list(&place.path(format!("runs/tiny/checkpoints/{island}")));
    let files = rounds.flat_map(|round| list(&round).collect::<Vec<_>>());
    files.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect()
}

#[test]
fn a_damaged_checkpoint_is_told_of_where_people_look_and_an_older_one_is_taken() {
    let place = Place::new();
    place.manifests(10_000_000, &two_islands());
    let mut running = place.up(&[]);
    for _ in 0..2 {
        running.wait_for("checkpoint", |r| r["event"] == "checkpoint" && r["island"] == "b");
    }
    running.interrupt();
    let (_, code, complaints) = running.end();
    assert_eq!(code, 130, "{complaints}");
    let part = newest_parts(&place, "b").remove(0);
    let whole = fs::read(&part).unwrap();
    fs::write(&part, &whole[..whole.len() / 2]).unwrap();
    let mut running = place.up(&["--resume"]);
    let told = running.wait_for("warning", |r| r["event"] == "warning" && r["island"] == "b");
    let message = told["message"].as_str().unwrap();
    for expected in ["failed to use the checkpoint file", "; the checkpoint of round "] {
        assert!(message.contains(expected), "{message}");
    }
    running.wait_for_round("b");
    running.interrupt();
    assert_eq!(running.end().1, 130);
}

#[test]
fn checkpoints_that_are_damaged_or_of_another_model_are_refused_and_kept() {
    let place = Place::new();
    stopped(&place);

    place.edit("intermediate_size: 64", "intermediate_size: 128");
    let (_, code, complaints) = place.up(&["--resume"]).end();
    assert_eq!(code, 2, "{complaints}");
    assert!(complaints.contains("model.intermediate_size (was 64, now 128)"), "{complaints}");

    // The run folder agrees with the manifests; only the checkpoints' own word is left.
    let state = place.path("runs/tiny/run.json");
    let original = fs::read_to_string(&state).unwrap();
    let (was, is) = ("\"intermediate_size\": 64", "\"intermediate_size\": 128");
    assert!(original.contains(was), "{original}");
    fs::write(&state, original.replace(was, is)).unwrap();
    let (_, code, complaints) = place.up(&["--resume"]).end();
    assert_eq!(code, 2, "{complaints}");
    assert!(complaints.contains("it is of another model"), "{complaints}");
    place.edit("intermediate_size: 128", "intermediate_size: 64");
    fs::write(&state, original).unwrap();

    // A run is only refused where no island can go on.
    let all = ["a", "b"].map(|island| parts(&place, island)).concat();
    let whole: Vec<Vec<u8>> = all.iter().map(|path| fs::read(path).unwrap()).collect();
    for (path, whole) in all.iter().zip(&whole) {
        fs::write(path, &whole[..whole.len() / 2]).unwrap();
    }
    let (_, code, complaints) = place.up(&["--resume"]).end();
    assert_eq!(code, 2, "{complaints}");
    assert!(complaints.contains("no complete checkpoint of any of its islands"), "{complaints}");
    for (path, whole) in all.iter().zip(whole) {
        fs::write(path, whole).unwrap();
    }

    let (_, code, complaints) = place.up(&["--resume"]).end();
    assert_eq!(code, 0, "{complaints}");
}

#[test]
fn a_run_that_died_on_a_full_disk_goes_on() {
    let place = Place::new();
    let disk = place.disk(24 << 20);
    place.manifests(TOKENS, &two_islands());
    let mut running = place.up(&[]);
    running.wait_for_round("a");
    disk.fill();
    let is_told = |record: &Value| {
        record["message"].as_str().is_some_and(|message| message.contains("takes nothing more"))
    };
    running.wait_for("warning", is_told);
    running.kill_everything();
    // As far as it can write what it starts, it waits for room; otherwise it says so and ends.
    let mut again = place.up(&["--resume"]);
    again.wait_for_or_end(is_told);
    disk.free();
    let (mut records, mut code, mut complaints) = again.end();
    if code != 0 {
        assert_eq!(code, 1, "{complaints}");
        (records, code, complaints) = place.up(&["--resume"]).end();
    }
    assert_eq!(code, 0, "{complaints}");
    let summary = &records.last().unwrap()["summary"];
    assert_eq!(summary["replicasIdentical"], true, "{summary}");
    assert!(summary["tokens"].as_u64() >= Some(TOKENS), "{summary}");
}

#[test]
fn a_run_that_died_before_its_first_checkpoint_begins_again_and_says_what_was_lost() {
    let place = Place::new();
    place.manifests(TOKENS, &two_islands());
    place.edit("everyRounds: 2}", "everyRounds: 1000}");
    let mut running = place.up(&[]);
    running.wait_for_round("a");
    running.wait_for_round("b");
    running.kill_everything();
    let (records, code, complaints) = place.up(&["--resume"]).end();
    assert_eq!(code, 0, "{complaints}");
    let again = records.iter().find(|record| record["event"] == "beganAgain").unwrap();
    assert!(again["rounds"].as_u64() >= Some(1), "{again}");
    assert!(Path::new(again["store"].as_str().unwrap()).is_file(), "{again}");
    assert_eq!(rounds(&records).min(), Some(0));
    let summary = &records.last().unwrap()["summary"];
    assert_eq!(summary["replicasIdentical"], true, "{summary}");
    assert!(summary["tokens"].as_u64() >= Some(TOKENS), "{summary}");
}

#[test]
fn a_store_that_is_cut_or_gone_is_replaced_by_a_checkpoint_when_the_user_says_so() {
    let place = Place::new();
    let before = stopped(&place);
    let last = rounds(&before).max().unwrap();
    let store = place.path("runs/tiny/coordinator.redb");
    let whole = fs::read(&store).unwrap();

    fs::remove_file(&store).unwrap();
    let (_, code, complaints) = place.up(&["--resume"]).end();
    assert_eq!(code, 2, "{complaints}");
    assert!(complaints.contains("the coordinator's store is gone"), "{complaints}");
    fs::write(&store, &whole[..5000]).unwrap();
    let (_, code, complaints) = place.up(&["--resume"]).end();
    assert_eq!(code, 2, "{complaints}");
    for expected in ["is damaged", "--resume --adopt: no round on record is lost"] {
        assert!(complaints.contains(expected), "no {expected:?} in: {complaints}");
    }

    let (records, code, complaints) = place.up(&["--resume", "--adopt"]).end();
    assert_eq!(code, 0, "{complaints}");
    assert_eq!(fs::read(place.path("runs/tiny/coordinator.redb.aside-1")).unwrap(), whole[..5000]);
    assert_eq!(rounds(&records).min(), Some(last + 1));
    let summary = &records.last().unwrap()["summary"];
    assert_eq!(summary["replicasIdentical"], true, "{summary}");
    assert!(summary["tokens"].as_u64() >= Some(TOKENS), "{summary}");
}

#[test]
fn an_island_is_added_to_a_run_whose_inner_steps_the_plan_chose() {
    const MANY: u64 = 200_000;
    let place = Place::new();
    let planned = |islands: &[Island]| {
        place.manifests(MANY, islands);
        place.edit("innerSteps: 3", "innerSteps: auto");
        let text = fs::read_to_string(place.path("run.yaml")).unwrap();
        let link = "  uplink: {up: 1M, down: 1M}\n  devices:";
        fs::write(place.path("run.yaml"), text.replace("  devices:", link)).unwrap();
        let plan = place.heteroloco(&["plan", "-f", "run.yaml", "--emulate", "--json"]);
        let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
        let islands = plan["islands"].as_array().expect("islands");
        islands.iter().filter_map(|island| island["innerSteps"].as_u64()).max()
    };
    let [a, b] = two_islands();
    let two = planned(&[a, b]);
    let mut running = place.up(&[]);
    running.wait_for_round("a");
    running.interrupt();
    let (before, code, complaints) = running.end();
    assert_eq!(code, 130, "{complaints}");
    let [a, b] = two_islands();
    let three = planned(&[a, b, Island::new("c", "NVIDIA-H100-80GB-HBM3", 1)]);
    assert_ne!(two, three, "the plan has to choose other steps for this test to say anything");
    let (after, code, complaints) = place.up(&["--resume"]).end();
    assert_eq!(code, 0, "{complaints}");
    assert_eq!(rounds(&after).min(), rounds(&before).max().map(|last| last + 1));
    assert!(after.iter().any(|record| record["event"] == "round" && record["island"] == "c"));
}
