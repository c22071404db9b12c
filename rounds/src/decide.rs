//! The next act of a member: a pure function of the run's view and its own standing.
//!
//! The view is a level, not an edge: a member that slept through several of them decides from the
//! newest alone, and deciding twice from the same one gives the same directive.

use crate::types::{Commit, Contribution, Digest, MemberState, MemberView, Phase, RunView};

/// The standing of an island by its own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Name of the island.
    pub island: String,
    /// Epoch of its plan.
    pub epoch: u64,
    /// The round whose θ it holds.
    pub round: u64,
    /// It has made its contribution to this round.
    pub offered: bool,
    /// It gave up making one, and leaves the round to the others.
    pub forgone: bool,
    /// The closed set of this round that it has said it holds whole, by digest.
    pub fetched: Option<Vec<Digest>>,
    /// Its θ was found to differ, or lost: only a snapshot helps.
    pub needs_snapshot: bool,
}

impl Standing {
    /// At the beginning of `round`, in which nothing has happened yet.
    pub fn at(island: String, epoch: u64, round: u64) -> Standing {
        Standing {
            island,
            epoch,
            round,
            offered: false,
            forgone: false,
            fetched: None,
            needs_snapshot: false,
        }
    }

    /// Takes note of the island's state in a view, before it decides: a snapshot is not needed any
    /// more where the run has come back to just what the island holds.
    pub fn heed(&mut self, view: &RunView) {
        let known = view.member(&self.island, self.epoch);
        let confirmed = |m: &MemberView| {
            view.round == self.round && m.round == self.round && m.state != MemberState::Syncing
        };
        self.needs_snapshot &= !known.is_some_and(confirmed);
    }
}

/// The next act of a member.
#[derive(Clone, Debug, PartialEq)]
pub enum Directive {
    /// Make the round's inner steps, then offer.
    Train {
        /// The round.
        round: u64,
    },
    /// Offer the round's contribution again: the coordinator does not have it (any more).
    OfferAgain,
    /// Fetch what the closed set lacks here, then report.
    Fetch {
        /// The closed set.
        set: Vec<Contribution>,
    },
    /// Aggregate a committed round and step to the next.
    Apply {
        /// The commit of the round the island stands at.
        commit: Commit,
    },
    /// Take θ of a round from other members.
    Sync {
        /// The round.
        round: u64,
        /// Its hash.
        hash: Digest,
    },
    /// The coordinator does not know the island: join (again).
    Join,
    /// Nothing to do until the view changes.
    Wait {
        /// Why, for people.
        reason: String,
    },
    /// The run is complete.
    Finish,
    /// The run is complete, and nobody is left to take its θ from.
    Miss,
    /// The run went back behind this island's round: go on from an older checkpoint, or from the
    /// model's start, and catch up from there.
    Rewind {
        /// The run's round.
        round: u64,
    },
}

/// The next directive, first match wins: catching up comes before taking part.
pub fn decide(view: &RunView, me: &Standing) -> Directive {
    let Some(member) = view.member(&me.island, me.epoch) else { return Directive::Join };
    if me.round > view.highest {
        return tell_of_round(view, member, me);
    }
    if me.round > view.round {
        return Directive::Rewind { round: view.round };
    }
    if me.needs_snapshot {
        return catch_up(view, me);
    }
    if view.round > me.round {
        return match view.commits.iter().find(|commit| commit.round == me.round) {
            Some(commit) => Directive::Apply { commit: commit.clone() },
            None => catch_up(view, me),
        };
    }
    match (view.phase, member.state) {
        (Phase::Done, _) => Directive::Finish,
        (Phase::Waiting, _) => Directive::Wait { reason: view.reason.clone() },
        (_, MemberState::Syncing) => catch_up(view, me),
        (Phase::Fetching, _) if !holds_closed_set(view, me) => {
            Directive::Fetch { set: view.closed.clone() }
        }
        (Phase::Training, MemberState::Active) if me.forgone && may_be_offered(view, me) => {
            Directive::Wait { reason: view.reason.clone() }
        }
        (Phase::Training, MemberState::Active) if !me.offered => {
            Directive::Train { round: view.round }
        }
        // Repeating an offer is harmless, so a view from before the offer does no harm either.
        (Phase::Training, MemberState::Active) if !member.offered => Directive::OfferAgain,
        _ => Directive::Wait { reason: view.reason.clone() },
    }
}

/// The coordinator has lost rounds that this island holds: it has to hear of them, once.
fn tell_of_round(view: &RunView, member: &MemberView, me: &Standing) -> Directive {
    if member.round == me.round {
        return Directive::Wait { reason: view.reason.clone() };
    }
    Directive::Join
}

/// Says whether another island can bring the round to its end; without an offer it has none.
fn may_be_offered(view: &RunView, me: &Standing) -> bool {
    view.members.iter().any(|m| m.island != me.island && m.state == MemberState::Active)
}

