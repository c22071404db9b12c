//! Tests of the conversions.

mod laws;
mod spoiled;

use rounds::types::{
    Checkpoint, Commit, Digest, MemberState, MemberView, Phase, RunView, SampleRange,
};

use super::*;

fn identity() -> Identity {
    Identity { run: "mini".into(), island: "lab-a".into(), epoch: 3 }
}

fn rank(first_piece: u32, end_piece: u32) -> RankAddress {
    RankAddress { address: "10.0.0.1:4000".into(), first_piece, end_piece }
}

fn contribution() -> Contribution {
    Contribution {
        island: "lab-a".into(),
        epoch: 3,
        digest: Digest([7; 32]),
        bytes: 99,
        tokens: 1000,
        steps: 15,
        loss: 2.5,
    }
}

fn join() -> Join {
    Join {
        who: identity(),
        ranks: vec![rank(0, 4), rank(4, 9)],
        layout_hash: Digest([1; 32]),
        round: 5,
        theta_hash: Digest([2; 32]),
        tokens_per_second_milli: 12,
        inner_steps: 15,
        round_samples: 10,
        tokens: 0,
        samples: 0,
        complaint: "the checkpoint of round 6 is damaged".into(),
    }
}

fn offer() -> Offer {
    Offer { who: identity(), round: 5, contribution: contribution(), leaving: true }
}

fn view() -> RunView {
    RunView {
        version: 9,
        phase: Phase::Fetching,
        round: 5,
        theta_hash: None,
        tokens: 77,
        members: vec![MemberView {
            island: "lab-a".into(),
            epoch: 3,
            state: MemberState::Active,
            ranks: vec![rank(0, 9)],
            round: 5,
            offered: true,
            tokens: 70,
            samples: vec![SampleRange { first: 4, end: 9 }],
            rejected: 0,
            complaint: "the checkpoint of round 6 is damaged".into(),
        }],
        closed: vec![contribution()],
        commits: vec![Commit {
            round: 4,
            set: vec![],
            record_hash: Digest([4; 32]),
            tokens: 70,
            samples: 40,
        }],
        traceparent: "00-aa-bb-01".into(),
        reason: "all 1 islands offered".into(),
        checkpoint: Some(Checkpoint { round: 4, island: "lab-a".into() }),
        highest: 0,
        samples: 0,
        closing: false,
        grace_ms: 0,
    }
}

macro_rules! round_trip {
    ($domain:expr, $wire:ty) => {{
        let domain = $domain;
        assert_eq!(TryFrom::try_from(<$wire>::from(domain.clone())), Ok(domain));
    }};
}

#[test]
fn every_message_survives_the_way_to_the_wire_and_back() {
    let theta_hash = Digest([5; 32]);
    round_trip!(identity(), v1::HeartbeatRequest);
    round_trip!(identity(), v1::WatchRequest);
    round_trip!(join(), v1::JoinRequest);
    round_trip!(offer(), v1::OfferRequest);
    round_trip!(Ready { who: identity(), round: 2, theta_hash }, v1::ReadyRequest);
    let have = BTreeSet::from(["a".to_string(), "b".to_string()]);
    let rejection = Rejection { cause: RejectionCause::Unserved, detail: "gone".into() };
    let rejected = BTreeMap::from([("lab-b".to_string(), rejection)]);
    let fetched = Fetched { who: identity(), round: 2, have, pieces: 12, rejected };
    round_trip!(fetched, v1::FetchedRequest);
    let applied = Applied { who: identity(), round: 2, theta_hash };
    round_trip!(applied, v1::AppliedRequest);
    round_trip!(Kept { who: identity(), round: 2 }, v1::KeptRequest);
    round_trip!(Leave { who: identity(), reason: "told to".into() }, v1::LeaveRequest);
    let meet = Meet {
        who: identity(),
        rank: 1,
        world_size: 2,
        address: "host:1".into(),
        plan_hash: theta_hash,
    };
    round_trip!(meet, v1::MeetRequest);
    round_trip!(view(), v1::RunView);
}

