//! What is known of an island, from caches alone.

use std::sync::Arc;
use std::time::Duration;

use api::island::{ComputeIsland, PlanPhase};
use api::run::TrainingRun;
use k8s_openapi::jiff::Timestamp;
use plan::request::RunRequest;

use super::cards;
use super::decide::Observed;
use crate::context::{Begun, Context};
use crate::ledger::Promise;
use crate::names::Key;
use crate::world::Rank;

/// How long all pods may take to run, where an island does not say it.
const START_DEADLINE: Duration = Duration::from_secs(600);

/// What is known of an island.
pub(crate) struct Seen {
    pub run_key: Key,
    pub run: Option<TrainingRun>,
    /// The run as the planner takes it.
    pub request: Option<RunRequest>,
    pub begun: Option<Arc<Begun>>,
    pub promise: Option<Promise>,
    pub ranks: Vec<Rank>,
    /// Whether somebody else looks after the run.
    pub elsewhere: bool,
    rests: Option<(&'static str, String)>,
    lost: Option<String>,
    generation: i64,
    start_deadline: Duration,
}

pub(super) fn observe(context: &Context, key: &Key, island: &ComputeIsland) -> Seen {
    let run_key = Key::new(key.namespace.as_str(), island.spec.run_ref.name.as_str());
    let found = context.run(&run_key);
    let run = found.as_ref().and_then(|run| run.0.as_ref().ok());
    let run = run.filter(|run| run.metadata.deletion_timestamp.is_none()).cloned();
    let request = run.as_ref().map(crate::run::request);
    let promise = context.ledger().look(key, island);
    let (ranks, lost) = {
        let world = context.world();
        let lost = promise.as_ref().and_then(|promise| cards::lost(&world, &promise.plan));
        (world.ranks(key), lost)
    };
    let managed_by = run.as_ref().and_then(|run| run.spec.managed_by.as_deref());
    let phase = promise.as_ref().map(|promise| promise.plan.phase);
    let rests = rests(island, run.as_ref(), phase).or_else(|| match &request {
        Some(Err(problem)) if phase.is_none() => Some(("InvalidRun", problem.clone())),
        _ => None,
    });
    let start_deadline = island.spec.start_deadline.as_ref().and_then(|text| text.parse().ok());
    Seen {
        elsewhere: managed_by.is_some_and(|manager| manager != crate::run::MANAGED_BY),
        begun: context.begun().get(&run_key).cloned(),
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

/// What keeps an island from running.
fn rests(
    island: &ComputeIsland,
    run: Option<&TrainingRun>,
    phase: Option<PlanPhase>,
) -> Option<(&'static str, String)> {
    let name = &island.spec.run_ref.name;
    let Some(run) = run else {
        let why = format!("there is no TrainingRun {name} in this namespace: apply one");
        return Some(("RunNotFound", why));
    };
    if island.spec.suspend {
        return Some(("Suspended", "spec.suspend is true".into()));
    }
    if run.spec.suspend {
        return Some(("RunSuspended", format!("spec.suspend of TrainingRun {name} is true")));
    }
    let ends = matches!(phase, Some(PlanPhase::Starting | PlanPhase::Running | PlanPhase::Done));
    if crate::run::is_complete(run) && !ends {
        return Some(("RunComplete", format!("TrainingRun {name} is complete")));
    }
    None
}

impl Seen {
    /// What is decided over.
    pub(super) fn observed(&self, now: Timestamp) -> Observed<'_> {
        let plan = self.promise.as_ref().map(|promise| &promise.plan);
        Observed {
            rests: self.rests.clone(),
            generation: self.generation,
            plan,
            ranks: &self.ranks,
            world: plan.map_or(0, |plan| plan.ranks.len()),
            lost: self.lost.clone(),
            begun: self.begun.is_some(),
            start_deadline: self.start_deadline,
            now,
        }
    }
}
