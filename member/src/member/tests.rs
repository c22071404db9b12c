//! Islands that follow a coordinator which says what the test has it say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use rounds::types::{Commit, Contribution, Digest, MemberView, Phase, RankAddress, RunView};
use sparseloco::codec::FrameId;
use sparseloco::layout::Layout;
use tokio::runtime::Runtime;
use tonic::Code;
use tonic::codegen::Bytes;

use super::*;
use crate::MemberError;
use crate::store::root_digest;
use crate::testing::{
    Call, Flat, Manner, Rank, Scripted, commit_of, config, digests, frames_of, member, offered,
    params, small_layout, theta, two_pieces, view,
};

/// An island of one rank, with its coordinator.
struct Island {
    member: Member,
    theta: Flat,
    script: Scripted,
    stop: Arc<AtomicBool>,
    /// Of coordinator and other islands.
    _runtime: Runtime,
}

impl Island {
    /// One at the run's beginning; `react` is what the coordinator does.
    fn start(runtime: Runtime, react: impl FnMut(&Call, &mut RunView) + Send + 'static) -> Island {
        let script = Scripted::new(view(Phase::Waiting, 0, &[]), react);
        let url = runtime.block_on(script.serve());
        let (layout, stop) = (small_layout(), Arc::new(AtomicBool::new(false)));
        let config = crate::MemberConfig { coordinator: url, ..config("me", 0, 1) };
        let connected = Member::connect(config, Arc::clone(&layout), Arc::clone(&stop));
        let mut member = connected.expect("connected");
        let mut theta = Flat::new(&layout);
        member.begin(&mut theta, beginning(&layout)).expect("begun");
        Island { member, theta, script, stop, _runtime: runtime }
    }

    /// One whose coordinator commits what it offers.
    fn alone() -> Island {
        Island::start(Runtime::new().expect("a runtime"), commits_all)
    }

    fn next(&mut self) -> Turn {
        self.member.next(&mut self.theta).expect("a turn")
    }

    /// Trains a round, in which every value falls by a half, and offers it.
    fn train(&mut self, round: u64) {
        let turn = self.next();
        assert!(matches!(turn, Turn::Train { round: at } if at == round), "{turn:?}");
        self.theta.values.iter_mut().for_each(|value| *value -= 0.5);
        self.offer().expect("offered");
    }

    fn offer(&mut self) -> Result<(), MemberError> {
        let trained = StepControl {
            loss_sum: 20.0,
            tokens: 10,
            stop: self.stop.load(SeqCst),
            ..StepControl::default()
        };
        self.member.offer(&mut self.theta, trained, 4)
    }

    fn applied(&mut self) -> RoundReport {
        match self.next() {
            Turn::Applied(report) => report,
            turn => panic!("not applied: {turn:?}"),
        }
    }
}

fn beginning(layout: &Layout) -> OuterState {
    OuterState::fresh(0, vec![1.0; layout.values()])
}

fn joined(call: &Call, view: &mut RunView) {
    if let Call::Join(join) = call {
        let ranks = join.ranks.clone();
        view.members.retain(|m| m.island != "me");
        view.members.push(MemberView { ranks, round: join.round, ..member("me", "a:1") });
        view.members.iter_mut().for_each(|m| m.offered = false);
        (view.phase, view.round) = (Phase::Training, join.round);
        view.highest = view.highest.max(view.round);
    }
}

/// Ends the round with this set.
fn commit(view: &mut RunView, set: Vec<Contribution>) {
    let committed = commit_of(view.round, &set);
    view.tokens += set.iter().map(|c| c.tokens).sum::<u64>();
    view.commits.push(Commit { tokens: view.tokens, samples: 7, ..committed });
    (view.phase, view.round) = (Phase::Training, view.round + 1);
    view.highest = view.highest.max(view.round);
    view.closed.clear();
}

