//! What is accepted, whose fault it is when it is not, and what failures say.

use tonic::Code;

use super::*;
use crate::testing::{
    ROUND, contribution, digests, fetcher, frames_of, id, member, offered, small_layout, theta,
};

fn answer(code: Code) -> FetchError {
    FetchError::peer("a:1", Status::new(code, "no"))
}

#[test]
fn a_failure_says_whether_the_line_is_to_blame_and_how_much_it_tells() {
    let silent = FetchError::Silent { address: "a:1".into(), wait: Duration::from_secs(5) };
    let offered = FetchError::Offered { island: "a".into(), reason: "no frame".into() };
    // Early, of the line, weight.
    let table = [
        (answer(Code::FailedPrecondition), true, false, 1),
        (answer(Code::NotFound), false, false, 1),
        (answer(Code::OutOfRange), false, false, 2),
        (answer(Code::Unavailable), false, true, 2),
        (answer(Code::Cancelled), false, true, 2),
        (silent, false, true, 3),
        (FetchError::content("a:1", "odd".into()), false, false, 4),
        (offered, false, false, 5),
        (FetchError::NoSource, false, false, 0),
    ];
    for (error, early, of_line, weight) in table {
        let found = (error.is_early(), error.is_of_the_line(), error.weight());
        assert_eq!(found, (early, of_line, weight), "{error:?}");
    }
}

#[test]
fn a_contribution_may_be_at_anyone_and_theta_at_who_holds_its_round() {
    let wanted = Wanted::Contribution { id: id(&small_layout()), offered: contribution("owner") };
    let theta =
        Wanted::Theta { round: ROUND, hash: Digest([1; 32]), parts: Arc::<Parts>::default() };
    let at = |island: &str, round, state| MemberView { round, state, ..member(island, "a:1") };
    let earlier = MemberView { epoch: 0, ..member("owner", "a:1") };
    // Whether the contribution, θ, may be there; whether the contribution is of it.
    let table = [
        (at("owner", ROUND, MemberState::Active), true, true, true),
        (at("owner", ROUND, MemberState::Syncing), true, false, true),
        (at("other", ROUND, MemberState::Ready), true, true, false),
        (at("other", ROUND - 1, MemberState::Active), true, false, false),
        (at("other", ROUND + 1, MemberState::Active), true, false, false),
        (earlier, true, true, false),
    ];
    for (member, contribution_there, theta_there, owns) in table {
        let there = (wanted.may_be_at(&member), theta.may_be_at(&member), wanted.is_of(&member));
        assert_eq!(there, (contribution_there, theta_there, owns), "{member:?}");
        assert!(!theta.is_of(&member), "θ is nobody's own");
    }
}

#[test]
fn a_piece_is_kept_only_when_it_is_what_was_offered_and_can_be_used() {
    let layout = small_layout();
    let good = frames_of(&layout, &id(&layout), 1.0);
    let foreign = frames_of(&layout, &id(&layout).for_island("another"), 1.0);
    let garbage = vec![Bytes::from_static(b"this is no frame")];
    let accept = |pieces: &[Bytes], piece: Piece| {
        let fetcher = fetcher(&layout);
        let wanted = Wanted::Contribution { id: id(&layout), offered: offered("owner", pieces) };
        let result = wanted.accept(&fetcher, &digests(pieces), ("a:1", piece));
        (result, wanted.missing(&fetcher).is_empty())
    };
    let piece = |data: &Bytes| Piece { index: 0, data: data.clone() };
    assert!(matches!(accept(&good, piece(&good[0])), (Ok(()), true)));
    let (lie, kept) = accept(&good, piece(&garbage[0]));
    assert!(matches!(lie, Err(FetchError::Content { .. })) && !kept, "the source's fault");
    let (beyond, kept) = accept(&good, Piece { index: 9, data: good[0].clone() });
    assert!(matches!(beyond, Err(FetchError::Content { .. })) && !kept, "no such piece");
    for bad in [&garbage, &foreign] {
        let (unusable, kept) = accept(bad, piece(&bad[0]));
        assert!(matches!(unusable, Err(FetchError::Offered { .. })) && !kept, "the island's fault");
    }
}

#[test]
fn theta_is_accepted_when_it_has_all_values_and_they_are_finite() {
    let layout = small_layout();
    let good = theta(&layout);
    let mut poisoned = good[0].to_vec();
    poisoned[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let short = good[0].slice(..good[0].len() - 4);
    let ragged = good[0].slice(..good[0].len() - 1);
    let table = [
        (good[0].clone(), true),
        (poisoned.into(), false),
        (short, false),
        (ragged, false),
        (Bytes::new(), false),
    ];
    for (data, expected) in table {
        let (fetcher, parts) = (fetcher(&layout), Arc::<Parts>::default());
        let pieces = [data.clone()];
        let hash = root_digest(&digests(&pieces));
        let wanted = Wanted::Theta { round: ROUND, hash, parts: Arc::clone(&parts) };
        let accepted =
            wanted.accept(&fetcher, &digests(&pieces), ("a:1", Piece { index: 0, data }));
        assert_eq!(accepted.is_ok(), expected, "{accepted:?}");
        assert_eq!(wanted.missing(&fetcher).is_empty(), expected);
        assert_eq!(parts.values().len(), if expected { layout.values() } else { 0 });
    }
}
