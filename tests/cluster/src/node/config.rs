//! The files from which a node's programs read how to run.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{CNI, PAUSE};
use crate::ClusterError;

/// The socket on which containerd listens, in the node's own `/run`.
const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// The folders that are the node's own, because their paths are fixed in its programs.
pub(super) const FIXED: [&str; 2] = ["/var/lib/kubelet", "/var/lib/cni"];

/// The commands that mount what has to be there before anything runs. Mounts have to be shared for
/// volumes that are handed on.
pub(super) fn mounts(dir: &Path) -> String {
    let kubelet = dir.join("kubelet");
    let [fixed, cni] = FIXED;
    format!(
        "mount --make-rshared / && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/log \
         && mount -t tmpfs tmpfs {cni} && mount --bind {} {fixed}",
        kubelet.display()
    )
}

/// Writes containerd's configuration, that of its network, where `pods` are the addresses of pods,
/// and the pods' `resolv.conf`.
pub(super) fn write(pods: &str, dir: &Path) -> Result<(), ClusterError> {
    let cni = dir.join("cni");
    fs::create_dir_all(&cni).map_err(ClusterError::io("make a folder for the pods' network"))?;
    file(&dir.join("containerd.toml"), &containerd(dir))?;
    let list = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge(pods, dir)]});
    file(&cni.join("pods.conflist"), &list.to_string())?;
    // There is no DNS: services are known by their addresses in the environment.
    file(&dir.join("resolv.conf"), "")
}

fn bridge(pods: &str, dir: &Path) -> Value {
    json!({
        "type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true,
        "ipam": {
            "type": "host-local", "dataDir": dir.join("addresses"),
            "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}],
        },
    })
}

fn containerd(dir: &Path) -> String {
    let (root, cni) = (dir.join("containerd"), dir.join("cni"));
    // Where lowering oom_score_adj is not permitted runc fails to start anything; restricting it
    // to what is permitted changes nothing elsewhere.
    format!(
        "version = 2\n\
         root = {root:?}\n\
         state = \"/run/containerd\"\n\
         [grpc]\n\
         address = \"{CONTAINERD}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n\
         sandbox_image = \"{PAUSE}\"\n\
         restrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n\
         bin_dir = \"{CNI}\"\n\
         conf_dir = {cni:?}\n"
    )
}

/// Writes kubelet's configuration and returns its path.
pub(super) fn kubelet(cgroup: String, dir: &Path) -> Result<PathBuf, ClusterError> {
    // A test's machine is small and its disk full of other things: nothing is reserved, and pods
    // are evicted only where nothing is left.
    let scarce = json!({
        "memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%",
        "imagefs.available": "1%", "imagefs.inodesFree": "1%",
    });
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"x509": {"clientCAFile": dir.join("ca.crt")}},
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "resolvConf": dir.join("resolv.conf"),
        "cgroupRoot": cgroup,
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": false,
        "oomScoreAdj": 0,
        "evictionHard": scarce,
        "imageGCHighThresholdPercent": 100,
    });
    let path = dir.join("kubelet.yaml");
    file(&path, &config.to_string())?;
    Ok(path)
}

/// Writes kube-proxy's configuration and returns its path.
pub(super) fn proxy(node: &str, dir: &Path) -> Result<PathBuf, ClusterError> {
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": dir.join("kube-proxy.kubeconfig")},
        "hostnameOverride": node,
        "mode": "iptables",
        // A pod that reaches itself or its neighbour through a service gets its answer the same
        // way back, without the bridge's packets having to pass through iptables.
        "iptables": {"masqueradeAll": true},
        // The table of connections is the machine's, and its size not the node's to change.
        "conntrack": {
            "maxPerCore": 0, "min": 0,
            "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
        },
        "oomScoreAdj": 0,
    });
    let path = dir.join("kube-proxy.yaml");
    file(&path, &config.to_string())?;
    Ok(path)
}

fn file(path: &Path, text: &str) -> Result<(), ClusterError> {
    fs::write(path, text).map_err(ClusterError::io(format!("write {}", path.display())))
}
