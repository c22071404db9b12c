//! The objects of an island's epoch, complete.

use std::collections::BTreeMap;

use api::island::{ComputeIsland, IdlePolicy};
use api::run::{TrainingRun, Volume};
use contract::worker::{ENVIRONMENT, WorkerSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use plan::spec::IslandSpec;
use serde_json::{Value, json};

use super::planned;
use crate::args::Args;
use crate::names::{self, EPOCH, GPU, ISLAND, QUEUE, RANK, WORKER_METRICS_PORT};
use crate::record::Record;

/// The key of what ranks are told, and the file that it becomes.
const SPEC: &str = "spec.json";
/// Where the file is in a pod.
const SPEC_FOLDER: &str = "/etc/heteroloco";
/// Where checkpoints are in a pod, where the run does not say it.
const CHECKPOINTS: &str = "/checkpoints";
/// How long a rank that is asked to end may take: a commit and a checkpoint.
const LEAVE_SECONDS: i64 = 120;
/// How long a node may be silent until its ranks are given up. The others lost the round with them.
const SILENT_SECONDS: i64 = 60;
/// The user that ranks run as.
const USER: i64 = 65_532;

/// What an epoch's objects are made of.
pub(crate) struct Epoch<'a> {
    pub island: &'a ComputeIsland,
    pub run: &'a TrainingRun,
    pub spec: &'a IslandSpec,
    pub args: &'a Args,
}

impl Epoch<'_> {
    fn island_name(&self) -> &str {
        self.island.metadata.name.as_deref().unwrap_or_default()
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = names::labels("worker", &self.island.spec.run_ref.name);
        labels.insert(ISLAND.into(), names::label(self.island_name()));
        labels
    }

    /// What all ranks of the epoch are told.
    pub(crate) fn config(
        &self,
        record: &Record,
        coordinator: &str,
    ) -> Result<ConfigMap, serde_json::Error> {
        let folder = self.run.spec.checkpoint.path.as_deref().unwrap_or(CHECKPOINTS);
        let spec = WorkerSpec {
            run: record.run.clone(),
            island: self.spec.clone(),
            coordinator: coordinator.to_owned(),
            // Ranks are told their pod's address by --host.
            listen: "0.0.0.0:0".into(),
            collective_listen: "0.0.0.0:0".into(),
            metrics: Some(format!("0.0.0.0:{WORKER_METRICS_PORT}")),
            checkpoint_dir: format!("{folder}/{}", self.island_name()).into(),
        };
        let mut config = ConfigMap {
            data: Some([(SPEC.to_owned(), serde_json::to_string(&spec)?)].into()),
            ..ConfigMap::default()
        };
        config.metadata.name = Some(names::plan(self.island_name(), self.spec.epoch));
        config.metadata.namespace.clone_from(&self.island.metadata.namespace);
        config.metadata.labels = Some(self.labels());
        config.metadata.owner_references = Some(owners(self.island));
        Ok(config)
    }

    /// The pod of a rank.
    ///
    /// # Errors
    /// When what is made is no pod: a defect.
    pub(crate) fn pod(&self, rank: u32) -> Result<Pod, serde_json::Error> {
        let spec = &self.island.spec;
        let own = &self.spec.ranks[rank as usize];
        let mut labels = self.labels();
        labels.insert(EPOCH.into(), self.spec.epoch.to_string());
        labels.insert(RANK.into(), rank.to_string());
        let queue = self.island.metadata.labels.as_ref().and_then(|labels| labels.get(QUEUE));
        if let Some(queue) = queue {
            labels.insert(QUEUE.into(), queue.clone());
        }
        let harvests = spec.idle.as_ref().is_some_and(|idle| idle.policy == IdlePolicy::Harvest);
        let priority = self.args.harvest_priority_class.as_ref().filter(|_| harvests);
        serde_json::from_value(json!({
            "metadata": {
                "name": names::pod(self.island_name(), self.spec.epoch, rank as usize),
                "namespace": self.island.metadata.namespace,
                "labels": labels,
                "ownerReferences": owners(self.island),
            },
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": LEAVE_SECONDS,
                "priorityClassName": priority,
                "imagePullSecrets": secrets(self.args),
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                    "fsGroupChangePolicy": "OnRootMismatch",
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                // Not spec.nodeName: the scheduler has to know of it, for priority and preemption.
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchFields": [
                        {"key": "metadata.name", "operator": "In", "values": [own.node]},
                    ]}],
                }}},
                "tolerations": tolerations(self.island),
                "containers": [self.container(rank)],
                "volumes": self.volumes(),
            },
        }))
    }

    fn container(&self, rank: u32) -> Value {
        let on_gpu = planned::on_gpu(self.spec);
        let image = if on_gpu { &self.args.worker_image } else { &self.args.worker_cpu_image };
        let cards = self.spec.ranks[rank as usize].devices.len().to_string();
        let mut environment: Vec<Value> =
            ENVIRONMENT.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let address = json!({"fieldRef": {"fieldPath": "status.podIP"}});
        environment.push(json!({"name": "POD_IP", "valueFrom": address}));
        json!({
            "name": "worker",
            "image": image,
            "imagePullPolicy": self.args.image_pull_policy,
            "command": ["heteroloco-worker"],
            "args": [
                "--spec", format!("{SPEC_FOLDER}/{SPEC}"), "--rank", rank.to_string(),
                "--host", "$(POD_IP)", "--termination-log", "/dev/termination-log", "--resume",
            ],
            "env": environment,
            "ports": [{"name": "metrics", "containerPort": WORKER_METRICS_PORT}],
            "resources": {"limits": {GPU: cards}},
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": self.mounts(),
        })
    }

    fn mounts(&self) -> Vec<Value> {
        let run = &self.run.spec;
        let sub_path =
            |volume: &Option<Volume>| volume.as_ref().and_then(|volume| volume.sub_path.clone());
        let checkpoints = run.checkpoint.path.as_deref().unwrap_or(CHECKPOINTS);
        vec![
            json!({"name": "spec", "mountPath": SPEC_FOLDER, "readOnly": true}),
            json!({"name": "tmp", "mountPath": "/tmp"}),
            json!({
                "name": "data", "mountPath": run.data.path, "readOnly": true,
                "subPath": sub_path(&run.data.volume),
            }),
            json!({
                "name": "checkpoints", "mountPath": checkpoints,
                "subPath": sub_path(&run.checkpoint.volume),
            }),
        ]
    }

    fn volumes(&self) -> Vec<Value> {
        let run = &self.run.spec;
        let mut data = volume("data", run.data.volume.as_ref());
        if let Some(claim) = data.get_mut("persistentVolumeClaim") {
            claim["readOnly"] = true.into();
        }
        vec![
            json!({"name": "spec", "configMap": {
                "name": names::plan(self.island_name(), self.spec.epoch),
            }}),
            json!({"name": "tmp", "emptyDir": {}}),
            data,
            volume("checkpoints", run.checkpoint.volume.as_ref()),
        ]
    }

    /// No more than one rank of a dedicated island is evicted at a time: that ends the epoch, so
    /// that the others are deleted in order. (Of pods whose owner cannot be scaled, Kubernetes
    /// counts only what has to be left.)
    pub(crate) fn budget(&self) -> Option<PodDisruptionBudget> {
        let harvests = |idle: &api::island::Idle| idle.policy == IdlePolicy::Harvest;
        let left = self.spec.ranks.len().saturating_sub(1);
        if left == 0 || self.island.spec.idle.as_ref().is_some_and(harvests) {
            return None;
        }
        let budget = json!({
            "metadata": {
                "name": self.island_name(),
                "namespace": self.island.metadata.namespace,
                "labels": self.labels(),
                "ownerReferences": owners(self.island),
            },
            "spec": {"minAvailable": left, "selector": {"matchLabels": self.labels()}},
        });
        serde_json::from_value(budget).ok()
    }
}

