//! `test-cluster up` starts a cluster that stays until `test-cluster down`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use test_cluster::{Cluster, ClusterError};
use tokio::signal::unix::{SignalKind, signal};

/// How long `down` waits for the end of the process that holds the cluster.
const END_WAIT: Duration = Duration::from_secs(60);

/// A Kubernetes with GPU nodes on this machine.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start a cluster in the background and print how to reach it.
    Up(Place),
    /// End it.
    Down(Place),
    /// Start a cluster and hold it until this process is told to end.
    Serve(Place),
}

#[derive(Args)]
struct Place {
    /// Nodes, every other of 2 × H100 and of 4 × RTX 4090. None needs no root.
    #[arg(long, default_value_t = 2)]
    nodes: u8,
    /// The folder of its data and logs.
    #[arg(long, default_value_os_t = test_cluster::default_dir(), value_parser = absolute)]
    dir: PathBuf,
}

/// Makes a path absolute: it is printed, and has to be true in every folder.
fn absolute(path: &str) -> std::io::Result<PathBuf> {
    std::path::absolute(path)
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Up(place) => up(&place).await,
        Verb::Down(place) => down(&place.dir).await,
        Verb::Serve(place) => serve(&place).await,
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    eprintln!("test-cluster: {error}");
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        eprintln!("  because: {error}");
        source = error.source();
    }
    ExitCode::FAILURE
}

async fn up(place: &Place) -> Result<(), ClusterError> {
    if holder(&place.dir).is_none() {
        clear(&place.dir)?;
        start(place).await?;
    }
    println!("export KUBECONFIG={}", place.dir.join("kubeconfig").display());
    Ok(())
}

/// Empties the folder, if what is in it is of a cluster.
fn clear(dir: &Path) -> Result<(), ClusterError> {
    let failed = |source| {
        let step = format!("empty {}; give an empty folder with --dir", dir.display());
        ClusterError::Io { step, source }
    };
    if dir.join("pid").exists() {
        fs::remove_dir_all(dir).map_err(failed)?;
    }
    fs::create_dir_all(dir).map_err(failed)?;
    if fs::read_dir(dir).map_err(failed)?.next().is_some() {
        return Err(failed(std::io::Error::other("it holds other things than a cluster")));
    }
    Ok(())
}

/// Starts the process that holds the cluster and waits until it says that all is ready.
async fn start(place: &Place) -> Result<(), ClusterError> {
    let log = place.dir.join("test-cluster.log");
    let io = |step: &str| {
        let step = format!("{step}; see {}", log.display());
        move |source| ClusterError::Io { step, source }
    };
    let file = fs::File::create(&log).map_err(io("make a log"))?;
    let program = std::env::current_exe().map_err(io("find the own program"))?;
    // A session of its own survives the terminal's end.
    let mut command = Command::new("setsid");
    command.arg(program).args(["serve", "--nodes", &place.nodes.to_string(), "--dir"]);
    command.arg(&place.dir).stdin(Stdio::null()).stderr(file);
    let mut child = command.stdout(Stdio::null()).spawn().map_err(io("start setsid"))?;
    eprintln!("starting; the first time builds Kubernetes, which takes a quarter of an hour");
    while !place.dir.join("ready").exists() {
        // The child bounds its own waits, and ends when one is reached.
        if let Some(status) = child.try_wait().map_err(io("look after the cluster"))? {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let source = std::io::Error::other(format!("{status}\n{text}"));
            return Err(io("start the cluster")(source));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn serve(place: &Place) -> Result<(), ClusterError> {
    let io = |step: &str| {
        let step = step.to_owned();
        move |source| ClusterError::Io { step, source }
    };
    let mut end = signal(SignalKind::terminate()).map_err(io("listen to signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("listen to signals"))?;
    let pid = std::process::id().to_string();
    fs::write(place.dir.join("pid"), pid).map_err(io("write the pid"))?;
    let nodes = test_cluster::gpu_nodes(place.nodes);
    let starting = Cluster::start(Some(place.dir.clone()), nodes);
    let cluster = tokio::select! {
        cluster = starting => cluster?,
        _ = end.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let ready = place.dir.join("ready");
    fs::write(&ready, "").map_err(io("say that the cluster is ready"))?;
    tokio::select! { _ = end.recv() => {}, _ = interrupt.recv() => {} }
    drop(cluster);
    fs::remove_file(ready).map_err(io("say that the cluster is gone"))
}

async fn down(dir: &Path) -> Result<(), ClusterError> {
    let Some(pid) = holder(dir) else { return Ok(()) };
    let failed = |source| ClusterError::Io { step: format!("end process {pid:?}"), source };
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)
        .map_err(|error| failed(error.into()))?;
    let ended = async {
        while holder(dir).is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let late = |_| failed(std::io::Error::other(format!("it still runs after {END_WAIT:?}")));
    tokio::time::timeout(END_WAIT, ended).await.map_err(late)
}

/// The process that holds the folder's cluster, if it runs.
fn holder(dir: &Path) -> Option<rustix::process::Pid> {
    let pid = fs::read_to_string(dir.join("pid")).ok()?.trim().parse::<i32>().ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    // Ids are given again, to other programs.
    let words: Vec<_> = line.split(|byte| *byte == 0).collect();
    let ours =
        words.contains(&&b"serve"[..]) && words.contains(&dir.as_os_str().as_encoded_bytes());
    ours.then(|| rustix::process::Pid::from_raw(pid)).flatten()
}
