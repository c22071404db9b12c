//! What status says of a run.

use api::island::{ComputeIsland, PlanPhase};
use api::run::{CheckpointStatus, TrainingRun, TrainingRunStatus};
use api::text::Percent;
use k8s_openapi::jiff::Timestamp;
use rounds::types::{Commit, Phase, RunView};

use crate::conditions::{Said, conditions};
use crate::context::Begun;

/// What status is made of.
pub(super) struct Facts<'a> {
    pub run: &'a TrainingRun,
    pub islands: &'a [&'a ComputeIsland],
    pub begun: Option<&'a Begun>,
    /// Why it has not begun.
    pub waits: Option<(&'static str, String)>,
    pub view: Option<&'a RunView>,
    /// Why the coordinator does not answer.
    pub silence: Option<String>,
    /// Tokens a second that were measured.
    pub speed: Option<f64>,
    pub now: Timestamp,
}

/// The status that is to be written.
pub(super) fn status(facts: Facts<'_>) -> TrainingRunStatus {
    let before = facts.run.status.clone().unwrap_or_default();
    let generation = facts.run.metadata.generation;
    let ready = facts.islands.iter().filter(|island| trains(island)).count();
    let said = said(&facts, ready);
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let last = facts.view.and_then(|view| view.commits.last());
    let bytes = last.and_then(|commit| commit.set.iter().map(|own| own.bytes).max());
    let checkpoint = facts
        .view
        .and_then(|view| view.checkpoint.as_ref())
        .map(|kept| CheckpointStatus { round: signed(kept.round), island: kept.island.clone() });
    TrainingRunStatus {
        observed_generation: generation,
        conditions: conditions(&before.conditions, said, generation, facts.now),
        round: facts.view.map(|view| signed(view.round)).or(before.round),
        tokens: facts.view.map(|view| signed(view.tokens)).or(before.tokens),
        loss: last.and_then(loss).map(|loss| format!("{loss:.4}")).or(before.loss),
        islands: Some(format!("{ready}/{}", facts.islands.len())),
        bytes_per_round: bytes.map(Into::into).or(before.bytes_per_round),
        utilisation: utilisation(&facts).or(before.utilisation),
        eta: eta(&facts).or(before.eta),
        checkpoint: checkpoint.or(before.checkpoint),
    }
}

fn trains(island: &ComputeIsland) -> bool {
    let plan = island.status.as_ref().and_then(|status| status.plan.as_ref());
    plan.is_some_and(|plan| matches!(plan.phase, PlanPhase::Running | PlanPhase::Done))
}

/// Training loss of a round, weighted by tokens.
fn loss(commit: &Commit) -> Option<f64> {
    let tokens: u64 = commit.set.iter().map(|own| own.tokens).sum();
    let weighted = commit.set.iter().map(|own| f64::from(own.loss) * own.tokens as f64);
    let loss = weighted.sum::<f64>() / tokens as f64;
    loss.is_finite().then_some(loss)
}

/// Time that is left at the speed that was measured.
fn eta(facts: &Facts<'_>) -> Option<String> {
    let (view, begun) = (facts.view?, facts.begun?);
    if view.phase == Phase::Done {
        return Some("0s".into());
    }
    let left = begun.record.run.tokens.saturating_sub(view.tokens);
    Some(words((left as f64 / facts.speed?) as u64))
}

/// The measured speed as a share of what the plans of the islands that train promise: what is left
/// of them with exchanges and waiting.
fn utilisation(facts: &Facts<'_>) -> Option<Percent> {
    let plans = facts
        .islands
        .iter()
        .filter(|island| trains(island))
        .filter_map(|island| island.status.as_ref().and_then(|status| status.plan.as_ref()));
    let planned: i64 = plans.map(|plan| plan.tokens_per_second).sum();
    let share = 100.0 * facts.speed? / planned as f64;
    share.is_finite().then(|| Percent(format!("{:.0}%", share.clamp(0.0, 100.0))))
}

/// A time in its two largest units.
fn words(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{seconds}s"),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

fn said(facts: &Facts<'_>, ready: usize) -> Vec<Said> {
    let all = facts.islands.len();
    // Once complete, whatever becomes of the coordinator.
    let complete =
        facts.view.is_some_and(|view| view.phase == Phase::Done) || super::is_complete(facts.run);
    let mut said = Vec::new();
    said.push(match (&facts.waits, facts.view) {
        (Some((reason, why)), _) => Said::no("Ready", reason, why.as_str()),
        (None, _) if facts.run.spec.suspend => {
            Said::no("Ready", "Suspended", "spec.suspend is true")
        }
        (None, Some(_)) if complete => Said::yes("Ready", "Complete", "all tokens are trained on"),
        (None, Some(view)) if view.phase == Phase::Waiting => {
            Said::no("Ready", "WaitingForIslands", view.reason.as_str())
        }
        (None, Some(view)) => Said::yes("Ready", "Training", view.reason.as_str()),
        (None, None) => {
            let why = format!("{ready} of {all} islands run; the coordinator was not heard yet");
            Said::no("Ready", "Starting", why)
        }
    });
    said.push(match (&facts.silence, facts.view) {
        (Some(why), _) => Said::no("Coordinated", "NoAnswer", why.as_str()),
        (None, Some(_)) => Said::yes("Coordinated", "Answers", "the coordinator answers"),
        (None, None) => Said::unknown("Coordinated", "NotBegun", "the run has not begun"),
    });
    said.push(if complete {
        Said::yes("Complete", "AllTokens", "all tokens are trained on")
    } else {
        Said::no("Complete", "TokensLeft", "there are tokens left to train on")
    });
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_two_units() {
        let table =
            [(5, "5s"), (65, "1m5s"), (7265, "2h1m"), (90_000, "1d1h"), (u64::MAX / 86_400, "")];
        for (seconds, text) in &table[..4] {
            assert_eq!(words(*seconds), *text);
        }
    }
}
