//! Laws over all messages: what can be said comes back as it was said, what cannot be is refused,
//! and nothing that a peer sends makes a reader panic.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9._-]{1,60}"
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn who() -> impl Strategy<Value = Identity> {
    (name(), name(), any::<u64>()).prop_map(|(run, island, epoch)| Identity { run, island, epoch })
}

fn address() -> impl Strategy<Value = String> {
    ("[a-z0-9.-]{1,40}", 1..=u16::MAX).prop_map(|(host, port)| format!("{host}:{port}"))
}

prop_compose! {
    fn ranks()(
        ranks in vec((address(), any::<u32>(), any::<u32>()), 1..5),
    ) -> Vec<RankAddress> {
        let rank = |(address, a, b): (String, u32, u32)| {
            RankAddress { address, first_piece: a.min(b), end_piece: a.max(b) }
        };
        ranks.into_iter().map(rank).collect()
    }
}

prop_compose! {
    fn contributions(island: impl Strategy<Value = String>)(
        island in island, epoch: u64, digest in digest(), bytes: u64, tokens in 1..=u64::MAX,
        steps: u32, loss in -1e9_f32..1e9,
    ) -> Contribution {
        Contribution { island, epoch, digest, bytes, tokens, steps, loss }
    }
}

prop_compose! {
    fn members()(
        island in name(), epoch: u64, state in 0..3_usize, ranks in ranks(),
        numbers: (u64, u64, u32), offered: bool,
        samples in vec(any::<(u64, u64)>(), 0..4), complaint in ".{0,100}",
    ) -> MemberView {
        let states = [MemberState::Syncing, MemberState::Ready, MemberState::Active];
        let (round, tokens, rejected) = numbers;
        let range = |(a, b): (u64, u64)| SampleRange { first: a.min(b), end: a.max(b) };
        let samples = samples.into_iter().map(range).collect();
        let state = states[state];
        MemberView {
            island, epoch, state, ranks, round, offered, tokens, samples, rejected, complaint,
        }
    }
}

prop_compose! {
    fn commits()(
        round: u64, set in vec(contributions(name()), 0..3), record_hash in digest(),
        tokens: u64, samples: u64,
    ) -> Commit {
        Commit { round, set, record_hash, tokens, samples }
    }
}

prop_compose! {
    fn views()(
        numbers: (u64, u64, u64, u64, u64, u64), phase in 0..4_usize, closing: bool,
        theta_hash in proptest::option::of(digest()), members in vec(members(), 0..3),
        closed in vec(contributions(name()), 0..3), commits in vec(commits(), 0..3),
        texts in (".{0,60}", ".{0,60}"), checkpoint in proptest::option::of((any::<u64>(), name())),
    ) -> RunView {
        let phases = [Phase::Waiting, Phase::Training, Phase::Fetching, Phase::Done];
        let (version, round, tokens, highest, samples, grace_ms) = numbers;
        let (traceparent, reason) = texts;
        let checkpoint = checkpoint.map(|(round, island)| Checkpoint { round, island });
        let phase = phases[phase];
        RunView {
            version, phase, round, theta_hash, tokens, members, closed, commits, traceparent,
            reason, checkpoint, highest, samples, closing, grace_ms,
        }
    }
}

/// Over the wire, in bytes, and back.
fn over<W, D>(domain: D) -> Result<D, ProtoError>
where
    W: From<D> + prost::Message + Default,
    D: TryFrom<W, Error = ProtoError>,
{
    let bytes = W::from(domain).encode_to_vec();
    D::try_from(W::decode(&bytes[..]).expect("what was encoded"))
}

