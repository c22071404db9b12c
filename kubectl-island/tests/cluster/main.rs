//! The plugin as a program, against an API server of canned answers: what it asks, what it says of
//! the answers, and how it ends.

// clippy.toml allows it in functions marked as tests, not in what they call.
#![allow(clippy::unwrap_used)]

mod errors;
mod logs;
mod plan;
mod server;
mod steering;

use serde_json::{Value, json};

/// The folder of an API server that has the kinds of this project.
const KINDS: &str = "/apis/heteroloco.dev/v1alpha1";

fn island(name: &str) -> Value {
    json!({
        "apiVersion": "heteroloco.dev/v1alpha1", "kind": "ComputeIsland",
        "metadata": {"name": name, "namespace": "ml", "generation": 3, "uid": name},
        "spec": {"runRef": {"name": "mini"}, "devices": [{"product": "NVIDIA-H100-80GB-HBM3"}]},
    })
}

fn run(name: &str) -> Value {
    json!({
        "apiVersion": "heteroloco.dev/v1alpha1", "kind": "TrainingRun",
        "metadata": {"name": name, "namespace": "ml", "uid": name},
        "spec": {
            "model": {"preset": "llama-demo"}, "data": {"path": "data", "tokenizer": "byte"},
            "tokens": 1_000_000,
        },
    })
}

/// The same object, told to rest or not.
fn resting(mut object: Value, rests: bool) -> Value {
    object["spec"]["suspend"] = rests.into();
    object
}

fn rank(name: &str, epoch: u64, rank: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{name}-e{epoch}-r{rank}"), "namespace": "ml", "labels": {
            "app.kubernetes.io/managed-by": "heteroloco-operator", "heteroloco.dev/island": name,
            "heteroloco.dev/epoch": epoch.to_string(), "heteroloco.dev/rank": rank.to_string(),
        }},
        "spec": {"nodeName": format!("node-{rank}"), "containers": [{"name": "worker"}]},
    })
}
