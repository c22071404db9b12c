//! Properties that hold after any sequence of calls, however wrong, late, repeated or forged they
//! are.

use std::collections::BTreeSet;

use crate::config::RunConfig;
use crate::record::{Deed, Entry, verify};
use crate::refusal::Refusal;
use crate::request::{Applied, Fetched, Identity, Join, Kept, Leave, Offer, Ready};
use crate::state::{Millis, State};
use crate::step::{Event, Step, Verdict, step};
use crate::types::{Contribution, Digest, MemberState, MemberView, Phase, RankAddress, RunView};
use proptest::collection::vec;
use proptest::prelude::*;

const ISLANDS: [&str; 4] = ["a", "b", "c", "d"];
/// An epoch that no random call uses.
const NEWEST: u64 = 100;

#[derive(Clone, Debug)]
struct Call {
    what: What,
    island: usize,
    epoch: u64,
    /// Added to the run's round.
    lag: i64,
    honest: bool,
    wait_ms: u64,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// Whatever the view asks of the island.
    Act,
    Join,
    Heartbeat,
    Ready,
    Offer {
        leaving: bool,
    },
    Fetched {
        all: bool,
    },
    Applied,
    Kept,
    Leave,
    Tick,
    Restart,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let what = prop_oneof![
        60 => Just(What::Act),
        4 => Just(What::Join),
        1 => Just(What::Heartbeat),
        1 => Just(What::Ready),
        4 => any::<bool>().prop_map(|leaving| What::Offer { leaving }),
        4 => any::<bool>().prop_map(|all| What::Fetched { all }),
        4 => Just(What::Applied),
        1 => Just(What::Kept),
        1 => Just(What::Leave),
        2 => Just(What::Tick),
        1 => Just(What::Restart),
    ];
    let lag = prop_oneof![6 => Just(0), 2 => Just(-1), 1 => -4..=1i64];
    let wait = prop_oneof![60 => Just(0), 30 => 1..40u64, 3 => 60..1500u64];
    let epoch = prop_oneof![6 => Just(1), 1 => 1..=3u64];
    let call = (what, 0..ISLANDS.len(), epoch, lag, prop::bool::weighted(0.9), wait);
    let call = call.prop_map(|(what, island, epoch, lag, honest, wait_ms)| Call {
        what,
        island,
        epoch,
        lag,
        honest,
        wait_ms,
    });
    vec(call, 0..200)
}

fn config() -> RunConfig {
    RunConfig {
        name: "mini".into(),
        islands: 3,
        minimum: 2,
        quorum_percent: 60,
        grace_ms: 20,
        deadline_ms: 200,
        fetch_deadline_ms: 100,
        lease_ms: 300,
        go_back_after_ms: 300,
        go_back: false,
        tokens: u64::MAX,
        max_members: 8,
    }
}

fn theta(round: u64, honest: bool) -> Digest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&round.to_le_bytes());
    // θ of round 0 follows from the seed; a run that began with a wrong one is another run.
    bytes[31] = u8::from(!honest && round > 0);
    Digest(bytes)
}

fn who(island: &str, epoch: u64) -> Identity {
    Identity { run: "mini".into(), island: island.into(), epoch }
}

fn joining(who: Identity, round: u64, theta_hash: Digest) -> Event {
    let address = format!("{}-{}:1", who.island, who.epoch);
    Event::Join(Join {
        who,
        ranks: vec![RankAddress { address, first_piece: 0, end_piece: 3 }],
        layout_hash: Digest([1; 32]),
        round,
        theta_hash,
        tokens_per_second_milli: 0,
        inner_steps: 0,
        round_samples: 10,
        tokens: 0,
        samples: 0,
        complaint: String::new(),
    })
}

fn offering(who: Identity, round: u64, leaving: bool) -> Event {
    let contribution = Contribution {
        island: who.island.clone(),
        epoch: who.epoch,
        digest: theta(round, true),
        bytes: 1,
        tokens: 7,
        steps: 1,
        loss: 1.5,
    };
    Event::Offer(Offer { who, round, contribution, leaving })
}

/// A run and all that was ever accepted or recorded in it.
struct Run {
    state: State,
    now: Millis,
    record: Vec<Entry>,
    offered: BTreeSet<(u64, String, u64)>,
}

impl Run {
    fn new() -> Run {
        let state = State::new(config().validate().unwrap(), Millis(0));
        Run { state, now: Millis(0), record: Vec::new(), offered: BTreeSet::new() }
    }

