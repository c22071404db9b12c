//! The controller of `ComputeIsland`s.
//!
//! observe ([`observe`]) → decide ([`decide`]) → plan ([`place`]) → build ([`build`]) → apply
//! ([`apply`]) → status ([`status`]). A plan goes through phases, each written to status before the
//! next begins, so that an operator that is killed at any place goes on from there:
//!
//! ```text
//! Planned ─> Starting ─> Running ─> Done
//!    ^           └──┬───────┘
//!    └─ Waiting <─ Stopping          Failed: waits for another spec
//! ```

mod apply;
mod build;
mod cards;
mod decide;
mod observe;
mod place;
mod planned;
mod status;

use std::sync::Arc;
use std::time::Duration;

use api::island::{ComputeIsland, ComputeIslandStatus, PlanPhase, PlanStatus};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;

pub(crate) use build::{owners, secrets};
pub(crate) use cards::{lost, selects};
pub(crate) use place::key_of;

use self::decide::{Decision, Step, decide};
use self::observe::Seen;
use self::place::Placed;
use self::status::{Facts, Refused};
use crate::conditions::seconds;
use crate::context::Context;
use crate::error::Error;
use crate::fault;
use crate::ledger::Promise;
use crate::names::Key;
use crate::write::{self, tell, warn};

/// A reconcile that changed something is followed by the next one at once.
const AT_ONCE: Duration = Duration::from_millis(20);
/// How long an island lets older ones be planned first.
const QUEUED: Duration = Duration::from_secs(30);
/// Pods that were refused are tried again after so long.
const REFUSED: Duration = Duration::from_secs(15);
/// However quiet it is, an island is looked at so often.
const SOMETIMES: Duration = Duration::from_secs(60);

/// What a step made of an island.
struct Outcome {
    plan: Option<PlanStatus>,
    refused: Option<Refused>,
    devices: Option<Vec<api::island::FoundDevice>>,
    /// What is said of it, where that is not the decision.
    decision: Decision,
    next: Duration,
}

/// Makes the cluster look as an island says.
pub(crate) async fn reconcile(island: &ComputeIsland, context: &Context) -> Result<Action, Error> {
    let now = Timestamp::now();
    let key = key_of(island);
    if island.metadata.deletion_timestamp.is_some() {
        // Its objects are deleted with it, by their owner references.
        context.ledger().forget(&key);
        return Ok(Action::await_change());
    }
    if !context.is_primed() {
        return Ok(Action::requeue(Duration::from_secs(1)));
    }
    let seen = observe::observe(context, &key, island, now);
    if seen.elsewhere {
        return Ok(Action::await_change());
    }
    apply::forget_pods(context, &key, &seen.overdue).await?;
    let decision = decide(&seen.observed(now));
    tracing::debug!(%key, step = ?decision.step, why = decision.why, "An island was looked at.");
    let outcome = act(context, island, &seen, decision, now).await?;
    let view = context.views().get(&seen.run_key).cloned();
    let status = status::status(Facts {
        island,
        plan: outcome.plan,
        decision: &outcome.decision,
        refused: outcome.refused.as_ref(),
        devices: outcome.devices,
        view: view.as_deref(),
        speed: context.speeds().of_island(&seen.run_key, &key.name),
        now,
    });
    remember(context, &key, island, status).await?;
    Ok(Action::requeue(outcome.next))
}

