//! The whole product on a real Kubernetes: images of the project's own Dockerfiles, installed by
//! Helm, on two kubelets with unlike cards, which CPU threads stand in for.

mod stage;

use serde_json::{Value, json};
use test_cluster::condition;

use stage::Stage;

/// Tokens of a run that goes on for as many rounds as it takes while things happen to it.
const TOKENS: u64 = 900_000;

fn island(name: &str, product: &str, most: u32, idle: Value) -> Value {
    json!({
        "apiVersion": "heteroloco.dev/v1alpha1", "kind": "ComputeIsland",
        "metadata": {"name": name},
        "spec": {
            "runRef": {"name": "mini"}, "idle": idle,
            "devices": [{"product": product, "count": {"min": 1, "max": most}}],
            // The smallest model needs no more than a card: replicas show how many there are.
            "parallelism": {"tensor": 1, "pipeline": 1},
        },
    })
}

fn in_phase(phase: &'static str, cards: u32) -> impl Fn(&Value) -> bool {
    move |island| {
        let plan = &island["status"]["plan"];
        plan["phase"] == phase && plan["cards"] == cards
    }
}

fn is(condition_type: &'static str, status: &'static str) -> impl Fn(&Value) -> bool {
    move |object| condition(object, condition_type)["status"] == status
}

/// The message of a condition.
fn said<'a>(object: &'a Value, condition_type: &str) -> &'a str {
    condition(object, condition_type)["message"].as_str().unwrap_or_default()
}

fn epoch(island: &Value) -> i64 {
    island["status"]["plan"]["epoch"].as_i64().unwrap()
}

/// One test, because a cluster, images and a run take minutes to come to where things can happen.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_installed_by_helm_trains_to_its_end_whatever_happens_to_its_islands() {
    let stage = Stage::new().await;
    stage.install().await;
    stage.fill_disk();
    let run = stage.run("mini", TOKENS);
    let dedicated = island("big", "NVIDIA-H100*", 1, json!({"policy": "Dedicated"}));
    let idle = json!({"policy": "Harvest", "cooldown": "1s"});
    let harvest = island("desk", "NVIDIA-GeForce-RTX-4090", 2, idle);
    stage.apply(&run).await;
    stage.apply(&[dedicated, harvest]).await;

    let full = |run: &Value| said(run, "Coordinated").contains("No space left on device");
    stage.wait("trainingrun", "mini", full).await;
    stage.empty_disk();
    stage.wait("trainingrun", "mini", is("Coordinated", "True")).await;

    let unpulled = |island: &Value| said(island, "Ready").contains("Image");
    stage.wait("computeisland", "big", unpulled).await;
    stage.mend().await;
    stage.kubectl(&["delete", "pods", "--selector=heteroloco.dev/island"]).await;
    let big = stage.wait("computeisland", "big", in_phase("Running", 1)).await;
    stage.wait("computeisland", "desk", in_phase("Running", 2)).await;
    let begun = |run: &Value| run["status"]["round"].as_i64() >= Some(1);
    let run = stage.wait("trainingrun", "mini", begun).await;
    let first: f64 = run["status"]["loss"].as_str().unwrap().parse().unwrap();

    // Somebody's ordinary pod takes three of four cards: the harvesting island gives way.
    stage.apply(&[stage.colleague(3)]).await;
    stage.wait("pod", "colleague", |pod| pod["status"]["phase"] == "Running").await;
    let desk = stage.wait("computeisland", "desk", in_phase("Running", 1)).await;
    assert!(epoch(&desk) > 1, "{desk}");
    stage.kubectl(&["delete", "pod", "colleague", "--wait=true", "--grace-period=1"]).await;
    let desk = stage.wait("computeisland", "desk", in_phase("Running", 2)).await;

    let measured = |island: &Value| {
        let status = &island["status"];
        status["tokens"].as_i64() > Some(0) && status["tokensPerSecond"].as_i64() > Some(0)
    };
    stage.wait("computeisland", "big", measured).await;

    // An upgrade of the operator, to look after all namespaces, touches no island.
    let before = (epoch(&big), epoch(&desk));
    stage.upgrade().await;
    let big = stage.get("computeisland", "big").await;
    let desk = stage.get("computeisland", "desk").await;
    assert_eq!((epoch(&big), epoch(&desk)), before, "what happens to one is no other's concern");

    let run = stage.wait("trainingrun", "mini", is("Complete", "True")).await;
    assert!(run["status"]["tokens"].as_u64() >= Some(TOKENS), "{run}");
    let last: f64 = run["status"]["loss"].as_str().unwrap().parse().unwrap();
    assert!(last < first, "{last} after {first}");
    assert!(run["status"]["checkpoint"]["round"].as_i64() >= Some(5), "{run}");
    stage.wait("computeisland", "big", in_phase("Done", 1)).await;
    assert!(stage.path("checkpoints/big").is_dir());

    stage.uninstall().await;
    let crds = stage.kubectl(&["get", "crd", "-o", "name"]).await;
    assert!(crds.contains("computeislands.heteroloco.dev"), "{crds}");
    assert!(!stage.get("trainingrun", "mini").await.is_null(), "runs stay");
    assert!(!stage.get("pvc", "mini-coordinator").await.is_null(), "their record stays");
}