/// The coordinator of a run that only needs `me`: closes with what it offers, and commits what it
/// holds.
fn commits_all(call: &Call, view: &mut RunView) {
    joined(call, view);
    let is_known = view.members.iter().any(|m| m.island == "me");
    match call {
        Call::Offer(offer) if is_known && offer.round == view.round => {
            (view.phase, view.closed) = (Phase::Fetching, vec![offer.contribution.clone()]);
        }
        Call::Fetched(fetched) if fetched.have.len() == view.closed.len() => {
            let set = std::mem::take(&mut view.closed);
            commit(view, set);
        }
        Call::Applied(applied) => {
            let me = view.members.iter_mut().filter(|m| m.island == "me");
            me.for_each(|m| m.round = applied.round + 1);
        }
        _ => {}
    }
}

#[test]
fn a_lone_island_trains_offers_and_applies_its_own_rounds() {
    let mut island = Island::alone();
    island.member.complain("a checkpoint was damaged".into());
    island.train(0);
    let report = island.applied();
    assert!(report.contributed && report.contribution_bytes > 0, "{report:?}");
    assert_eq!((report.islands, report.set_tokens, report.loss), (1, 10, 2.0));
    assert_eq!(island.member.round(), 1);
    assert_eq!((island.member.tokens_before(), island.member.run_samples()), (10, 7));
    let moved = island.member.anchor().iter().filter(|value| **value < 1.0).count();
    assert!(moved > 0, "θ is where it was");
    island.train(1);
    assert_eq!(island.applied().round, 1);
    let calls = island.script.calls();
    let Some(Call::Join(join)) = calls.iter().find(|c| c.name() == "join") else { panic!() };
    assert_eq!((join.round, &*join.complaint), (0, "a checkpoint was damaged"));
    assert_eq!(join.tokens_per_second_milli, 1_500);
    let hash = |c: &Call| match c {
        Call::Applied(applied) => Some((applied.round, applied.theta_hash)),
        _ => None,
    };
    let hashes: Vec<(u64, Digest)> = calls.iter().filter_map(hash).collect();
    assert_eq!(hashes[0], (0, report.theta_hash.expect("a hash")));
    assert_eq!(hashes.len(), 2);
}

#[test]
fn what_comes_too_late_is_sent_with_a_later_round() {
    let runtime = Runtime::new().expect("a runtime");
    let mut island = Island::start(runtime, |call, view| {
        joined(call, view);
        if let Call::Offer(offer) = call
            && offer.round == view.round
        {
            commit(view, vec![]);
        }
    });
    island.script.accept(false);
    island.train(0);
    let report = island.applied();
    assert!(!report.contributed);
    assert_eq!((report.islands, report.loss), (0, 0.0));
    assert!(island.member.anchor().iter().all(|value| *value == 1.0), "nothing was committed");
    let kept = island.member.residual().iter().all(|left| (left - 0.5).abs() < 1e-6);
    assert!(kept, "all of the update is there to be sent");
}

#[test]
fn a_run_that_went_back_is_followed_from_where_it_is() {
    let mut island = Island::alone();
    island.train(0);
    island.applied();
    assert!(island.member.exchange.store().piece(0, "me", 0).is_some());
    let me = MemberView { round: 1, ..member("me", "a:1") };
    let back = RunView { version: 99, highest: 1, ..view(Phase::Training, 0, &[me]) };
    island.script.show(back);
    let turn = loop {
        match island.next() {
            // It may not have heard yet.
            Turn::Train { round: 1 } => {}
            turn => break turn,
        }
    };
    assert!(matches!(turn, Turn::Rewound { round: 0 }), "{turn:?}");
    assert!(island.member.exchange.store().piece(0, "me", 0).is_none(), "it is taken back");
    let state = beginning(&small_layout());
    island.member.begin(&mut island.theta, state).expect("begun anew");
    assert_eq!(island.script.count("join"), 2);
    island.train(0);
    assert!(island.applied().contributed);
}

