//! The command `kubectl island`, also `heteroloco island`: islands of a cluster, as its operator
//! runs them.
//!
//! It is a program of its own so that `heteroloco` is compiled without a client of Kubernetes. What
//! is printed is made by pure functions of the API's types, which are told the time:
//! `explain::text`, `top::table`, `idle`, `pods::chosen`.

mod args;
mod connection;
mod error;
mod explain;
mod idle;
mod logs;
mod plan;
mod pods;
mod suspend;
mod text;
mod top;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use cli::console::{REFUSED, complain, print};
use cli::manifests::ManifestError;

use self::args::{IslandArgs, IslandCommand, Plugin};
use self::connection::Cluster;
use self::error::ClusterError;

fn main() -> ExitCode {
    let args = Plugin::parse().island;
    match show(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("error: {error:#}"));
            ExitCode::from(if is_refusal(&error) { REFUSED } else { 1 })
        }
    }
}

fn show(args: &IslandArgs) -> anyhow::Result<()> {
    let done = run(args, |note| complain(format_args!("warning: {note}")));
    let error = done.as_ref().err().and_then(|error| error.downcast_ref());
    if let Some(ClusterError::Manifest(ManifestError::Refused(refusals))) = error
        && let IslandCommand::Plan(args) = &args.command
    {
        print(&cli::plan::print_refusals(refusals, args.output)?)?;
    }
    print(&done?)
}

fn is_refusal(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<ClusterError>() {
        Some(error) => error.is_refusal(),
        None => error.is::<ManifestError>(),
    }
}

/// Does what was asked for; what is to be printed at the end. `tell` takes what should be said on
/// the way, sentence by sentence.
fn run(args: &IslandArgs, tell: impl FnMut(&str)) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(Box::pin(island(args, tell)))
}

async fn island(args: &IslandArgs, mut tell: impl FnMut(&str)) -> anyhow::Result<String> {
    let cluster = Cluster::connect(&args.connection).await?;
    Ok(match &args.command {
        IslandCommand::Plan(args) => {
            let view = plan::make(&cluster, args, &mut tell).await?;
            cli::plan::print(&view, args.output, args.explain)?
        }
        IslandCommand::Explain(island) => explain::explain(&cluster, &island.name).await?,
        IslandCommand::Top(args) => top::top(&cluster, args).await?,
        IslandCommand::Drain(args) => suspend::drain(&cluster, args).await?,
        IslandCommand::Undrain(island) => suspend::undrain(&cluster, &island.name).await?,
        IslandCommand::Run(command) => suspend::run(&cluster, command).await?,
        IslandCommand::Logs(args) => logs::logs(&cluster, args, &mut tell).await?,
    })
}
