//! The objects of a run, complete.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use api::run::TrainingRun;
use contract::coordinator::{CoordinatorSpec, STORE};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service};
use kube::ResourceExt;
use plan::request::RunRequest;
use rounds::config::{MEMBERS_MAX, Planned};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::args::Args;
use crate::island::{owners, secrets};
use crate::names::{self, COORDINATOR_METRICS_PORT, COORDINATOR_PORT};
use crate::record::{self, Record};

/// The key of what a coordinator is told, and the file that it becomes.
const SPEC: &str = "coordinator.json";
const SPEC_FOLDER: &str = "/etc/heteroloco";
const STORE_FOLDER: &str = "/var/lib/heteroloco";
/// The user that coordinators run as.
const USER: i64 = 65_532;

/// A coordinator's objects.
pub(super) struct Coordinator {
    pub config: ConfigMap,
    pub claim: PersistentVolumeClaim,
    pub service: Service,
    pub deployment: Deployment,
}

impl Coordinator {
    /// A hash of all of them, by which a change is known.
    pub(super) fn hash(&self) -> u64 {
        let Self { config, claim, service, deployment } = self;
        let mut hasher = DefaultHasher::new();
        // Plain objects always have a text.
        serde_json::to_string(&(config, claim, service, deployment))
            .unwrap_or_default()
            .hash(&mut hasher);
        hasher.finish()
    }
}

fn object<T: DeserializeOwned>(
    run: &TrainingRun,
    name: &str,
    rest: Value,
) -> Result<T, serde_json::Error> {
    let mut value = json!({"metadata": {
        "name": name,
        "namespace": run.namespace(),
        "labels": names::labels("coordinator", &run.name_any()),
        "ownerReferences": owners(run),
    }});
    if let (Value::Object(all), Value::Object(rest)) = (&mut value, rest) {
        all.extend(rest);
    }
    serde_json::from_value(value)
}

/// The ConfigMap with a run's record.
pub(super) fn record(run: &TrainingRun, record: &Record) -> Result<ConfigMap, serde_json::Error> {
    let text = serde_json::to_string(record)?;
    object(run, &names::record(&run.name_any()), json!({"data": {record::KEY: text}}))
}

/// The coordinator of a run that begins with so many islands.
pub(super) fn coordinator(
    run: &TrainingRun,
    request: &RunRequest,
    record: &Record,
    islands: usize,
    args: &Args,
) -> Result<Coordinator, serde_json::Error> {
    let name = names::coordinator(&run.name_any());
    let labels = names::labels("coordinator", &run.name_any());
    let rules = Planned {
        name: run.name_any(),
        islands: u32::try_from(islands).unwrap_or(MEMBERS_MAX).max(1),
        quorum_percent: request.rounds.quorum_percent,
        grace: request.rounds.grace,
        deadline: request.rounds.deadline,
        go_back: request.rounds.go_back,
        // Uplinks are measured by the exchanges themselves; the least deadline is generous.
        exchange_seconds: 0.0,
        tokens: record.run.tokens,
    };
    let spec = CoordinatorSpec {
        listen: format!("0.0.0.0:{COORDINATOR_PORT}"),
        store: Path::new(STORE_FOLDER).join(STORE),
        metrics: Some(format!("0.0.0.0:{COORDINATOR_METRICS_PORT}")),
        run: rules.rules(),
        adopt: None,
    };
    let storage = &run.spec.coordinator;
    Ok(Coordinator {
        config: object(run, &name, json!({"data": {SPEC: serde_json::to_string(&spec)?}}))?,
        claim: object(
            run,
            &name,
            json!({"spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": storage.storage_class_name,
                "resources": {"requests": {"storage": storage.storage}},
            }}),
        )?,
        service: object(
            run,
            &name,
            json!({"spec": {"selector": labels, "ports": [
                {"name": "grpc", "port": COORDINATOR_PORT, "targetPort": "grpc"},
                {"name": "metrics", "port": COORDINATOR_METRICS_PORT, "targetPort": "metrics"},
            ]}}),
        )?,
        deployment: object(
            run,
            &name,
            json!({"spec": {
                "replicas": 1,
                // Its store is one process's.
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod(&name, args)},
            }}),
        )?,
    })
}

fn pod(name: &str, args: &Args) -> Value {
    json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 30,
        "imagePullSecrets": secrets(args),
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{
            "name": "coordinator",
            "image": args.coordinator_image,
            // Its last words, such as that its volume is full, are then in the pod's status.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "imagePullPolicy": args.image_pull_policy,
            "command": ["heteroloco-coordinator"],
            "args": ["--spec", format!("{SPEC_FOLDER}/{SPEC}")],
            "ports": [
                {"name": "grpc", "containerPort": COORDINATOR_PORT},
                {"name": "metrics", "containerPort": COORDINATOR_METRICS_PORT},
            ],
            "readinessProbe": {"tcpSocket": {"port": "grpc"}, "periodSeconds": 2},
            "livenessProbe": {
                "httpGet": {"path": "/healthz", "port": "metrics"}, "periodSeconds": 20,
            },
            "resources": {
                "requests": {"cpu": "50m", "memory": "64Mi"},
                "limits": {"memory": "512Mi"},
            },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "spec", "mountPath": SPEC_FOLDER, "readOnly": true},
                {"name": "store", "mountPath": STORE_FOLDER},
            ],
        }],
        "volumes": [
            {"name": "spec", "configMap": {"name": name}},
            {"name": "store", "persistentVolumeClaim": {"claimName": name}},
        ],
    })
}
