//! What becomes of an island in each of its phases.

use api::names::Key;
use contract::exit::{EXIT_CONFIG, EXIT_DIVERGED, EXIT_FAILED, EXIT_LOST, EXIT_MEMORY};
use contract::fate::Exit;

use super::*;
use crate::conditions::AsReason as _;
use crate::island::examples::{at, plan};

fn rank(epoch: u64, rank: u32, state: RankState) -> Rank {
    Rank {
        island: Key::new("ml", "lab"),
        pod: format!("lab-e{epoch}-r{rank}"),
        epoch,
        rank,
        state,
        leaving: None,
    }
}

fn failed(code: i32, said: &str) -> RankState {
    RankState::Failed { exit: Exit::Code(code), said: said.into(), at: Some(at(98)) }
}

/// Of two ranks, at second 100.
fn seen<'a>(plan: Option<&'a Plan>, ranks: &'a [Rank]) -> Observed<'a> {
    Observed {
        rests: None,
        generation: 1,
        run_generation: 1,
        plan,
        ranks,
        world: 2,
        lost: None,
        begun: true,
        start_deadline: Duration::from_secs(600),
        wanted: false,
        now: at(100),
    }
}

fn check(seen: &Observed<'_>, step: Step, reason: &str) {
    let decision = decide(seen);
    assert_eq!((&decision.step, decision.reason.as_str()), (&step, reason), "{decision:?}");
}

const BREAK: Step = Step::Break { for_good: false };
const RUNS: RankState = RankState::Running;

#[test]
fn an_island_is_planned_started_and_runs() {
    check(&seen(None, &[]), Step::Plan, "Planning");
    let planned = plan(PlanPhase::Planned, 0);
    check(&seen(Some(&planned), &[]), Step::Start, "Starting");
    let waits = Observed { begun: false, ..seen(Some(&planned), &[]) };
    check(&waits, Step::Keep(None), "RunNotBegun");
    let starting = plan(PlanPhase::Starting, 0);
    check(&seen(Some(&starting), &[]), Step::Create(vec![0, 1]), "Starting");
    let first = [rank(3, 1, RUNS)];
    check(&seen(Some(&starting), &first), Step::Create(vec![0]), "Starting");
    let both = [rank(3, 0, RUNS), rank(3, 1, RankState::Pending { why: None })];
    let wait = Step::Keep(Some(Duration::from_secs(600)));
    check(&seen(Some(&starting), &both), wait, "Starting");
    let both = [rank(3, 0, RUNS), rank(3, 1, RUNS)];
    check(&seen(Some(&starting), &both), Step::Enter(PlanPhase::Running), "Running");
    let running = plan(PlanPhase::Running, 0);
    check(&seen(Some(&running), &both), Step::Keep(None), "Running");
    let ended = [rank(3, 0, RankState::Succeeded), rank(3, 1, RankState::Succeeded)];
    check(&seen(Some(&running), &ended), Step::Enter(PlanPhase::Done), "Complete");
}

#[test]
fn one_lost_rank_breaks_the_epoch() {
    let running = plan(PlanPhase::Running, 0);
    check(&seen(Some(&running), &[rank(3, 0, RUNS)]), BREAK, "RanksLost");
    let said = String::new();
    let killed = RankState::Failed { exit: Exit::Signal(9), said, at: Some(at(98)) };
    let killed = [rank(3, 0, RUNS), rank(3, 1, killed)];
    let wait = Step::Keep(Some(Duration::from_secs(3)));
    check(&seen(Some(&running), &killed), wait, "RankFailed");
    check(&Observed { now: at(103), ..seen(Some(&running), &killed) }, BREAK, "RankFailed");
    let asked = [rank(3, 0, RankState::Stopped), rank(3, 1, RankState::Stopped)];
    check(&seen(Some(&running), &asked), BREAK, "RanksLost");
    let wrong = [rank(3, 0, failed(EXIT_CONFIG, "no data")), rank(3, 1, RUNS)];
    let decision = decide(&seen(Some(&running), &wrong));
    assert_eq!(decision.step, Step::Break { for_good: true });
    assert_eq!(decision.reason.to_string(), "rank 0 ended with code 2: no data");
    let full = [rank(3, 0, RUNS), rank(3, 1, failed(EXIT_MEMORY, ""))];
    check(&seen(Some(&running), &full), Step::Break { for_good: true }, "OutOfMemory");
}

#[test]
fn a_rank_that_lost_another_is_not_what_broke_the_epoch() {
    let running = plan(PlanPhase::Running, 0);
    let lost = [rank(3, 0, failed(EXIT_LOST, "")), rank(3, 1, RUNS)];
    let wait = Step::Keep(Some(Duration::from_secs(3)));
    check(&seen(Some(&running), &lost), wait, "PeerLost");
    let later = Observed { now: at(200), ..seen(Some(&running), &lost) };
    check(&later, BREAK, "PeerLost");
    let both = [rank(3, 0, failed(EXIT_LOST, "")), rank(3, 1, failed(EXIT_MEMORY, ""))];
    check(&seen(Some(&running), &both), Step::Break { for_good: true }, "OutOfMemory");
}

