//! What is kept, and who gets it when.

use rounds::types::Commit;

use super::*;

fn digests(of: [&[u8]; 2]) -> Arc<[Digest]> {
    of.map(piece_digest).into()
}

fn piece(index: u32) -> (u32, Bytes) {
    (index, Bytes::from_static(b"x"))
}

fn contribution(island: &str, digest: Digest) -> Contribution {
    Contribution {
        island: island.into(),
        epoch: 1,
        digest,
        bytes: 2,
        tokens: 1,
        steps: 1,
        loss: 1.0,
    }
}

fn view(phase: Phase, round: u64) -> RunView {
    RunView { phase, round, ..RunView::default() }
}

#[test]
fn contributions_older_than_the_kept_rounds_are_dropped() {
    let store = Store::new("run".into(), 0..2);
    let digests = digests([b"x", b"y"]);
    for round in 0..4 {
        store.insert(round, "a", &digests, [piece(0)]);
    }
    assert!(store.piece(1, "a", 0).is_none());
    assert!(store.piece(2, "a", 0).is_some());
    assert!(store.piece(3, "a", 0).is_some());
}

#[test]
fn pieces_of_another_digest_do_not_count_as_held() {
    let store = Store::new("run".into(), 0..2);
    let first = digests([b"x", b"y"]);
    let offered = root_digest(&first);
    assert_eq!(store.missing(0, "a", offered), vec![0, 1]);
    store.insert(0, "a", &first, [piece(0)]);
    assert_eq!(store.missing(0, "a", offered), vec![1]);
    assert_eq!(store.missing(0, "a", piece_digest(b"other")), vec![0, 1]);
    let renewed = digests([b"z", b"y"]);
    store.insert(0, "a", &renewed, []);
    assert_eq!(store.missing(0, "a", root_digest(&renewed)), vec![0, 1]);
}

#[test]
fn a_contribution_is_served_only_once_its_round_is_closed_with_it() {
    let store = Store::new("run".into(), 0..2);
    let mine = digests([b"x", b"y"]);
    let offered = contribution("a", root_digest(&mine));
    store.insert(3, "a", &mine, [piece(0)]);
    let served = || (store.public_digests(3, "a").err(), store.public_piece(3, "a", 0).err());
    let not_yet = (Some(NotServed::NotYet), Some(NotServed::NotYet));
    let closed_with =
        |set: &[Contribution]| RunView { closed: set.to_vec(), ..view(Phase::Fetching, 3) };
    let commit = Commit {
        round: 3,
        set: vec![offered.clone()],
        record_hash: Digest([0; 32]),
        tokens: 0,
        samples: 0,
    };
    let dropped = Commit { set: vec![], ..commit.clone() };
    let after =
        |commit: &Commit| RunView { commits: vec![commit.clone()], ..view(Phase::Training, 4) };
    let other = contribution("b", root_digest(&mine));
    let another = contribution("a", piece_digest(b"another"));
    let table = [
        (view(Phase::Training, 3), not_yet, "open"),
        (view(Phase::Fetching, 3), not_yet, "closed without it"),
        (closed_with(&[other]), not_yet, "closed with another's"),
        (closed_with(&[another]), not_yet, "closed with another offer of the island"),
        (closed_with(std::slice::from_ref(&offered)), (None, None), "closed with it"),
        (RunView { phase: Phase::Training, ..closed_with(&[offered]) }, not_yet, "open again"),
        (after(&commit), (None, None), "committed"),
        (after(&dropped), not_yet, "committed without it"),
    ];
    assert_eq!(served(), not_yet, "no view was ever seen");
    for (view, expected, why) in table {
        store.publish(&view);
        assert_eq!(served(), expected, "{why}");
    }
    store.publish(&after(&commit));
    assert_eq!(store.public_piece(3, "a", 1), Err(NotServed::NotHere), "never had");
    assert_eq!(store.public_digests(3, "b"), Err(NotServed::NotHere), "never had");
}

#[test]
fn digests_of_parameters_are_those_of_the_round_that_is_held() {
    let store = Store::new("run".into(), 0..2);
    let all = digests([b"x", b"y"]);
    store.set_anchor(Some(3), vec![0.0]);
    assert!(store.theta_digests(3).is_none(), "not known yet");
    store.set_theta_digests(3, all.to_vec());
    assert_eq!(store.theta_digests(3), Some(all));
    assert!(store.theta_digests(4).is_none());
    store.with_anchor_mut(|anchor| anchor.round = None);
    assert!(store.theta_digests(3).is_none(), "a commit is being applied");
    store.with_anchor_mut(|anchor| anchor.round = Some(4));
    assert!(store.theta_digests(4).is_none(), "those of round 3 are not of round 4");
}