async fn act(
    context: &Context,
    island: &ComputeIsland,
    seen: &Seen,
    decision: Decision,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let key = &key_of(island);
    let plan = seen.promise.as_ref().map(|promise| promise.plan.clone());
    let outcome =
        |plan, decision, next| Outcome { plan, refused: None, devices: None, decision, next };
    let step = decision.step.clone();
    Ok(match (step, plan) {
        (Step::Plan, plan) => plan_or_refuse(context, island, seen, (plan, decision), now).await?,
        (Step::Keep(None), Some(plan)) if plan.phase == PlanPhase::Running => {
            grow(context, island, seen, (plan, decision), now).await?
        }
        (Step::Keep(wait), plan) => {
            let next = wait.map_or(SOMETIMES, |wait| wait.clamp(AT_ONCE, SOMETIMES));
            outcome(plan, decision, next)
        }
        (Step::Clear(pods), plan) => {
            apply::delete_pods(context, key, &pods).await?;
            outcome(plan, decision, SOMETIMES)
        }
        (Step::Rest, Some(plan)) => outcome(Some(rested(plan, now)), decision, SOMETIMES),
        (Step::Start, Some(plan)) => {
            match apply::start(context, island, seen, plan.clone(), now).await {
                Ok(Some(plan)) => outcome(Some(plan), decision, AT_ONCE),
                // What was planned is not known any more: plan again, the epoch goes on.
                Ok(None) => outcome(Some(rested(plan, now)), decision, AT_ONCE),
                Err(error) => {
                    let decision = refused(context, island, ("ObjectsRefused", error)).await?;
                    outcome(Some(plan), decision, REFUSED)
                }
            }
        }
        (Step::Create(ranks), Some(plan)) => {
            match apply::create(context, key, island, seen, &ranks).await {
                Ok(true) => outcome(Some(plan), decision, Duration::from_secs(5)),
                Ok(false) => outcome(Some(broken(plan, false, now)), decision, AT_ONCE),
                Err(error) => {
                    let decision = refused(context, island, ("PodsRefused", error)).await?;
                    outcome(Some(plan), decision, REFUSED)
                }
            }
        }
        (Step::Enter(_) | Step::Break { .. }, Some(plan)) => {
            let before = plan.phase;
            let plan = turned(&decision, plan, now);
            if plan.phase != before {
                say(context, island, &plan, &decision).await;
            }
            outcome(Some(plan), decision, AT_ONCE)
        }
        // Without a plan there is nothing to start, make or break.
        (_, None) => outcome(None, decision, AT_ONCE),
    })
}

