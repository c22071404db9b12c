//! The steps of a plan that stands: its epoch starts, its pods are made, its phase changes.

use std::sync::Arc;
use std::time::Duration;

use api::island::PlanPhase;

use super::decide::{Decision, Step};
use super::reason::Reason;
use super::standing::Plan;
use super::{AT_ONCE, Look, Outcome, apply, build, planned};
use crate::conditions::AsReason as _;
use crate::error::Error;
use crate::ledger::{Known, Promise};
use crate::write::{damaged, tell, warn};

/// Pods that were refused are tried again after so long.
const REFUSED: Duration = Duration::from_secs(15);
/// Pods that were made are looked at after so long, whatever is heard of them.
const MADE: Duration = Duration::from_secs(5);

/// Begins the next epoch of a plan.
pub(super) async fn start(
    look: &Look<'_>,
    plan: Plan,
    decision: Decision,
) -> Result<Outcome, Error> {
    let Look { context, island, seen, now, .. } = *look;
    let (Some(run), Some(begun)) = (&seen.run, &seen.begun) else {
        return Ok(Outcome::new(Some(plan), decision, AT_ONCE));
    };
    // What the run says now is mounted: it has to be allowed still. Where what was planned is not
    // known, an operator that is gone planned it.
    let known = seen.promise.as_ref().filter(|_| seen.request.is_some());
    let Some(layout) = known.and_then(|promise| promise.known.layout()) else {
        // Plan again: the epoch goes on.
        return Ok(Outcome::new(Some(plan.rested(now)), decision, AT_ONCE));
    };
    let emulate = context.args.emulate;
    let (next, layout) = planned::next_epoch(plan.clone(), layout, &begun.record, emulate, now);
    let told = build::told(run, layout, &begun.record, &begun.coordinator);
    let objects = build::objects(island, run, &told, &context.args);
    let objects = objects.map_err(damaged("an epoch's objects"))?;
    if let Err(error) = apply::begin(context, island, &objects).await {
        let reason = Reason::ObjectsRefused(refused(&error).ok_or(error)?);
        return Ok(refuse(look, plan, reason).await);
    }
    let mut ledger = context.ledger();
    if let Some(promise) = ledger.get(look.key) {
        let known = Known::Told(Arc::new(told));
        ledger.promise(look.key, Promise { plan: next.clone(), known, ..promise });
    }
    Ok(Outcome::new(Some(next), decision, AT_ONCE))
}

/// Makes the pods of these ranks.
pub(super) async fn create(
    look: &Look<'_>,
    plan: Plan,
    decision: Decision,
    ranks: &[u32],
) -> Result<Outcome, Error> {
    let Look { context, key, island, seen, now, .. } = *look;
    let known = seen.promise.as_ref().filter(|_| seen.request.is_some());
    let told = match known {
        Some(promise) => apply::told(context, key, &plan, &promise.known).await,
        None => Ok(None),
    };
    let made = match (told, &seen.run) {
        (Ok(Some(told)), Some(run)) => {
            let objects = build::objects(island, run, &told, &context.args);
            let objects = objects.map_err(damaged("an epoch's objects"))?;
            apply::pods(context, key, &objects, ranks).await
        }
        // What they are told is not known any more: the epoch is given up.
        (Ok(_), _) => return Ok(Outcome::new(Some(plan.broken(false, now)), decision, AT_ONCE)),
        (Err(error), _) => Err(error),
    };
    match made {
        Ok(()) => Ok(Outcome::new(Some(plan), decision, MADE)),
        Err(error) => {
            let reason = Reason::PodsRefused(refused(&error).ok_or(error)?);
            Ok(refuse(look, plan, reason).await)
        }
    }
}

/// Has the plan be in the phase that was decided on.
pub(super) async fn turn(look: &Look<'_>, plan: Plan, decision: Decision) -> Outcome {
    let before = plan.phase;
    let plan = plan.turned(&decision, look.now);
    if plan.phase != before {
        say(look, &plan, &decision.reason).await;
    }
    Outcome::new(Some(plan), decision, AT_ONCE)
}

/// What the API server said where it refused something; other errors are tried again.
fn refused(error: &Error) -> Option<String> {
    error.is_refusal().then(|| error.sentence())
}

/// Keeps a plan as it is, and tells of what the API server refused.
async fn refuse(look: &Look<'_>, plan: Plan, reason: Reason) -> Outcome {
    warn(look.context, look.island, reason.as_str(), &reason.to_string()).await;
    Outcome::new(Some(plan), Decision { step: Step::Keep(None), reason }, REFUSED)
}

/// Tells of a phase that an island comes to.
pub(super) async fn say(look: &Look<'_>, plan: &Plan, reason: &Reason) {
    let bad = matches!(plan.phase, PlanPhase::Stopping | PlanPhase::Failed);
    let note = format!("{:?}, epoch {}: {reason}", plan.phase, plan.epoch);
    if bad {
        warn(look.context, look.island, reason.as_str(), &note).await;
    } else {
        tell(look.context, look.island, reason.as_str(), &note).await;
    }
}
