//! The controller of `ComputeIsland`s.
//!
//! observe ([`observe`]) → decide ([`decide`]) → plan ([`place`]) → build ([`build`]) → apply
//! ([`apply`]) → status ([`status`]). A plan ([`standing`]) goes through phases, each written to
//! status before the next begins, so that an operator that is killed at any place goes on from
//! there:
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
#[cfg(test)]
pub(crate) mod examples;
mod observe;
mod place;
mod planned;
mod reason;
mod replan;
mod standing;
mod status;
mod steps;

use std::time::Duration;

use api::island::{ComputeIsland, ComputeIslandStatus, FoundDevice, PlanPhase};
use api::names::Key;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;

pub(crate) use build::{owners, secrets};
pub(crate) use cards::{lost, selects};
pub(crate) use standing::{Plan, epoch};

use self::decide::{Decision, Step, decide};
use self::observe::Seen;
use self::reason::Refusal;
use self::status::Facts;
use crate::context::Context;
use crate::error::Error;
use crate::fault;
use crate::write;

/// A reconcile that changed something is followed by the next one at once.
const AT_ONCE: Duration = Duration::from_millis(20);
/// However quiet it is, an island is looked at so often.
const SOMETIMES: Duration = Duration::from_secs(60);

/// An island that is looked at, and what is known of it.
struct Look<'a> {
    context: &'a Context,
    key: &'a Key,
    island: &'a ComputeIsland,
    seen: &'a Seen,
    now: Timestamp,
}

/// What a step made of an island.
struct Outcome {
    plan: Option<Plan>,
    refused: Option<Refusal>,
    /// Cards that were looked at, where it was planned.
    devices: Option<Vec<FoundDevice>>,
    /// What is said of it: what was decided, or what came of that.
    decision: Decision,
    /// When it is looked at again.
    next: Duration,
}

impl Outcome {
    /// Of an island for which no cards were looked at.
    fn new(plan: Option<Plan>, decision: Decision, next: Duration) -> Self {
        Self { plan, refused: None, devices: None, decision, next }
    }
}

/// Makes the cluster look as an island says.
pub(crate) async fn reconcile(island: &ComputeIsland, context: &Context) -> Result<Action, Error> {
    let now = Timestamp::now();
    let key = Key::of(island);
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
    let (step, why) = (&decision.step, &decision.reason);
    tracing::debug!(%key, ?step, %why, "An island was looked at.");
    let look = Look { context, key: &key, island, seen: &seen, now };
    let outcome = act(&look, decision).await?;
    let view = context.views().get(&seen.run_key).cloned();
    let status = status::status(Facts {
        island,
        plan: outcome.plan.as_ref(),
        decision: &outcome.decision,
        refused: outcome.refused.as_ref(),
        devices: outcome.devices,
        view: view.as_deref(),
        speed: context.speeds().of_island(&seen.run_key, &key.name),
        now,
    });
    remember(&look, status, outcome.plan).await?;
    Ok(Action::requeue(outcome.next))
}

/// Does what was decided.
async fn act(look: &Look<'_>, decision: Decision) -> Result<Outcome, Error> {
    let plan = look.seen.promise.as_ref().map(|promise| promise.plan.clone());
    match (decision.step.clone(), plan) {
        (Step::Plan, plan) => Ok(replan::plan_or_refuse(look, plan, decision).await),
        (Step::Keep(None), Some(plan)) if plan.phase == PlanPhase::Running => {
            Ok(replan::grow(look, plan, decision).await)
        }
        (Step::Keep(wait), plan) => {
            let next = wait.map_or(SOMETIMES, |wait| wait.clamp(AT_ONCE, SOMETIMES));
            Ok(Outcome::new(plan, decision, next))
        }
        (Step::Clear(pods), plan) => {
            apply::delete_pods(look.context, look.key, &pods).await?;
            Ok(Outcome::new(plan, decision, SOMETIMES))
        }
        (Step::Rest, Some(plan)) => {
            Ok(Outcome::new(Some(plan.rested(look.now)), decision, SOMETIMES))
        }
        (Step::Start, Some(plan)) => steps::start(look, plan, decision).await,
        (Step::Create(ranks), Some(plan)) => steps::create(look, plan, decision, &ranks).await,
        (Step::Enter(_) | Step::Break { .. }, Some(plan)) => {
            Ok(steps::turn(look, plan, decision).await)
        }
        // Without a plan there is nothing to start, make or break.
        (_, None) => Ok(Outcome::new(None, decision, AT_ONCE)),
    }
}

/// Writes status where it changed, and remembers what was written.
async fn remember(
    look: &Look<'_>,
    status: ComputeIslandStatus,
    plan: Option<Plan>,
) -> Result<(), Error> {
    fault::point("island.status");
    if look.island.status.as_ref() != Some(&status) {
        let operation = "write an island's status";
        write::status::<ComputeIsland>(look.context, look.key, &status, operation).await?;
    }
    fault::point("island.remember");
    let freed = look.context.ledger().remember(look.key, plan);
    for waiting in freed {
        look.context.again(&waiting);
    }
    Ok(())
}
