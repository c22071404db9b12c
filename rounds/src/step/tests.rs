//! Scheduled scenarios: one for each rule, told as a sequence of calls.

use std::collections::BTreeSet;

use super::*;
use crate::config::RunConfig;
use crate::record::{self, Deed};
use crate::types::{
    Contribution, Digest, MemberState, Phase, RankAddress, Rejection, RejectionCause, RunView,
    SampleRange,
};
use crate::whereabouts::Adopted;

const GRACE: u64 = 100;
const DEADLINE: u64 = 1_000;
const FETCH_DEADLINE: u64 = 500;
const LEASE: u64 = 10_000;
const GO_BACK: u64 = 3_000;

struct Run {
    state: State,
    now: Millis,
    record: Vec<Entry>,
}

fn config(islands: u32, minimum: u32) -> RunConfig {
    RunConfig {
        name: "mini".into(),
        islands,
        minimum,
        quorum_percent: 60,
        grace_ms: GRACE,
        deadline_ms: DEADLINE,
        fetch_deadline_ms: FETCH_DEADLINE,
        lease_ms: LEASE,
        go_back_after_ms: GO_BACK,
        go_back: false,
        tokens: 1_000_000,
        max_members: 8,
    }
}

fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

/// θ at the start of a round as all honest members compute it.
fn theta(round: u64) -> Digest {
    digest(100 + u8::try_from(round).unwrap())
}

fn who(island: &str, epoch: u64) -> Identity {
    Identity { run: "mini".into(), island: island.into(), epoch }
}

fn joining(island: &str, epoch: u64, round: u64) -> Join {
    let address = format!("{island}-{epoch}:1");
    Join {
        who: who(island, epoch),
        ranks: vec![RankAddress { address, first_piece: 0, end_piece: 9 }],
        layout_hash: digest(1),
        round,
        theta_hash: theta(round),
        tokens_per_second_milli: 1,
        inner_steps: 5,
        round_samples: 10,
        tokens: 0,
        samples: 0,
        complaint: String::new(),
    }
}

fn contribution(island: &str, epoch: u64) -> Contribution {
    Contribution {
        island: island.into(),
        epoch,
        digest: digest(island.as_bytes()[0]),
        bytes: 10,
        tokens: 100,
        steps: 5,
        loss: 2.0,
    }
}

impl Run {
    fn new(config: RunConfig) -> Run {
        let now = Millis(5);
        let state = State::new(config.validate().unwrap(), now);
        Run { state, now, record: Vec::new() }
    }

    /// A run of `islands` in training, with more joined than needed to begin.
    fn training(islands: &[&str]) -> Run {
        let mut run = Run::new(config(u32::try_from(islands.len()).unwrap(), 1));
        islands.iter().for_each(|island| run.yes(Event::Join(joining(island, 1, 0))));
        assert_eq!(run.view().phase, Phase::Training);
        run
    }

    fn step(&mut self, event: Event) -> Result<Verdict, Refusal> {
        let version = self.state.view().version;
        let step = step(self.state.clone(), event, self.now);
        assert_eq!(step.state.view().version > version, step.changed);
        self.record.extend(step.entries);
        step.state.check().unwrap();
        self.state = step.state;
        step.reply
    }

    fn yes(&mut self, event: Event) {
        let reply = self.step(event.clone());
        assert!(reply.as_ref().is_ok_and(|verdict| verdict.yes), "{event:?}: {reply:?}");
    }

    fn no(&mut self, event: Event) {
        let reply = self.step(event.clone());
        assert!(reply.as_ref().is_ok_and(|verdict| !verdict.yes), "{event:?}: {reply:?}");
    }

    fn refused(&mut self, event: Event) -> Refusal {
        let saved = self.state.saved.clone();
        let refusal = self.step(event).unwrap_err();
        assert_eq!(self.state.saved, saved, "a refused event changes nothing");
        refusal
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
        self.yes(Event::Tick);
    }

    /// Waits while the given members stay alive.
    fn wait_with(&mut self, ms: u64, alive: &[&str]) {
        self.now = self.now.plus(ms - 1);
        alive.iter().for_each(|island| self.yes(Event::Heartbeat(who(island, 1))));
        self.wait(1);
    }

    /// Ends leases as if nothing had been heard for long, while nothing else becomes due.
    fn cut_off(&mut self, islands: &[&str]) {
        for island in islands {
            self.state.timers.leases.insert((*island).to_string(), self.now);
        }
        self.wait(0);
    }

    fn offer(&mut self, island: &str) {
        self.yes(offering(island, self.view().round));
    }

    fn fetched(&mut self, island: &str, have: &[&str]) {
        self.yes(fetching(island, self.view().round, have));
    }

    fn applied(&mut self, island: &str) {
        let round = self.view().round - 1;
        self.yes(applying(island, round, theta(round + 1)));
    }

    /// A whole round in which all of `islands` take part.
    fn round(&mut self, islands: &[&str]) {
        let round = self.view().round;
        islands.iter().for_each(|island| self.offer(island));
        islands.iter().filter(|_| islands.len() > 1).for_each(|i| self.fetched(i, islands));
        assert_eq!(self.view().round, round + 1);
        islands.iter().for_each(|island| self.applied(island));
    }

    fn view(&self) -> RunView {
        self.state.view()
    }

    fn member(&self, island: &str) -> MemberState {
        self.view().members.into_iter().find(|m| m.island == island).unwrap().state
    }

    fn last_set(&self) -> Vec<String> {
        let commit = self.view().commits.pop().unwrap();
        commit.set.into_iter().map(|contribution| contribution.island).collect()
    }

    fn restart(&mut self) {
        let saved = self.state.saved().clone();
        self.now = Millis(0);
        self.state = State::resume(self.state.config().clone(), saved, self.now).unwrap();
    }
}

fn offering(island: &str, round: u64) -> Event {
    let contribution = contribution(island, 1);
    Event::Offer(Offer { who: who(island, 1), round, contribution, leaving: false })
}

fn leaving(island: &str, round: u64) -> Event {
    let contribution = contribution(island, 1);
    Event::Offer(Offer { who: who(island, 1), round, contribution, leaving: true })
}

fn fetching(island: &str, round: u64, have: &[&str]) -> Event {
    let have: BTreeSet<_> = have.iter().map(|island| (*island).to_string()).collect();
    Event::Fetched(Fetched { who: who(island, 1), round, have, pieces: 0, rejected: [].into() })
}

fn applying(island: &str, round: u64, theta_hash: Digest) -> Event {
    Event::Applied(Applied { who: who(island, 1), round, theta_hash })
}

fn being_ready(island: &str, round: u64, theta_hash: Digest) -> Event {
    Event::Ready(Ready { who: who(island, 1), round, theta_hash })
}

fn keeping(island: &str, round: u64) -> Event {
    Event::Kept(Kept { who: who(island, 1), round })
}

fn going(island: &str) -> Event {
    Event::Leave(Leave { who: who(island, 1), reason: "told to".into() })
}

mod joining_a_run {
    use super::*;

