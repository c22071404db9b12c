//! Tests of what an island says of cards and of taints, as the API server hands it over.

use serde_json::{Value, json};

use super::*;

fn toleration(value: Value) -> Toleration {
    serde_json::from_value(value).expect("a toleration")
}

/// As Kubernetes' documentation has it.
#[test]
fn a_toleration_meets_a_taint_as_it_does_for_pods() {
    let taint = ("team", "x", "NoSchedule");
    let table = [
        (json!({"key": "team", "operator": "Equal", "value": "x"}), taint, true),
        (json!({"key": "team", "value": "x"}), taint, true),
        (json!({"key": "team", "value": "y"}), taint, false),
        (json!({"key": "team"}), taint, false),
        (json!({"key": "team"}), ("team", "", "NoSchedule"), true),
        (json!({"key": "team", "value": ""}), ("team", "", "NoExecute"), true),
        (json!({"key": "team", "operator": "Exists"}), taint, true),
        (json!({"key": "other", "operator": "Exists"}), taint, false),
        (json!({"operator": "Exists"}), taint, true),
        (json!({"operator": "Exists", "effect": "NoExecute"}), taint, false),
        (json!({"operator": "Exists", "effect": "NoSchedule"}), taint, true),
        (json!({"key": "team", "value": "x", "effect": "NoSchedule"}), taint, true),
        (json!({"key": "team", "value": "x", "effect": "PreferNoSchedule"}), taint, false),
        // Without a key only Exists meets everything.
        (json!({}), taint, false),
        (json!({"value": "x"}), taint, false),
    ];
    for (value, (key, told, effect), borne) in table {
        assert_eq!(toleration(value.clone()).tolerates(key, told, effect), borne, "{value}");
    }
}

fn count(value: Value) -> Result<Count, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[test]
fn a_count_is_a_number_or_its_bounds_and_comes_back_as_it_was() {
    let between = |min, max| Count::Between(CountRange { min, max });
    let table = [
        (json!(0), Count::Exactly(0)),
        (json!(u32::MAX), Count::Exactly(u32::MAX)),
        (json!({"min": 2, "max": 8}), between(2, 8)),
        (json!({"max": 8}), between(0, 8)),
        (json!({"min": 9, "max": 8}), between(9, 8)),
    ];
    for (value, expected) in table {
        assert_eq!(count(value.clone()), Ok(expected), "{value}");
        let written = serde_json::to_value(expected).expect("JSON");
        assert_eq!(count(written), Ok(expected), "{value}");
    }
    let device: Device = serde_json::from_value(json!({"product": "NVIDIA-L4"})).expect("one");
    assert_eq!(device.count, Count::Exactly(1), "a card where nothing is said");
}

#[test]
fn what_was_meant_by_a_count_is_offered_only_where_it_is_clear() {
    let table = [
        (json!("8"), Some("write `8`")),
        (json!(8.0), Some("write `8`")),
        (json!("2-8"), Some("write `{min: 2, max: 8}`")),
        (json!("2..8"), Some("write `{min: 2, max: 8}`")),
        (json!("2\u{2013}8"), Some("write `{min: 2, max: 8}`")),
        (json!([2, 8]), Some("write `{min: 2, max: 8}`")),
        (json!({"min": 2}), Some("write `{min: 2, max: 1024}`")),
        (json!({"minimum": 2, "max": 8}), Some("write `min` in its place")),
        (json!({"min": "2", "max": 8}), Some("write `2`")),
        (json!("8-2"), None),
        (json!([8, 2]), None),
        (json!([1, 2, 3]), None),
        (json!("some"), None),
        (json!(true), None),
        (json!(null), None),
        (json!({"min": [], "max": 8}), None),
        (json!({"cards": 8}), None),
    ];
    for (value, advice) in table {
        let said = count(value.clone()).expect_err("no count");
        assert!(advice.is_none_or(|advice| said.contains(advice)), "{value}: {said}");
        assert_eq!(said.contains("write `"), advice.is_some(), "{value}: {said}");
    }
}

#[test]
fn what_is_absent_of_an_island_is_not_written_and_read_as_absent() {
    let spec = json!({"runRef": {"name": "mini"}, "devices": [{"product": "NVIDIA-L4"}]});
    let read: ComputeIslandSpec = serde_json::from_value(spec).expect("an island");
    let written = serde_json::to_value(&read).expect("JSON");
    let expected = json!({
        "runRef": {"name": "mini"}, "objective": "Throughput",
        "devices": [{"product": "NVIDIA-L4", "count": 1}],
    });
    assert_eq!(written, expected);
    assert_eq!(serde_json::from_value::<ComputeIslandSpec>(written).expect("again"), read);
}
