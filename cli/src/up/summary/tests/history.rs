//! What records add up to in whatever order they come, over sessions and versions.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What an island says of one round, in this order.
fn told_by(island: &str, number: u64) -> Vec<Record> {
    let hash = format!("h{number}");
    let checkpoint =
        WorkerEvent::Checkpoint { round: number + 1, path: format!("/c/{island}/{number}") };
    vec![
        rank(1.0, island, training_of(number)),
        rank(1.0, island, round(number, &hash)),
        rank(1.0, island, evaluation(number + 1, 4.0 - number as f64 / 8.0)),
        rank(1.0, island, checkpoint),
    ]
}

/// The records of both islands over some rounds, of which `picks` says whose is next.
fn mixed(rounds: u64, picks: &[bool]) -> Vec<Record> {
    let whole = |island| (0..rounds).flat_map(|at| told_by(island, at)).collect::<Vec<_>>();
    let mut left = [whole("a").into_iter(), whole("b").into_iter()];
    let mut records = vec![up(0.0, begin())];
    for pick in picks {
        records.extend(left[usize::from(*pick)].next());
    }
    let [a, b] = left;
    records.extend(a.chain(b));
    records
}

fn summary_of(records: &[Record]) -> Summary {
    Summary::of(&folded(records))
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(cases(128))]

    /// Islands are processes: what one of them says may come long after the others' words.
    #[test]
    fn islands_may_tell_of_rounds_in_any_order(picks in vec(any::<bool>(), 0..40)) {
        let records = mixed(5, &picks);
        let state = folded(&records);
        prop_assert_eq!(&state.rewinds, &Vec::<u64>::new());
        prop_assert_eq!(Summary::of(&state), summary_of(&mixed(5, &[])));
        let (lines, _) = told(&records);
        let rounds = lines.iter().filter(|line| line.starts_with("round ")).count();
        prop_assert!(rounds <= 5, "each is told once: {:?}", lines);
    }
}

/// Three unlike islands, of which one counted for nothing: what each needed of the others is
/// 2,000, 1,000 and 3,000 values, and what came was 2,620, 1,260 and 3,880 bytes.
#[test]
fn bits_of_a_value_are_counted_where_a_contribution_came_to() {
    let of = |own: (u64, u64), came: u64, counts: bool| WorkerEvent::Round {
        round: 0,
        tokens: 500,
        islands: 2,
        loss: 2.5,
        theta_hash: "h".to_owned(),
        contributed: counts,
        contribution_bytes: own.0,
        contribution_values: own.1,
        bytes_sent: 2 * own.0,
        bytes_received: came,
        compute_seconds: 1.0,
        exchange_seconds: 1.0,
        waiting_seconds: 0.0,
    };
    let summary = summary_of(&[
        up(0.0, begin()),
        rank(1.0, "a", of((1_250, 1_000), 2_620, true)),
        rank(1.0, "b", of((2_600, 2_000), 1_260, true)),
        rank(1.0, "c", of((9_999, 8_888), 3_880, false)),
    ]);
    let wire = summary.wire;
    assert_eq!(wire.bits_per_value, Some(8.0 * 7_760.0 / 6_000.0));
    // a needed one contribution, b one, c two; as f32 each has four bytes a parameter.
    assert_eq!(wire.ratio_to_f32, Some(4.0 * 4.0 * 1e6 / 7_760.0));
    assert_eq!((wire.contribution_bytes, wire.copies_bytes), (3_850.0 / 2.0, 0));
    assert_eq!(wire.bytes_per_round, f64::from(2_500 + 5_200 + 19_998));
    assert_eq!(summary.islands["c"].contributions, 0);
}

#[test]
fn a_model_of_any_size_and_any_number_of_islands_has_a_dense_size() {
    let mut large = begin();
    if let UpEvent::Begin(begin) = &mut large {
        begin.parameters = u64::MAX / 4;
    }
    let mut records = vec![up(0.0, large)];
    for island in ["a", "b", "c", "d", "e", "f"] {
        let mut of = round(0, "h");
        if let WorkerEvent::Round { islands, bytes_received, .. } = &mut of {
            (*islands, *bytes_received) = (6, 60_000);
        }
        records.push(rank(1.0, island, of));
    }
    let ratio = summary_of(&records).wire.ratio_to_f32.unwrap();
    let expected = 30.0 * u64::MAX as f64 / 360_000.0;
    assert!((ratio / expected - 1.0).abs() < 1e-9, "{ratio} is not {expected}");
}

