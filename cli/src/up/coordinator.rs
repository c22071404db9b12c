//! The specification that the coordinator of a run on this machine is given.

use std::path::{Path, PathBuf};

use contract::coordinator::{CoordinatorSpec, STORE};
use plan::planner::RunPlan;
use rounds::config::{MEMBERS_MAX, Planned, RunConfig};
use rounds::whereabouts::Adopted;

/// How long a round that nobody holds is waited for: all islands are processes of this machine, so
/// one that is away for longer has ended, and what only its memory held is gone.
const GO_BACK_AFTER_MS: u64 = 60_000;

/// Its store in the run's folder.
pub fn store(folder: &Path) -> PathBuf {
    folder.join(STORE)
}

/// Its specification: `islands` are to be expected, `folder` is the run's own, `listen` a
/// `host:port` of which port 0 takes any.
pub fn spec(
    (plan, islands): (&RunPlan, u32),
    folder: &Path,
    listen: &str,
    adopt: Option<&Adopted>,
) -> CoordinatorSpec {
    let planned = Planned {
        name: plan.run.name.clone(),
        islands: islands.min(MEMBERS_MAX),
        quorum_percent: plan.rounds.quorum_percent,
        grace: plan.rounds.grace,
        deadline: plan.rounds.deadline,
        go_back: plan.rounds.go_back,
        exchange_seconds: plan.outer.exchange_seconds,
        tokens: plan.run.tokens,
    };
    CoordinatorSpec {
        listen: listen.to_owned(),
        store: store(folder),
        metrics: Some("127.0.0.1:0".to_owned()),
        run: RunConfig { go_back_after_ms: GO_BACK_AFTER_MS, ..planned.rules() },
        adopt: adopt.cloned(),
    }
}

#[cfg(test)]
mod tests;
