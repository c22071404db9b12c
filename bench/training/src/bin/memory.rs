//! Part of `make bench-sharding` and of `bench/gpu/check.py`: what plans say that ranks need
//! against what they needed, over unlike shapes. Every shape trains two rounds as one island, with
//! the programs that users run, and writes a checkpoint after each. Prints `figure NAME VALUE UNIT`
//! lines.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use bench_training::island::{island, stages};
use clap::Parser;
use contract::event::WorkerEvent;
use contract::worker::{ENVIRONMENT, WorkerSpec};
use plan::memory::{Kind, Load, Memory};
use plan::model::{Llama, LlamaConfig};
use plan::part::Parts;
use plan::pipeline::in_flight;
use plan::shard::Grid;
use plan::spec::{
    BatchSpec, DeviceSpec, EvaluationSpec, IslandSpec, OptimizerSpec, PipelineCompression,
    Precision, Rule, RunSpec, ScheduleSpec, Sharding, SparseSpec,
};
use serde_json::{Value, json};

const ROUNDS: u64 = 2;
const INNER_STEPS: u32 = 1;
const TOP_K: u32 = 64;
const MIB: f64 = (1 << 20) as f64;

#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of `heteroloco-worker` and `heteroloco-coordinator`.
    #[arg(long)]
    programs: PathBuf,
    /// A corpus of bytes made by `heteroloco data prepare`.
    #[arg(long)]
    data: PathBuf,
    /// Only shapes whose name contains this; their plans are then shown in full.
    #[arg(long)]
    only: Option<String>,
    /// Bytes of the first CUDA device: shapes for one card, compared with what libtorch's allocator
    /// has taken of it at most. The plan's context is not the allocator's, and is left out.
    #[arg(long, value_name = "BYTES")]
    card: Option<u64>,
}

/// One island.
struct Shape {
    name: &'static str,
    size: Size,
    precision: Precision,
    tensor: u32,
    layers: &'static [u32],
    recompute: bool,
    compression: Option<u32>,
    /// Replicas, micro-batches of each, sequences of a micro-batch.
    batch: (usize, u32, u32),
    length: u32,
}

