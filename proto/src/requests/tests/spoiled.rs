//! Each message with each of its fields missing or beyond its bound is refused by a sentence that
//! names the field, and what lies just within the bounds is taken.

use std::fmt::Debug;

use prost::Message as _;

use super::*;
use crate::bounds::{ADDRESS_BYTES_MAX, COMMITS_MAX, MEMBERS_MAX, NAME_BYTES_MAX, RANGES_MAX};

/// A field, and how it is spoilt.
type Spoilt<W> = (&'static str, fn(&mut W));

/// That a message is taken as it is, and refused for each field that is spoilt.
fn refused<W, D>(wire: &W, table: &[Spoilt<W>])
where
    W: Clone,
    D: TryFrom<W, Error = ProtoError> + Debug,
{
    D::try_from(wire.clone()).expect("what is spoilt is right before");
    for (at, (field, spoil)) in table.iter().enumerate() {
        let mut spoilt = wire.clone();
        spoil(&mut spoilt);
        let error = D::try_from(spoilt).expect_err(field);
        let sentence = format!("failed to read the field `{field}` of a message: ");
        assert!(error.to_string().starts_with(&sentence), "{at}: {field}: {error}");
        assert!(error.to_string().len() > sentence.len(), "{field}: it says what is wrong");
    }
}

fn theta() -> Vec<u8> {
    vec![5; 32]
}

fn sent<W: From<D>, D>(domain: D) -> W {
    W::from(domain)
}

fn who_of(who: &mut Option<v1::Identity>) -> &mut v1::Identity {
    who.as_mut().expect("a right message says who")
}

#[test]
fn calls_that_only_say_who_speaks_are_refused_without_a_name_of_each() {
    let table: [Spoilt<v1::HeartbeatRequest>; 8] = [
        ("who", |call| call.who = None),
        ("who.run", |call| who_of(&mut call.who).run.clear()),
        ("who.run", |call| who_of(&mut call.who).run = "a/b".into()),
        ("who.run", |call| who_of(&mut call.who).run = "x".repeat(NAME_BYTES_MAX + 1)),
        ("who.island", |call| who_of(&mut call.who).island.clear()),
        ("who.island", |call| who_of(&mut call.who).island = "lab\na".into()),
        ("who.island", |call| who_of(&mut call.who).island = "läb".into()),
        ("who.island", |call| who_of(&mut call.who).island = "../lab".into()),
    ];
    refused::<_, Identity>(&sent::<v1::HeartbeatRequest, _>(identity()), &table);
    let watch: [Spoilt<v1::WatchRequest>; 3] = [
        ("who", |call| call.who = None),
        ("who.run", |call| who_of(&mut call.who).run.clear()),
        ("who.island", |call| who_of(&mut call.who).island.clear()),
    ];
    refused::<_, Identity>(&sent::<v1::WatchRequest, _>(identity()), &watch);
}

#[test]
fn a_rank_that_meets_is_refused_with_any_field_wrong() {
    let wire = v1::MeetRequest {
        who: Some(identity().into()),
        rank: 1,
        world_size: 2,
        address: "worker-1:4000".into(),
        plan_hash: theta(),
    };
    let table: [Spoilt<v1::MeetRequest>; 11] = [
        ("who", |meet| meet.who = None),
        ("who.island", |meet| who_of(&mut meet.who).island.clear()),
        ("rank", |meet| meet.rank = 2),
        ("rank", |meet| meet.rank = u32::MAX),
        ("world_size", |meet| meet.world_size = 0),
        ("world_size", |meet| meet.world_size = 4097),
        ("address", |meet| meet.address.clear()),
        ("address", |meet| meet.address = "worker-1".into()),
        ("address", |meet| meet.address = format!("{}:4000", "x".repeat(ADDRESS_BYTES_MAX))),
        ("plan_hash", |meet| meet.plan_hash.clear()),
        ("plan_hash", |meet| meet.plan_hash = vec![0; 64]),
    ];
    refused::<_, Meet>(&wire, &table);
    let largest = v1::MeetRequest { rank: 4095, world_size: 4096, ..wire };
    assert_eq!(Meet::try_from(largest).map(|meet| meet.rank), Ok(4095));
}

#[test]
fn the_rest_of_a_join_is_checked_as_well() {
    let table: [Spoilt<v1::JoinRequest>; 7] = [
        ("complaint", |join| join.complaint = "x".repeat(DETAIL_BYTES_MAX + 1)),
        ("ranks[1].address", |join| join.ranks[1].address = ":4000".into()),
        ("ranks[1].end_piece", |join| join.ranks[1].end_piece = 3),
        ("layout_hash", |join| join.layout_hash.clear()),
        ("layout_hash", |join| join.layout_hash.push(1)),
        ("theta_hash", |join| join.theta_hash.truncate(16)),
        ("who.run", |join| who_of(&mut join.who).run = " ".into()),
    ];
    refused::<_, Join>(&sent::<v1::JoinRequest, _>(join()), &table);
    // A rank may hold nothing, and a message says as much as it may.
    let mut wire = sent::<v1::JoinRequest, _>(join());
    wire.ranks[1] = rank(9, 9).into();
    wire.complaint = "x".repeat(DETAIL_BYTES_MAX);
    wire.ranks.resize(RANKS_MAX, rank(9, 9).into());
    assert_eq!(Join::try_from(wire).map(|join| join.ranks.len()), Ok(RANKS_MAX));
}

#[test]
fn calls_about_a_round_are_refused_without_who_or_with_another_hash() {
    let ready = v1::ReadyRequest { who: Some(identity().into()), round: 2, theta_hash: theta() };
    let of_ready: [Spoilt<v1::ReadyRequest>; 4] = [
        ("who", |call| call.who = None),
        ("who.run", |call| who_of(&mut call.who).run.clear()),
        ("theta_hash", |call| call.theta_hash.clear()),
        ("theta_hash", |call| call.theta_hash.push(0)),
    ];
    refused::<_, Ready>(&ready, &of_ready);
    let applied =
        v1::AppliedRequest { who: Some(identity().into()), round: 2, theta_hash: theta() };
    let of_applied: [Spoilt<v1::AppliedRequest>; 4] = [
        ("who", |call| call.who = None),
        ("who.island", |call| who_of(&mut call.who).island.clear()),
        ("theta_hash", |call| call.theta_hash.clear()),
        ("theta_hash", |call| call.theta_hash.truncate(31)),
    ];
    refused::<_, Applied>(&applied, &of_applied);
    let kept = v1::KeptRequest { who: Some(identity().into()), round: 2 };
    let of_kept: [Spoilt<v1::KeptRequest>; 2] = [
        ("who", |call| call.who = None),
        ("who.island", |call| who_of(&mut call.who).island.clear()),
    ];
    refused::<_, Kept>(&kept, &of_kept);
    let reason = "x".repeat(REASON_BYTES_MAX);
    let leave = v1::LeaveRequest { who: Some(identity().into()), reason };
    let of_leave: [Spoilt<v1::LeaveRequest>; 2] =
        [("who", |call| call.who = None), ("reason", |call| call.reason.push('x'))];
    refused::<_, Leave>(&leave, &of_leave);
}

fn fetched() -> v1::FetchedRequest {
    let rejection = |island: &str, cause: v1::RejectionCause| v1::Rejection {
        island: island.into(),
        cause: cause.into(),
        detail: "x".repeat(DETAIL_BYTES_MAX),
    };
    v1::FetchedRequest {
        who: Some(identity().into()),
        round: 7,
        have: vec!["lab-a".into(), "lab-b".into()],
        pieces: 12,
        rejected: vec![
            rejection("lab-c", v1::RejectionCause::Invalid),
            rejection("lab-d", v1::RejectionCause::Unserved),
        ],
    }
}

#[test]
fn a_word_of_what_was_fetched_is_refused_with_any_entry_wrong() {
    let table: [Spoilt<v1::FetchedRequest>; 12] = [
        ("who", |call| call.who = None),
        ("have", |call| call.have = vec!["a".into(); CONTRIBUTIONS_MAX + 1]),
        ("have", |call| call.have[1].clear()),
        ("have", |call| call.have[0] = "a b".into()),
        ("rejected", |call| {
            call.rejected = vec![call.rejected[0].clone(); CONTRIBUTIONS_MAX + 1];
        }),
        ("rejected.island", |call| call.rejected[1].island.clear()),
        ("rejected.island", |call| call.rejected[1].island = "x".repeat(254)),
        ("rejected.detail", |call| call.rejected[0].detail.push('x')),
        ("rejected.cause", |call| call.rejected[0].cause = 0),
        ("rejected.cause", |call| call.rejected[0].cause = 3),
        ("rejected.cause", |call| call.rejected[1].cause = -1),
        ("rejected.cause", |call| call.rejected[1].cause = i32::MAX),
    ];
    refused::<_, Fetched>(&fetched(), &table);
    // As much as may be said at all fits into a message.
    let mut wire = fetched();
    let name = |at: usize| format!("{at:0NAME_BYTES_MAX$}");
    wire.have = (0..CONTRIBUTIONS_MAX).map(name).collect();
    let rejected = wire.rejected[0].clone();
    let of = |at| v1::Rejection { island: name(at), ..rejected.clone() };
    wire.rejected = (0..CONTRIBUTIONS_MAX).map(of).collect();
    assert!(wire.encoded_len() <= bounds::MESSAGE_BYTES_MAX, "{}", wire.encoded_len());
    let taken = Fetched::try_from(wire).expect("within all bounds");
    assert_eq!((taken.have.len(), taken.rejected.len()), (CONTRIBUTIONS_MAX, CONTRIBUTIONS_MAX));
}

#[test]
fn an_offer_says_who_makes_it() {
    let table: [Spoilt<v1::OfferRequest>; 6] = [
        ("who", |offer| offer.who = None),
        ("who.island", |offer| who_of(&mut offer.who).island.clear()),
        ("contribution.island", |offer| who_of(&mut offer.who).island = "lab-b".into()),
        ("contribution.epoch", |offer| who_of(&mut offer.who).epoch = 9),
        ("contribution.digest", |offer| {
            offer.contribution.get_or_insert_default().digest.clear();
        }),
        ("contribution.loss", |offer| {
            offer.contribution.get_or_insert_default().loss = f32::NEG_INFINITY;
        }),
    ];
    refused::<_, Offer>(&sent::<v1::OfferRequest, _>(offer()), &table);
    // A loss may be what it is, so long as it is a number; one token is some weight.
    for loss in [0.0, -0.0, -3.5, f32::MAX, f32::MIN_POSITIVE] {
        let mut wire = sent::<v1::OfferRequest, _>(offer());
        let contribution = wire.contribution.get_or_insert_default();
        (contribution.loss, contribution.tokens) = (loss, 1);
        let taken = Offer::try_from(wire).expect("a number");
        assert_eq!(taken.contribution.loss.to_bits(), loss.to_bits());
    }
}

#[test]
fn a_view_is_refused_with_any_field_wrong_however_deep_it_is() {
    let table: [Spoilt<v1::RunView>; 26] = [
        ("phase", |view| view.phase = 0),
        ("phase", |view| view.phase = 5),
        ("phase", |view| view.phase = -1),
        ("theta_hash", |view| view.theta_hash = vec![0; 31]),
        ("members", |view| view.members = vec![view.members[0].clone(); MEMBERS_MAX + 1]),
        ("members[0].island", |view| view.members[0].island.clear()),
        ("members[0].state", |view| view.members[0].state = 0),
        ("members[0].state", |view| view.members[0].state = 4),
        ("members[0].ranks", |view| {
            view.members[0].ranks = vec![rank(0, 1).into(); RANKS_MAX + 1];
        }),
        ("members[0].ranks[0].address", |view| view.members[0].ranks[0].address.clear()),
        ("members[0].ranks[0].end_piece", |view| view.members[0].ranks[0].first_piece = 10),
        ("members[0].samples", |view| {
            view.members[0].samples = vec![v1::SampleRange::default(); RANGES_MAX + 1];
        }),
        ("members[0].samples[0].end", |view| view.members[0].samples[0].end = 3),
        ("members[0].complaint", |view| view.members[0].complaint = "x".repeat(513)),
        ("closed", |view| view.closed = vec![contribution().into(); CONTRIBUTIONS_MAX + 1]),
        ("closed[0].island", |view| view.closed[0].island = "?".into()),
        ("closed[0].digest", |view| view.closed[0].digest.clear()),
        ("closed[0].tokens", |view| view.closed[0].tokens = 0),
        ("closed[0].loss", |view| view.closed[0].loss = f32::NAN),
        ("commits", |view| view.commits = vec![view.commits[0].clone(); COMMITS_MAX + 1]),
        ("commits[0].record_hash", |view| view.commits[0].record_hash.clear()),
        ("commits[0].set[0].tokens", |view| {
            view.commits[0].set = vec![contribution().into()];
            view.commits[0].set[0].tokens = 0;
        }),
        ("traceparent", |view| view.traceparent = "x".repeat(REASON_BYTES_MAX + 1)),
        ("reason", |view| view.reason = "x".repeat(REASON_BYTES_MAX + 1)),
        ("checkpoint.island", |view| view.checkpoint = Some(v1::Checkpoint::default())),
        ("checkpoint.island", |view| {
            view.checkpoint = Some(v1::Checkpoint { round: 1, island: "a b".into() });
        }),
    ];
    refused::<_, RunView>(&sent::<v1::RunView, _>(view()), &table);
}

#[test]
fn what_lies_at_the_bounds_of_a_view_is_taken() {
    let mut wire = sent::<v1::RunView, _>(view());
    wire.reason = "x".repeat(REASON_BYTES_MAX);
    wire.traceparent = "x".repeat(REASON_BYTES_MAX);
    wire.commits = vec![wire.commits[0].clone(); COMMITS_MAX];
    wire.closed = vec![contribution().into(); CONTRIBUTIONS_MAX];
    wire.members[0].samples = vec![v1::SampleRange { first: 7, end: 7 }; RANGES_MAX];
    wire.members = vec![wire.members[0].clone(); MEMBERS_MAX];
    assert!(wire.encoded_len() <= bounds::MESSAGE_BYTES_MAX, "{}", wire.encoded_len());
    let taken = RunView::try_from(wire).expect("within all bounds");
    assert_eq!(taken.theta_hash, None, "no bytes are no hash");
    assert_eq!((taken.members.len(), taken.closed.len()), (MEMBERS_MAX, CONTRIBUTIONS_MAX));
    let mut empty = sent::<v1::RunView, _>(view());
    empty.members.clear();
    empty.closed.clear();
    empty.commits.clear();
    empty.checkpoint = None;
    empty.theta_hash = theta();
    let taken = RunView::try_from(empty).expect("a run that nobody has joined");
    assert_eq!((taken.checkpoint, taken.theta_hash), (None, Some(Digest([5; 32]))));
}
