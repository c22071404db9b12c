//! What is known of an island, from caches alone.

use std::sync::Arc;
use std::time::Duration;

use api::island::{ComputeIsland, PlanPhase};
use api::names::{Key, OPERATOR};
use api::run::TrainingRun;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use plan::request::RunRequest;

use super::cards;
use super::decide::Observed;
use super::reason::{Lost, Rest};
use crate::context::{Begun, Context};
use crate::inventory::{Rank, RankState};
use crate::ledger::Promise;

/// How long all pods may take to run, where an island does not say it.
const START_DEADLINE: Duration = Duration::from_secs(600);

/// A pod that is not gone so long after it should be is not waited for any more.
const OVERDUE: Duration = Duration::from_secs(60);

/// What is known of an island.
pub(crate) struct Seen {
    pub run_key: Key,
    pub run: Option<TrainingRun>,
    /// The run as the planner takes it.
    pub request: Option<RunRequest>,
    pub begun: Option<Arc<Begun>>,
    pub promise: Option<Promise>,
    /// Its pods, but for those that are overdue.
    pub ranks: Vec<Rank>,
    /// Pods that should be gone long since: their nodes do not answer. The coordinator refuses what
    /// may still run of them, by their epoch.
    pub overdue: Vec<String>,
    pub run_generation: i64,
    /// Whether somebody else looks after the run.
    pub elsewhere: bool,
    rests: Option<Rest>,
    lost: Option<Lost>,
    generation: i64,
    start_deadline: Duration,
    /// Whether other islands wait for cards.
    wanted: bool,
}

pub(super) fn observe(
    context: &Context,
    key: &Key,
    island: &ComputeIsland,
    now: Timestamp,
) -> Seen {
    let run_key = Key::new(key.namespace.as_str(), island.spec.run_ref.name.as_str());
    let found = context.run(&run_key);
    // One that was not understood is there all the same.
    let unread = found.as_ref().is_some_and(|run| run.0.is_err());
    let run = found.as_ref().and_then(|run| run.0.as_ref().ok());
    let run = run.filter(|run| run.metadata.deletion_timestamp.is_none()).cloned();
    let request = run.as_ref().map(|run| crate::run::request(run, &context.args));
    let promise = context.ledger().look(key, island, now);
    let (ranks, lost) = {
        let inventory = context.inventory();
        let lost =
            promise.as_ref().and_then(|promise| cards::lost(&inventory, &promise.plan.ranks));
        (inventory.ranks(key), lost)
    };
    let (overdue, ranks): (Vec<Rank>, Vec<Rank>) =
        ranks.into_iter().partition(|rank| is_overdue(rank, now));
    let managed_by = run.as_ref().and_then(|run| run.spec.managed_by.as_deref());
    let phase = promise.as_ref().map(|promise| promise.plan.phase);
    // One whose pods were not let in has not begun.
    let gated = !ranks.is_empty() && ranks.iter().all(|rank| rank.state == RankState::Gated);
    let phase = phase.filter(|phase| !(gated && *phase == PlanPhase::Starting));
    let rests = rests(island, run.as_ref(), phase).or_else(|| match &request {
        Some(Err(problem)) if phase.is_none() => Some(Rest::InvalidRun(problem.clone())),
        _ => None,
    });
    let uid = run.as_ref().and_then(|run| run.metadata.uid.clone());
    let begun = context.begun().get(&run_key).filter(|begun| begun.uid == uid).cloned();
    let wanted = context.ledger().waiting().any(|other| other != key);
    let start_deadline = island.spec.start_deadline.as_ref().and_then(|text| text.parse().ok());
    Seen {
        elsewhere: unread || managed_by.is_some_and(|manager| manager != OPERATOR),
        run_generation: run.as_ref().and_then(|run| run.metadata.generation).unwrap_or_default(),
        overdue: overdue.into_iter().map(|rank| rank.pod).collect(),
        begun,
        wanted,
        request: request.and_then(Result::ok),
        run_key,
        run,
        promise,
        ranks,
        rests,
        lost,
        generation: island.metadata.generation.unwrap_or_default(),
        start_deadline: start_deadline.unwrap_or(START_DEADLINE),
    }
}

/// Whether a pod should be gone long since.
fn is_overdue(rank: &Rank, now: Timestamp) -> bool {
    rank.leaving.is_some_and(|by| {
        Duration::try_from(now.duration_since(by)).is_ok_and(|late| late >= OVERDUE)
    })
}

/// What keeps an island from running.
fn rests(
    island: &ComputeIsland,
    run: Option<&TrainingRun>,
    phase: Option<PlanPhase>,
) -> Option<Rest> {
    let name = || island.spec.run_ref.name.clone();
    let Some(run) = run else { return Some(Rest::RunNotFound(name())) };
    if island.spec.suspend {
        return Some(Rest::Suspended);
    }
    if run.spec.suspend {
        return Some(Rest::RunSuspended(name()));
    }
    let ends = matches!(phase, Some(PlanPhase::Starting | PlanPhase::Running | PlanPhase::Done));
    (crate::run::is_complete(run) && !ends).then(|| Rest::RunComplete(name()))
}

impl Seen {
    /// The epoch before an island's first one. An island of this name may have been there before,
    /// and its epochs are refused; each of them took two seconds at least.
    pub(super) fn first_epoch(&self, island: &ComputeIsland) -> u64 {
        let second = |time: Option<&Time>| time.map(|time| time.0.as_second());
        let run =
            self.run.as_ref().and_then(|run| second(run.metadata.creation_timestamp.as_ref()));
        let own = second(island.metadata.creation_timestamp.as_ref());
        let later = own.zip(run).and_then(|(own, run)| u64::try_from(own.checked_sub(run)?).ok());
        later.unwrap_or(0) / 2
    }

    /// What is decided over.
    pub(super) fn observed(&self, now: Timestamp) -> Observed<'_> {
        let plan = self.promise.as_ref().map(|promise| &promise.plan);
        Observed {
            rests: self.rests.clone(),
            generation: self.generation,
            run_generation: self.run_generation,
            plan,
            ranks: &self.ranks,
            world: plan.map_or(0, |plan| plan.ranks.len()),
            lost: self.lost.clone(),
            begun: self.begun.is_some(),
            start_deadline: self.start_deadline,
            wanted: self.wanted,
            now,
        }
    }
}