    #[test]
    fn it_begins_at_once_when_all_have_joined() {
        let mut run = Run::new(config(2, 1));
        run.yes(Event::Join(joining("b", 1, 0)));
        assert_eq!(run.view().phase, Phase::Waiting);
        assert_eq!(run.member("b"), MemberState::Syncing, "nobody has said more");
        run.yes(Event::Join(joining("a", 1, 0)));
        let view = run.view();
        assert_eq!((view.phase, view.round), (Phase::Training, 0));
        assert_eq!(view.theta_hash, Some(theta(0)));
        assert!(view.members.iter().all(|member| member.state == MemberState::Active));
        assert_eq!(view.members[0].island, "a", "members are in order of their names");
    }

    #[test]
    fn it_begins_with_the_minimum_after_the_grace() {
        let mut run = Run::new(config(3, 2));
        run.yes(Event::Join(joining("a", 1, 0)));
        run.wait(GRACE * 2);
        assert_eq!(run.view().phase, Phase::Waiting, "one is too few");
        run.yes(Event::Join(joining("b", 1, 0)));
        assert_eq!(run.state.next_wakeup(), Some(run.now.plus(GRACE)));
        run.wait(GRACE - 1);
        assert_eq!(run.view().phase, Phase::Waiting);
        run.wait(1);
        assert_eq!(run.view().phase, Phase::Training);
    }

    #[test]
    fn repeating_a_join_changes_nothing() {
        let mut run = Run::training(&["a", "b"]);
        let view = run.view();
        run.yes(Event::Join(joining("a", 1, 0)));
        assert_eq!(run.view(), view);
    }

    #[test]
    fn a_join_that_comes_late_and_twice_takes_nobody_back() {
        let mut run = Run::training(&["a", "b"]);
        (0..3).for_each(|_| run.round(&["a", "b"]));
        run.yes(Event::Join(joining("a", 1, 0)));
        run.yes(Event::Join(joining("b", 1, 1)));
        assert_eq!((run.view().phase, run.view().round), (Phase::Training, 3));
        assert_eq!(["a", "b"].map(|island| run.member(island)), [MemberState::Active; 2]);
    }

    #[test]
    fn an_older_epoch_is_refused_for_every_call() {
        let mut run = Run::training(&["a", "b"]);
        run.yes(Event::Join(joining("a", 2, 0)));
        let events = [
            Event::Join(joining("a", 1, 0)),
            Event::Heartbeat(who("a", 1)),
            being_ready("a", 0, theta(0)),
            offering("a", 0),
            fetching("a", 0, &[]),
            applying("a", 0, theta(1)),
            keeping("a", 0),
            going("a"),
        ];
        for event in events {
            let refusal = run.refused(event);
            assert!(matches!(refusal, Refusal::Superseded { newest: 2, .. }), "{refusal}");
        }
    }

    #[test]
    fn another_island_of_the_same_name_is_refused_while_the_lease_lives() {
        let mut run = Run::training(&["a", "b"]);
        let mut other = joining("a", 1, 0);
        other.ranks[0].address = "elsewhere:1".into();
        let refusal = run.refused(Event::Join(other.clone()));
        assert!(refusal.to_string().contains("already a member"), "{refusal}");
        run.wait_with(LEASE, &["b"]);
        run.yes(Event::Join(other));
    }

    #[test]
    fn a_newer_epoch_takes_the_place_of_the_older_one() {
        let mut run = Run::training(&["a", "b"]);
        run.offer("a");
        run.yes(Event::Join(joining("a", 2, 0)));
        let member = run.view().members[0].clone();
        assert_eq!((member.epoch, member.offered), (2, false));
        assert_eq!(member.state, MemberState::Active, "the round still takes contributions");
    }

    #[test]
    fn a_layout_that_differs_is_refused() {
        let mut run = Run::training(&["a"]);
        let other = Join { layout_hash: digest(9), ..joining("b", 1, 0) };
        assert_eq!(run.refused(Event::Join(other)), Refusal::LayoutDiffers);
        let mut fewer = joining("b", 1, 0);
        fewer.ranks[0].end_piece = 8;
        assert_eq!(run.refused(Event::Join(fewer)), Refusal::LayoutDiffers);
    }

    #[test]
    fn ranks_have_to_hold_every_piece_once() {
        type Ranges = &'static [(u32, u32)];
        let table: [(Ranges, Option<&str>); 7] = [
            (&[(0, 9)], None),
            (&[(4, 9), (0, 4)], None),
            (&[(0, 9), (6, 6)], None),
            (&[(1, 9)], Some("piece 0 is missing")),
            (&[(0, 4), (5, 9)], Some("piece 4 is missing")),
            (&[(0, 5), (4, 9)], Some("piece 4 is held twice")),
            (&[(0, 0)], Some("there is none")),
        ];
        for (ranges, expected) in table {
            let rank = |(first_piece, end_piece): &(u32, u32)| RankAddress {
                address: "a:1".into(),
                first_piece: *first_piece,
                end_piece: *end_piece,
            };
            let ranks = ranges.iter().map(rank).collect();
            let reply =
                Run::new(config(2, 1)).step(Event::Join(Join { ranks, ..joining("a", 1, 0) }));
            let problem = reply.err().map(|refusal| match refusal {
                Refusal::Pieces { problem } => problem,
                other => other.to_string(),
            });
            assert_eq!(problem.as_deref(), expected, "{ranges:?}");
        }
    }

    #[test]
    fn a_run_begins_with_the_theta_of_most_whoever_came_first() {
        let mut run = Run::new(config(3, 1));
        run.yes(Event::Join(Join { theta_hash: digest(9), ..joining("a", 1, 0) }));
        run.yes(Event::Join(joining("b", 1, 0)));
        assert_eq!(run.view().theta_hash, None);
        run.yes(Event::Join(joining("c", 1, 0)));
        assert_eq!((run.view().phase, run.view().theta_hash), (Phase::Training, Some(theta(0))));
        let states = ["a", "b", "c"].map(|island| run.member(island));
        assert_eq!(states, [MemberState::Syncing, MemberState::Active, MemberState::Active]);
    }

    #[test]
    fn an_island_of_another_seed_is_told_so_once_the_run_has_begun() {
        let mut run = Run::training(&["a"]);
        let other = Join { theta_hash: digest(9), ..joining("b", 1, 0) };
        let refusal = run.refused(Event::Join(other));
        assert!(refusal.to_string().contains("seed and version"), "{refusal}");
    }

    #[test]
    fn a_first_member_that_goes_before_a_commit_leaves_no_trace() {
        let mut run = Run::new(config(2, 1));
        run.yes(Event::Join(joining("a", 1, 0)));
        run.yes(going("a"));
        let other = Join { theta_hash: digest(9), layout_hash: digest(8), ..joining("b", 1, 0) };
        run.yes(Event::Join(other));
    }

    #[test]
    fn a_run_has_a_bound_on_its_members() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut run = Run::training(&names);
        assert_eq!(run.refused(Event::Join(joining("i", 1, 0))), Refusal::Full { max: 8 });
    }

    #[test]
    fn a_member_of_another_run_is_refused() {
        let mut run = Run::training(&["a"]);
        let other = Identity { run: "other".into(), ..who("a", 1) };
        let refusal = run.refused(Event::Heartbeat(other));
        assert!(matches!(refusal, Refusal::WrongRun { .. }));
    }
}

mod leases {
    use super::*;

