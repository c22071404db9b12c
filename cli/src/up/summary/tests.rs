//! Tests of the sums over records.

mod history;

use contract::event::{Ending, IslandState, WorkerEvent};

use super::super::event::{Begin, Body, IslandBegin, RankEvent, Record, UpEvent};
use super::super::lines::{Teller, run_line};
use super::super::state::Activity;
use super::*;

const PARAMETERS: u64 = 1_000_000;

fn begin() -> UpEvent {
    let island = |name: &str| IslandBegin {
        name: name.to_owned(),
        cards: "1 × X".to_owned(),
        inner_steps: 5,
        step_seconds: Some(0.5),
        correction: Some(1.0),
    };
    UpEvent::Begin(Begin {
        run: "r".to_owned(),
        resumed: false,
        emulated: None,
        tokens: 4_000,
        rounds: 4,
        expected_tokens: None,
        round_seconds: None,
        expected_seconds: None,
        parameters: PARAMETERS,
        islands: vec![island("a"), island("b")],
    })
}

fn up(at: f64, event: UpEvent) -> Record {
    Record { at, elapsed: None, body: Body::Up(event) }
}

fn rank(at: f64, island: &str, event: WorkerEvent) -> Record {
    rank_of(1, at, island, event)
}

fn rank_of(epoch: u64, at: f64, island: &str, event: WorkerEvent) -> Record {
    let island = island.to_owned();
    Record { at, elapsed: None, body: Body::Rank(RankEvent { island, rank: 0, epoch, event }) }
}

fn started(island: &str, epoch: u64) -> Record {
    up(2.0, UpEvent::IslandStarted { island: island.to_owned(), epoch })
}

/// The lines told of the records, and the state that they add up to.
fn told(records: &[Record]) -> (Vec<String>, RunState) {
    let (mut teller, mut state, mut told) = (Teller::default(), RunState::default(), Vec::new());
    for record in records {
        state.apply(record);
        told.extend(teller.lines(record, &state));
    }
    (told, state)
}

/// Both islands keep 10,000 values in 12,000 bytes; 2 islands, so each value travels once.
fn round(round: u64, hash: &str) -> WorkerEvent {
    WorkerEvent::Round {
        round,
        tokens: 1_000 * (round + 1),
        islands: 2,
        loss: 2.5,
        theta_hash: hash.to_owned(),
        contributed: true,
        contribution_bytes: 12_000,
        contribution_values: 10_000,
        bytes_sent: 12_500,
        bytes_received: 12_500,
        compute_seconds: 6.0,
        exchange_seconds: 3.0,
        waiting_seconds: 1.0,
    }
}

fn folded(records: &[Record]) -> RunState {
    let mut state = RunState::default();
    records.iter().for_each(|record| state.apply(record));
    state
}

fn evaluation(round: u64, heldout_loss: f64) -> WorkerEvent {
    WorkerEvent::Evaluation { round, heldout_loss }
}

#[test]
fn a_run_of_two_rounds_adds_up() {
    let checkpoint = WorkerEvent::Checkpoint { round: 2, path: "/c/a".to_owned() };
    let state = folded(&[
        up(100.0, begin()),
        rank(101.0, "a", evaluation(0, 5.5)),
        rank(110.0, "a", round(0, "h0")),
        rank(110.5, "b", round(0, "h0")),
        rank(120.0, "b", round(1, "h1")),
        rank(120.5, "a", round(1, "h1")),
        rank(121.0, "b", evaluation(2, 4.25)),
        rank(122.0, "a", checkpoint),
    ]);
    let summary = Summary::of(&state);
    assert_eq!((summary.rounds, summary.tokens), (2, 2_000));
    assert_eq!(summary.heldout_first, Some((0, 5.5)));
    assert_eq!(summary.heldout_last, Some((2, 4.25)));
    assert_eq!(summary.replicas_identical, Some(true));
    assert_eq!(summary.checkpoint.as_deref(), Some("/c/a"));
    assert!((summary.wall_seconds - 22.0).abs() < 1e-9);
    assert_eq!(summary.wire.bits_per_value, Some(10.0));
    assert_eq!(summary.wire.ratio_to_f32, Some(320.0));
    assert!((summary.wire.bytes_per_round - 25_000.0).abs() < 1e-9);
    let island = &summary.islands["a"];
    assert_eq!(island.shares(), (60.0, 30.0, 10.0));
}

