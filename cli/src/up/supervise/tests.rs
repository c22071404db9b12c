//! Runs in which things break, told as events; seconds are the clock's.

mod worlds;

use contract::exit::{EXIT_DIVERGED, EXIT_FAILED, EXIT_LOST, EXIT_MEMORY};

use super::*;

fn policy() -> Policy {
    Policy {
        restarts: 2,
        window: Duration::from_secs(100),
        first_backoff: Duration::from_secs(1),
        longest_backoff: Duration::from_secs(3),
        stop_grace: Duration::from_secs(60),
        leave_grace: Duration::from_secs(30),
        finish_grace: Duration::from_secs(50),
        word_wait: Duration::from_secs(5),
        kill_wait: Duration::from_secs(10),
    }
}

/// Islands `a` of two ranks and `b` of one.
fn two_islands() -> Supervisor {
    Supervisor::new(policy(), [("a".to_owned(), 2, 1), ("b".to_owned(), 1, 1)]).0
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn exited(island: &str, epoch: u64, rank: u32, exit: Exit) -> Event {
    Event::RankExited { island: island.to_owned(), epoch, rank, exit, detail: String::new() }
}

fn says(island: &str, epoch: u64, ending: Ending) -> Event {
    Event::LeaderFinished { island: island.to_owned(), epoch, ending }
}

fn lost(exit: Exit) -> Event {
    Event::CoordinatorExited { exit, detail: String::new() }
}

fn start(island: &str, epoch: u64) -> Action {
    Action::StartIsland { island: island.to_owned(), epoch }
}

fn kill(island: &str) -> Action {
    Action::KillIsland { island: island.to_owned() }
}

fn expecting(islands: u32) -> Action {
    Action::StartCoordinator { islands }
}

/// The actions that are not announcements.
fn deeds(actions: Vec<Action>) -> Vec<Action> {
    actions.into_iter().filter(|action| !matches!(action, Action::Announce(_))).collect()
}

const OK: Exit = Exit::Code(0);
const KILLED: Exit = Exit::Signal(9);

#[test]
fn all_islands_are_started_at_the_epochs_given() {
    let (_, actions) = Supervisor::new(policy(), [("b".to_owned(), 1, 7), ("a".to_owned(), 2, 1)]);
    assert_eq!(actions, [start("a", 1), start("b", 7)]);
}

#[test]
fn a_run_ends_when_all_ranks_ended_well_and_the_coordinator_after_them() {
    let mut run = two_islands();
    assert!(run.on(exited("a", 1, 1, OK), at(1)).is_empty());
    assert!(run.on(says("b", 1, Ending::Complete), at(1)).is_empty());
    assert!(run.on(exited("b", 1, 0, OK), at(1)).is_empty());
    assert!(run.on(says("a", 1, Ending::Missed), at(2)).is_empty());
    assert_eq!(run.on(exited("a", 1, 0, OK), at(2)), [Action::StopCoordinator]);
    assert_eq!(run.on(lost(OK), at(3)), [Action::End(Outcome::Finished)]);
}

#[test]
fn one_killed_rank_ends_its_island_which_comes_back_whole_at_the_next_epoch() {
    let mut run = two_islands();
    assert!(run.on(exited("a", 1, 1, KILLED), at(5)).is_empty(), "the other may say more");
    let actions = run.on(exited("a", 1, 0, Exit::Code(EXIT_LOST)), at(6));
    let reason = "rank 1 was killed by signal 9".to_owned();
    let event = UpEvent::IslandRestarting { island: "a".to_owned(), epoch: 2, reason, after: 1.0 };
    assert_eq!(actions, [Action::Announce(event)]);
    assert_eq!(run.wake_at(), Some(at(7)));
    assert!(run.on(Event::Tick, at(6)).is_empty());
    assert_eq!(run.on(Event::Tick, at(7)), [start("a", 2)]);
}

#[test]
fn an_exit_of_an_older_epoch_changes_nothing() {
    let mut run = two_islands();
    run.on(exited("b", 1, 0, KILLED), at(1));
    assert_eq!(run.on(Event::Tick, at(2)), [start("b", 2)]);
    assert!(run.on(exited("b", 1, 0, KILLED), at(3)).is_empty());
    assert_eq!(run.wake_at(), None);
}

#[test]
fn waits_before_restarts_double_up_to_the_longest_and_old_restarts_are_forgotten() {
    let mut restarts = Restarts::default();
    let generous = Policy { restarts: 3, ..policy() };
    let mut waits = |now| restarts.next(&generous, at(now)).map(|wait| wait.as_secs());
    assert_eq!(waits(0), Some(1));
    assert_eq!(waits(10), Some(2));
    assert_eq!(waits(20), Some(3));
    assert_eq!(waits(30), None);
    assert_eq!(waits(105), Some(3));
    assert_eq!(waits(300), Some(1));
}

#[test]
fn an_island_that_breaks_too_often_is_given_up_and_the_run_goes_on_with_the_others() {
    let mut run = two_islands();
    let mut now = 0;
    for epoch in 1..=2 {
        run.on(exited("b", epoch, 0, Exit::Code(3)), at(now));
        now += 5;
        assert_eq!(run.on(Event::Tick, at(now)), [start("b", epoch + 1)]);
    }
    let actions = run.on(exited("b", 3, 0, Exit::Code(3)), at(now));
    let [Action::Announce(UpEvent::IslandGivenUp { island, reason }), Action::StopCoordinator] =
        &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(island, "b");
    assert_eq!(reason, "rank 0 ended with code 3, after 2 restarts within 100 s");
    run.on(lost(OK), at(now));
    run.on(exited("a", 1, 1, OK), at(now));
    run.on(says("a", 1, Ending::Complete), at(now));
    assert_eq!(run.on(exited("a", 1, 0, OK), at(now)), [Action::StopCoordinator]);
    assert_eq!(run.on(lost(OK), at(now)), [Action::End(Outcome::Finished)]);
}

#[test]
fn a_rank_that_lost_another_waits_for_the_others_word_which_says_why() {
    let mut run = two_islands();
    assert!(run.on(exited("a", 1, 0, Exit::Code(EXIT_LOST)), at(1)).is_empty());
    assert_eq!(run.wake_at(), Some(at(6)));
    let actions = run.on(exited("a", 1, 1, Exit::Code(1)), at(2));
    assert_eq!(restarting(&actions), ("rank 1 ended with code 1", 2));
    // The first one's word stands where all have only lost each other.
    run.on(Event::Tick, at(3));
    run.on(exited("a", 2, 1, Exit::Code(EXIT_LOST)), at(4));
    let actions = run.on(exited("a", 2, 0, Exit::Code(EXIT_LOST)), at(5));
    assert_eq!(restarting(&actions), ("rank 1 ended with code 3", 3));
}

#[test]
fn a_lost_rank_that_says_nothing_is_killed_with_its_island() {
    let mut run = two_islands();
    run.on(exited("a", 1, 1, Exit::Code(EXIT_LOST)), at(1));
    assert!(run.on(Event::Tick, at(5)).is_empty());
    assert_eq!(run.on(Event::Tick, at(6)), [kill("a")]);
    let actions = run.on(exited("a", 1, 0, KILLED), at(7));
    assert_eq!(restarting(&actions), ("rank 1 ended with code 3", 2));
}

#[test]
fn an_island_without_room_for_its_plan_is_given_up_at_once_and_the_run_goes_on() {
    let table = [
        // The ends in their order, and whether each leaves the island to be killed.
        (&[(1, Exit::Code(EXIT_MEMORY), true), (0, KILLED, false)][..]),
        &[(0, Exit::Code(EXIT_LOST), false), (1, Exit::Code(EXIT_MEMORY), false)],
        &[(0, Exit::Code(EXIT_FAILED), false), (1, Exit::Code(EXIT_MEMORY), false)],
        &[(0, KILLED, false), (1, Exit::Code(EXIT_MEMORY), false)],
    ];
    for ends in table {
        let (mut run, mut actions) = (two_islands(), Vec::new());
        for (rank, exit, kills) in ends {
            actions = run.on(exited("a", 1, *rank, *exit), at(1));
            assert_eq!(actions.contains(&kill("a")), *kills, "{ends:?}");
        }
        let [Action::Announce(UpEvent::IslandGivenUp { island, reason }), ..] = &actions[..] else {
            panic!("{ends:?}: {actions:?}")
        };
        assert_eq!((&island[..], &reason[..]), ("a", "rank 1 ended with code 4"));
        assert_eq!(deeds(actions), [Action::StopCoordinator]);
        assert_eq!(run.on(lost(OK), at(1)), [expecting(1)]);
        run.on(says("b", 1, Ending::Complete), at(2));
        assert_eq!(run.on(exited("b", 1, 0, OK), at(2)), [Action::StopCoordinator]);
        assert_eq!(run.on(lost(OK), at(2)), [Action::End(Outcome::Finished)]);
    }
}

#[test]
fn a_run_whose_islands_are_all_given_up_has_failed() {
    let never = Policy { restarts: 0, ..policy() };
    let (mut run, _) = Supervisor::new(never, [("a".to_owned(), 1, 1)]);
    let actions = deeds(run.on(exited("a", 1, 0, Exit::Code(1)), at(1)));
    assert_eq!(actions, [Action::StopCoordinator]);
    let actions = run.on(lost(OK), at(1));
    let [Action::End(Outcome::Failed(reason))] = &actions[..] else { panic!("{actions:?}") };
    assert!(reason.contains("a: rank 0 ended with code 1"), "{reason}");
}

/// A rank that says why it is refused.
fn refused(island: &str, rank: u32, why: &str) -> Event {
    let (island, detail, exit) = (island.to_owned(), why.to_owned(), Exit::Code(EXIT_CONFIG));
    Event::RankExited { island, epoch: 1, rank, exit, detail }
}

#[test]
fn a_configuration_that_never_works_costs_its_island_and_the_run_goes_on_with_the_others() {
    let mut run = two_islands();
    let actions = run.on(refused("a", 0, "failed to read the data"), at(1));
    assert_eq!(actions, [kill("a")]);
    let actions = run.on(exited("a", 1, 1, KILLED), at(2));
    let [Action::Announce(UpEvent::IslandGivenUp { reason, .. }), ..] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(reason, "rank 0 ended with code 2: failed to read the data");
    // The coordinator is to begin without it.
    assert_eq!(deeds(actions), [Action::StopCoordinator]);
    assert_eq!(run.on(lost(OK), at(3)), [expecting(1)]);
    run.on(says("b", 1, Ending::Complete), at(9));
    assert_eq!(run.on(exited("b", 1, 0, OK), at(9)), [Action::StopCoordinator]);
    assert_eq!(run.on(lost(OK), at(9)), [Action::End(Outcome::Finished)]);
}

#[test]
fn a_run_is_refused_where_every_island_is_and_each_reason_is_said_once() {
    let table =
        [("no data", "no data", "a, b: no data"), ("no data", "no card", "a: no data; b: no card")];
    for (of_a, of_b, expected) in table {
        let mut run = two_islands();
        run.on(refused("a", 0, of_a), at(1));
        run.on(exited("a", 1, 1, KILLED), at(1));
        run.on(refused("b", 0, of_b), at(1));
        let refused = Outcome::Refused(expected.to_owned());
        assert_eq!(run.on(lost(OK), at(2)), [Action::End(refused)]);
    }
    // With another reason among them, a change of the request may not be what helps.
    let mut run = two_islands();
    run.on(refused("a", 0, "no data"), at(1));
    run.on(exited("a", 1, 1, KILLED), at(1));
    run.on(exited("b", 1, 0, Exit::Code(EXIT_MEMORY)), at(1));
    let actions = run.on(lost(OK), at(2));
    let [Action::End(Outcome::Failed(reason))] = &actions[..] else { panic!("{actions:?}") };
    assert!(reason.contains("a: rank 0 ended with code 2: no data; b: rank 0 ended"), "{reason}");
}

#[test]
fn training_that_diverges_again_and_again_ends_at_its_first_proof_with_its_sentence() {
    let (mut run, _) = Supervisor::new(policy(), [("a".to_owned(), 1, 1)]);
    let detail = "failed to train round 3 in 3 tries; lower the learning rate".to_owned();
    let exit = Exit::Code(EXIT_DIVERGED);
    let event = Event::RankExited { island: "a".to_owned(), epoch: 1, rank: 0, exit, detail };
    assert_eq!(deeds(run.on(event, at(1))), [Action::StopCoordinator]);
    let actions = run.on(lost(OK), at(1));
    let [Action::End(Outcome::Failed(reason))] = &actions[..] else { panic!("{actions:?}") };
    assert!(reason.contains("in 3 tries; lower the learning rate"), "{reason}");
}

#[test]
fn a_coordinator_that_is_replaced_and_does_not_end_is_killed() {
    let mut run = two_islands();
    assert_eq!(deeds(run.on(refused("b", 0, ""), at(1))), [Action::StopCoordinator]);
    assert_eq!(run.wake_at(), Some(at(11)));
    assert_eq!(run.on(Event::Tick, at(11)), [Action::KillCoordinator]);
    assert_eq!(run.on(lost(KILLED), at(11)), [expecting(1)]);
}

#[test]
fn the_coordinator_is_started_again_and_the_islands_are_left_alone() {
    let mut run = two_islands();
    assert!(deeds(run.on(lost(KILLED), at(1))).is_empty());
    assert_eq!(run.wake_at(), Some(at(2)));
    assert_eq!(run.on(Event::Tick, at(2)), [expecting(2)]);
    assert!(deeds(run.on(lost(KILLED), at(3))).is_empty());
    assert_eq!(run.on(Event::Tick, at(5)), [expecting(2)]);
    assert_eq!(deeds(run.on(lost(KILLED), at(6))), [Action::StopIslands]);
    run.on(exited("a", 1, 0, OK), at(7));
    run.on(exited("a", 1, 1, OK), at(7));
    let actions = run.on(exited("b", 1, 0, OK), at(7));
    let failed = "coordinator was killed by signal 9, too often".to_owned();
    assert_eq!(actions, [Action::End(Outcome::Failed(failed))]);
}

#[test]
fn a_coordinator_that_does_not_answer_is_killed_and_started_again_unless_it_is_gone_already() {
    let mut run = two_islands();
    let silent = || Event::CoordinatorSilent { silence: at(20) };
    let actions = run.on(silent(), at(25));
    let warning = "the coordinator has not answered for 20 s: it is killed".to_owned();
    let warning = Action::Announce(UpEvent::Warning { message: warning });
    assert_eq!(actions, [warning, Action::KillCoordinator]);
    assert!(deeds(run.on(lost(KILLED), at(25))).is_empty());
    assert!(run.on(silent(), at(25)).is_empty());
    assert_eq!(run.on(Event::Tick, at(26)), [expecting(2)]);
}

#[test]
fn a_stop_lets_ranks_end_by_themselves_and_restarts_nothing() {
    let mut run = two_islands();
    run.on(exited("b", 1, 0, KILLED), at(1));
    assert_eq!(deeds(run.on(Event::Stop, at(1))), [Action::StopIslands]);
    assert!(run.on(Event::Tick, at(10)).is_empty(), "b must not come back");
    run.on(exited("a", 1, 0, OK), at(11));
    assert_eq!(run.on(exited("a", 1, 1, Exit::Code(3)), at(12)), [Action::StopCoordinator]);
    assert_eq!(run.on(lost(OK), at(13)), [Action::End(Outcome::Stopped)]);
}

#[test]
fn ranks_that_do_not_stop_are_killed_and_processes_that_do_not_die_are_left() {
    let mut run = two_islands();
    run.on(Event::Stop, at(0));
    assert_eq!(run.wake_at(), Some(at(60)));
    assert_eq!(run.on(Event::Tick, at(60)), [kill("a"), kill("b")]);
    assert_eq!(run.wake_at(), Some(at(70)));
    assert_eq!(run.on(Event::Tick, at(70)), [Action::StopCoordinator]);
    assert_eq!(run.on(Event::Tick, at(80)), [Action::KillCoordinator]);
    assert_eq!(run.on(Event::Tick, at(90)), [Action::End(Outcome::Stopped)]);
}

#[test]
fn a_second_stop_kills_at_once() {
    let mut run = two_islands();
    run.on(Event::Stop, at(0));
    assert_eq!(run.on(Event::Stop, at(1)), [kill("a"), kill("b")]);
}

#[test]
fn ranks_that_outlive_their_leader_are_killed_and_the_island_has_ended_well() {
    let mut run = two_islands();
    run.on(says("b", 1, Ending::Complete), at(1));
    run.on(exited("b", 1, 0, OK), at(1));
    run.on(says("a", 1, Ending::Complete), at(1));
    run.on(exited("a", 1, 0, OK), at(1));
    assert_eq!(run.wake_at(), Some(at(31)));
    assert_eq!(deeds(run.on(Event::Tick, at(31))), [kill("a")]);
    assert_eq!(run.on(exited("a", 1, 1, KILLED), at(32)), [Action::StopCoordinator]);
    assert_eq!(run.on(lost(OK), at(33)), [Action::End(Outcome::Finished)]);
}

/// The reason and the next epoch of the one restart that was announced.
fn restarting(actions: &[Action]) -> (&str, u64) {
    let [Action::Announce(UpEvent::IslandRestarting { reason, epoch, .. })] = actions else {
        panic!("{actions:?}")
    };
    (reason, *epoch)
}

#[test]
fn an_island_that_somebody_else_asked_to_stop_comes_back() {
    let mut run = two_islands();
    run.on(says("a", 1, Ending::Stopped), at(1));
    assert!(run.on(exited("a", 1, 0, OK), at(1)).is_empty());
    let actions = run.on(exited("a", 1, 1, OK), at(2));
    assert_eq!(restarting(&actions), ("it was asked to stop, but not by whoever started it", 2));
    assert_eq!(run.on(Event::Tick, at(3)), [start("a", 2)]);
    // Its words in its first life do not count for the second.
    run.on(exited("a", 2, 0, OK), at(4));
    let actions = run.on(exited("a", 2, 1, OK), at(4));
    assert_eq!(restarting(&actions), ("it ended without saying why", 3));
}

#[test]
fn an_island_that_ends_without_a_word_too_often_has_not_finished_the_run() {
    let never = Policy { restarts: 0, ..policy() };
    let (mut run, _) = Supervisor::new(never, [("a".to_owned(), 1, 1)]);
    assert_eq!(deeds(run.on(exited("a", 1, 0, OK), at(1))), [Action::StopCoordinator]);
    let actions = run.on(lost(OK), at(1));
    let [Action::End(Outcome::Failed(reason))] = &actions[..] else { panic!("{actions:?}") };
    assert!(reason.contains("a: it ended without saying why"), "{reason}");
}

#[test]
fn a_run_whose_end_no_island_saw_has_failed_and_says_so() {
    let mut run = two_islands();
    run.on(says("a", 1, Ending::Missed), at(1));
    run.on(exited("a", 1, 0, OK), at(1));
    run.on(exited("a", 1, 1, OK), at(1));
    run.on(says("b", 1, Ending::Missed), at(2));
    assert_eq!(run.on(exited("b", 1, 0, OK), at(2)), [Action::StopCoordinator]);
    let reason = "no island was there when the run got its last tokens \
        (a, b: the run ended while this island was away)";
    assert_eq!(run.on(lost(OK), at(3)), [Action::End(Outcome::Failed(reason.to_owned()))]);
}

#[test]
fn a_word_of_an_older_epoch_is_not_believed() {
    let mut run = two_islands();
    run.on(exited("b", 1, 0, KILLED), at(1));
    run.on(Event::Tick, at(2));
    run.on(says("b", 1, Ending::Complete), at(3));
    assert_eq!(restarting(&run.on(exited("b", 2, 0, OK), at(4))).1, 3);
}

#[test]
fn an_island_that_hangs_after_the_run_is_complete_is_killed_and_the_run_is_finished() {
    let mut run = two_islands();
    run.on(says("b", 1, Ending::Complete), at(1));
    run.on(exited("b", 1, 0, OK), at(2));
    assert_eq!(run.wake_at(), Some(at(51)));
    assert!(run.on(Event::Tick, at(50)).is_empty());
    let message = "a: killed: the run is complete, and its ranks did not end in time".to_owned();
    let told = Action::Announce(UpEvent::Warning { message });
    assert_eq!(run.on(Event::Tick, at(51)), [told, kill("a")]);
    run.on(exited("a", 1, 0, KILLED), at(52));
    assert_eq!(run.on(exited("a", 1, 1, KILLED), at(52)), [Action::StopCoordinator]);
    assert_eq!(run.on(lost(OK), at(53)), [Action::End(Outcome::Finished)]);
}

#[test]
fn nothing_is_started_again_once_the_run_is_complete() {
    let mut run = two_islands();
    run.on(exited("b", 1, 0, KILLED), at(1));
    let actions = run.on(says("a", 1, Ending::Complete), at(1));
    assert!(matches!(&actions[..], [Action::Announce(UpEvent::Warning { .. })]), "{actions:?}");
    assert!(run.on(Event::Tick, at(5)).is_empty(), "b must not come back");
    run.on(exited("a", 1, 1, OK), at(6));
    assert_eq!(run.on(exited("a", 1, 0, OK), at(6)), [Action::StopCoordinator]);
}

#[test]
fn an_island_that_breaks_after_the_run_is_complete_is_killed_at_once_and_not_waited_for() {
    let mut run = two_islands();
    run.on(says("b", 1, Ending::Complete), at(1));
    run.on(exited("b", 1, 0, OK), at(1));
    let actions = run.on(exited("a", 1, 1, Exit::Code(3)), at(2));
    let message = "a: rank 1 ended with code 3; not started again: the run is complete".to_owned();
    assert_eq!(actions, [kill("a"), Action::Announce(UpEvent::Warning { message })]);
    assert_eq!(run.on(exited("a", 1, 0, KILLED), at(3)), [Action::StopCoordinator]);
}

#[test]
fn a_stop_that_comes_when_the_run_is_complete_leaves_it_finished() {
    let (mut run, _) = Supervisor::new(policy(), [("a".to_owned(), 1, 1)]);
    run.on(Event::Stop, at(1));
    run.on(says("a", 1, Ending::Complete), at(2));
    assert_eq!(run.on(exited("a", 1, 0, OK), at(2)), [Action::StopCoordinator]);
    assert_eq!(run.on(lost(OK), at(3)), [Action::End(Outcome::Finished)]);
}

#[test]
fn an_island_whose_processes_cannot_be_killed_is_given_up() {
    let mut run = two_islands();
    run.on(exited("a", 1, 0, KILLED), at(0));
    assert_eq!(run.on(Event::Tick, at(5)), [kill("a")]);
    let actions = run.on(Event::Tick, at(15));
    assert!(
        matches!(&actions[..], [Action::Announce(UpEvent::IslandGivenUp { .. }), ..]),
        "{actions:?}"
    );
    assert_eq!(deeds(actions), [Action::StopCoordinator]);
    assert_eq!(run.on(lost(OK), at(16)), [expecting(1)]);
    assert_eq!(run.wake_at(), None);
}
