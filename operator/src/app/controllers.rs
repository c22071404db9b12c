//! The controllers of each watched namespace.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::island::ComputeIsland;
use api::names::Key;
use api::pool::IslandPool;
use api::run::TrainingRun;
use futures::{Stream, StreamExt, TryStreamExt, future};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, Resource};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::{ObjectRef, store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates};
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::args::Args;
use crate::context::{Again, Context, Guarded, Stores};
use crate::error::Error;
use crate::metrics::OperatorMetrics;
use crate::{feed, island, pool, run};

/// Objects that are to be looked at again and were not yet; of more, the oldest are dropped.
const AGAIN: usize = 8192;
/// Events of an object within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How often metrics count islands.
const COUNTED: Duration = Duration::from_secs(5);

/// Objects of a kind as they change.
trait Changes<K>: Stream<Item = Result<Guarded<K>, watcher::Error>> + Send + 'static {}

impl<K, S> Changes<K> for S where
    S: Stream<Item = Result<Guarded<K>, watcher::Error>> + Send + 'static
{
}

/// Starts everything; what is in the set runs until `stop` says true.
///
/// # Errors
/// When the custom resources cannot be read.
pub(super) async fn start(
    client: &Client,
    args: &Args,
    metrics: &OperatorMetrics,
    stop: &watch::Receiver<bool>,
) -> anyhow::Result<JoinSet<()>> {
    let named: Vec<&str> =
        args.watch_namespace.iter().map(String::as_str).filter(|it| !it.is_empty()).collect();
    let places: Vec<Option<&str>> =
        if named.is_empty() { vec![None] } else { named.into_iter().map(Some).collect() };
    let mut stores = Stores::default();
    let (mut islands, mut runs) = (Vec::new(), Vec::new());
    for place in &places {
        let (reader, writer) = store();
        stores.islands.push(reader.clone());
        islands.push((reader, writer));
        let (reader, writer) = store();
        stores.runs.push(reader.clone());
        runs.push((reader, writer));
        let found: Api<Guarded<ComputeIsland>> = api(client, *place);
        check(&found).await?;
    }
    let (again, _) = broadcast::channel(AGAIN);
    let pod_places = if args.watch_all_pods { vec![None] } else { places.clone() };
    let named = pod_places.iter().map(|place| place.map(str::to_owned)).collect();
    let caches = (named, again.clone());
    let context = Context::new(client.clone(), args.clone(), metrics.clone(), stores, caches);
    let mut tasks = JoinSet::new();
    let pods: Vec<Api<Pod>> = pod_places.iter().map(|place| api(client, *place)).collect();
    tasks.spawn(until(stop, feed::feed(Arc::clone(&context), pods)));
    tasks.spawn(until(stop, count(Arc::clone(&context))));
    let lists = places.iter().zip(islands).zip(runs);
    for ((place, (island_reader, island_writer)), (run_reader, run_writer)) in lists {
        let kit = Kit { context: &context, stop, again: &again };
        let look = first_read(&context, forget(&context));
        let changes = watched(api(client, *place), island_writer, look);
        tasks.spawn(kit.islands(changes, island_reader));
        let look = first_read(&context, tell_islands(&context));
        let changes = watched(api(client, *place), run_writer, look);
        tasks.spawn(kit.runs(changes, run_reader));
        let (reader, writer) = store();
        let changes = watched(api(client, *place), writer, |_: &Event<Guarded<IslandPool>>| {});
        tasks.spawn(kit.pools(changes, reader));
    }
    Ok(tasks)
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Says at once what would else be a watch that never begins.
async fn check(islands: &Api<Guarded<ComputeIsland>>) -> anyhow::Result<()> {
    let few = kube::api::ListParams::default().limit(1);
    match islands.list(&few).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => anyhow::bail!(
            "failed to read ComputeIslands: the custom resource definitions are not installed; \
             apply crds/, or set crds.install of the chart"
        ),
        Err(error) => Err(anyhow::Error::new(error).context("failed to read ComputeIslands")),
    }
}