#[test]
fn a_contribution_that_was_late_or_dropped_is_not_counted() {
    let mut late = round(0, "h0");
    if let WorkerEvent::Round { contributed, islands, .. } = &mut late {
        (*contributed, *islands) = (false, 1);
    }
    let mut alone = round(0, "h0");
    if let WorkerEvent::Round { islands, bytes_received, .. } = &mut alone {
        (*islands, *bytes_received) = (1, 0);
    }
    let state = folded(&[
        up(0.0, begin()),
        rank(1.0, "a", alone),
        rank(1.0, "b", late),
        rank(2.0, "a", round(1, "h1")),
        rank(2.0, "b", round(1, "h1")),
    ]);
    let summary = Summary::of(&state);
    assert_eq!(summary.islands["a"].contributions, 2);
    assert_eq!(summary.islands["b"].contributions, 1);
    assert!((summary.wire.contribution_bytes - 12_000.0).abs() < 1e-9);
    // 37,500 bytes for three contributions that each had to reach one other island.
    assert_eq!(summary.wire.bits_per_value, Some(8.0 * 37_500.0 / 30_000.0));
}

#[test]
fn a_run_that_is_taken_up_again_counts_from_there_and_says_what_it_lost_once() {
    let digest = "ab".repeat(32);
    let mut records: Vec<Record> = vec![up(0.0, begin())];
    for number in 0..4 {
        records.push(rank(1.0, "a", round(number, &digest)));
        records.push(rank(1.0, "b", round(number, if number == 2 { "other" } else { &digest })));
    }
    let before = folded(&records);
    assert_eq!((before.committed(), before.tokens), (4, 4_000));
    assert_eq!(before.theta_at(2), Some(digest.clone()));
    assert_eq!((before.theta_at(0), before.theta_at(3), before.theta_at(9)), (None, None, None));

    let (store, cost) = (Some("old".to_owned()), "rounds 2 to 3 are trained again".to_owned());
    let adopted = UpEvent::Adopted { round: 2, tokens: 2_000, cost, store: store.clone() };
    records.extend([up(2.0, begin()), up(2.0, adopted), started("a", 2)]);
    let adopted = folded(&records);
    assert_eq!((adopted.committed(), adopted.tokens), (2, 2_000));
    records.push(rank_of(2, 3.0, "a", round(2, &digest)));
    let (said, state) = told(&records);
    assert_eq!((state.committed(), state.tokens, state.abandoned.len()), (3, 3_000, 2));
    let lines = said.join("\n");
    assert!(lines.contains("of round 2, at 2.0k tokens: rounds 2 to 3 are trained"), "{lines}");
    assert!(lines.contains("; the old store is kept as old"), "{lines}");
    assert!(!lines.contains("went back"), "{lines}");

    let again = UpEvent::BeganAgain { rounds: 3, tokens: 3_000, store };
    records.extend([up(4.0, begin()), up(4.0, again)]);
    let state = folded(&records);
    assert_eq!((state.committed(), state.tokens), (0, 0));
}

#[test]
fn one_hash_that_differs_is_not_identical_and_names_its_round() {
    let state = folded(&[
        up(0.0, begin()),
        rank(1.0, "a", round(0, "h0")),
        rank(1.0, "b", round(0, "h0")),
        rank(2.0, "a", round(1, "h1")),
        rank(2.0, "b", round(1, "other")),
    ]);
    let summary = Summary::of(&state);
    assert_eq!(summary.replicas_identical, Some(false));
    assert_eq!(summary.differing_rounds, [1]);
    assert!(summary.text().contains("DIFFERENT after rounds [1]"));
}

#[test]
fn a_round_that_an_island_made_again_counts_as_made_last() {
    let state = folded(&[
        up(0.0, begin()),
        rank(1.0, "a", round(0, "h0")),
        rank(1.5, "a", round(0, "again")),
        rank(2.0, "b", round(0, "again")),
    ]);
    assert_eq!(Summary::of(&state).replicas_identical, Some(true));
}

#[test]
fn a_lone_island_is_measured_by_its_contributions() {
    let mut alone = round(0, "h");
    if let WorkerEvent::Round { islands, bytes_sent, bytes_received, .. } = &mut alone {
        (*islands, *bytes_sent, *bytes_received) = (1, 0, 0);
    }
    let summary = Summary::of(&folded(&[up(0.0, begin()), rank(1.0, "a", alone)]));
    assert_eq!(summary.wire.bits_per_value, Some(9.6));
}

