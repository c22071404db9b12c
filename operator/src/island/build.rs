//! The objects of an island's epoch, complete and all at once.

use std::collections::BTreeMap;

use api::island::{ComputeIsland, IdlePolicy};
use api::names::{self, EPOCH, GPU, ISLAND, QUEUE, RANK, WORKER};
use api::run::{TrainingRun, Volume};
use contract::worker::{ENVIRONMENT, WorkerSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use plan::spec::{IslandSpec, RankSpec};
use serde_json::{Value, json};

use super::planned;
use crate::args::Args;
use crate::record::Record;

/// The key of what ranks are told, and the file that it becomes.
const SPEC: &str = "spec.json";
/// Where the file is in a pod.
const SPEC_FOLDER: &str = "/etc/heteroloco";
/// Where checkpoints are in a pod, where the run does not say it.
const CHECKPOINTS: &str = "/checkpoints";
/// Port of a rank's metrics.
const METRICS_PORT: u16 = 9090;
/// How long a rank that is asked to end may take: a commit and a checkpoint.
const LEAVE_SECONDS: i64 = 120;
/// How long a node may be silent until its ranks are given up. The others lost the round with them.
const SILENT_SECONDS: i64 = 60;
/// The user that ranks run as.
const USER: i64 = 65_532;

/// All objects of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Objects {
    /// What all its ranks are told.
    pub config: ConfigMap,
    /// How many ranks may be evicted at a time; absent where nothing holds them back.
    pub budget: Option<PodDisruptionBudget>,
    /// One for each rank, in their order.
    pub pods: Vec<Pod>,
    /// The name of the last epoch's ConfigMap, which these take the place of.
    pub last_config: Option<String>,
}

/// What the ranks of an epoch are told.
pub(crate) fn told(
    run: &TrainingRun,
    island: IslandSpec,
    record: &Record,
    coordinator: &str,
) -> WorkerSpec {
    WorkerSpec {
        run: record.run.clone(),
        checkpoint_dir: format!("{}/{}", checkpoints(run), island.name).into(),
        island,
        coordinator: coordinator.to_owned(),
        // Ranks are told their pod's address by --host.
        listen: "0.0.0.0:0".into(),
        collective_listen: "0.0.0.0:0".into(),
        metrics: Some(format!("0.0.0.0:{METRICS_PORT}")),
    }
}

/// The objects of the epoch whose ranks are told so.
///
/// # Errors
/// When what is made is no such object: a defect.
pub(crate) fn objects(
    island: &ComputeIsland,
    run: &TrainingRun,
    told: &WorkerSpec,
    args: &Args,
) -> Result<Objects, serde_json::Error> {
    let epoch = Epoch { island, run, spec: &told.island, args };
    let ranks = told.island.ranks.iter().enumerate();
    let last = told.island.epoch.checked_sub(1).filter(|last| *last > 0);
    Ok(Objects {
        config: epoch.config(told)?,
        budget: epoch.budget()?,
        pods: ranks.map(|(at, rank)| epoch.pod(at, rank)).collect::<Result<_, _>>()?,
        last_config: last.map(|last| names::plan(epoch.island_name(), last)),
    })
}

/// Where a run's checkpoints are in a pod.
fn checkpoints(run: &TrainingRun) -> &str {
    run.spec.checkpoint.path.as_deref().unwrap_or(CHECKPOINTS)
}

/// What an epoch's objects are made of.
struct Epoch<'a> {
    island: &'a ComputeIsland,
    run: &'a TrainingRun,
    spec: &'a IslandSpec,
    args: &'a Args,
}

impl Epoch<'_> {
    fn island_name(&self) -> &str {
        self.island.metadata.name.as_deref().unwrap_or_default()
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = names::labels(WORKER, &self.island.spec.run_ref.name);
        labels.insert(ISLAND.into(), names::label(self.island_name()));
        labels
    }

    fn harvests(&self) -> bool {
        let idle = self.island.spec.idle.as_ref();
        idle.is_some_and(|idle| idle.policy == IdlePolicy::Harvest)
    }

    fn config(&self, told: &WorkerSpec) -> Result<ConfigMap, serde_json::Error> {
        let mut config = ConfigMap {
            data: Some([(SPEC.to_owned(), serde_json::to_string(told)?)].into()),
            ..ConfigMap::default()
        };
        config.metadata.name = Some(names::plan(self.island_name(), self.spec.epoch));
        config.metadata.namespace.clone_from(&self.island.metadata.namespace);
        config.metadata.labels = Some(self.labels());
        config.metadata.owner_references = Some(owners(self.island));
        Ok(config)
    }

    /// The pod of a rank.
    fn pod(&self, at: usize, rank: &RankSpec) -> Result<Pod, serde_json::Error> {
        let mut labels = self.labels();
        labels.insert(EPOCH.into(), self.spec.epoch.to_string());
        labels.insert(RANK.into(), at.to_string());
        let queue = self.island.metadata.labels.as_ref().and_then(|labels| labels.get(QUEUE));
        if let Some(queue) = queue {
            labels.insert(QUEUE.into(), queue.clone());
        }
        let priority = self.args.harvest_priority_class.as_ref().filter(|_| self.harvests());
        serde_json::from_value(json!({
            "metadata": {
                "name": names::pod(self.island_name(), self.spec.epoch, at),
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
                        {"key": "metadata.name", "operator": "In", "values": [rank.node]},
                    ]}],
                }}},
                "tolerations": tolerations(self.island),
                "containers": [self.container(at, rank)],
                "volumes": self.volumes(),
            },
        }))
    }

    fn container(&self, at: usize, rank: &RankSpec) -> Value {
        let on_gpu = planned::on_gpu(self.spec);
        let image = if on_gpu { &self.args.worker_image } else { &self.args.worker_cpu_image };
        let cards = rank.devices.len().to_string();
        let mut environment: Vec<Value> =
            ENVIRONMENT.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let address = json!({"fieldRef": {"fieldPath": "status.podIP"}});
        environment.push(json!({"name": "POD_IP", "valueFrom": address}));
        json!({
            "name": WORKER,
            "image": image,
            "imagePullPolicy": self.args.image_pull_policy,
            "command": ["heteroloco-worker"],
            "args": [
                "--spec", format!("{SPEC_FOLDER}/{SPEC}"), "--rank", at.to_string(),
                "--host", "$(POD_IP)", "--termination-log", "/dev/termination-log", "--resume",
            ],
            "env": environment,
            "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
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
        vec![
            json!({"name": "spec", "mountPath": SPEC_FOLDER, "readOnly": true}),
            json!({"name": "tmp", "mountPath": "/tmp"}),
            json!({
                "name": "data", "mountPath": run.data.path, "readOnly": true,
                "subPath": sub_path(&run.data.volume),
            }),
            json!({
                "name": "checkpoints", "mountPath": checkpoints(self.run),
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
    fn budget(&self) -> Result<Option<PodDisruptionBudget>, serde_json::Error> {
        let left = self.spec.ranks.len().saturating_sub(1);
        if left == 0 || self.harvests() {
            return Ok(None);
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
        serde_json::from_value(budget).map(Some)
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

#[cfg(test)]
mod tests;