/// What the ranks were told, from its epoch's ConfigMap.
pub(crate) fn read(config: &ConfigMap) -> Result<WorkerSpec, String> {
    let text = config.data.as_ref().and_then(|data| data.get(SPEC));
    let text = text.ok_or_else(|| format!("it has no key {SPEC}"))?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn volume(name: &str, volume: Option<&Volume>) -> Value {
    match volume {
        Some(Volume { claim_name: Some(claim), .. }) => {
            json!({"name": name, "persistentVolumeClaim": {"claimName": claim}})
        }
        Some(Volume { host_path: Some(path), .. }) => {
            json!({"name": name, "hostPath": {"path": path, "type": "Directory"}})
        }
        _ => json!({"name": name, "emptyDir": {}}),
    }
}

fn tolerations(island: &ComputeIsland) -> Vec<Value> {
    let mut all: Vec<Value> = vec![json!({"key": GPU, "operator": "Exists"})];
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        if !island.spec.tolerations.iter().any(|it| it.tolerates(key, "", "NoExecute")) {
            all.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": SILENT_SECONDS,
            }));
        }
    }
    // A list of plain objects.
    all.extend(island.spec.tolerations.iter().filter_map(|it| serde_json::to_value(it).ok()));
    all
}

/// References to the secrets with which images are pulled.
pub(crate) fn secrets(args: &Args) -> Vec<Value> {
    let given = args.image_pull_secret.iter().filter(|name| !name.is_empty());
    given.map(|name| json!({"name": name})).collect()
}

/// What is deleted with its owner.
pub(crate) fn owners<K: Resource<DynamicType = ()>>(owner: &K) -> Vec<OwnerReference> {
    owner.controller_owner_ref(&()).into_iter().collect()
}
