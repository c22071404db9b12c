//! What an island holds, tells and gives up, by what its ranks say.

use super::*;
use crate::testing::contribution;

fn holding(have: &[&str], pieces: u64, rejected: &[(&str, RejectionCause)]) -> Holding {
    let reject = |(owner, cause): &(&str, RejectionCause)| {
        (owner.to_string(), Rejection { cause: *cause, detail: "why".into() })
    };
    Holding {
        have: have.iter().map(ToString::to_string).collect(),
        pieces,
        rejected: rejected.iter().map(reject).collect(),
    }
}

#[test]
fn an_island_holds_what_all_its_ranks_hold_and_rejects_what_one_rejects() {
    use RejectionCause::{Invalid, Unserved};
    let ranks = vec![
        holding(&["a", "b"], 5, &[("c", Unserved)]),
        holding(&["a", "c"], 7, &[]),
        holding(&["a", "b"], 1, &[("c", Invalid), ("d", Unserved)]),
    ];
    let expected = holding(&["a"], 13, &[("c", Invalid), ("d", Unserved)]);
    assert_eq!(Holding::of_island(ranks), expected);
    let invalid_first =
        vec![holding(&[], 0, &[("c", Invalid)]), holding(&[], 0, &[("c", Unserved)])];
    assert_eq!(Holding::of_island(invalid_first), holding(&[], 0, &[("c", Invalid)]));
}

#[test]
fn an_island_has_a_set_when_it_has_every_contribution_of_it() {
    let set = [contribution("a"), contribution("b")];
    assert!(holding(&["a", "b", "c"], 0, &[]).is_all_of(&set));
    assert!(!holding(&["a"], 0, &[]).is_all_of(&set));
    assert!(holding(&[], 0, &[]).is_all_of(&[]), "a round that nobody gave anything to");
}

#[test]
fn the_coordinator_hears_at_once_of_what_is_whole_and_now_and_then_of_pieces() {
    let told = holding(&["a"], 5, &[]);
    let (soon, later) = (TELL_EVERY / 2, TELL_EVERY);
    let table = [
        (holding(&["a"], 5, &[]), later, News::Nothing),
        (holding(&["a"], 6, &[]), soon, News::TooSoon),
        (holding(&["a"], 6, &[]), later, News::Grown),
        (holding(&["a", "b"], 6, &[]), soon, News::Changed),
        (holding(&["a"], 5, &[("b", RejectionCause::Invalid)]), soon, News::Changed),
        (holding(&[], 4, &[]), soon, News::Changed),
    ];
    for (now, ago, expected) in table {
        assert_eq!(now.news(Some((&told, ago))), expected, "{now:?} after {ago:?}");
    }
    assert_eq!(told.news(None), News::First);
    let told = [News::First, News::Changed, News::Grown, News::TooSoon, News::Nothing];
    assert_eq!(told.map(News::is_told), [true, true, true, false, false]);
}

#[test]
fn what_was_told_of_one_set_is_not_told_of_another() {
    let set = [contribution("a"), contribution("b")];
    let told = Told::now(&set, holding(&["a"], 5, &[]));
    assert_eq!(told.of(&set).map(|(holding, _)| holding.pieces), Some(5));
    assert!(told.of(&set[..1]).is_none(), "a member was lost and the set closed anew");
    let renewed = Contribution { digest: Digest([7; 32]), ..contribution("b") };
    assert!(told.of(&[set[0].clone(), renewed]).is_none(), "an island offered anew");
}

#[test]
fn what_is_missing_is_given_up_when_it_is_silent_for_long_or_can_never_be_had() {
    use RejectionCause::{Invalid, Unserved};
    let stall = Duration::from_secs(30);
    let (short, long) = (stall / 2, stall);
    let table = [
        (None, short, false, Reach::Coming),
        (None, short, true, Reach::Coming),
        (None, long, false, Reach::Silent),
        (Some(Unserved), short, false, Reach::Coming),
        (Some(Unserved), long, false, Reach::Silent),
        (Some(Unserved), short, true, Reach::Dropped),
        (Some(Invalid), short, false, Reach::Invalid),
        (Some(Invalid), long, true, Reach::Invalid),
    ];
    for (cause, silent, is_dropped, expected) in table {
        let reach = Reach::of(cause, (silent, stall), is_dropped);
        assert_eq!(reach, expected, "{cause:?}, {silent:?}, dropped: {is_dropped}");
    }
}

#[test]
fn an_island_waits_for_its_slowest_rank_and_gives_up_with_its_first() {
    use Reach::{Coming, Dropped, Silent, Whole};
    let table = [
        (vec![Whole, Whole], Whole),
        (vec![Whole, Coming], Coming),
        (vec![Whole, Coming, Silent], Silent),
        (vec![Dropped, Whole, Silent], Dropped),
        (vec![], Whole),
    ];
    for (ranks, expected) in table {
        let sent: Vec<Vec<u8>> = ranks.iter().map(|reach| reach.encode().to_vec()).collect();
        assert_eq!(Reach::of_island(&sent), expected, "{ranks:?}");
    }
    for odd in [vec![], vec![200], vec![0, 0]] {
        let sent = [Whole.encode().to_vec(), odd.clone()];
        assert_eq!(Reach::of_island(&sent), Coming, "{odd:?}");
    }
}
