//! Tables of what nodes and pods say.

use serde_json::{Value, json};

use super::*;
use crate::island::{TaintEffect, TolerationOperator};

fn node(change: &[(&str, Value)]) -> Node {
    let mut node = json!({
        "metadata": {"name": "a", "labels": {
            "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
        }},
        "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    for (path, value) in change {
        *node.pointer_mut(path).expect("a field") = value.clone();
    }
    serde_json::from_value(node).expect("a node")
}

#[test]
fn a_node_is_used_only_where_ranks_can_run_and_stay() {
    let labels = |arch: &str, os: &str| json!({"kubernetes.io/arch": arch, "kubernetes.io/os": os});
    let conditions = |ready: &str, network: &str| {
        json!([
            {"type": "MemoryPressure", "status": "True"},
            {"type": "NetworkUnavailable", "status": network},
            {"type": "Ready", "status": ready},
        ])
    };
    let info = json!({
        "architecture": "arm64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
        "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "linux",
        "osImage": "", "systemUUID": "",
    });
    let gone = json!({"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"});
    let cordoned = || ("/spec", json!({"unschedulable": true}));
    let arm = || Unusable::Architecture("arm64".into());
    let cases = [
        (vec![], None),
        (vec![("/metadata/labels", json!({})), ("/status", json!({}))], None),
        (vec![("/metadata/labels", labels("arm64", "linux"))], Some(arm())),
        (
            vec![("/metadata/labels", labels("amd64", "windows"))],
            Some(Unusable::System("windows".into())),
        ),
        (
            vec![("/metadata/labels", json!({})), ("/status", json!({"nodeInfo": info}))],
            Some(arm()),
        ),
        (vec![("/metadata", gone)], Some(Unusable::Leaving)),
        (vec![cordoned()], Some(Unusable::Cordoned)),
        (vec![cordoned(), ("/metadata/labels", labels("arm64", "linux"))], Some(arm())),
        (vec![("/status/conditions", conditions("True", "False"))], None),
        (vec![("/status/conditions", conditions("Unknown", "False"))], Some(Unusable::NotReady)),
        (vec![("/status/conditions", conditions("False", "True"))], Some(Unusable::NotReady)),
        (vec![("/status/conditions", conditions("True", "True"))], Some(Unusable::NoNetwork)),
    ];
    for (change, expected) in cases {
        assert_eq!(unusable(&node(&change)), expected, "{change:?}");
    }
    assert!(Unusable::Cordoned.passes() && !arm().passes() && !Unusable::Leaving.passes());
    assert_eq!(arm().to_string(), "it is arm64, and ranks run on amd64 only");
}

#[test]
fn taints_keep_away_whoever_does_not_tolerate_them() {
    let tainted = node(&[(
        "/spec",
        json!({"taints": [
            {"key": "nvidia.com/gpu", "effect": "NoSchedule"},
            {"key": "soft", "effect": "PreferNoSchedule"},
            {"key": "team", "value": "x", "effect": "NoSchedule"},
            {"key": "gone", "effect": "NoExecute"},
        ]}),
    )]);
    let taints = taints(&tainted);
    let named: Vec<_> = taints.iter().map(ToString::to_string).collect();
    assert_eq!(named, ["team=x:NoSchedule", "gone:NoExecute"]);
    let toleration = |key: Option<&str>, value: Option<&str>, effect| Toleration {
        key: key.map(str::to_owned),
        operator: match value {
            Some(_) => TolerationOperator::Equal,
            None => TolerationOperator::Exists,
        },
        value: value.map(str::to_owned),
        effect,
    };
    let kept = |own: &[Toleration]| kept_away(&taints, own).map(ToString::to_string);
    let team = toleration(Some("team"), Some("x"), None);
    assert_eq!(kept(&[]).as_deref(), Some("team=x:NoSchedule"));
    assert_eq!(kept(&[toleration(Some("team"), Some("y"), None)]), kept(&[]));
    assert_eq!(kept(std::slice::from_ref(&team)).as_deref(), Some("gone:NoExecute"));
    let other = toleration(Some("gone"), None, Some(TaintEffect::NoSchedule));
    assert_eq!(kept(&[team.clone(), other]).as_deref(), Some("gone:NoExecute"));
    assert_eq!(kept(&[team, toleration(Some("gone"), None, None)]), None);
    assert_eq!(kept(&[toleration(None, None, None)]), None);
}

fn pod(spec: Value, status: Value) -> Pod {
    let metadata = json!({"namespace": "ml", "name": "p"});
    let pod = json!({"metadata": metadata, "spec": spec, "status": status});
    serde_json::from_value(pod).expect("a pod")
}

fn container(cards: &str) -> Value {
    json!({"name": "c", "resources": {"limits": {"nvidia.com/gpu": cards}}})
}

fn held(spec: Value, status: Value) -> Option<(String, u32)> {
    holding(&pod(spec, status)).map(|it| (it.node, it.cards))
}

#[test]
fn a_pod_holds_cards_from_when_a_node_is_meant_for_it_until_it_has_ended() {
    let two = || json!({"nodeName": "a", "containers": [container("2")]});
    let on_a = Some(("a".to_owned(), 2));
    for phase in ["Pending", "Running", "Unknown"] {
        assert_eq!(held(two(), json!({"phase": phase})), on_a, "{phase}");
    }
    for phase in ["Succeeded", "Failed"] {
        assert_eq!(held(two(), json!({"phase": phase})), None, "{phase}");
    }
    assert_eq!(held(two(), json!({})), on_a);
    let unbound = || json!({"containers": [container("2")]});
    assert_eq!(held(unbound(), json!({"phase": "Pending"})), None);
    assert_eq!(held(unbound(), json!({"nominatedNodeName": "a"})), on_a);
    assert_eq!(held(unbound(), json!({"nominatedNodeName": ""})), None);
    assert_eq!(held(two(), json!({"nominatedNodeName": "b"})), on_a);
}

#[test]
fn containers_hold_cards_together_or_one_after_another() {
    let sidecar = || {
        let mut sidecar = container("1");
        sidecar["restartPolicy"] = json!("Always");
        sidecar
    };
    let requests = json!({"name": "c", "resources": {"requests": {"nvidia.com/gpu": "3"}}});
    let cases = [
        (vec![], vec![container("2"), container("1")], 3),
        (vec![container("4")], vec![container("2")], 4),
        (vec![sidecar()], vec![container("2")], 3),
        (vec![sidecar(), container("4")], vec![container("2")], 5),
        (vec![container("4"), sidecar()], vec![container("2")], 4),
        (vec![], vec![requests], 3),
    ];
    for (first, then, cards) in cases {
        let spec = json!({"nodeName": "a", "initContainers": first, "containers": then});
        assert_eq!(held(spec.clone(), json!({})), Some(("a".into(), cards)), "{spec}");
    }
    for odd in ["0", "many", "1k", "-1"] {
        let spec = json!({"nodeName": "a", "containers": [container(odd)]});
        assert_eq!(held(spec, json!({})), None, "{odd}");
    }
}

#[test]
fn a_rank_is_known_by_who_made_it_and_by_its_owner() {
    let of = |labels: Value, owners: Value| {
        let mut pod = pod(json!({"containers": []}), json!({}));
        pod.metadata.labels = serde_json::from_value(labels).expect("labels");
        pod.metadata.owner_references = serde_json::from_value(owners).expect("owners");
        island(&pod).map(str::to_owned)
    };
    let ours = json!({
        "app.kubernetes.io/managed-by": "heteroloco-operator", "heteroloco.dev/island": "short-1a",
    });
    let owner = json!([{"apiVersion": "v1", "kind": "ComputeIsland", "name": "long", "uid": "u"}]);
    assert_eq!(of(ours.clone(), json!([])).as_deref(), Some("short-1a"));
    assert_eq!(of(ours, owner.clone()).as_deref(), Some("long"));
    assert_eq!(of(json!({"heteroloco.dev/island": "x"}), owner), None);
    assert_eq!(of(Value::Null, json!([])), None);
}

#[test]
fn what_is_left_is_what_nobody_else_has_and_what_has_settled() {
    let claims = |foreign, others, own| Claims { all: 8, foreign, others, own };
    let wait = Some(Duration::from_secs(7));
    let cases = [
        (claims(0, 0, 0), None, (8, None)),
        (claims(1, 2, 3), None, (5, None)),
        (claims(9, u32::MAX, 0), None, (0, None)),
        (claims(1, 0, 2), wait, (2, wait)),
        (claims(6, 0, 2), wait, (2, None)),
        (claims(8, 0, 0), wait, (0, None)),
    ];
    for (claims, settle, expected) in cases {
        assert_eq!(claims.left(settle), expected, "{claims:?}");
    }
}

#[test]
fn cards_settle_for_those_that_harvest() {
    let at = |second| Timestamp::from_second(second).expect("a time");
    let minute = Some(Duration::from_secs(60));
    assert_eq!(settles(minute, Some(at(100)), at(110)), Some(Duration::from_secs(50)));
    assert_eq!(settles(minute, Some(at(100)), at(160)), None);
    assert_eq!(settles(minute, Some(at(100)), at(90)), minute, "clocks differ");
    assert_eq!(settles(None, Some(at(100)), at(110)), None);
    assert_eq!(settles(minute, None, at(110)), None);
    let ended = json!({"startTime": "1970-01-01T00:00:10Z", "containerStatuses": [{
        "name": "c", "ready": false, "restartCount": 0, "image": "", "imageID": "",
        "state": {"terminated": {"exitCode": 0, "finishedAt": "1970-01-01T00:01:00Z"}},
    }]});
    assert_eq!(changed(&pod(json!({"containers": []}), ended)), Some(at(60)));
}

#[test]
fn a_plan_holds_its_cards_until_it_rests() {
    let phases = [
        (PlanPhase::Planned, true),
        (PlanPhase::Starting, true),
        (PlanPhase::Running, true),
        (PlanPhase::Stopping, true),
        (PlanPhase::Waiting, false),
        (PlanPhase::Done, false),
        (PlanPhase::Failed, false),
    ];
    for (phase, expected) in phases {
        assert_eq!(is_held(phase), expected, "{phase:?}");
    }
}
