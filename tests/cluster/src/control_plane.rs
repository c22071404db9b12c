//! etcd, API server, controller manager and scheduler.

mod api_server;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::ClusterError;
use crate::certificates::{Authority, Identity};
use crate::kubeconfig::{self, Server};
use crate::network::{Hub, NODES_MAX};
use crate::place::{Folder, Place};
use crate::process::{Process, Wait, mortal, run, until};
use crate::tools::{Tool, ensure};

/// How long the API server may take until it is ready, on a busy machine.
pub(crate) const READY_WAIT: Duration = Duration::from_secs(180);
/// How long a `kubectl` or `helm` may take; what they wait for has bounds of their own.
const CLIENT_WAIT: Duration = Duration::from_secs(900);
/// How long a node may be silent: the controller manager's own default.
const SILENCE_MAX: Duration = Duration::from_secs(50);
/// The network from which the API server can be reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// Processes of this machine. Needs no root; only fake nodes can join.
    #[default]
    Loopback,
    /// Those, and the pods of [`crate::Node`]s. Needs root.
    Nodes,
}

/// How a control plane is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The folder of its data, logs and kubeconfig; a temporary one if there is none.
    pub dir: Option<PathBuf>,
    /// The network from which it can be reached.
    pub network: Network,
    /// How long a node may be silent until it counts as lost, 50 s where absent. Thousands of fake
    /// nodes that say that they live are most of the API server's work.
    pub silence: Option<Duration>,
}

/// A running control plane; dropping it ends it.
#[derive(Debug)]
pub struct ControlPlane {
    api_server: Option<Process>,
    /// In the order in which they are ended.
    others: Vec<Process>,
    hub: Option<Hub>,
    nodes: AtomicU8,
    place: Place,
    authority: Authority,
    folder: Arc<Folder>,
    silence: Duration,
}

impl ControlPlane {
    /// Builds what is missing, starts everything, and returns when the API server is ready and
    /// the controllers have made the default service account.
    ///
    /// # Errors
    /// When a program cannot be built or started, or is not ready in three minutes; the error has
    /// the ends of the logs.
    pub async fn start(options: Options) -> Result<Self, ClusterError> {
        ensure(&Tool::CONTROL_PLANE).await?;
        let folder = Folder::new(options.dir)?;
        let hub = match options.network {
            Network::Loopback => None,
            Network::Nodes => Some(Hub::start(folder.path()).await?),
        };
        let place = hub.as_ref().map_or_else(Place::loopback, Place::hub);
        let authority = Authority::new(folder.path().join("certificates"))?;
        let mut plane = Self {
            api_server: None,
            others: Vec::new(),
            hub,
            nodes: AtomicU8::new(0),
            place,
            authority,
            folder: Arc::new(folder),
            silence: options.silence.unwrap_or(SILENCE_MAX),
        };
        plane.write_files()?;
        plane.start_etcd()?;
        plane.start_api_server().await?;
        plane.start_controllers()?;
        plane.wait_for_controllers().await?;
        Ok(plane)
    }

    /// The kubeconfig of an administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// The folder with data, kubeconfig, and a log for each component.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// How long a node may be silent until it counts as lost.
    pub(crate) fn silence(&self) -> Duration {
        self.silence
    }

