//! What the islands of a run agree on, fixed when the run begins: islands that join later have to
//! agree, too.

use plan::spec::RunSpec;
use serde::{Deserialize, Serialize};

/// The key of a record in its ConfigMap.
pub(crate) const KEY: &str = "record.json";

/// A run's record. Those of older operators say more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// What all islands share.
    pub run: RunSpec,
    /// Seconds of inner steps in a round, from which each island's H follows.
    pub compute_seconds: f64,
}

impl Record {
    /// Of a run that begins so.
    pub(crate) fn new(beginning: &plan::planner::Beginning) -> Self {
        Self { run: beginning.run.clone(), compute_seconds: beginning.outer.compute_seconds() }
    }

    /// H of an island whose step takes so many seconds: 1 where that is not known.
    pub(crate) fn inner_steps(&self, step_seconds: Option<f64>) -> u32 {
        plan::outer::joining_steps(self.compute_seconds, step_seconds.unwrap_or(f64::NAN))
    }
}