    #[test]
    fn every_call_renews_the_lease_and_silence_ends_it() {
        let mut run = Run::training(&["a", "b"]);
        run.now = run.now.plus(LEASE - 1);
        run.offer("a");
        run.wait(1);
        let members: Vec<_> = run.view().members.into_iter().map(|m| m.island).collect();
        assert_eq!(members, ["a"]);
        run.no(Event::Heartbeat(who("b", 1)));
        assert!(matches!(run.refused(offering("b", 0)), Refusal::UnknownMember { .. }));
    }

    #[test]
    fn the_next_wakeup_is_the_first_deadline_and_never_in_the_past() {
        let mut run = Run::training(&["a", "b"]);
        assert_eq!(run.state.next_wakeup(), Some(run.now.plus(DEADLINE)));
        run.wait(DEADLINE);
        assert_eq!(run.state.next_wakeup(), Some(run.now.plus(LEASE - DEADLINE)));
        run.wait(LEASE);
        assert_eq!(run.state.next_wakeup(), None, "nothing is left to wait for");
    }

    #[test]
    fn a_member_that_comes_back_in_the_same_round_finds_its_offer_again() {
        let mut run = Run::training(&["a", "b"]);
        run.offer("a");
        run.cut_off(&["a"]);
        assert_eq!(run.view().members.len(), 1);
        run.yes(Event::Join(joining("a", 1, 0)));
        let view = run.view();
        assert!(view.members[0].offered);
        run.offer("b");
        assert_eq!(run.view().closed.len(), 2);
    }
}

mod closing {
    use super::*;

    #[test]
    fn a_set_closes_when_all_have_offered_in_order_of_names() {
        let mut run = Run::training(&["c", "a", "b"]);
        run.offer("b");
        run.offer("c");
        assert_eq!(run.view().phase, Phase::Training);
        run.offer("a");
        let view = run.view();
        assert_eq!(view.phase, Phase::Fetching);
        let order: Vec<_> = view.closed.iter().map(|c| c.island.as_str()).collect();
        assert_eq!(order, ["a", "b", "c"]);
    }

    #[test]
    fn a_quorum_waits_for_the_grace_and_the_reason_names_who_is_missing() {
        let mut run = Run::training(&["a", "b", "c"]);
        run.offer("a");
        run.wait(GRACE);
        assert_eq!(run.view().phase, Phase::Training, "one of three is no quorum");
        run.offer("b");
        run.wait(GRACE - 1);
        assert_eq!(run.view().phase, Phase::Training);
        run.wait(1);
        assert_eq!(run.view().phase, Phase::Fetching);
        assert_eq!(run.view().reason, "round 0 closed by a quorum: without c");
    }

    #[test]
    fn the_deadline_closes_with_a_single_offer() {
        let mut run = Run::training(&["a", "b", "c"]);
        run.offer("a");
        run.wait(DEADLINE - 1);
        assert_eq!(run.view().phase, Phase::Training);
        run.wait(1);
        assert_eq!(run.view().phase, Phase::Fetching);
        assert_eq!(run.view().reason, "round 0 closed by the deadline: without b, c");
    }

    #[test]
    fn without_an_offer_the_deadline_is_waited_over_and_the_first_offer_gives_the_grace() {
        let mut run = Run::training(&["a", "b", "c"]);
        run.wait(DEADLINE);
        assert_eq!(run.view().phase, Phase::Training);
        assert_eq!(run.view().reason, "round 0 is past its deadline; nobody has offered");
        run.offer("a");
        assert_eq!(run.view().phase, Phase::Training);
        run.wait(GRACE);
        assert_eq!(run.view().phase, Phase::Fetching);
    }

    #[test]
    fn a_member_that_is_lost_is_not_waited_for() {
        let mut run = Run::training(&["a", "b"]);
        run.offer("a");
        run.yes(going("b"));
        assert_eq!(run.last_set(), ["a"]);
    }

    #[test]
    fn an_offer_of_a_member_that_left_before_the_close_counts_for_nothing() {
        let mut run = Run::training(&["a", "b", "c"]);
        run.offer("a");
        run.yes(going("a"));
        run.offer("b");
        run.offer("c");
        let closed: Vec<_> = run.view().closed.into_iter().map(|c| c.island).collect();
        assert_eq!(closed, ["b", "c"]);
    }

    #[test]
    fn a_late_offer_is_not_accepted() {
        let mut run = Run::training(&["a", "b", "c"]);
        run.offer("a");
        run.offer("b");
        run.wait(GRACE);
        run.no(offering("c", 0));
        run.fetched("a", &["b"]);
        run.fetched("b", &["a"]);
        run.fetched("c", &["a", "b"]);
        assert_eq!(run.view().round, 1);
        run.no(offering("c", 0));
    }

    #[test]
    fn an_offer_may_be_repeated_but_not_changed() {
        let mut run = Run::training(&["a", "b"]);
        run.offer("a");
        let view = run.view();
        run.offer("a");
        assert_eq!(run.view(), view);
        let mut other = contribution("a", 1);
        other.digest = digest(0);
        let changed = Offer { who: who("a", 1), round: 0, contribution: other, leaving: false };
        assert_eq!(run.refused(Event::Offer(changed)), Refusal::OfferChanged { round: 0 });
        run.offer("b");
        run.yes(offering("a", 0));
    }

    #[test]
    fn an_offer_for_a_round_to_come_is_refused() {
        let mut run = Run::training(&["a", "b"]);
        let refusal = run.refused(offering("a", 1));
        let island = "a".into();
        assert_eq!(refusal, Refusal::NotReached { island, round: 1, current: 0 });
    }

    #[test]
    fn an_offer_before_the_last_commit_was_applied_counts_for_nothing() {
        let mut run = Run::training(&["a"]);
        run.offer("a");
        assert_eq!(run.view().round, 1);
        run.no(offering("a", 1));
        run.applied("a");
        run.offer("a");
    }
}

mod committing {
    use super::*;

    #[test]
    fn a_round_is_committed_when_every_member_has_everything() {
        let mut run = Run::training(&["a", "b"]);
        run.offer("a");
        run.offer("b");
        run.fetched("a", &["a", "b"]);
        assert_eq!(run.view().phase, Phase::Fetching);
        run.fetched("b", &["a"]);
        let view = run.view();
        assert_eq!((view.phase, view.round, view.tokens), (Phase::Training, 1, 200));
        assert!(view.closed.is_empty());
        assert_eq!(run.last_set(), ["a", "b"]);
        assert_eq!(view.theta_hash, None, "nobody has applied it yet");
        assert_eq!(view.commits[0].record_hash, run.record[0].hash);
    }

    #[test]
    fn what_too_few_hold_at_the_deadline_is_dropped_by_name() {
        let mut run = Run::training(&["a", "b", "c"]);
        ["a", "b", "c"].iter().for_each(|island| run.offer(island));
        run.fetched("a", &["b"]);
        run.wait(FETCH_DEADLINE);
        assert_eq!(run.last_set(), ["b"], "a and c are held by their owners alone");
        assert_eq!(
            run.view().reason,
            "round 0 committed with 1 contributions; too few hold those of a, c; \
             the exchange took too long"
        );
    }

