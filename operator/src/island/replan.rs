//! The steps in which an island is planned: where it has no plan, and where it could have a better
//! one.

use std::sync::Arc;
use std::time::Duration;

use api::island::{FoundDevice, PlanPhase};
use plan::planner::IslandPlan;

use super::decide::{Decision, Step};
use super::place::{self, Placed};
use super::planned::{self, Origin};
use super::reason::{Reason, Refusal};
use super::standing::Plan;
use super::steps::say;
use super::{AT_ONCE, Look, Outcome, SOMETIMES};
use crate::conditions::AsReason as _;
use crate::ledger::{Known, Promise};
use crate::write::warn;

/// How long an island lets older ones be planned first.
const QUEUED: Duration = Duration::from_secs(30);
/// One that lets another be planned first is looked at again after so long.
const AFTER_OLDER: Duration = Duration::from_millis(200);

/// Plans an island, whose cards then are its own; a running plan goes on where it is refused.
pub(super) async fn plan_or_refuse(
    look: &Look<'_>,
    before: Option<Plan>,
    decision: Decision,
) -> Outcome {
    let Look { context, key, now, .. } = *look;
    let _turn = context.planning.lock().await;
    // One that is never looked at, for whatever reason, is not waited for without end.
    let older = place::older(look).filter(|_| context.ledger().queued(key) < QUEUED);
    if let Some(older) = older {
        let decision = Decision { step: Step::Plan, reason: Reason::OlderFirst(older) };
        return Outcome::new(before, decision, AFTER_OLDER);
    }
    match (place::place(look).await, before) {
        (Ok(Placed { devices, .. }), Some(running)) if running.phase == PlanPhase::Running => {
            // It fits: the ranks end, and it is planned again when they are gone.
            let plan = Some(running.left(now));
            Outcome { devices: Some(devices), ..Outcome::new(plan, decision, AT_ONCE) }
        }
        (Ok(Placed { plan, devices }), before) => {
            promise(look, before, (plan, devices), decision).await
        }
        (Err((refusal, devices)), before) => {
            refuse(look, before, (refusal, devices), decision).await
        }
    }
}

/// Has the cards of a plan be the island's.
async fn promise(
    look: &Look<'_>,
    before: Option<Plan>,
    (planned, devices): (IslandPlan, Vec<FoundDevice>),
    decision: Decision,
) -> Outcome {
    let Look { context, key, island, seen, now } = *look;
    let index = context.ledger().place(&seen.run_key, key);
    let origin = origin(look, before.as_ref(), index);
    let plan = planned::plan(&planned, origin, now);
    let known = Known::Planned(Arc::new(planned.spec));
    {
        let mut ledger = context.ledger();
        // It may have been deleted while it was planned.
        if context.has_island(key, island.metadata.uid.as_deref()) {
            let run = seen.run_key.clone();
            ledger.promise(key, Promise { run, plan: plan.clone(), known });
        }
        ledger.tried(key, false);
    }
    say(look, &plan, &decision.reason).await;
    context.run_again(&seen.run_key);
    Outcome { devices: Some(devices), ..Outcome::new(Some(plan), decision, AT_ONCE) }
}

/// What a new plan goes on from.
fn origin(look: &Look<'_>, before: Option<&Plan>, index: u32) -> Origin {
    let (epoch, failures) = match before {
        Some(plan) => (plan.epoch, plan.failures),
        None => (look.seen.first_epoch(look.island), 0),
    };
    let generation = look.island.metadata.generation.unwrap_or_default();
    Origin { epoch, failures, generation, run_generation: look.seen.run_generation, index }
}

/// Tells why there is no plan, and remembers whether the island waits for cards.
async fn refuse(
    look: &Look<'_>,
    before: Option<Plan>,
    (refusal, devices): (Refusal, Vec<FoundDevice>),
    decision: Decision,
) -> Outcome {
    let context = look.context;
    context.ledger().tried(look.key, refusal.for_cards());
    warn(context, look.island, refusal.as_str(), &refusal.to_string()).await;
    context.run_again(&look.seen.run_key);
    Outcome {
        refused: Some(refusal),
        devices: Some(devices),
        ..Outcome::new(before, decision, SOMETIMES)
    }
}

/// Leaves a running plan for one that is so much better that moving pays.
pub(super) async fn grow(look: &Look<'_>, plan: Plan, decision: Decision) -> Outcome {
    let more = place::has_more(look, &plan);
    let next = more.settles.map_or(SOMETIMES, |wait| wait.clamp(AT_ONCE, SOMETIMES));
    match better(look, &plan, more.there).await {
        None => Outcome::new(Some(plan), decision, next),
        Some(reason) => {
            let plan = plan.left(look.now);
            say(look, &plan, &reason).await;
            let decision = Decision { step: Step::Break { for_good: false }, reason };
            Outcome::new(Some(plan), decision, AT_ONCE)
        }
    }
}

/// Why to leave a plan for one over the cards that there are now, where there are more.
async fn better(look: &Look<'_>, plan: &Plan, more: bool) -> Option<Reason> {
    if !more {
        return None;
    }
    let _turn = look.context.planning.lock().await;
    let better = place::place(look).await.ok()?;
    let weighed = place::weigh(plan, &better.plan, look.seen);
    weighed.moves().then_some(Reason::BetterPlan(weighed))
}
