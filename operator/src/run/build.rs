//! The objects of a run, complete.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use api::names::{self, COORDINATOR};
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
use crate::record::{self, Record};

/// The key of what a coordinator is told, and the file that it becomes.
const SPEC: &str = "coordinator.json";
const SPEC_FOLDER: &str = "/etc/heteroloco";
const STORE_FOLDER: &str = "/var/lib/heteroloco";
/// Port of a coordinator's members.
const PORT: u16 = 7070;
/// Port of a coordinator's metrics.
const METRICS_PORT: u16 = 9090;
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

/// Where members reach a coordinator, `http://host:port`, once its Service has an address.
pub(super) fn address(service: &Service) -> Option<String> {
    let spec = service.spec.as_ref()?;
    let ip = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty())?;
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    Some(format!("http://{host}:{PORT}"))
}

fn object<T: DeserializeOwned>(
    run: &TrainingRun,
    name: &str,
    rest: Value,
) -> Result<T, serde_json::Error> {
    let mut value = json!({"metadata": {
        "name": name,
        "namespace": run.namespace(),
        "labels": names::labels(COORDINATOR, &run.name_any()),
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
    let labels = names::labels(COORDINATOR, &run.name_any());
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
        listen: format!("0.0.0.0:{PORT}"),
        store: Path::new(STORE_FOLDER).join(STORE),
        metrics: Some(format!("0.0.0.0:{METRICS_PORT}")),
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
                {"name": "grpc", "port": PORT, "targetPort": "grpc"},
                {"name": "metrics", "port": METRICS_PORT, "targetPort": "metrics"},
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
            "name": COORDINATOR,
            "image": args.coordinator_image,
            // Its last words, such as that its volume is full, are then in the pod's status.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "imagePullPolicy": args.image_pull_policy,
            "command": ["heteroloco-coordinator"],
            "args": ["--spec", format!("{SPEC_FOLDER}/{SPEC}")],
            "ports": [
                {"name": "grpc", "containerPort": PORT},
                {"name": "metrics", "containerPort": METRICS_PORT},
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::island::examples::{args, record, run};

    fn made(islands: usize) -> Coordinator {
        let run = run();
        let request = crate::run::request(&run, &args()).expect("a run");
        coordinator(&run, &request, &record(), islands, &args()).expect("objects")
    }

    fn told(objects: &Coordinator) -> CoordinatorSpec {
        let text = objects.config.data.as_ref().and_then(|data| data.get(SPEC)).expect("a spec");
        serde_json::from_str(text).expect("what a coordinator is told")
    }

    #[test]
    fn golden_deployment_of_a_coordinator() {
        let file = "src/run/build/golden/deployment.yaml";
        crate::golden::check(&made(2).deployment, file);
    }

    #[test]
    fn a_coordinator_s_objects_find_each_other() {
        let objects = made(2);
        let json = |value: serde_json::Result<Value>| value.expect("a plain object");
        let deployment = json(serde_json::to_value(&objects.deployment));
        let service = json(serde_json::to_value(&objects.service));
        let pod = &deployment["spec"]["template"];
        assert_eq!(service["spec"]["selector"], pod["metadata"]["labels"]);
        assert_eq!(deployment["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"]);
        let volumes = &pod["spec"]["volumes"];
        let name = |object: &Value| object["metadata"]["name"].clone();
        assert_eq!(
            volumes[0]["configMap"]["name"],
            name(&json(serde_json::to_value(&objects.config)))
        );
        assert_eq!(
            volumes[1]["persistentVolumeClaim"]["claimName"],
            name(&json(serde_json::to_value(&objects.claim)))
        );
        let ports = pod["spec"]["containers"][0]["ports"].as_array().expect("ports");
        for port in service["spec"]["ports"].as_array().expect("ports") {
            let target = ports.iter().find(|it| it["name"] == port["targetPort"]);
            let target = target.expect("a port of the container");
            assert_eq!(target["containerPort"], port["port"], "{port}");
        }
        let (listen, metrics) = (told(&objects).listen, told(&objects).metrics);
        assert_eq!((listen.as_str(), metrics.as_deref()), ("0.0.0.0:7070", Some("0.0.0.0:9090")));
    }

    #[test]
    fn a_change_of_what_is_made_is_known_by_the_hash() {
        assert_eq!(made(2).hash(), made(2).hash());
        assert_ne!(made(2).hash(), made(3).hash(), "the rules follow from the number of islands");
        assert_eq!(told(&made(0)).run, told(&made(1)).run, "of none it is one's rules");
    }

    #[test]
    fn members_reach_a_coordinator_at_its_service() {
        let at = |ip: Option<&str>| {
            let spec = json!({"spec": {"clusterIP": ip}});
            address(&serde_json::from_value(spec).expect("a Service"))
        };
        assert_eq!(at(Some("10.0.0.1")).as_deref(), Some("http://10.0.0.1:7070"));
        assert_eq!(at(Some("fd00::1")).as_deref(), Some("http://[fd00::1]:7070"));
        assert_eq!((at(Some("")), at(None)), (None, None));
    }
}
