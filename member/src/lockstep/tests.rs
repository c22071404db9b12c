//! Ranks that go through steps and consultations together.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use proto::Keepalive;
use rounds::types::Phase;

use super::*;
use crate::testing::{PATIENCE, Scripted, config, member, view};

fn rank_of(group: Group, session: Option<Session>, runtime: Runtime) -> Lockstep {
    let config = config("me", group.rank(), group.world_size());
    let address = RankAddress { address: "127.0.0.1:1".into(), first_piece: 0, end_piece: 1 };
    let stop = Arc::new(AtomicBool::new(false));
    let ties = Ties { group, session, ranks: vec![address], stop, runtime };
    Lockstep::new(config, Digest([1; 32]), ties)
}

/// Ranks of an island that nobody leads.
fn ranks(count: u32) -> Vec<Lockstep> {
    let runtime = || Runtime::new().expect("a runtime");
    let groups = Group::in_memory(count).into_iter();
    groups.map(|group| rank_of(group, None, runtime())).collect()
}

/// Ranks of an island whose leader has joined the run of `script`.
fn joined(count: u32, script: &Scripted) -> Vec<Lockstep> {
    let mut groups = Group::in_memory(count).into_iter();
    let runtime = Runtime::new().expect("a runtime");
    let url = runtime.block_on(script.serve());
    let session = {
        let _guard = runtime.enter();
        let who = config("me", 0, count).who();
        Session::new(&url, who.into(), (PATIENCE, Keepalive::default())).expect("a URL")
    };
    let mut leader = rank_of(groups.next().expect("a leader"), Some(session), runtime);
    leader.join(Digest([2; 32])).expect("joined");
    let others = groups.map(|group| rank_of(group, None, Runtime::new().expect("a runtime")));
    std::iter::once(leader).chain(others).collect()
}

/// What every rank comes to, each on a thread of its own.
fn together<T: Send>(ranks: &mut [Lockstep], act: impl Fn(&mut Lockstep) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let act = &act;
        let running = ranks.iter_mut().map(|rank| scope.spawn(move || act(rank)));
        let running: Vec<_> = running.collect();
        running.into_iter().map(|rank| rank.join().expect("no panic")).collect()
    })
}

/// Consults until there is news.
fn until_news(rank: &mut Lockstep) {
    rank.idle = true;
    while !rank.consult().expect("consulted").1 {}
}

#[test]
fn what_one_rank_says_of_a_step_all_ranks_hear() {
    let plain = StepControl { loss_sum: 0.5, squares: 2.0, tokens: 10, ..StepControl::default() };
    let sum = StepControl { loss_sum: 1.5, squares: 6.0, tokens: 30, ..plain };
    let table = [
        (plain, sum),
        (StepControl { stop: true, ..plain }, StepControl { stop: true, ..sum }),
        (StepControl { closed: true, ..plain }, StepControl { closed: true, ..sum }),
        (StepControl { interrupted: true, ..plain }, StepControl { interrupted: true, ..sum }),
    ];
    for (of_last, expected) in table {
        let mut ranks = ranks(3);
        let step = |rank: &mut Lockstep| {
            let mine = if rank.group.rank() == 2 { of_last } else { plain };
            rank.step_control(mine).expect("a step")
        };
        assert_eq!(together(&mut ranks, step), [expected; 3], "{of_last:?}");
        let train = Directive::Train { round: 0 };
        let stops = ranks.iter().map(|rank| rank.stopping(&train).is_due());
        assert_eq!(stops.collect::<Vec<_>>(), [expected.stop; 3], "{of_last:?}");
    }
}

#[test]
fn a_signal_at_one_rank_stops_all_at_the_next_step() {
    let mut ranks = ranks(2);
    ranks[1].stop.store(true, SeqCst);
    let step = |rank: &mut Lockstep| rank.step_control(StepControl::default()).expect("a step");
    assert!(together(&mut ranks, step).iter().all(|sum| sum.stop));
}

#[test]
fn a_signal_at_one_rank_stops_all_at_the_next_consultation() {
    let script = Scripted::new(view(Phase::Training, 0, &[member("me", "a:1")]), |_, _| {});
    let mut ranks = joined(2, &script);
    ranks[1].stop.store(true, SeqCst);
    together(&mut ranks, |rank| rank.consult().expect("consulted"));
    let stopping = |rank: &Lockstep| rank.stopping(&Directive::Train { round: 0 });
    assert_eq!(ranks.iter().map(stopping).collect::<Vec<_>>(), [Stopping::Free; 2]);
}

