//! Events that a rank reports to whoever started it: one JSON object per line on standard output.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// One line of a worker's standard output. Only an island's leader reports steps and rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "event")]
pub enum WorkerEvent {
    /// The rank is up; addresses with the ports that were taken.
    Listening {
        /// `host:port` of the exchange.
        address: String,
        /// `host:port` of `/metrics`, where served.
        metrics: Option<String>,
    },
    /// The state that the island is in now.
    State {
        /// The state.
        state: IslandState,
        /// The round it concerns.
        round: u64,
        /// Why, for people; may be empty.
        reason: String,
    },
    /// An inner step was made.
    Step {
        /// The round.
        round: u64,
        /// Steps made in this round, from 1.
        step: u32,
        /// Steps of the round.
        steps: u32,
        /// Mean loss of the step, nats per token.
        #[serde(deserialize_with = "null_is_nan")]
        loss: f32,
        /// Tokens of the step, all ranks.
        tokens: u64,
        /// Seconds of the step.
        seconds: f64,
        /// Its loss or gradient was not finite: it changed nothing.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        skipped: bool,
        /// Share of the cards' peak that it reached (model FLOPs utilisation), 0 to 1; absent where
        /// cards are emulated or not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mfu: Option<f64>,
    },
    /// The island applied a committed round.
    Round {
        /// The committed round.
        round: u64,
        /// Tokens of the run, this round included.
        tokens: u64,
        /// Islands in the committed set.
        islands: u32,
        /// Weighted mean training loss of the set.
        #[serde(deserialize_with = "null_is_nan")]
        loss: f32,
        /// Hash of θ after the round, hexadecimal.
        theta_hash: String,
        /// Whether this island's own contribution is in the set: one that was late or dropped is
        /// not, whatever it cost. What older versions wrote says nothing of it.
        #[serde(default = "yes")]
        contributed: bool,
        /// Bytes of this island's own contribution.
        contribution_bytes: u64,
        /// Values kept in this island's own contribution.
        contribution_values: u64,
        /// Bytes that left this island's processes for other islands in this round.
        bytes_sent: u64,
        /// Bytes that came from other islands in this round.
        bytes_received: u64,
        /// Seconds spent in inner steps.
        compute_seconds: f64,
        /// Seconds spent compressing, fetching, aggregating.
        exchange_seconds: f64,
        /// Seconds spent waiting for other islands.
        waiting_seconds: f64,
    },
    /// Held-out loss of θ at the start of a round; of an island with compressed boundaries, of θ as
    /// its subspace shows it.
    Evaluation {
        /// The round.
        round: u64,
        /// Nats per token.
        #[serde(deserialize_with = "null_is_nan")]
        heldout_loss: f64,
    },
    /// A checkpoint is complete.
    Checkpoint {
        /// The round it resumes at.
        round: u64,
        /// Its folder.
        path: String,
    },
    /// Traffic from this rank's stages to their neighbours in a round.
    Boundary {
        /// The round.
        round: u64,
        /// Bytes of activations and their gradients.
        bytes_sent: u64,
    },
    /// The most memory that a device has held so far, after a round.
    Memory {
        /// Index among the rank's devices; a rank's CPU devices are one.
        device: u32,
        /// Bytes measured.
        peak_bytes: u64,
        /// Bytes that the plan expects.
        planned_bytes: u64,
    },
    /// Something that people should know and that ends nothing.
    Warning {
        /// One sentence.
        message: String,
    },
    /// The rank ends well.
    Finished {
        /// Why.
        ending: Ending,
    },
    /// The rank ends with an error.
    Failed {
        /// The whole chain of causes.
        error: String,
    },
}

/// Why a rank ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// The run has its tokens.
    Complete,
    /// The run got its tokens while this island was away.
    Missed,
    /// It was asked to stop, for example by SIGTERM.
    Stopped,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Complete => "the run is complete",
            Ending::Missed => "the run ended while this island was away",
            Ending::Stopped => "asked to stop",
        })
    }
}

fn yes() -> bool {
    true
}

/// JSON has no NaN: what diverged is written as null.
fn null_is_nan<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + From<f32>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(|| f32::NAN.into()))
}

/// States of an island on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IslandState {
    /// Building the model, meeting its ranks.
    Starting,
    /// Fetching θ from others.
    Syncing,
    /// Inner steps.
    Training,
    /// Compressing, fetching, applying.
    Exchanging,
    /// Waiting for other islands.
    Waiting,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_is_no_number_survives_its_line() {
        let event = WorkerEvent::Evaluation { round: 3, heldout_loss: f64::NAN };
        let line = serde_json::to_string(&event).expect("plain data");
        let again: WorkerEvent = serde_json::from_str(&line).expect("an event");
        let WorkerEvent::Evaluation { heldout_loss, .. } = again else { panic!("{again:?}") };
        assert!(heldout_loss.is_nan());
    }
}
