//! The specification of a coordinator, in the file of `heteroloco-coordinator --spec`, and the
//! lines that it writes.

use std::path::PathBuf;

use rounds::config::RunConfig;
use rounds::whereabouts::Adopted;
use serde::{Deserialize, Serialize};

/// The name of the store's file, in whatever folder it is kept.
pub const STORE: &str = "coordinator.redb";

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CoordinatorSpec {
    /// `host:port` to serve members on; port 0 takes a free one.
    pub listen: String,
    /// File of the store; it is made if it does not exist.
    pub store: PathBuf,
    /// `host:port` of `/metrics`; absent serves none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// The rules of the run, not yet checked.
    pub run: RunConfig,
    /// The point at which the run is taken up when the store is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adopted>,
}

/// One line of its standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum CoordinatorEvent {
    /// It serves; addresses with the ports that were taken.
    Listening {
        /// `host:port` for members.
        address: String,
        /// `host:port` of `/metrics`, where served.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metrics: Option<String>,
    },
}

/// The standing of its store, which it says in one line when it is asked by `--standing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        /// Name of the run.
        run: String,
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