#[test]
fn what_the_leader_hears_all_learn_even_that_the_run_went_back() {
    let me = [member("me", "a:1")];
    let script = Scripted::new(RunView { version: 9, ..view(Phase::Training, 4, &me) }, |_, _| {});
    let mut ranks = joined(3, &script);
    assert!(ranks.iter_mut().all(|rank| rank.directive() == Directive::Join), "nothing heard");
    together(&mut ranks, until_news);
    assert!(ranks.iter().all(|rank| rank.run_round() == 4 && rank.members().len() == 1));
    let again = together(&mut ranks, |rank| rank.consult().expect("consulted").1);
    assert_eq!(again, [false; 3], "it is told once");
    // A coordinator that came back with an older store counts from there.
    script.show(RunView { version: 3, ..view(Phase::Training, 2, &me) });
    together(&mut ranks, until_news);
    assert!(ranks.iter().all(|rank| rank.run_round() == 2));
    ranks.iter_mut().for_each(|rank| rank.stand_at(4, Known::default()));
    let directives = ranks.iter_mut().map(Lockstep::directive);
    // The coordinator's highest round is 2: it lost what the island holds.
    assert!(directives.into_iter().all(|next| next == Directive::Join));
}

#[test]
fn only_the_leader_needs_to_know_that_theta_differs() {
    let script = Scripted::new(view(Phase::Training, 0, &[member("me", "a:1")]), |_, _| {});
    let mut ranks = joined(2, &script);
    ranks[0].standing.needs_snapshot = true;
    together(&mut ranks, |rank| rank.consult().expect("consulted"));
    assert!(ranks[1].standing.needs_snapshot);
    (ranks[0].standing.needs_snapshot, ranks[1].standing.needs_snapshot) = (false, true);
    together(&mut ranks, |rank| rank.consult().expect("consulted"));
    assert!(!ranks[1].standing.needs_snapshot, "the leader's word counts");
}

#[test]
fn a_leader_that_says_nothing_is_an_error_on_every_rank() {
    let mut ranks = ranks(2);
    let ended = together(&mut ranks, |rank| rank.consult().err());
    assert!(ended.iter().all(|error| matches!(error, Some(MemberError::Leader(_)))), "{ended:?}");
}

#[test]
fn steps_end_on_all_ranks_when_the_leader_hears_that_they_are_in_vain() {
    let me = [member("me", "a:1")];
    let training = RunView { grace_ms: 60_000, ..view(Phase::Training, 0, &me) };
    let closing = RunView { version: 2, closing: true, grace_ms: 0, ..training.clone() };
    let fetching = RunView { version: 3, phase: Phase::Fetching, ..training.clone() };
    for (shown, expected) in [(training, false), (closing, true), (fetching, true)] {
        let script = Scripted::new(shown.clone(), |_, _| {});
        let mut ranks = joined(2, &script);
        let step = |rank: &mut Lockstep| {
            rank.train();
            // Far more than fit.
            rank.pace(u32::MAX);
            rank.step_control(StepControl::default()).expect("a step").closed
        };
        assert_eq!(together(&mut ranks, step), [expected; 2], "{shown:?}");
    }
}

#[test]
fn a_round_is_forgone_twice_and_no_more() {
    let mut rank = ranks(1).remove(0);
    rank.stand_at(7, Known { tokens: 5, samples: 6 });
    for _ in 1..ROUND_TRIES {
        rank.forgo("the loss is not finite").expect("forgone");
        assert!(rank.standing.forgone);
        rank.train();
        assert!(!rank.standing.forgone, "it is tried again");
    }
    let error = rank.forgo("the loss is not finite").expect_err("tried too often");
    let MemberError::Forgone { round, times, reason } = error else { panic!("{error}") };
    assert_eq!((round, times, &*reason), (7, ROUND_TRIES, "the loss is not finite"));
    rank.stand_at(8, Known::default());
    assert!(rank.forgo("another round").is_ok(), "tries are counted by round");
}

#[test]
fn a_round_that_was_forgone_is_tried_again_when_others_offer_nothing_for_long() {
    for (patience, expected) in [(PATIENCE, true), (Duration::ZERO, false)] {
        let script = Scripted::new(view(Phase::Training, 0, &[member("me", "a:1")]), |_, _| {});
        let mut ranks = joined(2, &script);
        let forgone = together(&mut ranks, |rank| {
            rank.config.timeouts.forgone = patience;
            rank.forgo("no samples").expect("forgone");
            rank.consult().expect("consulted");
            rank.standing.forgone
        });
        assert_eq!(forgone, [expected; 2], "{patience:?}");
    }
}

#[test]
fn a_round_begins_with_nothing_but_the_need_of_a_snapshot() {
    let mut rank = ranks(1).remove(0);
    rank.standing = Standing {
        offered: true,
        forgone: true,
        fetched: Some(vec![]),
        needs_snapshot: true,
        ..rank.standing
    };
    rank.stand_at(3, Known { tokens: 1, samples: 2 });
    let expected = Standing { needs_snapshot: true, ..Standing::at("me".into(), 1, 3) };
    assert_eq!(rank.standing, expected);
    assert_eq!(rank.known, Known { tokens: 1, samples: 2 });
}
