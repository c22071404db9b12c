//! Medians of repeats, and curves out of them.

use std::time::{Duration, Instant};

use plan::cluster::{Curve, CurveError, Point};

/// Repeats of one figure.
pub(super) const REPEATS_MIN: usize = 3;
/// The same: more tell nothing new.
pub(super) const REPEATS_MAX: usize = 50;

/// Median seconds of `once`, after a first time that does not count, repeated for about `budget`.
pub(super) fn median_seconds<E>(
    budget: Duration,
    mut once: impl FnMut() -> Result<(), E>,
) -> Result<f64, E> {
    once()?;
    let begun = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < REPEATS_MIN || (seconds.len() < REPEATS_MAX && begun.elapsed() < budget) {
        let started = Instant::now();
        once()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(median(seconds))
}

/// The middle of what was timed, which is never nothing.
pub(super) fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_unstable_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The curve through points of growing bytes. A time below an earlier one is chance: a larger
/// message contains the smaller one, so it is taken to last as long.
pub(super) fn curve(mut points: Vec<Point>) -> Result<Curve, CurveError> {
    let mut longest = 0.0;
    for point in &mut points {
        longest = point.seconds.max(longest);
        point.seconds = longest;
    }
    Curve::through(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_that_fails_ends_the_measurement_and_quick_ones_are_bounded() {
        let mut times = 0;
        let budget = Duration::from_secs(3600);
        let counted = median_seconds(budget, || {
            times += 1;
            Ok::<(), ()>(())
        });
        assert!(counted.unwrap() >= 0.0);
        assert_eq!(times, 1 + REPEATS_MAX);
        times = 0;
        let failed = median_seconds(budget, || {
            times += 1;
            if times == 2 { Err("second") } else { Ok(()) }
        });
        assert_eq!((failed, times), (Err("second"), 2));
        times = 0;
        let least = median_seconds(Duration::ZERO, || {
            times += 1;
            Ok::<(), ()>(())
        });
        assert_eq!((least.is_ok(), times), (true, 1 + REPEATS_MIN));
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0]), 4.0);
    }

    #[test]
    fn times_that_fall_by_chance_are_lifted_and_times_that_are_none_refused() {
        let points = |seconds: &[f64]| -> Vec<Point> {
            (1..).zip(seconds).map(|(bytes, seconds)| Point { bytes, seconds: *seconds }).collect()
        };
        let made = curve(points(&[2.0, 1.0, 3.0, 2.5])).unwrap();
        assert_eq!(Vec::from(made), points(&[2.0, 2.0, 3.0, 3.0]));
        assert_eq!(curve(points(&[1.0])), Err(CurveError::TooFew));
        assert_eq!(curve(points(&[0.0, 1.0])), Err(CurveError::OutOfOrder(0)));
        assert!(curve(points(&[f64::NAN, f64::NAN])).is_err());
    }
}
