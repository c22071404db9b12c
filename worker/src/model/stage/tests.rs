//! Rows of a part of the vocabulary.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::testing::cases;

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn of_the_parts_of_a_vocabulary_exactly_one_has_each_token(
        cuts in vec(1i64..9, 1..5),
        tokens in vec(0i64..1_000, 1..12),
    ) {
        let vocabulary: i64 = cuts.iter().sum();
        let tokens: Vec<i64> = tokens.into_iter().map(|token| token % vocabulary).collect();
        let ids = Tensor::from_slice(&tokens);
        let mut holders = vec![0; tokens.len()];
        let mut first = 0;
        for length in cuts {
            let rows = first..first + length;
            let (local, here) = within(&ids, &rows).unwrap();
            for (at, token) in tokens.iter().enumerate() {
                let place = [at as i64];
                let (row, is_here) = (local.int64_value(&place), here.double_value(&place));
                // Whether it is here or not, a row of this part is read.
                prop_assert!((0..length).contains(&row), "{row} of {length}");
                let expected = rows.contains(token);
                prop_assert_eq!(is_here, f64::from(u8::from(expected)));
                if expected {
                    prop_assert_eq!(first + row, *token);
                    holders[at] += 1;
                }
            }
            first += length;
        }
        prop_assert!(holders.iter().all(|count| *count == 1), "{:?}", holders);
    }
}
