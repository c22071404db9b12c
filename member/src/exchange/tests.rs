//! A rank's own side of a round, without a network.

use rounds::types::{Phase, RejectionCause};
use tokio::runtime::Runtime;

use super::*;
use crate::MemberError;
use crate::store::root_digest;
use crate::testing::{commit_of, config, contribution, small_layout, two_pieces, view};

const ROUND: u64 = 4;

/// A rank that begins a round at θ = 1 everywhere.
fn rank(island: &str, layout: &Arc<Layout>) -> Exchange {
    let mut exchange = Exchange::new(&config(island, 0, 1), Arc::clone(layout));
    let values = layout.values();
    exchange.begin(ROUND, vec![1.0; values], vec![0.0; values]);
    exchange
}

fn anchor(exchange: &Exchange) -> Vec<f32> {
    exchange.store().with_anchor(|anchor| anchor.values.clone())
}

/// What an island trains: unlike at every value, and another's is unlike this one's.
fn trained(exchange: &Exchange, scale: f32) -> Vec<f32> {
    let change = |at: usize| scale * ((at % 37) as f32 - 18.0) / 37.0;
    anchor(exchange).iter().enumerate().map(|(at, value)| value - change(at)).collect()
}

/// Makes a round's contribution of the island's one rank, and offers it.
fn contribute(exchange: &mut Exchange, scale: f32, tokens: u64) -> Contribution {
    let after = trained(exchange, scale);
    let sealed = exchange.compress(ROUND, &after).expect("finite");
    let sum = Sealed::sum(&[sealed.encode()]);
    let digest = root_digest(&sum.digests);
    exchange.keep(ROUND, sealed, &sum);
    let island = exchange.fetcher.island.clone();
    let made = Contribution { digest, tokens, bytes: sum.bytes, ..contribution(&island) };
    exchange.offer = Some(Offered { contribution: made.clone(), leaving: false });
    made
}

/// Has one rank hold what another offered, as if it had fetched it.
fn give(from: &Exchange, to: &Exchange, offered: &Contribution) {
    let Contribution { island, digest, .. } = offered;
    let digests = from.store().digests(ROUND, island, *digest).expect("it made it");
    let piece = |index| from.store().piece(ROUND, island, index).map(|data| (index, data));
    let pieces: Vec<_> = from.store().span().filter_map(piece).collect();
    to.store().insert(ROUND, island, &digests, pieces);
}

/// Two islands that hold both contributions of a round.
fn pair(layout: &Arc<Layout>) -> (Exchange, Exchange, Vec<Contribution>) {
    let (mut a, mut b) = (rank("a", layout), rank("b", layout));
    let set = vec![contribute(&mut a, 1.0, 10), contribute(&mut b, -0.3, 30)];
    give(&a, &b, &set[0]);
    give(&b, &a, &set[1]);
    (a, b, set)
}

#[test]
fn islands_that_apply_one_set_come_to_one_theta_bit_by_bit() {
    let (mut a, mut b, set) = pair(&two_pieces());
    let before = anchor(&a);
    let commit = commit_of(ROUND, &set);
    assert!(a.step(&commit).expect("applied") && b.step(&commit).expect("applied"));
    let bits = |exchange: &Exchange| -> Vec<u32> {
        anchor(exchange).iter().map(|value| value.to_bits()).collect()
    };
    assert!(bits(&a) == bits(&b), "the replicas are unlike");
    assert_eq!(a.theta_digests(), b.theta_digests());
    assert!(anchor(&a) != before, "nothing was applied");
    assert!(a.residual != b.residual, "each keeps what it did not send itself");
}

