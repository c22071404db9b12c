//! `heteroloco island`, and `kubectl island`: islands of a cluster, as its operator runs them.
//!
//! The only place of the command line with a client of Kubernetes. What is printed is made by pure
//! functions of the API's types, which are told the time: `explain::text`, `top::table`, `idle`,
//! `pods::chosen`.

pub mod args;
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

use anyhow::Context as _;

use self::args::{IslandArgs, IslandCommand};
use self::connection::Cluster;
pub use self::error::ClusterError;

/// Does what was asked for; what is to be printed at the end. `tell` takes what should be said on
/// the way, sentence by sentence.
///
/// # Errors
/// [`ClusterError`], or when there is no runtime to be had.
pub fn run(args: &IslandArgs, tell: impl FnMut(&str)) -> anyhow::Result<String> {
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
            crate::plan::print(&view, args.output, args.explain)?
        }
        IslandCommand::Explain(island) => explain::explain(&cluster, &island.name).await?,
        IslandCommand::Top(args) => top::top(&cluster, args).await?,
        IslandCommand::Drain(args) => suspend::drain(&cluster, args).await?,
        IslandCommand::Undrain(island) => suspend::undrain(&cluster, &island.name).await?,
        IslandCommand::Run(command) => suspend::run(&cluster, command).await?,
        IslandCommand::Logs(args) => logs::logs(&cluster, args, &mut tell).await?,
    })
}
