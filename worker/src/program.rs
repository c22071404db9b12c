//! The program `heteroloco-worker`: arguments, signals, exit codes.

use std::io::{self, Read, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use contract::PARENT;
use contract::event::{Ending, WorkerEvent};
use contract::exit::{EXIT_CONFIG, EXIT_FAILED, EXIT_LOST};
use contract::worker::WorkerSpec;

use crate::error::{RunError, chain};
use crate::events::emit;
use crate::metrics::Metrics;

/// How long a rank outlives whoever started it, at most.
const ORPHAN_WAIT: Duration = Duration::from_secs(5);
const SPEC_BYTES_MAX: u64 = 16 << 20;

/// One rank of an island, and what else needs libtorch.
#[derive(Debug, Parser)]
#[command(name = "heteroloco-worker", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    rank: RankArguments,
}

#[derive(Debug, Args)]
struct RankArguments {
    /// What the ranks of an island do (YAML); written by `heteroloco up` or the operator.
    #[arg(long, value_name = "FILE", requires = "rank")]
    spec: Option<PathBuf>,
    /// Go on from the newest checkpoint of the spec's folder, if there is one.
    #[arg(long)]
    resume: bool,
    /// Which of them this is.
    #[arg(long)]
    rank: Option<u32>,
    /// Address of this machine on which the others reach it, in place of the spec's hosts.
    #[arg(long)]
    host: Option<IpAddr>,
    /// File that is told why the rank ended, for whoever cannot read its output.
    #[arg(long, value_name = "FILE")]
    termination_log: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write text with a checkpoint's model.
    Generate(crate::sample::GenerateArguments),
    /// Measure a checkpoint's model on held-out data, questions and texts.
    Eval(crate::evaluation::EvalArguments),
    /// Write a checkpoint as a folder that Hugging Face transformers loads.
    Export(crate::hugging_face::ExportArguments),
    /// Measure what this machine's devices and links reach, as a record for plans.
    Probe(crate::probe::ProbeArguments),
}

/// Runs the program; errors go to standard error (and, of a rank, to its events).
pub fn main(arguments: Arguments) -> ExitCode {
    let result = match arguments.command {
        Some(Command::Generate(arguments)) => crate::sample::generate_command(&arguments),
        Some(Command::Eval(arguments)) => crate::evaluation::eval_command(&arguments),
        Some(Command::Export(arguments)) => crate::hugging_face::export_command(&arguments),
        Some(Command::Probe(arguments)) => crate::probe::probe_command(&arguments),
        None => return run_rank(&arguments.rank),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            exit(EXIT_CONFIG)
        }
    }
}

fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn run_rank(arguments: &RankArguments) -> ExitCode {
    let rank = arguments.rank.unwrap_or_default();
    let spec = match read_spec(arguments) {
        Ok(spec) => spec,
        Err(error) => {
            let unread = error.chain().any(|cause| cause.is::<io::Error>());
            let code = if unread { EXIT_FAILED } else { EXIT_CONFIG };
            return fail(code, &format!("{error:#}"), arguments);
        }
    };
    let service = telemetry::Service {
        name: "heteroloco-worker".into(),
        attributes: vec![
            ("run", spec.run.name.clone()),
            ("island", spec.island.name.clone()),
            ("rank", rank.to_string()),
        ],
    };
    let telemetry = match telemetry::init(&service) {
        Ok(guard) => guard,
        Err(error) => {
            let code = if error.is_final() { EXIT_CONFIG } else { EXIT_FAILED };
            return fail(code, &chain(&error), arguments);
        }
    };
    let code = match start((spec, rank), arguments.resume) {
        Ok(ending) => {
            last_words(&WorkerEvent::Finished { ending }, arguments);
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::debug!(?error, "What failed, in full.");
            fail(error.exit_code(), &chain(&error), arguments)
        }
    };
    drop(telemetry);
    code
}

fn fail(code: i32, error: &str, arguments: &RankArguments) -> ExitCode {
    tracing::error!(error, "The rank ends.");
    // Standard error may be a file on a disk that is full.
    let _ = writeln!(std::io::stderr(), "{error}");
    last_words(&WorkerEvent::Failed { error: error.to_string() }, arguments);
    exit(code)
}

fn last_words(event: &WorkerEvent, arguments: &RankArguments) {
    emit(event);
    let Some(path) = &arguments.termination_log else { return };
    // An event is plain data.
    let text = serde_json::to_string(event).unwrap_or_default();
    if let Err(error) = std::fs::write(path, text) {
        tracing::warn!(%error, path = %path.display(), "failed to write the termination log");
    }
}

fn start((mut spec, rank): (WorkerSpec, u32), resume: bool) -> Result<Ending, RunError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|source| RunError::System { operation: "listen for signals", source })?;
    }
    if std::env::var(PARENT.0).is_ok_and(|value| value == PARENT.1) {
        stop_with_parent(Arc::clone(&stop))
            .map_err(|source| RunError::System { operation: "watch the parent process", source })?;
    }
    let metrics = Metrics::new(&spec.run.name, &spec.island.name, rank);
    let served = spec.metrics.take().and_then(|listen| metrics.listen(&listen));
    spec.metrics = served.as_ref().map(|(_, address)| address.to_string());
    let ending = crate::run::run((&spec, rank), resume, stop, &metrics)?;
    drop(served);
    Ok(ending)
}

fn read_spec(arguments: &RankArguments) -> anyhow::Result<WorkerSpec> {
    let path: &Path = arguments
        .spec
        .as_deref()
        .context("failed to start: give --spec FILE, or one of the commands in --help")?;
    let file = std::fs::File::open(path)
        .with_context(|| format!("failed to open the spec {}", path.display()))?;
    let mut text = String::new();
    file.take(SPEC_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(|| format!("failed to read the spec {}", path.display()))?;
    let mut spec: WorkerSpec = serde_yaml::from_str(&text)
        .with_context(|| format!("failed to understand the spec {}", path.display()))?;
    if let Some(host) = arguments.host {
        let metrics = spec.metrics.iter_mut();
        for listen in [&mut spec.listen, &mut spec.collective_listen].into_iter().chain(metrics) {
            let port = listen.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            *listen = SocketAddr::new(host, port.unwrap_or(0)).to_string();
        }
    }
    Ok(spec)
}

/// Ends the rank when its standard input ends, which the kernel does when the parent dies. The
/// coordinator goes at the same time and nothing can be handed over any more; the rank must be gone
/// before somebody starts the run again in its folder.
fn stop_with_parent(stop: Arc<AtomicBool>) -> io::Result<()> {
    std::thread::Builder::new()
        .name("parent".into())
        .spawn(move || {
            // Whatever the parent writes is ignored; an error ends the wait as well.
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            stop.store(true, Ordering::Relaxed);
            std::thread::sleep(ORPHAN_WAIT);
            std::process::exit(EXIT_LOST);
        })
        .map(drop)
}

#[cfg(test)]
mod tests;
