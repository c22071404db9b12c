//! A real Kubernetes on this machine, for tests and for people (`make cluster`).
//!
//! [`ControlPlane`] is etcd, the API server, the controller manager and the scheduler, built from
//! pinned Go modules into the cache folder; it needs Go and no root. [`Node`] adds containerd and
//! a kubelet in namespaces of their own, with GPUs that are only claimed; that needs root and
//! Debian packages. [`Kwok`] adds nodes by the hundred that only say that they run pods.
//!
//! All of it ends with the values that stand for it, and also when the process that holds them is
//! killed: the kernel ends the processes, and with them their namespaces, mounts and links.

mod certificates;
mod cgroups;
mod cluster;
mod collector;
mod control_plane;
mod error;
mod image;
mod kubeconfig;
mod kwok;
mod namespace;
mod network;
mod node;
mod packages;
mod place;
mod process;
mod tools;

pub use cluster::{Cluster, default_dir, gpu_nodes};
pub use collector::Collector;
pub use control_plane::{ControlPlane, Network, Options};
pub use error::ClusterError;
pub use image::{Image, Recipe, build_image};
pub use kwok::Kwok;
pub use namespace::{Namespace, condition};
pub use node::{Gpus, Node, NodeOptions};
pub use tools::{ETCD, HELM, KUBERNETES, KWOK, Tool, ensure};
