//! What people read of a run: a line for what they should know, and what of it fits a terminal.

use std::collections::BTreeSet;

use contract::event::Ending;
use proptest::prelude::*;

use super::super::event::Outcome;
use super::super::state::Round;
use super::super::summary::Summary;
use super::*;

fn begin() -> Begin {
    let island = |name: &str, inner_steps| IslandBegin {
        name: name.to_owned(),
        cards: "1 × X".to_owned(),
        inner_steps,
        step_seconds: None,
        correction: None,
    };
    Begin {
        run: "r".to_owned(),
        tokens: 4_000,
        rounds: 4,
        parameters: 2_500_000,
        islands: vec![island("a", 1), island("b", 20)],
        ..Begin::default()
    }
}

fn lines(event: UpEvent) -> Vec<String> {
    let record = Record { at: 0.0, elapsed: None, body: Body::Up(event) };
    let mut state = RunState::default();
    state.apply(&record);
    Teller::default().lines(&record, &state)
}

#[test]
fn a_beginning_says_how_far_it_is_and_how_long_that_takes() {
    let plain = [
        "run r starts: 2.5M parameters, 4.0k tokens, about 4 rounds",
        "  a: 1 × X, 1 inner step a round",
        "  b: 1 × X, 20 inner steps a round",
    ];
    assert_eq!(lines(UpEvent::Begin(begin())), plain);

    let more = Begin { rounds: 1, expected_tokens: Some(57_344), ..begin() };
    let said = lines(UpEvent::Begin(more));
    assert!(said[0].ends_with("4.0k tokens, about 1 round that make 57.3k"), "{said:?}");
    let same = Begin { expected_tokens: Some(4_001), ..begin() };
    assert_eq!(lines(UpEvent::Begin(same)), plain, "what would be shown as the same is not said");

    let resumed = Begin {
        resumed: true,
        emulated: Some("EMULATED CARDS: none here".to_owned()),
        expected_seconds: Some(5_400.0),
        round_seconds: Some(42.0),
        ..begin()
    };
    let said = lines(UpEvent::Begin(resumed));
    assert_eq!(said[0], "EMULATED CARDS: none here", "before anything that it is true of");
    assert!(said[1].starts_with("run r goes on: "), "{said:?}");
    let last = said.last().unwrap();
    assert!(last.starts_with("the rest of it takes about 1.5 h here by its plan, 42.0 s a round;"));
}

#[test]
fn what_happens_to_processes_is_told_with_what_happens_next() {
    let text = str::to_owned;
    let table = [
        (
            UpEvent::CoordinatorStarted { address: text("http://h:1") },
            "coordinator serves http://h:1",
        ),
        (
            UpEvent::CoordinatorRestarting { reason: text("coordinator ended"), after: 0.5 },
            "coordinator ended; it starts again in 0.5 s",
        ),
        (UpEvent::IslandStarted { island: text("a"), epoch: 3 }, "a: started, epoch 3"),
        (
            UpEvent::IslandRestarting {
                island: text("a"),
                epoch: 4,
                reason: text("rank 1 was killed by signal 9"),
                after: 16.0,
            },
            "a: rank 1 was killed by signal 9; it starts again in 16.0 s, epoch 4",
        ),
        (
            UpEvent::IslandGivenUp { island: text("a"), reason: text("no room") },
            "a: given up: no room",
        ),
        (UpEvent::Warning { message: text("H is 20") }, "warning: H is 20"),
        (
            UpEvent::BeganAgain { rounds: 2, tokens: 2_000, store: None },
            "no island has a checkpoint: the run begins again from its start, and 2 rounds of \
             2.0k tokens are lost",
        ),
    ];
    for (event, expected) in table {
        assert_eq!(lines(event), [expected]);
    }
    let said = lines(UpEvent::Stopping { reason: text("stopped") });
    assert!(said[0].ends_with("(another Ctrl-C kills them)"), "{said:?}");
}

/// The end of a rank is told by what becomes of its island, that of a session by its summary.
#[test]
fn what_is_told_elsewhere_has_no_line_of_its_own() {
    let exit = String::from("ended with code 3");
    let none: [&str; 0] = [];
    assert_eq!(lines(UpEvent::RankExited { island: "a".into(), rank: 0, epoch: 1, exit }), none);
    let end = UpEvent::End { outcome: Outcome::Finished, summary: Box::new(Summary::default()) };
    assert_eq!(lines(end), none);
}

fn of_rank(event: WorkerEvent) -> Record {
    let body = Body::Rank(RankEvent { island: "a".to_owned(), rank: 2, epoch: 1, event });
    Record { at: 0.0, elapsed: None, body }
}