/// Objects as they change, kept in a store; status alone is no change.
fn watched<K>(
    api: Api<Guarded<K>>,
    writer: store::Writer<Guarded<K>>,
    look: impl FnMut(&Event<Guarded<K>>) + Send + 'static,
) -> impl Stream<Item = Result<Guarded<K>, watcher::Error>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let spec = predicates::generation.combine(predicates::labels);
    watcher(api, watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .inspect_ok(look)
        .applied_objects()
        .predicate_filter(spec, PredicateConfig::default())
}

/// Says when a cache was read for the first time.
fn first_read<K>(
    context: &Arc<Context>,
    mut look: impl FnMut(&Event<K>) + Send + 'static,
) -> impl FnMut(&Event<K>) + Send + 'static {
    let context = Arc::clone(context);
    let mut unread = true;
    move |event| {
        look(event);
        if unread && matches!(event, Event::InitDone) {
            unread = false;
            context.read();
        }
    }
}

/// An island that is gone gives its cards back.
fn forget(context: &Arc<Context>) -> impl Fn(&Event<Guarded<ComputeIsland>>) + Send + 'static {
    let context = Arc::clone(context);
    move |event| {
        let gone = match event {
            Event::Delete(island) => vec![Key::of(island)],
            // A list that begins anew does not say what is gone.
            Event::InitDone => context.gone_islands(),
            _ => return,
        };
        let waiting: Vec<Key> = {
            let mut ledger = context.ledger();
            for key in &gone {
                ledger.forget(key);
            }
            ledger.waiting().cloned().collect()
        };
        for key in waiting.iter().filter(|_| !gone.is_empty()) {
            context.again(key);
        }
    }
}

/// A run that changed concerns its islands.
fn tell_islands(
    context: &Arc<Context>,
) -> impl FnMut(&Event<Guarded<TrainingRun>>) + Send + 'static {
    let context = Arc::clone(context);
    let mut known = BTreeMap::new();
    move |event| {
        let (Event::Apply(run) | Event::Delete(run)) = event else { return };
        let key = Key::of(run);
        let gone = matches!(event, Event::Delete(_));
        if gone {
            context.forget_run(&key);
        }
        // Its status is written every few seconds, which is no concern of theirs.
        let complete = run.0.as_ref().is_ok_and(crate::run::is_complete);
        let now = (!gone).then_some((run.meta().generation, complete));
        let before = match now {
            Some(now) => known.insert(key.clone(), now),
            None => known.remove(&key),
        };
        if !gone && before == now {
            return;
        }
        for island in context.islands_of(&key) {
            context.again(&Key::of(island.as_ref()));
        }
    }
}

/// What all controllers are made of.
struct Kit<'a> {
    context: &'a Arc<Context>,
    stop: &'a watch::Receiver<bool>,
    again: &'a broadcast::Sender<Again>,
}

