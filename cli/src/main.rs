//! The command `heteroloco`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use cli::args::{Cli, Command, DataCommand, PlanArgs, UpArgs};
use cli::up::event::Outcome;
use cli::{manifests, plan, prepare, programs, up};

/// What was asked for has to change before it can work.
const REFUSED: u8 = 2;
/// Stopped by the user, as a shell says it of SIGINT.
const STOPPED: u8 = 130;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if is_refusal(&error) { REFUSED } else { 1 })
        }
    }
}

fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Up(args) => run_up(&args),
        Command::Plan(args) => run_plan(&args),
        Command::Data(DataCommand::Prepare(args)) => {
            prepare::run(&args)?;
            Ok(0)
        }
        Command::Generate(args) => Ok(programs::run_worker(&args.worker_args())?),
        Command::Export(args) => Ok(programs::run_worker(&args.worker_args())?),
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
            eprintln!("error: {reason}");
            Ok(REFUSED)
        }
        Outcome::Failed(reason) => {
            eprintln!("error: {reason}");
            Ok(1)
        }
    }
}

fn run_plan(args: &PlanArgs) -> anyhow::Result<u8> {
    let planned = manifests::load(&args.files, None)?;
    if let Some(emulated) = &planned.emulated {
        println!("{emulated}");
    }
    for note in &planned.notes {
        eprintln!("warning: {note}");
    }
    print!("{}", plan::render(&planned.plan));
    Ok(0)
}

fn is_refusal(error: &anyhow::Error) -> bool {
    if let Some(error) = error.downcast_ref::<up::UpError>() {
        return error.is_refusal();
    }
    error.is::<manifests::ManifestError>()
}