#[test]
fn a_loss_that_is_no_number_is_kept_shown_and_read_again() {
    let records = [
        up(0.0, begin()),
        rank(1.0, "a", evaluation(0, 5.5)),
        rank(1.0, "a", evaluation(1, 4.5)),
        rank(1.0, "a", evaluation(2, f64::NAN)),
    ];
    let summary = summary_of(&records);
    let text = summary.text();
    assert!(text.contains("5.5000 (round 0) → NaN (round 2) nats per token\n"), "{text}");
    assert!(text.contains("4.5000 at its lowest (round 1)\n"), "{text}");
    // `--measured` takes the summary of a run, however it ended.
    let written = serde_json::to_string(&summary).unwrap();
    let read: Summary = serde_json::from_str(&written).unwrap();
    assert!(read.heldout_last.is_some_and(|(round, loss)| round == 2 && loss.is_nan()));
    assert_eq!(read.heldout_lowest, Some((1, 4.5)));
}

#[test]
fn a_summary_of_an_older_or_a_newer_version_is_read() {
    let older = serde_json::json!({
        "run": "r", "emulated": false, "rounds": 2, "tokens": 7, "parameters": 9,
        "heldoutFirst": [0, 5.5], "heldoutLast": null, "replicasIdentical": true,
        "differingRounds": [], "wallSeconds": 3.5, "checkpoint": null, "ofALaterVersion": {},
        "wire": {"bytesPerRound": 1.0, "contributionBytes": 2.0, "bitsPerValue": null,
            "ratioToF32": null},
        "islands": {"a": {"cards": "1 × X", "contributions": 1, "bytesSent": 2,
            "computeSeconds": 1.0, "exchangeSeconds": 0.0, "waitingSeconds": 0.0, "restarts": 0,
            "checkpoint": null}},
    });
    let read: Summary = serde_json::from_value(older).unwrap();
    assert_eq!((read.heldout_first, read.heldout_last), (Some((0, 5.5)), None));
    assert_eq!((read.heldout_lowest, read.wire.copies_bytes), (None, 0));
    let island = &read.islands["a"];
    assert_eq!((island.calibration.as_ref(), island.fullest), (None, None));
    assert!(read.text().contains("compute 100%, exchange 0%, waiting 0%"), "{}", read.text());
}

#[test]
fn an_island_without_any_time_has_no_shares_of_it() {
    let text = summary_of(&[up(0.0, begin())]).text();
    assert_eq!(text.matches("compute 0%, exchange 0%, waiting 0%, 0 B sent").count(), 2, "{text}");
}

#[test]
fn the_newest_checkpoint_is_the_runs_and_of_equals_the_first_islands() {
    let kept = |at: f64, island: &str, round: u64| {
        let path = format!("/c/{island}/{round}");
        rank(at, island, WorkerEvent::Checkpoint { round, path })
    };
    let newest =
        |records: &[Record]| summary_of(&[&[up(0.0, begin())], records].concat()).checkpoint;
    assert_eq!(newest(&[]), None);
    assert_eq!(newest(&[kept(1.0, "a", 3), kept(1.0, "b", 4)]).as_deref(), Some("/c/b/4"));
    assert_eq!(newest(&[kept(1.0, "b", 4), kept(1.0, "a", 4)]).as_deref(), Some("/c/a/4"));
}

fn step(seconds: f64) -> WorkerEvent {
    let (round, step, steps, loss, tokens) = (0, 1, 5, 2.5, 100);
    WorkerEvent::Step { round, step, steps, loss, tokens, seconds, skipped: false, mfu: None }
}

#[test]
fn only_the_first_steps_of_the_newest_session_correct_its_plan() {
    let median = |records: &[Record]| {
        let found = summary_of(records).islands["a"].calibration.clone();
        found.map(|found| (found.measured_seconds, found.steps))
    };
    // The first step warms up. The median of an even number is the upper of the two.
    let steps = |seconds: &[f64]| -> Vec<Record> {
        seconds.iter().map(|seconds| rank(2.0, "a", step(*seconds))).collect()
    };
    let first = [vec![up(1.0, begin())], steps(&[7.0, 1.0, 2.0])].concat();
    assert_eq!(median(&first), Some((2.0, 2)));
    let second = [first.clone(), vec![up(9.0, begin())], steps(&[9.0, 0.25])].concat();
    assert_eq!(median(&second), Some((0.25, 1)), "an earlier session had another plan");
    let many = [vec![up(1.0, begin())], steps(&[0.5; 65]), steps(&[3.0; 100])].concat();
    assert_eq!(median(&many), Some((0.5, 64)), "what comes later may share its cores");
    let mut unplanned = begin();
    if let UpEvent::Begin(begin) = &mut unplanned {
        begin.islands[0].step_seconds = None;
    }
    let older = [vec![up(1.0, unplanned)], steps(&[1.0, 1.0])].concat();
    assert_eq!(median(&older), None, "an older version said nothing of its plan");
}

