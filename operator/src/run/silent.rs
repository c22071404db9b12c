//! Why a coordinator is silent, as its pod says.

use api::names::{self, Key};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use crate::context::Context;
use crate::inventory;

/// Characters of a program's last line that are told.
const LINE_MAX: usize = 500;

/// A clause on the run's coordinator; absent where its pods tell nothing.
pub(super) async fn why(context: &Context, key: &Key) -> Option<String> {
    let labels = names::labels(names::COORDINATOR, &key.name);
    let selector: Vec<String> =
        labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    // What was evicted stays for a while; its deployment has another by then.
    let wanted = ListParams::default().labels(&selector.join(",")).fields("status.phase!=Failed");
    let pods = Api::<Pod>::namespaced(context.client.clone(), &key.namespace);
    // It is silent in any case; why is only told where that is known.
    let pods = pods.list(&wanted).await.ok()?;
    let newest = pods.items.into_iter().max_by_key(|pod| pod.creation_timestamp().map(|at| at.0));
    newest.as_ref().and_then(of_pod)
}

fn of_pod(pod: &Pod) -> Option<String> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    let container = status.container_statuses.as_ref().and_then(|all| all.first());
    if let Some(ended) = container.and_then(ended) {
        return Some(format!("pod {name} ended with {}", last_words(ended)));
    }
    let waits = container.and_then(inventory::waits).or_else(|| inventory::unscheduled(pod))?;
    Some(format!("pod {name} does not run, {waits}"))
}

/// How a container ended that is about to be started again in the same way.
fn ended(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let state = container.state.as_ref()?;
    let reason = state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref());
    let before = container.last_state.as_ref().filter(|_| reason == Some("CrashLoopBackOff"));
    state.terminated.as_ref().or_else(|| before?.terminated.as_ref())
}

/// Its exit code, and the last line of what it wrote.
fn last_words(ended: &ContainerStateTerminated) -> String {
    let code = ended.exit_code;
    let message = ended.message.as_deref().or(ended.reason.as_deref()).unwrap_or_default();
    match message.lines().rfind(|line| !line.trim().is_empty()) {
        Some(line) => format!("code {code}: {}", line.chars().take(LINE_MAX).collect::<String>()),
        None => format!("code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(status: Value) -> Option<String> {
        let pod = json!({"metadata": {"name": "mini-coordinator-0"}, "status": status});
        of_pod(&serde_json::from_value(pod).expect("a pod"))
    }

    fn container(state: Value, last: Value) -> Value {
        json!({"containerStatuses": [{
            "name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 1,
            "state": state, "lastState": last,
        }]})
    }

    #[test]
    fn a_coordinator_that_ended_is_quoted_and_one_that_waits_says_for_what() {
        let message = "{\"event\":\"listening\"}\nheteroloco-coordinator: the disk is full\n\n";
        let ended = json!({"terminated": {"exitCode": 1, "message": message}});
        let back_off =
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
        let quoted =
            "pod mini-coordinator-0 ended with code 1: heteroloco-coordinator: the disk is full";
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let absent = json!({"waiting": {"reason": "ErrImagePull", "message": "not there"}});
        let unbound = json!({"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "unbound claims",
        }]});
        let cases = [
            (container(ended.clone(), json!({})), Some(quoted)),
            (container(back_off, ended.clone()), Some(quoted)),
            (container(json!({"running": {}}), ended.clone()), None),
            (
                container(killed, json!({})),
                Some("pod mini-coordinator-0 ended with code 137: OOMKilled"),
            ),
            (
                container(absent, ended),
                Some("pod mini-coordinator-0 does not run, ErrImagePull: not there"),
            ),
            (unbound, Some("pod mini-coordinator-0 does not run, Unschedulable: unbound claims")),
            (json!({}), None),
        ];
        for (status, expected) in cases {
            assert_eq!(said(status.clone()).as_deref(), expected, "{status}");
        }
    }
}