/// Tells of what the API server refused; other errors are tried again.
async fn refused(
    context: &Context,
    island: &ComputeIsland,
    (reason, error): (&'static str, Error),
) -> Result<Decision, Error> {
    if !error.is_refusal() {
        return Err(error);
    }
    let why = error.sentence();
    warn(context, island, reason, &why).await;
    Ok(Decision { step: Step::Keep(None), reason, why })
}

/// The plan in the phase that was decided on.
fn turned(decision: &Decision, plan: PlanStatus, now: Timestamp) -> PlanStatus {
    match decision.step {
        Step::Enter(phase) => {
            // It has run for a while.
            let proven = (plan.phase, phase) == (PlanPhase::Running, PlanPhase::Running);
            let failures = if proven { 0 } else { plan.failures };
            PlanStatus { failures, ..entered(plan, phase, now) }
        }
        Step::Break { for_good } => {
            // Other wishes are no failure. Lost cards count, so that whoever deletes pods again and
            // again does not make epochs without end.
            let blameless = decision.reason == "SpecChanged";
            let failures = if blameless { 0 } else { plan.failures.saturating_add(1) };
            PlanStatus { failures, ..broken(plan, for_good, now) }
        }
        _ => plan,
    }
}

fn rested(plan: PlanStatus, now: Timestamp) -> PlanStatus {
    PlanStatus { failures: 0, ..entered(plan, PlanPhase::Waiting, now) }
}

fn entered(plan: PlanStatus, phase: PlanPhase, now: Timestamp) -> PlanStatus {
    PlanStatus { phase, since: seconds(now), ..plan }
}

fn broken(plan: PlanStatus, for_good: bool, now: Timestamp) -> PlanStatus {
    let phase = if for_good { PlanPhase::Failed } else { PlanPhase::Stopping };
    entered(plan, phase, now)
}

/// Plans an island, whose cards then are its own; a running plan goes on where it is refused.
async fn plan_or_refuse(
    context: &Context,
    island: &ComputeIsland,
    seen: &Seen,
    (before, decision): (Option<PlanStatus>, Decision),
    now: Timestamp,
) -> Result<Outcome, Error> {
    let key = &key_of(island);
    let runs = before.as_ref().is_some_and(|plan| plan.phase == PlanPhase::Running);
    let _turn = context.planning.lock().await;
    let older = place::older(context, key, island);
    // One that is never looked at, for whatever reason, is not waited for without end.
    let older = older.filter(|_| context.ledger().queued(key) < QUEUED);
    if let Some(older) = older {
        let why = format!("island {older} is older and is planned first");
        let decision = Decision { step: Step::Plan, reason: "Queued", why };
        let next = Duration::from_millis(200);
        return Ok(Outcome { plan: before, refused: None, devices: None, decision, next });
    }
    match place::place(context, key, island, seen, now).await {
        Ok(Placed { devices, .. }) if runs => {
            // It fits: the ranks end, and it is planned again when they are gone.
            let plan = before.map(|plan| PlanStatus { failures: 0, ..broken(plan, false, now) });
            Ok(Outcome { plan, refused: None, devices: Some(devices), decision, next: AT_ONCE })
        }
        Ok(Placed { plan, devices }) => {
            let index = context.ledger().place(&seen.run_key, key);
            let last =
                before.map_or((seen.first_epoch(island), 0), |plan| (plan.epoch, plan.failures));
            let generation = island.metadata.generation.unwrap_or_default();
            let generations = (generation, seen.run_generation);
            let status = planned::status(&plan, last, generations, index, now);
            let spec = Some(Arc::new(plan.spec));
            let promise = Promise { run: seen.run_key.clone(), plan: status.clone(), spec };
            {
                let mut ledger = context.ledger();
                // It may have been deleted while it was planned.
                if context.has_island(key, island.metadata.uid.as_deref()) {
                    ledger.promise(key, promise);
                }
                ledger.tried(key, false);
            }
            say(context, island, &status, &decision).await;
            context.run_again(&seen.run_key);
            let (plan, devices) = (Some(status), Some(devices));
            Ok(Outcome { plan, refused: None, devices, decision, next: AT_ONCE })
        }
        Err((refused, devices)) => {
            context.ledger().tried(key, refused.for_cards);
            warn(context, island, refused.reason, &refused.why).await;
            context.run_again(&seen.run_key);
            let (refused, devices) = (Some(refused), Some(devices));
            Ok(Outcome { plan: before, refused, devices, decision, next: SOMETIMES })
        }
    }
}

/// Leaves a running plan for one that is so much better that moving pays.
async fn grow(
    context: &Context,
    island: &ComputeIsland,
    seen: &Seen,
    (plan, decision): (PlanStatus, Decision),
    now: Timestamp,
) -> Result<Outcome, Error> {
    let key = &key_of(island);
    let keep = |plan, decision| Outcome {
        plan: Some(plan),
        refused: None,
        devices: None,
        decision,
        next: SOMETIMES,
    };
    let (more, settles) = place::has_more(context, key, island, &plan, now);
    let next = settles.map_or(SOMETIMES, |wait| wait.clamp(AT_ONCE, SOMETIMES));
    let keep = |plan, decision| Outcome { next, ..keep(plan, decision) };
    if !more {
        return Ok(keep(plan, decision));
    }
    let _turn = context.planning.lock().await;
    let Ok(better) = place::place(context, key, island, seen, now).await else {
        return Ok(keep(plan, decision));
    };
    let weighed = place::weigh(&plan, &better.plan, seen);
    if !weighed.moves() {
        return Ok(keep(plan, decision));
    }
    let decision = Decision {
        step: Step::Break { for_good: false },
        reason: "BetterPlan",
        why: weighed.to_string(),
    };
    let plan = PlanStatus { failures: 0, ..broken(plan, false, now) };
    say(context, island, &plan, &decision).await;
    Ok(Outcome { next: AT_ONCE, ..keep(plan, decision) })
}

/// Tells of a phase that an island comes to.
async fn say(context: &Context, island: &ComputeIsland, plan: &PlanStatus, decision: &Decision) {
    let bad = matches!(plan.phase, PlanPhase::Stopping | PlanPhase::Failed);
    let note = format!("{:?}, epoch {}: {}", plan.phase, plan.epoch, decision.why);
    if bad {
        warn(context, island, decision.reason, &note).await;
    } else {
        tell(context, island, decision.reason, &note).await;
    }
}

/// Writes status where it changed, and remembers what was written.
async fn remember(
    context: &Context,
    key: &Key,
    island: &ComputeIsland,
    status: ComputeIslandStatus,
) -> Result<(), Error> {
    fault::point("island.status");
    if island.status.as_ref() != Some(&status) {
        let operation = "write an island's status";
        write::status::<ComputeIsland>(context, key, &status, operation).await?;
    }
    fault::point("island.remember");
    let freed = context.ledger().remember(key, status.plan);
    for waiting in freed {
        context.again(&waiting);
    }
    Ok(())
}