#[test]
fn the_fullest_device_is_the_one_nearest_to_its_plan_not_the_one_that_holds_most() {
    let memory = |device, peak_bytes, planned_bytes| {
        rank(1.0, "a", WorkerEvent::Memory { device, peak_bytes, planned_bytes })
    };
    let fullest = |records: &[Record]| folded(records).islands["a"].fullest;
    assert_eq!(fullest(&[memory(0, 300, 400), memory(1, 700, 1_000)]), Some((300, 400)));
    assert_eq!(fullest(&[memory(0, 300, 400), memory(1, 1_200, 1_000)]), Some((1_200, 1_000)));
    assert_eq!(fullest(&[memory(0, 5, 0), memory(1, 1, 1_000)]), Some((5, 0)), "without a plan");
}

#[test]
fn speed_is_smoothed_and_a_step_without_time_is_no_trouble() {
    let state = folded(&[rank(1.0, "a", step(1.0)), rank(1.0, "a", step(0.5))]);
    // 100 tokens/s at first, then a fifth of 200.
    assert_eq!(state.islands["a"].tokens_per_second, Some(0.8 * 100.0 + 0.2 * 200.0));
    let none = folded(&[rank(1.0, "a", step(0.0))]);
    assert!(none.islands["a"].tokens_per_second.is_some_and(f64::is_finite));
}

#[test]
fn a_session_with_other_islands_keeps_what_the_earlier_ones_did() {
    let mut second = begin();
    if let UpEvent::Begin(begin) = &mut second {
        begin.islands.remove(0);
        begin.islands[0].cards = "2 × Y".to_owned();
    }
    let restarting = |island: &str| UpEvent::IslandRestarting {
        island: island.to_owned(),
        epoch: 2,
        reason: "rank 0 was killed by signal 9".to_owned(),
        after: 0.5,
    };
    let given_up = UpEvent::IslandGivenUp { island: "b".to_owned(), reason: "x".to_owned() };
    let state = folded(&[
        up(0.0, begin()),
        rank(1.0, "a", round(0, "h0")),
        rank(1.0, "b", round(0, "h0")),
        up(1.0, restarting("a")),
        up(1.0, restarting("a")),
        up(1.0, given_up),
        up(5.0, second),
    ]);
    assert_eq!(state.islands["b"].activity, Activity::Pending, "a new session tries it again");
    let summary = Summary::of(&state);
    assert_eq!((&summary.islands["a"].cards[..], summary.islands["a"].restarts), ("1 × X", 2));
    assert_eq!((&summary.islands["b"].cards[..], summary.islands["b"].contributions), ("2 × Y", 1));
    assert_eq!(summary.rounds, 1);
}

#[test]
fn a_run_that_goes_back_keeps_the_loss_at_the_start_of_the_round_and_none_after() {
    let mut records = vec![up(0.0, begin())];
    for number in 0..3 {
        records.extend(told_by("a", number));
    }
    let cost = String::new();
    records.push(up(2.0, UpEvent::Adopted { round: 2, tokens: 2_000, cost, store: None }));
    let state = folded(&records);
    assert_eq!(state.heldout.keys().copied().collect::<Vec<_>>(), [1, 2]);
    assert_eq!((state.committed(), state.tokens, state.abandoned.len()), (2, 2_000, 1));
    let again = UpEvent::BeganAgain { rounds: 2, tokens: 2_000, store: None };
    let state = folded(&[&records[..], &[up(3.0, again)]].concat());
    // θ of round 0 is drawn from the same seed, but nobody had measured it.
    assert_eq!((state.committed(), state.tokens, state.heldout.len()), (0, 0, 0));
    let wire = Summary::of(&state).wire;
    assert_eq!(wire.bytes_per_round, 12_500.0, "what was sent for lost rounds was sent");
}

