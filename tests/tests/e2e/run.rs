//! Whole runs as a user starts them: the real programs, tiny models, and what goes wrong.

mod bad_input;
mod faults;
mod place;
mod pretrained;
mod resume;
mod sharding;
mod traces;

use std::fs;

use place::{Island, Place};
use serde_json::Value;

#[test]
fn islands_of_unlike_size_train_one_model_and_hold_the_same_parameters_after_each_round() {
    let place = Place::new();
    let islands = [
        Island::new("dc", "NVIDIA-H100-80GB-HBM3", 1),
        Island::new("lab", "NVIDIA-GeForce-RTX-4090", 2),
        Island::new("desk", "NVIDIA-GeForce-RTX-3090", 1),
    ];
    place.manifests(4_000, &islands);
    let (records, code, complaints) = place.up(&[]).end();
    assert_eq!(code, 0, "{complaints}");
    let end = records.last().unwrap();
    assert_eq!(end["outcome"]["kind"], "finished", "{end}");
    let summary = &end["summary"];
    assert_eq!(summary["replicasIdentical"], true, "{summary}");
    assert!(summary["tokens"].as_u64() >= Some(4_000), "{summary}");
    for round in 0..summary["rounds"].as_u64().unwrap() {
        let of_round = |record: &&Value| record["event"] == "round" && record["round"] == round;
        let rounds: Vec<&Value> = records.iter().filter(of_round).collect();
        assert_eq!(rounds.len(), 3, "round {round}: {rounds:?}");
        assert!(rounds.iter().all(|record| record["islands"] == 3), "{rounds:?}");
    }
    let losses = [&summary["heldoutFirst"][1], &summary["heldoutLast"][1]];
    assert!(losses[1].as_f64() < losses[0].as_f64(), "{losses:?}");
    assert!(summary["wire"]["bitsPerValue"].as_f64() < Some(32.0), "{summary}");

    let checkpoint = summary["checkpoint"].as_str().unwrap();
    let text = place.heteroloco(&["generate", "--checkpoint", checkpoint, "--prompt", "fn "]);
    assert!(text.status.success() && !text.stdout.is_empty(), "{text:?}");
    let export = place.heteroloco(&["export", "--checkpoint", checkpoint, "--out", "exported"]);
    assert!(export.status.success(), "{export:?}");
    assert!(place.path("exported/config.json").is_file());
    assert!(place.path("exported/model.safetensors").is_file());

    let question = r#"{"query": "fn main", "choices": ["() {", "zz"], "gold": 0}"#;
    fs::write(place.path("tasks.jsonl"), question).unwrap();
    let on = ["--data", "data", "--tasks", "tasks.jsonl", "--json", "scores.json"];
    let eval = place.heteroloco(&[&["eval", "--checkpoint", checkpoint][..], &on].concat());
    assert!(eval.status.success(), "{eval:?}");
    let scores = fs::read(place.path("scores.json")).unwrap();
    let scores: Value = serde_json::from_slice(&scores).unwrap();
    assert!(scores["heldOut"]["loss"].as_f64() < losses[0].as_f64(), "{scores}");
    assert_eq!(scores["tasks"][0]["documents"][0]["logLikelihoods"].as_array().unwrap().len(), 2);
}
