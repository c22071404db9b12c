//! How long the stages of a pipeline idle, against the formula that plans are made with.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bench::Rank;
use bench_training::island::{connect, island, stages};
use collective::{Endpoint, Group, GroupConfig};
use plan::model::{Llama, LlamaConfig};
use plan::pipeline::bubble;
use plan::spec::{BatchSpec, OptimizerSpec, Sharding};
use rustix::thread::{CpuSet, sched_setaffinity};
use worker::devices::Devices;
use worker::model::MicroBatches;

use crate::{cpu_seconds, median, tokens};

const STAGES: u32 = 2;
const LENGTH: usize = 256;
const BATCH: usize = 2;
/// Layers of a stage.
const LAYERS: u32 = 4;
/// Micro-batches of a step.
const MICRO_BATCHES: [u32; 4] = [1, 2, 4, 8];
/// Micro-batches between two looks at the clock.
const WORK: u32 = 16;
/// Measurements of each; the median counts.
const TURNS: usize = 3;
const PEER_WAIT: Duration = Duration::from_secs(60);

/// Stages as equal as they can be: the head, which only the last one has, is tiny.
fn model() -> Result<Llama> {
    let demo = plan::model::preset("llama-demo").context("a preset is missing")?;
    let config = LlamaConfig {
        num_hidden_layers: STAGES * LAYERS,
        hidden_size: 256,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        head_dim: None,
        intermediate_size: 704,
        vocab_size: 64,
        max_position_embeddings: LENGTH as u32,
        tie_word_embeddings: false,
        ..demo
    };
    Ok(config.validate()?)
}

/// Prints what was measured and planned for each number of micro-batches, and the figure.
pub(crate) fn measure(data: &Path) -> Result<()> {
    let mut ranks = (0..STAGES).map(|rank| start(rank, data)).collect::<Result<Vec<_>>>()?;
    let addresses = ranks.iter_mut().map(Rank::answer).collect::<Result<Vec<_>>>()?;
    tell(&mut ranks, &addresses.join(" "))?;
    let mut measured = MICRO_BATCHES.map(|_| Vec::new());
    for turn in 0..=TURNS {
        for (count, measured) in MICRO_BATCHES.into_iter().zip(&mut measured) {
            tell(&mut ranks, &count.to_string())?;
            let idle = idle(&mut ranks)?;
            if turn > 0 {
                measured.push(idle);
            }
        }
    }
    let mut worst: f64 = 0.0;
    for (count, measured) in MICRO_BATCHES.into_iter().zip(measured) {
        let (measured, planned) = (median(measured) * 100.0, bubble(STAGES, count) * 100.0);
        println!("bubble of {count} micro-batches: measured {measured:.1} %, planned {planned:.1}");
        worst = worst.max((measured - planned).abs());
    }
    println!("figure sharding.bubble_error_points {worst:.1} points");
    Ok(())
}

/// Share of the time in which the stages do not compute.
fn idle(ranks: &mut [Rank]) -> Result<f64> {
    let (mut busy, mut wall) = (0.0, 0.0_f64);
    for rank in &mut *ranks {
        let answer = rank.answer()?;
        let (own_busy, own_wall) = answer.split_once(' ').context("two numbers")?;
        busy += own_busy.parse::<f64>()?;
        wall = wall.max(own_wall.parse()?);
    }
    Ok(1.0 - busy / ranks.len() as f64 / wall)
}

/// A process with one stage.
fn start(rank: u32, data: &Path) -> Result<Rank> {
    let mut command = Command::new(std::env::current_exe()?);
    Rank::start(command.args(["--rank", &rank.to_string(), "--data"]).arg(data))
}

fn tell(ranks: &mut [Rank], line: &str) -> Result<()> {
    ranks.iter_mut().try_for_each(|rank| rank.tell(line))
}

/// The work of each process: steps of as many micro-batches as the next line says.
pub(crate) fn run_rank(rank: u32) -> Result<()> {
    let mut core = CpuSet::new();
    core.set(rank as usize);
    // Threads inherit it, those that move tensors too.
    sched_setaffinity(None, &core).context("the machine has too few cores")?;
    let endpoint = Endpoint::bind("127.0.0.1:0")?;
    println!("{}", endpoint.address());
    let mut lines = std::io::stdin().lines();
    let addresses = lines.next().context("the addresses come first")??;
    let addresses: Vec<String> = addresses.split(' ').map(str::to_owned).collect();
    let (run, name) = ("bench".to_owned(), "pipeline".to_owned());
    let world_size = STAGES;
    let config = GroupConfig { run, island: name, epoch: 1, rank, world_size, timeout: PEER_WAIT };
    let mut group = endpoint.connect(config, &addresses)?;
    let model = model()?;
    let sharding =
        Sharding { tensor: 1, stages: stages(&[LAYERS; STAGES as usize]), compression: None };
    let batches = vec![BatchSpec { micro_batches: 1, micro_batch_size: BATCH as u32 }];
    let island = island(sharding, batches, 1);
    let mut devices = connect(&mut group, &model, &island, &OptimizerSpec::default())?;
    for line in lines {
        let (busy, wall) = steps(&mut group, &mut devices, line?.parse()?, &model)?;
        println!("{busy} {wall}");
    }
    Ok(())
}

/// Seconds that this stage computed, and that it took, over some steps.
fn steps(
    group: &mut Group,
    devices: &mut Devices,
    count: u32,
    model: &Llama,
) -> Result<(f64, f64)> {
    let text = tokens(BATCH * (LENGTH + 1), model.config().vocab_size);
    let tokens = vec![text; count as usize];
    let work = [MicroBatches { tokens, batch: BATCH, length: LENGTH }];
    group.barrier()?;
    let (mut busy, started) = (0.0, Instant::now());
    for _ in 0..WORK / count {
        let before = cpu_seconds();
        devices.accumulate(&work, 1e-6)?;
        busy += cpu_seconds() - before;
    }
    Ok((busy, started.elapsed().as_secs_f64()))
}
