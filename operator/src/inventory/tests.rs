//! What is known after nodes and pods came and went.

use api::nodes::{LeftOut, NoCards};
use contract::fate::Exit;
use serde_json::json;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn node(name: &str, cards: u32) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {
            "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
            "nvidia.com/gpu.count": cards.to_string(), "nvidia.com/gpu.memory": "81559",
        }},
        "status": {"allocatable": {"nvidia.com/gpu": cards.to_string()}},
    }))
    .expect("a node")
}

fn pod(name: &str, node: &str, cards: u32, phase: &str, island: Option<(&str, u64, u32)>) -> Pod {
    let mut pod = json!({
        "metadata": {"namespace": "ml", "name": name, "labels": {}},
        "spec": {"nodeName": node, "containers": [
            {"name": "main", "resources": {"limits": {"nvidia.com/gpu": cards.to_string()}}}
        ]},
        "status": {"phase": phase},
    });
    if let Some((island, epoch, rank)) = island {
        pod["metadata"]["labels"] = json!({
            "app.kubernetes.io/managed-by": "heteroloco-operator",
            "heteroloco.dev/island": island,
            "heteroloco.dev/epoch": epoch.to_string(),
            "heteroloco.dev/rank": rank.to_string(),
        });
    }
    serde_json::from_value(pod).expect("a pod")
}

#[test]
fn cards_are_held_by_pods_until_these_have_ended() {
    let mut inventory = Inventory::new(vec![None]);
    inventory.pod(0, Event::Init, at(0));
    inventory.pod(0, Event::InitApply(pod("old", "a", 1, "Running", None)), at(0));
    inventory.pod(0, Event::InitDone, at(0));
    assert_eq!((inventory.foreign("a"), inventory.changed("a")), (1, None));

    let other = pod("other", "a", 2, "Running", None);
    assert!(inventory.pod(0, Event::Apply(other.clone()), at(5))[0].capacity);
    assert_eq!(inventory.pod(0, Event::Apply(other), at(6)), [Changed::default()]);
    assert_eq!((inventory.foreign("a"), inventory.changed("a")), (3, Some(at(5))));

    inventory.pod(0, Event::Apply(pod("other", "a", 2, "Succeeded", None)), at(7));
    assert_eq!((inventory.foreign("a"), inventory.changed("a")), (1, Some(at(7))));
    inventory.pod(0, Event::Delete(pod("old", "a", 1, "Running", None)), at(8));
    assert_eq!(inventory.foreign("a"), 0);
}

#[test]
fn ranks_are_known_by_their_island() {
    let mut inventory = Inventory::new(vec![None]);
    let lab = Key::new("ml", "lab");
    let changed =
        inventory.pod(0, Event::Apply(pod("r0", "a", 4, "Running", Some(("lab", 2, 0)))), at(0));
    assert_eq!(changed, [Changed { island: Some(lab.clone()), capacity: true, foreign: false }]);
    assert_eq!(inventory.islands("a").collect::<Vec<_>>(), [(&lab, 4)]);
    assert_eq!(inventory.foreign("a"), 0);
    inventory.pod(0, Event::Apply(pod("r0", "a", 4, "Failed", Some(("lab", 2, 0)))), at(1));
    assert_eq!(inventory.islands("a").count(), 0);
    let ranks = inventory.ranks(&lab);
    assert_eq!(ranks.len(), 1);
    assert_eq!(
        ranks[0].state,
        RankState::Failed { exit: Exit::Removed, said: String::new(), at: None }
    );
    inventory.pod(0, Event::Delete(pod("r0", "a", 4, "Failed", Some(("lab", 2, 0)))), at(2));
    assert!(inventory.ranks(&lab).is_empty());
}