#[test]
fn a_run_without_rounds_claims_nothing() {
    let summary = Summary::of(&folded(&[up(0.0, begin())]));
    assert_eq!(summary.replicas_identical, None);
    assert_eq!((summary.rounds, summary.wall_seconds), (0, 0.0));
    assert!(summary.text().contains("checkpoint    none"));
}

#[test]
fn time_between_sessions_is_not_time_of_the_run() {
    let state = folded(&[
        up(0.0, begin()),
        rank(10.0, "a", round(0, "h")),
        up(1_000.0, begin()),
        rank(1_005.0, "a", round(1, "i")),
    ]);
    assert!((Summary::of(&state).wall_seconds - 15.0).abs() < 1e-9);
    assert_eq!(Summary::of(&state).rounds, 2);
}

#[test]
fn a_clock_that_is_set_changes_no_duration() {
    let at =
        |at: f64, elapsed: f64, record: Record| Record { at, elapsed: Some(elapsed), ..record };
    let state = folded(&[
        at(1_000.0, 0.5, up(0.0, begin())),
        at(5_000.0, 10.0, rank(0.0, "a", training_of(0))),
        at(100.0, 20.0, rank(0.0, "a", round(0, "h"))),
        at(100.0, 21.0, rank(0.0, "b", round(0, "h"))),
        at(7.0, 0.0, up(0.0, begin())),
        at(3.0, 9.5, rank(0.0, "a", round(1, "i"))),
    ]);
    assert!((state.wall - 30.0).abs() < 1e-9, "{}", state.wall);
    let first = folded(&[
        at(1_000.0, 10.0, rank(0.0, "a", training_of(0))),
        at(100.0, 20.0, rank(0.0, "a", round(0, "h"))),
    ]);
    assert_eq!(first.tokens_per_second(), Some(100.0));
}

fn training_of(round: u64) -> WorkerEvent {
    WorkerEvent::State { state: IslandState::Training, round, reason: String::new() }
}

/// Bytes that an island fetches to come back, and a round of which one island could not tell any
/// more, say nothing of the size of a value.
#[test]
fn bits_of_a_value_are_those_of_contributions_whatever_else_a_resumed_run_moves() {
    let mut fetched = round(2, "h2");
    if let WorkerEvent::Round { bytes_received, contributed, islands, .. } = &mut fetched {
        (*bytes_received, *contributed, *islands) = (4_000_000, false, 1);
    }
    let mut served = round(2, "h2");
    if let WorkerEvent::Round { bytes_sent, bytes_received, islands, .. } = &mut served {
        (*bytes_sent, *bytes_received, *islands) = (4_000_000, 0, 1);
    }
    let state = folded(&[
        up(0.0, begin()),
        rank(1.0, "a", round(0, "h0")),
        rank(1.0, "b", round(0, "h0")),
        // Killed before b told of it.
        rank(2.0, "a", round(1, "h1")),
        up(9.0, begin()),
        rank_of(2, 10.0, "a", served),
        rank_of(2, 10.0, "b", fetched),
        rank_of(2, 11.0, "a", round(3, "h3")),
        rank_of(2, 11.0, "b", round(3, "h3")),
    ]);
    let summary = Summary::of(&state);
    assert_eq!(summary.wire.bits_per_value, Some(10.0));
    assert_eq!(summary.wire.ratio_to_f32, Some(320.0));
    assert_eq!(summary.wire.copies_bytes, 3_988_000);
    assert!(summary.text().contains("(and 4.0 MB of θ, for islands that came back)"));
}

#[test]
fn words_of_an_older_epoch_come_too_late_to_be_believed() {
    let started = UpEvent::IslandStarted { island: "a".to_owned(), epoch: 2 };
    let training =
        WorkerEvent::State { state: IslandState::Training, round: 9, reason: String::new() };
    let state = folded(&[up(0.0, begin()), up(1.0, started), rank(2.0, "a", training)]);
    assert_eq!(state.islands["a"].activity, Activity::Working(IslandState::Starting));
    assert_eq!(state.islands["a"].round, 0);
}

