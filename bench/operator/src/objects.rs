//! The objects that are put into the cluster.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};
use test_cluster::{ControlPlane, Gpus, NodeOptions};

/// The namespace of the run and its islands.
pub(crate) const NAMESPACE: &str = "bench";
/// The operator's name in the API server's audit log.
pub(crate) const ACCOUNT: &str = "system:serviceaccount:bench:operator";

const ZONE: &str = "topology.kubernetes.io/zone";
/// Nodes of a zone.
const ZONE_NODES: u32 = 10;
/// Islands for which every zone has cards.
const ZONE_ISLANDS: u32 = 2;
/// Product, MiB of memory, and cards of a node, by turns.
const KINDS: [(&str, u64, u32); 4] = [
    ("NVIDIA-H100-80GB-HBM3", 81_559, 8),
    ("NVIDIA-A100-SXM4-80GB", 81_920, 8),
    ("NVIDIA-GeForce-RTX-4090", 24_564, 4),
    ("NVIDIA-GeForce-RTX-3090", 24_576, 2),
];
/// Islands of a run: of one that has more than 256 no rounds can be planned.
const RUN_ISLANDS: u32 = 100;
/// Products that an island asks for, and cards of each, by turns.
const WISHES: [[(usize, u32); 2]; 2] = [[(0, 4), (1, 4)], [(2, 4), (3, 2)]];

/// Islands for which so many nodes have cards.
pub(crate) fn most_islands(nodes: u32) -> u32 {
    nodes / ZONE_NODES * ZONE_ISLANDS
}

pub(crate) fn nodes(count: u32) -> Vec<NodeOptions> {
    let node = |nth: u32| {
        let (product, memory_mib, count) = KINDS[nth as usize % KINDS.len()];
        let gpus = Gpus { product: product.to_owned(), memory_mib, count };
        let mut node = NodeOptions::new(format!("node-{nth}"), Some(gpus));
        node.labels.insert(ZONE.to_owned(), zone(nth / ZONE_NODES));
        node
    };
    (0..count).map(node).collect()
}

fn zone(nth: u32) -> String {
    format!("zone-{nth}")
}

/// Islands over the zones by turns; those of one zone want other cards each.
pub(crate) fn islands(count: u32, nodes: u32) -> Value {
    let zones = nodes / ZONE_NODES;
    let island = |nth: u32| {
        // The zones' second islands wish what the first ones do not.
        let wishes = WISHES[(nth / zones + nth) as usize % WISHES.len()];
        let devices = wishes.map(|(kind, count)| json!({"product": KINDS[kind].0, "count": count}));
        json!({
            "apiVersion": "heteroloco.dev/v1alpha1", "kind": "ComputeIsland",
            "metadata": {"name": format!("island-{nth}")},
            "spec": {
                "runRef": {"name": run(nth / RUN_ISLANDS)},
                "devices": devices,
                "nodeSelector": {"matchLabels": {ZONE: zone(nth % zones)}},
            },
        })
    };
    list((0..count).map(island))
}

fn run(nth: u32) -> String {
    format!("run-{nth}")
}

/// The runs of so many islands.
pub(crate) fn runs(islands: u32) -> Value {
    let object = |nth: u32| {
        json!({
            "apiVersion": "heteroloco.dev/v1alpha1", "kind": "TrainingRun",
            "metadata": {"name": run(nth)},
            "spec": {
                "model": {"preset": "llama-1b"},
                "data": {"path": "/data", "volume": {"hostPath": "/tmp"}},
                "tokens": 100_000_000_000_u64,
                "sparseLoCo": {"innerSteps": 30},
            },
        })
    };
    list((0..islands.div_ceil(RUN_ISLANDS)).map(object))
}

/// Pods that the API server takes and nobody schedules: what their creation costs by itself.
pub(crate) fn reference_pods(count: usize) -> Value {
    let pod = |nth: usize| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("reference-{nth}")},
            "spec": {
                "schedulingGates": [{"name": "heteroloco.dev/bench"}],
                "containers": [{"name": "main", "image": "none"}],
            },
        })
    };
    list((0..count).map(pod))
}

fn list(items: impl IntoIterator<Item = Value>) -> Value {
    let items: Vec<Value> = items.into_iter().collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// Makes the operator's account, by which the audit log tells its requests from others', and which
/// the API server limits as it limits every account; its kubeconfig.
pub(crate) async fn account(plane: &ControlPlane) -> anyhow::Result<PathBuf> {
    let within = ["--namespace", NAMESPACE];
    plane.kubectl(&[&within[..], &["create", "serviceaccount", "operator"]].concat()).await?;
    let account = format!("--serviceaccount={NAMESPACE}:operator");
    let bind = ["create", "clusterrolebinding", "bench", "--clusterrole=cluster-admin", &account];
    plane.kubectl(&bind).await?;
    let token = ["create", "token", "operator", "--duration=12h"];
    let token = plane.kubectl(&[&within[..], &token].concat()).await?;
    let config = ["config", "view", "--raw", "--output=json"];
    let mut config: Value = serde_json::from_str(&plane.kubectl(&config).await?)?;
    let user = config.pointer_mut("/users/0/user").context("the kubeconfig has no user")?;
    *user = json!({"token": token.trim()});
    let path = plane.dir().join("operator.kubeconfig");
    fs::write(&path, config.to_string()).context("failed to write the operator's kubeconfig")?;
    Ok(path)
}