#[test]
fn what_is_not_in_a_new_list_is_gone() {
    let mut inventory = Inventory::new(vec![None]);
    inventory.node(Event::Init);
    inventory.node(Event::InitApply(node("a", 8)));
    inventory.node(Event::InitApply(node("b", 8)));
    assert!(!inventory.is_complete());
    inventory.node(Event::InitDone);
    inventory.pod(0, Event::Init, at(0));
    inventory.pod(0, Event::InitDone, at(0));
    assert!(inventory.is_complete());
    assert!(!inventory.node(Event::Apply(node("a", 8))).capacity, "nothing changed");
    assert!(inventory.node(Event::Apply(node("a", 4))).capacity);
    inventory.node(Event::Init);
    inventory.node(Event::InitApply(node("b", 8)));
    assert!(inventory.node(Event::InitDone).capacity);
    assert_eq!(inventory.nodes().map(|(name, _)| name).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_rank_that_waits_or_failed_says_why() {
    let rank = |status: serde_json::Value| {
        let mut pod = pod("r0", "a", 1, "Pending", Some(("lab", 1, 0)));
        pod.status = serde_json::from_value(status).expect("a status");
        PodFacts::of(&pod).and_then(|(_, facts)| facts.rank).expect("a rank").state
    };
    let pull = json!({"phase": "Pending", "containerStatuses": [{
        "name": "worker", "ready": false, "restartCount": 0, "image": "", "imageID": "",
        "state": {"waiting": {"reason": "ErrImageNeverPull", "message": "not there"}},
    }]});
    let why = Some("ErrImageNeverPull: not there".to_owned());
    assert_eq!(rank(pull), RankState::Pending { why });
    let full = json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2",
    }]});
    assert_eq!(rank(full), RankState::Pending { why: Some("Unschedulable: 0/2".into()) });
    let mut queued = pod("r0", "a", 1, "Pending", Some(("lab", 1, 0)));
    let gate = json!([{"name": "kueue.x-k8s.io/admission"}]);
    let spec = queued.spec.as_mut().expect("a spec");
    spec.scheduling_gates = serde_json::from_value(gate).expect("gates");
    let (_, facts) = PodFacts::of(&queued).expect("facts");
    assert_eq!(facts.rank.expect("a rank").state, RankState::Gated);
    let failed = json!({"phase": "Failed", "containerStatuses": [{
        "name": "worker", "ready": false, "restartCount": 0, "image": "", "imageID": "",
        "state": {"terminated": {
            "exitCode": 4, "message": r#"{"event":"failed","error":"out of memory"}"#,
        }},
    }]});
    assert_eq!(
        rank(failed),
        RankState::Failed { exit: Exit::Code(4), said: "out of memory".into(), at: None }
    );
    for (code, reason, exit) in [(137, "OOMKilled", Exit::NoMemory), (137, "", Exit::Signal(9))] {
        let killed = json!({"phase": "Failed", "containerStatuses": [{
            "name": "worker", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"terminated": {"exitCode": code, "reason": reason}},
        }]});
        let said = String::new();
        assert_eq!(rank(killed), RankState::Failed { exit, said, at: None });
    }
}

#[test]
fn lists_of_several_namespaces_do_not_wipe_each_other() {
    let mut inventory = Inventory::new(vec![Some("ml".into()), Some("other".into())]);
    let mut elsewhere = pod("theirs", "a", 1, "Running", None);
    elsewhere.metadata.namespace = Some("other".into());
    inventory.pod(0, Event::Init, at(0));
    inventory.pod(1, Event::Init, at(0));
    inventory.pod(0, Event::InitApply(pod("ours", "a", 1, "Running", None)), at(0));
    inventory.pod(1, Event::InitApply(elsewhere), at(0));
    inventory.pod(0, Event::InitDone, at(0));
    assert!(!inventory.pods_complete());
    inventory.pod(1, Event::InitDone, at(0));
    assert!(inventory.pods_complete());
    assert_eq!(inventory.foreign("a"), 2);
    inventory.pod(0, Event::Init, at(1));
    inventory.pod(0, Event::InitDone, at(1));
    assert_eq!(inventory.foreign("a"), 1);
}

