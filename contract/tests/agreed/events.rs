//! Lines of ranks: whatever a rank says is read as it was meant, by older and newer readers too.

use contract::event::{Ending, IslandState, WorkerEvent};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::cases;

fn number() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("JSON has no other numbers", |number| number.is_finite())
}

fn loss() -> impl Strategy<Value = f32> {
    any::<f32>().prop_filter("JSON has no other numbers", |number| number.is_finite())
}

fn state() -> impl Strategy<Value = IslandState> {
    prop_oneof![
        Just(IslandState::Starting),
        Just(IslandState::Syncing),
        Just(IslandState::Training),
        Just(IslandState::Exchanging),
        Just(IslandState::Waiting),
    ]
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![Just(Ending::Complete), Just(Ending::Missed), Just(Ending::Stopped)]
}

fn step() -> impl Strategy<Value = WorkerEvent> {
    let counts = (any::<u64>(), any::<u32>(), any::<u32>(), any::<u64>());
    let measured = (loss(), number(), any::<bool>(), option::of(number()));
    (counts, measured).prop_map(|((round, step, steps, tokens), (loss, seconds, skipped, mfu))| {
        WorkerEvent::Step { round, step, steps, loss, tokens, seconds, skipped, mfu }
    })
}

fn round() -> impl Strategy<Value = WorkerEvent> {
    let counts = (any::<u64>(), any::<u64>(), any::<u32>(), loss(), any::<bool>());
    let bytes = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    (counts, bytes, (number(), number(), number()), any::<String>()).prop_map(
        |(counts, bytes, seconds, theta_hash)| WorkerEvent::Round {
            round: counts.0,
            tokens: counts.1,
            islands: counts.2,
            loss: counts.3,
            theta_hash,
            contributed: counts.4,
            contribution_bytes: bytes.0,
            contribution_values: bytes.1,
            bytes_sent: bytes.2,
            bytes_received: bytes.3,
            compute_seconds: seconds.0,
            exchange_seconds: seconds.1,
            waiting_seconds: seconds.2,
        },
    )
}

