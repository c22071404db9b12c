//! Feeds the inventory from the API server, and has those looked at again whom a change concerns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::island::PlanPhase;
use api::names::Key;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::resource::v1::ResourceSlice;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::time::MissedTickBehavior;

use crate::context::Context;
use crate::inventory::Changed;

/// Changes of capacity within this time are told of together: a drain moves many pods.
const TOGETHER: Duration = Duration::from_millis(500);
/// Objects of a page of a list.
const PAGE: u32 = 500;
/// Between two tries to learn whether there are ResourceSlices.
const AGAIN: Duration = Duration::from_secs(5);

/// Feeds the inventory until the task is ended.
pub(crate) async fn feed(context: Arc<Context>, pods: Vec<Api<Pod>>) {
    let config = || watcher::Config::default().page_size(PAGE);
    let slices: Api<ResourceSlice> = Api::all(context.client.clone());
    let slices = if are_served(&slices).await {
        context.inventory_mut().expect_slices();
        let own = config().fields(&format!("spec.driver={}", api::nodes::DRIVER));
        let events = watcher(slices, own).default_backoff();
        Some(events.map(|event| Fact::Slice(Box::new(event))).boxed())
    } else {
        None
    };
    let nodes: Api<Node> = Api::all(context.client.clone());
    let nodes =
        watcher(nodes, config()).default_backoff().map(|event| Fact::Node(Box::new(event))).boxed();
    let pods = pods.into_iter().enumerate().map(|(watch, pods)| {
        let events = watcher(pods, config()).default_backoff();
        events.map(move |event| Fact::Pod(watch, Box::new(event))).boxed()
    });
    let all = futures::stream::select_all(std::iter::once(nodes).chain(slices).chain(pods));
    follow(&context, all).await;
}

/// Whether the API server has ResourceSlices, and shows them: neither Kubernetes before 1.34 nor a
/// cluster role of earlier charts does.
async fn are_served(slices: &Api<ResourceSlice>) -> bool {
    loop {
        match slices.list(&ListParams::default().limit(1)).await {
            Ok(_) => return true,
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
                tracing::info!(
                    code = status.code,
                    "No ResourceSlices of resource.k8s.io/v1 are read: cards are what their \
                     nodes' labels say. Restart the operator when that has changed."
                );
                return false;
            }
            Err(error) => {
                tracing::warn!(%error, "Whether there are ResourceSlices is not known yet.");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

enum Fact {
    Node(Box<watcher::Result<Event<Node>>>),
    Slice(Box<watcher::Result<Event<ResourceSlice>>>),
    /// With the watch that it came from.
    Pod(usize, Box<watcher::Result<Event<Pod>>>),
}

async fn follow(context: &Context, mut facts: impl Stream<Item = Fact> + Unpin) {
    let mut tick = tokio::time::interval(TOGETHER);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut capacity, mut foreign) = (false, false);
    loop {
        let fact = tokio::select! {
            fact = facts.next() => fact,
            _ = tick.tick(), if capacity => {
                tell_of_capacity(context, foreign);
                (capacity, foreign) = (false, false);
                continue;
            }
        };
        let changed = match fact {
            Some(Fact::Node(event)) => match *event {
                Ok(event) => vec![context.inventory_mut().node(event)],
                Err(error) => missed("nodes", &error),
            },
            Some(Fact::Slice(event)) => match *event {
                Ok(event) => vec![context.inventory_mut().slice(event)],
                Err(error) => missed("ResourceSlices", &error),
            },
            Some(Fact::Pod(watch, event)) => match *event {
                Ok(event) => context.inventory_mut().pod(watch, event, Timestamp::now()),
                Err(error) => missed("pods", &error),
            },
            None => return,
        };
        for changed in changed {
            if let Some(island) = &changed.island {
                context.again(island);
            }
            if changed.capacity {
                context.changed();
            }
            capacity |= changed.capacity;
            foreign |= changed.foreign;
        }
    }
}

/// A watch that broke begins again by itself.
fn missed(what: &str, error: &watcher::Error) -> Vec<Changed> {
    tracing::warn!(%error, "The watch of {what} is broken; it begins anew.");
    vec![]
}

/// Islands that wait for cards may find them; islands whose cards are gone have to know, and those
/// that run may have more where others left some.
fn tell_of_capacity(context: &Context, foreign: bool) {
    let mut concerned: BTreeSet<Key> = BTreeSet::new();
    {
        let (inventory, ledger) = (context.inventory(), context.ledger());
        concerned.extend(ledger.waiting().cloned());
        for (key, plan) in ledger.plans() {
            let runs = foreign && plan.phase == PlanPhase::Running;
            if runs || crate::island::lost(&inventory, &plan.ranks).is_some() {
                concerned.insert(key.clone());
            }
        }
    }
    for key in &concerned {
        context.again(key);
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;

    use super::*;

    /// What an API server that always answers so is taken to have.
    async fn served(code: u16) -> bool {
        let kind = if code == 200 { "ResourceSliceList" } else { "Status" };
        let body = serde_json::json!({
            "apiVersion": "v1", "kind": kind, "metadata": {}, "items": [],
            "status": "Failure", "message": "no", "reason": "No", "code": code,
        });
        let answer = tower::service_fn(move |_: Request<Body>| {
            let body = Body::from(body.to_string().into_bytes());
            let response = Response::builder().status(code).body(body);
            async move { response }
        });
        are_served(&Api::all(Client::new(answer, "default"))).await
    }

    #[tokio::test]
    async fn slices_that_are_not_there_or_not_shown_are_not_waited_for() {
        for (code, expected) in [(200, true), (404, false), (403, false)] {
            assert_eq!(served(code).await, expected, "{code}");
        }
        let patience = Duration::from_millis(200);
        assert!(tokio::time::timeout(patience, served(503)).await.is_err(), "it is asked again");
    }
}
