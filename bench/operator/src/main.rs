//! The operator at scale: fake nodes and islands by the thousand on a real control plane. Ends with
//! `figure NAME VALUE UNIT` lines.

mod audit;
mod objects;
mod operator;
mod progress;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use serde_json::Value;
use test_cluster::{ControlPlane, Kwok, Options};

use crate::audit::Requests;
use crate::operator::Operator;
use crate::progress::Progress;

/// Measures the operator on a control plane of its own.
#[derive(Debug, Parser)]
struct Args {
    /// Fake nodes, in zones of ten with cards of four products.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..))]
    nodes: u32,
    /// Islands, each on the nodes of one zone.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    islands: u32,
    /// Seconds within which all ranks have to run.
    #[arg(long, default_value_t = 1_800)]
    patience: u64,
    /// Folder for the cluster's data and all logs; a temporary one if there is none.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Time that nodes may be silent: the messages of ten thousand of them, twice a minute, would be
/// most of what is measured.
const SILENCE_MAX: Duration = Duration::from_secs(1800);
/// How long nothing may change until the operator counts as settled.
const QUIET_WAIT: Duration = Duration::from_secs(15);
/// Time over which its idle processor time is measured: it looks at every island once in this time.
const IDLE_WAIT: Duration = Duration::from_secs(60);

// One thread, the main one: the kernel ends the operator with the thread that started it.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.islands > objects::most_islands(args.nodes) {
        let most = objects::most_islands(args.nodes);
        anyhow::bail!("{} nodes have cards for {most} islands: give fewer islands", args.nodes);
    }
    let dir = args.dir.clone();
    let plane =
        ControlPlane::start(Options { dir, silence: Some(SILENCE_MAX), ..Options::default() })
            .await?;
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crds");
    plane.kubectl(&["apply", "--server-side", "--filename", crds]).await?;
    plane.kubectl(&["wait", "--for=condition=Established", "crd", "--all"]).await?;
    let mut kwok = Kwok::start(&plane).await?;
    populate(&plane, &mut kwok, &args).await?;
    measure(&plane, &args).await
}

/// Makes nodes and islands, and says how long the API server takes for that.
async fn populate(plane: &ControlPlane, kwok: &mut Kwok, args: &Args) -> anyhow::Result<()> {
    let begun = Instant::now();
    kwok.add_nodes(plane, &objects::nodes(args.nodes)).await?;
    figure("operator.create_nodes_s", begun.elapsed().as_secs_f64(), "s");
    plane.kubectl(&["create", "namespace", objects::NAMESPACE]).await?;
    let islands = objects::islands(args.islands, args.nodes);
    figure("operator.create_islands_s", create(plane, islands).await?, "s");
    Ok(())
}

/// Creates objects with one client, one after another; the seconds that it took.
async fn create(plane: &ControlPlane, objects: Value) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let arguments = ["--namespace", objects::NAMESPACE, "create", "--filename=-"];
    plane.kubectl_with(&arguments, objects.to_string().as_bytes()).await?;
    Ok(begun.elapsed().as_secs_f64())
}

async fn measure(plane: &ControlPlane, args: &Args) -> anyhow::Result<()> {
    let config = objects::account(plane).await?;
    let mut progress = Progress::watch(plane, objects::NAMESPACE)?;
    // A run waits a while for islands that are not planned: its age counts from here.
    create(plane, objects::runs(args.islands)).await?;
    let mut operator = Operator::start(plane.dir(), &config)?;
    let begun = Instant::now();
    let patience = Duration::from_secs(args.patience);
    let reached = progress.follow(args.islands as usize, begun, patience, &mut operator);
    let reached = reached.await.with_context(|| operator.tail())?;
    progress.quiet(QUIET_WAIT).await;
    // The last change still concerns every island: each looks once more at all nodes.
    tokio::time::sleep(IDLE_WAIT).await;

    let requests = Requests::of(plane, objects::ACCOUNT)?;
    let before = (Instant::now(), operator.processor_seconds()?);
    tokio::time::sleep(IDLE_WAIT).await;
    let busy = operator.processor_seconds()? - before.1;
    let idle = 100.0 * busy / before.0.elapsed().as_secs_f64();
    let later = Requests::of(plane, objects::ACCOUNT)?;
    let metrics = operator.metrics().await?;
    let memory = operator.peak_mib()?;
    drop(operator);
    let pods = create(plane, objects::reference_pods(progress.ranks())).await?;

    requests.print();
    println!("{} islands over {} nodes, {} ranks", args.islands, args.nodes, progress.ranks());
    let islands = f64::from(args.islands);
    figure("operator.create_pods_s", pods, "s");
    figure("operator.planned_s", reached.planned, "s");
    figure("operator.apply_s", reached.applied, "s");
    figure("operator.running_s", reached.running, "s");
    figure("operator.requests_per_island", requests.total() as f64 / islands, "requests");
    figure("operator.writes_per_island", requests.writes() as f64 / islands, "requests");
    figure("operator.reads_per_island", requests.reads() as f64 / islands, "requests");
    let idle_requests = later.total() - requests.total();
    figure("operator.idle_requests_per_minute", idle_requests as f64, "requests");
    figure("operator.rss_mib", memory, "MiB");
    figure("operator.idle_cpu_percent", idle, "%");
    let p99 = operator::quantile(&metrics, "island", 0.99).context("no reconcile was timed")?;
    figure("operator.p99_reconcile_ms", 1e3 * p99, "ms");
    Ok(())
}

fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.2} {unit}");
}
