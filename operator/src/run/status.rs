//! What status says of a run.

use api::island::{ComputeIsland, PlanPhase};
use api::run::{CheckpointStatus, TrainingRun, TrainingRunStatus};
use api::status::ConditionType;
use api::text::Percent;
use k8s_openapi::jiff::Timestamp;
use rounds::types::{Commit, Phase, RunView};

use super::reason::{Waits, Word};
use crate::conditions::{Said, conditions};
use crate::context::Begun;

/// What status is made of.
pub(super) struct Facts<'a> {
    pub run: &'a TrainingRun,
    pub islands: &'a [&'a ComputeIsland],
    pub begun: Option<&'a Begun>,
    /// Why it has not begun.
    pub waits: Option<&'a Waits>,
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
    // Once complete, whatever becomes of the coordinator.
    let complete =
        facts.view.is_some_and(|view| view.phase == Phase::Done) || super::is_complete(facts.run);
    let kind = ConditionType::Complete;
    vec![
        trained(facts, ready, complete),
        coordinated(facts),
        match complete {
            true => Said::yes(kind, &Word::AllTokens),
            false => Said::no(kind, &Word::TokensLeft),
        },
    ]
}

/// Whether the run trains.
fn trained(facts: &Facts<'_>, ready: usize, complete: bool) -> Said {
    let kind = ConditionType::Ready;
    match (facts.waits, facts.view) {
        (Some(waits), _) => Said::no(kind, waits),
        (None, _) if facts.run.spec.suspend => Said::no(kind, &Word::Suspended),
        (None, Some(_)) if complete => Said::yes(kind, &Word::Complete),
        (None, Some(view)) if view.phase == Phase::Waiting => {
            Said::no(kind, &Word::WaitingForIslands(&view.reason))
        }
        (None, Some(view)) => Said::yes(kind, &Word::Training(&view.reason)),
        (None, None) => Said::no(kind, &Word::Starting { ready, all: facts.islands.len() }),
    }
}

fn coordinated(facts: &Facts<'_>) -> Said {
    let kind = ConditionType::Coordinated;
    match (&facts.silence, facts.view) {
        (Some(why), _) => Said::no(kind, &Word::NoAnswer(why)),
        (None, Some(_)) => Said::yes(kind, &Word::Answers),
        (None, None) => Said::unknown(kind, &Word::NotBegun),
    }
}

#[cfg(test)]
mod tests {
    use api::status::Condition;

    use super::*;
    use crate::island::examples;

    #[test]
    fn times_are_said_in_two_units() {
        let table = [(5, "5s"), (65, "1m5s"), (7265, "2h1m"), (90_000, "1d1h")];
        for (seconds, text) in table {
            assert_eq!(words(seconds), text);
        }
    }

    /// The conditions, such as `Ready=True:Training`.
    fn said(waits: Option<&Waits>, view: Option<&RunView>, silence: Option<&str>) -> Vec<String> {
        let run = examples::run();
        let status = status(Facts {
            run: &run,
            islands: &[],
            begun: None,
            waits,
            view,
            silence: silence.map(str::to_owned),
            speed: None,
            now: examples::at(0),
        });
        let short = |it: &Condition| format!("{}={:?}:{}", it.kind, it.status, it.reason);
        status.conditions.iter().map(short).collect()
    }

    #[test]
    fn conditions_say_whether_it_trains_is_coordinated_and_complete() {
        let view = |phase| RunView { phase, ..RunView::default() };
        let (done, trains) = (view(Phase::Done), view(Phase::Training));
        let waiting = view(Phase::Waiting);
        let (answers, left) = ("Coordinated=True:Answers", "Complete=False:TokensLeft");
        let silent = "Coordinated=False:NoAnswer";
        let replaced = Waits::Replacing;
        let table = [
            ((None, None, None), ["Ready=False:Starting", "Coordinated=Unknown:NotBegun", left]),
            (
                (Some(&replaced), None, None),
                ["Ready=False:Replacing", "Coordinated=Unknown:NotBegun", left],
            ),
            ((None, Some(&waiting), None), ["Ready=False:WaitingForIslands", answers, left]),
            ((None, Some(&trains), None), ["Ready=True:Training", answers, left]),
            ((None, Some(&trains), Some("no answer")), ["Ready=True:Training", silent, left]),
            (
                (None, Some(&done), Some("gone")),
                ["Ready=True:Complete", silent, "Complete=True:AllTokens"],
            ),
        ];
        for ((waits, view, silence), expected) in table {
            assert_eq!(said(waits, view, silence), expected, "{waits:?} {view:?} {silence:?}");
        }
    }
}