#[test]
fn a_coordinator_that_forgot_the_island_is_joined_and_offered_to_again() {
    let mut island = Island::alone();
    assert!(matches!(island.next(), Turn::Train { round: 0 }));
    island.script.refuse("offer", Code::NotFound, Some(1));
    island.script.show(RunView { version: 50, ..view(Phase::Waiting, 0, &[]) });
    island.theta.values.fill(0.0);
    island.offer().expect("no error: the view tells it");
    assert!(island.applied().contributed);
    assert_eq!(island.script.count("join"), 2);
    assert!(island.script.count("offer") >= 2);
}

#[test]
fn refusals_end_the_island_and_say_whether_it_is_worth_trying_again() {
    let table = [
        (Code::PermissionDenied, false),
        (Code::AlreadyExists, false),
        (Code::Aborted, false),
        (Code::FailedPrecondition, true),
        (Code::InvalidArgument, true),
    ];
    for (code, is_final) in table {
        let mut island = Island::alone();
        island.script.refuse("join", code, None);
        let error = island.member.next(&mut island.theta).expect_err("refused");
        let is_refused = matches!(error, MemberError::Session(crate::SessionError::Refused { .. }));
        assert!(is_refused, "{code:?}: {error:?}");
        assert_eq!(error.is_final(), is_final, "{code:?}");
        assert_eq!(island.script.count("join"), 1, "{code:?}: asked once");
    }
}

#[test]
fn an_update_that_is_not_finite_is_no_contribution_and_the_third_ends_the_island() {
    let mut island = Island::alone();
    for last in [false, false, true] {
        let turn = island.next();
        assert!(matches!(turn, Turn::Train { round: 0 }), "alone, it tries again: {turn:?}");
        assert!(island.theta.values.iter().all(|value| *value == 1.0), "from where it was");
        island.theta.values[3] = f32::NAN;
        let offered = island.offer();
        if last {
            assert!(matches!(offered, Err(MemberError::Forgone { round: 0, times: 3, .. })));
        } else {
            offered.expect("forgone");
            assert!(!island.member.forgone_for().is_empty());
        }
    }
    assert_eq!(island.script.count("offer"), 0);
    assert!(island.member.residual().iter().all(|left| *left == 0.0), "no residual is spoilt");
}

#[test]
fn an_island_that_is_to_stop_hands_over_its_round_first() {
    let mut island = Island::alone();
    assert!(matches!(island.next(), Turn::Train { round: 0 }));
    island.stop.store(true, SeqCst);
    let sum = island.member.step_control(StepControl::default()).expect("a step");
    assert!(sum.stop);
    island.theta.values.fill(0.0);
    island.offer().expect("offered");
    assert!(island.applied().contributed);
    assert!(matches!(island.next(), Turn::Stopped));
    island.member.kept(1);
    island.member.leave("stopped");
    let calls = island.script.calls();
    let leaving = |c: &Call| matches!(c, Call::Offer(offer) if offer.leaving);
    assert!(calls.iter().any(leaving), "the coordinator knows that it leaves");
    assert!(calls.iter().any(|c| matches!(c, Call::Kept(kept) if kept.round == 1)));
    assert!(matches!(calls.last(), Some(Call::Leave(leave)) if leave.reason == "stopped"));
}

#[test]
fn a_run_that_is_done_is_finished_or_missed() {
    let done = |holds: bool| {
        move |call: &Call, view: &mut RunView| {
            joined(call, view);
            view.phase = Phase::Done;
            if !holds {
                (view.round, view.highest) = (40, 40);
            }
        }
    };
    let mut holds = Island::start(Runtime::new().expect("a runtime"), done(true));
    assert!(matches!(holds.next(), Turn::Finished));
    let mut lacks = Island::start(Runtime::new().expect("a runtime"), done(false));
    assert!(matches!(lacks.next(), Turn::Missed));
}

