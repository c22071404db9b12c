//! Laws of the counting: no byte is counted twice, and none is forgotten.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn bytes_are_taken_or_lost_and_their_sum_stays(
        files in proptest::collection::vec(0_u64..10_000, 1..8),
        losses in proptest::collection::vec((0_usize..8, 0_u64..9, 0_u64..9), 0..8),
    ) {
        let mut tally = Tally::default();
        let all: u64 = files.iter().sum();
        files.iter().for_each(|bytes| tally.take(*bytes));
        // Of each file some units are lost, once.
        let mut seen = std::collections::BTreeSet::new();
        for (file, lost, units) in losses {
            if let Some(bytes) = files.get(file).filter(|_| seen.insert(file)) {
                tally.lose(*bytes, lost, units);
            }
        }
        prop_assert_eq!(tally.taken + tally.lost, all);
        let mostly = tally.mostly_lost();
        prop_assert_eq!(mostly.is_some(), 2 * tally.lost > all);
        prop_assert!(mostly.is_none_or(|(lost, sum)| lost == tally.lost && sum == all));
    }

    #[test]
    fn what_is_added_up_has_the_files_of_both(
        one in proptest::collection::vec((0_usize..4, 0_u64..100), 0..6),
        other in proptest::collection::vec((0_usize..4, 0_u64..100), 0..6),
    ) {
        let whys = [
            Why::Hidden,
            Why::LfsPointer,
            Why::Extension(".csv".to_owned()),
            Why::Binary(".txt".to_owned()),
        ];
        let of = |all: &[(usize, u64)]| {
            let mut passed = PassedOver::default();
            all.iter().for_each(|(why, bytes)| passed.add(whys[*why].clone(), *bytes));
            passed
        };
        let mut sum = of(&one);
        sum.extend(&of(&other));
        prop_assert_eq!(&sum, &of(&[&one[..], &other].concat()));
        prop_assert_eq!(sum.files(), (one.len() + other.len()) as u64);
        prop_assert_eq!(sum.is_empty(), one.is_empty() && other.is_empty());
    }
}

#[test]
fn the_largest_numbers_overflow_nothing() {
    let mut tally = Tally::default();
    tally.take(u64::MAX / 2);
    tally.lose(u64::MAX / 2, u64::MAX, u64::MAX);
    assert_eq!((tally.taken, tally.lost), (0, u64::MAX / 2));
    tally.pass_over_after_all(Why::LfsPointer, 100, 5);
    assert_eq!((tally.taken, tally.lost), (0, u64::MAX / 2 + 5));
    tally.lose(10, 1, 0);
    assert_eq!(tally.taken, 0, "of nothing seen nothing is lost");
}

#[test]
fn every_reason_says_what_it_counts() {
    let table = [
        (Why::BesideRecords(String::new()), "1 without extension beside records (2 bytes)"),
        (Why::NoColumn(".parquet".into()), "1 .parquet without the text's column (2 bytes)"),
        (Why::NoField(".json".into()), "1 .json without the text's field (2 bytes)"),
        (Why::Unpacked(".txt.gz".into()), "1 .txt.gz beside the same unpacked (2 bytes)"),
        (Why::Binary(".txt".into()), "1 .txt, binary (2 bytes)"),
        (Why::LfsPointer, "1 pointers of Git LFS (fetch them: git lfs pull) (2 bytes)"),
    ];
    for (why, said) in table {
        let mut passed = PassedOver::default();
        passed.add(why, 2);
        assert_eq!(passed.to_string(), said);
    }
}