    fn event(&self, call: &Call) -> Event {
        let view = self.state.view();
        let who = who(ISLANDS[call.island], call.epoch);
        let round = view.round.saturating_add_signed(call.lag);
        let theta_hash = theta(round, call.honest);
        match call.what {
            // The coordinator's store is whole: nobody can be ahead of it.
            What::Join => {
                let round = round.min(view.highest);
                joining(who, round, theta(round, call.honest))
            }
            What::Heartbeat => Event::Heartbeat(who),
            What::Ready => Event::Ready(Ready { who, round, theta_hash }),
            What::Offer { leaving } => offering(who, round, leaving && !call.honest),
            What::Fetched { all } => {
                let have = view.closed.iter().map(|c| c.island.clone());
                let have = have.take(if all { usize::MAX } else { 1 }).collect();
                Event::Fetched(Fetched { who, round, have, pieces: 0, rejected: [].into() })
            }
            What::Applied => {
                let round = round.saturating_sub(1);
                let theta_hash = theta(round + 1, call.honest);
                Event::Applied(Applied { who, round, theta_hash })
            }
            What::Kept => Event::Kept(Kept { who, round }),
            What::Leave => Event::Leave(Leave { who, reason: String::new() }),
            What::Act | What::Tick | What::Restart => Event::Tick,
        }
    }

    /// Makes a call and checks what has to hold for each single step.
    fn call(&mut self, event: Event) -> Result<Verdict, Refusal> {
        self.take(Event::Tick).unwrap();
        let before = self.state.clone();
        let reply = self.take(event.clone());
        if reply.is_err() {
            assert_eq!(
                self.state.saved(),
                before.saved(),
                "a refused call changes nothing: {reply:?}"
            );
        }
        reply
    }

    fn take(&mut self, event: Event) -> Result<Verdict, Refusal> {
        let before = self.state.view();
        let caller = match &event {
            Event::Join(join) => Some(join.who.island.clone()),
            Event::Applied(applied) => Some(applied.who.island.clone()),
            _ => None,
        };
        let offer = match &event {
            Event::Offer(offer) => Some((offer.round, offer.who.clone())),
            _ => None,
        };
        let Step { state, reply, entries, changed } = step(self.state.clone(), event, self.now);
        let after = state.view();
        if let (Some((round, who)), Ok(Verdict { yes: true, .. })) = (offer, &reply) {
            assert!(self.state.is_member(&who.island, who.epoch), "only members offer");
            self.offered.insert((round, who.island, who.epoch));
        }
        assert_eq!(changed, after.version > before.version);
        assert!(changed || (after == before && entries.is_empty()));
        state.check().unwrap();
        assert!(state.next_wakeup().is_none_or(|at| at > self.now));
        entries
            .iter()
            .for_each(|entry| self.check_entry(entry, &before, &state, caller.as_deref()));
        self.record.extend(entries);
        self.state = state;
        reply
    }

    /// `caller`: who made the call; what it says of itself is taken as true.
    fn check_entry(&self, entry: &Entry, before: &RunView, after: &State, caller: Option<&str>) {
        match &entry.deed {
            Deed::Commit { round, set } => {
                assert!(set.is_sorted_by(|a, b| a.island < b.island), "the order is fixed");
                for c in set {
                    let offered = (*round, c.island.clone(), c.epoch);
                    assert!(self.offered.contains(&offered), "{c:?} was never offered");
                }
            }
            // The coordinator's store is never lost here; but what most agreed on may be.
            Deed::Adopt { round, .. } => assert_eq!(*round, before.round),
            Deed::Rewind { from, .. } => {
                let able = |m: &MemberView| {
                    m.state != MemberState::Syncing && caller != Some(m.island.as_str())
                };
                let able: Vec<_> = before.members.iter().filter(|m| able(m)).collect();
                let alive = |m: &&MemberView| after.is_member(&m.island, m.epoch);
                let holds = |m: &MemberView| m.round == *from;
                assert!(!able.into_iter().filter(alive).any(holds), "θ was not lost");
            }
        }
    }

    /// A restart of the coordinator in between.
    fn restart(&mut self) {
        let text = serde_json::to_string(self.state.saved()).unwrap();
        let saved = serde_json::from_str(&text).unwrap();
        assert_eq!(&saved, self.state.saved());
        let config = self.state.config().clone();
        self.state = State::resume(config, saved, self.now).unwrap();
    }

    /// Commits follow each other without a gap or a repetition, but for what was taken back.
    fn check_record(&self) {
        verify("mini", &self.record).unwrap();
        let mut tokens = vec![0];
        for entry in &self.record {
            let round = tokens.len() as u64 - 1;
            match &entry.deed {
                Deed::Commit { round: committed, set } => {
                    assert_eq!(*committed, round);
                    let sum: u64 = set.iter().map(|contribution| contribution.tokens).sum();
                    tokens.push(tokens[tokens.len() - 1] + sum);
                }
                Deed::Adopt { round: taken, .. } => assert_eq!(*taken, round),
                Deed::Rewind { from, to, .. } => {
                    assert_eq!(*from, round);
                    assert!(to < from);
                    tokens.truncate(usize::try_from(*to).unwrap() + 1);
                }
            }
        }
        let view = self.state.view();
        assert_eq!(view.round, tokens.len() as u64 - 1, "no committed round is lost");
        assert_eq!(view.tokens, tokens[tokens.len() - 1]);
    }