impl Kit<'_> {
    fn config(&self) -> Config {
        Config::default().concurrency(self.context.args.concurrency).debounce(DEBOUNCE)
    }

    fn stopped(&self) -> impl Future<Output = ()> + Send + Sync + 'static {
        let mut stop = self.stop.clone();
        async move {
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }

    /// What is to be looked at again, as far as `pick` takes it.
    fn again<K>(
        &self,
        pick: fn(Again) -> Option<Key>,
    ) -> impl Stream<Item = ObjectRef<K>> + Send + 'static
    where
        K: Resource<DynamicType = ()> + 'static,
    {
        let receiver = self.again.subscribe();
        futures::stream::unfold(receiver, move |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(again) => {
                        if let Some(key) = pick(again) {
                            let object = ObjectRef::new(&key.name).within(&key.namespace);
                            return Some((object, receiver));
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "Some objects are looked at later.");
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
    }

    fn islands(
        &self,
        changes: impl Changes<ComputeIsland>,
        reader: store::Store<Guarded<ComputeIsland>>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let again = self.again(|again| match again {
            Again::Island(key) => Some(key),
            Again::Run(_) => None,
        });
        let controller = Controller::for_stream(changes, reader)
            .with_config(self.config())
            .reconcile_on(again)
            .graceful_shutdown_on(self.stopped());
        let reconcile = |object: Arc<Guarded<ComputeIsland>>, context: Arc<Context>| async move {
            let Ok(island) = &object.0 else { return not_understood(object.as_ref()) };
            let reconcile = Box::pin(island::reconcile(island, &context));
            timed("island", &context, Key::of(island), reconcile).await
        };
        controller
            .run(
                reconcile,
                |object, error, context| retry("island", object, error, &context),
                Arc::clone(self.context),
            )
            .for_each(|_| future::ready(()))
    }

    fn runs(
        &self,
        changes: impl Changes<TrainingRun>,
        reader: store::Store<Guarded<TrainingRun>>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let again = self.again(|again| match again {
            Again::Run(key) => Some(key),
            Again::Island(_) => None,
        });
        let controller = Controller::for_stream(changes, reader)
            .with_config(self.config())
            .reconcile_on(again)
            .graceful_shutdown_on(self.stopped());
        let reconcile = |object: Arc<Guarded<TrainingRun>>, context: Arc<Context>| async move {
            let Ok(run) = &object.0 else { return not_understood(object.as_ref()) };
            let reconcile = Box::pin(run::reconcile(run, &context));
            timed("run", &context, Key::of(run), reconcile).await
        };
        controller
            .run(
                reconcile,
                |object, error, context| retry("run", object, error, &context),
                Arc::clone(self.context),
            )
            .for_each(|_| future::ready(()))
    }

    fn pools(
        &self,
        changes: impl Changes<IslandPool>,
        reader: store::Store<Guarded<IslandPool>>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let controller = Controller::for_stream(changes, reader)
            .with_config(self.config())
            .graceful_shutdown_on(self.stopped());
        let reconcile = |object: Arc<Guarded<IslandPool>>, context: Arc<Context>| async move {
            let Ok(pool) = &object.0 else { return not_understood(object.as_ref()) };
            timed("pool", &context, Key::of(pool), pool::reconcile(pool, &context)).await
        };
        controller
            .run(
                reconcile,
                |object, error, context| retry("pool", object, error, &context),
                Arc::clone(self.context),
            )
            .for_each(|_| future::ready(()))
    }
}

/// One that is malformed waits for its author.
fn not_understood<K>(object: &Guarded<K>) -> Result<Action, Error>
where
    K: Resource<DynamicType = ()>,
{
    if let Err(invalid) = &object.0 {
        let name = Key::of(object);
        tracing::warn!(%name, error = invalid.error, "An object was not understood.");
    }
    Ok(Action::await_change())
}

/// A reconcile with its span and metrics.
async fn timed(
    controller: &'static str,
    context: &Context,
    key: Key,
    reconcile: impl Future<Output = Result<Action, Error>>,
) -> Result<Action, Error> {
    let begun = Instant::now();
    let span = tracing::info_span!("reconcile", controller, object = %key);
    let result = reconcile.instrument(span).await;
    let class = result.as_ref().err().map(|error| error.class().name());
    context.metrics.reconciled(controller, begun.elapsed(), class);
    if result.is_ok() {
        context.succeeded(controller, &key);
    }
    result
}

fn retry<K>(
    controller: &'static str,
    object: Arc<Guarded<K>>,
    error: &Error,
    context: &Context,
) -> Action
where
    K: Resource<DynamicType = ()>,
{
    let key = Key::of(object.as_ref());
    let failures = context.failed(controller, key.clone());
    let error_text = error.sentence();
    tracing::warn!(controller, object = %key, failures, error = error_text, "It is tried again.");
    error.retry(failures)
}

/// Runs a task until `stop` says true.
fn until(
    stop: &watch::Receiver<bool>,
    task: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let mut stop = stop.clone();
    async move {
        tokio::select! {
            () = task => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

/// Counts islands by state.
async fn count(context: Arc<Context>) {
    let mut tick = tokio::time::interval(COUNTED);
    loop {
        tick.tick().await;
        let islands = context.islands().len();
        let states = {
            let ledger = context.ledger();
            super::states(ledger.plans().map(|(_, plan)| plan.phase), islands)
        };
        context.metrics.islands(states.into_iter());
    }
}