#[test]
fn a_rank_that_was_asked_to_end_did_not_complete() {
    let rank = |said: Option<&str>, leaving: bool| {
        let mut pod = pod("r0", "a", 1, "Succeeded", Some(("lab", 1, 0)));
        let ended = json!({"phase": "Succeeded", "containerStatuses": [{
            "name": "worker", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"terminated": {"exitCode": 0, "message": said}},
        }]});
        pod.status = serde_json::from_value(ended).expect("a status");
        if leaving {
            let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(9));
            pod.metadata.deletion_timestamp = Some(time);
        }
        PodFacts::of(&pod).and_then(|(_, facts)| facts.rank).expect("a rank").state
    };
    let word = |ending: &str| format!(r#"{{"event":"finished","ending":"{ending}"}}"#);
    assert_eq!(rank(Some(&word("complete")), true), RankState::Succeeded);
    assert_eq!(rank(Some(&word("stopped")), false), RankState::Stopped);
    assert_eq!(rank(None, true), RankState::Stopped);
    assert_eq!(rank(None, false), RankState::Succeeded);
}

/// A slice of the only pool of a node, with cards of so many MiB.
fn slice(name: &str, node: &str, (generation, of): (i64, i64), mib: &[u64]) -> ResourceSlice {
    let device = |(index, mib): (usize, &u64)| {
        json!({
            "name": format!("gpu-{index}"),
            "attributes": {
                "type": {"string": "gpu"}, "productName": {"string": "NVIDIA H100 80GB HBM3"},
            },
            "capacity": {"memory": {"value": format!("{mib}Mi")}},
        })
    };
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "driver": "gpu.nvidia.com", "nodeName": node,
            "pool": {"name": node, "generation": generation, "resourceSliceCount": of},
            "devices": mib.iter().enumerate().map(device).collect::<Vec<_>>(),
        },
    }))
    .expect("a slice")
}

/// Cards of a node and MiB of each; none of a node that is not known.
fn cards(inventory: &Inventory, node: &str) -> Option<(usize, u64)> {
    let cards = &inventory.find(node)?.machine.cards;
    Some((cards.len(), cards.first().map_or(0, |card| card.memory >> 20)))
}

#[test]
fn a_node_has_what_its_slices_say_whichever_came_first() {
    let mut inventory = Inventory::new(vec![None]);
    inventory.slice(Event::Apply(slice("s", "a", (1, 1), &[80_000; 8])));
    inventory.expect_slices();
    assert!(inventory.node(Event::Apply(node("a", 8))).capacity);
    assert_eq!(cards(&inventory, "a"), Some((8, 81_559)), "slices were not expected yet");
    let put = |inventory: &mut Inventory, of, mib: &[u64]| {
        inventory.slice(Event::Apply(slice("s", "a", of, mib))).capacity
    };
    assert!(put(&mut inventory, (1, 1), &[80_000; 8]));
    assert!(!put(&mut inventory, (1, 1), &[80_000; 8]), "it is as it was");
    assert_eq!(cards(&inventory, "a"), Some((8, 80_000)));
    assert!(!inventory.node(Event::Apply(node("a", 8))).capacity);
    assert!(put(&mut inventory, (2, 1), &[70_000; 6]));
    assert_eq!(cards(&inventory, "a"), Some((6, 70_000)));
    assert!(!put(&mut inventory, (3, 2), &[60_000; 6]), "the other slice is yet to come");
    assert_eq!(cards(&inventory, "a"), Some((6, 70_000)));
    assert!(inventory.slice(Event::Apply(slice("t", "a", (3, 2), &[60_000]))).capacity);
    assert_eq!(cards(&inventory, "a"), Some((7, 60_000)));
    for name in ["s", "t"] {
        inventory.slice(Event::Delete(slice(name, "a", (3, 2), &[])));
    }
    assert_eq!(cards(&inventory, "a"), Some((8, 81_559)));
    inventory.slice(Event::Apply(slice("s", "b", (1, 1), &[80_000; 8])));
    assert!(inventory.node(Event::Apply(node("b", 8))).capacity);
    assert_eq!(cards(&inventory, "b"), Some((8, 80_000)));
}

