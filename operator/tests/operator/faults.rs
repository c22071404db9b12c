//! Operators that are killed, that are two, that lose the API server.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use test_cluster::Gpus;

use crate::site::{Plane, Site, is, island, run};

const H100: &str = "NVIDIA-H100-80GB-HBM3";

/// Every place between two writes, on the way to a running island.
const POINTS: [&str; 11] = [
    "island.status",
    "island.remember",
    "run.record",
    "run.coordinator",
    "run.deployment",
    "run.status",
    "island.config",
    "island.start",
    "island.pod",
    "island.pods",
    "island.delete",
];

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_at_any_place_leaves_nothing_twice_and_no_orphan() {
    let gpus = [Gpus::h100(1), Gpus::h100(1)];
    let mut site = Site::new(Plane::shared().await, "killed", &gpus).await;
    for (turn, point) in POINTS.into_iter().enumerate() {
        let mut lab = island(&site, "lab", H100, json!(2));
        lab["spec"]["parallelism"] = json!({"pipeline": 2});
        site.apply(&[run("mini"), lab]).await;
        let killed = site.operate(&[], Some(point));
        if point == "island.delete" {
            // Pods are deleted when an epoch ends.
            site.island("lab", is("Running")).await;
            site.kubectl(&["delete", "pod", &site.ranks().await[0]]).await;
        }
        site.ended(killed).await;
        assert!(site.said(killed).contains(&format!("killed at {point}")), "{point}");
        let operator = site.operate(&[], None);
        let lab = site.island("lab", is("Running")).await;
        let epoch = lab["status"]["plan"]["epoch"].as_i64().unwrap();
        let mut ranks = site.ranks().await;
        ranks.sort();
        let expected = [0, 1].map(|rank| format!("lab-e{epoch}-r{rank}"));
        assert_eq!(ranks, expected, "{turn}: {point}");
        let configs = site.list("configmaps").await;
        let epochs = configs.iter().filter(|config| {
            config["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("lab-e"))
        });
        assert_eq!(epochs.count(), 1, "{point}");
        site.stop(operator).await;
        site.kubectl(&["delete", "computeisland", "lab"]).await;
        site.kubectl(&["delete", "trainingrun", "mini"]).await;
        site.wait("deployment", "mini-coordinator", Value::is_null).await;
        for rank in &expected {
            site.wait("pod", rank, Value::is_null).await;
        }
        site.wait("configmap", "mini-record", Value::is_null).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_operators_one_leads_and_the_other_follows_it() {
    let mut site = Site::new(Plane::shared().await, "leaders", &[Gpus::h100(1)]).await;
    let first = site.operate(&["--leader-election"], None);
    let leads = |lease: &Value| lease["spec"]["holderIdentity"].is_string();
    let lease = site.wait("lease", "heteroloco-operator", leads).await;
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    let second = site.operate(&["--leader-election"], None);
    site.apply(&[run("mini"), island(&site, "lab", H100, json!(1))]).await;
    site.island("lab", is("Running")).await;
    assert!(!site.said(second).contains("An island was looked at"));
    site.stop(first).await;
    let other = |lease: &Value| {
        lease["spec"]["holderIdentity"].as_str().is_some_and(|it| !it.is_empty() && it != holder)
    };
    site.wait("lease", "heteroloco-operator", other).await;
    site.kubectl(&["delete", "pod", &site.ranks().await[0]]).await;
    let next = |island: &Value| is("Running")(island) && island["status"]["plan"]["epoch"] == 2;
    site.island("lab", next).await;
    // One that is killed does not let the Lease go: it has to end.
    let third = site.operate(&["--leader-election"], None);
    site.kill(second);
    site.kubectl(&["delete", "pod", &site.ranks().await[0]]).await;
    let next = |island: &Value| is("Running")(island) && island["status"]["plan"]["epoch"] == 3;
    site.island("lab", next).await;
    assert!(site.said(third).contains("This replica leads"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_is_waited_for() {
    let mut site = Site::new(Plane::start().await, "away", &[Gpus::h100(1)]).await;
    let operator = site.operate(&[], None);
    site.apply(&[run("mini"), island(&site, "lab", H100, json!(1))]).await;
    site.island("lab", is("Running")).await;
    // Nobody but this test has the plane.
    let plane = Arc::get_mut(&mut site.plane).expect("the only holder");
    plane.control.stop_api_server();
    tokio::time::sleep(Duration::from_secs(30)).await;
    plane.control.start_api_server().await.unwrap();
    assert!(!site.has_ended(operator), "{}", site.said(operator));
    site.kubectl(&["delete", "pod", &site.ranks().await[0]]).await;
    let next = |island: &Value| is("Running")(island) && island["status"]["plan"]["epoch"] == 2;
    site.island("lab", next).await;
}
