//! The gRPC ring all-reduce against PyTorch's Gloo, on loopback: `figure NAME VALUE UNIT` lines.
//!
//! Both worlds of processes stand side by side and measure in turn, so that whatever else the
//! machine does strikes both. A measurement is the slowest rank's time per all-reduce; figures are
//! ratios of medians, above 1 where Gloo takes longer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bench::Rank;
use clap::Parser;
use collective::{Endpoint, Group, GroupConfig};
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PEER_WAIT: Duration = Duration::from_secs(60);
const GLOO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/gloo_allreduce.py");

/// Measures all-reduce on loopback.
#[derive(Parser)]
struct Args {
    /// Python with torch; default: BENCH_PYTHON, else python3.
    #[arg(long)]
    python: Option<PathBuf>,
    /// World sizes.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 4])]
    worlds: Vec<u32>,
    /// Sizes of the buffer in KiB.
    #[arg(long, value_delimiter = ',', default_values_t = [4, 1_024, 16_384, 65_536, 262_144])]
    kib: Vec<usize>,
    /// Measurements of each size; the median counts.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Run as this rank of ours, of the first world size.
    #[arg(long, hide = true)]
    rank: Option<u32>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(rank) = args.rank {
        let world_size = *args.worlds.first().context("a rank needs its world size")?;
        return run_rank(rank, world_size);
    }
    let python = args.python.or_else(|| std::env::var_os("BENCH_PYTHON").map(PathBuf::from));
    let python = python.unwrap_or_else(|| PathBuf::from("python3"));
    for world_size in args.worlds {
        let mut ours = start_ours(world_size)?;
        let mut gloo = start_gloo(world_size, &python)?;
        for kib in &args.kib {
            compare(&mut ours, &mut gloo, *kib, args.rounds)?;
        }
    }
    Ok(())
}

/// Seconds per all-reduce: of the slowest rank, and of CPU of all ranks.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

fn compare(ours: &mut World, gloo: &mut World, kib: usize, rounds: usize) -> anyhow::Result<()> {
    let repeats = (64_usize << 10).div_ceil(kib.max(64)).min(200);
    let (mut our_costs, mut gloo_costs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        our_costs.push(ours.measure(kib, repeats)?);
        gloo_costs.push(gloo.measure(kib, repeats)?);
    }
    let median = |costs: &[Cost], of: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (our_wall, gloo_wall) = (median(&our_costs, |c| c.wall), median(&gloo_costs, |c| c.wall));
    let (our_cpu, gloo_cpu) = (median(&our_costs, |c| c.cpu), median(&gloo_costs, |c| c.cpu));
    let size = if kib < 1 << 10 { format!("{kib}kib") } else { format!("{}mib", kib >> 10) };
    let name = format!("allreduce.w{}.{size}", ours.ranks.len());
    let rate = (kib << 10) as f64 / our_wall / 1e9;
    println!("{name}: ours {:.3} ms, gloo {:.3} ms", our_wall * 1e3, gloo_wall * 1e3);
    println!("figure {name}.rate {rate:.2} GB/s");
    println!("figure {name}.vs_gloo {:.2} x", gloo_wall / our_wall);
    println!("figure {name}.cpu_vs_gloo {:.2} x", gloo_cpu / our_cpu);
    Ok(())
}

/// Processes that all-reduce among themselves when told to.
struct World {
    ranks: Vec<Rank>,
}

impl World {
    fn measure(&mut self, kib: usize, repeats: usize) -> anyhow::Result<Cost> {
        let values = (kib << 10) / size_of::<f32>();
        for rank in &mut self.ranks {
            rank.tell(&format!("{values} {repeats}"))?;
        }
        let mut cost = Cost { wall: 0.0, cpu: 0.0 };
        for rank in &mut self.ranks {
            let answer = rank.answer()?;
            let (wall, cpu) = answer.split_once(' ').context("a rank answers with two numbers")?;
            cost.wall = cost.wall.max(wall.parse::<f64>()? / repeats as f64);
            cost.cpu += cpu.parse::<f64>()? / repeats as f64;
        }
        Ok(cost)
    }
}

fn start_ours(world_size: u32) -> anyhow::Result<World> {
    let program = std::env::current_exe()?;
    let start = |rank: u32| {
        let world_size = world_size.to_string();
        let arguments = ["--rank", &rank.to_string(), "--worlds", &world_size];
        Rank::start(Command::new(&program).args(arguments))
    };
    let mut ranks = (0..world_size).map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let addresses = ranks.iter_mut().map(Rank::answer).collect::<anyhow::Result<Vec<_>>>()?;
    for rank in &mut ranks {
        rank.tell(&addresses.join(" "))?;
    }
    Ok(World { ranks })
}

fn start_gloo(world_size: u32, python: &Path) -> anyhow::Result<World> {
    let folder = tempfile::tempdir()?;
    let start = |rank: u32| {
        let mut command = Command::new(python);
        command.arg(GLOO).args([rank, world_size].map(|number| number.to_string()));
        Rank::start(command.arg(folder.path().join("rendezvous")))
    };
    let ranks = (0..world_size).map(start).collect::<anyhow::Result<Vec<_>>>();
    let mut ranks = ranks.with_context(|| format!("failed to start {}", python.display()))?;
    for rank in &mut ranks {
        rank.answer().context("Gloo did not start; does this Python have torch?")?;
    }
    Ok(World { ranks })
}

fn run_rank(rank: u32, world_size: u32) -> anyhow::Result<()> {
    let endpoint = Endpoint::bind("127.0.0.1:0")?;
    println!("{}", endpoint.address());
    let mut lines = std::io::stdin().lines();
    let addresses = lines.next().context("the addresses come first")??;
    let addresses: Vec<String> = addresses.split(' ').map(str::to_owned).collect();
    let (run, island) = ("bench".to_owned(), "loopback".to_owned());
    let config = GroupConfig { run, island, epoch: 1, rank, world_size, timeout: PEER_WAIT };
    let mut group = endpoint.connect(config, &addresses)?;
    for line in lines {
        let line = line?;
        let (values, repeats) = line.split_once(' ').context("two numbers")?;
        let cost = measure(&mut group, values.parse()?, repeats.parse()?)?;
        println!("{} {}", cost.wall, cost.cpu);
    }
    Ok(())
}

fn measure(group: &mut Group, length: usize, repeats: usize) -> anyhow::Result<Cost> {
    let mut values = vec![(group.rank() + 1) as f32; length];
    group.all_reduce(&mut values)?;
    let expected = (group.world_size() * (group.world_size() + 1) / 2) as f32;
    ensure!(values.iter().all(|value| *value == expected), "wrong sum");
    values.fill(0.0);
    group.barrier()?;
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    for _ in 0..repeats {
        group.all_reduce(&mut values)?;
    }
    Ok(Cost { wall: wall.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu })
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
