//! What the operator knows of cards, and from whom.

use serde_json::{Value, json};
use test_cluster::Gpus;

use crate::site::{Plane, Site, is, island, message, reason, run};

const H100: &str = "NVIDIA-H100-80GB-HBM3";

/// The node's slice as NVIDIA's DRA driver writes it, with two cards of so many MiB.
fn slice(node: &str, generation: u32, mib: u64) -> Value {
    let device = |index: u32| {
        json!({
            "name": format!("gpu-{index}"),
            "attributes": {
                "type": {"string": "gpu"},
                "uuid": {"string": format!("GPU-{index}")},
                "productName": {"string": "NVIDIA H100 80GB HBM3"},
                "brand": {"string": "Nvidia"},
                "architecture": {"string": "Hopper"},
                "cudaComputeCapability": {"version": "9.0.0"},
            },
            "capacity": {"memory": {"value": format!("{mib}Mi")}},
        })
    };
    json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice",
        "metadata": {"name": format!("{node}-gpu.nvidia.com")},
        "spec": {
            "driver": "gpu.nvidia.com", "nodeName": node,
            "pool": {"name": node, "generation": generation, "resourceSliceCount": 1},
            "devices": [device(0), device(1)],
        },
    })
}

/// An island of two cards that asks for more memory than their labels say.
fn hungry(site: &Site) -> Value {
    let mut lab = island(site, "lab", H100, json!(2));
    lab["spec"]["minMemory"] = json!("164Gi");
    lab
}

fn short_of_memory(island: &Value) -> bool {
    reason(island, "Ready") == "BelowMinimumMemory"
}

/// Product, number and memory of the cards that were found on the only node.
fn found(island: &Value) -> [&Value; 3] {
    let found = &island["status"]["devices"][0];
    ["product", "count", "memory"].map(|field| &found[field])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_measured_counts_before_labels() {
    let mut site = Site::new(Plane::shared().await, "measured", &[Gpus::h100(2)]).await;
    let operator = site.operate(&[], None);
    site.apply(&[run("mini"), hungry(&site)]).await;
    let lab = site.island("lab", short_of_memory).await;
    assert_eq!(found(&lab), [&json!(H100), &json!(2), &json!("81559Mi")]);

    let annotate = async |value: &str| {
        let value = format!("heteroloco.dev/capability={value}");
        site.kubectl(&["annotate", "node", "measured-0", "--overwrite", &value]).await;
    };
    annotate("{}").await;
    let card = |index: u32| {
        json!({
            "product": H100, "index": index, "memoryBytes": 83_u64 << 30, "freeBytes": 0,
            "reached": {"f32Tflops": 50.0, "bf16Tflops": 700.0, "bandwidthGbps": 3000.0},
        })
    };
    let record = json!({"node": "probe-x7k2p", "devices": [card(0), card(1)], "links": {}});
    annotate(&serde_json::to_string_pretty(&record).unwrap()).await;
    let lab = site.island("lab", is("Running")).await;
    assert_eq!(found(&lab), [&json!(H100), &json!(2), &json!("83Gi")]);
    let seconds = |island: &Value| {
        island["status"]["plan"]["stepSeconds"].as_str().unwrap().parse::<f64>().unwrap()
    };
    let before = seconds(&lab);
    let said = site.said(operator);
    assert!(said.contains("annotation heteroloco.dev/capability is passed over"), "{said}");

    site.kubectl(&["delete", "computeisland", "lab"]).await;
    annotate(&record.to_string().replace("50.0", "5.0").replace("700.0", "7.0")).await;
    site.apply(&[island(&site, "lab", H100, json!(2))]).await;
    let slower = site.island("lab", is("Running")).await;
    assert!(seconds(&slower) > before, "{before}: {}", slower["status"]["plan"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_slices_say_counts_before_labels() {
    let mut site = Site::new(Plane::shared().await, "slices", &[Gpus::h100(2)]).await;
    site.operate(&[], None);
    site.apply(&[run("mini"), hungry(&site)]).await;
    site.island("lab", short_of_memory).await;
    site.apply(&[slice("slices-0", 1, 81_920)]).await;
    let more = |island: &Value| short_of_memory(island) && found(island)[2] == "80Gi";
    site.island("lab", more).await;
    site.apply(&[slice("slices-0", 2, 84_992)]).await;
    let lab = site.island("lab", is("Running")).await;
    assert_eq!(found(&lab), [&json!(H100), &json!(2), &json!("83Gi")]);
}

/// Has the device plugin offer so many cards, a string in JSON.
async fn offer(site: &Site, cards: &str) {
    let patch = format!(r#"{{"status": {{"allocatable": {{"nvidia.com/gpu": {cards}}}}}}}"#);
    let node = ["patch", "node", "dra-0", "--subresource=status", "--type=merge", "-p", &patch];
    site.kubectl(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cards_that_only_dra_offers_are_refused_with_what_to_change() {
    let mut site = Site::new(Plane::shared().await, "dra", &[Gpus::h100(2)]).await;
    let labels = ["product", "memory", "count"].map(|label| format!("nvidia.com/gpu.{label}-"));
    let unlabel = ["label", "node", "dra-0", &labels[0], &labels[1], &labels[2]];
    site.kubectl(&unlabel).await;
    offer(&site, "null").await;
    site.apply(&[slice("dra-0", 1, 81_559)]).await;
    site.apply(&[run("mini"), island(&site, "lab", H100, json!(2))]).await;
    site.operate(&[], None);
    let lab = site.island("lab", |island| reason(island, "Ready") == "NoNodes").await;
    let text = message(&lab, "Ready");
    let why = "its cards are offered by DRA only: NVIDIA's device plugin has to offer nvidia.com";
    assert!(text.contains(why), "{text}");
    offer(&site, r#""2""#).await;
    let lab = site.island("lab", is("Running")).await;
    assert_eq!(found(&lab), [&json!(H100), &json!(2), &json!("81559Mi")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_cards_are_used_where_an_island_says_so_each_by_a_pod_of_its_own() {
    let slices = "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb";
    let mut site = Site::new(Plane::shared().await, "mig", &[Gpus::h100(2)]).await;
    let labels = [format!("nvidia.com/gpu.product={slices}"), "nvidia.com/gpu.memory=40448".into()];
    site.kubectl(&["label", "node", "mig-0", "--overwrite", &labels[0], &labels[1]]).await;
    let lab = |product: &str| {
        let mut lab = island(&site, "lab", product, json!(2));
        lab["spec"]["parallelism"] = json!({"data": 2});
        lab
    };
    site.apply(&[run("mini"), lab("NVIDIA-H100*")]).await;
    let named = lab(slices);
    site.operate(&[], None);
    let refused = |island: &Value| reason(island, "Ready") == "NotEnoughCards";
    let text = message(&site.island("lab", refused).await, "Ready").to_owned();
    assert!(text.contains(&format!("have the product be {slices}")), "{text}");
    site.apply(&[named]).await;
    let lab = site.island("lab", is("Running")).await;
    assert_eq!(found(&lab), [&json!(slices), &json!(2), &json!("40448Mi")]);
    let pods = site.list("pod").await;
    let asked =
        pods.iter().filter(|pod| pod["metadata"]["name"].as_str().unwrap().starts_with("lab"));
    let asked: Vec<_> = asked
        .map(|pod| &pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
        .collect();
    assert_eq!(asked, [&json!("1"), &json!("1")]);
}
