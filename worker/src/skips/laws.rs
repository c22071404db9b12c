//! Over random rounds: what counts as made is what the optimiser makes, and when a round is left.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::testing::cases;

fn control(loss_sum: f64, squares: f64) -> StepControl {
    StepControl { loss_sum, squares, ..StepControl::default() }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn a_round_is_left_at_the_third_skip_in_a_row_and_steps_are_counted(
        steps in vec(any::<bool>(), 0..40),
    ) {
        let mut skips = Skips::default();
        for (at, is_finite) in steps.iter().enumerate() {
            let made = skips.after(&control(if *is_finite { 1.0 } else { f64::NAN }, 1.0));
            let before = &steps[..=at];
            let in_a_row = before.iter().rev().take_while(|finite| !**finite).count();
            let expected = match in_a_row {
                0 => Made::Step,
                1 | 2 => Made::Nothing,
                _ => Made::TooManySkips,
            };
            prop_assert_eq!(made, expected, "step {}", at);
            let finite = before.iter().filter(|finite| **finite).count();
            prop_assert_eq!(skips.made() as usize, finite);
        }
    }
}

#[test]
fn either_sum_and_every_kind_of_no_number_makes_a_step_a_skipped_one() {
    let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    for value in bad {
        for sums in [control(value, 1.0), control(1.0, value), control(value, value)] {
            assert_eq!(Skips::default().after(&sums), Made::Nothing, "{sums:?}");
        }
    }
    // Sums of nothing, and of much, are sums.
    for sums in [control(0.0, 0.0), control(-1.0, 0.0), control(f64::MAX, f64::MAX)] {
        assert_eq!(Skips::default().after(&sums), Made::Step, "{sums:?}");
    }
}
