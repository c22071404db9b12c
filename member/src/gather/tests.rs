//! What is fetched in the background, and how far it is said to be.

use rounds::types::RejectionCause;
use tokio::runtime::Runtime;
use tonic::codegen::Bytes;

use super::*;
use crate::store::root_digest;
use crate::testing::{
    Manner, PATIENCE, ROUND, Rank, contribution, digests, fetcher, frames_of, id, member, offered,
    theta, two_pieces,
};

/// What an island offers, and what its one rank serves.
fn made(island: &str) -> (Contribution, Vec<Bytes>) {
    let layout = two_pieces();
    let frames = frames_of(&layout, &id(&layout).for_island(island), 1.0);
    (offered(island, &frames), frames)
}

/// A rank without a train loop.
struct Loner {
    runtime: Runtime,
    fetcher: Arc<Fetcher>,
    span: Span,
}

impl Loner {
    fn new() -> Loner {
        let (runtime, fetcher) = (Runtime::new().expect("a runtime"), fetcher(&two_pieces()));
        Loner { runtime, fetcher, span: Span::none() }
    }

    fn means(&self) -> Means<'_> {
        Means { runtime: self.runtime.handle(), fetcher: &self.fetcher, span: &self.span }
    }

    fn serve(&self, island: &str, pieces: &[Bytes], manner: Manner) -> (Rank, MemberView) {
        let (rank, address) = self.runtime.block_on(Rank::serve(pieces, manner));
        (rank, member(island, &address))
    }

    fn start(&self, set: &[Contribution], members: &[MemberView]) -> Gather {
        Gather::start(self.means(), id(&two_pieces()), set, members)
    }

    /// Waits until the holding is as it should be.
    fn until(&self, gather: &Gather, set: &[Contribution], is: impl Fn(&Holding) -> bool) {
        let reached = async {
            while !is(&gather.holding(&self.fetcher.store, set)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = async { tokio::time::timeout(PATIENCE, reached).await };
        self.runtime.block_on(waited).expect("it gets there");
    }
}

#[test]
fn a_holding_tells_apart_what_is_whole_in_part_and_out_of_reach() {
    let loner = Loner::new();
    let ((whole, frames), (partly, more)) = (made("owner"), made("slow"));
    let garbage = vec![Bytes::from_static(b"no"), Bytes::from_static(b"frame")];
    let bad = offered("bad", &garbage);
    let served = [
        loner.serve("owner", &frames, Manner::Honest),
        loner.serve("slow", &more, Manner::HangsAfter(1)),
        loner.serve("bad", &garbage, Manner::Honest),
    ];
    let members = served.each_ref().map(|(_, member)| member.clone());
    let set = [whole, partly, bad];
    let gather = loner.start(&set, &members);
    loner.until(&gather, &set, |holding| {
        holding.pieces == 3 && holding.rejected.contains_key("bad")
    });
    let holding = gather.holding(&loner.fetcher.store, &set);
    assert_eq!(holding.have.iter().collect::<Vec<_>>(), ["owner"]);
    assert_eq!(holding.rejected["bad"].cause, RejectionCause::Invalid);
    let store = &loner.fetcher.store;
    let reach = |set: &[Contribution], stall| {
        gather.reach(store, set, (stall, Duration::from_secs(9)), false)
    };
    assert_eq!(reach(&set[..2], PATIENCE), Reach::Coming);
    assert_eq!(reach(&set[..2], Duration::ZERO), Reach::Silent);
    assert_eq!(reach(&set, PATIENCE), Reach::Invalid);
}

#[test]
fn what_is_being_gathered_covers_parts_of_its_set_and_no_other() {
    let loner = Loner::new();
    let set = [contribution("a"), contribution("b")];
    let gather = loner.start(&set, &[]);
    let renewed = Contribution { digest: Digest([7; 32]), ..contribution("b") };
    assert!(gather.covers(ROUND, &set) && gather.covers(ROUND, &set[1..]));
    assert!(gather.covers(ROUND, &[]), "nothing is needed");
    assert!(!gather.covers(ROUND + 1, &set), "another round");
    assert!(!gather.covers(ROUND, &[set[0].clone(), renewed]), "offered anew");
    assert!(!gather.covers(ROUND, &[contribution("c")]));
}

#[test]
fn members_that_come_later_are_asked_too() {
    let loner = Loner::new();
    let (offer, frames) = made("owner");
    let set = [offer];
    let gather = loner.start(&set, &[]);
    loner.until(&gather, &set, |holding| holding.rejected.contains_key("owner"));
    let (rank, member) = loner.serve("another", &frames, Manner::Honest);
    gather.tell(&[member]);
    loner.until(&gather, &set, |holding| holding.have.contains("owner"));
    assert_eq!(rank.given(), 2);
    let holding = gather.holding(&loner.fetcher.store, &set);
    assert!(holding.rejected.is_empty(), "{holding:?}");
}

#[test]
fn what_is_dropped_is_not_fetched_any_more_and_what_came_is_there_for_another() {
    let loner = Loner::new();
    let (offer, frames) = made("owner");
    let set = [offer];
    let (rank, member) = loner.serve("owner", &frames, Manner::HangsAfter(1));
    let gather = loner.start(&set, std::slice::from_ref(&member));
    loner.until(&gather, &set, |holding| holding.pieces == 1);
    drop(gather);
    rank.becomes(Manner::Honest);
    let gather = loner.start(&set, &[member]);
    loner.until(&gather, &set, |holding| holding.have.contains("owner"));
    assert_eq!(rank.given(), 2, "each piece came once");
}

#[test]
fn pieces_of_theta_are_kept_while_nobody_fetches() {
    let loner = Loner::new();
    let pieces = theta(&two_pieces());
    let hash = root_digest(&digests(&pieces));
    let (rank, member) = loner.serve("holder", &pieces, Manner::HangsAfter(1));
    let mut snapshot = Snapshot::new(ROUND, hash);
    assert!(snapshot.is_of(ROUND, hash));
    assert!(!snapshot.is_of(ROUND + 1, hash) && !snapshot.is_of(ROUND, Digest([0; 32])));
    let members = [member];
    while snapshot.values().is_empty() {
        assert!(!snapshot.fetch(loner.means(), &members, FETCH_EVERY), "half of it hangs");
    }
    snapshot.pause();
    rank.becomes(Manner::Honest);
    while !snapshot.fetch(loner.means(), &members, FETCH_EVERY) {}
    let layout = two_pieces();
    let expected: Vec<f32> = (0..layout.values()).map(|at| at as f32).collect();
    assert!(snapshot.values() == expected);
    assert_eq!(rank.given(), 2, "each piece came once");
}