fn event() -> impl Strategy<Value = WorkerEvent> {
    let text = any::<String>;
    prop_oneof![
        (text(), option::of(text()))
            .prop_map(|(address, metrics)| WorkerEvent::Listening { address, metrics }),
        (state(), any::<u64>(), text()).prop_map(|(state, round, reason)| WorkerEvent::State {
            state,
            round,
            reason
        }),
        step(),
        round(),
        (any::<u64>(), number())
            .prop_map(|(round, heldout_loss)| WorkerEvent::Evaluation { round, heldout_loss }),
        (any::<u64>(), text()).prop_map(|(round, path)| WorkerEvent::Checkpoint { round, path }),
        (any::<u64>(), any::<u64>())
            .prop_map(|(round, bytes_sent)| WorkerEvent::Boundary { round, bytes_sent }),
        (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(
            |(device, peak_bytes, planned_bytes)| {
                WorkerEvent::Memory { device, peak_bytes, planned_bytes }
            }
        ),
        text().prop_map(|message| WorkerEvent::Warning { message }),
        ending().prop_map(|ending| WorkerEvent::Finished { ending }),
        text().prop_map(|error| WorkerEvent::Failed { error }),
    ]
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn every_event_survives_its_line_and_takes_one_line(event in event()) {
        let line = serde_json::to_string(&event).unwrap();
        prop_assert!(!line.contains(['\n', '\r']), "{}", line);
        prop_assert_eq!(serde_json::from_str::<WorkerEvent>(&line).unwrap(), event);
    }
}

/// The names of events and fields are what programs of other versions read.
#[test]
fn events_have_the_names_that_others_read() {
    let state = IslandState::Exchanging;
    let table = [
        (
            WorkerEvent::Listening { address: "h:1".into(), metrics: None },
            json!({"event": "listening", "address": "h:1", "metrics": null}),
        ),
        (
            WorkerEvent::State { state, round: 3, reason: String::new() },
            json!({"event": "state", "state": "exchanging", "round": 3, "reason": ""}),
        ),
        (
            WorkerEvent::Evaluation { round: 3, heldout_loss: 2.5 },
            json!({"event": "evaluation", "round": 3, "heldoutLoss": 2.5}),
        ),
        (
            WorkerEvent::Checkpoint { round: 4, path: "c".into() },
            json!({"event": "checkpoint", "round": 4, "path": "c"}),
        ),
        (
            WorkerEvent::Boundary { round: 4, bytes_sent: 7 },
            json!({"event": "boundary", "round": 4, "bytesSent": 7}),
        ),
        (
            WorkerEvent::Memory { device: 1, peak_bytes: u64::MAX, planned_bytes: 2 },
            json!({"event": "memory", "device": 1, "peakBytes": u64::MAX, "plannedBytes": 2}),
        ),
        (
            WorkerEvent::Finished { ending: Ending::Missed },
            json!({"event": "finished", "ending": "missed"}),
        ),
        (WorkerEvent::Failed { error: "e".into() }, json!({"event": "failed", "error": "e"})),
    ];
    for (event, line) in table {
        assert_eq!(serde_json::to_value(&event).unwrap(), line);
    }
}

fn read(line: Value) -> WorkerEvent {
    serde_json::from_value(line).unwrap()
}

#[test]
fn a_step_of_an_older_rank_was_not_skipped_and_says_nothing_of_its_utilisation() {
    let step = |more: Value| {
        let mut line = json!({"event": "step", "round": 1, "step": 2, "steps": 3, "loss": 2.5,
            "tokens": 10, "seconds": 0.5});
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        match read(line) {
            WorkerEvent::Step { skipped, mfu, .. } => (skipped, mfu),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(step(json!({})), (false, None));
    assert_eq!(step(json!({"skipped": true, "mfu": 0.25})), (true, Some(0.25)));
    assert_eq!(step(json!({"mfu": null, "ofALaterVersion": [1]})), (false, None));
    let line = serde_json::to_string(&read(json!({"event": "step", "round": 1, "step": 2,
        "steps": 3, "loss": 2.5, "tokens": 10, "seconds": 0.5})));
    let line = line.unwrap();
    assert!(
        !line.contains("skipped") && !line.contains("mfu"),
        "an older reader knows all: {line}"
    );
}

#[test]
fn a_round_of_an_older_rank_counted() {
    let round = json!({"event": "round", "round": 0, "tokens": 1, "islands": 2, "loss": 3.5,
        "thetaHash": "ab", "contributionBytes": 1, "contributionValues": 1, "bytesSent": 1,
        "bytesReceived": 1, "computeSeconds": 1, "exchangeSeconds": 1, "waitingSeconds": 0});
    let WorkerEvent::Round { contributed, waiting_seconds, .. } = read(round) else {
        panic!("no round")
    };
    assert!(contributed);
    assert_eq!(waiting_seconds.to_bits(), 0);
}

/// Training that diverges has losses that JSON cannot write: they are no number on either side, and
/// the rest of the line counts.
#[test]
fn losses_that_are_no_number_are_read_as_none() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let step = WorkerEvent::Step {
            round: 3,
            step: 1,
            steps: 5,
            loss: bad,
            tokens: 7,
            seconds: 0.5,
            skipped: true,
            mfu: None,
        };
        let line = serde_json::to_string(&step).unwrap();
        assert!(line.contains("\"loss\":null"), "{line}");
        let Ok(WorkerEvent::Step { loss, tokens, .. }) = serde_json::from_str(&line) else {
            panic!("{line}")
        };
        assert!(loss.is_nan() && tokens == 7, "{line}");
        let event = WorkerEvent::Evaluation { round: 3, heldout_loss: bad.into() };
        let line = serde_json::to_string(&event).unwrap();
        let Ok(WorkerEvent::Evaluation { round: 3, heldout_loss }) = serde_json::from_str(&line)
        else {
            panic!("{line}")
        };
        assert!(heldout_loss.is_nan());
    }
}

#[test]
fn lines_that_lack_something_or_are_of_another_kind_are_refused() {
    let table = [
        json!({"event": "tea"}),
        json!({"event": 3}),
        json!({"event": "checkpoint", "round": 4}),
        json!({"event": "checkpoint", "round": -1, "path": "c"}),
        json!({"event": "evaluation", "round": 1, "heldoutLoss": "low"}),
        json!({"event": "finished", "ending": "tired"}),
        json!({"event": "state", "state": "resting", "round": 1, "reason": ""}),
        json!({"round": 4, "path": "c"}),
        json!([]),
        json!(null),
    ];
    for line in table {
        let read = serde_json::from_value::<WorkerEvent>(line.clone());
        assert!(read.is_err(), "{line}: {read:?}");
    }
}
