//! What the coordinator is told, and its first words.

use std::path::{Path, PathBuf};
use std::time::Duration;

use plan::planner::RunPlan;
use rounds::config::RunConfig;
use serde::{Deserialize, Serialize};

/// A member that is not heard of for so long is no member any more. Members renew their lease from
/// a thread of their own, so this covers a busy machine, not a long step.
const LEASE: Duration = Duration::from_secs(15);
/// Least time in which the members may fetch each other's contributions.
const FETCH_DEADLINE: Duration = Duration::from_secs(120);
/// Times the planned exchange that they have where that is more: uplinks are shared with others.
const FETCH_PATIENCE: f64 = 3.0;
/// More members than a file of islands names.
const MAX_MEMBERS: u32 = 1024;

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

/// What it is told: `folder` is the run's own, `listen` a `host:port` of which port 0 takes any.
pub fn spec(plan: &RunPlan, folder: &Path, listen: &str) -> Spec {
    let islands = u32::try_from(plan.islands.len()).unwrap_or(MAX_MEMBERS);
    let quorum = u32::from(plan.rounds.quorum_percent);
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Spec {
        listen: listen.to_owned(),
        store: folder.join("coordinator.redb"),
        metrics: "127.0.0.1:0".to_owned(),
        run: RunConfig {
            name: plan.run.name.clone(),
            islands,
            minimum: islands.saturating_mul(quorum).div_ceil(100).clamp(1, islands.max(1)),
            quorum_percent: plan.rounds.quorum_percent,
            grace_ms: milliseconds(plan.rounds.grace),
            deadline_ms: milliseconds(plan.rounds.deadline),
            fetch_deadline_ms: milliseconds(fetch_deadline(plan)),
            lease_ms: milliseconds(LEASE),
            tokens: plan.run.tokens,
            max_members: MAX_MEMBERS,
        },
    }
}

fn fetch_deadline(plan: &RunPlan) -> Duration {
    let planned = Duration::try_from_secs_f64(FETCH_PATIENCE * plan.outer.exchange_seconds);
    planned.unwrap_or(FETCH_DEADLINE).max(FETCH_DEADLINE)
}
