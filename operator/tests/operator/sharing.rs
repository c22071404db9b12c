//! Islands that share cards with each other and with other people's pods.

use serde_json::{Value, json};
use test_cluster::Gpus;

use crate::site::{Plane, Site, foreign, is, island, message, reason, run};

const H100: &str = "NVIDIA-H100-80GB-HBM3";

fn has_cards(cards: u32) -> impl Fn(&Value) -> bool {
    move |island| is("Running")(island) && island["status"]["plan"]["cards"] == cards
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_islands_that_want_the_same_card_the_older_gets_it() {
    let mut site = Site::new(Plane::shared().await, "contested", &[Gpus::h100(1)]).await;
    site.apply(&[run("mini"), island(&site, "first", H100, json!(1))]).await;
    // Times of creation are in seconds; of the same second the name decides.
    site.apply(&[island(&site, "second", H100, json!(1))]).await;
    site.operate(&[], None);
    site.island("first", is("Running")).await;
    let waits = |island: &Value| reason(island, "Ready") == "NotEnoughCards";
    let second = site.island("second", waits).await;
    let text = message(&second, "Ready");
    assert!(text.contains("it waits for cards of island contested/first"), "{text}");
    site.kubectl(&["delete", "computeisland", "first"]).await;
    site.island("second", is("Running")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_harvesting_island_gives_cards_up_and_takes_them_back() {
    let mut site = Site::new(Plane::shared().await, "harvest", &[Gpus::h100(2)]).await;
    site.plane
        .control
        .kubectl(&["create", "priorityclass", "harvest-test", "--value=-1000"])
        .await
        .unwrap();
    site.operate(&["--harvest-priority-class", "harvest-test"], None);
    let mut lab = island(&site, "lab", H100, json!({"min": 1, "max": 2}));
    lab["spec"]["idle"] = json!({"policy": "Harvest", "cooldown": "1s"});
    // One card is too slow beside two, so that both are used when they are there.
    lab["spec"]["parallelism"] = json!({"tensor": 1, "pipeline": 1});
    site.apply(&[run("mini"), lab]).await;
    site.island("lab", has_cards(2)).await;
    let ranks = site.ranks().await;
    let pod = site.get("pod", &ranks[0]).await;
    assert_eq!(pod["spec"]["priority"], -1000);

    site.apply(&[foreign("colleague", "harvest-0", 1)]).await;
    site.kubectl(&["delete", "pod", &ranks[0]]).await;
    site.island("lab", has_cards(1)).await;
    site.kubectl(&["delete", "pod", "colleague", "--force", "--grace-period=0"]).await;
    let lab = site.island("lab", has_cards(2)).await;
    assert_eq!(lab["status"]["plan"]["epoch"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_is_left_for_another() {
    let gpus = [Gpus::h100(1), Gpus::h100(1), Gpus::h100(1)];
    let mut site = Site::new(Plane::shared().await, "drained", &gpus).await;
    site.operate(&[], None);
    // Two ranks, of which no more than one may be evicted at a time.
    let mut lab = island(&site, "lab", H100, json!(2));
    lab["spec"]["parallelism"] = json!({"pipeline": 2});
    site.apply(&[run("mini"), lab]).await;
    let lab = site.island("lab", is("Running")).await;
    let node = lab["status"]["plan"]["ranks"][0]["node"].as_str().unwrap().to_owned();
    let drain = ["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--force"];
    site.plane.control.kubectl(&drain).await.unwrap();
    let elsewhere = |island: &Value| {
        let ranks = island["status"]["plan"]["ranks"].as_array();
        is("Running")(island)
            && ranks.is_some_and(|ranks| ranks.iter().all(|rank| rank["node"] != node.as_str()))
    };
    site.island("lab", elsewhere).await;
    site.plane.control.kubectl(&["uncordon", &node]).await.unwrap();
}
