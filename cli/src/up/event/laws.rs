//! Every record is a line of its own, read again as what it was, for whoever reads `--json`.

use contract::event::{Ending, IslandState};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn own() -> impl Strategy<Value = UpEvent> {
    let text = any::<String>;
    let whole = any::<u64>;
    let store = || proptest::option::of(any::<String>());
    prop_oneof![
        (whole(), whole(), store()).prop_map(|(rounds, tokens, store)| UpEvent::BeganAgain {
            rounds,
            tokens,
            store
        }),
        (whole(), whole(), text(), store()).prop_map(|(round, tokens, cost, store)| {
            UpEvent::Adopted { round, tokens, cost, store }
        }),
        text().prop_map(|address| UpEvent::CoordinatorStarted { address }),
        (text(), 0.0..1e9)
            .prop_map(|(reason, after)| { UpEvent::CoordinatorRestarting { reason, after } }),
        (text(), whole()).prop_map(|(island, epoch)| UpEvent::IslandStarted { island, epoch }),
        (text(), any::<u32>(), whole(), text()).prop_map(|(island, rank, epoch, exit)| {
            UpEvent::RankExited { island, rank, epoch, exit }
        }),
        (text(), whole(), text(), 0.0..1e9).prop_map(|(island, epoch, reason, after)| {
            UpEvent::IslandRestarting { island, epoch, reason, after }
        }),
        (text(), text()).prop_map(|(island, reason)| UpEvent::IslandGivenUp { island, reason }),
        text().prop_map(|reason| UpEvent::Stopping { reason }),
        text().prop_map(|message| UpEvent::Warning { message }),
    ]
}

/// Those of a rank that have fields of the same names as events of `up`.
fn of_rank() -> impl Strategy<Value = WorkerEvent> {
    let text = any::<String>;
    prop_oneof![
        text().prop_map(|message| WorkerEvent::Warning { message }),
        text().prop_map(|error| WorkerEvent::Failed { error }),
        (text(), text())
            .prop_map(|(address, it)| WorkerEvent::Listening { address, metrics: Some(it) }),
        (any::<u64>(), text()).prop_map(|(round, reason)| {
            WorkerEvent::State { state: IslandState::Waiting, round, reason }
        }),
        (any::<u64>(), text()).prop_map(|(round, path)| WorkerEvent::Checkpoint { round, path }),
        Just(WorkerEvent::Finished { ending: Ending::Missed }),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let rank = (any::<String>(), any::<u32>(), any::<u64>(), of_rank());
    prop_oneof![
        own().prop_map(Body::Up),
        rank.prop_map(|(island, rank, epoch, event)| {
            Body::Rank(RankEvent { island, rank, epoch, event })
        }),
    ]
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_record_survives_its_line(
        at in 0.0..1e10, elapsed in proptest::option::of(0.0..1e7), body in body(),
    ) {
        let record = Record { at, elapsed, body };
        let line = serde_json::to_string(&record).unwrap();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
    }
}

/// Training that diverges is told by a rank; in the record its loss is no number either.
#[test]
fn a_loss_that_is_no_number_survives_in_a_record_too() {
    let step = WorkerEvent::Step {
        round: 1,
        step: 1,
        steps: 5,
        loss: f32::NAN,
        tokens: u64::MAX,
        seconds: 0.5,
        skipped: true,
        mfu: None,
    };
    let body = Body::Rank(RankEvent { island: "a".into(), rank: 0, epoch: 1, event: step });
    let line = serde_json::to_string(&Record { at: 1.0, elapsed: None, body }).unwrap();
    let read: Record = serde_json::from_str(&line).unwrap();
    let Body::Rank(RankEvent { event: WorkerEvent::Step { loss, tokens, skipped, .. }, .. }) =
        read.body
    else {
        panic!("{line}")
    };
    assert!(loss.is_nan() && skipped && tokens == u64::MAX, "{line}");
}

#[test]
fn the_end_of_a_session_is_told_with_its_kind_and_its_reason() {
    let table = [
        (Outcome::Finished, json!({"kind": "finished"}), "finished"),
        (Outcome::Stopped, json!({"kind": "stopped"}), "stopped"),
        (
            Outcome::Refused("no data".into()),
            json!({"kind": "refused", "reason": "no data"}),
            "refused: no data",
        ),
        (
            Outcome::Failed("lost".into()),
            json!({"kind": "failed", "reason": "lost"}),
            "failed: lost",
        ),
    ];
    for (outcome, expected, words) in table {
        assert_eq!(outcome.to_string(), words);
        let summary = Box::new(Summary { heldout_last: Some((3, f64::NAN)), ..Summary::default() });
        let body = Body::Up(UpEvent::End { outcome: outcome.clone(), summary });
        let line = serde_json::to_string(&Record { at: 1.0, elapsed: None, body }).unwrap();
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["event"], &value["outcome"]), (&"end".into(), &expected));
        // Whatever the run came to, its end is read again.
        let read: Record = serde_json::from_str(&line).unwrap();
        let Body::Up(UpEvent::End { outcome: read, .. }) = read.body else { panic!("{line}") };
        assert_eq!(read, outcome);
    }
}

#[test]
fn a_beginning_that_an_older_version_wrote_says_nothing_of_its_plan() {
    let line = json!({"at": 5.0, "event": "begin", "run": "r", "resumed": true, "emulated": null,
        "tokens": 9, "rounds": 3, "parameters": 100,
        "islands": [{"name": "a", "cards": "1 × X", "innerSteps": 5}]});
    let record: Record = serde_json::from_value(line).unwrap();
    assert_eq!(record.clock().to_bits(), 5.0_f64.to_bits(), "its clock is the wall's");
    let Body::Up(UpEvent::Begin(begin)) = record.body else { panic!("{record:?}") };
    assert_eq!(
        (begin.expected_tokens, begin.expected_seconds, begin.round_seconds),
        (None, None, None)
    );
    assert_eq!((begin.islands[0].step_seconds, begin.islands[0].correction), (None, None));
}

#[test]
fn what_names_nobody_or_nothing_is_no_record() {
    let table = [
        json!({"event": "warning", "message": "m"}),
        json!({"at": 1.0}),
        json!({"at": 1.0, "event": "tea"}),
        json!({"at": 1.0, "event": "checkpoint", "round": 1, "path": "c"}),
        json!({"at": "noon", "event": "warning", "message": "m"}),
        json!({}),
    ];
    for line in table {
        assert!(serde_json::from_value::<Record>(line.clone()).is_err(), "{line}");
    }
}