#[test]
fn speed_and_time_left_come_from_this_sessions_rounds() {
    let training =
        WorkerEvent::State { state: IslandState::Training, round: 0, reason: String::new() };
    let state =
        folded(&[up(0.0, begin()), rank(10.0, "a", training), rank(20.0, "a", round(0, "h"))]);
    assert_eq!(state.tokens_per_second(), Some(100.0));
    assert_eq!(state.seconds_left(), Some(30.0));
    assert_eq!(run_line(&state), "round 1/4  loss 2.500  islands 2  100 tokens/s  ETA 0:30");
}

#[test]
fn a_round_and_a_loss_are_told_once_though_every_island_reports_them() {
    let (told, _) = told(&[
        up(0.0, begin()),
        rank(1.0, "a", round(0, "h")),
        rank(1.0, "b", round(0, "h")),
        rank(2.0, "b", evaluation(1, 4.0)),
        rank(2.0, "a", evaluation(1, 4.0)),
    ]);
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    assert_eq!(told[0], "run r starts: 1.0M parameters, 4.0k tokens, about 4 rounds");
    assert_eq!(
        told[1..3],
        ["  a: 1 × X, 5 inner steps a round", "  b: 1 × X, 5 inner steps a round"]
    );
    assert!(told[3].starts_with("round 1/4"), "{told:?}");
    assert_eq!(told[4..], ["held-out loss 4.0000 at the start of round 1"]);
}

/// Both islands make rounds 0 to 3, then both are lost and come back from round 1.
fn two_lives() -> Vec<Record> {
    let mut records = vec![up(0.0, begin()), started("a", 1), started("b", 1)];
    for number in 0..4 {
        let hash = format!("h{number}");
        records.push(rank(1.0, "a", round(number, &hash)));
        records.push(rank(1.0, "b", round(number, &hash)));
        records.push(rank(1.0, "a", evaluation(number + 1, 4.0)));
    }
    records.extend([started("a", 2), started("b", 2)]);
    records.push(rank_of(2, 3.0, "b", round(1, "new1")));
    records.push(rank_of(2, 3.0, "a", round(1, "new1")));
    records
}

#[test]
fn rounds_that_the_run_went_back_behind_are_forgotten_and_made_again_aloud() {
    let (lines, state) = told(&two_lives());
    let summary = Summary::of(&state);
    assert_eq!((summary.rounds, summary.tokens), (2, 2_000));
    assert_eq!(summary.replicas_identical, Some(true), "the lost rounds are no part of the run");
    assert_eq!(summary.heldout_last, Some((1, 4.0)));
    assert_eq!(state.rewinds, [1], "the second island's report goes back no further");
    assert_eq!(summary.wire.bits_per_value, Some(10.0), "what was lost had been sent");
    let back = lines.iter().position(|line| line.starts_with("went back")).unwrap();
    assert_eq!(lines[back], "went back to round 1: no island held a later one");
    assert!(lines[back + 1].starts_with("round 2/4"), "{lines:?}");
    assert_eq!(lines.len(), back + 2, "{lines:?}");
}

#[test]
fn a_round_that_only_lost_islands_had_made_is_no_difference_when_another_makes_it_anew() {
    let state = folded(&[
        up(0.0, begin()),
        started("a", 1),
        rank(1.0, "a", round(0, "h0")),
        rank(1.0, "b", round(0, "h0")),
        rank(1.0, "a", round(1, "h1")),
        started("a", 2),
        rank(3.0, "b", round(1, "new1")),
    ]);
    assert_eq!(Summary::of(&state).replicas_identical, Some(true));
    assert_eq!(state.rewinds, [1]);
}

#[test]
fn an_island_that_applies_late_what_a_lost_one_reported_takes_nothing_back() {
    let state = folded(&[
        up(0.0, begin()),
        started("a", 1),
        rank(1.0, "a", round(0, "h0")),
        rank(1.0, "a", round(1, "h1")),
        started("a", 2),
        rank(3.0, "b", round(0, "h0")),
    ]);
    assert!(state.rewinds.is_empty());
    assert_eq!((state.committed(), state.tokens), (2, 2_000), "only the newest round counts");
}

#[test]
fn earlier_sessions_rewinds_are_not_told_again() {
    let mut state = folded(&two_lives());
    let mut teller = Teller::default();
    for record in [up(9.0, begin()), rank_of(2, 9.0, "a", round(2, "h2"))] {
        state.apply(&record);
        let lines = teller.lines(&record, &state);
        assert!(!lines.iter().any(|line| line.starts_with("went back")), "{lines:?}");
    }
}

