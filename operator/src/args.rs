//! What the operator is told when it starts.

use std::net::SocketAddr;

use clap::Parser;

/// Makes a cluster look as its ComputeIslands, TrainingRuns and IslandPools say.
#[derive(Clone, Debug, Parser)]
#[command(name = "heteroloco-operator", version)]
pub struct Args {
    /// The operator's own namespace, in which its Lease is.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// Namespaces that it looks after; all where absent.
    #[arg(long, env = "HETEROLOCO_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespace: Vec<String>,
    /// Watch the pods of all namespaces in any case: cards that they hold are not idle.
    #[arg(long, env = "HETEROLOCO_WATCH_ALL_PODS")]
    pub watch_all_pods: bool,
    /// Image of ranks on GPUs.
    #[arg(
        long,
        env = "HETEROLOCO_WORKER_IMAGE",
        default_value = concat!("heteroloco-worker:", env!("CARGO_PKG_VERSION"), "-cuda")
    )]
    pub worker_image: String,
    /// Image of ranks on CPUs.
    #[arg(
        long,
        env = "HETEROLOCO_WORKER_CPU_IMAGE",
        default_value = concat!("heteroloco-worker:", env!("CARGO_PKG_VERSION"), "-cpu")
    )]
    pub worker_cpu_image: String,
    /// Image of coordinators.
    #[arg(
        long,
        env = "HETEROLOCO_COORDINATOR_IMAGE",
        default_value = concat!("heteroloco:", env!("CARGO_PKG_VERSION"))
    )]
    pub coordinator_image: String,
    /// When images are pulled: Always, IfNotPresent or Never.
    #[arg(long, env = "HETEROLOCO_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub image_pull_policy: String,
    /// Secrets with which images are pulled.
    #[arg(long, env = "HETEROLOCO_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    pub image_pull_secret: Vec<String>,
    /// PriorityClass of islands that harvest idle cards; its value is below zero, so that every
    /// ordinary pod may take a card back.
    #[arg(long, env = "HETEROLOCO_HARVEST_PRIORITY_CLASS")]
    pub harvest_priority_class: Option<String>,
    /// Let a CPU thread stand in for each card: for trials without GPUs.
    #[arg(long, env = "HETEROLOCO_EMULATE")]
    pub emulate: bool,
    /// Let runs mount folders of nodes (`hostPath`). Whoever may make runs then reads and writes
    /// what user 65532 may on every node.
    #[arg(long, env = "HETEROLOCO_ALLOW_HOST_PATH")]
    pub allow_host_path: bool,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "HETEROLOCO_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Work only while holding the Lease `heteroloco-operator`: for more than one replica.
    #[arg(long, env = "HETEROLOCO_LEADER_ELECTION")]
    pub leader_election: bool,
    /// Reconciles of each controller at a time.
    #[arg(
        long,
        env = "HETEROLOCO_CONCURRENCY",
        default_value_t = 8,
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub concurrency: u16,
    /// Ask whether an operator is ready at this URL, such as http://host:8080/readyz, and end.
    #[arg(long, value_name = "URL")]
    pub check_ready: Option<http::Uri>,
}
