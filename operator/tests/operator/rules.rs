//! What the API server refuses by the definitions' own rules.

use serde_json::{Value, json};

use crate::site::{Plane, Site, island, run};

/// An object with a field changed.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[field] = value;
    object
}

async fn refused(site: &Site, object: Value, message: &str) {
    let result = site.try_apply(std::slice::from_ref(&object)).await;
    let error = result.expect_err(&object.to_string());
    assert!(error.contains(message), "{object}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_refuses_its_bad_object_with_its_message() {
    let site = Site::new(Plane::shared().await, "rules", &[]).await;
    let good = island(&site, "lab", "NVIDIA-L4", json!(1));
    let pool = json!({
        "apiVersion": "heteroloco.dev/v1alpha1", "kind": "IslandPool", "metadata": {"name": "all"},
        "spec": {"runRef": {"name": "mini"}},
    });
    let expression = |operator: &str, values: Value| {
        let requirement = json!({"key": "zone", "operator": operator, "values": values});
        json!([requirement])
    };
    let twice = json!([{"product": "NVIDIA-L4"}, {"product": "NVIDIA-L4"}]);
    let table = [
        (
            with(good.clone(), "/spec/objective", json!("PerCost")),
            "needs costPerHour of every device",
        ),
        (with(good.clone(), "/spec/devices", twice), "list every product once"),
        (
            with(good.clone(), "/spec/nodeSelector/matchExpressions", expression("In", json!([]))),
            "In and NotIn need values",
        ),
        (
            with(
                good.clone(),
                "/spec/nodeSelector/matchExpressions",
                expression("Exists", json!(["a"])),
            ),
            "Exists and DoesNotExist take none",
        ),
        (with(good.clone(), "/spec/devices", json!([])), "should have at least 1 items"),
        (with(good.clone(), "/spec/minMemory", json!("much")), "should match"),
        (with(good.clone(), "/spec/startDeadline", json!("soon")), "should match"),
        (with(run("mini"), "/spec/model", json!({})), "set one of preset, config and from"),
        (
            with(run("mini"), "/spec/model", json!({"preset": "llama-1b", "from": "x"})),
            "set one of preset, config and from",
        ),
        (with(run("mini"), "/spec/model", json!({"preset": "gpt"})), "Unsupported value"),
        (
            with(run("mini"), "/spec/sparseLoCo", json!({"innerSteps": 0})),
            "auto or a number from 1",
        ),
        (with(run("mini"), "/spec/sparseLoCo", json!({"innerSteps": "few"})), "auto or a number"),
        (with(run("mini"), "/spec/sparseLoCo", json!({"chunk": 64})), "chunks of 4096 only"),
        (with(run("mini"), "/spec/sparseLoCo", json!({"overlap": 1})), "has no overlap: set 0"),
        (with(run("mini"), "/spec/tokens", json!(0)), "should be greater than or equal to 1"),
        (
            with(run("mini"), "/spec/data/volume", json!({"claimName": "a", "hostPath": "/b"})),
            "set one of claimName and hostPath",
        ),
        (
            with(
                with(pool.clone(), "/spec/minMemory", json!("2Ti")),
                "/spec/maxMemory",
                json!("100Gi"),
            ),
            "minMemory is more than maxMemory",
        ),
    ];
    for (object, message) in table {
        refused(&site, object, message).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_is_made_of_does_not_change() {
    let site = Site::new(Plane::shared().await, "immutable", &[]).await;
    let lab = island(&site, "lab", "NVIDIA-L4", json!(1));
    let pool = json!({
        "apiVersion": "heteroloco.dev/v1alpha1", "kind": "IslandPool", "metadata": {"name": "all"},
        "spec": {"runRef": {"name": "mini"}},
    });
    site.apply(&[run("mini"), lab.clone(), pool.clone()]).await;
    let other = json!({"name": "other"});
    let table = [
        (with(lab, "/spec/runRef", other.clone()), "an island stays with its run"),
        (with(pool, "/spec/runRef", other), "a pool stays with its run"),
        (with(run("mini"), "/spec/model", json!({"preset": "llama-1b"})), "a run keeps its model"),
        (with(run("mini"), "/spec/seed", json!(7)), "a run keeps its seed"),
        (with(run("mini"), "/spec/batch", json!({"sequences": 3})), "a run keeps its batch"),
        (with(run("mini"), "/spec/sparseLoCo", json!({"topK": 32})), "a run keeps its exchange"),
        (
            with(run("mini"), "/spec/coordinator", json!({"storage": "9Gi"})),
            "a volume keeps its size",
        ),
    ];
    for (object, message) in table {
        refused(&site, object, message).await;
    }
}