proptest! {
    #[test]
    fn a_view_comes_back_as_it_was(view in views()) {
        prop_assert_eq!(over::<v1::RunView, _>(view.clone()), Ok(view));
    }

    #[test]
    fn a_join_and_an_offer_come_back_as_they_were(
        who in who(), ranks in ranks(), hashes in (digest(), digest()),
        numbers: (u64, u64, u64, u64, u64), inner_steps: u32, complaint in ".{0,100}",
        leaving: bool, contribution in contributions(Just(String::new())),
    ) {
        let (round, tokens_per_second_milli, round_samples, tokens, samples) = numbers;
        let (layout_hash, theta_hash) = hashes;
        let join = Join {
            who: who.clone(), ranks, layout_hash, round, theta_hash, tokens_per_second_milli,
            inner_steps, round_samples, tokens, samples, complaint,
        };
        prop_assert_eq!(over::<v1::JoinRequest, _>(join.clone()), Ok(join));
        let (island, epoch) = (who.island.clone(), who.epoch);
        let contribution = Contribution { island, epoch, ..contribution };
        let offer = Offer { who, round, contribution, leaving };
        prop_assert_eq!(over::<v1::OfferRequest, _>(offer.clone()), Ok(offer));
    }

    #[test]
    fn the_reasons_of_a_member_are_cut_so_that_its_word_is_never_refused(text in ".{0,700}") {
        let join = Join { complaint: text.clone(), ..join() };
        let taken = over::<v1::JoinRequest, _>(join).expect("it is cut").complaint;
        prop_assert!(text.starts_with(&taken));
        // Cut where a character of up to four bytes does not fit any more, and no earlier.
        prop_assert!(taken == text || taken.len() > DETAIL_BYTES_MAX - 4);
        let rejection = Rejection { cause: RejectionCause::Invalid, detail: text };
        let rejected = BTreeMap::from([("lab-b".to_string(), rejection)]);
        let have = BTreeSet::new();
        let fetched = Fetched { who: identity(), round: 2, have, pieces: 0, rejected };
        let fetched = over::<v1::FetchedRequest, _>(fetched).expect("it is cut");
        prop_assert_eq!(&fetched.rejected["lab-b"].detail, &taken);
    }

    #[test]
    fn bytes_that_were_changed_are_refused_or_read_and_no_more(
        view in views(), at in any::<prop::sample::Index>(), put: u8, cut: bool,
    ) {
        let mut bytes = v1::RunView::from(view).encode_to_vec();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = put;
        }
        let Ok(wire) = v1::RunView::decode(&bytes[..]) else { return Ok(()) };
        if let Ok(view) = RunView::try_from(wire) {
            let ranges = view.members.iter().flat_map(|member| &member.samples);
            prop_assert!(ranges.into_iter().all(|range| range.first <= range.end));
            prop_assert!(view.closed.iter().all(|it| it.loss.is_finite() && it.tokens > 0));
        }
    }

    #[test]
    fn names_are_what_a_folder_of_that_name_may_be(text in "[a-zA-Z0-9._/ \u{e9}-]{0,8}") {
        let letters = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let right = !text.is_empty() && text.chars().all(letters);
        prop_assert_eq!(bounds::name("run", text.clone()).is_ok(), right, "{}", text);
    }
}

#[test]
fn an_enum_of_the_domain_has_a_value_of_its_own_on_the_wire() {
    let phases = [Phase::Waiting, Phase::Training, Phase::Fetching, Phase::Done];
    let numbers: BTreeSet<i32> = phases.map(|phase| v1::Phase::from(phase).into()).into();
    assert_eq!(numbers, BTreeSet::from([1, 2, 3, 4]));
    let states = [MemberState::Syncing, MemberState::Ready, MemberState::Active];
    let numbers: BTreeSet<i32> = states.map(|state| v1::MemberState::from(state).into()).into();
    assert_eq!(numbers, BTreeSet::from([1, 2, 3]));
}

#[test]
fn an_island_that_names_another_twice_counts_it_once() {
    let rejection = |cause: v1::RejectionCause, detail: &str| v1::Rejection {
        island: "lab-b".into(),
        cause: cause.into(),
        detail: detail.into(),
    };
    let wire = v1::FetchedRequest {
        who: Some(identity().into()),
        round: 2,
        have: vec!["lab-a".into(), "lab-a".into()],
        pieces: 0,
        rejected: vec![
            rejection(v1::RejectionCause::Invalid, "first"),
            rejection(v1::RejectionCause::Unserved, "second"),
        ],
    };
    let fetched = Fetched::try_from(wire).expect("a word of one island");
    assert_eq!(fetched.have, BTreeSet::from(["lab-a".to_string()]));
    assert_eq!(fetched.rejected.len(), 1);
}
