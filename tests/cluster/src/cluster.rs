//! A control plane with nodes.

use std::path::PathBuf;

use crate::tools::cache;
use crate::{ClusterError, ControlPlane, Gpus, Network, Node, NodeOptions, Options};

/// A control plane and its nodes; dropping it ends them.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, in the order in which they were asked for.
    pub nodes: Vec<Node>,
    /// The control plane, which ends last.
    pub plane: ControlPlane,
}

impl Cluster {
    /// Starts a control plane, in `dir` or a temporary folder, and then `nodes`.
    ///
    /// # Errors
    /// Those of [`ControlPlane::start`] and [`Node::start`].
    pub async fn start(
        dir: Option<PathBuf>,
        nodes: Vec<NodeOptions>,
    ) -> Result<Self, ClusterError> {
        let network = if nodes.is_empty() { Network::Loopback } else { Network::Nodes };
        let plane = ControlPlane::start(Options { dir, network, silence: None }).await?;
        let mut cluster = Self { nodes: Vec::new(), plane };
        for options in nodes {
            cluster.nodes.push(Node::start(&cluster.plane, options).await?);
        }
        Ok(cluster)
    }
}

/// `count` nodes, every other with 2 × H100 and with 4 × RTX 4090.
#[must_use]
pub fn gpu_nodes(count: u8) -> Vec<NodeOptions> {
    let node = |nth: u8| match nth % 2 {
        0 => NodeOptions::new(format!("h100-{nth}"), Some(Gpus::h100(2))),
        _ => NodeOptions::new(format!("rtx4090-{nth}"), Some(Gpus::rtx_4090(4))),
    };
    (0..count).map(node).collect()
}

/// The folder of the cluster that `make cluster` starts.
#[must_use]
pub fn default_dir() -> PathBuf {
    cache().join("cluster")
}
