//! What the objects of an epoch have in them.

use serde_json::{Value, json};

use super::*;
use crate::island::examples::{self, L4, island, rank, record, run, spec};

/// The objects of epoch 3 of an island, over two cards of node `a` and one of node `b`.
fn made(island: &ComputeIsland, run: &TrainingRun) -> Objects {
    let layout = spec(vec![rank("a", &[0, 1]), rank("b", &[0])]);
    let told = told(run, layout, &record(), "http://10.0.0.1:7070");
    objects(island, run, &told, &examples::args()).expect("objects")
}

fn pod(island: &ComputeIsland, run: &TrainingRun, at: usize) -> Value {
    serde_json::to_value(&made(island, run).pods[at]).expect("a pod")
}

#[test]
fn golden_pod_of_a_rank_on_gpus() {
    let mut lab = island(
        &[L4],
        &json!({
            "idle": {"policy": "Harvest"},
            "tolerations": [{"key": "team", "value": "x", "effect": "NoSchedule"}],
        }),
    );
    lab.metadata.labels = Some([(QUEUE.to_owned(), "gpus".to_owned())].into());
    crate::golden::check(&made(&lab, &run()).pods[0], "src/island/build/golden/pod.yaml");
}

#[test]
fn an_epoch_is_its_config_a_pod_for_each_rank_and_a_budget() {
    let lab = island(&[L4], &json!({}));
    let objects = made(&lab, &run());
    assert_eq!(objects.config.metadata.name.as_deref(), Some("lab-e3"));
    assert_eq!(objects.last_config.as_deref(), Some("lab-e2"));
    let names: Vec<_> = objects.pods.iter().map(|pod| pod.metadata.name.as_deref()).collect();
    assert_eq!(names, [Some("lab-e3-r0"), Some("lab-e3-r1")]);
    let told = read(&objects.config).expect("what ranks are told");
    assert_eq!((told.coordinator.as_str(), told.island.ranks.len()), ("http://10.0.0.1:7070", 2));
    assert_eq!(told.checkpoint_dir.to_str(), Some("/checkpoints/lab"));
    let owners = |metadata: &kube::api::ObjectMeta| {
        let owners = metadata.owner_references.iter().flatten();
        owners.map(|owner| (owner.uid.clone(), owner.controller)).collect::<Vec<_>>()
    };
    let budget = objects.budget.expect("a budget");
    let all = [&objects.config.metadata, &objects.pods[1].metadata, &budget.metadata];
    for metadata in all {
        assert_eq!(owners(metadata), [("uid-of-lab".to_owned(), Some(true))]);
        assert_eq!(metadata.namespace.as_deref(), Some("ml"));
    }
    // It counts the pods that it selects: those of the island, and no others.
    let selector = budget.spec.and_then(|spec| spec.selector).and_then(|it| it.match_labels);
    let labels = objects.pods[0].metadata.labels.clone().expect("labels");
    let selector = selector.expect("a selector");
    assert!(selector.iter().all(|(key, value)| labels.get(key) == Some(value)), "{selector:?}");
    assert_eq!(selector.get(ISLAND).map(String::as_str), Some("lab"));
}

#[test]
fn only_a_dedicated_island_of_several_ranks_has_its_evictions_bounded() {
    let left = |more: Value, ranks: Vec<RankSpec>, epoch: u64| {
        let layout = IslandSpec { epoch, ..spec(ranks) };
        let (lab, run) = (island(&[L4], &more), run());
        let told = told(&run, layout, &record(), "http://c");
        let objects = objects(&lab, &run, &told, &examples::args()).expect("objects");
        let bound = objects.budget.and_then(|budget| budget.spec).and_then(|it| it.min_available);
        let bound = bound.map(|bound| serde_json::to_value(bound).expect("a number"));
        (bound, objects.last_config)
    };
    let three = || vec![rank("a", &[0]), rank("b", &[0]), rank("c", &[0])];
    let idle = |policy: &str| json!({"idle": {"policy": policy}});
    assert_eq!(left(json!({}), three(), 1), (Some(json!(2)), None));
    assert_eq!(left(idle("Dedicated"), three(), 2).0, Some(json!(2)));
    assert_eq!(left(idle("Harvest"), three(), 2), (None, Some("lab-e1".into())));
    assert_eq!(left(json!({}), vec![rank("a", &[0, 1, 2])], 1).0, None);
}

