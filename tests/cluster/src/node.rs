//! A machine of the cluster: containerd, kubelet and kube-proxy in namespaces of their own.

mod config;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cgroups::Cgroup;
use crate::control_plane::READY_WAIT;
use crate::image::{self, Image};
use crate::kubeconfig;
use crate::network::Namespaces;
use crate::place::Folder;
use crate::process::{Process, Wait, run, until};
use crate::tools::{Tool, ensure};
use crate::{ClusterError, ControlPlane, packages};

/// How long an image may take to be unpacked.
const LOAD_WAIT: Duration = Duration::from_secs(600);
/// The folder that the pods' bridge takes its programs from.
const CNI: &str = "/usr/lib/cni";
/// The image that holds a pod's namespaces.
const PAUSE: &str = "heteroloco.test/pause:1";

/// GPUs that a node only claims to have: the scheduler counts them, pods that ask for them start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpus {
    /// As GPU feature discovery names it, such as `NVIDIA-H100-80GB-HBM3`.
    pub product: String,
    /// Memory of each, in MiB.
    pub memory_mib: u64,
    /// How many.
    pub count: u32,
}

impl Gpus {
    /// H100s with 80 GB.
    #[must_use]
    pub fn h100(count: u32) -> Self {
        Self { product: "NVIDIA-H100-80GB-HBM3".to_owned(), memory_mib: 81_559, count }
    }

    /// RTX 4090s with 24 GB.
    #[must_use]
    pub fn rtx_4090(count: u32) -> Self {
        Self { product: "NVIDIA-GeForce-RTX-4090".to_owned(), memory_mib: 24_564, count }
    }
}

/// The name of a node, and its equipment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeOptions {
    /// Its name in the cluster.
    pub name: String,
    /// Labels beside those of its GPUs.
    pub labels: BTreeMap<String, String>,
    /// Its GPUs.
    pub gpus: Option<Gpus>,
}

impl NodeOptions {
    /// A node with GPUs and no labels but theirs.
    #[must_use]
    pub fn new(name: impl Into<String>, gpus: Option<Gpus>) -> Self {
        Self { name: name.into(), labels: BTreeMap::new(), gpus }
    }

    /// All its labels; those of GPUs are what GPU feature discovery writes.
    pub(crate) fn all_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        if let Some(gpus) = &self.gpus {
            labels.extend([
                ("nvidia.com/gpu.product".to_owned(), gpus.product.clone()),
                ("nvidia.com/gpu.memory".to_owned(), gpus.memory_mib.to_string()),
                ("nvidia.com/gpu.count".to_owned(), gpus.count.to_string()),
                ("nvidia.com/gpu.present".to_owned(), "true".to_owned()),
            ]);
        }
        labels
    }

    /// Its count of GPUs, as a resource list.
    pub(crate) fn resources(&self) -> Value {
        let count = self.gpus.as_ref().map(|gpus| gpus.count.to_string());
        count.map_or_else(|| json!({}), |count| json!({"nvidia.com/gpu": count}))
    }
}

/// A running node. Dropping it is its machine's loss: its object stays in the API.
///
/// Its files are this machine's, but for `/run`, `/var/log` and `/var/lib/kubelet`, so that a
/// `hostPath` is one folder for all nodes. There is no DNS: pods find services by the addresses in
/// their environment. Like every kubelet its own sets `vm.overcommit_memory`, `kernel.panic` and
/// `kernel.panic_on_oops` of the machine.
#[derive(Debug)]
pub struct Node {
    kubelet: Option<Process>,
    /// kube-proxy and containerd.
    services: Vec<Process>,
    namespaces: Namespaces,
    cgroup: Cgroup,
    options: NodeOptions,
    address: Ipv4Addr,
    kubeconfig: PathBuf,
    dir: PathBuf,
    _folder: Arc<Folder>,
}

impl Node {
    /// Builds what is missing, starts the node, and returns when it is ready and has its GPUs.
    ///
    /// # Errors
    /// Without root or Debian packages, when `plane` has no [`crate::Network::Nodes`], or when a
    /// component ends or is not ready in three minutes; the error has the ends of the logs.
    pub async fn start(plane: &ControlPlane, options: NodeOptions) -> Result<Self, ClusterError> {
        let hub = plane.hub(&options.name)?;
        packages::ensure(&packages::NODE).await?;
        ensure(&Tool::NODE).await?;
        let pause = image::pause(PAUSE).await?;
        let nth = plane.next_node();
        let dir = plane.dir().join(&options.name);
        let own = dir.join("kubelet");
        for folder in config::FIXED.iter().map(Path::new).chain([own.as_path()]) {
            let step = format!("make the folder {}", folder.display());
            fs::create_dir_all(folder).map_err(ClusterError::io(step))?;
        }
        let namespaces = Namespaces::machine(&config::mounts(&dir), &dir).await?;
        hub.join(nth, &namespaces).await?;
        let address = hub.node(nth);
        config::write(&hub.pods(nth), &dir)?;
        let mut node = Self {
            kubelet: None,
            services: Vec::new(),
            namespaces,
            cgroup: Cgroup::new(format!("heteroloco-{}", address.to_string().replace('.', "-")))?,
            options,
            address,
            kubeconfig: plane.kubeconfig(),
            dir,
            _folder: plane.folder(),
        };
        node.write_identities(plane)?;
        node.start_services().await?;
        node.load_image(&pause).await?;
        node.start_kubelet().await?;
        Ok(node)
    }

