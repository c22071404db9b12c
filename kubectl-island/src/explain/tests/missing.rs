//! What is said of islands of which a part is not known, or is not what it should be.

use super::*;

fn plan(more: Value) -> Value {
    let mut plan = json!({
        "epoch": 1, "generation": 3, "phase": "Waiting", "since": "2026-01-01T00:58:00Z",
        "index": 0, "layout": "1×1×1", "cards": 1, "memory": "24Gi", "stepSeconds": "0.25",
        "tokensPerSecond": 1_234_567,
    });
    if let (Some(plan), Some(more)) = (plan.as_object_mut(), more.as_object()) {
        plan.extend(more.clone());
    }
    json!({"observedGeneration": 3, "plan": plan})
}

#[test]
fn a_plan_that_has_not_begun_has_no_steps_and_no_round() {
    let said = text(&island(plan(Value::Null)), &[], now());
    let parts = [
        "over 1 card with 24.0 GiB, Waiting for 2m\n",
        "  H -, 250 ms a step expected, 1,234,567 tokens/s\n",
    ];
    check(&said, &parts);
    for part in ["in round", "broke", "why:", "generation", "it rests"] {
        assert!(!said.contains(part), "{part}: {said}");
    }
}

#[test]
fn numbers_that_are_none_are_shown_as_what_they_are_and_stop_nothing() {
    let more = json!({"stepSeconds": "soon", "memory": "much", "tokensPerSecond": -5,
        "since": "once", "failures": 2});
    let said = text(&island(plan(more)), &[], now());
    let parts = [
        "over 1 card with much, Waiting for -\n",
        "  H -, ? a step expected, 0 tokens/s\n",
        "  2 epochs broke in a row\n",
    ];
    check(&said, &parts);
}

#[test]
fn what_is_measured_stands_beside_the_round_where_it_is_known() {
    let measured = |more: Value| {
        let mut status = plan(Value::Null);
        if let (Some(status), Some(more)) = (status.as_object_mut(), more.as_object()) {
            status.extend(more.clone());
        }
        text(&island(status), &[], now())
    };
    let said = measured(json!({"round": 7, "tokensPerSecond": 1_100_000}));
    check(&said, &["  in round 7, - of the run's tokens, 1,100,000 tokens/s measured\n"]);
    let said = measured(json!({"share": "40.0%", "tokensPerSecond": -1}));
    check(&said, &["  in round -, 40.0% of the run's tokens\n"]);
}

#[test]
fn nobody_knows_whether_an_island_is_ready_whose_operator_does_not() {
    let unknown = island(json!({"conditions": [condition("Ready", "Unknown", "Lost", "no word")]}));
    check(&text(&unknown, &[], now()), &["namespace ml: perhaps ready for 5m, Lost: no word\n"]);
}

#[test]
fn events_of_another_version_of_kubernetes_lack_what_they_lack() {
    let bare = event(
        "ComputeIsland",
        "big",
        5,
        json!({
            "lastTimestamp": null, "reason": null, "type": null, "message": null,
        }),
    );
    let counted = event("Pod", "big-e1-r0", 5, json!({"count": 3}));
    let said = lately(&[bare, counted], "big", now());
    let rows: Vec<Vec<&str>> =
        said.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0].join(" "), "55m Normal Why pod big-e1-r0 at 5 (3 times)", "{said}");
    assert_eq!(rows[1].join(" "), "- - - island big -", "what has no time is the oldest: {said}");
}

#[test]
fn names_that_only_look_like_ranks_are_not_the_islands() {
    let names = ["big", "big-e1", "big-e-r0", "big-e1-r", "big-ex-r0", "big-e1-r0-x", "bi-e1-r0"];
    let events: Vec<Event> = names.iter().map(|name| event("Pod", name, 5, Value::Null)).collect();
    assert!(lately(&events, "big", now()).starts_with("no events of the last hour"));
}
