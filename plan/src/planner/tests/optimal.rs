//! The search beside the planner that looks at everything.

use super::bounds::{Case, any_case};
use super::*;
use crate::planner::exhaustive;

/// How much slower than the best a plan may be here: a gain of less is not looked for, and
/// estimates are no better.
const SLOWER: f64 = 0.03;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_plan_is_found_where_there_is_one_and_hardly_any_is_faster(case in any_case()) {
        let Case { run, island, execution } = &case;
        let best = exhaustive::best(run, island, execution);
        let plan = plan_run(run, std::slice::from_ref(island), execution);
        let (best, plan) = match (best, plan) {
            (Some(best), Ok(plan)) => (best, plan),
            (None, Err(refusals)) => {
                prop_assert_eq!(refusals.0[0].reason, Reason::ModelTooLarge, "{}", refusals);
                return Ok(());
            }
            (best, plan) => {
                return Err(TestCaseError::fail(format!("only one of both: {best:?}, {plan:?}")));
            }
        };
        let ours = &plan.islands[0];
        if island.objective == Objective::Throughput {
            let slower = ours.step_seconds() / best.seconds - 1.0;
            prop_assert!(slower >= -1e-9, "{slower}: better than the best, {best:?}");
            prop_assert!(slower <= SLOWER, "{slower}: {best:?}, {ours:#?}");
        }
        prop_assert!(ours.reasons.iter().all(|reason| !reason.contains("search was ended")));
        // Others are no better, by what the island's objective counts.
        let losses: Vec<f64> = ours.runners_up.iter().map(|other| other.loses_percent).collect();
        prop_assert!(losses.iter().all(|loss| *loss >= -0.5), "{losses:?}");
        prop_assert!(losses.is_sorted(), "{losses:?}");
        let own = Grid::of(&ours.spec);
        for other in &ours.runners_up {
            let [data, stages, tensor] = other.shape;
            prop_assert_eq!(other.cards, data * stages * tensor);
            prop_assert!((stages, tensor) != (own.stages, own.tensor), "{other:?}");
            prop_assert!(!other.reason.is_empty() && other.step.total() > 0.0);
        }
    }
}
