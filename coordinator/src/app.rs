//! The program `heteroloco-coordinator`: arguments, signals, its one line of output, exit codes.

use std::error::Error;
use std::io::{self, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use contract::PARENT;
use contract::coordinator::CoordinatorEvent;
use contract::exit::{EXIT_CONFIG, EXIT_FAILED};
use rounds::state::{Millis, State};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::spec::{Spec, SpecError};
use crate::standing::standing;
use crate::store::{Store, StoreError};
use crate::{EngineError, Listeners, RunError, listen, run};

/// Keeps the members, rounds and record of one run.
#[derive(Debug, Parser)]
#[command(name = "heteroloco-coordinator", version)]
pub struct Args {
    /// YAML file: where to listen, where to store, the rules of the run.
    #[arg(long)]
    spec: PathBuf,
    /// Say as one line of JSON what the store is and which round it has, and end.
    #[arg(long)]
    standing: bool,
}

/// Runs the program to its end; errors are one sentence on standard error.
pub async fn main(args: Args) -> ExitCode {
    match coordinate(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let sentence: Vec<_> = error.chain().map(ToString::to_string).collect();
            // Standard error may be a file on the disk that is full.
            let _ = writeln!(io::stderr(), "heteroloco-coordinator: {}", sentence.join(": "));
            let code = if is_final(&error) { EXIT_CONFIG } else { EXIT_FAILED };
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
    }
}

fn is_final(error: &anyhow::Error) -> bool {
    error.chain().any(|cause: &(dyn Error + 'static)| {
        cause.is::<SpecError>()
            || cause.downcast_ref().is_some_and(StoreError::is_final)
            || matches!(cause.downcast_ref(), Some(EngineError::OtherRun(_)))
    })
}

async fn coordinate(args: Args) -> anyhow::Result<()> {
    let spec = Spec::read(&args.spec)?;
    if args.standing {
        return say(&standing(&spec.store)?).context("failed to say what the store is");
    }
    let attributes = vec![("run", spec.run.name.clone())];
    let name = "heteroloco-coordinator".to_string();
    let _telemetry = telemetry::init(&telemetry::Service { name, attributes })?;
    let (interrupt, terminate) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
    let store = Store::open(&spec.store)?;
    adopt(&store, &spec)?;
    let members = listen(&spec.listen).await?;
    let metrics = match &spec.metrics {
        // A run does not depend on whether it can be watched.
        Some(address) => listen(address)
            .await
            .inspect_err(|error| tracing::warn!(%error, "Metrics are not served."))
            .ok(),
        None => None,
    };
    announce(&members, metrics.as_ref())?;
    let shutdown = any(interrupt, terminate, parent_gone()?);
    run(Listeners { members, metrics }, spec.run, store, shutdown).await.map_err(RunError::into)
}

/// Has an empty store take the run up where the specification says.
fn adopt(store: &Store, spec: &Spec) -> Result<(), StoreError> {
    let Some(adopted) = &spec.adopt else { return Ok(()) };
    if store.load()?.is_some() {
        return Ok(());
    }
    let mut state = State::adopt(spec.run.clone(), adopted, Millis(0));
    let entries = state.take_entries();
    tracing::warn!(round = adopted.round, tokens = adopted.tokens, "The run is taken over.");
    store.save(state.saved(), &entries)
}

/// Tells whoever started it which ports were taken.
fn announce(
    members: &tokio::net::TcpListener,
    metrics: Option<&tokio::net::TcpListener>,
) -> anyhow::Result<()> {
    let address = members.local_addr().context("failed to learn the port")?.to_string();
    let metrics = metrics.map(tokio::net::TcpListener::local_addr).transpose();
    let metrics = metrics.context("failed to learn the metrics' port")?;
    let metrics = metrics.map(|address| address.to_string());
    say(&CoordinatorEvent::Listening { address, metrics }).context("failed to announce the port")
}

fn say(line: &impl Serialize) -> io::Result<()> {
    let line = serde_json::to_string(line)?;
    let mut output = stdout().lock();
    writeln!(output, "{line}").and_then(|()| output.flush())
}

fn on(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("failed to wait for signals")
}

async fn any(mut interrupt: Signal, mut terminate: Signal, parent: oneshot::Receiver<()>) {
    // The sender is dropped unused where no parent is to be watched.
    let parent = async {
        if parent.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("The coordinator was interrupted."),
        _ = terminate.recv() => tracing::info!("The coordinator was told to end."),
        () = parent => tracing::info!("Whoever started the coordinator is gone."),
    }
}

/// Told when standard input ends, which the kernel sees to when the parent dies; never where no
/// parent asked for it. A thread of its own, because a pending read would keep a runtime from
/// ending.
fn parent_gone() -> anyhow::Result<oneshot::Receiver<()>> {
    let (gone, told) = oneshot::channel();
    if std::env::var(PARENT.0).is_ok_and(|value| value == PARENT.1) {
        let watch = move || {
            // Whatever the parent writes is ignored; an error ends the wait as well.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = gone.send(());
        };
        std::thread::Builder::new()
            .name("parent".into())
            .spawn(watch)
            .context("failed to watch the parent process")?;
    }
    Ok(told)
}