#[test]
fn why_an_island_does_what_it_does_is_told_once_and_routine_is_not() {
    let tell = |state: IslandState, round: u64, reason: &str| {
        rank(1.0, "a", WorkerEvent::State { state, round, reason: reason.to_owned() })
    };
    let full = "no checkpoint was written: disk full";
    let checkpoint = WorkerEvent::Checkpoint { round: 4, path: "/c".to_owned() };
    let (lines, _) = told(&[
        tell(IslandState::Starting, 0, "2 ranks met"),
        tell(IslandState::Starting, 1, "resumed from a checkpoint"),
        tell(IslandState::Syncing, 2, ""),
        tell(IslandState::Syncing, 2, "the model was fetched"),
        tell(IslandState::Training, 2, ""),
        tell(IslandState::Training, 3, full),
        tell(IslandState::Waiting, 3, ""),
        tell(IslandState::Training, 4, full),
        rank(1.0, "a", checkpoint),
        tell(IslandState::Training, 5, full),
        rank(2.0, "a", WorkerEvent::Finished { ending: Ending::Stopped }),
    ]);
    let expected = [
        "a: resumed from a checkpoint (round 1)",
        "a: fetching the model of round 2",
        "a: the model was fetched (round 2)",
        "a: no checkpoint was written: disk full (round 3)",
        "a: checkpoint of round 4 in /c",
        "a: no checkpoint was written: disk full (round 5)",
        "a: ended (asked to stop)",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn steps_that_were_not_finite_are_told_of_and_counted() {
    let step = |step, skipped| {
        let (loss, tokens, seconds) = (if skipped { f32::NAN } else { 2.5 }, 100, 0.5);
        let mfu = None;
        WorkerEvent::Step { round: 3, step, steps: 5, loss, tokens, seconds, skipped, mfu }
    };
    let records = [
        up(1.0, begin()),
        rank(2.0, "b", step(1, false)),
        rank(3.0, "b", step(2, true)),
        rank(4.0, "b", step(3, true)),
    ];
    let (lines, state) = told(&records);
    let expected = [2, 3].map(|n| format!("b: skipped step {n} of round 3: it was not finite"));
    assert!(lines.ends_with(&expected), "{lines:?}");
    let summary = Summary::of(&state);
    assert_eq!(summary.islands["b"].skipped_steps, 2);
    assert!(summary.text().contains(", 2 skipped steps"), "{}", summary.text());
}

#[test]
fn what_steps_took_stands_beside_what_was_planned() {
    let step = |step, seconds| WorkerEvent::Step {
        round: 0,
        step,
        steps: 5,
        loss: 2.0,
        tokens: 100,
        seconds,
        skipped: false,
        mfu: None,
    };
    let steps = [9.0, 0.4, 0.4, 0.4].into_iter().zip(1..);
    let mut records = vec![up(1.0, begin())];
    records.extend(steps.map(|(seconds, at)| rank(2.0, "a", step(at, seconds))));
    let summary = Summary::of(&folded(&records));
    let found = summary.islands["a"].calibration.as_ref().expect("enough steps");
    assert!((found.correction - 0.8).abs() < 1e-12, "{found:?}");
    let text = summary.text();
    assert!(text.contains("a step took 0.400 s, planned 0.500 (+25%)"), "{text}");
    assert_eq!(summary.islands["b"].calibration, None);
}

#[test]
fn the_fullest_device_and_what_stages_sent_stand_below_their_island() {
    let memory = |peak_bytes| WorkerEvent::Memory { device: 0, peak_bytes, planned_bytes: 400 };
    let boundary = WorkerEvent::Boundary { round: 0, bytes_sent: 3_000 };
    let state = folded(&[
        up(100.0, begin()),
        rank(110.0, "a", memory(300)),
        rank(110.0, "a", memory(100)),
        rank(110.0, "a", boundary.clone()),
        rank(120.0, "a", boundary),
        rank(120.0, "b", round(0, "h0")),
    ]);
    let text = Summary::of(&state).text();
    let line = text.lines().find(|line| line.contains("planned")).unwrap_or_default();
    assert_eq!(
        line.trim(),
        "memory at most 300 B of 400 B planned (75%), 6.0 kB between stages",
        "{text}"
    );
    assert_eq!(text.matches("planned").count(), 1, "of b nothing is known: {text}");
}