/// Another island: what it serves, and how it is a member at `round`.
fn other(runtime: &Runtime, (name, round): (&str, u64), pieces: &[Bytes]) -> (Rank, MemberView) {
    let (rank, address) = runtime.block_on(Rank::serve(pieces, Manner::Honest));
    (rank, MemberView { round, ..member(name, &address) })
}

fn frames_by(island: &str, layout: &Layout) -> Vec<Bytes> {
    frames_of(layout, &FrameId::new("run", island, 0, layout.hash(&params())), 1.0)
}

#[test]
fn a_theta_that_differs_is_replaced_by_the_runs() {
    let (runtime, layout) = (Runtime::new().expect("a runtime"), small_layout());
    let pieces = theta(&layout);
    let hash = root_digest(&digests(&pieces));
    let (_rank, peer) = other(&runtime, ("owner", 1), &pieces);
    let mut island = Island::start(runtime, move |call, view| {
        commits_all(call, view);
        match call {
            Call::Applied(_) => {
                view.theta_hash = Some(hash);
                view.members[0].state = MemberState::Syncing;
                view.members.push(peer.clone());
            }
            Call::Ready(ready) => {
                assert_eq!((ready.round, ready.theta_hash), (1, hash));
                view.members[0].state = MemberState::Active;
            }
            _ => {}
        }
    });
    island.script.agree(false);
    island.train(0);
    island.applied();
    assert!(matches!(island.next(), Turn::Synced { round: 1 }));
    let served: Vec<f32> = (0..layout.values()).map(|at| at as f32).collect();
    assert!(island.member.anchor() == served && island.theta.values == served);
    assert!(island.member.residual().iter().all(|left| *left == 0.0), "it was of another θ");
    let turn = loop {
        match island.next() {
            // It may not have heard yet that it is ready.
            Turn::Synced { round: 1 } => {}
            turn => break turn,
        }
    };
    assert!(matches!(turn, Turn::Train { round: 1 }), "{turn:?}");
}

/// Has `other` offer `theirs` beside what `me` offers.
fn with_other(call: &Call, view: &mut RunView, other: &MemberView, theirs: &Contribution) {
    let is_first = matches!(call, Call::Join(_));
    joined(call, view);
    if is_first {
        view.members.push(other.clone());
    }
    if let Call::Offer(offer) = call
        && offer.round == view.round
    {
        view.phase = Phase::Fetching;
        view.closed = vec![offer.contribution.clone(), theirs.clone()];
    }
}

#[test]
fn what_others_offered_is_fetched_and_applied_with_the_own() {
    let (runtime, layout) = (Runtime::new().expect("a runtime"), small_layout());
    let frames = frames_by("owner", &layout);
    let theirs = Contribution { tokens: 30, ..offered("owner", &frames) };
    let (rank, peer) = other(&runtime, ("owner", 0), &frames);
    let mut island = Island::start(runtime, move |call, view| {
        with_other(call, view, &peer, &theirs);
        if let Call::Fetched(fetched) = call
            && fetched.have.len() == 2
            && !view.closed.is_empty()
        {
            let set = std::mem::take(&mut view.closed);
            commit(view, set);
        }
    });
    island.train(0);
    let report = island.applied();
    assert_eq!((report.islands, report.set_tokens, report.contributed), (2, 40, true));
    assert_eq!(rank.given(), layout.pieces());
    let bytes: usize = frames.iter().map(Bytes::len).sum();
    assert!(report.bytes_received >= bytes as u64, "{report:?}");
}

#[test]
fn what_cannot_be_read_is_rejected_and_the_round_goes_on_without_it() {
    let (runtime, layout) = (Runtime::new().expect("a runtime"), small_layout());
    let garbage = vec![Bytes::from_static(b"this is no frame")];
    let theirs = offered("owner", &garbage);
    let (_rank, peer) = other(&runtime, ("owner", 0), &garbage);
    let mut island = Island::start(runtime, move |call, view| {
        with_other(call, view, &peer, &theirs);
        if let Call::Fetched(fetched) = call
            && let Some(rejection) = fetched.rejected.get("owner")
            && !view.closed.is_empty()
        {
            assert_eq!(rejection.cause, rounds::types::RejectionCause::Invalid);
            let mine = view.closed[0].clone();
            commit(view, vec![mine]);
        }
    });
    island.train(0);
    let report = island.applied();
    assert_eq!((report.islands, report.contributed), (1, true));
    assert_eq!(layout.pieces(), 1);
}