#[test]
fn a_rank_asks_for_its_cards_on_its_node_with_the_image_for_what_it_computes_on() {
    let (lab, run) = (island(&[L4], &json!({})), run());
    let own = |made: &Objects, at: usize| {
        let pod = serde_json::to_value(&made.pods[at]).expect("a pod");
        let container = &pod["spec"]["containers"][0];
        let affinity = &pod["spec"]["affinity"]["nodeAffinity"];
        let terms = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
        let node = &terms["nodeSelectorTerms"][0]["matchFields"][0]["values"];
        let cards = &container["resources"]["limits"][GPU];
        [node, cards, &container["image"], &container["args"][3]].map(Clone::clone)
    };
    let on_cards = made(&lab, &run);
    assert_eq!(own(&on_cards, 0), [json!(["a"]), json!("2"), json!("worker:cuda"), json!("0")]);
    assert_eq!(own(&on_cards, 1), [json!(["b"]), json!("1"), json!("worker:cuda"), json!("1")]);
    let mut layout = spec(vec![rank("a", &[0])]);
    layout.ranks[0].devices[0].device = plan::spec::DeviceSpec::Cpu { threads: 1, speed: 1.0 };
    let told = told(&run, layout, &record(), "http://c");
    let emulated = objects(&lab, &run, &told, &examples::args()).expect("objects");
    assert_eq!(own(&emulated, 0), [json!(["a"]), json!("1"), json!("worker:cpu"), json!("0")]);
}

#[test]
fn data_is_mounted_to_be_read_and_checkpoints_to_be_written() {
    let lab = island(&[L4], &json!({}));
    let mounted = |change: &[(&str, Value)]| {
        let mut run = serde_json::to_value(run()).expect("a run");
        for (path, value) in change {
            *run.pointer_mut(path).expect("a field") = value.clone();
        }
        let pod = pod(&lab, &serde_json::from_value(run).expect("a run"), 0);
        let of = |list: &Value, name: &str| {
            let all = list.as_array().expect("a list").iter();
            all.clone().find(|it| it["name"] == name).expect(name).clone()
        };
        let (volumes, mounts) =
            (&pod["spec"]["volumes"], &pod["spec"]["containers"][0]["volumeMounts"]);
        [
            of(volumes, "data"),
            of(mounts, "data"),
            of(volumes, "checkpoints"),
            of(mounts, "checkpoints"),
        ]
    };
    let claim = |name: &str| json!({"claimName": name});
    let [data, at, checkpoints, to] = mounted(&[]);
    assert_eq!(data["persistentVolumeClaim"], json!({"claimName": "corpus", "readOnly": true}));
    assert_eq!((&at["mountPath"], &at["subPath"]), (&json!("/data"), &json!("books")));
    assert_eq!(at["readOnly"], true);
    assert_eq!(checkpoints["persistentVolumeClaim"], claim("checkpoints"));
    assert_eq!((&to["mountPath"], &to["readOnly"]), (&json!("/checkpoints"), &Value::Null));
    let folder = json!({"hostPath": "/corpus"});
    let [data, _, checkpoints, to] =
        mounted(&[("/spec/data/volume", folder), ("/spec/checkpoint", json!({"path": "/kept"}))]);
    assert_eq!(data["hostPath"], json!({"path": "/corpus", "type": "Directory"}));
    assert_eq!(checkpoints["emptyDir"], json!({}), "lost with the pod where nothing is said");
    assert_eq!(to["mountPath"], "/kept");
}

#[test]
fn what_an_island_says_of_lost_nodes_counts_before_what_ranks_bear() {
    let silent = |more: Value| -> Vec<String> {
        let pod = pod(&island(&[L4], &more), &run(), 0);
        let all = pod["spec"]["tolerations"].as_array().expect("a list").clone();
        let ours = all.iter().filter(|it| it["tolerationSeconds"] == SILENT_SECONDS);
        ours.map(|it| it["key"].as_str().expect("a key").to_owned()).collect()
    };
    let (not_ready, unreachable) =
        ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable");
    assert_eq!(silent(json!({})), [not_ready, unreachable]);
    let own = json!({"tolerations": [{"key": unreachable, "operator": "Exists"}]});
    assert_eq!(silent(own), [not_ready]);
    let all = json!({"tolerations": [{"operator": "Exists"}]});
    assert!(silent(all).is_empty());
    let other = json!({"tolerations": [
        {"key": not_ready, "operator": "Exists", "effect": "NoSchedule"},
    ]});
    assert_eq!(silent(other), [not_ready, unreachable]);
}

#[test]
fn only_an_island_that_harvests_may_be_preempted_by_everybody() {
    let priority = |more: Value| {
        let pod = pod(&island(&[L4], &more), &run(), 0);
        pod["spec"]["priorityClassName"].clone()
    };
    assert_eq!(priority(json!({"idle": {"policy": "Harvest"}})), "harvest");
    assert_eq!(priority(json!({"idle": {"policy": "Dedicated"}})), Value::Null);
    assert_eq!(priority(json!({})), Value::Null);
}

#[test]
fn a_config_that_is_not_what_was_written_is_said_to_be_so() {
    let mut config = ConfigMap::default();
    assert_eq!(read(&config).expect_err("nothing"), "it has no key spec.json");
    config.data = Some([(SPEC.to_owned(), "{}".to_owned())].into());
    assert!(read(&config).expect_err("not all").contains("missing field"));
}