#[test]
fn an_error_names_the_field_however_deep_it_is() {
    let mut wire = v1::JoinRequest::from(join());
    wire.ranks[1].address = "nowhere".into();
    let error = Join::try_from(wire).unwrap_err();
    assert_eq!(error.field, "ranks[1].address");
    assert_eq!(
        error.to_string(),
        "failed to read the field `ranks[1].address` of a message: \
         an address is host:port, not \"nowhere\""
    );
}

/// Every way to spoil a join, and the field that the error names.
#[test]
fn a_join_with_one_bad_field_is_refused() {
    type Spoil = fn(&mut v1::JoinRequest);
    let table: [(&str, Spoil); 9] = [
        ("who", |join| join.who = None),
        ("who.run", |join| join.who.as_mut().unwrap().run.clear()),
        ("who.island", |join| join.who.as_mut().unwrap().island = "a b".into()),
        ("who.island", |join| join.who.as_mut().unwrap().island = "x".repeat(254)),
        ("ranks", |join| join.ranks.clear()),
        ("ranks", |join| join.ranks = vec![rank(0, 1).into(); RANKS_MAX + 1]),
        ("ranks[0].end_piece", |join| join.ranks[0].first_piece = 5),
        ("layout_hash", |join| join.layout_hash.truncate(31)),
        ("theta_hash", |join| join.theta_hash.clear()),
    ];
    for (field, spoil) in table {
        let mut wire = v1::JoinRequest::from(join());
        spoil(&mut wire);
        assert_eq!(Join::try_from(wire).unwrap_err().field, field);
    }
}

#[test]
fn an_offer_with_one_bad_field_is_refused() {
    type Spoil = fn(&mut v1::Contribution);
    let table: [(&str, Spoil); 6] = [
        ("contribution.island", |c| c.island = "lab-b".into()),
        ("contribution.epoch", |c| c.epoch = 4),
        ("contribution.digest", |c| c.digest.push(0)),
        ("contribution.tokens", |c| c.tokens = 0),
        ("contribution.loss", |c| c.loss = f32::NAN),
        ("contribution.loss", |c| c.loss = f32::INFINITY),
    ];
    for (field, spoil) in table {
        let mut wire = v1::OfferRequest::from(offer());
        spoil(wire.contribution.as_mut().unwrap());
        assert_eq!(Offer::try_from(wire).unwrap_err().field, field);
    }
    let mut wire = v1::OfferRequest::from(offer());
    wire.contribution = None;
    assert_eq!(Offer::try_from(wire).unwrap_err().field, "contribution");
}

#[test]
fn a_view_with_an_unknown_phase_or_state_is_refused() {
    let mut wire = v1::RunView::from(view());
    wire.phase = 0;
    assert_eq!(RunView::try_from(wire).unwrap_err().problem, Problem::UnknownValue(0));
    let mut wire = v1::RunView::from(view());
    wire.members[0].state = 17;
    let error = RunView::try_from(wire).unwrap_err();
    assert_eq!(
        (error.field.as_str(), error.problem),
        ("members[0].state", Problem::UnknownValue(17))
    );
}

#[test]
fn addresses_are_host_and_port() {
    for good in ["a:1", "10.0.0.1:65535", "[::1]:80", "worker-0.lab.svc:4000"] {
        assert!(bounds::address("address", good.into()).is_ok(), "{good}");
    }
    for bad in ["", "a", ":1", "a:", "a:0", "a:65536", "a b:1", "a:1\n"] {
        assert!(bounds::address("address", bad.into()).is_err(), "{bad:?}");
    }
}

#[test]
fn a_rank_outside_the_world_is_refused() {
    for (rank, world_size, field) in [(2, 2, "rank"), (0, 0, "world_size"), (0, 9999, "world_size")]
    {
        let wire = v1::MeetRequest {
            who: Some(identity().into()),
            rank,
            world_size,
            address: "a:1".into(),
            plan_hash: vec![0; 32],
        };
        assert_eq!(Meet::try_from(wire).unwrap_err().field, field);
    }
}
