//! What the coordinator is told, and its first words.

use std::path::{Path, PathBuf};

use plan::planner::RunPlan;
use rounds::config::{MEMBERS_MAX, Planned, RunConfig};
use serde::{Deserialize, Serialize};

/// Its first line on standard output.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum Told {
    /// It serves.
    Listening {
        /// `host:port`, with the port that was taken.
        address: String,
    },
}

/// The file that it is started with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    listen: String,
    store: PathBuf,
    metrics: String,
    run: RunConfig,
}

/// What it is told: `islands` are to be expected, `folder` is the run's own, `listen` a `host:port`
/// of which port 0 takes any.
pub fn spec(plan: &RunPlan, islands: u32, folder: &Path, listen: &str) -> Spec {
    let planned = Planned {
        name: plan.run.name.clone(),
        islands: islands.min(MEMBERS_MAX),
        quorum_percent: plan.rounds.quorum_percent,
        grace: plan.rounds.grace,
        deadline: plan.rounds.deadline,
        exchange_seconds: plan.outer.exchange_seconds,
        tokens: plan.run.tokens,
    };
    Spec {
        listen: listen.to_owned(),
        store: folder.join("coordinator.redb"),
        metrics: "127.0.0.1:0".to_owned(),
        run: planned.rules(),
    }
}
