//! Islands and runs of which a part is not known yet, or is not what it should be.

use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-03T00:00:00Z".parse().expect("a time")
}

fn island(namespace: &str, name: &str, status: Value) -> ComputeIsland {
    serde_json::from_value(json!({
        "apiVersion": "heteroloco.dev/v1alpha1", "kind": "ComputeIsland",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"runRef": {"name": "mini"}, "devices": [{"product": "NVIDIA-L4"}]},
        "status": status,
    }))
    .expect("an island")
}

/// The words of the rows below the first of a table of islands.
fn rows(islands: &[ComputeIsland], namespace: Option<&str>) -> Vec<String> {
    let shown = Shown { islands: islands.iter().collect(), runs: vec![], namespace };
    let text = table(shown, now());
    let rows = text.lines().skip(1).take_while(|line| !line.is_empty());
    rows.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn what_is_not_known_is_a_dash_and_never_an_empty_cell() {
    let dashes = "new mini - - - - - - - - - - - -";
    for status in [Value::Null, json!({})] {
        assert_eq!(rows(&[island("ml", "new", status)], Some("ml")), [dashes]);
    }
    let run: TrainingRun = serde_json::from_value(json!({
        "apiVersion": "heteroloco.dev/v1alpha1", "kind": "TrainingRun",
        "metadata": {"name": "mini"},
        "spec": {"model": {"preset": "llama-demo"}, "tokens": 7,
            "data": {"path": "d", "tokenizer": "byte"}},
    }))
    .expect("a run");
    let text = table(Shown { islands: vec![], runs: vec![&run], namespace: None }, now());
    let last = text.lines().last().expect("a row");
    let words: Vec<&str> = last.split_whitespace().collect();
    assert_eq!(words.join(" "), "- mini - - - - of 7 - - - -", "{text}");
}

#[test]
fn islands_stand_by_their_namespace_and_then_their_name() {
    let named = [("b", "a"), ("a", "c"), ("b", "b"), ("a", "b")];
    let islands = named.map(|(namespace, name)| island(namespace, name, Value::Null));
    let firsts = |rows: Vec<String>| {
        let two = |row: &String| row.split(' ').take(2).collect::<Vec<_>>().join("/");
        rows.iter().map(two).collect::<Vec<_>>()
    };
    assert_eq!(firsts(rows(&islands, None)), ["a/b", "a/c", "b/a", "b/b"]);
}

#[test]
fn an_answer_that_nobody_has_is_a_question_and_a_long_one_is_cut() {
    let ready = |status: &str, reason: &str| {
        json!({"conditions": [{
            "type": "Ready", "status": status, "reason": reason, "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]})
    };
    let long = "r".repeat(60);
    let name = "n".repeat(63);
    let islands =
        [island("ml", "a", ready("Unknown", "NotSeen")), island("ml", &name, ready("True", &long))];
    let rows = rows(&islands, Some("ml"));
    assert!(rows[0].starts_with("a mini ? NotSeen - "), "{rows:?}");
    let cells: Vec<&str> = rows[1].split(' ').collect();
    assert_eq!([cells[0], cells[3]].map(|cell| cell.chars().count()), [NAME, NAME]);
    assert!(cells[0].contains('…') && cells[2] == "yes", "{rows:?}");
}

/// Another version of the operator may write what this one does not read as a number.
#[test]
fn memory_that_is_no_quantity_is_shown_as_it_is() {
    let plan = |memory: &str| {
        json!({"plan": {
            "epoch": 3, "generation": 1, "phase": "Stopping", "since": "2026-01-01T00:00:00Z",
            "index": 0, "layout": "1×1×1", "cards": 1, "memory": memory, "stepSeconds": "1",
            "tokensPerSecond": 1,
        }})
    };
    for (memory, shown) in [("24Gi", "24.0 GiB"), ("much", "much")] {
        let rows = rows(&[island("ml", "a", plan(memory))], Some("ml"));
        assert_eq!(rows, [format!("a mini - - Stopping 3 1×1×1 1 {shown} - - - - -")]);
    }
}

#[test]
fn a_terminal_of_any_size_holds_what_is_drawn() {
    let text: String = (0..30).map(|line| format!("line {line} ä語\n")).collect();
    for rows in 0..40 {
        for columns in [0, 1, 5, 80] {
            let lines = cropped(&text, columns, rows);
            // The last row is the cursor's; one line is there in any case.
            assert!(lines.len() <= rows.saturating_sub(1).max(1), "{rows}: {lines:?}");
            assert!(lines.iter().all(|line| line.chars().count() <= columns));
            let hidden = 30 - lines.len();
            if rows > 2 && columns == 80 && hidden > 0 {
                let more = format!("… {} more lines", hidden + 1);
                assert_eq!(lines.last(), Some(&more), "{rows}");
            }
        }
    }
}
