//! What is said of islands that wait, run, or were never looked at.

mod missing;

use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().expect("a time")
}

fn island(status: Value) -> ComputeIsland {
    serde_json::from_value(json!({
        "apiVersion": "heteroloco.dev/v1alpha1", "kind": "ComputeIsland",
        "metadata": {"name": "big", "namespace": "ml", "generation": 3},
        "spec": {"runRef": {"name": "mini"}, "devices": [{"product": "NVIDIA-H100*"}]},
        "status": status,
    }))
    .expect("an island")
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-01T00:55:00Z",
    })
}

fn event(kind: &str, name: &str, minute: u32, more: Value) -> Event {
    let mut event = json!({
        "metadata": {"name": "x"},
        "involvedObject": {"kind": kind, "name": name},
        "lastTimestamp": format!("2026-01-01T00:{minute:02}:00Z"),
        "reason": "Why", "type": "Normal", "message": format!("at {minute}"),
    });
    if let (Some(event), Some(more)) = (event.as_object_mut(), more.as_object()) {
        event.extend(more.clone());
    }
    serde_json::from_value(event).expect("an event")
}

fn check(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
}

#[test]
fn an_island_that_waits_says_for_whose_cards() {
    let why = "1 card is missing; it waits for cards of island ml/desk";
    let waits = island(json!({
        "observedGeneration": 2,
        "conditions": [
            condition("Ready", "False", "NotEnoughCards", why),
            condition("CapacitySatisfied", "False", "WaitingForCards", why),
        ],
        "devices": [
            {"node": "a", "product": "NVIDIA-L4", "count": 2, "memory": "24Gi"},
        ],
    }));
    let said = text(&waits, &[], now());
    let head =
        format!("island big of run mini, namespace ml: not ready for 5m, NotEnoughCards: {why}");
    check(
        &said,
        &[
            &head,
            "generation 2 of its spec, which is at 3 now",
            "no plan; idle cards that were found for one:",
            "  a     2 × NVIDIA-L4  24.0 GiB",
            "  CapacitySatisfied  False   WaitingForCards  5m     1 card is missing",
            "no events",
        ],
    );
}

#[test]
fn a_plan_is_shown_rank_by_rank_with_its_reasons() {
    let rank = |node: &str, layers: &str| {
        json!({
            "node": node, "product": "NVIDIA-L4", "count": 2, "layers": layers,
            "memory": "12Gi", "headroom": "10Gi",
        })
    };
    let runs = island(json!({
        "observedGeneration": 3,
        "conditions": [condition("Ready", "True", "Running", "all ranks run")],
        "round": 7, "share": "40.0%",
        "plan": {
            "epoch": 4, "generation": 3, "phase": "Running", "since": "2026-01-01T00:59:30Z",
            "failures": 1, "index": 0, "layout": "1×2×2", "cards": 4, "memory": "96Gi",
            "innerSteps": 30, "stepSeconds": "1.500000", "tokensPerSecond": 21845,
            "ranks": [rank("a", "0-15"), rank("b", "16-31")],
            "reasons": ["one card does not\nhold the model"],
        },
    }));
    check(
        &text(&runs, &[], now()),
        &[
            "ready for 5m, Running: all ranks run",
            "plan of epoch 4: 1×2×2 (data × pipeline × tensor) over 4 cards with 96.0 GiB, \
         Running for 30s",
            "  H 30, 1.5 s a step expected, 21,845 tokens/s",
            "  in round 7, 40.0% of the run's tokens",
            "  1 epoch broke in a row",
            "  RANK  NODE  CARDS          LAYERS  MEMORY    HEADROOM",
            "  1     b     2 × NVIDIA-L4  16-31   12.0 GiB  10.0 GiB",
            "  why: one card does not hold the model",
        ],
    );
}

#[test]
fn an_island_without_status_points_at_its_operator() {
    let mut new = island(Value::Null);
    new.spec.suspend = true;
    let said = text(&new, &[], now());
    check(&said, &["no operator has looked at it yet", "it rests: `kubectl island undrain big`"]);
    check(&said, &["no plan", "no conditions"]);
}

#[test]
fn events_are_the_island_s_and_its_pods_newest_first() {
    let series = json!({
        "lastTimestamp": null, "eventTime": "2026-01-01T00:01:00.000000Z",
        "series": {"count": 9, "lastObservedTime": "2026-01-01T00:50:00.000000Z"},
    });
    let mut events = vec![
        event("ComputeIsland", "big", 10, Value::Null),
        event("Pod", "big-e3-r0", 20, Value::Null),
        event("Pod", "big-e3-r1", 2, series),
        event("Pod", "big-er-e1-r0", 30, Value::Null),
        event("Pod", "bigger-e1-r0", 31, Value::Null),
        event("ComputeIsland", "desk", 32, Value::Null),
        event("TrainingRun", "big", 33, Value::Null),
    ];
    let said = lately(&events, "big", now());
    let ages: Vec<&str> =
        said.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(ages, ["10m", "40m", "50m"], "{said}");
    check(&said, &["pod big-e3-r1  at 2 (9 times)", "island big"]);
    events.extend((0..40).map(|minute| event("ComputeIsland", "big", minute, Value::Null)));
    assert_eq!(lately(&events, "big", now()).lines().count(), 2 + EVENTS);
}
