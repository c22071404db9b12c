//! Writes to the API server what an island's epoch is made of.

use std::sync::Arc;

use api::island::ComputeIsland;
use api::names::{self, Key};
use contract::worker::WorkerSpec;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};

use super::build::{self, Objects};
use super::standing::Plan;
use crate::context::Context;
use crate::error::Error;
use crate::fault;
use crate::ledger::Known;
use crate::write::{self, apply};

/// Writes what the ranks of a new epoch are told and may bear, and deletes the last epoch's.
pub(super) async fn begin(
    context: &Context,
    island: &ComputeIsland,
    objects: &Objects,
) -> Result<(), Error> {
    let key = Key::of(island);
    let configs: Api<ConfigMap> = Api::namespaced(context.client.clone(), &key.namespace);
    fault::point("island.config");
    apply(&configs, &objects.config, "apply the ConfigMap of an epoch").await?;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(context.client.clone(), &key.namespace);
    if let Some(budget) = &objects.budget {
        apply(&budgets, budget, "apply a PodDisruptionBudget").await?;
    }
    if let Some(last) = &objects.last_config {
        if objects.budget.is_none() {
            delete_budget(&budgets, island, &key).await?;
        }
        let operation = "delete an older epoch's ConfigMap";
        write::delete(&configs, last, &DeleteParams::default(), operation).await?;
    }
    fault::point("island.start");
    Ok(())
}

/// Deletes the budget of disruptions of an earlier epoch, and not somebody else's of that name.
async fn delete_budget(
    budgets: &Api<PodDisruptionBudget>,
    island: &ComputeIsland,
    key: &Key,
) -> Result<(), Error> {
    let there = budgets.get_opt(&key.name).await;
    let there = there.map_err(Error::api("read a PodDisruptionBudget"))?;
    let uid = island.metadata.uid.as_deref();
    let own = there.is_some_and(|budget| {
        budget.owner_references().iter().any(|owner| Some(owner.uid.as_str()) == uid)
    });
    if own {
        let operation = "delete a PodDisruptionBudget";
        write::delete(budgets, &key.name, &DeleteParams::default(), operation).await?;
    }
    Ok(())
}

/// Makes the pods of these ranks.
pub(super) async fn pods(
    context: &Context,
    key: &Key,
    objects: &Objects,
    ranks: &[u32],
) -> Result<(), Error> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    for pod in ranks.iter().filter_map(|rank| objects.pods.get(*rank as usize)) {
        fault::point("island.pod");
        apply(&pods, pod, "apply a rank's pod").await?;
    }
    fault::point("island.pods");
    Ok(())
}

/// What the ranks of a plan's epoch are told; `None` where that is lost.
pub(super) async fn told(
    context: &Context,
    key: &Key,
    plan: &Plan,
    known: &Known,
) -> Result<Option<Arc<WorkerSpec>>, Error> {
    if let Known::Told(told) = known
        && told.island.epoch == plan.epoch
    {
        return Ok(Some(Arc::clone(told)));
    }
    let configs: Api<ConfigMap> = Api::namespaced(context.client.clone(), &key.namespace);
    let name = names::plan(&key.name, plan.epoch);
    let found = configs.get_opt(&name).await.map_err(Error::api("read a plan's ConfigMap"))?;
    Ok(found.and_then(|config| build::read(&config).ok()).map(Arc::new))
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