/// The model.
#[derive(Clone, Copy)]
enum Size {
    Small,
    Large,
    /// 309 M in four layers.
    Wide,
    /// 181 M, most of it the embedding.
    Vocabulary,
    Preset(&'static str),
}

const SMALL: Shape = Shape {
    name: "whole, 30 M",
    size: Size::Small,
    precision: Precision::F32,
    tensor: 1,
    layers: &[8],
    recompute: false,
    compression: None,
    batch: (1, 2, 1),
    length: 512,
};
const LARGE: Shape = Shape { name: "whole, 100 M", size: Size::Large, layers: &[12], ..SMALL };
const CARD: Shape = Shape {
    name: "llama-160m",
    size: Size::Preset("llama-160m"),
    precision: Precision::Bf16,
    batch: (1, 1, 8),
    length: 2048,
    ..LARGE
};

/// Shapes that one card can be asked.
fn card_shapes() -> Vec<Shape> {
    vec![
        CARD,
        Shape { name: "llama-160m, recompute", recompute: true, ..CARD },
        Shape { name: "llama-160m, micro-batches", batch: (1, 4, 1), ..CARD },
        Shape { name: "vocabulary", size: Size::Vocabulary, layers: &[4], ..CARD },
        Shape { name: "wide", size: Size::Wide, layers: &[4], batch: (1, 2, 4), ..CARD },
        Shape {
            name: "llama-160m, f32",
            precision: Precision::F32,
            batch: (1, 1, 4),
            length: 1024,
            ..CARD
        },
    ]
}

fn shapes() -> Vec<Shape> {
    let (pipeline, uneven): (&[u32], &[u32]) = (&[4, 4], &[3, 3, 2]);
    vec![
        SMALL,
        Shape { name: "large micro-batch", batch: (1, 1, 4), length: 1024, ..SMALL },
        Shape { name: "recompute", batch: (1, 1, 4), length: 1024, recompute: true, ..SMALL },
        Shape { name: "tensor 2", tensor: 2, batch: (1, 1, 4), ..SMALL },
        Shape { name: "pipeline 2", layers: pipeline, batch: (1, 4, 2), ..SMALL },
        Shape { name: "pipeline 3, uneven", layers: uneven, batch: (1, 4, 2), ..SMALL },
        Shape { name: "tensor 2, pipeline 2", tensor: 2, layers: pipeline, ..SMALL },
        Shape { name: "data 2, short", batch: (2, 1, 4), length: 128, ..SMALL },
        Shape { name: "data 2, pipeline 2", layers: pipeline, batch: (2, 2, 1), ..SMALL },
        Shape {
            name: "pipeline 2, k = 64",
            layers: pipeline,
            compression: Some(64),
            batch: (1, 4, 2),
            ..SMALL
        },
        LARGE,
        Shape {
            name: "pipeline 2, recompute, 100 M",
            layers: &[6, 6],
            recompute: true,
            batch: (1, 2, 2),
            ..LARGE
        },
    ]
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (mut errors, mut failed) = (Vec::new(), 0);
    for shape in if arguments.card.is_some() { card_shapes() } else { shapes() } {
        if arguments.only.as_deref().is_none_or(|only| shape.name.contains(only)) {
            match measure(&arguments, &shape) {
                Ok(of_ranks) => errors.extend(of_ranks),
                Err(error) => {
                    eprintln!("{}: {error:#}", shape.name);
                    failed += 1;
                }
            }
        }
    }
    if !errors.is_empty() {
        figures(&errors);
    }
    ensure!(failed == 0, "{failed} shapes were not measured");
    ensure!(!errors.is_empty(), "no shape has that name: leave --only out to see them all");
    Ok(())
}

fn figures(errors: &[f64]) {
    let under = errors.iter().copied().fold(0.0, f64::min);
    let mut sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    // The least of which 95 of 100 are no more.
    let p95 = sizes[(sizes.len() * 95).div_ceil(100) - 1];
    println!("figure memory.worst_error_percent {:.1} %", sizes[sizes.len() - 1]);
    println!("figure memory.worst_under_percent {:.1} %", -under);
    println!("figure memory.p95_error_percent {p95:.1} %");
}

/// Planned less measured in percent of what was measured, by rank.
fn measure(arguments: &Arguments, shape: &Shape) -> Result<Vec<f64>> {
    let model = shape.model()?;
    let island = shape.island(arguments.card);
    let folder = tempfile::tempdir()?;
    let run = shape.run(&arguments.data, &model)?;
    let peaks = train(&arguments.programs, folder.path(), &run, &island)?;
    let mut errors = Vec::new();
    for (rank, peak) in (0..).zip(peaks) {
        let plan = shape.plan(&model, &island, rank)?;
        let apart = arguments.card.map_or(0, |_| plan.of_kind(Kind::Context));
        let planned = plan.card() - apart;
        let error = (planned as f64 / peak as f64 - 1.0) * 100.0;
        let (planned, peak) = (planned as f64 / MIB, peak as f64 / MIB);
        println!(
            "{:<30} rank {rank}: planned {planned:5.0} MiB, measured {peak:5.0}, {error:+6.1} %",
            shape.name
        );
        if arguments.card.is_some() {
            let name = shape.name.replace(", ", ".").replace([' ', '-'], "_");
            println!("figure memory.{name}.error_percent {error:.1} %");
        }
        if arguments.only.is_some() {
            for term in plan.terms {
                println!("    {:<16} {:6.1} MiB", term.kind.name(), term.bytes as f64 / MIB);
            }
        }
        errors.push(error);
    }
    Ok(errors)
}

impl Shape {
    fn model(&self) -> Result<Llama> {
        let preset = |name| plan::model::preset(name).context("a preset is missing");
        let (hidden_size, intermediate_size, heads, vocab_size) = match self.size {
            Size::Small => (512, 1408, 8, 8_192),
            Size::Large => (768, 2048, 12, 16_384),
            Size::Wide => (2048, 8192, 16, 32_000),
            Size::Vocabulary => (1024, 2816, 8, 128_256),
            Size::Preset(name) => return Ok(preset(name)?.validate()?),
        };
        let config = LlamaConfig {
            hidden_size,
            intermediate_size,
            num_hidden_layers: self.layers.iter().sum(),
            num_attention_heads: heads,
            num_key_value_heads: heads / 2,
            head_dim: None,
            vocab_size,
            max_position_embeddings: self.length.max(1024),
            tie_word_embeddings: !matches!(self.size, Size::Small),
            ..preset("llama-demo")?
        };
        Ok(config.validate()?)
    }

    fn island(&self, card: Option<u64>) -> IslandSpec {
        let mut stages = stages(self.layers);
        stages.iter_mut().for_each(|stage| stage.recompute = self.recompute);
        let compression = self.compression.map(|rank| PipelineCompression { rank });
        let (replicas, micro_batches, micro_batch_size) = self.batch;
        let batches = vec![BatchSpec { micro_batches, micro_batch_size }; replicas];
        let sharding = Sharding { tensor: self.tensor, stages, compression };
        let mut island = IslandSpec { inner_steps: INNER_STEPS, ..island(sharding, batches, 1) };
        if card.is_some() {
            let device = DeviceSpec::Cuda { index: 0, precision: self.precision };
            let devices = island.ranks.iter_mut().flat_map(|rank| &mut rank.devices);
            devices.for_each(|own| own.device = device);
        }
        island
    }

