//! Islands, runs and plans that tests speak of.

use api::island::{ComputeIsland, PlanPhase, RankStatus};
use api::run::TrainingRun;
use clap::Parser as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::Event;
use plan::spec::{BatchSpec, CardSpec, DeviceSpec, IslandSpec, Precision, RankSpec, Sharding};
use serde_json::{Value, json};

use super::standing::Plan;
use crate::args::Args;
use crate::inventory::Inventory;
use crate::record::Record;

pub(crate) const H100: &str = "NVIDIA-H100-80GB-HBM3";
pub(crate) const L4: &str = "NVIDIA-L4";

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// Island `lab` of run `mini` with these fields of its spec beside the products.
pub(crate) fn island(products: &[&str], more: &Value) -> ComputeIsland {
    let devices: Vec<Value> = products.iter().map(|product| json!({"product": product})).collect();
    let mut spec = json!({"runRef": {"name": "mini"}, "devices": devices});
    spec.as_object_mut().expect("a map").extend(more.as_object().cloned().unwrap_or_default());
    serde_json::from_value(json!({
        "apiVersion": "heteroloco.dev/v1alpha1", "kind": "ComputeIsland",
        "metadata": {"name": "lab", "namespace": "ml", "uid": "uid-of-lab", "generation": 1},
        "spec": spec,
    }))
    .expect("an island")
}

/// Run `mini`, whose data and checkpoints are on claims.
pub(crate) fn run() -> TrainingRun {
    serde_json::from_value(json!({
        "apiVersion": "heteroloco.dev/v1alpha1", "kind": "TrainingRun",
        "metadata": {"name": "mini", "namespace": "ml", "uid": "uid-of-mini", "generation": 1},
        "spec": {
            "model": {"preset": "llama-demo"}, "tokens": 1_000_000,
            "data": {"path": "/data", "volume": {"claimName": "corpus", "subPath": "books"}},
            "checkpoint": {"volume": {"claimName": "checkpoints"}},
        },
    }))
    .expect("a run")
}

/// What run `mini` began with: 60 seconds of inner steps in a round.
pub(crate) fn record() -> Record {
    let run = json!({
        "name": "mini", "seed": 0,
        "model": {
            "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
            "vocab_size": 320, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "tie_word_embeddings": true, "initializer_range": 0.02,
        },
        "data": "/data", "sequenceLength": 64, "tokens": 1_000_000, "referenceSteps": 30,
        "totalRounds": 3,
        "optimizer": {
            "learningRate": 0.0003, "minLearningRateRatio": 0.1, "warmupSteps": 10,
            "weightDecay": 0.1, "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "gradClip": 1.0,
        },
        "sparse": {
            "topK": 64, "valueBits": 2, "errorDecay": 0.95, "outerLearningRate": 1.0,
            "rule": "counted", "retention": 0.5,
        },
        "checkpointEveryRounds": 10, "evaluation": {"everyRounds": 5, "sequences": 8},
    });
    serde_json::from_value(json!({"run": run, "computeSeconds": 60.0})).expect("a record")
}

pub(crate) fn args() -> Args {
    Args::parse_from([
        "heteroloco-operator",
        "--worker-image=worker:cuda",
        "--worker-cpu-image=worker:cpu",
        "--coordinator-image=coordinator:1",
        "--image-pull-secret=registry",
        "--harvest-priority-class=harvest",
    ])
}

/// A card of a rank, by its place in the node.
pub(crate) fn card(index: u32) -> CardSpec {
    CardSpec {
        product: H100.into(),
        device: DeviceSpec::Cuda { index, precision: Precision::Bf16 },
        memory_bytes: 80 << 30,
        planned_bytes: 60 << 30,
    }
}

/// A process on a node that drives these cards of it.
pub(crate) fn rank(node: &str, cards: &[u32]) -> RankSpec {
    let devices = cards.iter().map(|index| card(*index)).collect();
    RankSpec { node: Some(node.into()), devices }
}

/// Epoch 3 of island `lab`: four layers on each of these ranks' cards in turn.
pub(crate) fn spec(ranks: Vec<RankSpec>) -> IslandSpec {
    let data = ranks.iter().map(|rank| rank.devices.len()).sum();
    IslandSpec {
        name: "lab".into(),
        index: 0,
        epoch: 3,
        inner_steps: 30,
        tokens_per_second: 1000.0,
        sharding: Sharding::whole(4),
        batches: vec![BatchSpec { micro_batches: 2, micro_batch_size: 4 }; data],
        ranks,
    }
}

/// A plan of epoch 3 over two cards of node `a`, in its phase since second 100.
pub(crate) fn plan(phase: PlanPhase, failures: u32) -> Plan {
    Plan {
        epoch: 3,
        generation: 1,
        run_generation: 1,
        phase,
        since: at(100),
        failures,
        index: 0,
        layout: "1×2×1".into(),
        cards: 2,
        memory: "48Gi".into(),
        inner_steps: Some(30),
        step_seconds: Some(0.5),
        tokens_per_second: 1,
        ranks: vec![held("a", 2)],
        reasons: vec![],
    }
}

/// What a rank with so many cards of a node holds.
pub(crate) fn held(node: &str, count: u32) -> RankStatus {
    RankStatus {
        node: node.into(),
        product: H100.into(),
        count,
        layers: "0-3".into(),
        memory: "1Gi".into(),
        headroom: "1Gi".into(),
    }
}

/// A node with so many cards of a product, cordoned or not.
pub(crate) fn node(name: &str, product: &str, cards: u32, cordoned: bool) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {
            "nvidia.com/gpu.product": product, "nvidia.com/gpu.count": cards.to_string(),
            "zone": name,
        }},
        "spec": {"unschedulable": cordoned},
        "status": {"allocatable": {"nvidia.com/gpu": cards.to_string()}},
    }))
    .expect("a node")
}

/// A running pod that holds so many cards of a node, of an island's rank 0 or of nobody we know.
pub(crate) fn pod(name: &str, node: &str, cards: u32, island: Option<&str>) -> Pod {
    let mut labels = json!({});
    if let Some(island) = island {
        labels = json!({
            "app.kubernetes.io/managed-by": "heteroloco-operator",
            "heteroloco.dev/island": island, "heteroloco.dev/epoch": "3",
            "heteroloco.dev/rank": "0",
        });
    }
    serde_json::from_value(json!({
        "metadata": {"namespace": "ml", "name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [
            {"name": "main", "resources": {"limits": {"nvidia.com/gpu": cards.to_string()}}}
        ]},
        "status": {"phase": "Running"},
    }))
    .expect("a pod")
}

/// What is known once all lists were read: these nodes at second 0, and after that these pods.
pub(crate) fn inventory(nodes: Vec<Node>, pods: Vec<(i64, Pod)>) -> Inventory {
    let mut inventory = Inventory::new(vec![None]);
    inventory.node(Event::Init);
    for node in nodes {
        inventory.node(Event::InitApply(node));
    }
    inventory.node(Event::InitDone);
    inventory.pod(0, Event::Init, at(0));
    inventory.pod(0, Event::InitDone, at(0));
    for (second, pod) in pods {
        inventory.pod(0, Event::Apply(pod), at(second));
    }
    inventory
}