    #[test]
    fn one_that_hangs_after_its_offer_costs_a_stall_and_its_own_contribution() {
        let mut run = Run::new(RunConfig { fetch_deadline_ms: 120_000, ..config(4, 1) });
        for island in ["a", "b", "c", "hangs"] {
            run.yes(Event::Join(joining(island, 1, 0)));
        }
        ["a", "b", "c", "hangs"].iter().for_each(|island| run.offer(island));
        for island in ["a", "b", "c"] {
            run.fetched(island, &["a", "b", "c"]);
        }
        run.wait(run.state.config().stall_ms());
        assert_eq!(run.last_set(), ["a", "b", "c"]);
    }

    #[test]
    fn a_slow_exchange_is_waited_for_while_it_gets_on() {
        let mut run = Run::new(RunConfig { fetch_deadline_ms: 120_000, ..config(2, 1) });
        run.yes(Event::Join(joining("a", 1, 0)));
        run.yes(Event::Join(joining("b", 1, 0)));
        run.offer("a");
        run.offer("b");
        let stall = run.state.config().stall_ms();
        for pieces in 1..20 {
            run.wait_with(stall - 1, &["a", "b"]);
            let version = run.view().version;
            let (who, have, rejected) = (who("a", 1), [].into(), [].into());
            run.yes(Event::Fetched(Fetched { who, round: 0, have, pieces, rejected }));
            assert!(pieces == 1 || run.view().version == version, "progress is no news to others");
        }
        assert_eq!(run.view().phase, Phase::Fetching);
        run.wait_with(stall, &["a", "b"]);
        assert_eq!(run.view().round, 1);
    }

    #[test]
    fn what_a_quorum_refuses_is_dropped_at_once_and_its_owner_remembered() {
        let mut run = Run::training(&["a", "b", "liar"]);
        ["a", "b", "liar"].iter().for_each(|island| run.offer(island));
        let refusing = |island: &str, other: &str| {
            let (who, have) = (who(island, 1), [other.to_string()].into());
            let detail = "piece 3 is noise".to_string();
            let rejection = Rejection { cause: RejectionCause::Invalid, detail };
            let rejected = [("liar".to_string(), rejection)].into();
            Event::Fetched(Fetched { who, round: 0, have, pieces: 9, rejected })
        };
        run.yes(refusing("a", "b"));
        assert_eq!(run.view().closed.len(), 3, "one may be wrong");
        run.yes(refusing("b", "a"));
        assert_eq!(run.view().closed.len(), 2);
        run.fetched("liar", &["a", "b"]);
        assert_eq!(run.last_set(), ["a", "b"]);
        let liar = run.view().members.pop().unwrap();
        assert_eq!((liar.island.as_str(), liar.rejected), ("liar", 1));
    }

    /// An owner whose rank is a moment late, or whose line broke once, fails all who ask at once.
    #[test]
    fn what_nobody_serves_is_asked_for_again_before_it_is_dropped() {
        let lacking = |island: &str, other: &str| {
            let (who, have) = (who(island, 1), [other.to_string()].into());
            let detail = "it is not here".to_string();
            let rejection = Rejection { cause: RejectionCause::Unserved, detail };
            let rejected = [("late".to_string(), rejection)].into();
            Event::Fetched(Fetched { who, round: 0, have, pieces: 9, rejected })
        };
        let closed = || {
            let mut run = Run::training(&["a", "b", "late"]);
            ["a", "b", "late"].iter().for_each(|island| run.offer(island));
            run.fetched("late", &["a", "b"]);
            run.yes(lacking("a", "b"));
            run.yes(lacking("b", "a"));
            run
        };
        let mut served = closed();
        let wait = served.state.config().unserved_ms();
        served.wait(wait - 1);
        served.fetched("a", &["late"]);
        served.fetched("b", &["late"]);
        assert_eq!(served.last_set(), ["a", "b", "late"]);
        let mut unserved = closed();
        unserved.wait(wait - 1);
        assert_eq!(unserved.view().phase, Phase::Fetching);
        unserved.wait(1);
        assert_eq!(unserved.last_set(), ["a", "b"]);
    }

    #[test]
    fn one_slow_link_holds_the_others_up_for_no_longer_than_the_grace() {
        let mut run = Run::training(&["a", "b", "c"]);
        ["a", "b", "c"].iter().for_each(|island| run.offer(island));
        run.fetched("a", &["b", "c"]);
        run.fetched("b", &["a", "c"]);
        run.wait(GRACE - 1);
        assert_eq!(run.view().phase, Phase::Fetching);
        run.wait(1);
        assert_eq!(run.last_set(), ["a", "b", "c"]);
    }

    #[test]
    fn one_that_misses_round_after_round_is_waited_for_less_and_less() {
        let mut run = Run::training(&["a", "b", "slow"]);
        for wait in [GRACE, GRACE / 2, GRACE / 4] {
            run.offer("a");
            run.offer("b");
            assert!(run.view().closing, "the slow one is told that it is time");
            run.wait(wait - 1);
            assert_eq!(run.view().phase, Phase::Training);
            run.wait(1);
            assert_eq!(run.view().phase, Phase::Fetching);
            for island in ["a", "b", "slow"] {
                run.fetched(island, &["a", "b"]);
            }
            ["a", "b", "slow"].iter().for_each(|island| run.applied(island));
        }
        ["a", "b", "slow"].iter().for_each(|island| run.offer(island));
        for island in ["a", "b", "slow"] {
            run.fetched(island, &["a", "b", "slow"]);
        }
        assert_eq!(run.last_set(), ["a", "b", "slow"]);
    }

    #[test]
    fn an_island_that_comes_back_after_its_offer_gets_samples_for_its_new_plan() {
        let mut run = Run::training(&["a", "b"]);
        run.yes(offering("a", 0));
        run.yes(Event::Join(Join { round_samples: 14, ..joining("a", 2, 0) }));
        let a = run.view().members.into_iter().find(|member| member.island == "a").unwrap();
        assert_eq!((a.epoch, a.offered), (2, false));
        assert_eq!(a.samples.iter().map(SampleRange::count).sum::<u64>(), 14);
    }

    #[test]
    fn text_of_an_island_that_went_without_a_contribution_is_handed_out_again() {
        let mut run = Run::training(&["a", "b"]);
        let samples = |run: &Run, island: &str| {
            let members = run.view().members;
            members.into_iter().find(|m| m.island == island).unwrap().samples
        };
        let of_b = samples(&run, "b");
        assert_eq!(of_b, [SampleRange { first: 10, end: 20 }]);
        run.yes(going("b"));
        run.round(&["a"]);
        assert_eq!(samples(&run, "a"), of_b);
        run.round(&["a"]);
        assert_eq!(samples(&run, "a"), [SampleRange { first: 20, end: 30 }]);
    }

    #[test]
    fn a_contribution_outlives_its_owner_when_a_quorum_holds_it() {
        let mut run = Run::training(&["a", "b", "c"]);
        ["a", "b", "c"].iter().for_each(|island| run.offer(island));
        run.fetched("a", &["b", "c"]);
        run.fetched("b", &["a", "c"]);
        run.yes(going("c"));
        assert_eq!(run.last_set(), ["a", "b", "c"]);
    }

    #[test]
    fn a_contribution_that_went_with_its_owner_is_dropped() {
        let mut run = Run::training(&["a", "b", "c"]);
        ["a", "b", "c"].iter().for_each(|island| run.offer(island));
        run.fetched("a", &["b"]);
        run.fetched("b", &["a"]);
        run.yes(going("c"));
        run.wait(FETCH_DEADLINE);
        assert_eq!(run.last_set(), ["a", "b"]);
    }

