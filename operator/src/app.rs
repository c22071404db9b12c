//! The program: starts the controllers, and ends when told to or when it does not lead any more.

mod controllers;
mod ready;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use telemetry::metrics::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::args::Args;
use crate::leader::Leadership;
use crate::metrics::OperatorMetrics;

/// Reconciles in progress may take so long at the end.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs the program to its end; errors are one sentence on standard error.
pub async fn main(args: Args) -> ExitCode {
    let result = match &args.check_ready {
        Some(url) => ready::check(url).await,
        None => operate(args).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heteroloco-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn operate(args: Args) -> anyhow::Result<()> {
    let name = "heteroloco-operator".to_owned();
    let _telemetry = telemetry::init(&telemetry::Service { name, attributes: vec![] })?;
    let client = Client::try_default().await;
    let client =
        client.context("failed to find the API server: set KUBECONFIG, or run in a pod")?;
    let mut registry = Registry::new(vec![]);
    let metrics = OperatorMetrics::new(&mut registry);
    let ready = Arc::new(AtomicBool::new(false));
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.with_context(|| format!("failed to listen on {}", args.listen))?;
    let serving = telemetry::serve_ready(
        listener,
        Arc::new(registry),
        Arc::clone(&ready),
        std::future::pending(),
    );
    let serving = tokio::spawn(serving);
    let stop = told_to_end()?;
    let ended = lead(&client, &args, &metrics, &ready, stop).await;
    serving.abort();
    ended
}

/// Works while it leads.
async fn lead(
    client: &Client,
    args: &Args,
    metrics: &OperatorMetrics,
    ready: &AtomicBool,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    if !args.leader_election {
        metrics.leads(true);
        return work(client, args, metrics, ready, stop).await;
    }
    let mut leadership = Leadership::new(client.clone(), &args.namespace, identity());
    // One that waits to lead is as it should be.
    ready.store(true, Ordering::Relaxed);
    tokio::select! {
        () = leadership.acquire() => {}
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    }
    tracing::info!("This replica leads.");
    metrics.leads(true);
    let (end, ended) = watch::channel(false);
    let working = work(client, args, metrics, ready, ended);
    tokio::pin!(working);
    let result = tokio::select! {
        result = &mut working => result,
        // Another may lead already: what is in progress here must not go on.
        () = leadership.hold() => anyhow::bail!("failed to keep the Lease: another may lead"),
        _ = stop.wait_for(|stop| *stop) => {
            end.send_replace(true);
            working.await
        }
    };
    metrics.leads(false);
    leadership.release().await;
    result
}

async fn work(
    client: &Client,
    args: &Args,
    metrics: &OperatorMetrics,
    ready: &AtomicBool,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut running = controllers::start(client, args, metrics, &stop).await?;
    ready.store(true, Ordering::Relaxed);
    let ended = tokio::select! {
        ended = running.join_next() => ended,
        _ = stop.wait_for(|stop| *stop) => None,
    };
    ready.store(false, Ordering::Relaxed);
    if ended.is_some() {
        anyhow::bail!("failed to go on: a controller ended");
    }
    tracing::info!("The operator ends.");
    let drain = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drain).await.is_err() {
        tracing::warn!("Reconciles in progress are cut short.");
    }
    Ok(())
}

/// Who this replica is: its pod's name, and something that no other start has.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "operator".into());
    let now = k8s_openapi::jiff::Timestamp::now().as_nanosecond();
    format!("{host}_{}_{now:x}", std::process::id())
}

fn told_to_end() -> anyhow::Result<watch::Receiver<bool>> {
    let on = |kind| signal(kind).context("failed to wait for signals");
    let (mut interrupt, mut terminate) =
        (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
    let (tell, told) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tell.send_replace(true);
        // Receivers see the channel's end as an error: it stays open.
        std::future::pending::<()>().await;
    });
    Ok(told)
}

/// States of islands that metrics count.
pub(crate) fn states(
    plans: impl Iterator<Item = api::island::PlanPhase>,
    islands: usize,
) -> BTreeMap<&'static str, usize> {
    use api::island::PlanPhase::{Done, Failed, Planned, Running, Starting, Stopping, Waiting};
    let name = |phase| match phase {
        Planned => "planned",
        Starting => "starting",
        Running => "running",
        Stopping => "stopping",
        Waiting => "waiting",
        Done => "done",
        Failed => "failed",
    };
    let all = [Planned, Starting, Running, Stopping, Waiting, Done, Failed];
    let mut states: BTreeMap<&'static str, usize> = all.map(|phase| (name(phase), 0)).into();
    let mut planned = 0;
    for phase in plans {
        planned += 1;
        *states.entry(name(phase)).or_default() += 1;
    }
    states.insert("unplanned", islands.saturating_sub(planned));
    states
}
