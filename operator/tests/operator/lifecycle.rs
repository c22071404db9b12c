//! What becomes of islands and runs.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use test_cluster::{Collector, Gpus};

use crate::site::{Plane, Site, is, island, message, reason, run};

const H100: &str = "NVIDIA-H100-80GB-HBM3";

/// A site where island lab runs on its only card.
async fn running(name: &str) -> Site {
    let mut site = Site::new(Plane::shared().await, name, &[Gpus::h100(1)]).await;
    site.operate(&[], None);
    site.apply(&[run("mini"), island(&site, "lab", H100, json!(1))]).await;
    site.island("lab", is("Running")).await;
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn an_island_is_planned_started_and_runs() {
    let mut site = Site::new(Plane::shared().await, "runs", &[Gpus::h100(2)]).await;
    site.operate(&[], None);
    site.apply(&[run("mini"), island(&site, "lab", H100, json!(2))]).await;
    let lab = site.island("lab", is("Running")).await;
    let plan = &lab["status"]["plan"];
    assert_eq!(
        (&plan["epoch"], &plan["cards"], &plan["failures"]),
        (&json!(1), &json!(2), &Value::Null)
    );
    assert_eq!(
        (reason(&lab, "Ready"), reason(&lab, "CapacitySatisfied")),
        ("Running", "CardsFound")
    );
    let ranks = site.ranks().await;
    assert_eq!(ranks, ["lab-e1-r0"], "neighbouring cards are one process");
    let pod = site.get("pod", "lab-e1-r0").await;
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], "2");
    assert_eq!(pod["spec"]["nodeName"], "runs-0");
    assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    let config = site.get("configmap", "lab-e1").await;
    let spec: Value = serde_json::from_str(config["data"]["spec.json"].as_str().unwrap()).unwrap();
    let spec: contract::worker::WorkerSpec = serde_json::from_value(spec).unwrap();
    assert_eq!((spec.island.epoch, spec.island.ranks.len()), (1, 1));
    assert_eq!(i64::from(spec.island.inner_steps), plan["innerSteps"].as_i64().unwrap());
    let service = site.get("service", "mini-coordinator").await;
    let ip = service["spec"]["clusterIP"].as_str().unwrap();
    assert_eq!(spec.coordinator, format!("http://{ip}:7070"));

    site.kubectl(&["delete", "computeisland", "lab"]).await;
    site.wait("pod", "lab-e1-r0", Value::is_null).await;
    site.wait("configmap", "lab-e1", Value::is_null).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_is_a_trace_with_the_plan_and_every_write() {
    let collector = Collector::start().await.unwrap();
    let mut site = Site::new(Plane::shared().await, "traces", &[Gpus::h100(1)]).await;
    site.environment.push(("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.clone()));
    let operator = site.operate(&[], None);
    site.apply(&[run("mini"), island(&site, "lab", H100, json!(1))]).await;
    site.island("lab", is("Running")).await;
    // It exports what is left when it ends.
    site.stop(operator).await;
    let traces = collector.traces();
    for spans in [["reconcile", "plan", "status"], ["reconcile", "apply", "status"]] {
        let spans = spans.map(|span| format!("heteroloco-operator//{span}"));
        let whole = |trace: &BTreeSet<String>| spans.iter().all(|span| trace.contains(span));
        assert!(traces.iter().any(whole), "no trace has {spans:?}: {traces:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_rank_starts_the_next_epoch() {
    let site = running("lost").await;
    site.kubectl(&["delete", "pod", "lab-e1-r0"]).await;
    let second = |island: &Value| is("Running")(island) && island["status"]["plan"]["epoch"] == 2;
    site.island("lab", second).await;
    assert_eq!(site.ranks().await, ["lab-e2-r0"]);
    site.wait("configmap", "lab-e1", Value::is_null).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_deleted_of_a_run_comes_back() {
    let site = running("healed").await;
    let record = site.get("configmap", "mini-record").await;
    for object in ["configmap/mini-record", "deployment/mini-coordinator"] {
        site.kubectl(&["delete", object]).await;
    }
    let there = |object: &Value| !object.is_null();
    site.wait("deployment", "mini-coordinator", there).await;
    let again = site.wait("configmap", "mini-record", there).await;
    assert_eq!(again["data"], record["data"], "what the islands agreed on is as it was");
    let lab = site.get("computeisland", "lab").await;
    assert_eq!(lab["status"]["plan"]["epoch"], 1, "its ranks are no one's concern");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_suspended_holds_no_card_until_it_goes_on() {
    let site = running("suspended").await;
    for (object, reason_there) in
        [("computeisland/lab", "Suspended"), ("trainingrun/mini", "RunSuspended")]
    {
        let suspend = |value| format!(r#"{{"spec": {{"suspend": {value}}}}}"#);
        site.kubectl(&["patch", object, "--type=merge", "-p", &suspend(true)]).await;
        let rests =
            |island: &Value| is("Waiting")(island) && reason(island, "Ready") == reason_there;
        site.island("lab", rests).await;
        assert!(site.ranks().await.is_empty());
        site.kubectl(&["patch", object, "--type=merge", "-p", &suspend(false)]).await;
        site.island("lab", is("Running")).await;
    }
    let lab = site.get("computeisland", "lab").await;
    assert_eq!(lab["status"]["plan"]["epoch"], 3, "older epochs are refused by the coordinator");
}

#[tokio::test(flavor = "multi_thread")]
async fn islands_whose_run_is_deleted_give_their_cards_back_and_take_up_the_next() {
    let site = running("deleted").await;
    site.kubectl(&["delete", "trainingrun", "mini"]).await;
    let orphan = |island: &Value| is("Waiting")(island) && reason(island, "Ready") == "RunNotFound";
    site.island("lab", orphan).await;
    assert!(site.ranks().await.is_empty());
    site.wait("configmap", "mini-record", Value::is_null).await;
    site.apply(&[run("mini")]).await;
    site.island("lab", is("Running")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_says_why_and_what_to_change() {
    let mut site = Site::new(Plane::shared().await, "refused", &[Gpus::h100(1)]).await;
    site.operate(&[], None);
    let mut nowhere = island(&site, "nowhere", H100, json!(1));
    nowhere["spec"]["nodeSelector"]["matchLabels"]["zone"] = json!("none");
    let mut large = island(&site, "large", H100, json!(1));
    large["spec"]["minMemory"] = json!("2Ti");
    let mut orphan = island(&site, "orphan", H100, json!(1));
    orphan["spec"]["runRef"]["name"] = json!("other");
    let other = island(&site, "other", "NVIDIA-B200", json!(1));
    site.apply(&[run("mini"), nowhere, large, orphan, other]).await;
    let table = [
        ("nowhere", "NoNodes", "nodeSelector"),
        ("large", "BelowMinimumMemory", "2.0 TiB"),
        ("orphan", "RunNotFound", "TrainingRun other"),
        ("other", "NotEnoughCards", "NVIDIA-B200"),
    ];
    for (name, expected, word) in table {
        let refused = |island: &Value| reason(island, "Ready") == expected;
        let island = site.island(name, refused).await;
        let text = message(&island, "Ready");
        assert!(text.contains(word) || name == "large", "{name}: {text}");
    }
    let mini = |run: &Value| reason(run, "Ready") == "NoIslandPlanned";
    site.wait("trainingrun", "mini", mini).await;
    let events = site.kubectl(&["get", "events"]).await;
    assert!(events.contains("BelowMinimumMemory"), "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_a_quota_refuses_are_told_of() {
    let mut site = Site::new(Plane::shared().await, "quota", &[Gpus::h100(1)]).await;
    site.apply(&[json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
        "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
    })])
    .await;
    site.wait("resourcequota", "none", |quota| !quota["status"]["hard"].is_null()).await;
    site.operate(&[], None);
    site.apply(&[run("mini"), island(&site, "lab", H100, json!(1))]).await;
    let refused = |island: &Value| reason(island, "Ready") == "PodsRefused";
    let lab = site.island("lab", refused).await;
    assert!(message(&lab, "Ready").contains("exceeded quota"), "{}", message(&lab, "Ready"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_object_does_not_stop_the_others() {
    let mut site = Site::new(Plane::shared().await, "malformed", &[Gpus::h100(1)]).await;
    let bad = island(&site, "bad", H100, json!("many"));
    site.apply(&[run("mini"), bad]).await;
    let operator = site.operate(&[], None);
    site.apply(&[island(&site, "good", H100, json!(1))]).await;
    site.island("good", is("Running")).await;
    assert!(site.said(operator).contains("An object was not understood"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_keeps_an_island_for_every_group_of_nodes() {
    let gpus = [Gpus::h100(2), Gpus::h100(2), Gpus::rtx_4090(4)];
    let mut site = Site::new(Plane::shared().await, "pool", &gpus).await;
    for (node, zone) in [("pool-0", "a"), ("pool-1", "a"), ("pool-2", "b")] {
        let label = format!("topology.kubernetes.io/zone={zone}");
        site.plane.control.kubectl(&["label", "node", node, &label]).await.unwrap();
    }
    site.operate(&[], None);
    let pool = json!({
        "apiVersion": "heteroloco.dev/v1alpha1", "kind": "IslandPool", "metadata": {"name": "all"},
        "spec": {"runRef": {"name": "mini"}, "nodeSelector": {"matchLabels": {"test": "pool"}}},
    });
    site.apply(&[run("mini"), pool]).await;
    // Each node holds the model, and the two of a zone would not be faster as one.
    let three = |pool: &Value| pool["status"]["islands"] == 3 && pool["status"]["cards"] == 8;
    site.wait("islandpool", "all", three).await;
    let islands = site.list("computeislands").await;
    let names: Vec<&str> =
        islands.iter().map(|island| island["metadata"]["name"].as_str().unwrap()).collect();
    for name in &names {
        site.island(name, is("Running")).await;
    }
    site.plane.control.kubectl(&["delete", "node", "pool-2"]).await.unwrap();
    let two = |pool: &Value| pool["status"]["islands"] == 2 && pool["status"]["cards"] == 4;
    site.wait("islandpool", "all", two).await;
    assert_eq!(site.list("computeislands").await.len(), 2, "{names:?}");
}