    #[test]
    fn a_contribution_that_nobody_can_get_any_more_is_waited_for_only_the_grace() {
        let mut run = Run::training(&["a", "b"]);
        run.offer("a");
        run.offer("b");
        run.yes(Event::Join(joining("a", 2, 0)));
        run.yes(Event::Join(joining("b", 2, 0)));
        let nothing = |island| {
            Event::Fetched(Fetched {
                who: who(island, 2),
                round: 0,
                have: [].into(),
                pieces: 0,
                rejected: [].into(),
            })
        };
        run.yes(nothing("a"));
        run.wait(GRACE);
        assert_eq!(run.view().phase, Phase::Fetching, "b has not said what it holds");
        run.yes(nothing("b"));
        assert_eq!((run.view().phase, run.view().round), (Phase::Training, 1));
        assert_eq!(run.last_set(), Vec::<String>::new());
    }

    #[test]
    fn a_newer_epoch_does_not_hold_what_the_older_one_did() {
        let mut run = Run::training(&["a", "b"]);
        run.offer("a");
        run.offer("b");
        run.fetched("b", &["a"]);
        run.yes(Event::Join(joining("a", 2, 0)));
        run.wait(FETCH_DEADLINE);
        // Two members hold θ; a quorum of two is two, and only b holds anything.
        assert_eq!(run.last_set(), Vec::<String>::new());
        assert_eq!(run.view().round, 1, "the run goes on with θ as it was");
    }

    #[test]
    fn a_single_member_holds_its_own() {
        let mut run = Run::training(&["a"]);
        run.offer("a");
        assert_eq!(run.last_set(), ["a"]);
    }

    #[test]
    fn a_leaving_member_takes_part_once_more_and_is_not_waited_for_afterwards() {
        let mut run = Run::training(&["a", "b"]);
        run.yes(leaving("a", 0));
        run.offer("b");
        run.fetched("a", &["b"]);
        run.fetched("b", &["a"]);
        assert_eq!(run.last_set(), ["a", "b"]);
        assert_eq!(run.member("a"), MemberState::Ready);
        run.applied("a");
        run.applied("b");
        run.offer("b");
        assert_eq!(run.view().closed.len(), 1, "the round closed without the leaving member");
        run.yes(going("a"));
        assert_eq!(run.last_set(), ["b"]);
    }

    #[test]
    fn the_run_is_done_when_it_has_its_tokens_and_goes_on_when_asked_for_more() {
        let mut run = Run::new(RunConfig { tokens: 150, ..config(1, 1) });
        run.yes(Event::Join(joining("a", 1, 0)));
        run.round(&["a"]);
        run.offer("a");
        assert_eq!(run.view().phase, Phase::Done);
        run.applied("a");
        run.no(offering("a", 2));
        run.yes(going("a"));
        assert!(run.view().reason.contains("has its 150 tokens"), "{}", run.view().reason);

        let more = RunConfig { tokens: 500, ..config(1, 1) }.validate().unwrap();
        run.state = State::resume(more, run.state.saved().clone(), run.now).unwrap();
        run.yes(Event::Join(joining("a", 2, 2)));
        assert_eq!((run.view().phase, run.view().round), (Phase::Training, 2));
    }

    #[test]
    fn a_view_carries_a_bounded_number_of_commits_and_the_record_verifies() {
        let mut run = Run::training(&["a"]);
        (0..20).for_each(|_| run.round(&["a"]));
        let rounds: Vec<_> = run.view().commits.iter().map(|commit| commit.round).collect();
        assert_eq!(rounds, (12..20).collect::<Vec<_>>());
        assert_eq!(record::verify("mini", &run.record), Ok(run.record[19].hash));
    }

    #[test]
    fn a_round_has_one_trace_whoever_computes_it() {
        let (first, second) = (Run::training(&["a"]).view(), Run::training(&["b"]).view());
        assert_eq!(first.traceparent, second.traceparent);
        let parts: Vec<_> = first.traceparent.split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2]);
        let mut run = Run::training(&["a"]);
        run.round(&["a"]);
        assert_ne!(run.view().traceparent, first.traceparent);
    }
}

mod agreement {
    use super::*;

    fn committed(islands: &[&str]) -> Run {
        let mut run = Run::training(islands);
        islands.iter().for_each(|island| run.offer(island));
        islands.iter().for_each(|island| run.fetched(island, islands));
        assert_eq!(run.view().round, 1);
        run
    }

    #[test]
    fn a_member_whose_theta_differs_is_told_and_has_to_sync() {
        let mut run = committed(&["a", "b", "c"]);
        run.applied("a");
        run.applied("c");
        run.no(applying("b", 0, digest(9)));
        assert_eq!(run.view().theta_hash, Some(theta(1)));
        assert_eq!(run.member("b"), MemberState::Syncing);
        run.no(offering("b", 1));
        run.no(being_ready("b", 1, digest(9)));
        run.yes(being_ready("b", 1, theta(1)));
        assert_eq!(run.member("b"), MemberState::Ready);
    }

    #[test]
    fn who_comes_first_wins_nothing_and_its_offer_is_void_when_it_is_outvoted() {
        let mut run = committed(&["a", "b", "c"]);
        run.yes(applying("a", 0, digest(9)));
        run.offer("a");
        assert_eq!(run.view().theta_hash, None);
        run.yes(applying("b", 0, theta(1)));
        assert_eq!(run.view().theta_hash, None, "one against one");
        run.yes(applying("c", 0, theta(1)));
        let view = run.view();
        assert_eq!(view.theta_hash, Some(theta(1)));
        assert_eq!(run.member("a"), MemberState::Syncing);
        assert!(!view.members[0].offered);
        assert_eq!(run.member("b"), MemberState::Active);
        run.no(offering("a", 1));
    }

    #[test]
    fn an_offer_that_is_outvoted_as_the_round_closes_is_part_of_no_quorum() {
        let mut run = committed(&["a", "b", "c", "d", "e"]);
        run.yes(applying("a", 0, digest(9)));
        run.applied("b");
        run.applied("c");
        ["a", "b", "c"].iter().for_each(|island| run.offer(island));
        run.wait(GRACE);
        let view = run.view();
        assert_eq!((view.phase, view.theta_hash), (Phase::Training, Some(theta(1))));
        assert_eq!(run.member("a"), MemberState::Syncing);
        run.applied("d");
        run.offer("d");
        run.wait(GRACE);
        assert_eq!((run.view().phase, run.view().closed.len()), (Phase::Fetching, 3));
    }

    #[test]
    fn a_round_does_not_begin_before_those_that_are_there_had_time_to_say_what_theta_is() {
        let mut run = committed(&["a", "b"]);
        run.cut_off(&["a", "b"]);
        run.yes(Event::Join(joining("b", 1, 0)));
        run.yes(Event::Join(Join { theta_hash: digest(200), ..joining("a", 1, 1) }));
        assert_eq!((run.view().phase, run.view().theta_hash), (Phase::Waiting, None));
        let mut silent = run.state.clone();
        run.applied("b");
        let view = run.view();
        assert_eq!((view.phase, view.theta_hash), (Phase::Training, Some(theta(1))));
        silent = step(silent, Event::Tick, run.now.plus(GRACE)).state;
        let view = silent.view();
        assert_eq!((view.phase, view.theta_hash), (Phase::Training, Some(digest(200))));
    }

