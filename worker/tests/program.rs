//! `heteroloco-worker` as a process: what it says of a plan that cannot be executed.

// clippy.toml allows it in functions marked as tests, not in what they call.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

use contract::event::WorkerEvent;
use contract::exit::EXIT_CONFIG;
use serde_json::{Value, json};

/// A plan that fits: four layers on two stages of two devices each. Nobody listens anywhere.
fn spec() -> Value {
    let card = json!({
        "product": "cpu", "device": {"kind": "cpu", "threads": 1, "speed": 1.0},
        "memoryBytes": 1 << 30, "plannedBytes": 1 << 20
    });
    let stage = json!({"layers": 2, "recompute": false});
    json!({
        "run": {
            "name": "tiny", "seed": 1,
            "model": {
                "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
                "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
                "vocab_size": 257, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
                "rope_theta": 10000.0, "tie_word_embeddings": true, "initializer_range": 0.02
            },
            "data": "nowhere", "sequenceLength": 32, "tokens": 1000, "referenceSteps": 3,
            "totalRounds": 3,
            "optimizer": {
                "learningRate": 0.0003, "minLearningRateRatio": 0.1, "warmupSteps": 10,
                "weightDecay": 0.1, "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "gradClip": 1.0
            },
            "sparse": {
                "topK": 64, "valueBits": 2, "errorDecay": 0.95, "outerLearningRate": 1.0,
                "rule": "counted", "retention": 0.5
            },
            "checkpointEveryRounds": 10, "evaluation": {"everyRounds": 5, "sequences": 8}
        },
        "island": {
            "name": "lab", "index": 0, "epoch": 1, "innerSteps": 3,
            "tokensPerSecond": 1.0,
            "sharding": {"tensor": 2, "stages": [stage, stage]},
            "batches": [{"microBatches": 2, "microBatchSize": 1}],
            "ranks": [{"devices": [card, card]}, {"devices": [card, card]}]
        },
        "coordinator": "http://127.0.0.1:1", "listen": "127.0.0.1:0",
        "collectiveListen": "127.0.0.1:0", "checkpointDir": "checkpoints"
    })
}

#[test]
fn a_plan_that_does_not_fit_is_refused_in_a_sentence_before_anybody_is_met() {
    let stages = "/island/sharding/stages";
    let tensor = "/island/sharding/tensor";
    let layers = |layers: [u32; 2]| json!(layers.map(|n| json!({"layers": n, "recompute": false})));
    let misfit = "failed to start: the plan's sharding does not fit the model: ";
    let table = [
        (stages, layers([0, 4]), misfit, "pipeline stage 0 has no layer"),
        (stages, layers([2, 1]), misfit, "hold 3 layers, the model has 4"),
        (stages, json!([]), misfit, "hold 0 layers, the model has 4"),
        (tensor, json!(0), misfit, "the tensor-parallel size is 0"),
        (tensor, json!(3), misfit, "num_attention_heads is 4, which tensor-parallel size 3"),
        (tensor, json!(4), misfit, "num_key_value_heads is 2, which tensor-parallel size 4"),
        ("/run/model/head_dim", json!(32), misfit, "every part of the key and value heads is 32"),
        ("/run/model/intermediate_size", json!(192), misfit, "feed-forward layer is 96 wide"),
        ("/run/model/vocab_size", json!(64), misfit, "vocab_size 64 has too few rows"),
        ("/island/sharding/compression", json!({"rank": 129}), misfit, "between 1 and 128"),
        ("/island/ranks/1/devices", json!([]), "failed to start: ", "have 2 devices for 4"),
        ("/island/batches", json!([]), "failed to start: ", "have 4 devices for 0"),
        ("/run/model/hidden_size", json!(0), "failed to start: the plan's model", "hidden_size"),
        ("/run/data", json!("nowhere"), "failed to read the training data: ", "nowhere"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let no_rank = ("", spec(), "failed to start: ", "2 ranks, so there is no rank 2");
    for (path, value, begin, rest) in table.into_iter().chain([no_rank]) {
        let rank = if path.is_empty() { "2" } else { "0" };
        let mut spec = spec();
        spec["island"]["sharding"]["compression"] = Value::Null;
        *spec.pointer_mut(path).unwrap() = value.clone();
        let file = folder.path().join("spec.json");
        fs::write(&file, spec.to_string()).unwrap();
        let mut worker = Command::new(env!("CARGO_BIN_EXE_heteroloco-worker"));
        worker.current_dir(&folder).arg("--spec").arg(&file);
        let output = worker.args(["--rank", rank]).output().unwrap();
        let complaints = String::from_utf8(output.stderr).unwrap();
        // Data that is away may come back.
        let code = if path == "/run/data" { 1 } else { EXIT_CONFIG };
        assert_eq!(output.status.code(), Some(code), "{path} {value}: {complaints}");
        let events = String::from_utf8(output.stdout).unwrap();
        let last = events.lines().last().map(serde_json::from_str).unwrap().unwrap();
        let WorkerEvent::Failed { error } = last else { panic!("{path} {value}: {events}") };
        assert!(error.starts_with(begin) && error.contains(rest), "{path} {value}: {error}");
        assert!(complaints.contains(&error), "{path} {value}: {complaints}");
    }
}