    fn play(&mut self, calls: &[Call]) {
        let mut islands = ISLANDS.map(|island| Honest::new(island, 1));
        for call in calls {
            self.now = self.now.plus(call.wait_ms);
            if matches!(call.what, What::Act) {
                let island = &mut islands[call.island];
                island.epoch = self.state.newest_epoch(island.island).unwrap_or(1);
                // Others may have spoken in its name, so even this may be refused.
                let _ = island.act(self);
                continue;
            }
            let event = self.event(call);
            // Refusals are checked in `call`.
            let _ = self.call(event);
            if matches!(call.what, What::Restart) {
                self.restart();
            }
        }
    }
}

/// An island that does what the view asks of it.
struct Honest {
    island: &'static str,
    epoch: u64,
    round: u64,
    theta: Digest,
}

impl Honest {
    fn new(island: &'static str, epoch: u64) -> Honest {
        Honest { island, epoch, round: 0, theta: theta(0, true) }
    }

    fn who(&self) -> Identity {
        who(self.island, self.epoch)
    }

    fn act(&mut self, run: &mut Run) -> Result<(), Refusal> {
        let view = run.state.view();
        let Some(me) = view.member(self.island, self.epoch) else {
            run.call(joining(self.who(), self.round, self.theta))?;
            return Ok(());
        };
        run.call(Event::Heartbeat(self.who()))?;
        let next = view.commits.iter().find(|commit| commit.round == self.round);
        if me.state == MemberState::Syncing || (self.round < view.round && next.is_none()) {
            return self.sync(run, &view);
        }
        if next.is_some() {
            self.apply(run)?;
        } else if view.phase == Phase::Training && me.state == MemberState::Active && !me.offered {
            run.call(offering(self.who(), view.round, false))?;
        } else if view.phase == Phase::Fetching {
            let have = view.closed.iter().map(|c| c.island.clone()).collect();
            let round = view.round;
            run.call(Event::Fetched(Fetched {
                who: self.who(),
                round,
                have,
                pieces: 0,
                rejected: [].into(),
            }))?;
        }
        Ok(())
    }

    fn apply(&mut self, run: &mut Run) -> Result<(), Refusal> {
        let (round, theta_hash) = (self.round, theta(self.round + 1, true));
        let applied = Applied { who: self.who(), round, theta_hash };
        run.call(Event::Applied(applied))?;
        (self.round, self.theta) = (round + 1, theta_hash);
        Ok(())
    }

    /// Takes a snapshot, if somebody is there to take it from.
    fn sync(&mut self, run: &mut Run, view: &RunView) -> Result<(), Refusal> {
        let serves = |m: &&MemberView| m.state != MemberState::Syncing && m.round == view.round;
        let (Some(_), Some(theta_hash)) = (view.members.iter().find(serves), view.theta_hash)
        else {
            return Ok(());
        };
        (self.round, self.theta) = (view.round, theta_hash);
        let ready = Ready { who: self.who(), round: view.round, theta_hash };
        run.call(Event::Ready(ready))?;
        Ok(())
    }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn no_sequence_of_calls_breaks_a_run(calls in calls()) {
        let mut run = Run::new();
        run.play(&calls);
        run.check_record();
    }

    #[test]
    fn the_same_calls_at_the_same_times_give_the_same_run(calls in calls()) {
        let mut runs = [Run::new(), Run::new()];
        runs.iter_mut().for_each(|run| run.play(&calls));
        prop_assert_eq!(runs[0].state.saved(), runs[1].state.saved());
        prop_assert_eq!(&runs[0].record, &runs[1].record);
    }
}

proptest! {
    #![proptest_config(cases(25))]

    /// Whatever has happened, three islands that do as asked get rounds committed with all three; a
    /// fourth may be away with a newer checkpoint, and a person gives it up.
    #[test]
    fn honest_islands_always_get_on(calls in calls()) {
        let mut run = Run::new();
        run.play(&calls);
        let word = RunConfig { go_back: true, ..config() }.validate().unwrap();
        run.state = State::resume(word, run.state.saved().clone(), run.now).unwrap();
        let mut honest = ["a", "b", "c"].map(|island| Honest::new(island, NEWEST));
        let mut complete = 0;
        for _ in 0..120 {
            for island in &mut honest {
                island.act(&mut run).unwrap();
            }
            let newest = run.record.last().map(|entry| &entry.deed);
            if matches!(newest, Some(Deed::Commit { set, .. }) if set.len() == 3) {
                complete += 1;
            }
            run.now = run.now.plus(10);
        }
        run.check_record();
        prop_assert!(complete > 3, "stuck: {:?}", run.state.view());
    }
}
