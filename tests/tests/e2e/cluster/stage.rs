//! A cluster of two nodes with the project's images, and what a run needs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use test_cluster::{Cluster, Image, Namespace, Recipe, build_image, gpu_nodes};

/// Longest wait for anything; only a defect reaches it.
const PATIENCE: Duration = Duration::from_secs(600);
const RELEASE: &str = "heteroloco";
/// The namespace of the run.
const NAMESPACE: &str = "ml";

/// A cluster, and a folder that its nodes share.
pub(super) struct Stage {
    cluster: Cluster,
    /// The disk that the coordinator's volume is on.
    disk: Disk,
    folder: tempfile::TempDir,
}

/// A small file system, which can be full.
struct Disk(PathBuf);

impl Disk {
    const BYTES: usize = 16 << 20;

    fn mount(folder: PathBuf) -> Self {
        let options = format!("size={},mode=777", Self::BYTES);
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&folder);
        assert!(mount.status().unwrap().success());
        Self(folder)
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a pod that has not ended yet may have it open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

impl Stage {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Pods are no root.
        open(folder.path());
        let images = images(folder.path()).await;
        for name in ["checkpoints", "coordinator"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            open(&folder.path().join(name));
        }
        // Nodes see what is mounted before they start.
        let disk = Disk::mount(folder.path().join("coordinator"));
        let cluster = Cluster::start(None, gpu_nodes(2)).await.unwrap();
        for node in &cluster.nodes {
            for image in &images {
                node.load_image(image).await.unwrap();
            }
        }
        let source = e2e::root().join("plan/src");
        let prepared = Command::new(e2e::program("heteroloco"))
            .args(["data", "prepare", "--tokenizer", "byte", "--validation", "5%", "--out"])
            .arg(folder.path().join("corpus"))
            .arg("--input")
            .arg(source)
            .output()
            .unwrap();
        assert!(prepared.status.success(), "{prepared:?}");
        open(&folder.path().join("corpus"));
        cluster.plane.kubectl(&["create", "namespace", NAMESPACE]).await.unwrap();
        Self { cluster, disk, folder }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Takes all the room of the coordinator's volume.
    pub(super) fn fill_disk(&self) {
        let full = fs::write(self.disk.ballast(), vec![0; Disk::BYTES + 1]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    }

    pub(super) fn empty_disk(&self) {
        fs::remove_file(self.disk.ballast()).unwrap();
    }

    /// Installs the chart as it stands in the tree, with rights in the run's namespace alone, and
    /// with an image of workers that nobody has.
    pub(super) async fn install(&self) {
        self.helm("install", &format!("watchNamespaces={{{NAMESPACE}}}"), "absent").await;
    }

    /// The same with the right image.
    pub(super) async fn mend(&self) {
        self.helm("upgrade", &format!("watchNamespaces={{{NAMESPACE}}}"), "test").await;
    }

    /// The same for all namespaces, so that the operator starts anew.
    pub(super) async fn upgrade(&self) {
        self.helm("upgrade", "watchNamespaces=null", "test").await;
    }

    async fn helm(&self, command: &str, places: &str, worker: &str) {
        let worker = format!("worker.cpuImage.tag={worker}");
        let chart = e2e::root().join("charts/heteroloco");
        let values = [
            "image.repository=localhost/heteroloco",
            "image.tag=test",
            "worker.cpuImage.repository=localhost/heteroloco-worker",
            worker.as_str(),
            "emulate=true",
            "allowHostPath=true",
            places,
        ];
        let chart = chart.to_str().unwrap();
        let mut arguments =
            vec![command, RELEASE, chart, "--namespace", RELEASE, "--wait", "--timeout", "5m"];
        if command == "install" {
            arguments.push("--create-namespace");
        }
        for value in values {
            arguments.extend(["--set", value]);
        }
        self.cluster.plane.helm(&arguments).await.unwrap();
    }

    pub(super) async fn uninstall(&self) {
        let arguments = ["uninstall", RELEASE, "--namespace", RELEASE, "--wait"];
        self.cluster.plane.helm(&arguments).await.unwrap();
    }

    /// A run of a small model, and the volume of its coordinator.
    pub(super) fn run(&self, name: &str, tokens: u64) -> [Value; 2] {
        let folder = |name: &str| json!({"hostPath": self.path(name)});
        [
            json!({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "coordinator"},
                "spec": {
                    "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "test",
                    "hostPath": {"path": self.path("coordinator")},
                },
            }),
            json!({
                "apiVersion": "heteroloco.dev/v1alpha1", "kind": "TrainingRun",
                "metadata": {"name": name},
                "spec": {
                    "model": {"preset": "llama-demo"},
                    "data": {"path": "/data", "volume": folder("corpus")},
                    "tokens": tokens,
                    // So many that two cards are worth more than one to the planner.
                    "batch": {"sequences": 32},
                    "optimizer": {"learningRate": "2e-3", "warmupSteps": 20},
                    "sparseLoCo": {"innerSteps": 4},
                    "rounds": {"quorum": "50%", "grace": "20s", "deadline": "5m"},
                    "evaluation": {"everyRounds": 1000, "sequences": 8},
                    "checkpoint": {
                        "path": "/checkpoints", "everyRounds": 5, "volume": folder("checkpoints"),
                    },
                    "coordinator": {"storage": "1Gi", "storageClassName": "test"},
                },
            }),
        ]
    }

