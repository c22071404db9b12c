//! What `heteroloco plan` prints.

use plan::planner::RunPlan;

/// The plan as tables for people.
pub fn render(plan: &RunPlan) -> String {
    format!("run {}\n", plan.run.name)
}
