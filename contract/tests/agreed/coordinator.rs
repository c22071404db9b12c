//! What a coordinator is told and what it says, as files and lines of other versions have it.

use contract::coordinator::{CoordinatorEvent, CoordinatorSpec, Standing};
use contract::exit::{EXIT_CONFIG, EXIT_DIVERGED, EXIT_FAILED, EXIT_LOST, EXIT_MEMORY};
use serde_json::{Value, json};

fn file() -> Value {
    json!({
        "listen": "0.0.0.0:7070", "store": "run/coordinator.redb",
        "run": {
            "name": "mini", "islands": 3, "minimum": 2, "quorumPercent": 60, "graceMs": 30_000,
            "deadlineMs": 1_500_000, "tokens": 2_000_000,
        },
    })
}

#[test]
fn a_file_of_an_older_version_has_neither_metrics_nor_a_checkpoint_to_adopt() {
    let spec: CoordinatorSpec = serde_json::from_value(file()).unwrap();
    assert_eq!((&spec.metrics, &spec.adopt), (&None, &None));
    let written = serde_json::to_value(&spec).unwrap();
    let names: Vec<&String> = written.as_object().unwrap().keys().collect();
    assert_eq!(names, ["listen", "run", "store"], "an older coordinator knows every field");
    assert_eq!(serde_json::from_value::<CoordinatorSpec>(written).unwrap(), spec);
}

#[test]
fn what_a_coordinator_does_not_know_is_refused_and_not_passed_over() {
    type Spoil = fn(&mut Value);
    let wrong: [(&str, Spoil); 4] = [
        ("metricz", |file| file["metricz"] = "127.0.0.1:0".into()),
        ("graceSeconds", |file| file["run"]["graceSeconds"] = 3.into()),
        ("rounds", |file| file["adopt"] = json!({"rounds": 4, "tokens": 7})),
        ("missing field `store`", |file| drop(file.as_object_mut().unwrap().remove("store"))),
    ];
    for (named, change) in wrong {
        let mut file = file();
        change(&mut file);
        let error = serde_json::from_value::<CoordinatorSpec>(file).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn what_it_says_of_its_store_is_read_by_whoever_asked() {
    let table = [
        (Standing::Missing, json!({"store": "missing"})),
        (Standing::Damaged { reason: "cut".into() }, json!({"store": "damaged", "reason": "cut"})),
        (
            Standing::Whole {
                run: "mini".into(),
                round: 4,
                highest: u64::MAX,
                tokens: 700,
                checkpoint: None,
            },
            json!({"store": "whole", "run": "mini", "round": 4, "highest": u64::MAX,
                "tokens": 700, "checkpoint": null}),
        ),
    ];
    for (standing, line) in table {
        assert_eq!(serde_json::to_value(&standing).unwrap(), line);
        assert_eq!(serde_json::from_value::<Standing>(line).unwrap(), standing);
    }
    assert!(serde_json::from_str::<Standing>("").is_err(), "it said nothing");
    assert!(serde_json::from_value::<Standing>(json!({"store": "whole"})).is_err());
}

#[test]
fn where_it_serves_is_one_line_with_or_without_metrics() {
    let told: CoordinatorEvent =
        serde_json::from_value(json!({"event": "listening", "address": "h:1"})).unwrap();
    assert_eq!(told, CoordinatorEvent::Listening { address: "h:1".into(), metrics: None });
    let line = serde_json::to_string(&told).unwrap();
    assert_eq!(line, r#"{"event":"listening","address":"h:1"}"#);
}

#[test]
fn codes_can_be_told_from_each_other_and_from_those_that_others_give() {
    let mut codes = vec![EXIT_FAILED, EXIT_CONFIG, EXIT_LOST, EXIT_MEMORY, EXIT_DIVERGED];
    // A good end, a Rust panic, what shells say of a missing program, and of signals.
    codes.extend([0, 101, 126, 127]);
    codes.extend(129..160);
    let all = codes.len();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), all);
    assert!(codes.iter().all(|code| u8::try_from(*code).is_ok()));
}