/// A checkpoint may be newer than all that was noted: the disk was full, or the notes are gone.
#[test]
fn a_checkpoint_beyond_what_is_on_record_is_adopted_with_its_tokens() {
    let cost = String::new();
    let adopted = UpEvent::Adopted { round: 9, tokens: 9_000, cost, store: None };
    let state = folded(&[up(0.0, begin()), rank(1.0, "a", round(0, "h0")), up(2.0, adopted)]);
    assert_eq!((state.committed(), state.tokens, state.rewinds.len()), (1, 9_000, 0));
    let mut later = round(9, "h9");
    if let WorkerEvent::Round { tokens, .. } = &mut later {
        *tokens = 10_000;
    }
    let state = folded(&[up(0.0, begin()), rank(1.0, "a", round(0, "h0")), rank(2.0, "a", later)]);
    assert_eq!(
        (state.committed(), state.tokens),
        (10, 10_000),
        "rounds of which nobody took notes"
    );
}

#[test]
fn the_last_words_of_an_island_are_its_leaders() {
    let finished = WorkerEvent::Finished { ending: Ending::Complete };
    let follower = Record {
        at: 1.0,
        elapsed: None,
        body: Body::Rank(RankEvent {
            island: "a".to_owned(),
            rank: 1,
            epoch: 1,
            event: finished.clone(),
        }),
    };
    let begun = [up(0.0, begin()), rank(1.0, "a", training_of(0))];
    let (lines, state) = told(&[&begun[..], std::slice::from_ref(&follower)].concat());
    assert_eq!(state.islands["a"].activity, Activity::Working(IslandState::Training));
    assert!(!lines.iter().any(|line| line.contains("ended")), "{lines:?}");
    let (lines, state) = told(&[&begun[..], &[follower, rank(2.0, "a", finished)]].concat());
    assert_eq!(state.islands["a"].activity, Activity::Ended);
    assert_eq!(lines.last().map(String::as_str), Some("a: ended (the run is complete)"));
}

/// A round that is applied from a commit that is known, without a contribution of this life.
fn applied_again(number: u64) -> WorkerEvent {
    let mut again = round(number, &format!("h{number}"));
    if let WorkerEvent::Round { contributed, contribution_bytes, .. } = &mut again {
        (*contributed, *contribution_bytes) = (false, 0);
    }
    again
}

/// An island that is killed comes back from its checkpoint, and applies the rounds since then again
/// from the others: they hold them, and the run goes back to none.
#[test]
fn an_island_that_catches_up_on_what_others_hold_takes_nothing_back() {
    let mut records = vec![up(0.0, begin()), started("a", 1), started("b", 1)];
    for number in 0..4 {
        records.extend(
            ["a", "b"].map(|island| rank(1.0, island, round(number, &format!("h{number}")))),
        );
    }
    let before = summary_of(&records);
    records.push(started("a", 2));
    records.extend((1..4).map(|number| rank_of(2, 2.0, "a", applied_again(number))));
    let (lines, state) = told(&records);
    assert!(!lines.iter().any(|line| line.starts_with("went back")), "{lines:?}");
    assert!(state.rewinds.is_empty() && state.abandoned.is_empty());
    let after = Summary::of(&state);
    assert_eq!((after.rounds, after.tokens, after.replicas_identical), (4, 4_000, Some(true)));
    assert_eq!(after.wire.bits_per_value, before.wire.bits_per_value);
    assert_eq!(after.islands["a"].contributions, 4);

    // Had b been lost as well, what it held would be, too.
    records.truncate(11);
    records.extend([started("a", 2), started("b", 2), rank_of(2, 2.0, "a", applied_again(1))]);
    assert_eq!(folded(&records).rewinds, [1]);
}

/// The same seed gives the same run: what a lone island lost it makes again, to the same θ.
#[test]
fn a_lone_island_that_makes_lost_rounds_again_goes_back_whatever_it_comes_to() {
    let alone = |epoch, number| {
        let mut event = round(number, &format!("h{number}"));
        if let WorkerEvent::Round { islands, bytes_received, .. } = &mut event {
            (*islands, *bytes_received) = (1, 0);
        }
        rank_of(epoch, 1.0, "a", event)
    };
    let mut records = vec![up(0.0, begin()), started("a", 1)];
    records.extend((0..4).map(|number| alone(1, number)));
    records.extend([started("a", 2), alone(2, 1)]);
    let state = folded(&records);
    assert_eq!((state.rewinds.as_slice(), state.committed(), state.tokens), (&[1][..], 2, 2_000));
    records.extend([alone(2, 2), alone(2, 3)]);
    let state = folded(&records);
    assert_eq!((state.rewinds.as_slice(), state.committed(), state.tokens), (&[1][..], 4, 4_000));
}
