//! Sources that are slow, hang, lie or have nothing, over loopback.

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
    Line, Manner, ROUND, Rank, SILENCE, digests, fetcher, frames, id, layout, member, offered,
    params, theta,
};

/// No test waits longer.
const PATIENCE: Duration = Duration::from_secs(60);

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

#[test]
fn missing_pieces_are_asked_for_in_runs() {
    assert_eq!(runs(&[1, 2, 3, 7, 9, 10]), vec![1..4, 7..8, 9..11]);
    assert!(runs(&[]).is_empty());
}

#[test]
fn a_rank_is_asked_only_for_what_it_holds() {
    let rank = RankAddress { address: "a:1".into(), first_piece: 4, end_piece: 8 };
    assert_eq!(overlap(&rank, &(0..6)), Some(4..6));
    assert_eq!(overlap(&rank, &(8..9)), None);
}

#[test]
fn the_end_of_what_one_source_gives_goes_to_another() {
    let claim = Claim::of(4..10);
    claim.next.store(5, Relaxed);
    assert_eq!(claim.split(), 8..10);
    assert_eq!(claim.left(), 5..8);
    assert_eq!(claim.split(), 7..8);
    assert_eq!(claim.split(), 6..7);
    assert_eq!(claim.left(), 5..6, "the piece that is on its way stays");
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

fn closed(contribution: rounds::types::Contribution) -> RunView {
    let (phase, closed) = (Phase::Fetching, vec![contribution]);
    RunView { phase, round: ROUND, closed, ..RunView::default() }
}