#[test]
fn weights_are_tokens() {
    let layout = small_layout();
    let step = |tokens: u64| {
        let (mut a, _b, mut set) = pair(&layout);
        set[1].tokens = tokens;
        a.step(&commit_of(ROUND, &set)).expect("applied");
        anchor(&a)
    };
    let (equal, heavy) = (step(10), step(1_000_000));
    let alone = {
        let mut b = rank("b", &layout);
        let only = contribute(&mut b, -0.3, 30);
        b.step(&commit_of(ROUND, &[only])).expect("applied");
        anchor(&b)
    };
    let distance = |values: &[f32]| -> f32 {
        values.iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(distance(&heavy) < 1e-3, "{}", distance(&heavy));
    assert!(distance(&equal) > 10.0 * distance(&heavy), "{}", distance(&equal));
}

#[test]
fn a_round_that_nobody_gave_anything_to_changes_nothing_and_is_over() {
    let mut a = rank("a", &small_layout());
    let before = anchor(&a);
    assert!(!a.step(&commit_of(ROUND, &[])).expect("applied"));
    assert!(anchor(&a) == before);
    assert_eq!(a.store().with_anchor(|anchor| anchor.round), Some(ROUND + 1));
}

#[test]
fn what_was_not_committed_goes_back_into_the_residual_and_counts_later() {
    let (mut a, _b, set) = pair(&small_layout());
    let due: Vec<f32> =
        anchor(&a).iter().zip(trained(&a, 1.0)).map(|(before, after)| before - after).collect();
    let sent = a.residual.iter().zip(&due).filter(|(left, due)| left != due).count();
    assert!(sent > 0, "nothing was sent");
    assert!(!a.step(&commit_of(ROUND, &set[1..])).expect("applied"));
    let left = a.residual.iter().zip(&due).map(|(left, due)| (left - due).abs());
    assert!(left.fold(0.0, f32::max) < 1e-6, "all of the update is still to be sent");
    // A round later there is nothing to be taken back any more.
    a.end_round();
    let before = a.residual.clone();
    a.step(&commit_of(ROUND + 1, &[])).expect("applied");
    assert!(a.residual == before, "what was sent came back twice");
}

#[test]
fn what_an_earlier_epoch_of_the_island_offered_is_not_its_own() {
    let layout = small_layout();
    let (mut earlier, mut now) = (rank("a", &layout), rank("a", &layout));
    let offered = contribute(&mut earlier, 0.7, 10);
    // It came back without having offered anything.
    give(&earlier, &now, &offered);
    assert!(!now.step(&commit_of(ROUND, std::slice::from_ref(&offered))).expect("applied"));
    assert!(now.residual.iter().all(|left| *left == 0.0), "the residual is not of that work");
    assert!(earlier.step(&commit_of(ROUND, &[offered])).expect("applied"));
    assert!(anchor(&now) == anchor(&earlier));
}

#[test]
fn a_set_that_is_not_what_was_verified_is_not_applied_and_no_theta_is_served() {
    let layout = small_layout();
    let garbage = Bytes::from_static(b"this is no frame");
    let cut = |bytes: &Bytes| bytes.slice(..bytes.len() - 1);
    for (name, replace) in [("garbage", true), ("cut short", false)] {
        let (mut a, _b, set) = pair(&layout);
        let held = a.store().piece(ROUND, "b", 0).expect("held");
        let bad = if replace { garbage.clone() } else { cut(&held) };
        let digests = a.store().digests(ROUND, "b", set[1].digest).expect("held");
        a.store().insert(ROUND, "b", &digests, [(0, bad)]);
        let error = a.step(&commit_of(ROUND, &set)).expect_err(name);
        assert!(matches!(error, MemberError::Apply { round: ROUND, .. }), "{name}: {error:?}");
        assert!(!error.is_final(), "{name}: another epoch begins from a checkpoint");
        assert_eq!(a.store().with_anchor(|anchor| anchor.round), None, "{name}");
    }
    let (mut a, _b, set) = pair(&layout);
    let unknown = [set[0].clone(), contribution("c")];
    assert!(a.step(&commit_of(ROUND, &unknown)).is_err(), "a contribution that is not here");
}

#[test]
fn an_island_trains_from_theta_less_what_it_retains() {
    let mut config = config("a", 0, 1);
    let (bits, decay) = (config.codec.value_bits(), config.codec.error_decay());
    config.codec = sparseloco::CodecParams::new(64, bits, decay, 0.5).expect("valid");
    let layout = small_layout();
    let mut exchange = Exchange::new(&config, Arc::clone(&layout));
    exchange.begin(0, vec![1.0; layout.values()], vec![0.25; layout.values()]);
    assert!(exchange.local_start().iter().all(|value| *value == 0.875));
}

#[test]
fn digests_of_theta_are_by_piece_whatever_the_ranks() {
    let layout = two_pieces();
    let values: Vec<f32> = (0..layout.values()).map(|at| at as f32).collect();
    let whole = |rank: u32, world_size: u32| {
        let mut exchange = Exchange::new(&config("a", rank, world_size), Arc::clone(&layout));
        let span = exchange.span_values();
        exchange.begin(0, values[span.clone()].to_vec(), vec![0.0; span.len()]);
        exchange.theta_digests()
    };
    assert_eq!(whole(0, 1), [whole(0, 2), whole(1, 2)].concat());
    assert!(whole(0, 3).is_empty(), "three ranks, two pieces: the first has none");
}

#[test]
fn what_is_fetched_is_dropped_when_the_run_wants_something_else() {
    let runtime = Runtime::new().expect("a runtime");
    let span = Span::none();
    let means = (runtime.handle(), &span);
    let set = [contribution("b")];
    let fetch = Directive::Fetch { set: set.to_vec() };
    let apply = Directive::Apply { commit: commit_of(ROUND, &set) };
    let wait = Directive::Wait { reason: String::new() };
    for (directive, expected) in [(fetch, true), (apply, true), (wait, false)] {
        let mut a = rank("a", &small_layout());
        a.fetch(means, (ROUND, &set), &[]);
        a.drop_what_is_not_wanted(&directive);
        assert_eq!(a.gather.is_some(), expected, "{directive:?}");
    }
}

#[test]
fn a_commit_that_nobody_serves_is_waited_for_until_it_is_silent_for_long_or_dropped() {
    let runtime = Runtime::new().expect("a runtime");
    let span = Span::none();
    let means = (runtime.handle(), &span);
    let (long, none) = (Duration::from_secs(600), Duration::ZERO);
    let table = [
        (long, ROUND + 1, Reach::Coming),
        (none, ROUND + 1, Reach::Silent),
        (long, ROUND + ROUNDS_KEPT, Reach::Dropped),
    ];
    for (stall, run_round, expected) in table {
        let mut a = rank("a", &small_layout());
        a.stall = stall;
        let mine = contribute(&mut a, 1.0, 10);
        let set = [mine.clone(), contribution("b")];
        let holding = a.fetch(means, (ROUND, &set), &[]);
        assert!(holding.have.contains("a") && !holding.have.contains("b"));
        let rejection = holding.rejected.get("b").expect("no member has it");
        assert_eq!(rejection.cause, RejectionCause::Unserved);
        let reach = a.hold(means, (ROUND, &set), &[], run_round);
        assert_eq!(reach, expected, "{stall:?}, the run is in round {run_round}");
        let own = a.hold(means, (ROUND, &[mine]), &[], run_round);
        assert_eq!(own, Reach::Whole, "what is here is not asked for");
    }
}

#[test]
fn a_rank_that_begins_anew_forgets_what_it_made_of_that_round_and_later_ones() {
    let mut a = rank("a", &small_layout());
    let offered = contribute(&mut a, 1.0, 10);
    a.publish(&view_of(&offered));
    assert!(a.store().public_piece(ROUND, "a", 0).is_ok());
    let values = a.residual.len();
    a.begin(ROUND, vec![2.0; values], vec![0.5; values]);
    assert!(a.store().piece(ROUND, "a", 0).is_none());
    assert!(a.offer.is_none() && a.sent.is_empty());
    assert!(anchor(&a).iter().all(|value| *value == 2.0) && a.residual.iter().all(|e| *e == 0.5));
    a.step(&commit_of(ROUND, &[])).expect("applied");
    assert!(a.residual.iter().all(|left| *left == 0.5), "it has sent nothing since");
}

fn view_of(offered: &Contribution) -> RunView {
    RunView { closed: vec![offered.clone()], ..view(Phase::Fetching, ROUND, &[]) }
}
