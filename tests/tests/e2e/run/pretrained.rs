//! Runs that start from a model that is there.

use std::fs;

use super::place::{Place, two_islands};

/// The manifests with `model: {from: …}` in place of the model's keys.
fn start_from(place: &Place, folder: &str) {
    let path = place.path("run.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("  model:\n").unwrap();
    let (_, after) = rest.split_once("  data:").unwrap();
    fs::write(path, format!("{before}  model: {{from: {folder}}}\n  data:{after}")).unwrap();
}

#[test]
fn a_run_goes_on_training_what_another_has_exported() {
    let place = Place::new();
    place.manifests(2_000, &two_islands());
    let (records, code, complaints) = place.up(&[]).end();
    assert_eq!(code, 0, "{complaints}");
    let first = records.last().unwrap()["summary"].clone();
    let checkpoint = first["checkpoint"].as_str().unwrap();
    let export = place.heteroloco(&["export", "--checkpoint", checkpoint, "--out", "exported"]);
    assert!(export.status.success(), "{export:?}");

    start_from(&place, "exported");
    let (records, code, complaints) = place.up(&["--run-dir", "runs/second"]).end();
    assert_eq!(code, 0, "{complaints}");
    let second = &records.last().unwrap()["summary"];
    assert_eq!(second["replicasIdentical"], true, "{second}");
    let (ended, began) = (&first["heldoutLast"][1], &second["heldoutFirst"][1]);
    let apart = ended.as_f64().unwrap() - began.as_f64().unwrap();
    assert!(apart.abs() < 1e-4, "it ended at {ended}, the next begins at {began}");
    assert!(second["heldoutLast"][1].as_f64() < began.as_f64(), "{second}");
}

#[test]
fn a_folder_that_lacks_a_tensor_is_refused_by_its_name() {
    let place = Place::new();
    place.manifests(2_000, &two_islands());
    let (records, code, complaints) = place.up(&[]).end();
    assert_eq!(code, 0, "{complaints}");
    let summary = &records.last().unwrap()["summary"];
    let checkpoint = summary["checkpoint"].as_str().unwrap();
    let export = place.heteroloco(&["export", "--checkpoint", checkpoint, "--out", "exported"]);
    assert!(export.status.success(), "{export:?}");
    let config = place.path("exported/config.json");
    let text = fs::read_to_string(&config).unwrap();
    let deeper = text.replace("\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2");
    assert_ne!(deeper, text);
    fs::write(config, deeper).unwrap();

    start_from(&place, "exported");
    let planned = place.heteroloco(&["plan", "-f", "run.yaml"]);
    let refusal = String::from_utf8_lossy(&planned.stderr);
    assert!(!planned.status.success() && refusal.contains("model.layers.1."), "{planned:?}");
    let (records, code, complaints) = place.up(&["--run-dir", "runs/second"]).end();
    assert_eq!(code, 2, "{complaints}");
    let told: String = records.iter().map(ToString::to_string).collect();
    assert!(format!("{told}{complaints}").contains("model.layers.1."), "{told}{complaints}");
}