/// A set may be closed anew after members were lost, so holding one says nothing of another.
fn holds_closed_set(view: &RunView, me: &Standing) -> bool {
    me.fetched.as_ref().is_some_and(|held| view.closed.iter().map(|c| &c.digest).eq(held))
}

/// Takes θ from whoever holds it. A run in progress may get a holder again; a complete one does
/// not.
fn catch_up(view: &RunView, me: &Standing) -> Directive {
    let holds = |m: &MemberView| {
        m.island != me.island && m.round == view.round && m.state != MemberState::Syncing
    };
    let somebody = view.members.iter().any(holds);
    match view.theta_hash {
        _ if view.phase == Phase::Done && !somebody => Directive::Miss,
        Some(hash) if somebody => Directive::Sync { round: view.round, hash },
        Some(_) => Directive::Wait { reason: format!("nobody serves θ of round {}", view.round) },
        None => Directive::Wait { reason: format!("θ of round {} is not agreed", view.round) },
    }
}

/// Says whether further inner steps of `round` are in vain: the round closed, or the run moved on.
pub fn is_closed(view: &RunView, round: u64) -> bool {
    view.round != round || view.phase != Phase::Training
}

/// Says whether `island` is the first by name of those that hold θ: one of all does what is to be
/// done once, and another one when that is lost.
pub fn leads_run(view: &RunView, island: &str) -> bool {
    let holders = view.members.iter().filter(|member| member.state != MemberState::Syncing);
    holders.map(|member| member.island.as_str()).min() == Some(island)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(round: u64) -> Standing {
        Standing::at("a".into(), 1, round)
    }

    fn commit(round: u64) -> Commit {
        Commit { round, set: vec![], record_hash: Digest([0; 32]), tokens: 0, samples: 0 }
    }

    fn view(phase: Phase, round: u64, state: MemberState) -> RunView {
        let member =
            MemberView { island: "a".into(), epoch: 1, state, round, ..MemberView::default() };
        RunView {
            phase,
            round,
            highest: round,
            members: vec![member],
            reason: "because".into(),
            ..RunView::default()
        }
    }

    #[test]
    fn an_active_member_trains_once_per_round() {
        let view = view(Phase::Training, 3, MemberState::Active);
        assert_eq!(decide(&view, &standing(3)), Directive::Train { round: 3 });
        let offered = Standing { offered: true, ..standing(3) };
        assert_eq!(decide(&view, &offered), Directive::OfferAgain);
        let mut view = view;
        view.members[0].offered = true;
        assert_eq!(decide(&view, &offered), Directive::Wait { reason: "because".into() });
    }

    #[test]
    fn a_member_that_forgoes_a_round_leaves_it_to_the_others_and_takes_what_they_commit() {
        let forgone = Standing { forgone: true, ..standing(3) };
        let with = |phase, other| {
            let mut view = view(phase, 3, MemberState::Active);
            view.members.push(MemberView {
                island: "b".into(),
                state: other,
                ..view.members[0].clone()
            });
            view
        };
        let waits = Directive::Wait { reason: "because".into() };
        let trains = Directive::Train { round: 3 };
        let fetches = Directive::Fetch { set: vec![] };
        let table = [
            (Phase::Training, MemberState::Active, &waits, "the other may offer"),
            (Phase::Training, MemberState::Ready, &trains, "nobody else takes part"),
            (Phase::Training, MemberState::Syncing, &trains, "nobody else takes part"),
            (Phase::Fetching, MemberState::Active, &fetches, "it closed with the other's"),
        ];
        for (phase, other, expected, why) in table {
            assert_eq!(decide(&with(phase, other), &forgone), *expected, "{why}");
        }
        let alone = view(Phase::Training, 3, MemberState::Active);
        assert_eq!(decide(&alone, &forgone), trains, "alone");
        let mut committed = view(Phase::Training, 4, MemberState::Active);
        committed.commits = vec![commit(3)];
        assert_eq!(decide(&committed, &forgone), Directive::Apply { commit: commit(3) });
    }

    #[test]
    fn a_ready_member_waits_for_the_commit_instead_of_training() {
        let view = view(Phase::Training, 3, MemberState::Ready);
        assert_eq!(decide(&view, &standing(3)), Directive::Wait { reason: "because".into() });
    }

    #[test]
    fn a_closed_set_is_fetched_until_it_is_complete() {
        let view = view(Phase::Fetching, 3, MemberState::Active);
        assert_eq!(decide(&view, &standing(3)), Directive::Fetch { set: vec![] });
        let fetched = Standing { fetched: Some(vec![]), ..standing(3) };
        assert!(matches!(decide(&view, &fetched), Directive::Wait { .. }));
        let another = Standing { fetched: Some(vec![Digest([1; 32])]), ..standing(3) };
        assert_eq!(decide(&view, &another), Directive::Fetch { set: vec![] });
    }

    #[test]
    fn a_commit_of_the_own_round_is_applied_even_when_the_run_is_further() {
        let mut view = view(Phase::Fetching, 5, MemberState::Active);
        view.commits = vec![commit(3), commit(4)];
        assert_eq!(decide(&view, &standing(3)), Directive::Apply { commit: commit(3) });
        assert_eq!(decide(&view, &standing(4)), Directive::Apply { commit: commit(4) });
    }

    #[test]
    fn a_member_too_far_behind_takes_a_snapshot() {
        let mut view = view(Phase::Training, 5, MemberState::Active);
        view.commits = vec![commit(4)];
        view.members.push(MemberView { island: "b".into(), ..view.members[0].clone() });
        let waits = |reason: &str| Directive::Wait { reason: reason.into() };
        assert_eq!(decide(&view, &standing(3)), waits("θ of round 5 is not agreed"));
        view.theta_hash = Some(Digest([5; 32]));
        let expected = Directive::Sync { round: 5, hash: Digest([5; 32]) };
        assert_eq!(decide(&view, &standing(3)), expected);
        let differs = Standing { needs_snapshot: true, ..standing(4) };
        assert_eq!(decide(&view, &differs), expected);
        view.members.pop();
        assert_eq!(decide(&view, &standing(3)), waits("nobody serves θ of round 5"));
    }

    #[test]
    fn what_the_run_came_back_to_needs_no_snapshot() {
        let mut lacked = Standing { needs_snapshot: true, ..standing(3) };
        let differs = view(Phase::Training, 3, MemberState::Syncing);
        lacked.heed(&differs);
        assert_eq!(decide(&differs, &lacked), waiting_for("θ of round 3 is not agreed"));
        let confirmed = view(Phase::Training, 3, MemberState::Active);
        lacked.heed(&confirmed);
        assert_eq!(decide(&confirmed, &lacked), Directive::Train { round: 3 });
        assert!(!lacked.needs_snapshot);
    }

    fn waiting_for(reason: &str) -> Directive {
        Directive::Wait { reason: reason.into() }
    }

    #[test]
    fn a_coordinator_that_lost_rounds_is_told_once_of_what_the_island_holds() {
        let mut view = view(Phase::Training, 5, MemberState::Active);
        assert_eq!(decide(&view, &standing(7)), Directive::Join);
        view.members[0].round = 7;
        assert_eq!(decide(&view, &standing(7)), waiting_for("because"));
    }

    #[test]
    fn an_unknown_epoch_joins_and_a_run_that_went_back_is_followed() {
        let mut view = view(Phase::Training, 5, MemberState::Active);
        view.highest = 6;
        let newer = Standing { epoch: 2, ..standing(5) };
        assert_eq!(decide(&view, &newer), Directive::Join);
        assert_eq!(decide(&view, &standing(6)), Directive::Rewind { round: 5 });
    }

    #[test]
    fn the_last_commit_is_applied_before_the_run_is_finished() {
        let mut view = view(Phase::Done, 4, MemberState::Active);
        view.commits = vec![commit(3)];
        assert_eq!(decide(&view, &standing(3)), Directive::Apply { commit: commit(3) });
        assert_eq!(decide(&view, &standing(4)), Directive::Finish);
    }

    #[test]
    fn a_complete_run_that_nobody_holds_any_more_is_missed() {
        let mut view = view(Phase::Done, 40, MemberState::Syncing);
        assert_eq!(decide(&view, &standing(3)), Directive::Miss);
        view.members.push(MemberView { island: "b".into(), ..view.members[0].clone() });
        assert_eq!(decide(&view, &standing(3)), Directive::Miss, "its θ may be wrong");
        view.members[1].state = MemberState::Ready;
        let hash = Digest([4; 32]);
        view.theta_hash = Some(hash);
        assert_eq!(decide(&view, &standing(3)), Directive::Sync { round: 40, hash });
    }

    #[test]
    fn training_is_in_vain_once_the_round_closed() {
        assert!(!is_closed(&view(Phase::Training, 3, MemberState::Active), 3));
        assert!(is_closed(&view(Phase::Fetching, 3, MemberState::Active), 3));
        assert!(is_closed(&view(Phase::Training, 4, MemberState::Active), 3));
    }

    #[test]
    fn the_first_island_by_name_that_holds_the_model_leads_the_run() {
        let mut view = view(Phase::Training, 3, MemberState::Active);
        for island in ["c", "b"] {
            view.members.push(MemberView { island: island.into(), ..view.members[0].clone() });
        }
        let leading = |view: &RunView| {
            ["a", "b", "c", "d"].into_iter().filter(|island| leads_run(view, island)).collect()
        };
        let table = [
            (MemberState::Active, vec!["a"]),
            (MemberState::Ready, vec!["a"]),
            (MemberState::Syncing, vec!["b"]),
        ];
        for (state, expected) in table {
            view.members[0].state = state;
            let leading: Vec<&str> = leading(&view);
            assert_eq!(leading, expected, "{state:?}");
        }
        view.members.remove(0);
        assert!(leads_run(&view, "b"), "a is lost");
        view.members.clear();
        assert!(!leads_run(&view, "a"));
    }
}