#[test]
fn the_verdict_does_not_follow_the_order_of_ranks_and_the_cause_that_lasts_wins() {
    let running = plan(PlanPhase::Running, 0);
    let good = Step::Break { for_good: true };
    let table = [
        ([EXIT_FAILED, EXIT_MEMORY], good.clone(), "OutOfMemory"),
        ([EXIT_FAILED, EXIT_CONFIG], good.clone(), "BadConfiguration"),
        ([EXIT_LOST, EXIT_DIVERGED], good.clone(), "Diverged"),
        ([EXIT_FAILED, EXIT_LOST], BREAK, "RankFailed"),
        ([EXIT_LOST, EXIT_LOST], BREAK, "PeerLost"),
    ];
    for ([a, b], step, reason) in table {
        for codes in [[a, b], [b, a]] {
            let ranks = [0, 1].map(|nth| rank(3, nth, failed(codes[nth as usize], "")));
            check(&seen(Some(&running), &ranks), step.clone(), reason);
        }
    }
    // What one says while its island is being deleted counts as well.
    let stopping = plan(PlanPhase::Stopping, 1);
    let mut late = [rank(3, 0, failed(EXIT_FAILED, "")), rank(3, 1, failed(EXIT_MEMORY, ""))];
    late[1].leaving = Some(at(99));
    check(&seen(Some(&stopping), &late), good, "OutOfMemory");
    let changed = Observed { generation: 2, ..seen(Some(&stopping), &late) };
    check(&changed, Step::Clear(vec!["lab-e3-r0".into()]), "Stopping");
}

#[test]
fn what_only_could_not_be_read_or_was_outvoted_is_tried_again() {
    let running = plan(PlanPhase::Running, 0);
    for (code, reason) in [(EXIT_FAILED, "RankFailed"), (EXIT_LOST, "PeerLost")] {
        let both = [0, 1].map(|nth| rank(3, nth, failed(code, "failed to read a shard")));
        check(&seen(Some(&running), &both), BREAK, reason);
    }
}

#[test]
fn an_island_whose_leader_saw_the_runs_end_is_done_however_its_other_ranks_end() {
    let running = plan(PlanPhase::Running, 0);
    let ranks = [rank(3, 0, RankState::Succeeded), rank(3, 1, failed(EXIT_LOST, ""))];
    check(&seen(Some(&running), &ranks), Step::Enter(PlanPhase::Done), "Complete");
    let ranks = [rank(3, 0, RankState::Succeeded), rank(3, 1, RUNS)];
    check(&seen(Some(&running), &ranks), Step::Keep(None), "Running");
}

#[test]
fn no_rank_holds_a_card_for_longer_than_the_start_may_take() {
    let starting = plan(PlanPhase::Starting, 0);
    let why = Some("Unschedulable: 0/2".to_owned());
    let half = [rank(3, 0, RUNS), rank(3, 1, RankState::Pending { why })];
    let late = Observed { now: at(700), ..seen(Some(&starting), &half) };
    let decision = decide(&late);
    assert_eq!((&decision.step, decision.reason.as_str()), (&BREAK, "StartDeadline"));
    let why = "1 of 2 ranks ran within 600 s; rank 1 waits: Unschedulable: 0/2";
    assert_eq!(decision.reason.to_string(), why);
    let lost = Observed { lost: Some(Lost::Node("a".into())), ..seen(Some(&starting), &half) };
    check(&lost, BREAK, "CardsLost");
}

#[test]
fn pods_that_wait_for_their_queue_hold_nothing_and_may_wait() {
    let starting = plan(PlanPhase::Starting, 2);
    let gated = [rank(3, 0, RankState::Gated), rank(3, 1, RankState::Gated)];
    let half = Step::Keep(Some(Duration::from_secs(300)));
    check(&seen(Some(&starting), &gated), half, "Queued");
    let late = Observed { now: at(700), ..seen(Some(&starting), &gated) };
    check(&late, Step::Enter(PlanPhase::Starting), "Queued");
    check(&Observed { wanted: true, ..late }, BREAK, "QueueTimeout");
    // One that was let in holds a card while it waits for the other.
    let half = [rank(3, 0, RUNS), rank(3, 1, RankState::Gated)];
    let late = Observed { now: at(700), ..seen(Some(&starting), &half) };
    check(&late, BREAK, "StartDeadline");
}