#[test]
fn any_rank_may_warn_or_fail_and_is_named() {
    let (mut teller, mut state) = (Teller::default(), RunState::default());
    let mut said = |event| {
        let record = of_rank(event);
        state.apply(&record);
        teller.lines(&record, &state)
    };
    let warning = WorkerEvent::Warning { message: "the disk is slow".into() };
    assert_eq!(said(warning), ["a: rank 2 warns: the disk is slow"]);
    let failed = WorkerEvent::Failed { error: "no peer".into() };
    assert_eq!(said(failed), ["a: rank 2 failed: no peer"]);
    let quiet = [
        WorkerEvent::Listening { address: "h:1".into(), metrics: None },
        WorkerEvent::Memory { device: 0, peak_bytes: 1, planned_bytes: 2 },
        WorkerEvent::Boundary { round: 0, bytes_sent: 1 },
        WorkerEvent::Finished { ending: Ending::Complete },
    ];
    for event in quiet {
        assert_eq!(said(event.clone()), [""; 0], "{event:?}");
    }
}

#[test]
fn a_reason_that_an_island_gave_before_it_was_started_again_is_news_again() {
    let (mut teller, mut state) = (Teller::default(), RunState::default());
    let mut said = |body: Body| {
        let record = Record { at: 0.0, elapsed: None, body };
        state.apply(&record);
        teller.lines(&record, &state).join("\n")
    };
    let waits = |epoch| {
        let (state, reason) = (IslandState::Waiting, "too few islands".to_owned());
        let event = WorkerEvent::State { state, round: 1, reason };
        Body::Rank(RankEvent { island: "a".to_owned(), rank: 0, epoch, event })
    };
    let started = Body::Up(UpEvent::IslandStarted { island: "a".to_owned(), epoch: 2 });
    assert_eq!(said(waits(1)), "a: too few islands (round 1)");
    assert_eq!(said(waits(1)), "");
    said(started);
    assert_eq!(said(waits(2)), "a: too few islands (round 1)");
}

/// A run with every part that its line can have.
fn state(round: u64, loss: f32, heldout: f64) -> RunState {
    let mut state = RunState::default();
    let begun = Record {
        at: 0.0,
        elapsed: None,
        body: Body::Up(UpEvent::Begin(Begin { rounds: round / 2, tokens: u64::MAX, ..begin() })),
    };
    state.apply(&begun);
    state.rounds.insert(round, Round { loss, islands: 3, tokens: 1_000, ..Round::default() });
    state.heldout.insert(round, heldout);
    state
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(cases(128))]

    /// A terminal that is made wider shows no less, and none is ever too narrow for its line.
    #[test]
    fn a_wider_line_has_all_that_a_narrower_one_has(
        round in 0..1_000_000_u64, loss in any::<f32>(), heldout in any::<f64>(),
        columns in 20..120_usize,
    ) {
        let state = state(round, loss.abs().min(99.0), heldout.abs().min(99.0));
        let parts = |columns: usize| {
            let line = run_line_within(&state, columns);
            assert!(line.chars().count() <= columns, "{line}");
            line.split("  ").map(str::to_owned).collect::<BTreeSet<_>>()
        };
        let (narrow, wide) = (parts(columns), parts(columns + 1));
        prop_assert!(narrow.is_subset(&wide) || narrow.iter().any(|part| part.contains('…')));
        prop_assert!(parts(500).len() >= 4);
    }

    #[test]
    fn a_line_of_an_island_fits_whatever_its_name_and_cards_are(
        name in "\\PC{0,70}", cards in "\\PC{0,70}", width in 0..80_usize, columns in 0..160_usize,
    ) {
        let island = Island { cards, mfu: Some(0.5), ..Island::default() };
        let line = island_line(&name, width, &island, columns);
        prop_assert!(line.chars().count() <= columns, "{}: {}", columns, line);
    }
}

#[test]
fn a_run_that_made_more_rounds_than_were_expected_is_not_beyond_its_end() {
    let state = state(10, 2.5, 2.5);
    assert!(run_line(&state).starts_with("round 11/11  loss 2.500  islands 3  held-out 2.500"));
    assert_eq!(run_line(&RunState::default()), "round 0/0");
}

#[test]
fn every_state_of_an_island_has_a_word() {
    let mut words = BTreeSet::new();
    let working = [
        IslandState::Starting,
        IslandState::Syncing,
        IslandState::Training,
        IslandState::Exchanging,
        IslandState::Waiting,
    ];
    let all = working.map(Activity::Working).into_iter();
    let rest = [Activity::Pending, Activity::Restarting, Activity::Ended, Activity::GivenUp];
    for activity in all.chain(rest) {
        let island = Island { activity, inner_steps: 20, ..Island::default() };
        let line = island_line("lab", 5, &island, 200);
        let word = line.strip_prefix("lab    ").and_then(|rest| rest.split("  ").next()).unwrap();
        assert!(words.insert(word.trim().to_owned()), "{line}");
        assert!(line.contains("step   0/20 "), "{line}");
    }
    assert_eq!(words.len(), 9);
}
