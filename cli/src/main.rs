//! The command `heteroloco`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use cli::args::{Cli, Command, DataCommand, GroupArgs, PlanArgs, UpArgs};
use cli::console::{REFUSED, STOPPED, complain, print};
use cli::manifests::ManifestError;
use cli::programs::{self, Program};
use cli::up::event::Outcome;
use cli::{group, plan, prepare, up, verify};

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(format_args!("error: {error:#}"));
            ExitCode::from(if is_refusal(&error) { REFUSED } else { 1 })
        }
    }
}

fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Island(args) => Ok(programs::run(Program::Island, &args.args)?),
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
        Command::Generate(args) => Ok(programs::run(Program::Worker, &args.worker_args())?),
        Command::Eval(args) => Ok(programs::run(Program::Worker, &args.worker_args())?),
        Command::Export(args) => Ok(programs::run(Program::Worker, &args.worker_args())?),
        Command::Probe(args) => Ok(programs::run(Program::Worker, &args.worker_args())?),
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

fn run_group(args: &GroupArgs) -> anyhow::Result<u8> {
    let proposed = group::make(args, |note| complain(format_args!("warning: {note}")))?;
    print(&proposed.manifests)?;
    complain(format_args!("{}", proposed.summary));
    Ok(0)
}

fn is_refusal(error: &anyhow::Error) -> bool {
    if let Some(error) = error.downcast_ref::<up::UpError>() {
        return error.is_refusal();
    }
    error.is::<ManifestError>()
}