#[test]
fn a_broken_epoch_is_cleared_waited_for_and_planned_anew() {
    let stopping = plan(PlanPhase::Stopping, 2);
    let mut left = [rank(3, 0, RUNS)];
    check(&seen(Some(&stopping), &left), Step::Clear(vec!["lab-e3-r0".into()]), "Stopping");
    left[0].leaving = Some(at(99));
    check(&seen(Some(&stopping), &left), Step::Keep(None), "Stopping");
    check(&seen(Some(&stopping), &[]), Step::Enter(PlanPhase::Waiting), "Waiting");
    let waiting = plan(PlanPhase::Waiting, 2);
    check(&seen(Some(&waiting), &[]), Step::Keep(Some(Duration::from_secs(4))), "BackOff");
    let later = Observed { now: at(104), ..seen(Some(&waiting), &[]) };
    check(&later, Step::Plan, "Restarting");
    let changed = Observed { generation: 2, ..seen(Some(&waiting), &[]) };
    check(&changed, Step::Plan, "Restarting");
}

#[test]
fn waits_double_up_to_the_longest() {
    let waits: Vec<u64> = [0, 1, 2, 3, 8, u32::MAX].map(|n| backoff(n).as_secs()).into();
    assert_eq!(waits, [0, 2, 4, 8, 256, 300]);
}

#[test]
fn pods_of_older_epochs_are_cleared_first() {
    let starting = plan(PlanPhase::Starting, 0);
    let both = [rank(2, 0, RUNS), rank(3, 0, RUNS)];
    check(&seen(Some(&starting), &both), Step::Clear(vec!["lab-e2-r0".into()]), "ClearingEpoch");
}

#[test]
fn an_island_that_rests_holds_nothing_and_is_planned_again_afterwards() {
    let rests = Some(Rest::Suspended);
    let running = plan(PlanPhase::Running, 0);
    let ranks = [rank(3, 0, RUNS)];
    let with = |plan, ranks| Observed { rests: rests.clone(), ..seen(plan, ranks) };
    check(&with(Some(&running), &ranks), Step::Clear(vec!["lab-e3-r0".into()]), "Suspended");
    check(&with(Some(&running), &[]), Step::Rest, "Suspended");
    let waiting = plan(PlanPhase::Waiting, 0);
    check(&with(Some(&waiting), &[]), Step::Keep(None), "Suspended");
    check(&with(None, &[]), Step::Keep(None), "Suspended");
    check(&seen(Some(&waiting), &[]), Step::Plan, "Restarting");
}

#[test]
fn what_is_over_is_forgotten_only_with_its_run() {
    let gone = || Some(Rest::RunNotFound("mini".into()));
    let suspended = || Some(Rest::Suspended);
    for (phase, rests, step) in [
        (PlanPhase::Done, suspended(), Step::Keep(None)),
        (PlanPhase::Failed, suspended(), Step::Keep(None)),
        (PlanPhase::Done, gone(), Step::Rest),
        (PlanPhase::Failed, gone(), Step::Rest),
        (PlanPhase::Planned, suspended(), Step::Rest),
    ] {
        let plan = plan(phase, 0);
        let reason = rests.as_ref().map_or("", |rest| rest.as_str());
        check(&Observed { rests: rests.clone(), ..seen(Some(&plan), &[]) }, step, reason);
    }
}

#[test]
fn what_would_break_again_waits_for_another_spec_and_keeps_the_logs() {
    let plan = plan(PlanPhase::Failed, 1);
    let ranks = [rank(3, 0, failed(EXIT_CONFIG, "")), rank(3, 1, RUNS)];
    check(&seen(Some(&plan), &ranks), Step::Clear(vec!["lab-e3-r1".into()]), "Failed");
    check(&seen(Some(&plan), &ranks[..1]), Step::Keep(None), "Failed");
    let changed = Observed { generation: 2, ..seen(Some(&plan), &ranks[..1]) };
    check(&changed, Step::Clear(vec!["lab-e3-r0".into()]), "Failed");
    let changed = Observed { generation: 2, ..seen(Some(&plan), &[]) };
    check(&changed, Step::Plan, "SpecChanged");
}

#[test]
fn clocks_that_differ_make_no_negative_times() {
    assert_eq!(elapsed(at(110), at(100)), Duration::ZERO);
    assert_eq!(elapsed(at(90), at(100)), Duration::from_secs(10));
    assert_eq!(elapsed(at(111), at(100)), Duration::MAX, "by more than clocks differ");
}

#[test]
fn nobody_waits_until_a_clock_has_caught_up_with_another() {
    // The operator that wrote this had a clock that was an hour ahead of this one's.
    let ahead = at(3_700);
    let waits = Plan { since: ahead, ..plan(PlanPhase::Waiting, 5) };
    check(&seen(Some(&waits), &[]), Step::Plan, "Restarting");
    let starts = Plan { since: ahead, ..plan(PlanPhase::Starting, 0) };
    let pending = [0, 1].map(|index| rank(3, index, RankState::Pending { why: None }));
    check(&seen(Some(&starts), &pending), Step::Enter(PlanPhase::Starting), "ClocksDiffer");
    let exit = Exit::Code(EXIT_LOST);
    let lost = RankState::Failed { exit, said: "".into(), at: Some(at(3_700)) };
    check(
        &seen(Some(&plan(PlanPhase::Running, 0)), &[rank(3, 0, lost), rank(3, 1, RUNS)]),
        BREAK,
        "PeerLost",
    );
}
