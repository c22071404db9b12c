//! What an island's epoch is made of, written to the API server.

use std::sync::Arc;

use api::island::{ComputeIsland, PlanPhase, PlanStatus};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};
use plan::spec::IslandSpec;

use super::build::{self, Epoch};
use super::observe::Seen;
use super::{entered, planned};
use crate::context::Context;
use crate::error::Error;
use crate::fault;
use crate::ledger::Promise;
use crate::names::{self, Key};
use crate::write::{self, apply, damaged};

/// Writes what the ranks of the next epoch are told; the plan as it stands then. `None` where what
/// was planned is not known: an operator that is gone planned it.
pub(super) async fn start(
    context: &Context,
    island: &ComputeIsland,
    seen: &Seen,
    plan: PlanStatus,
    now: Timestamp,
) -> Result<Option<PlanStatus>, Error> {
    let key = &super::key_of(island);
    let (Some(run), Some(begun)) = (&seen.run, &seen.begun) else { return Ok(Some(plan)) };
    // What the run says now is mounted: it has to be allowed still.
    if seen.request.is_none() {
        return Ok(None);
    }
    let Some(spec) = seen.promise.as_ref().and_then(|promise| promise.spec.clone()) else {
        return Ok(None);
    };
    let plan = PlanStatus { epoch: plan.epoch + 1, ..entered(plan, PlanPhase::Starting, now) };
    let step_seconds = plan.step_seconds.parse().unwrap_or(f64::NAN);
    let inner_steps = begun.record.inner_steps(step_seconds);
    let spec = IslandSpec {
        epoch: plan.epoch.unsigned_abs(),
        index: plan.index,
        inner_steps,
        ..planned::in_pods(spec.as_ref().clone(), context.args.emulate)
    };
    let epoch = Epoch { island, run, spec: &spec, args: &context.args };
    let config = epoch.config(&begun.record, &begun.coordinator).map_err(damaged("a plan"))?;
    let configs: Api<ConfigMap> = Api::namespaced(context.client.clone(), &key.namespace);
    fault::point("island.config");
    apply(&configs, &config, "apply the ConfigMap of an epoch").await?;
    match (epoch.budget(), spec.epoch) {
        (None, ..=1) => {}
        (budget, _) => self::budget(context, key, island, budget).await?,
    }
    if spec.epoch > 1 {
        let last = names::plan(&key.name, spec.epoch - 1);
        let operation = "delete an older epoch's ConfigMap";
        write::delete(&configs, &last, &DeleteParams::default(), operation).await?;
    }
    fault::point("island.start");
    let plan = PlanStatus { inner_steps: Some(inner_steps), ..plan };
    let mut ledger = context.ledger();
    if let Some(promise) = ledger.get(key) {
        let spec = Some(Arc::new(spec));
        ledger.promise(key, Promise { plan: plan.clone(), spec, ..promise });
    }
    Ok(Some(plan))
}

/// Applies an epoch's budget of disruptions, or deletes that of an earlier one.
async fn budget(
    context: &Context,
    key: &Key,
    island: &ComputeIsland,
    budget: Option<PodDisruptionBudget>,
) -> Result<(), Error> {
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(context.client.clone(), &key.namespace);
    if let Some(budget) = budget {
        return apply(&budgets, &budget, "apply a PodDisruptionBudget").await.map(drop);
    }
    let there = budgets.get_opt(&key.name).await;
    let there = there.map_err(Error::api("read a PodDisruptionBudget"))?;
    let uid = island.metadata.uid.as_deref();
    let own = there.is_some_and(|budget| {
        budget.owner_references().iter().any(|owner| Some(owner.uid.as_str()) == uid)
    });
    if own {
        let operation = "delete a PodDisruptionBudget";
        write::delete(&budgets, &key.name, &DeleteParams::default(), operation).await?;
    }
    Ok(())
}

/// Makes the pods of these ranks. Whether that is possible: what they are told is known.
pub(super) async fn create(
    context: &Context,
    key: &Key,
    island: &ComputeIsland,
    seen: &Seen,
    ranks: &[u32],
) -> Result<bool, Error> {
    let (Some(run), Some(promise)) = (&seen.run, &seen.promise) else { return Ok(false) };
    if seen.request.is_none() {
        return Ok(false);
    }
    let Some(spec) = told(context, key, promise).await? else { return Ok(false) };
    let epoch = Epoch { island, run, spec: &spec, args: &context.args };
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    for rank in ranks.iter().filter(|rank| (**rank as usize) < spec.ranks.len()) {
        let pod = epoch.pod(*rank).map_err(damaged("a pod"))?;
        fault::point("island.pod");
        apply(&pods, &pod, "apply a rank's pod").await?;
    }
    fault::point("island.pods");
    Ok(true)
}

/// What the ranks of a promise's epoch are told; `None` where that is lost.
async fn told(
    context: &Context,
    key: &Key,
    promise: &Promise,
) -> Result<Option<Arc<IslandSpec>>, Error> {
    let epoch = promise.plan.epoch.unsigned_abs();
    if let Some(spec) = promise.spec.as_ref().filter(|spec| spec.epoch == epoch) {
        return Ok(Some(Arc::clone(spec)));
    }
    let configs: Api<ConfigMap> = Api::namespaced(context.client.clone(), &key.namespace);
    let name = names::plan(&key.name, epoch);
    let found = configs.get_opt(&name).await.map_err(Error::api("read a plan's ConfigMap"))?;
    let spec = found.and_then(|config| build::read(&config).ok());
    Ok(spec.map(|spec| Arc::new(spec.island)))
}

/// Deletes pods of nodes that do not answer: nobody is left to say that they are gone.
pub(super) async fn forget_pods(
    context: &Context,
    key: &Key,
    names: &[String],
) -> Result<(), Error> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    let at_once = DeleteParams::default().grace_period(0);
    for name in names {
        write::delete(&pods, name, &at_once, "delete a lost rank's pod").await?;
    }
    Ok(())
}

/// Deletes pods.
pub(super) async fn delete_pods(
    context: &Context,
    key: &Key,
    names: &[String],
) -> Result<(), Error> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    for name in names {
        fault::point("island.delete");
        write::delete(&pods, name, &DeleteParams::default(), "delete a rank's pod").await?;
    }
    Ok(())
}
