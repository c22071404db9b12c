//! The command `heteroloco`.

use std::env;
use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use cli::args::{
    Cli, Command, DataCommand, GroupArgs, IslandArgs, IslandCommand, PlanArgs, Plugin, UpArgs,
};
use cli::cluster::{self, ClusterError};
use cli::manifests::ManifestError;
use cli::up::event::Outcome;
use cli::{group, plan, prepare, programs, up, verify};

/// The name by which kubectl starts its plugin `island`.
const PLUGIN: &str = "kubectl-island";

/// What was asked for has to change before it can work.
const REFUSED: u8 = 2;
/// Stopped by the user, as a shell says it of SIGINT.
const STOPPED: u8 = 130;

fn main() -> ExitCode {
    match run(command()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(format_args!("error: {error:#}"));
            ExitCode::from(if is_refusal(&error) { REFUSED } else { 1 })
        }
    }
}

/// What to do: as a plugin of kubectl, the commands for a cluster alone.
fn command() -> Command {
    let name = env::args_os().next();
    let stem = name.as_deref().and_then(|name| Path::new(name).file_stem());
    if stem.is_some_and(|stem| stem == PLUGIN) {
        return Command::Island(Plugin::parse().island);
    }
    Cli::parse().command
}

fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Island(args) => run_island(&args),
        Command::Up(args) => run_up(&args),
        Command::Plan(args) => run_plan(&args),
        Command::Group(args) => run_group(&args),
        Command::Data(DataCommand::Prepare(args)) => {
            print(&format!("{}\n", prepare::run(&args)?))?;
            Ok(0)
        }
        Command::Data(DataCommand::Verify(args)) => {
            print(&format!("{}\n", verify::run(&args.folder)?))?;
            Ok(0)
        }
        Command::Generate(args) => Ok(programs::run_worker(&args.worker_args())?),
        Command::Eval(args) => Ok(programs::run_worker(&args.worker_args())?),
        Command::Export(args) => Ok(programs::run_worker(&args.worker_args())?),
        Command::Probe(args) => Ok(programs::run_worker(&args.worker_args())?),
    }
}

fn run_up(args: &UpArgs) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let outcome = runtime.block_on(up::up(args))?;
    match &outcome {
        Outcome::Finished => Ok(0),
        Outcome::Stopped => Ok(STOPPED),
        Outcome::Refused(reason) => {
            complain(format_args!("error: {reason}"));
            Ok(REFUSED)
        }
        Outcome::Failed(reason) => {
            complain(format_args!("error: {reason}"));
            Ok(1)
        }
    }
}

fn run_plan(args: &PlanArgs) -> anyhow::Result<u8> {
    let made = plan::make(args, |note| complain(format_args!("warning: {note}")));
    if let Err(ManifestError::Refused(refusals)) = &made {
        print(&plan::print_refusals(refusals, args.output())?)?;
    }
    print(&plan::print(&made?, args.output(), args.explain)?)?;
    Ok(0)
}

fn run_island(args: &IslandArgs) -> anyhow::Result<u8> {
    let done = cluster::run(args, |note| complain(format_args!("warning: {note}")));
    let error = done.as_ref().err().and_then(|error| error.downcast_ref());
    if let Some(ClusterError::Manifest(ManifestError::Refused(refusals))) = error
        && let IslandCommand::Plan(args) = &args.command
    {
        print(&plan::print_refusals(refusals, args.output)?)?;
    }
    print(&done?)?;
    Ok(0)
}

fn run_group(args: &GroupArgs) -> anyhow::Result<u8> {
    let proposed = group::make(args, |note| complain(format_args!("warning: {note}")))?;
    print(&proposed.manifests)?;
    complain(format_args!("{}", proposed.summary));
    Ok(0)
}

/// A reader that went away has what it wanted.
fn print(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("failed to write to standard output; send it somewhere else"),
    }
}

/// The exit code tells it too, so that it may be lost.
fn complain(message: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{message}");
}

fn is_refusal(error: &anyhow::Error) -> bool {
    if let Some(error) = error.downcast_ref::<up::UpError>() {
        return error.is_refusal();
    }
    if let Some(error) = error.downcast_ref::<ClusterError>() {
        return error.is_refusal();
    }
    error.is::<ManifestError>()
}