    /// Somebody's ordinary pod that needs so many cards of the second node.
    pub(super) fn colleague(&self, cards: u32) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "colleague"},
            "spec": {
                "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-GeForce-RTX-4090"},
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main", "image": "localhost/heteroloco:test",
                    "imagePullPolicy": "Never", "command": ["sleep", "infinity"],
                    "resources": {"limits": {"nvidia.com/gpu": cards}},
                }],
            },
        })
    }

    fn namespace(&self) -> Namespace<'_> {
        self.cluster.plane.namespace(NAMESPACE)
    }

    pub(super) async fn apply(&self, objects: &[Value]) {
        self.namespace().apply(objects).await.unwrap();
    }

    pub(super) async fn kubectl(&self, arguments: &[&str]) -> String {
        self.namespace().kubectl(arguments).await.unwrap()
    }

    /// An object, or null where there is none.
    pub(super) async fn get(&self, kind: &str, name: &str) -> Value {
        self.namespace().get(kind, name).await
    }

    /// Waits until an object is as wished.
    pub(super) async fn wait(
        &self,
        kind: &str,
        name: &str,
        wish: impl Fn(&Value) -> bool,
    ) -> Value {
        match self.namespace().wait((kind, name), PATIENCE, wish).await {
            Ok(object) => object,
            Err(object) => {
                panic!("{kind} {name} never became as wished: {object}\n{}", self.told().await)
            }
        }
    }

    /// The state of the cluster, for when something went wrong.
    async fn told(&self) -> String {
        let mut text = String::new();
        for arguments in [
            &["get", "pods", "-A", "-o", "wide"][..],
            &["-n", NAMESPACE, "get", "events"],
            &["-n", RELEASE, "logs", "deployment/heteroloco", "--tail=100"],
            &["-n", NAMESPACE, "logs", "deployment/mini-coordinator", "--tail=30"],
        ] {
            let said = self.cluster.plane.kubectl(arguments).await;
            text += &said.unwrap_or_else(|error| error.to_string());
            text.push('\n');
        }
        text
    }
}

/// Lets everybody read, write and enter a folder and what is in it.
fn open(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
}

/// The project's images, of the programs that were built with the tests.
async fn images(folder: &Path) -> [Image; 2] {
    let root = e2e::root();
    let context = folder.join("image");
    let programs = context.join("target/release");
    fs::create_dir_all(&programs).unwrap();
    fs::copy(root.join("LICENSE"), context.join("LICENSE")).unwrap();
    let ours = ["heteroloco", "heteroloco-coordinator", "heteroloco-operator", "heteroloco-worker"];
    for name in ours.into_iter().chain(["kubectl-island"]) {
        fs::copy(e2e::program(name), programs.join(name)).unwrap();
    }
    let libtorch = std::env::var_os("LIBTORCH").expect("LIBTORCH is set by `make test`");
    let contexts = [("libtorch", Path::new(&libtorch))];
    let build = async |file: &str, tag: &str| {
        let dockerfile = root.join("docker").join(file);
        let recipe = Recipe {
            target: Some("prebuilt"),
            contexts: &contexts,
            ..Recipe::new(&dockerfile, &context)
        };
        build_image(recipe, tag).await.unwrap()
    };
    let images = [
        build("operator.Dockerfile", "localhost/heteroloco:test").await,
        build("worker-cpu.Dockerfile", "localhost/heteroloco-worker:test").await,
    ];
    fs::remove_dir_all(&context).unwrap();
    images
}