    /// Its name in the cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Its address, which this machine and every pod reach.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Gives it an image, which pods then start with `imagePullPolicy: Never`.
    ///
    /// # Errors
    /// When containerd does not take it.
    pub async fn load_image(&self, image: &Image) -> Result<(), ClusterError> {
        let mut command = self.namespaces.command("ctr");
        command.args(["--namespace", "k8s.io", "images", "import"]).arg(&image.archive);
        run(command, b"", LOAD_WAIT).await.map(drop)
    }

    /// Kills kubelet. Pods go on running, but nobody says so: the node becomes `Unknown`.
    pub fn stop_kubelet(&mut self) {
        self.kubelet = None;
    }

    /// Starts kubelet unless it runs, and returns when it says that the node is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in three minutes; the error has the ends of the logs.
    pub async fn start_kubelet(&mut self) -> Result<(), ClusterError> {
        let before = self.heartbeat().await.unwrap_or_default();
        if self.kubelet.is_none() {
            let labels = self.options.all_labels();
            let labels: Vec<_> =
                labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let mut command = self.namespaces.command(Tool::Kubelet.path());
            command.arg("--config").arg(config::kubelet(self.cgroup.path(), &self.dir)?);
            command.arg("--kubeconfig").arg(self.dir.join("kubelet.kubeconfig"));
            command.arg(format!("--hostname-override={}", self.options.name));
            command.arg(format!("--node-ip={}", self.address));
            command.arg(format!("--node-labels={}", labels.join(",")));
            let log = self.dir.join("kubelet.log");
            self.kubelet = Some(Process::start("kubelet", command, &log)?);
        }
        let ready = self.wait_until_ready(&before).await;
        ready.map_err(|error| self.with_logs(error))?;
        self.claim_gpus().await
    }

    fn write_identities(&self, plane: &ControlPlane) -> Result<(), ClusterError> {
        let name = &self.options.name;
        let kubelet = plane.identity(&format!("system:node:{name}"), Some("system:nodes"))?;
        let proxy = plane.identity("system:kube-proxy", None)?;
        for (file, identity) in [("kubelet", kubelet), ("kube-proxy", proxy)] {
            let path = self.dir.join(format!("{file}.kubeconfig"));
            kubeconfig::write(&path, &plane.server(), &identity)?;
        }
        let authority = self.dir.join("ca.crt");
        let copied = fs::copy(plane.server().authority, authority);
        copied.map(drop).map_err(ClusterError::io("copy the authority's certificate"))
    }

    async fn start_services(&mut self) -> Result<(), ClusterError> {
        let mut containerd = self.namespaces.command("containerd");
        containerd.arg("--config").arg(self.dir.join("containerd.toml"));
        let log = self.dir.join("containerd.log");
        self.services.push(Process::start("containerd", containerd, &log)?);
        let mut proxy = self.namespaces.command(Tool::KubeProxy.path());
        proxy.arg("--config").arg(config::proxy(&self.options.name, &self.dir)?);
        let log = self.dir.join("kube-proxy.log");
        self.services.insert(0, Process::start("kube-proxy", proxy, &log)?);
        let answers = until("an answer of containerd", READY_WAIT, async || {
            self.services.iter_mut().try_for_each(Process::check)?;
            let mut probe = self.namespaces.command("ctr");
            probe.arg("version");
            run(probe, b"", READY_WAIT).await.map_err(|error| Wait::Again(error.to_string()))
        });
        answers.await.map(drop).map_err(|error| self.with_logs(error))
    }

    async fn wait_until_ready(&mut self, before: &str) -> Result<(), ClusterError> {
        let what = format!("node {} ready", self.options.name);
        until(&what, READY_WAIT, async || {
            self.services.iter_mut().chain(&mut self.kubelet).try_for_each(Process::check)?;
            match self.heartbeat().await {
                Ok(seen) if seen.starts_with("True ") && seen != before => Ok(()),
                Ok(seen) => Err(Wait::Again(seen)),
                Err(error) => Err(Wait::Again(error.to_string())),
            }
        })
        .await
    }

    /// The node's readiness, and when it last said so.
    async fn heartbeat(&self) -> Result<String, ClusterError> {
        let ready = r#"{range .status.conditions[?(@.type=="Ready")]}"#;
        let path = format!("--output=jsonpath={ready}{{.status}} {{.lastHeartbeatTime}}{{end}}");
        self.kubectl(&["get", "node", &self.options.name, "--ignore-not-found", &path]).await
    }

    /// A kubelet that starts sets what it does not manage to zero; after that it leaves it alone
    /// and counts it as allocatable.
    async fn claim_gpus(&self) -> Result<(), ClusterError> {
        let gpus = self.options.resources();
        let patch = json!({"status": {"capacity": gpus, "allocatable": gpus}}).to_string();
        let node = ["patch", "node", &self.options.name, "--subresource=status", "--type=merge"];
        self.kubectl(&[&node[..], &["--patch", &patch]].concat()).await.map(drop)
    }

    async fn kubectl(&self, args: &[&str]) -> Result<String, ClusterError> {
        let mut command = std::process::Command::new(Tool::Kubectl.path());
        command.args(args).env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.dir);
        run(command, b"", READY_WAIT).await
    }

    fn with_logs(&self, mut error: ClusterError) -> ClusterError {
        if let ClusterError::NotReady { logs, .. } = &mut error {
            *logs = self.services.iter().chain(&self.kubelet).map(Process::tail).collect();
        }
        error
    }
}
