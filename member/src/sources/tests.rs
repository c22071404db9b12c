//! Sources that are slow, hang, lie or have nothing, over loopback.

use std::sync::Arc;

use proto::Keepalive;
use rounds::types::{Phase, RunView};
use sparseloco::layout::Layout;
use tokio::net::TcpListener;
use tonic::codegen::Bytes;

use super::*;
use crate::fetch::Parts;
use crate::server::{Traffic, serve};
use crate::store::{Store, root_digest};
use crate::testing::{
    Line, Manner, PATIENCE, ROUND, Rank, SILENCE, digests, fetcher, frames, id, layout, member,
    offered, params, theta,
};

fn contribution(layout: &Layout, pieces: &[Bytes]) -> Wanted {
    Wanted::Contribution { id: id(layout), offered: offered("owner", pieces) }
}

fn theta_of(pieces: &[Bytes]) -> (Wanted, Arc<Parts>) {
    let parts = Arc::<Parts>::default();
    let hash = root_digest(&digests(pieces));
    (Wanted::Theta { round: ROUND, hash, parts: Arc::clone(&parts) }, parts)
}

/// Fetches until the end; `None` when it is whole.
async fn fetch_all(
    fetcher: &Fetcher,
    wanted: &Wanted,
    members: Vec<MemberView>,
) -> Option<Rejection> {
    let (_sender, members) = watch::channel(members);
    let progress = Progress::new();
    timeout(PATIENCE, fetch(fetcher, wanted, members, &progress)).await.expect("it ends");
    assert_eq!(wanted.missing(fetcher).is_empty(), progress.rejection().is_none());
    progress.rejection()
}