    fn run(&self, data: &Path, model: &Llama) -> Result<RunSpec> {
        let (replicas, micro_batches, size) = self.batch;
        let sequences = u64::from(micro_batches * size) * replicas as u64;
        Ok(RunSpec {
            name: "memory".into(),
            seed: 1,
            model: model.config().clone(),
            from: None,
            data: data.canonicalize()?,
            sequence_length: self.length,
            tokens: ROUNDS * u64::from(INNER_STEPS) * sequences * u64::from(self.length),
            reference_steps: INNER_STEPS,
            total_rounds: ROUNDS,
            optimizer: OptimizerSpec::default(),
            schedule: ScheduleSpec::default(),
            sparse: SparseSpec {
                top_k: TOP_K,
                value_bits: 2,
                error_decay: 0.95,
                outer_learning_rate: 1.5,
                rule: Rule::Counted,
                retention: 0.5,
            },
            checkpoint_every_rounds: 1,
            evaluation: EvaluationSpec { every_rounds: 1, sequences: 2 },
        })
    }

    /// The memory that the plan expects of a rank.
    fn plan(&self, model: &Llama, island: &IslandSpec, rank: u32) -> Result<Memory> {
        let at = Grid::of(island).position(rank);
        let part = Parts::new(model, self.tensor)?.part(&island.sharding, at.stage, at.tensor);
        let batch = island.batches[at.data as usize];
        Ok(Memory::of(&Load {
            model,
            part,
            in_flight: in_flight(part.stage, part.stages, batch.micro_batches),
            sequence_length: self.length,
            micro_batch_size: batch.micro_batch_size,
            precision: self.precision,
            on_cpu: matches!(island.ranks[0].devices[0].device, DeviceSpec::Cpu { .. }),
            ranks: island.ranks.len() as u32,
            // Ten bits for each value that is kept.
            contributions: model.parameters() * u64::from(TOP_K) / 4096 * 10 / 8,
            card_bytes: 0,
        }))
    }
}

/// A process that ends with this one.
struct Process {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Process {
    fn start(
        program: &Path,
        folder: &Path,
        name: &str,
        spec: &Value,
        arguments: &[&str],
    ) -> Result<Process> {
        let path = folder.join(format!("{name}.json"));
        std::fs::write(&path, serde_json::to_vec(spec)?)?;
        let mut command = Command::new(program);
        command.arg("--spec").arg(path).args(arguments).envs(ENVIRONMENT);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = command.stderr(std::fs::File::create(folder.join(format!("{name}.log")))?);
        let mut child = child.spawn().with_context(|| program.display().to_string())?;
        let lines = child.stdout.take().context("standard output was piped")?;
        Ok(Process { child, lines: BufReader::new(lines) })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Trains; the peak of every rank in bytes.
fn train(programs: &Path, folder: &Path, run: &RunSpec, island: &IslandSpec) -> Result<Vec<u64>> {
    let spec = json!({
        "listen": "127.0.0.1:0", "store": folder.join("coordinator.redb"),
        "run": {
            "name": run.name, "islands": 1, "minimum": 1, "quorumPercent": 100,
            "graceMs": 30_000, "deadlineMs": 300_000, "tokens": run.tokens,
        },
    });
    let program = programs.join("heteroloco-coordinator");
    let mut coordinator = Process::start(&program, folder, "coordinator", &spec, &[])?;
    let mut line = String::new();
    coordinator.lines.read_line(&mut line)?;
    let told: Value = serde_json::from_str(&line).context("the coordinator ended")?;
    let address = told["address"].as_str().context("the coordinator tells its address")?;
    let mut ranks = Vec::new();
    let spec = json!(WorkerSpec {
        run: run.clone(),
        island: island.clone(),
        coordinator: format!("http://{address}"),
        listen: "127.0.0.1:0".into(),
        collective_listen: "127.0.0.1:0".into(),
        metrics: None,
        checkpoint_dir: folder.join("checkpoints"),
    });
    for rank in 0..island.ranks.len() as u32 {
        let program = programs.join("heteroloco-worker");
        let arguments = ["--rank", &rank.to_string()];
        ranks.push(Process::start(&program, folder, &format!("rank-{rank}"), &spec, &arguments)?);
    }
    ranks.iter_mut().map(peak).collect()
}

/// The peak that a rank reports before it ends.
fn peak(rank: &mut Process) -> Result<u64> {
    let mut peak = None;
    for line in (&mut rank.lines).lines() {
        match serde_json::from_str(&line?)? {
            WorkerEvent::Memory { peak_bytes, .. } => peak = Some(peak_bytes),
            WorkerEvent::Failed { error } => bail!("a rank failed: {error}"),
            _ => {}
        }
    }
    ensure!(rank.child.wait()?.success(), "a rank failed");
    peak.context("no rank told its peak")
}
