//! Writes a run's record and its coordinator to the API server.

use api::names::Key;
use api::run::TrainingRun;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service};
use kube::api::Api;
use kube::{Resource, ResourceExt};

use super::build;
use super::reason::Waits;
use crate::context::Context;
use crate::error::Error;
use crate::fault;
use crate::write::apply;

/// Whether an object is of this run, and not of one of the same name that is gone.
pub(super) fn is_own<K: Resource<DynamicType = ()>>(object: &K, run: &TrainingRun) -> bool {
    let uid = run.metadata.uid.as_deref();
    object.meta().owner_references.iter().flatten().any(|owner| Some(owner.uid.as_str()) == uid)
}

/// Writes a run's record.
pub(super) async fn record(configs: &Api<ConfigMap>, record: &ConfigMap) -> Result<(), Error> {
    fault::point("run.record");
    apply(configs, record, "apply a run's record").await.map(drop)
}

/// Writes the coordinator's objects; its address, or what it waits for.
pub(super) async fn coordinator(
    context: &Context,
    run: &TrainingRun,
    objects: build::Coordinator,
) -> Result<Result<String, Waits>, Error> {
    let (client, key) = (|| context.client.clone(), Key::of(run));
    let configs: Api<ConfigMap> = Api::namespaced(client(), &key.namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client(), &key.namespace);
    let deployments: Api<Deployment> = Api::namespaced(client(), &key.namespace);
    let services: Api<Service> = Api::namespaced(client(), &key.namespace);
    // In this order: each needs those before it.
    let build::Coordinator { config, claim, service, deployment } = objects;
    fault::point("run.coordinator");
    // The rules of a run and its volume stay as they were when it began.
    let name = config.name_any();
    match configs.get_opt(&name).await.map_err(Error::api("read a ConfigMap"))? {
        None => drop(apply(&configs, &config, "apply a coordinator's ConfigMap").await?),
        Some(there) if !is_own(&there, run) => return Ok(Err(Waits::Replacing)),
        Some(_) => {}
    }
    match claims.get_opt(&name).await.map_err(Error::api("read a PersistentVolumeClaim"))? {
        None => {
            drop(apply(&claims, &claim, "apply a coordinator's PersistentVolumeClaim").await?);
        }
        Some(there) if !is_own(&there, run) => return Ok(Err(Waits::Replacing)),
        Some(_) => {}
    }
    let service = apply(&services, &service, "apply a coordinator's Service").await?;
    fault::point("run.deployment");
    apply(&deployments, &deployment, "apply a coordinator's Deployment").await?;
    Ok(build::address(&service).ok_or(Waits::NoAddress))
}