/// Fetches until it is rejected, which need not be the end.
async fn until_rejected(fetcher: &Fetcher, wanted: &Wanted, members: Vec<MemberView>) -> Rejection {
    let (_sender, members) = watch::channel(members);
    let progress = Progress::new();
    let rejected = async {
        loop {
            match progress.rejection() {
                Some(rejection) => return rejection,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::select! {
        () = fetch(fetcher, wanted, members, &progress) => progress.rejection().expect("rejected"),
        rejection = timeout(PATIENCE, rejected) => rejection.expect("in time"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_hangs_is_left_and_what_it_gave_is_kept() {
    let layout = layout();
    let (fetcher, pieces) = (fetcher(&layout), frames(&layout));
    let (_owner, hangs) = Rank::serve(&pieces, Manner::HangsAfter(5)).await;
    let (other, helps) = Rank::serve(&pieces, Manner::Honest).await;
    let members = vec![member("owner", &hangs), member("other", &helps)];
    let wanted = contribution(&layout, &pieces);
    assert_eq!(fetch_all(&fetcher, &wanted, members).await, None);
    assert!(other.given() < layout.pieces(), "the hung one's pieces were asked for again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_may_take_any_time_for_as_long_as_pieces_come() {
    let layout = layout();
    let (fetcher, pieces) = (fetcher(&layout), frames(&layout));
    let (owner, address) = Rank::serve(&pieces, Manner::Slow(SILENCE / 4)).await;
    let wanted = contribution(&layout, &pieces);
    let started = Instant::now();
    assert_eq!(fetch_all(&fetcher, &wanted, vec![member("owner", &address)]).await, None);
    assert!(started.elapsed() >= SILENCE * 3, "it took longer than any one wait");
    assert_eq!(owner.given(), layout.pieces(), "each piece once");
}

#[tokio::test(flavor = "multi_thread")]
async fn patience_with_a_slow_line_grows_until_a_piece_comes_through() {
    let layout = layout();
    let (fetcher, pieces) = (fetcher(&layout), frames(&layout));
    let (_owner, address) = Rank::serve(&pieces[..], Manner::Slow(SILENCE * 3)).await;
    let wanted = contribution(&layout, &pieces);
    let (_sender, members) = watch::channel(vec![member("owner", &address)]);
    let progress = Progress::new();
    let some = async {
        while wanted.missing(&fetcher).len() == pieces.len() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = fetch(&fetcher, &wanted, members, &progress) => {}
        some = timeout(PATIENCE, some) => some.expect("a piece comes through"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_holders_give_different_pieces_at_the_same_time() {
    let layout = layout();
    let (fetcher, pieces) = (fetcher(&layout), theta(&layout));
    let mut ranks = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let (rank, address) = Rank::serve(&pieces, Manner::Slow(SILENCE / 8)).await;
        ranks.push((rank, member(name, &address)));
    }
    let (wanted, parts) = theta_of(&pieces);
    let members = ranks.iter().map(|(_, member)| member.clone()).collect();
    assert_eq!(fetch_all(&fetcher, &wanted, members).await, None);
    let expected: Vec<f32> = (0..layout.values()).map(|at| at as f32).collect();
    assert!(parts.values() == expected, "θ as it was served");
    for (rank, member) in &ranks {
        let given = rank.given();
        assert!((1..layout.pieces()).contains(&given), "{} gave {given}", member.island);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_blamed_on_whoever_is_to_blame() {
    let layout = layout();
    let pieces = frames(&layout);
    let garbage: Vec<Bytes> = (0..layout.pieces()).map(|at| vec![at as u8; 99].into()).collect();
    // How the owner serves what, how another does, and whose fault it is.
    let table = [
        (&pieces, Manner::FalseManifest, Manner::Honest, Some("manifest")),
        (&garbage, Manner::Honest, Manner::Honest, Some("failed to read a frame")),
        (&garbage, Manner::Empty, Manner::Honest, Some("failed to read a frame")),
        (&pieces, Manner::Honest, Manner::FalseManifest, None),
        (&pieces, Manner::HangsAfter(0), Manner::Honest, None),
        (&pieces, Manner::FalsePiece(9), Manner::Honest, None),
        (&pieces, Manner::HangsAfter(1), Manner::FalsePiece(15), None),
    ];
    for (pieces, owners, others, expected) in table {
        let fetcher = fetcher(&layout);
        let (_owner, owner) = Rank::serve(pieces, owners).await;
        let (_other, other) = Rank::serve(pieces, others).await;
        let members = vec![member("owner", &owner), member("other", &other)];
        let wanted = contribution(&layout, pieces);
        let rejection = fetch_all(&fetcher, &wanted, members).await;
        let cause = rejection.as_ref().map(|r| r.cause);
        assert_eq!(cause, expected.map(|_| RejectionCause::Invalid), "{owners:?}, {others:?}");
        let detail = rejection.map(|r| r.detail).unwrap_or_default();
        assert!(detail.contains(expected.unwrap_or_default()), "{owners:?}, {others:?}: {detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_serves_is_rejected_for_the_most_telling_reason() {
    use RejectionCause::{Invalid, Unserved};
    let layout = layout();
    let pieces = frames(&layout);
    let table = [
        (Some(Manner::HangsAfter(0)), Some(Manner::Empty), Unserved, "it gave nothing for"),
        (Some(Manner::Empty), Some(Manner::HangsAfter(0)), Unserved, "it gave nothing for"),
        (Some(Manner::Empty), Some(Manner::Empty), Unserved, "nothing is here"),
        (Some(Manner::Empty), Some(Manner::FalsePiece(0)), Unserved, "the digest of the manifest"),
        (Some(Manner::FalsePiece(0)), Some(Manner::Empty), Invalid, "the digest of the manifest"),
        (None, Some(Manner::Empty), Unserved, "nothing is here"),
        (None, None, Unserved, "find a member"),
    ];
    for (owners, others, cause, reason) in table {
        let fetcher = fetcher(&layout);
        let mut members = Vec::new();
        for (name, manner) in [("owner", owners), ("other", others)] {
            if let Some(manner) = manner {
                members.push(member(name, &Rank::serve(&pieces, manner).await.1));
            }
        }
        let wanted = contribution(&layout, &pieces);
        let rejection = until_rejected(&fetcher, &wanted, members).await;
        assert_eq!(rejection.cause, cause, "{owners:?}, {others:?}: {}", rejection.detail);
        assert!(rejection.detail.contains(reason), "{owners:?}, {others:?}: {}", rejection.detail);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_comes_late_takes_the_rejection_back() {
    let layout = layout();
    let (fetcher, pieces) = (fetcher(&layout), frames(&layout));
    let wanted = contribution(&layout, &pieces);
    let (sender, members) = watch::channel(Vec::new());
    let progress = Progress::new();
    let late = async {
        while progress.rejection().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (_rank, address) = Rank::serve(&pieces, Manner::Honest).await;
        sender.send_replace(vec![member("other", &address)]);
        std::future::pending::<()>().await;
    };
    let fetched = timeout(PATIENCE, fetch(&fetcher, &wanted, members, &progress));
    tokio::select! {
        fetched = fetched => fetched.expect("in time"),
        () = late => {}
    }
    assert_eq!(progress.rejection(), None);
    assert!(wanted.missing(&fetcher).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_piece_of_parameters_costs_its_source_and_not_the_rest() {
    let layout = layout();
    let (fetcher, pieces) = (fetcher(&layout), theta(&layout));
    let (_liar, lies) = Rank::serve(&pieces, Manner::FalsePiece(0)).await;
    let (_forger, forges) = Rank::serve(&pieces, Manner::FalseManifest).await;
    let (_honest, helps) = Rank::serve(&pieces, Manner::Slow(SILENCE / 8)).await;
    let members = vec![member("a", &lies), member("b", &forges), member("c", &helps)];
    let (wanted, parts) = theta_of(&pieces);
    assert_eq!(fetch_all(&fetcher, &wanted, members).await, None);
    let expected: Vec<f32> = (0..layout.values()).map(|at| at as f32).collect();
    assert!(parts.values() == expected, "θ is the run's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_goes_dead_is_dialled_anew_and_what_came_is_kept() {
    let layout = layout();
    let (fetcher, pieces) = (fetcher(&layout), frames(&layout));
    let (owner, address) = Rank::serve(&pieces, Manner::Slow(SILENCE / 8)).await;
    let line = Line::to(address).await;
    let wanted = contribution(&layout, &pieces);
    let cut = async {
        while wanted.missing(&fetcher).len() + 4 > pieces.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        line.cut();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        rejection = fetch_all(&fetcher, &wanted, vec![member("owner", &line.address)]) => {
            assert_eq!(rejection, None);
        }
        () = cut => {}
    }
    assert!(line.connections() >= 2);
    assert!(owner.given() < 2 * layout.pieces(), "the first pieces came once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contribution_is_had_as_soon_as_its_owner_sees_the_round_closed() {
    let layout = layout();
    let (fetcher, pieces) = (fetcher(&layout), frames(&layout));
    let store = Arc::new(Store::new("run".into(), 0..layout.pieces()));
    store.insert(ROUND, "owner", &digests(&pieces), (0..).zip(pieces.iter().cloned()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (shared, traffic) = (Arc::clone(&store), Arc::<Traffic>::default());
    let server = serve(listener, shared, Arc::clone(&layout), traffic, Keepalive::default());
    let server = server.expect("it listens");
    let wanted = contribution(&layout, &pieces);
    let members = vec![member("owner", &server.address.to_string())];
    let (_sender, receiver) = watch::channel(members.clone());
    let progress = Progress::new();
    let early = fetch(&fetcher, &wanted, receiver, &progress);
    assert!(timeout(SILENCE / 2, early).await.is_err(), "the round is open");
    assert_eq!(progress.rejection(), None, "to be early is no reason to reject");
    assert_eq!(wanted.missing(&fetcher).len(), pieces.len(), "nothing was served");
    store.publish(&closed(offered("owner", &pieces)));
    assert_eq!(fetch_all(&fetcher, &wanted, members).await, None);
    // The frames are whole and of this run.
    let piece = fetcher.store.piece(ROUND, "owner", 0).expect("here");
    let at = sparseloco::PieceAt { layout: &layout, params: &params(), piece: 0 };
    assert!(sparseloco::codec::verify_piece(at, &id(&layout), &piece).is_ok());
}

/// Fetches until so many pieces are missing, and then no more.
async fn fetch_until(fetcher: &Fetcher, wanted: &Wanted, members: Vec<MemberView>, left: usize) {
    let (_sender, members) = watch::channel(members);
    let progress = Progress::new();
    let reached = async {
        while wanted.missing(fetcher).len() > left {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = fetch(fetcher, wanted, members, &progress) => {}
        reached = timeout(PATIENCE, reached) => reached.expect("so many come"),
    }
    assert_eq!(wanted.missing(fetcher).len(), left);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_fetched_in_part_is_not_fetched_again_from_whomever_the_rest_is() {
    let layout = layout();
    let (fetcher, pieces) = (fetcher(&layout), frames(&layout));
    let wanted = contribution(&layout, &pieces);
    let (_owner, address) = Rank::serve(&pieces, Manner::HangsAfter(5)).await;
    fetch_until(&fetcher, &wanted, vec![member("owner", &address)], 11).await;
    let (other, address) = Rank::serve(&pieces, Manner::Honest).await;
    assert_eq!(fetch_all(&fetcher, &wanted, vec![member("other", &address)]).await, None);
    assert_eq!(other.given(), 11, "only the rest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_comes_back_is_asked_again_and_gives_the_rest() {
    let layout = layout();
    let (fetcher, pieces) = (fetcher(&layout), frames(&layout));
    let wanted = contribution(&layout, &pieces);
    for away in [Manner::Empty, Manner::HangsAfter(3)] {
        let (owner, address) = Rank::serve(&pieces, away).await;
        let (_sender, members) = watch::channel(vec![member("owner", &address)]);
        let progress = Progress::new();
        let comes_back = async {
            while progress.rejection().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            owner.becomes(Manner::Honest);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            fetched = timeout(PATIENCE, fetch(&fetcher, &wanted, members, &progress)) => {
                fetched.expect("in time");
            }
            () = comes_back => {}
        }
        assert_eq!(progress.rejection(), None, "{away:?}");
        assert!(wanted.missing(&fetcher).is_empty());
        // What hung gave some of it twice at most where a stream was cut.
        assert!(owner.given() >= layout.pieces() && owner.asked() >= 1, "{away:?}");
        fetcher.store.forget_from(ROUND);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_streams_end_early_gives_the_rest_in_further_ones() {
    let layout = layout();
    let (fetcher, pieces) = (fetcher(&layout), frames(&layout));
    let wanted = contribution(&layout, &pieces);
    let (owner, address) = Rank::serve(&pieces, Manner::EndsAfter(5)).await;
    assert_eq!(fetch_all(&fetcher, &wanted, vec![member("owner", &address)]).await, None);
    assert_eq!((owner.given(), owner.asked()), (layout.pieces(), 4), "5, 5, 5 and 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_serves_something_else_is_asked_once_and_the_others_give_it() {
    let layout = layout();
    let pieces = theta(&layout);
    for manner in [Manner::ShortManifest, Manner::FalseManifest, Manner::Skips] {
        let fetcher = fetcher(&layout);
        let (liar, lies) = Rank::serve(&pieces, manner).await;
        let (_honest, helps) = Rank::serve(&pieces, Manner::Slow(SILENCE / 16)).await;
        let (wanted, parts) = theta_of(&pieces);
        let members = vec![member("a", &lies), member("b", &helps)];
        assert_eq!(fetch_all(&fetcher, &wanted, members).await, None, "{manner:?}");
        assert!(liar.asked() <= 1, "{manner:?}: asked {} times", liar.asked());
        let expected: Vec<f32> = (0..layout.values()).map(|at| at as f32).collect();
        assert!(parts.values() == expected, "{manner:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_longer_than_any_piece_is_not_taken() {
    let layout = layout();
    let (fetcher, pieces) = (fetcher(&layout), frames(&layout));
    let wanted = contribution(&layout, &pieces);
    let (owner, address) = Rank::serve(&pieces, Manner::Huge).await;
    let rejection = until_rejected(&fetcher, &wanted, vec![member("owner", &address)]).await;
    assert_eq!(rejection.cause, RejectionCause::Unserved, "{}", rejection.detail);
    assert_eq!(wanted.missing(&fetcher).len(), pieces.len());
    owner.becomes(Manner::Honest);
    assert_eq!(fetch_all(&fetcher, &wanted, vec![member("owner", &address)]).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ranks_of_an_island_give_what_each_of_them_holds() {
    let layout = layout();
    let (fetcher, pieces) = (fetcher(&layout), frames(&layout));
    let wanted = contribution(&layout, &pieces);
    let (first, low) = Rank::serve(&pieces, Manner::Honest).await;
    let (second, high) = Rank::serve(&pieces, Manner::Honest).await;
    let rank = |address: &str, first_piece, end_piece| rounds::types::RankAddress {
        address: address.into(),
        first_piece,
        end_piece,
    };
    let ranks = vec![rank(&low, 0, 6), rank(&high, 6, 16)];
    let owner = MemberView { ranks, ..member("owner", &low) };
    assert_eq!(fetch_all(&fetcher, &wanted, vec![owner]).await, None);
    assert_eq!((first.given(), second.given()), (6, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_island_does_not_ask_itself() {
    let layout = layout();
    let (fetcher, pieces) = (fetcher(&layout), frames(&layout));
    let (own, address) = Rank::serve(&pieces, Manner::Honest).await;
    let wanted = contribution(&layout, &pieces);
    let rejection = until_rejected(&fetcher, &wanted, vec![member("me", &address)]).await;
    assert!(rejection.detail.contains("find a member"), "{}", rejection.detail);
    assert_eq!(own.asked(), 0);
}

fn closed(contribution: rounds::types::Contribution) -> RunView {
    let (phase, closed) = (Phase::Fetching, vec![contribution]);
    RunView { phase, round: ROUND, closed, ..RunView::default() }
}