    #[test]
    fn only_those_that_held_the_round_before_say_what_came_of_it() {
        let mut run = committed(&["a", "b", "c"]);
        for liar in ["x", "y", "z", "w"] {
            let forged = Join { theta_hash: digest(9), ..joining(liar, 1, 1) };
            run.yes(Event::Join(forged));
        }
        assert_eq!(run.view().theta_hash, None);
        run.applied("b");
        run.applied("c");
        assert_eq!(run.view().theta_hash, Some(theta(1)));
        assert_eq!(run.member("x"), MemberState::Syncing);
    }

    #[test]
    fn what_a_member_gave_is_the_weight_of_its_word() {
        let mut run = Run::training(&["a", "b", "c"]);
        let heavy = Contribution { tokens: 1000, ..contribution("a", 1) };
        let heavy = Offer { who: who("a", 1), round: 0, contribution: heavy, leaving: false };
        run.yes(Event::Offer(heavy));
        run.offer("b");
        run.offer("c");
        ["a", "b", "c"].iter().for_each(|island| run.fetched(island, &["a", "b", "c"]));
        run.yes(applying("b", 0, digest(9)));
        run.yes(applying("c", 0, digest(9)));
        assert_eq!(run.view().theta_hash, None);
        run.applied("a");
        assert_eq!(run.view().theta_hash, Some(theta(1)));
    }

    #[test]
    fn one_that_does_not_say_is_waited_for_only_the_grace() {
        let mut run = committed(&["a", "b", "c"]);
        run.yes(applying("a", 0, theta(1)));
        run.wait(GRACE - 1);
        assert_eq!(run.view().theta_hash, None);
        run.wait(1);
        assert_eq!(run.view().theta_hash, Some(theta(1)));
    }

    #[test]
    fn a_member_that_missed_a_commit_has_to_catch_up_and_may() {
        let mut run = committed(&["a", "b", "c"]);
        run.applied("a");
        run.applied("b");
        run.offer("a");
        run.offer("b");
        run.wait(GRACE);
        run.fetched("a", &["b"]);
        run.fetched("b", &["a"]);
        assert_eq!(run.view().round, 2, "c is not waited for: it never applied round 0");
        assert_eq!(run.member("c"), MemberState::Syncing);
        run.applied("a");
        run.yes(applying("c", 0, theta(1)));
        assert_eq!(run.member("c"), MemberState::Syncing);
        run.yes(applying("c", 1, theta(2)));
        assert_eq!(run.member("c"), MemberState::Syncing, "b is still to say what θ is");
        run.applied("b");
        assert_eq!(run.member("c"), MemberState::Active);
    }

    #[test]
    fn a_newcomer_takes_part_from_the_round_after_its_snapshot() {
        let mut run = Run::training(&["a"]);
        run.round(&["a"]);
        run.yes(Event::Join(joining("b", 1, 0)));
        assert_eq!(run.member("b"), MemberState::Syncing);
        run.yes(being_ready("b", 1, theta(1)));
        run.no(offering("b", 1));
        run.offer("a");
        assert_eq!(run.view().phase, Phase::Fetching, "b has to fetch, too");
        run.fetched("b", &["a"]);
        assert_eq!(run.member("b"), MemberState::Active);
    }

    #[test]
    fn a_snapshot_of_a_round_that_has_passed_is_noted_but_does_not_make_ready() {
        let mut run = Run::training(&["a"]);
        run.yes(Event::Join(joining("b", 1, 0)));
        run.yes(going("b"));
        run.round(&["a"]);
        run.round(&["a"]);
        run.yes(Event::Join(joining("b", 1, 0)));
        run.yes(being_ready("b", 1, theta(1)));
        assert_eq!(run.member("b"), MemberState::Syncing);
        run.yes(applying("b", 1, theta(2)));
        assert_eq!(run.member("b"), MemberState::Active);
    }

    #[test]
    fn a_member_that_joins_with_the_rounds_theta_while_others_fetch_is_ready() {
        let mut run = Run::training(&["a", "b"]);
        run.offer("a");
        run.offer("b");
        run.yes(Event::Join(joining("c", 1, 0)));
        assert_eq!(run.member("c"), MemberState::Ready);
    }

    #[test]
    fn what_came_of_commits_on_record_counts_where_nobody_holds_what_was_agreed() {
        let mut run = committed(&["a", "b", "c"]);
        run.cut_off(&["a", "b"]);
        run.yes(applying("c", 0, digest(9)));
        run.offer("c");
        assert_eq!((run.view().round, run.view().theta_hash), (2, None));
        run.yes(applying("c", 1, digest(10)));
        run.cut_off(&["c"]);
        for island in ["a", "b"] {
            run.yes(Event::Join(joining(island, 1, 0)));
            run.no(applying(island, 0, theta(1)));
        }
        run.yes(Event::Join(Join { theta_hash: digest(8), ..joining("x", 1, 1) }));
        assert_eq!((run.view().phase, run.view().round), (Phase::Waiting, 2));
        run.wait_with(2 * GO_BACK, &["a", "b", "x"]);
        let view = run.view();
        assert_eq!((view.phase, view.round, view.theta_hash), (Phase::Training, 1, Some(theta(1))));
        assert_eq!(run.member("x"), MemberState::Syncing);
        let deeds = run.record.iter().rev().map(|entry| &entry.deed).collect::<Vec<_>>();
        assert!(matches!(deeds[0], Deed::Adopt { round: 1, .. }), "{:?}", deeds[0]);
        assert!(matches!(deeds[1], Deed::Rewind { from: 2, to: 1, .. }), "{:?}", deeds[1]);
    }
}

mod going_back {
    use super::*;

    #[test]
    fn nothing_is_taken_back_while_an_island_that_is_away_may_hold_the_newer_round() {
        let mut run = Run::training(&["a", "b"]);
        (0..5).for_each(|_| run.round(&["a", "b"]));
        run.cut_off(&["a", "b"]);
        run.yes(Event::Join(joining("c", 1, 0)));
        run.yes(Event::Join(joining("d", 1, 0)));
        assert_eq!((run.view().phase, run.view().round), (Phase::Waiting, 5));
        let reason = run.view().reason;
        assert!(reason.contains("b held round 5") && reason.contains("goes back to round 0"));
        run.wait_with(GO_BACK - 1, &["c", "d"]);
        assert_eq!((run.view().round, run.view().tokens), (5, 1000));
        run.yes(Event::Join(joining("a", 2, 5)));
        assert_eq!((run.view().phase, run.view().round), (Phase::Training, 5));
        assert!(run.record.iter().all(|entry| matches!(entry.deed, Deed::Commit { .. })));
    }

    #[test]
    fn holders_that_do_not_come_back_are_waited_for_only_so_long() {
        let mut run = Run::training(&["a", "b"]);
        (0..5).for_each(|_| run.round(&["a", "b"]));
        run.cut_off(&["a", "b"]);
        run.yes(Event::Join(joining("c", 1, 0)));
        run.yes(Event::Join(joining("d", 1, 0)));
        let at = run.now.plus(GO_BACK);
        while run.view().round == 5 {
            run.now = run.state.next_wakeup().unwrap();
            run.wait(0);
        }
        assert_eq!((run.view().phase, run.now), (Phase::Training, at));
    }

