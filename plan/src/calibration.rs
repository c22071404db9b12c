//! Estimates corrected by what running islands report.

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod laws;

/// Steps that are left out: the first ones of a process fill caches and queues.
const WARM_UP: usize = 1;
/// A correction beyond this, or its inverse, is no error of the estimate: something else is wrong.
const CORRECTION_MAX: f64 = 64.0;

/// The seconds that an island's steps took, beside those that were planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Calibration {
    /// The island.
    pub island: String,
    /// Seconds of an inner step as its plan said.
    pub planned_seconds: f64,
    /// Seconds that its steps took, the median.
    pub measured_seconds: f64,
    /// Steps that this is the median of.
    pub steps: u64,
    /// The factor for planned seconds, the one that this plan had included:
    /// [`crate::request::IslandRequest::correction`] of the next.
    pub correction: f64,
}

impl Calibration {
    /// Compares an island's steps, in their order, with a plan that was made with such a
    /// correction; `None` where there are too few, or they say nothing of the estimate.
    pub fn of(island: &str, planned: f64, correction: f64, steps: &[f64]) -> Option<Calibration> {
        let mut warm: Vec<f64> = steps.iter().skip(WARM_UP).copied().collect();
        warm.retain(|seconds| seconds.is_finite() && *seconds > 0.0);
        warm.sort_by(f64::total_cmp);
        let measured = *warm.get(warm.len() / 2)?;
        let next = correction * measured / planned;
        let found = Calibration {
            island: island.to_owned(),
            planned_seconds: planned,
            measured_seconds: measured,
            steps: warm.len() as u64,
            correction: next,
        };
        found.is_sound().then_some(found)
    }

    /// Says whether the correction says something of the estimate; one of a file may be anything.
    pub fn is_sound(&self) -> bool {
        (1.0 / CORRECTION_MAX..=CORRECTION_MAX).contains(&self.correction)
    }

    /// The error of the plan: its seconds less those measured, percent of those measured.
    pub fn error_percent(&self) -> f64 {
        100.0 * (self.planned_seconds / self.measured_seconds - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_warm_steps_corrects_what_was_corrected_before() {
        let steps = [9.0, 2.0, 2.2, 50.0, 1.8, f64::NAN];
        let found = Calibration::of("lab", 1.1, 0.5, &steps).expect("enough");
        assert_eq!((found.measured_seconds, found.steps), (2.2, 4));
        assert!((found.correction - 1.0).abs() < 1e-12);
        assert!((found.error_percent() + 50.0).abs() < 1e-9);
    }

    #[test]
    fn steps_that_say_nothing_correct_nothing() {
        assert_eq!(Calibration::of("lab", 1.0, 1.0, &[3.0]), None, "the first is not warm");
        assert_eq!(Calibration::of("lab", 1.0, 1.0, &[1.0, 1e6]), None, "something else is wrong");
        assert_eq!(Calibration::of("lab", 0.0, 1.0, &[1.0, 1.0]), None);
        assert_eq!(Calibration::of("lab", 1.0, 1.0, &[1.0, -1.0]), None);
    }
}
