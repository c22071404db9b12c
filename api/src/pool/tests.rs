//! Tests of what a pool asks of its islands.

use serde_json::{Value, json};

use super::*;

fn pool(spec: Value) -> IslandPool {
    let mut whole = json!({"runRef": {"name": "mini"}});
    let fields = whole.as_object_mut().expect("a spec");
    fields.extend(spec.as_object().expect("fields").clone());
    IslandPool::new("all", serde_json::from_value(whole).expect("a pool"))
}

fn refused(spec: Value) -> Vec<String> {
    let problems = pool(spec).wishes().expect_err("something wrong");
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn wishes_are_what_a_pool_says_and_nothing_where_it_is_silent() {
    assert_eq!(pool(json!({})).wishes(), Ok(Wishes::default()));
    let wishes = pool(json!({
        "minMemory": "80Gi", "maxMemory": "640Gi", "products": ["NVIDIA-H100*", "NVIDIA-L4"],
        "template": {
            "objective": "PerWatt",
            "pipeline": {"recompute": true, "compression": {"rank": 64, "mode": "WhereSlow"}},
            "tolerations": [{"key": "team", "operator": "Exists"}],
            "idle": {"policy": "Harvest"},
        },
    }))
    .wishes()
    .expect("right");
    assert_eq!((wishes.min_memory, wishes.max_memory), (Some(80 << 30), Some(640 << 30)));
    assert_eq!(wishes.products, ["NVIDIA-H100*", "NVIDIA-L4"]);
    assert_eq!(wishes.objective, plan::request::Objective::PerWatt);
    assert_eq!(wishes.pipeline.recompute, Some(true));
    assert_eq!(wishes.pipeline.compression.map(|it| it.rank), Some(64));
    assert!(wishes.pipeline.compress_where_slow);
}

#[test]
fn memory_lies_between_least_and_most_and_has_its_unit() {
    let memory = |least: &str, most: &str| {
        pool(json!({"minMemory": least, "maxMemory": most})).wishes().map_err(|problems| {
            problems.iter().map(|it| it.path.clone()).collect::<Vec<_>>().join(" ")
        })
    };
    let taken = |least, most| memory(least, most).map(|it| (it.min_memory, it.max_memory));
    assert_eq!(taken("24Gi", "24Gi"), Ok((Some(24 << 30), Some(24 << 30))));
    assert_eq!(taken("24576Mi", "24Gi"), Ok((Some(24 << 30), Some(24 << 30))));
    assert_eq!(taken("0", "1Gi"), Ok((Some(0), Some(1 << 30))));
    for (least, most, paths) in [
        ("25Gi", "24Gi", "spec.minMemory"),
        // Greater as a number, and less as text.
        ("100Gi", "24Gi", "spec.minMemory"),
        ("24Gi", "24G", "spec.minMemory"),
        ("24", "48Gi", "spec.minMemory"),
        ("24GB", "48 Gi", "spec.minMemory spec.maxMemory"),
        ("24Gi", "much", "spec.maxMemory"),
    ] {
        assert_eq!(memory(least, most), Err(paths.to_owned()), "{least} {most}");
    }
    let said = refused(json!({"minMemory": "25Gi", "maxMemory": "24Gi"}));
    assert_eq!(said, ["spec.minMemory: is more than maxMemory: lower it, or raise maxMemory"]);
}

#[test]
fn every_mistake_of_a_pool_is_told_at_its_place() {
    let found = refused(json!({
        "minMemory": "24GB",
        "nodeSelector": {"matchExpressions": [
            {"key": "a", "operator": "Exists"},
            {"key": "b", "operator": "In"},
            {"key": "c", "operator": "DoesNotExist", "values": ["d"]},
        ]},
        "template": {"tolerations": [
            {"key": "team", "operator": "Exists"},
            {"value": "x"},
            {"key": "k", "operator": "Exists", "value": "v"},
        ]},
    }));
    let begins = [
        "spec.minMemory: \"24GB\" is not a quantity: write `24G`",
        "spec.nodeSelector.matchExpressions[1].values: In needs at least one value",
        "spec.nodeSelector.matchExpressions[2].values: DoesNotExist takes no values",
        "spec.template.tolerations[1]: without a key it tolerates every taint",
        "spec.template.tolerations[2].value: Exists takes no value: leave it out",
    ];
    assert_eq!(found.len(), begins.len(), "{found:#?}");
    for (line, begin) in found.iter().zip(begins) {
        assert!(line.starts_with(begin), "{begin}\n got {line}");
    }
}
