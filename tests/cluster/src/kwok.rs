//! Nodes by the hundred that only say that they run pods.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::control_plane::READY_WAIT;
use crate::process::{Process, Wait, until};
use crate::tools::{Tool, ensure};
use crate::{ClusterError, ControlPlane, NodeOptions};

/// The annotation of the nodes that kwok takes care of.
const FAKE: &str = "kwok.x-k8s.io/node";
/// The label of these nodes.
const LABEL: &str = "type=kwok";
/// The time that the API server may take for each node of many, on a busy machine.
const NODE_WAIT: Duration = Duration::from_millis(50);
/// kwok renews a lease four times in its time. So long are leases, in times for which a node may be
/// silent: the most that leaves room, because ten thousand nodes renew a lot.
const LEASE: f64 = 2.4;
const STAGES: &str = include_str!("stages.yaml");

/// A running kwok; when it is dropped its nodes stop saying that they live.
#[derive(Debug)]
pub struct Kwok {
    process: Process,
}

impl Kwok {
    /// Builds it the first time and starts it. Pods of its nodes become running and ready at once,
    /// stay so until somebody writes their status, and go when they are deleted.
    ///
    /// # Errors
    /// When it cannot be built or started.
    pub async fn start(plane: &ControlPlane) -> Result<Self, ClusterError> {
        ensure(&[Tool::Kwok]).await?;
        let stages = plane.dir().join("kwok.yaml");
        fs::write(&stages, STAGES).map_err(ClusterError::io("write kwok's stages"))?;
        let mut command = plane.command(Tool::Kwok);
        command.arg("--config").arg(stages).arg("--kubeconfig").arg(plane.kubeconfig());
        command.arg(format!("--manage-nodes-with-annotation-selector={FAKE}=fake"));
        // No port to race for: its nodes have no logs to give.
        command.arg("--node-port=0");
        let lease = plane.silence().mul_f64(LEASE).as_secs();
        command.arg(format!("--node-lease-duration-seconds={lease}"));
        let process = Process::start("kwok", command, &plane.dir().join("kwok.log"))?;
        Ok(Self { process })
    }

    /// Adds nodes, with 32 CPUs, 256 GiB and their GPUs each, and returns when pods can be
    /// scheduled to all of them.
    ///
    /// # Errors
    /// When the API server refuses one, or kwok ends.
    pub async fn add_nodes(
        &mut self,
        plane: &ControlPlane,
        nodes: &[NodeOptions],
    ) -> Result<(), ClusterError> {
        let items: Vec<_> = nodes.iter().map(object).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        plane.kubectl_with(&["create", "--filename=-"], list.as_bytes()).await?;
        let bound = READY_WAIT + NODE_WAIT * u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        let added = until("fake nodes without taints", bound, async || {
            self.process.check()?;
            let taints = "--output=jsonpath={.items[*].spec.taints[*].key}";
            let taints = plane.kubectl(&["get", "nodes", "--selector", LABEL, taints]).await?;
            if taints.is_empty() { Ok(()) } else { Err(Wait::Again(taints)) }
        });
        added.await
    }
}

fn object(node: &NodeOptions) -> Value {
    let mut labels = node.all_labels();
    labels.insert("type".to_owned(), "kwok".to_owned());
    labels.insert("kubernetes.io/hostname".to_owned(), node.name.clone());
    let mut resources = node.resources();
    for (name, quantity) in [("cpu", "32"), ("memory", "256Gi"), ("pods", "110")] {
        resources[name] = json!(quantity);
    }
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": node.name, "labels": labels, "annotations": {FAKE: "fake"}},
        "status": {"capacity": resources, "allocatable": resources},
    })
}
