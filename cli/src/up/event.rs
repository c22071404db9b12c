//! The record of a run: one [`Record`] per line in `events.jsonl`, and on standard output with
//! `--json`. The workers' own events, with the rank that they come from, are a part of it.

use std::fmt;

use contract::event::WorkerEvent;
use serde::{Deserialize, Serialize};

use super::summary::Summary;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Seconds since the Unix epoch, by a clock that people may set.
    pub at: f64,
    /// Seconds since the session began, by a clock that only goes on; absent in what older versions
    /// wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elapsed: Option<f64>,
    /// The event.
    #[serde(flatten)]
    pub body: Body,
}

impl Record {
    /// Seconds of the clock that durations within a session are taken from.
    pub fn clock(&self) -> f64 {
        self.elapsed.unwrap_or(self.at)
    }
}

/// An event, and where it was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Body {
    /// A rank said it.
    Rank(RankEvent),
    /// `heteroloco up` saw or did it.
    Up(UpEvent),
}

/// An event of a rank, and whose it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankEvent {
    /// Name of the island.
    pub island: String,
    /// The rank within the island.
    pub rank: u32,
    /// Epoch of the island's plan.
    pub epoch: u64,
    /// The event that the rank reported.
    #[serde(flatten)]
    pub event: WorkerEvent,
}

/// An event that `heteroloco up` itself saw or caused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "event")]
pub enum UpEvent {
    /// A session begins: the run is started, or goes on.
    Begin(Begin),
    /// No checkpoint was made yet: the run begins again at round 0, with an empty store.
    BeganAgain {
        /// Rounds that are lost.
        rounds: u64,
        /// Their tokens.
        tokens: u64,
        /// The place where the coordinator's old store is kept, where there was one.
        store: Option<String>,
    },
    /// A checkpoint takes the place of the coordinator's store, which was lost.
    Adopted {
        /// The round that the run goes on from.
        round: u64,
        /// Tokens of all rounds before.
        tokens: u64,
        /// The cost of that, for people.
        cost: String,
        /// The place where the coordinator's old store is kept, where there was one.
        store: Option<String>,
    },
    /// The coordinator serves.
    CoordinatorStarted {
        /// `http://host:port`.
        address: String,
    },
    /// The coordinator ended without being told to and will be started again.
    CoordinatorRestarting {
        /// How it ended.
        reason: String,
        /// Seconds until then.
        after: f64,
    },
    /// The ranks of an island were started.
    IslandStarted {
        /// Name of the island.
        island: String,
        /// Epoch of the plan that they run.
        epoch: u64,
    },
    /// The process of a rank ended.
    RankExited {
        /// Name of the island.
        island: String,
        /// The rank within the island.
        rank: u32,
        /// Epoch that it ran.
        epoch: u64,
        /// How it ended, with the last thing it said where it failed.
        exit: String,
    },
    /// An island broke and will be started again.
    IslandRestarting {
        /// Name of the island.
        island: String,
        /// Epoch that it will run.
        epoch: u64,
        /// The reason why it broke.
        reason: String,
        /// Seconds until then.
        after: f64,
    },
    /// An island broke too often, or would break again; the run goes on without it.
    IslandGivenUp {
        /// Name of the island.
        island: String,
        /// Why.
        reason: String,
    },
    /// Everything is told to end.
    Stopping {
        /// Why.
        reason: String,
    },
    /// Something that people should know.
    Warning {
        /// One sentence.
        message: String,
    },
    /// The session ended; nothing runs any more.
    End {
        /// How.
        outcome: Outcome,
        /// The summary of the run.
        summary: Box<Summary>,
    },
}

/// The aims of a session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begin {
    /// Name of the run.
    pub run: String,
    /// Whether it goes on from an earlier session.
    pub resumed: bool,
    /// Why the cards are emulated by CPU processes; absent where they are real.
    pub emulated: Option<String>,
    /// Tokens after which the run is done.
    pub tokens: u64,
    /// Rounds that this is expected to take.
    pub rounds: u64,
    /// Tokens that they are expected to make: whole rounds, so that there are some more than were
    /// asked for. Absent in what older versions wrote, as is what follows from the plan below.
    #[serde(default)]
    pub expected_tokens: Option<u64>,
    /// Seconds of a round, by its plan on this machine.
    #[serde(default)]
    pub round_seconds: Option<f64>,
    /// Seconds until the run has its tokens, by its plan on this machine.
    #[serde(default)]
    pub expected_seconds: Option<f64>,
    /// Parameters of the model.
    pub parameters: u64,
    /// The islands.
    pub islands: Vec<IslandBegin>,
}

/// The share of one island in a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IslandBegin {
    /// Name of the island.
    pub name: String,
    /// Its cards, for people: `2 × NVIDIA-GeForce-RTX-4090`.
    pub cards: String,
    /// H: inner steps of a round.
    pub inner_steps: u32,
    /// Seconds of an inner step, by its plan; absent in what older versions wrote.
    #[serde(default)]
    pub step_seconds: Option<f64>,
    /// The correction of that by measured steps.
    #[serde(default)]
    pub correction: Option<f64>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "reason")]
pub enum Outcome {
    /// The ranks ended well by themselves.
    Finished,
    /// The user stopped it; `--resume` goes on.
    Stopped,
    /// A configuration that will never work.
    Refused(String),
    /// Nothing was left that could go on.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => write!(f, "finished"),
            Self::Stopped => write!(f, "stopped"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

#[cfg(test)]
mod laws;

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(body: Body) -> Record {
        let text = serde_json::to_string(&Record { at: 1.5, elapsed: Some(0.5), body }).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_line_of_a_rank_is_its_own_event_with_the_rank_beside_it() {
        let event = WorkerEvent::Checkpoint { round: 3, path: "c".into() };
        let body = Body::Rank(RankEvent { island: "a".into(), rank: 1, epoch: 2, event });
        let record = Record { at: 0.0, elapsed: None, body: body.clone() };
        let value: serde_json::Value = serde_json::to_value(&record).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"at": 0.0, "island": "a", "rank": 1, "epoch": 2,
                "event": "checkpoint", "round": 3, "path": "c"})
        );
        assert_eq!(round_trip(body.clone()).body, body);
    }

    #[test]
    fn an_exit_is_not_mistaken_for_what_the_rank_said() {
        let exit = UpEvent::RankExited {
            island: "a".into(),
            rank: 0,
            epoch: 1,
            exit: "killed by signal 9".into(),
        };
        assert_eq!(round_trip(Body::Up(exit.clone())).body, Body::Up(exit));
    }
}
