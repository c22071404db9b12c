//! What the coordinator is told, its first words, and what it says of its store.

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

/// What it says of its store when it is asked by `--standing`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", tag = "store")]
pub enum Standing {
    /// There is none, or nothing in it.
    Missing,
    /// It is not to be used.
    Damaged {
        /// Why.
        reason: String,
    },
    /// It can be gone on from.
    Whole {
        /// The round in progress.
        round: u64,
        /// The highest round ever in progress: beyond `round` where the run went back.
        highest: u64,
        /// Tokens of all rounds before.
        tokens: u64,
        /// The newest checkpoint that an island told of: the round that it resumes at.
        checkpoint: Option<u64>,
    },
}

/// The start of a round that an empty store takes the run up at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Adopt {
    /// The round.
    pub round: u64,
    /// Hash of θ at its start, hexadecimal, where it is on record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theta_hash: Option<String>,
    /// Tokens of all rounds before.
    pub tokens: u64,
    /// Samples that were handed out in them.
    pub samples: u64,
}

/// The file that it is started with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    listen: String,
    store: PathBuf,
    metrics: String,
    run: RunConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    adopt: Option<Adopt>,
}

/// How long a round that nobody holds is waited for: all islands are processes of this machine, so
/// one that is away for longer has ended, and what only its memory held is gone.
const GO_BACK_AFTER_MS: u64 = 60_000;

/// Its store in the run's folder.
pub fn store(folder: &Path) -> PathBuf {
    folder.join("coordinator.redb")
}

/// What it is told: `islands` are to be expected, `folder` is the run's own, `listen` a `host:port`
/// of which port 0 takes any.
pub fn spec(
    (plan, islands): (&RunPlan, u32),
    folder: &Path,
    listen: &str,
    adopt: Option<&Adopt>,
) -> Spec {
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
    Spec {
        listen: listen.to_owned(),
        store: store(folder),
        metrics: "127.0.0.1:0".to_owned(),
        run: RunConfig { go_back_after_ms: GO_BACK_AFTER_MS, ..planned.rules() },
        adopt: adopt.cloned(),
    }
}
