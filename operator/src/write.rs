//! Writes to the API server: each way to write something once.

use api::names::{Key, MANAGER};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::Instrument as _;

use crate::conditions::shortened;
use crate::context::Context;
use crate::error::Error;

/// Longest note of an event, bytes.
const NOTE_MAX: usize = 1024;

/// How everything is written: by one field manager, which wins.
fn params() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

/// Server-side apply of a whole object.
pub(crate) async fn apply<K>(api: &Api<K>, object: &K, operation: &'static str) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let name = object.name_any();
    let mut value = serde_json::to_value(object).map_err(damaged("an object"))?;
    value["apiVersion"] = K::api_version(&()).into();
    value["kind"] = K::kind(&()).into();
    let span = tracing::info_span!("apply", kind = %K::kind(&()), object = name);
    let (params, patch) = (params(), Patch::Apply(value));
    let applied = api.patch(&name, &params, &patch).instrument(span).await;
    applied.map_err(Error::api(operation))
}

/// Server-side apply of an object's status. One that was deleted in the meantime needs none.
pub(crate) async fn status<K>(
    context: &Context,
    key: &Key,
    status: &impl Serialize,
    operation: &'static str,
) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
{
    let objects: Api<K> = Api::namespaced(context.client.clone(), &key.namespace);
    let patch = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "status": status,
    });
    let span = tracing::info_span!("status", kind = %K::kind(&()));
    let (params, patch) = (params(), Patch::Apply(patch));
    match objects.patch_status(&key.name, &params, &patch).instrument(span).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).map_err(Error::api(operation)),
    }
}

/// Deletes an object; one that is gone already is no error.
pub(crate) async fn delete<K>(
    api: &Api<K>,
    name: &str,
    params: &DeleteParams,
    operation: &'static str,
) -> Result<(), Error>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let span = tracing::info_span!("delete", object = name);
    match api.delete(name, params).instrument(span).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).map_err(Error::api(operation)),
    }
}

/// What was to be written is no such object: a defect, which ends this reconcile alone.
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