#[test]
fn what_is_fetched_late_of_an_older_round_does_not_push_out_a_newer_one() {
    let store = Store::new("run".into(), 0..2);
    let digests = digests([b"x", b"y"]);
    store.insert(7, "a", &digests, [piece(0)]);
    store.insert(6, "b", &digests, [piece(1)]);
    assert!(store.piece(7, "a", 0).is_some() && store.piece(6, "b", 1).is_some());
    // A rank that is two rounds behind still gathers its own.
    store.insert(3, "c", &digests, [piece(0)]);
    assert!(store.piece(3, "c", 0).is_some());
    store.insert(8, "a", &digests, []);
    let kept = [(3, "c", 0), (6, "b", 1), (7, "a", 0)];
    let kept = kept.map(|(round, island, index)| store.piece(round, island, index).is_some());
    assert_eq!(kept, [false, false, true], "all that is too old goes at once");
}

#[test]
fn a_run_that_goes_back_takes_with_it_what_was_offered_since() {
    let store = Store::new("run".into(), 0..2);
    let mine = digests([b"x", b"y"]);
    for round in [3, 4] {
        store.insert(round, "a", &mine, [piece(0)]);
    }
    let of = contribution("a", root_digest(&mine));
    store.publish(&RunView { closed: vec![of], ..view(Phase::Fetching, 4) });
    assert!(store.public_piece(4, "a", 0).is_ok());
    store.forget_from(4);
    assert!(store.piece(3, "a", 0).is_some(), "it was committed before");
    assert_eq!(store.public_piece(4, "a", 0), Err(NotServed::NotHere));
    assert_eq!(store.missing(4, "a", root_digest(&mine)), vec![0, 1]);
}

#[test]
fn pieces_gather_under_one_offer_and_are_dropped_with_it() {
    let store = Store::new("run".into(), 0..2);
    let (first, renewed) = (digests([b"x", b"y"]), digests([b"z", b"y"]));
    store.insert(3, "a", &first, [piece(0)]);
    // The same digests in another place: it is what is held already.
    let same: Arc<[Digest]> = first.to_vec().into();
    store.insert(3, "a", &same, [piece(1)]);
    assert!(store.missing(3, "a", root_digest(&first)).is_empty());
    assert!(store.digests(3, "a", root_digest(&first)).is_some());
    assert!(store.digests(3, "a", root_digest(&renewed)).is_none());
    store.insert(3, "a", &renewed, [piece(1)]);
    assert_eq!(store.missing(3, "a", root_digest(&renewed)), vec![0]);
    assert!(store.digests(3, "a", root_digest(&first)).is_none());
    assert!(store.piece(3, "a", 0).is_none(), "it belonged to the older offer");
}

#[test]
fn a_rank_misses_only_pieces_of_its_span() {
    let store = Store::new("run".into(), 2..4);
    let all: Arc<[Digest]> = (0..9u8).map(|at| piece_digest(&[at])).collect();
    let offered = root_digest(&all);
    store.insert(3, "a", &all, [piece(2), piece(8)]);
    assert_eq!(store.missing(3, "a", offered), vec![3]);
    let nothing = Store::new("run".into(), 2..2);
    assert!(nothing.missing(3, "a", offered).is_empty(), "a rank without pieces lacks none");
}

#[test]
fn one_islands_offer_says_nothing_of_another_islands_or_rounds() {
    let store = Store::new("run".into(), 0..2);
    let digests = digests([b"x", b"y"]);
    store.insert(3, "a", &digests, [piece(0), piece(1)]);
    let offered = root_digest(&digests);
    assert!(store.missing(3, "a", offered).is_empty());
    assert_eq!(store.missing(3, "b", offered), vec![0, 1]);
    assert_eq!(store.missing(4, "a", offered), vec![0, 1]);
}

#[test]
fn several_commits_are_public_with_the_round_that_is_closed() {
    let store = Store::new("run".into(), 0..2);
    let digests = digests([b"x", b"y"]);
    let offered = contribution("a", root_digest(&digests));
    for round in [3, 4] {
        store.insert(round, "a", &digests, [piece(0)]);
    }
    let commit = Commit {
        round: 3,
        set: vec![offered.clone()],
        record_hash: Digest([0; 32]),
        tokens: 0,
        samples: 0,
    };
    let closed = vec![offered];
    store.publish(&RunView { commits: vec![commit], closed, ..view(Phase::Fetching, 4) });
    let public = [3, 4].map(|round| store.public_piece(round, "a", 0).is_ok());
    assert_eq!(public, [true, true]);
    store.publish(&view(Phase::Training, 5));
    let public = [3, 4].map(|round| store.public_piece(round, "a", 0));
    assert!(public.iter().all(Result::is_err), "no view shows them any more");
}
