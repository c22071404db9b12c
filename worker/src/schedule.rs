//! The learning rate as a pure function of how far the run is.

use plan::spec::OptimizerSpec;

/// The learning rate after `position` of `total` steps: it rises linearly to the peak over the
/// warm-up, then falls along half a cosine to `min_learning_rate_ratio` of the peak at `total`, and
/// stays there. Steps are reference steps and may be fractional: an island with more inner steps in
/// a round passes the same stretch of the schedule in smaller pieces.
///
/// The first step already has a rate above 0: it is `position` = 0 and takes the rate of one step.
pub fn learning_rate(spec: &OptimizerSpec, position: f64, total: f64) -> f64 {
    let warmup = spec.warmup_steps as f64;
    let peak = spec.learning_rate;
    if position < warmup {
        return peak * ((position + 1.0) / warmup).min(1.0);
    }
    let floor = spec.min_learning_rate_ratio;
    let progress = ((position - warmup) / (total - warmup).max(1.0)).min(1.0);
    let cosine = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress));
    peak * (floor + (1.0 - floor) * cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(warmup_steps: u64) -> OptimizerSpec {
        OptimizerSpec { learning_rate: 2.0, warmup_steps, ..OptimizerSpec::default() }
    }

    #[test]
    fn the_schedule_warms_up_and_falls_along_a_cosine() {
        let table = [
            (0.0, 0.2),
            (4.5, 1.1),
            (9.0, 2.0),
            (10.0, 2.0),
            (60.0, 1.1),
            (110.0, 0.2),
            (500.0, 0.2),
        ];
        for (position, expected) in table {
            let rate = learning_rate(&spec(10), position, 110.0);
            assert!((rate - expected).abs() < 1e-12, "{position}: {rate}");
        }
    }

    #[test]
    fn the_schedule_never_leaves_its_range_however_short_the_run() {
        for (warmup, total) in [(0, 0.0), (0, 1.0), (10, 5.0), (10, 10.0)] {
            for position in [0.0, 0.5, 4.0, 9.75, 10.0, 11.0] {
                let rate = learning_rate(&spec(warmup), position, total);
                assert!((0.0..=2.0).contains(&rate) && rate > 0.0, "{warmup} {total} {position}");
            }
        }
    }
}
