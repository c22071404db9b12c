//! Programs that are built from pinned Go modules into the cache folder, once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::ClusterError;
use crate::process::run;

/// The Kubernetes that is started; `tools/kubernetes/go.mod` names the same.
pub const KUBERNETES: &str = "v1.34.4";
/// The etcd below it; `tools/etcd/go.mod` names the same.
pub const ETCD: &str = "v3.6.16";
/// `tools/helm/go.mod` names the same.
pub const HELM: &str = "v4.3.1";
/// `tools/kwok/go.mod` names the same.
pub const KWOK: &str = "v0.8.0";

/// A cold build of the API server takes five minutes on two idle cores.
const BUILD_WAIT: Duration = Duration::from_secs(3600);

/// A program that the harness builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the programs'")]
pub enum Tool {
    Etcd,
    Helm,
    KubeApiserver,
    KubeControllerManager,
    KubeProxy,
    KubeScheduler,
    Kubectl,
    Kubelet,
    Kwok,
    /// The program of the image that holds a pod's namespaces.
    Pause,
}

impl Tool {
    /// Tools of a control plane and its clients.
    pub const CONTROL_PLANE: [Self; 5] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::Kubectl,
        Self::KubeControllerManager,
        Self::KubeScheduler,
    ];
    /// Tools of a node beside the system's packages.
    pub const NODE: [Self; 3] = [Self::Kubelet, Self::KubeProxy, Self::Pause];

    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Helm => "helm",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeProxy => "kube-proxy",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubectl => "kubectl",
            Self::Kubelet => "kubelet",
            Self::Kwok => "kwok",
            Self::Pause => "pause",
        }
    }

    /// The folder under `tools/` whose `go.mod` pins it.
    fn module(self) -> &'static str {
        match self {
            Self::Etcd | Self::Helm | Self::Kwok | Self::Pause => self.name(),
            _ => "kubernetes",
        }
    }

    fn package(self) -> String {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3".into(),
            Self::Helm => "helm.sh/helm/v4/cmd/helm".into(),
            Self::Kwok => "sigs.k8s.io/kwok/cmd/kwok".into(),
            Self::Pause => ".".into(),
            kubernetes => format!("k8s.io/kubernetes/cmd/{}", kubernetes.name()),
        }
    }

    /// Programs say their version only when the linker is told it, and clients ask for it.
    fn version_flags(self) -> String {
        match self.module() {
            "kubernetes" => {
                let variable = "k8s.io/component-base/version.git";
                format!(
                    "-X {variable}Version={KUBERNETES} -X {variable}Major=1 -X {variable}Minor=34"
                )
            }
            "helm" => format!("-X helm.sh/helm/v4/internal/version.version={HELM}"),
            _ => String::new(),
        }
    }

    /// The path of the program, once [`ensure`] has built it.
    #[must_use]
    pub fn path(self) -> PathBuf {
        folder().join(self.name())
    }
}

/// The project's cache folder, as the `Makefile` has it.
pub(crate) fn cache() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = || set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    set("HETEROLOCO_CACHE")
        .unwrap_or_else(|| user().unwrap_or_else(std::env::temp_dir).join("heteroloco"))
}

/// The folder's name says every version, so that old programs are never taken for new ones.
fn folder() -> PathBuf {
    cache().join(format!("kubernetes-{KUBERNETES}-etcd-{ETCD}-helm-{HELM}-kwok-{KWOK}"))
}

/// Builds those of `tools` that are not there yet. Processes that want the same take turns.
///
/// # Errors
/// When Go is missing, a module is out of reach, or the cache folder cannot be written.
pub async fn ensure(tools: &[Tool]) -> Result<(), ClusterError> {
    if tools.iter().all(|tool| tool.path().is_file()) {
        return Ok(());
    }
    let _turn = lock(&folder()).await?;
    for tool in tools.iter().filter(|tool| !tool.path().is_file()) {
        build(*tool).await?;
    }
    Ok(())
}

async fn build(tool: Tool) -> Result<(), ClusterError> {
    let unfinished = folder().join(format!("{}.new", tool.name()));
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(tool.module());
    let mut command = Command::new("go");
    command.arg("build").arg("-C").arg(module).args(["-buildvcs=false", "-ldflags"]);
    command.arg(format!("-s -w {}", tool.version_flags()));
    command.arg("-o").arg(&unfinished).arg(tool.package()).env("CGO_ENABLED", "0");
    run(command, b"", BUILD_WAIT).await.map_err(|error| match error {
        ClusterError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            let step =
                format!("start go; install Go 1.26 or newer, {} is built by it", tool.name());
            ClusterError::Io { step, source }
        }
        other => other,
    })?;
    let step = format!("move {} to its place", tool.name());
    fs::rename(&unfinished, tool.path()).map_err(ClusterError::io(step))
}

/// Waits for the only right to write into `folder`; it ends when the file is dropped.
pub(crate) async fn lock(folder: &Path) -> Result<File, ClusterError> {
    let path = folder.join("lock");
    let step = format!("lock {}", path.display());
    fs::create_dir_all(folder).map_err(ClusterError::io(step.clone()))?;
    let locked = tokio::task::spawn_blocking(move || {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        file.lock()?;
        Ok(file)
    });
    locked.await.expect("the lock's task does not panic").map_err(ClusterError::io(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_the_one_that_its_go_mod_pins() {
        let pins = [
            ("kubernetes", "k8s.io/kubernetes", KUBERNETES),
            ("etcd", "go.etcd.io/etcd/server/v3", ETCD),
            ("helm", "helm.sh/helm/v4", HELM),
            ("kwok", "sigs.k8s.io/kwok", KWOK),
        ];
        for (folder, module, version) in pins {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(folder);
            let text = fs::read_to_string(path.join("go.mod")).unwrap();
            let pin = format!("{module} {version}");
            let pinned = |line: &str| line.trim().trim_start_matches("require ").starts_with(&pin);
            assert!(text.lines().any(pinned), "{folder}/go.mod does not name `{pin}`");
        }
    }
}
