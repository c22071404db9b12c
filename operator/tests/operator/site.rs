//! A namespace of a control plane with nodes of its own, and an operator that looks after it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_cluster::{ControlPlane, Gpus, Kwok, Namespace, NodeOptions, Options, condition};
use tokio::sync::{Mutex, OnceCell};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// What all tests share. It ends with the test's process.
static SHARED: OnceCell<Arc<Plane>> = OnceCell::const_new();

/// A control plane with the definitions, and fake nodes.
pub(crate) struct Plane {
    pub(crate) control: ControlPlane,
    kwok: Mutex<Kwok>,
}

impl Plane {
    pub(crate) async fn start() -> Arc<Self> {
        let control = ControlPlane::start(Options::default()).await.unwrap();
        let crds = format!("{}/../crds", env!("CARGO_MANIFEST_DIR"));
        control.kubectl(&["apply", "--server-side", "-f", &crds]).await.unwrap();
        let established = ["wait", "--for=condition=Established", "crd", "--all"];
        control.kubectl(&established).await.unwrap();
        let kwok = Mutex::new(Kwok::start(&control).await.unwrap());
        Arc::new(Self { control, kwok })
    }

    pub(crate) async fn shared() -> Arc<Self> {
        Arc::clone(SHARED.get_or_init(Self::start).await)
    }
}

/// One test's namespace, nodes and operators.
pub(crate) struct Site {
    pub(crate) plane: Arc<Plane>,
    pub(crate) name: String,
    /// What operators have in their environment beside the test's.
    pub(crate) environment: Vec<(&'static str, String)>,
    operators: Vec<Child>,
    logs: tempfile::TempDir,
}

impl Site {
    /// A namespace with nodes `NAME-0` and so on, which its islands select.
    pub(crate) async fn new(plane: Arc<Plane>, name: &str, gpus: &[Gpus]) -> Self {
        plane.control.kubectl(&["create", "namespace", name]).await.unwrap();
        let node = |(index, gpus): (usize, &Gpus)| {
            let mut node = NodeOptions::new(format!("{name}-{index}"), Some(gpus.clone()));
            node.labels.insert("test".into(), name.into());
            node
        };
        let nodes: Vec<NodeOptions> = gpus.iter().enumerate().map(node).collect();
        if !nodes.is_empty() {
            plane.kwok.lock().await.add_nodes(&plane.control, &nodes).await.unwrap();
        }
        let logs = tempfile::tempdir().unwrap();
        Self { plane, name: name.to_owned(), environment: Vec::new(), operators: Vec::new(), logs }
    }

    /// Starts an operator for the namespace; its index.
    pub(crate) fn operate(&mut self, arguments: &[&str], fault: Option<&str>) -> usize {
        let index = self.operators.len();
        let log = File::create(self.log(index)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_heteroloco-operator"));
        command
            .args(["--watch-namespace", &self.name, "--listen", "127.0.0.1:0", "--emulate"])
            .arg("--allow-host-path")
            .args(["--namespace", &self.name])
            .args(arguments)
            .env("KUBECONFIG", self.plane.control.kubeconfig())
            .env("RUST_LOG", "info,operator=debug")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(fault) = fault {
            command.env("HETEROLOCO_FAULT", fault);
        }
        self.operators.push(command.spawn().unwrap());
        index
    }

    fn log(&self, index: usize) -> PathBuf {
        self.logs.path().join(format!("operator-{index}.log"))
    }

    /// Kills an operator at once.
    pub(crate) fn kill(&mut self, index: usize) {
        self.operators[index].kill().unwrap();
        self.operators[index].wait().unwrap();
    }

    /// Asks an operator to end, and waits until it has.
    pub(crate) async fn stop(&mut self, index: usize) {
        let pid = self.operators[index].id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        self.ended(index).await;
    }

    /// Waits until an operator has ended by itself.
    pub(crate) async fn ended(&mut self, index: usize) {
        let begun = Instant::now();
        while self.operators[index].try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "{}", self.told());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether an operator has ended.
    pub(crate) fn has_ended(&mut self, index: usize) -> bool {
        self.operators[index].try_wait().unwrap().is_some()
    }

    /// What an operator said.
    pub(crate) fn said(&self, index: usize) -> String {
        fs::read_to_string(self.log(index)).unwrap_or_default()
    }

    fn told(&self) -> String {
        let all = (0..self.operators.len()).map(|index| {
            let said = self.said(index);
            let from = said.len().saturating_sub(6000);
            let from = (from..=said.len()).find(|at| said.is_char_boundary(*at)).unwrap_or(0);
            format!("--- operator {index}\n{}", &said[from..])
        });
        all.collect::<Vec<_>>().join("\n")
    }

    fn namespace(&self) -> Namespace<'_> {
        self.plane.control.namespace(&self.name)
    }