    #[test]
    fn a_newer_checkpoint_that_is_known_is_given_up_only_by_a_persons_word() {
        let mut run = Run::training(&["a", "b"]);
        (0..5).for_each(|_| run.round(&["a", "b"]));
        run.yes(keeping("a", 4));
        run.cut_off(&["a", "b"]);
        run.yes(Event::Join(joining("b", 2, 0)));
        run.yes(Event::Join(joining("c", 1, 0)));
        run.now = run.now.plus(20 * GO_BACK);
        run.yes(Event::Join(joining("b", 2, 0)));
        run.yes(Event::Join(joining("c", 1, 0)));
        assert_eq!((run.view().phase, run.view().round), (Phase::Waiting, 5));
        let reason = run.view().reason;
        assert!(reason.contains("a, which is away, keeps a checkpoint of round 4"), "{reason}");
        let word = RunConfig { go_back: true, ..config(2, 1) }.validate().unwrap();
        run.state = State::resume(word, run.state.saved().clone(), run.now).unwrap();
        run.wait(0);
        assert_eq!((run.view().phase, run.view().round), (Phase::Training, 0));
    }

    #[test]
    fn where_only_a_member_that_is_gone_held_what_was_agreed_the_others_agree_again() {
        let mut run = Run::training(&["a", "b", "c"]);
        ["a", "b", "c"].iter().for_each(|island| run.offer(island));
        ["a", "b", "c"].iter().for_each(|island| run.fetched(island, &["a", "b", "c"]));
        run.cut_off(&["b", "c"]);
        run.yes(applying("a", 0, digest(9)));
        assert_eq!(run.view().theta_hash, Some(digest(9)), "it was alone");
        run.cut_off(&["a"]);
        for island in ["b", "c"] {
            run.yes(Event::Join(joining(island, 1, 1)));
        }
        run.wait(GRACE);
        assert_eq!((run.view().phase, run.view().round), (Phase::Waiting, 1));
        run.wait_with(GO_BACK, &["b", "c"]);
        assert_eq!((run.view().phase, run.view().round), (Phase::Training, 1));
        assert_eq!(run.view().theta_hash, Some(theta(1)));
    }

    #[test]
    fn a_run_that_is_done_stays_done() {
        let mut run = Run::new(RunConfig { tokens: 150, ..config(2, 1) });
        run.yes(Event::Join(joining("a", 1, 0)));
        run.wait(GRACE);
        run.round(&["a"]);
        run.offer("a");
        run.applied("a");
        assert_eq!((run.view().phase, run.view().round), (Phase::Done, 2));
        run.cut_off(&["a"]);
        run.yes(Event::Join(joining("c", 1, 0)));
        run.yes(Event::Join(joining("d", 1, 0)));
        run.wait_with(2 * GO_BACK, &["c", "d"]);
        assert_eq!((run.view().phase, run.view().round), (Phase::Done, 2));
    }

    #[test]
    fn an_older_store_takes_the_run_over_from_those_that_hold_it() {
        let mut run = Run::training(&["a", "b", "c"]);
        (0..2).for_each(|_| run.round(&["a", "b", "c"]));
        let older = run.state.saved().clone();
        (0..3).for_each(|_| run.round(&["a", "b", "c"]));
        run.state = State::resume(run.state.config().clone(), older, run.now).unwrap();
        let refusal = run.refused(offering("a", 5));
        assert!(matches!(refusal, Refusal::NotReached { round: 5, .. }));
        let knowing = |island| Join { tokens: 1500, samples: 7, ..joining(island, 1, 5) };
        run.yes(Event::Join(knowing("a")));
        assert_eq!((run.view().round, run.member("a")), (2, MemberState::Syncing));
        let behind = |island| Join { tokens: 1200, samples: 5, ..joining(island, 1, 4) };
        run.yes(Event::Join(behind("b")));
        assert_eq!((run.view().round, run.member("a")), (2, MemberState::Syncing));
        run.yes(Event::Join(behind("c")));
        let view = run.view();
        assert_eq!((view.phase, view.round, view.tokens), (Phase::Training, 5, 1500));
        assert_eq!((view.theta_hash, view.samples), (Some(theta(5)), 7 + 10));
        assert!(matches!(run.record.last().unwrap().deed, Deed::Adopt { round: 5, .. }));
        let states = ["a", "b", "c"].map(|island| run.member(island));
        let [active, syncing] = [MemberState::Active, MemberState::Syncing];
        assert_eq!(states, [active, syncing, syncing], "two that hold an older round count less");
    }

    #[test]
    fn who_claims_to_be_ahead_with_fewer_tokens_moves_nothing() {
        let mut run = Run::training(&["a"]);
        (0..3).for_each(|_| run.round(&["a"]));
        run.yes(Event::Join(Join { tokens: 299, ..joining("b", 1, 9) }));
        run.round(&["a"]);
        assert_eq!((run.view().round, run.view().tokens), (4, 400));
    }

    #[test]
    fn an_empty_store_does_not_begin_while_an_island_holds_a_round() {
        let mut run = Run::new(config(3, 2));
        run.yes(Event::Join(joining("a", 1, 7)));
        run.yes(Event::Join(joining("b", 1, 0)));
        run.wait(GRACE);
        assert_eq!((run.view().phase, run.view().round), (Phase::Waiting, 0));
        assert!(run.view().reason.contains("a hold rounds up to 7"), "{}", run.view().reason);
        run.yes(Event::Join(joining("c", 1, 0)));
        assert_eq!((run.view().phase, run.view().round), (Phase::Training, 7), "all are there");
        assert_eq!(run.member("b"), MemberState::Syncing);
    }

    #[test]
    fn a_checkpoint_is_taken_over_with_its_tokens_and_text() {
        let adopted = Adopted { round: 4, theta_hash: Some(theta(4)), tokens: 400, samples: 90 };
        let state = State::adopt(config(1, 1).validate().unwrap(), &adopted, Millis(0));
        let mut run = Run { state, now: Millis(0), record: Vec::new() };
        run.yes(Event::Join(joining("a", 1, 4)));
        let view = run.view();
        assert_eq!((view.phase, view.round, view.tokens), (Phase::Training, 4, 400));
        assert_eq!(view.members[0].samples, [SampleRange { first: 90, end: 100 }]);
        assert_eq!(run.record.len(), 1);
        run.round(&["a"]);
        assert_eq!(run.view().tokens, 500);
    }

    #[test]
    fn a_run_whose_members_are_all_lost_goes_on_from_the_newest_checkpoint_on_record() {
        let mut run = Run::training(&["a", "b"]);
        (0..4).for_each(|_| run.round(&["a", "b"]));
        run.wait(LEASE);
        assert_eq!((run.view().phase, run.view().round), (Phase::Waiting, 4));
        run.yes(Event::Join(joining("a", 2, 2)));
        assert_eq!(run.view().round, 4, "one of two is not enough yet");
        let forged = Join { theta_hash: digest(9), ..joining("b", 2, 3) };
        run.yes(Event::Join(forged));
        assert_eq!(run.view().phase, Phase::Waiting, "the commit of round 2 may be applied");
        run.wait(run.state.config().stall_ms());
        let view = run.view();
        assert_eq!((view.phase, view.round, view.tokens), (Phase::Training, 2, 400));
        assert_eq!(view.theta_hash, Some(theta(2)));
        assert_eq!(run.member("a"), MemberState::Active);
        assert_eq!(run.member("b"), MemberState::Syncing, "its round 3 is not the run's");
        let rounds: Vec<_> = view.commits.iter().map(|commit| commit.round).collect();
        assert_eq!(rounds, [0, 1]);
        let entry = run.record.last().unwrap();
        let reason = "no member holds round 4 any more; a held round 2".to_string();
        assert_eq!(entry.deed, Deed::Rewind { from: 4, to: 2, reason });
        assert!(record::verify("mini", &run.record).is_ok());
    }