#[test]
fn a_commit_that_cannot_be_applied_is_come_over_by_taking_theta() {
    let (runtime, layout) = (Runtime::new().expect("a runtime"), small_layout());
    let garbage = vec![Bytes::from_static(b"this is no frame")];
    let theirs = offered("liar", &garbage);
    let (_liar, liar) = other(&runtime, ("liar", 0), &garbage);
    let pieces = theta(&layout);
    let hash = root_digest(&digests(&pieces));
    let (_holder, holder) = other(&runtime, ("holder", 1), &pieces);
    let mut island = Island::start(runtime, move |call, view| {
        with_other(call, view, &liar, &theirs);
        if let Call::Fetched(_) = call
            && !view.closed.is_empty()
        {
            let set = std::mem::take(&mut view.closed);
            commit(view, set);
            view.members.push(holder.clone());
            view.theta_hash = Some(hash);
        }
    });
    island.train(0);
    assert!(matches!(island.next(), Turn::Synced { round: 1 }));
    assert_eq!(island.member.round(), 1);
    assert_eq!(island.member.theta_hash(1).expect("a hash"), hash);
}

#[test]
fn two_ranks_hold_half_each_and_come_to_one_theta() {
    let runtime = Runtime::new().expect("a runtime");
    let script = Scripted::new(view(Phase::Waiting, 0, &[]), commits_all);
    let url = runtime.block_on(script.serve());
    let layout = two_pieces();
    let run = |rank: u32| {
        let config = crate::MemberConfig { coordinator: url.clone(), ..config("me", rank, 2) };
        let stop = Arc::new(AtomicBool::new(false));
        let mut member = Member::connect(config, Arc::clone(&layout), stop).expect("connected");
        let mut theta = Flat::new(&layout);
        let state = OuterState::fresh(0, vec![1.0; member.span_values().len()]);
        member.begin(&mut theta, state).expect("begun");
        let turn = member.next(&mut theta).expect("a turn");
        assert!(matches!(turn, Turn::Train { round: 0 }), "{turn:?}");
        theta.values.iter_mut().for_each(|value| *value -= 0.5);
        let trained = StepControl { loss_sum: 1.0, tokens: 10, ..StepControl::default() };
        member.offer(&mut theta, trained, 1).expect("offered");
        let Turn::Applied(report) = member.next(&mut theta).expect("a turn") else {
            panic!("not applied");
        };
        let address = member.address().to_string();
        (member.span(), address, report.theta_hash, theta.values)
    };
    let (first, second) = std::thread::scope(|scope| {
        let (first, second) = (scope.spawn(|| run(0)), scope.spawn(|| run(1)));
        (first.join().expect("no panic"), second.join().expect("no panic"))
    });
    assert_eq!((first.0, second.0), (0..1, 1..2));
    assert_eq!(first.2, second.2, "one hash");
    assert!(first.3 == second.3, "one replica");
    let calls = script.calls();
    let Some(Call::Join(join)) = calls.iter().find(|c| c.name() == "join") else { panic!() };
    let rank = |address: &str, first_piece: u32| RankAddress {
        address: address.into(),
        first_piece,
        end_piece: first_piece + 1,
    };
    assert_eq!(join.ranks, [rank(&first.1, 0), rank(&second.1, 1)]);
    let counts = ["meet", "join", "applied"].map(|name| script.count(name));
    assert_eq!(counts, [2, 1, 1], "the leader alone speaks for the island");
}