    /// Applies objects to the namespace.
    pub(crate) async fn apply(&self, objects: &[Value]) {
        self.try_apply(objects).await.unwrap();
    }

    /// The same, where it may be refused: then with what the API server says.
    pub(crate) async fn try_apply(&self, objects: &[Value]) -> Result<String, String> {
        self.namespace().apply(objects).await.map_err(|error| error.to_string())
    }

    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        self.namespace().kubectl(arguments).await.unwrap()
    }

    /// An object, or null where there is none.
    pub(crate) async fn get(&self, kind: &str, name: &str) -> Value {
        self.namespace().get(kind, name).await
    }

    /// All objects of a kind.
    pub(crate) async fn list(&self, kind: &str) -> Vec<Value> {
        self.namespace().list(kind).await
    }

    /// Names of the islands' pods that are not being deleted.
    pub(crate) async fn ranks(&self) -> Vec<String> {
        let pods = self.list("pods").await;
        let own = pods.iter().filter(|pod| {
            pod["metadata"]["labels"]["heteroloco.dev/island"].is_string()
                && pod["metadata"]["deletionTimestamp"].is_null()
        });
        own.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until an island's status is as wished; the island.
    pub(crate) async fn island(&self, name: &str, wish: impl Fn(&Value) -> bool) -> Value {
        self.wait("computeislands", name, wish).await
    }

    /// Waits until an object is as wished.
    pub(crate) async fn wait(
        &self,
        kind: &str,
        name: &str,
        wish: impl Fn(&Value) -> bool,
    ) -> Value {
        let waited = self.namespace().wait((kind, name), PATIENCE, wish).await;
        waited.unwrap_or_else(|object| {
            let status = serde_json::to_string_pretty(&object["status"]).unwrap();
            panic!("{kind} {name} never became as wished: {status}\n{}", self.told());
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for operator in &mut self.operators {
            // It may have ended already.
            let _ = operator.kill();
            let _ = operator.wait();
        }
    }
}

/// A run that needs little.
pub(crate) fn run(name: &str) -> Value {
    json!({
        "apiVersion": "heteroloco.dev/v1alpha1", "kind": "TrainingRun",
        "metadata": {"name": name},
        "spec": {
            "model": {"preset": "llama-demo"},
            "data": {"path": "/data", "volume": {"hostPath": "/tmp"}},
            "tokens": 1_000_000,
        },
    })
}

/// An island that may use so many cards of the namespace's nodes.
pub(crate) fn island(site: &Site, name: &str, product: &str, count: Value) -> Value {
    json!({
        "apiVersion": "heteroloco.dev/v1alpha1", "kind": "ComputeIsland",
        "metadata": {"name": name},
        "spec": {
            "runRef": {"name": "mini"},
            "devices": [{"product": product, "count": count}],
            "nodeSelector": {"matchLabels": {"test": site.name}},
        },
    })
}

/// A pod of somebody else, which holds cards of a node.
pub(crate) fn foreign(name: &str, node: &str, cards: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"nodeName": node, "tolerations": [{"operator": "Exists"}], "containers": [{
            "name": "main", "image": "none", "resources": {"limits": {"nvidia.com/gpu": cards}},
        }]},
    })
}

/// Whether an island's plan is in a phase.
pub(crate) fn is(phase: &'static str) -> impl Fn(&Value) -> bool {
    move |island| island["status"]["plan"]["phase"] == phase
}

/// A condition's reason.
pub(crate) fn reason<'a>(object: &'a Value, kind: &str) -> &'a str {
    condition(object, kind)["reason"].as_str().unwrap_or_default()
}

/// A condition's message.
pub(crate) fn message<'a>(object: &'a Value, kind: &str) -> &'a str {
    condition(object, kind)["message"].as_str().unwrap_or_default()
}