    #[test]
    fn nothing_is_taken_back_while_a_member_that_holds_the_round_lives_or_comes_back() {
        let mut run = Run::training(&["a", "b"]);
        (0..3).for_each(|_| run.round(&["a", "b"]));
        run.yes(going("b"));
        run.yes(Event::Join(joining("b", 2, 1)));
        assert_eq!((run.view().round, run.member("b")), (3, MemberState::Syncing));
        run.wait(LEASE);
        run.yes(Event::Join(joining("b", 3, 1)));
        run.yes(Event::Join(joining("a", 2, 3)));
        assert_eq!((run.view().phase, run.view().round), (Phase::Training, 3));
        assert_eq!(run.member("a"), MemberState::Active);
        assert_eq!(run.member("b"), MemberState::Syncing);
        assert_eq!(run.record.len(), 3);
    }

    #[test]
    fn with_the_minimum_it_goes_back_after_the_grace_and_the_wait_for_those_away() {
        let mut run = Run::training(&["a", "b"]);
        (0..3).for_each(|_| run.round(&["a", "b"]));
        run.wait(LEASE);
        run.yes(Event::Join(joining("a", 2, 0)));
        assert_eq!(run.view().phase, Phase::Waiting);
        run.wait(GRACE);
        assert_eq!((run.view().phase, run.view().round), (Phase::Waiting, 3));
        run.wait(GO_BACK);
        assert_eq!((run.view().phase, run.view().round), (Phase::Training, 0));
    }

    #[test]
    fn checkpoints_that_are_not_on_record_do_not_move_the_run() {
        let mut run = Run::training(&["a"]);
        (0..3).for_each(|_| run.round(&["a"]));
        run.wait(LEASE);
        let forged = Join { theta_hash: digest(9), ..joining("a", 2, 2) };
        run.yes(Event::Join(forged));
        assert_eq!((run.view().phase, run.view().round), (Phase::Waiting, 3));
        assert!(run.view().reason.contains("set `rounds.goBack`"), "{}", run.view().reason);
        let mut told = config(1, 1);
        told.go_back = true;
        let saved = run.state.saved().clone();
        run.state = State::resume(told.validate().unwrap(), saved, run.now).unwrap();
        run.wait(1);
        let view = run.view();
        assert_eq!(
            (view.phase, view.round, view.theta_hash),
            (Phase::Training, 2, Some(digest(9)))
        );
    }

    #[test]
    fn a_member_ahead_of_a_run_that_went_back_has_to_sync() {
        let mut run = Run::training(&["a", "b"]);
        (0..3).for_each(|_| run.round(&["a", "b"]));
        run.wait(LEASE);
        run.yes(Event::Join(joining("a", 2, 1)));
        run.wait(GRACE);
        run.wait(GO_BACK);
        assert_eq!(run.view().round, 1);
        run.yes(Event::Join(joining("b", 2, 3)));
        assert_eq!(run.member("b"), MemberState::Syncing);
    }

    #[test]
    fn the_newest_checkpoint_is_told_and_none_of_a_round_that_was_taken_back() {
        let mut run = Run::training(&["a", "b"]);
        (0..3).for_each(|_| run.round(&["a", "b"]));
        let told = |run: &Run| run.view().checkpoint.map(|last| (last.round, last.island));
        assert_eq!(told(&run), None);
        run.refused(keeping("a", 4));
        run.yes(keeping("a", 3));
        run.yes(keeping("b", 3));
        run.yes(keeping("b", 2));
        assert_eq!(told(&run), Some((3, "a".to_string())));
        run.wait(LEASE);
        run.yes(Event::Join(joining("a", 2, 1)));
        run.yes(Event::Join(joining("b", 2, 1)));
        run.wait(run.state.config().stall_ms());
        assert_eq!((run.view().round, told(&run)), (1, None));
        run.no(Event::Kept(Kept { who: who("b", 2), round: 3 }));
        run.yes(Event::Kept(Kept { who: who("b", 2), round: 1 }));
        assert_eq!(told(&run), Some((1, "b".to_string())));
    }

    #[test]
    fn a_commit_that_nobody_applied_is_taken_back_after_the_deadline() {
        let mut run = Run::training(&["a", "b"]);
        run.round(&["a", "b"]);
        run.offer("a");
        run.offer("b");
        run.fetched("a", &["b"]);
        run.fetched("b", &["a"]);
        assert_eq!(run.view().round, 2);
        run.wait_with(DEADLINE, &["a", "b"]);
        assert_eq!((run.view().phase, run.view().round), (Phase::Waiting, 2), "they may yet");
        run.wait_with(run.state.config().stall_ms(), &["a", "b"]);
        assert_eq!((run.view().phase, run.view().round), (Phase::Training, 1));
    }

    #[test]
    fn members_that_were_all_cut_off_while_fetching_end_the_round_without_training_again() {
        let mut run = Run::training(&["a", "b"]);
        run.round(&["a", "b"]);
        run.offer("a");
        run.offer("b");
        run.fetched("a", &["b"]);
        run.cut_off(&["a", "b"]);
        assert_eq!((run.view().phase, run.view().members.len()), (Phase::Waiting, 0));
        run.yes(Event::Join(joining("a", 1, 1)));
        run.yes(Event::Join(joining("b", 1, 1)));
        assert_eq!((run.view().phase, run.view().closed.len()), (Phase::Fetching, 2));
        run.fetched("b", &["a"]);
        assert_eq!(run.last_set(), ["a", "b"]);
    }
}

mod restarting {
    use super::*;

    #[test]
    fn a_coordinator_that_restarts_shows_the_same_view_and_full_leases() {
        let mut run = Run::training(&["a", "b", "c"]);
        run.offer("a");
        run.restart();
        let view = run.view();
        assert_eq!((view.phase, view.members[0].offered), (Phase::Training, true));
        run.wait(LEASE - 1);
        assert_eq!(run.view().members.len(), 3);
        run.offer("b");
        run.restart();
        run.offer("c");
        assert_eq!(run.view().closed.len(), 3);
        let view = run.view();
        run.restart();
        assert_eq!(run.view(), view);
        run.fetched("a", &["b", "c"]);
        run.restart();
        run.fetched("b", &["a", "c"]);
        run.fetched("c", &["a", "b"]);
        assert_eq!(run.last_set(), ["a", "b", "c"]);
    }

    #[test]
    fn a_saved_state_of_another_run_is_refused() {
        let run = Run::training(&["a"]);
        let other = RunConfig { name: "other".into(), ..config(1, 1) }.validate().unwrap();
        let error = State::resume(other, run.state.saved().clone(), Millis(0)).unwrap_err();
        assert_eq!(error.saved, "mini");
    }
}
