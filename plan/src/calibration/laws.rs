//! What holds of corrections whatever was measured.

use proptest::prelude::*;

use super::*;

proptest! {
    /// A plan predicts `correction` times what the estimate alone says, so that the next one
    /// predicts just what was measured.
    #[test]
    fn the_next_plan_predicts_what_was_measured(
        estimate in 1e-3_f64..1e3,
        correction in 0.5_f64..2.0,
        steps in prop::collection::vec(0.2_f64..4.0, 2..40),
    ) {
        let steps: Vec<f64> = steps.iter().map(|step| step * estimate).collect();
        let planned = estimate * correction;
        let found = Calibration::of("lab", planned, correction, &steps).expect("enough");
        let next = estimate * found.correction;
        prop_assert!((next / found.measured_seconds - 1.0).abs() < 1e-9);
        // With that plan the error is gone.
        let again = Calibration::of("lab", next, found.correction, &steps).expect("enough");
        prop_assert!(again.error_percent().abs() < 1e-6);
        prop_assert!((again.correction / found.correction - 1.0).abs() < 1e-9);
    }

    #[test]
    fn half_of_the_warm_steps_took_no_longer_and_half_no_less(
        first in any::<f64>(),
        warm in prop::collection::vec(0.1_f64..6.0, 1..40),
    ) {
        let steps: Vec<f64> = std::iter::once(first).chain(warm.iter().copied()).collect();
        let found = Calibration::of("lab", 1.0, 1.0, &steps).expect("enough");
        prop_assert_eq!(found.steps as usize, warm.len(), "the first is not warm");
        let shorter = warm.iter().filter(|step| **step < found.measured_seconds).count();
        let longer = warm.iter().filter(|step| **step > found.measured_seconds).count();
        prop_assert!(2 * shorter <= warm.len() && 2 * longer <= warm.len());
    }

    #[test]
    fn no_figure_makes_a_correction_that_a_plan_could_not_be_multiplied_by(
        planned in prop::num::f64::ANY,
        correction in prop::num::f64::ANY,
        steps in prop::collection::vec(prop::num::f64::ANY, 0..6),
    ) {
        if let Some(found) = Calibration::of("lab", planned, correction, &steps) {
            prop_assert!(found.is_sound());
            prop_assert!(found.correction > 0.0 && found.correction.is_finite());
            prop_assert!(found.measured_seconds > 0.0 && found.measured_seconds.is_finite());
        }
    }
}

#[test]
fn an_error_of_sixty_four_times_is_the_last_that_is_believed() {
    let of = |step: f64| Calibration::of("lab", 1.0, 1.0, &[1.0, step]).map(|it| it.correction);
    assert_eq!(of(64.0), Some(64.0));
    assert_eq!(of(64.1), None);
    assert_eq!(of(1.0 / 64.0), Some(1.0 / 64.0));
    assert_eq!(of(1.0 / 64.1), None);
}

#[test]
fn a_correction_that_a_file_makes_up_is_not_sound() {
    let read = |correction: &str| {
        let text = format!(
            r#"{{"island":"lab","plannedSeconds":1.0,"measuredSeconds":2.0,"steps":9,
               "correction":{correction}}}"#
        );
        serde_json::from_str::<Calibration>(&text)
    };
    assert!(read("2.0").expect("a calibration").is_sound());
    for none in ["0", "-1", "1e300", "0.001"] {
        assert!(!read(none).expect("a number").is_sound(), "{none}");
    }
    assert!(read("null").is_err() && read(r#"1.0,"weight":2"#).is_err());
    let known = read("2.0").expect("a calibration");
    let text = serde_json::to_string(&known).expect("no map keys");
    assert_eq!(serde_json::from_str::<Calibration>(&text).expect("the same"), known);
}
