//! Objects that anybody may have made: they hold what they can hold, and break nothing.

use k8s_openapi::api::core::v1::{Node as Object, Pod};
use serde_json::{Value, json};

use super::*;

fn pod(more: Value) -> Pod {
    serde_json::from_value(more).expect("a pod")
}

/// A pod that says that it is a rank of the island `lab`, and asks for so many cards of a node.
fn rank(name: &str, node: &str, cards: &str) -> Pod {
    pod(json!({
        "metadata": {"namespace": "ml", "name": name, "labels": {
            "app.kubernetes.io/managed-by": "heteroloco-operator", "heteroloco.dev/island": "lab",
        }},
        "spec": {"nodeName": node, "containers": [{
            "name": "c", "resources": {"limits": {"nvidia.com/gpu": cards}},
        }]},
    }))
}

fn node(name: &str) -> Object {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {
            "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "8",
            "nvidia.com/gpu.memory": "81559",
        }},
        "status": {"allocatable": {"nvidia.com/gpu": "8"}},
    }))
    .expect("a node")
}

fn found(pods: &[Pod], own: &[Key]) -> Idle {
    let own = own.iter().cloned().collect();
    idle(vec![node("a"), node("b")], &[], &Held::of(pods, &[]), &own)
}

#[test]
fn pods_that_ask_for_more_than_any_node_has_hold_all_of_it_and_no_more() {
    let most = u32::MAX.to_string();
    let pods = [rank("p", "a", &most), rank("q", "a", &most), rank("r", "b", &most)];
    let idle = found(&pods, &[]);
    assert_eq!((idle.cards, idle.count()), (16, 0));
    let expected = format!("cards that are not idle: island ml/lab holds {most}");
    assert_eq!(idle.notes(), [expected]);
    let own = found(&pods, &[Key::new("ml", "lab")]);
    assert_eq!((own.count(), own.notes().len()), (16, 0), "what an island holds is planned anew");
}

#[test]
fn what_is_no_count_of_cards_is_none() {
    for cards in ["", "-1", "1.5", "4294967296", "eight", "1k"] {
        assert_eq!(found(&[rank("p", "a", cards)], &[]).count(), 16, "{cards:?}");
    }
}

#[test]
fn pods_of_which_little_is_known_hold_nothing() {
    let bare = [
        json!({}),
        json!({"metadata": {"name": "p"}, "spec": {"containers": []}}),
        json!({"spec": {"nodeName": "a", "containers": [{"name": "c"}]}}),
        json!({"spec": {"nodeName": "", "containers": [{"name": "c",
            "resources": {"limits": {"nvidia.com/gpu": "8"}}}]}}),
    ];
    let pods: Vec<Pod> = bare.into_iter().map(pod).collect();
    let idle = found(&pods, &[]);
    assert_eq!((idle.count(), idle.notes().len()), (16, 0));
}

/// The same name in another namespace is another island.
#[test]
fn an_island_is_known_by_its_namespace_too() {
    let mut other = rank("p", "a", "3");
    other.metadata.namespace = Some("other".into());
    let idle = found(&[rank("p", "a", "2"), other], &[Key::new("ml", "lab")]);
    assert_eq!(idle.count(), 8 - 3 + 8);
    assert_eq!(idle.notes(), ["cards that are not idle: island other/lab holds 3"]);
}

#[test]
fn many_holders_and_many_nodes_are_counted_and_not_all_named() {
    let pods: Vec<Pod> = (0..7)
        .map(|at| {
            let mut pod = rank("p", "a", "1");
            pod.metadata.namespace = Some(format!("n{at}"));
            pod
        })
        .collect();
    let [note] = &found(&pods, &[]).notes()[..] else { panic!("one note") };
    assert_eq!(note.matches(" holds 1").count(), NAMED, "{note}");
    assert!(note.ends_with("and 3 more"), "{note}");
}
