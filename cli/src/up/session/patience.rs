//! How long the end of an island may take: a large model is exchanged, evaluated and written for
//! longer than a small one.

use std::time::Duration;

use plan::planner::RunPlan;

use crate::up::supervise::Policy;

/// A checkpoint is written at this many bytes a second at least.
const DISK_BYTES_PER_SECOND: f64 = 50e6;
/// Kinds of values in a checkpoint, each as many as the model has parameters.
const KINDS: f64 = 4.0;
/// An estimate may be wrong by so much.
const MARGIN: f64 = 3.0;
/// No plan makes anybody wait longer.
const WAIT_MAX: Duration = Duration::from_secs(6 * 3600);

/// The bounds on restarts and waits for the run of `plan`.
pub(super) fn policy(plan: &RunPlan) -> Policy {
    let policy = Policy::default();
    let more = Duration::try_from_secs_f64(MARGIN * last_seconds(plan)).unwrap_or(WAIT_MAX);
    let more = more.min(WAIT_MAX);
    Policy {
        stop_grace: policy.stop_grace + more,
        finish_grace: policy.finish_grace + more,
        ..policy
    }
}

/// Seconds of what comes last: an exchange, an evaluation and a checkpoint.
fn last_seconds(plan: &RunPlan) -> f64 {
    let speeds = plan.islands.iter().map(|island| island.spec.tokens_per_second);
    let slowest = speeds.fold(f64::INFINITY, f64::min).max(1.0);
    let evaluation = &plan.run.evaluation;
    let tokens = f64::from(evaluation.sequences) * f64::from(plan.run.sequence_length);
    let checkpoint = KINDS * plan.dense_bytes as f64 / DISK_BYTES_PER_SECOND;
    plan.outer.exchange_seconds + tokens / slowest + checkpoint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_model_has_longer_to_end_than_a_small_one() {
        let text = include_str!("../../../../examples/quickstart.yaml");
        let manifests = api::load(&[api::Source { name: "quickstart", text }]).unwrap();
        let local = plan::request::Execution::Emulated { cores: 1 };
        let mut plan = plan::planner::plan_run(&manifests.run, &manifests.islands, &local).unwrap();
        let small = policy(&plan);
        let least = Policy::default();
        assert!(small.finish_grace > least.finish_grace);
        assert!(small.finish_grace < least.finish_grace * 3, "{small:?}");
        plan.dense_bytes = 32_000_000_000;
        let large = policy(&plan);
        assert!(large.finish_grace > least.finish_grace + Duration::from_secs(2560), "{large:?}");
        assert!(large.stop_grace > least.stop_grace + Duration::from_secs(2560), "{large:?}");
        plan.outer.exchange_seconds = f64::INFINITY;
        assert_eq!(policy(&plan).stop_grace, least.stop_grace + WAIT_MAX);
    }
}