#[test]
fn a_node_without_labels_is_one_as_long_as_slices_name_its_cards() {
    let bare = |offered: u32| {
        let mut bare = node("a", offered);
        bare.metadata.labels = None;
        bare
    };
    let mut inventory = Inventory::new(vec![None]);
    assert!(!inventory.node(Event::Apply(bare(2))).capacity);
    inventory.expect_slices();
    inventory.node(Event::Apply(bare(2)));
    assert_eq!(cards(&inventory, "a"), None);
    assert!(inventory.slice(Event::Apply(slice("s", "a", (1, 1), &[80_000; 2]))).capacity);
    assert_eq!(cards(&inventory, "a"), Some((2, 80_000)));
    assert!(inventory.node(Event::Apply(bare(0))).capacity);
    let why = inventory.find("a").and_then(|facts| facts.unusable.clone());
    assert_eq!(why, Some(LeftOut::NoCards(NoCards::OnlyByDra)));
    assert!(inventory.slice(Event::Delete(slice("s", "a", (1, 1), &[]))).capacity);
    assert_eq!(cards(&inventory, "a"), None);
    inventory.node(Event::Delete(bare(0)));
    assert!(!inventory.slice(Event::Apply(slice("s", "a", (1, 1), &[80_000; 2]))).capacity);
}

#[test]
fn lists_of_slices_have_to_be_complete_where_they_are_watched() {
    let mut inventory = Inventory::new(vec![None]);
    inventory.expect_slices();
    inventory.node(Event::Init);
    inventory.node(Event::InitApply(node("a", 8)));
    inventory.node(Event::InitDone);
    inventory.pod(0, Event::Init, at(0));
    inventory.pod(0, Event::InitDone, at(0));
    inventory.slice(Event::Init);
    inventory.slice(Event::InitApply(slice("s", "a", (1, 1), &[80_000; 8])));
    assert!(!inventory.is_complete());
    assert!(inventory.slice(Event::InitDone).capacity);
    assert!(inventory.is_complete());
    assert_eq!(cards(&inventory, "a"), Some((8, 80_000)));
    inventory.slice(Event::Init);
    assert!(inventory.is_complete(), "what was known counts while they are listed again");
    assert!(inventory.slice(Event::InitDone).capacity);
    assert_eq!(cards(&inventory, "a"), Some((8, 81_559)));
    inventory.slice(Event::Init);
    assert!(!inventory.slice(Event::InitDone).capacity);
}

#[test]
fn a_node_that_only_says_that_it_lives_is_as_it_was() {
    let mut inventory = Inventory::new(vec![None]);
    let beat = |time: &str, record: Option<&str>| {
        let mut node = node("a", 8);
        let ready = json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": time}]);
        let status = node.status.as_mut().expect("a status");
        status.conditions = serde_json::from_value(ready).expect("conditions");
        let annotation = record.map(|it| (api::nodes::CAPABILITY.to_owned(), it.to_owned()));
        node.metadata.annotations = annotation.map(|it| BTreeMap::from([it]));
        node
    };
    assert!(inventory.node(Event::Apply(beat("2026-01-01T00:00:00Z", None))).capacity);
    assert!(!inventory.node(Event::Apply(beat("2026-01-01T00:05:00Z", None))).capacity);
    let record = json!({"node": "pod", "links": {}, "devices": [{
        "product": "NVIDIA-H100-80GB-HBM3", "index": 0, "memoryBytes": 80_000_u64 << 20,
        "freeBytes": 0, "reached": {"f32Tflops": 50.0, "bandwidthGbps": 2000.0},
    }]});
    let measured = beat("2026-01-01T00:10:00Z", Some(&record.to_string()));
    assert!(inventory.node(Event::Apply(measured)).capacity);
    assert_eq!(cards(&inventory, "a"), Some((8, 80_000)));
    assert!(inventory.node(Event::Apply(beat("2026-01-01T00:15:00Z", Some("none")))).capacity);
    let facts = inventory.find("a").expect("a node");
    assert!(facts.notes[0].contains("is passed over: expected ident"), "{:?}", facts.notes);
    assert_eq!(cards(&inventory, "a"), Some((8, 81_559)));
}
