//! No position is with two members at a time, and none is lost, whoever takes and gives back.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Deed {
    /// Somebody takes so many.
    Takes(u64),
    /// One of those that took some gives back what is beyond its first so many.
    GivesBack(prop::sample::Index, u64),
}

fn any_deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        (0_u64..40).prop_map(Deed::Takes),
        (any::<prop::sample::Index>(), 0_u64..50)
            .prop_map(|(who, used)| Deed::GivesBack(who, used)),
    ];
    prop::collection::vec(deed, 0..80)
}

fn positions(ranges: &[SampleRange]) -> Vec<u64> {
    ranges.iter().flat_map(|range| range.first..range.end).collect()
}

proptest! {
    #[test]
    fn every_position_is_with_one_member_trained_on_or_to_be_handed_out_again(
        deeds in any_deeds(),
        start in prop::sample::select(vec![0_u64, 7, 1 << 40]),
    ) {
        let mut text = Text::from(start);
        let mut held: Vec<Vec<SampleRange>> = Vec::new();
        let mut trained: BTreeSet<u64> = BTreeSet::new();
        for deed in deeds {
            match deed {
                Deed::Takes(count) => {
                    let free = positions(&text.returned);
                    let ranges = text.hand_out(count);
                    let taken = positions(&ranges);
                    prop_assert_eq!(taken.len() as u64, count);
                    prop_assert!(ranges.len() <= RANGES_MAX);
                    // What came back goes out first and in order, as far as there are ranges.
                    let again = taken.iter().take_while(|at| free.contains(at)).count();
                    prop_assert_eq!(&taken[..again], &free[..again]);
                    let all = again == taken.len().min(free.len());
                    prop_assert!(all || ranges.len() == RANGES_MAX);
                    held.push(ranges);
                }
                Deed::GivesBack(..) if held.is_empty() => {}
                Deed::GivesBack(who, used) => {
                    let ranges = held.swap_remove(who.index(held.len()));
                    let all = positions(&ranges);
                    let left = rest(&ranges, used);
                    let kept = all.len().saturating_sub(positions(&left).len());
                    prop_assert_eq!(kept, all.len().min(used as usize));
                    prop_assert_eq!(positions(&left), all[kept..].to_vec());
                    trained.extend(&all[..kept]);
                    text.give_back(left);
                }
            }
            let mut seen = trained.clone();
            let free = positions(&text.returned);
            let with_members = held.iter().flat_map(|ranges| positions(ranges));
            for at in with_members.chain(free) {
                prop_assert!(seen.insert(at), "{at} is in two places: {text:?}");
            }
            prop_assert_eq!(seen.len() as u64, text.next - start, "none is lost");
            prop_assert!(seen.iter().all(|at| (start..text.next).contains(at)));
        }
    }
}

#[test]
fn an_order_that_ends_gives_what_there_is_and_does_not_begin_anew() {
    let mut text = Text::from(u64::MAX - 3);
    let out = text.hand_out(10);
    assert_eq!(out.iter().map(SampleRange::count).sum::<u64>(), 3);
    assert_eq!(text.next, u64::MAX);
    assert_eq!(text.hand_out(1).iter().map(SampleRange::count).sum::<u64>(), 0);
}

#[test]
fn a_range_that_is_none_has_no_positions_and_is_never_handed_out() {
    let none = SampleRange { first: 9, end: 3 };
    assert_eq!(none.count(), 0);
    let mut text = Text::from(20);
    text.give_back([none, SampleRange { first: 5, end: 5 }]);
    assert_eq!(text, Text::from(20));
    assert_eq!(text.hand_out(0), []);
}
