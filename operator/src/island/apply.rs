//! Writes to the API server: the one place of the island's controller with a client.

use std::sync::Arc;

use api::island::{ComputeIsland, ComputeIslandStatus, PlanPhase, PlanStatus};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};
use plan::spec::IslandSpec;
use serde_json::json;

use super::build::{self, Epoch};
use super::observe::Seen;
use super::{entered, planned};
use crate::conditions::shortened;
use crate::context::Context;
use crate::error::Error;
use crate::fault;
use crate::ledger::Promise;
use crate::names::{self, Key, MANAGER};

/// Longest note of an event, bytes.
const NOTE_MAX: usize = 1024;

/// How everything is written: by one field manager, which wins.
pub(crate) fn params() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

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
    let Some(spec) = seen.promise.as_ref().and_then(|promise| promise.spec.clone()) else {
        return Ok(None);
    };
    let plan = PlanStatus { epoch: plan.epoch + 1, ..entered(plan, PlanPhase::Starting, now) };
    let step_seconds = plan.step_seconds.parse().unwrap_or(f64::NAN);
    let inner_steps = begun.record.inner_steps(step_seconds);
    let spec = IslandSpec {
        epoch: plan.epoch.unsigned_abs(),
        index: plan.index % begun.record.places.max(1),
        islands: begun.record.places.max(1),
        inner_steps,
        ..planned::in_pods(spec.as_ref().clone(), context.args.emulate)
    };
    let epoch = Epoch { island, run, spec: &spec, args: &context.args };
    let config = epoch.config(&begun.record, &begun.coordinator).map_err(damaged("a plan"))?;
    let configs: Api<ConfigMap> = Api::namespaced(context.client.clone(), &key.namespace);
    fault::point("island.config");
    apply(&configs, &config, "apply the ConfigMap of an epoch").await?;
    budget(context, key, island, epoch.budget()).await?;
    let last = names::plan(&key.name, plan.epoch.unsigned_abs().saturating_sub(1));
    match configs.delete(&last, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => drop(other.map_err(Error::api("delete an older epoch's ConfigMap"))?),
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
        let deleted = budgets.delete(&key.name, &DeleteParams::default()).await;
        deleted.map_err(Error::api("delete a PodDisruptionBudget"))?;
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
    for name in names {
        match pods.delete(name, &DeleteParams::default().grace_period(0)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other.map_err(Error::api("delete a lost rank's pod"))?),
        }
    }
    Ok(())
}

/// Deletes pods; those that are gone already are no error.
pub(super) async fn delete_pods(
    context: &Context,
    key: &Key,
    names: &[String],
) -> Result<(), Error> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    for name in names {
        fault::point("island.delete");
        match pods.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other.map_err(Error::api("delete a rank's pod"))?),
        }
    }
    Ok(())
}

/// Writes status.
pub(super) async fn status(
    context: &Context,
    key: &Key,
    status: &ComputeIslandStatus,
) -> Result<(), Error> {
    let islands: Api<ComputeIsland> = Api::namespaced(context.client.clone(), &key.namespace);
    let patch = json!({
        "apiVersion": ComputeIsland::api_version(&()),
        "kind": ComputeIsland::kind(&()),
        "status": status,
    });
    let patched = islands.patch_status(&key.name, &params(), &Patch::Apply(patch)).await;
    match patched {
        // It was deleted in the meantime.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).map_err(Error::api("write an island's status")),
    }
}

/// Server-side apply of a whole object.
pub(crate) async fn apply<K>(api: &Api<K>, object: &K, operation: &'static str) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize,
    K: serde::de::DeserializeOwned,
{
    let name = object.name_any();
    let mut value = serde_json::to_value(object).map_err(damaged("an object"))?;
    value["apiVersion"] = K::api_version(&()).into();
    value["kind"] = K::kind(&()).into();
    api.patch(&name, &params(), &Patch::Apply(value)).await.map_err(Error::api(operation))
}

pub(crate) fn damaged(object: &'static str) -> impl FnOnce(serde_json::Error) -> Error {
    move |error| Error::Damaged { object: object.to_owned(), problem: error.to_string() }
}

/// An event that all is well.
pub(crate) async fn tell<K>(context: &Context, about: &K, reason: &'static str, note: &str)
where
    K: Resource<DynamicType = ()>,
{
    publish(context, about, EventType::Normal, (reason, note)).await;
}

/// An event that something is not.
pub(crate) async fn warn<K>(context: &Context, about: &K, reason: &'static str, note: &str)
where
    K: Resource<DynamicType = ()>,
{
    publish(context, about, EventType::Warning, (reason, note)).await;
}

/// Events are help, not state: one that cannot be written is only logged.
async fn publish<K>(context: &Context, about: &K, type_: EventType, (reason, note): (&str, &str))
where
    K: Resource<DynamicType = ()>,
{
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(shortened(note.to_owned(), NOTE_MAX)),
        action: "Reconcile".into(),
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, &about.object_ref(&())).await {
        tracing::warn!(%error, reason, "An event was not written.");
    }
}