    /// A line of JSON for every answered request (`audit.k8s.io/v1` events without bodies).
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.path("audit.log")
    }

    /// Runs `kubectl` as administrator and returns what it prints.
    ///
    /// # Errors
    /// When it ends with an error, which is in the error, or takes longer than 15 minutes.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String, ClusterError> {
        self.kubectl_with(args, b"").await
    }

    /// [`Self::kubectl`] with `input` as its stdin, for `apply -f -`.
    ///
    /// # Errors
    /// Those of [`Self::kubectl`].
    pub async fn kubectl_with(&self, args: &[&str], input: &[u8]) -> Result<String, ClusterError> {
        run(self.client(Tool::Kubectl, args), input, CLIENT_WAIT).await
    }

    /// Runs `helm` as administrator and returns what it prints. Builds it the first time.
    ///
    /// # Errors
    /// When it ends with an error, which is in the error, or takes longer than 15 minutes.
    pub async fn helm(&self, args: &[&str]) -> Result<String, ClusterError> {
        ensure(&[Tool::Helm]).await?;
        run(self.client(Tool::Helm, args), b"", CLIENT_WAIT).await
    }

    /// Kills the API server: clients find its port closed until [`Self::start_api_server`].
    pub fn stop_api_server(&mut self) {
        self.api_server = None;
    }

    /// Starts the API server, on the port and the data that it had, unless it runs; returns when
    /// it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in three minutes; the error has the end of its log.
    pub async fn start_api_server(&mut self) -> Result<(), ClusterError> {
        if self.api_server.is_none() {
            let mut command = self.command(Tool::KubeApiserver);
            command.args(self.api_server_args()?);
            let log = self.path("kube-apiserver.log");
            self.api_server = Some(Process::start("kube-apiserver", command, &log)?);
        }
        let ready = until("a ready API server", READY_WAIT, async || {
            for process in self.api_server.iter_mut().chain(&mut self.others) {
                process.check()?;
            }
            let probe = client(Tool::Kubectl, self.folder.path(), &["get", "--raw", "/readyz"]);
            run(probe, b"", READY_WAIT).await.map_err(|error| Wait::Again(error.to_string()))
        });
        ready.await.map(drop).map_err(|error| self.with_logs(error))
    }

    /// The hub that nodes join.
    pub(crate) fn hub(&self, node: &str) -> Result<&Hub, ClusterError> {
        self.hub.as_ref().ok_or_else(|| ClusterError::NoNetwork { node: node.to_owned() })
    }

    /// Numbers nodes from 1; the number is part of their addresses.
    pub(crate) fn next_node(&self) -> u8 {
        let nth = self.nodes.fetch_add(1, Ordering::Relaxed);
        nth % NODES_MAX + 1
    }

    /// Keeps the folder as long as somebody holds it.
    pub(crate) fn folder(&self) -> Arc<Folder> {
        Arc::clone(&self.folder)
    }

    /// A client's certificate.
    pub(crate) fn identity(
        &self,
        user: &str,
        group: Option<&str>,
    ) -> Result<Identity, ClusterError> {
        self.authority.client(user, group)
    }

    /// A component where the control plane is.
    pub(crate) fn command(&self, tool: Tool) -> Command {
        match &self.hub {
            None => mortal(tool.path()),
            Some(hub) => hub.namespaces.command(tool.path()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn client(&self, tool: Tool, args: &[&str]) -> Command {
        client(tool, self.folder.path(), args)
    }

    fn write_files(&self) -> Result<(), ClusterError> {
        let names = [
            ("kubeconfig", "kubernetes-admin", Some("system:masters")),
            ("controller-manager.kubeconfig", "system:kube-controller-manager", None),
            ("scheduler.kubeconfig", "system:kube-scheduler", None),
        ];
        for (file, user, group) in names {
            let identity = self.authority.client(user, group)?;
            kubeconfig::write(&self.path(file), &self.server(), &identity)?;
        }
        self.write_audit_policy()
    }

    pub(crate) fn server(&self) -> Server {
        Server { url: self.place.url(), authority: self.authority.certificate() }
    }

    fn start_etcd(&mut self) -> Result<(), ClusterError> {
        let (url, peers) = (self.place.etcd(), self.place.etcd_peers());
        let mut command = self.command(Tool::Etcd);
        command.arg("--data-dir").arg(self.path("etcd"));
        for flag in ["--listen-client-urls", "--advertise-client-urls"] {
            command.args([flag, &url]);
        }
        for flag in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
            command.args([flag, &peers]);
        }
        command.arg(format!("--initial-cluster=default={peers}"));
        // Its data needs to outlive processes, never the machine.
        command.arg("--unsafe-no-fsync");
        self.others.push(Process::start("etcd", command, &self.path("etcd.log"))?);
        Ok(())
    }

    fn start_controllers(&mut self) -> Result<(), ClusterError> {
        let authority = self.authority.certificate().display().to_string();
        let tokens = self.signing_keys()?.key.display().to_string();
        let manager = [
            format!("--root-ca-file={authority}"),
            format!("--service-account-private-key-file={tokens}"),
            "--use-service-account-credentials".to_owned(),
            format!("--node-monitor-grace-period={}s", self.silence.as_secs()),
        ];
        let controllers = [
            (Tool::KubeScheduler, "scheduler", &[][..]),
            (Tool::KubeControllerManager, "controller-manager", &manager),
        ];
        for (tool, name, flags) in controllers {
            let mut command = self.command(tool);
            command.arg("--kubeconfig").arg(self.path(&format!("{name}.kubeconfig")));
            // No port to race for, and nobody to elect against.
            command.args(["--secure-port=0", "--leader-elect=false"]).args(flags);
            // By default they hold themselves to 20 and 50 requests a second, which is what would
            // be measured where thousands of nodes and pods are made.
            command.args(["--kube-api-qps=2000", "--kube-api-burst=4000"]);
            let log = self.path(&format!("kube-{name}.log"));
            self.others.insert(0, Process::start(&format!("kube-{name}"), command, &log)?);
        }
        Ok(())
    }

    async fn wait_for_controllers(&mut self) -> Result<(), ClusterError> {
        let made = until("the default service account", READY_WAIT, async || {
            for process in &mut self.others {
                process.check()?;
            }
            let probe = ["get", "serviceaccount", "default", "--output=name"];
            let probe = client(Tool::Kubectl, self.folder.path(), &probe);
            run(probe, b"", READY_WAIT).await.map_err(|error| Wait::Again(error.to_string()))
        });
        made.await.map(drop).map_err(|error| self.with_logs(error))
    }

    fn with_logs(&self, mut error: ClusterError) -> ClusterError {
        if let ClusterError::NotReady { logs, .. } = &mut error {
            *logs = self.api_server.iter().chain(&self.others).map(Process::tail).collect();
        }
        error
    }
}

/// A client that knows no kubeconfig and no cache but the cluster's.
fn client(tool: Tool, folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(tool.path());
    command.args(args).env("KUBECONFIG", folder.join("kubeconfig")).env("HOME", folder);
    for folder_of_user in ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        command.env_remove(folder_of_user);
    }
    command
}
