//! `make bench-step`: tokens per second of one rank's inner step against the same model in PyTorch,
//! both of the same libtorch version and on the same threads, taking turns. It checks on the way
//! that an exported model has the same logits in transformers.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use data::Tokenizer;
use plan::model::LlamaConfig;
use plan::spec::{DeviceSpec, OptimizerSpec};
use serde_json::Value;
use worker::hugging_face::{create_empty, write_companions, write_parameters};
use worker::model::Replica;

/// As in the worker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
struct Arguments {
    /// Python with torch and transformers.
    #[arg(long)]
    python: PathBuf,
    /// Threads on both sides.
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Turns of each side; the medians are compared.
    #[arg(long, default_value_t = 7)]
    turns: u32,
    /// Only this case.
    #[arg(long)]
    only: Option<String>,
}

/// A model with the shape of its steps.
struct Case {
    name: &'static str,
    config: LlamaConfig,
    batch: usize,
    length: usize,
    steps: u32,
}

fn preset(name: &str) -> Result<LlamaConfig> {
    plan::model::preset(name).context("a preset is missing")
}

fn cases() -> Result<Vec<Case>> {
    let demo = preset("llama-demo")?;
    let medium = LlamaConfig {
        hidden_size: 512,
        intermediate_size: 1408,
        num_hidden_layers: 8,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        vocab_size: 8192,
        max_position_embeddings: 512,
        tie_word_embeddings: false,
        ..demo.clone()
    };
    Ok(vec![
        Case { name: "llama-demo", config: demo, batch: 4, length: 256, steps: 6 },
        Case { name: "llama-33m", config: medium, batch: 2, length: 512, steps: 1 },
        Case { name: "llama-160m", config: preset("llama-160m")?, batch: 1, length: 512, steps: 1 },
    ])
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!("threads: {}; figures are ratios of medians; above 1 is faster", arguments.threads);
    let mut least = f64::INFINITY;
    for case in cases()? {
        if arguments.only.as_deref().is_some_and(|name| name != case.name) {
            continue;
        }
        let ratio = compare(&arguments, &case).with_context(|| format!("in case {}", case.name))?;
        least = least.min(ratio);
    }
    println!("figure step.vs_pytorch {least:.2} x");
    Ok(())
}

/// Measures both sides; returns how many times faster this project's is.
fn compare(arguments: &Arguments, case: &Case) -> Result<f64> {
    let mut ours = Ours::new(arguments, case)?;
    let folder = Folder::new(case.name)?;
    ours.export(&folder.0.join("model"))?;
    let tokens = folder.0.join("tokens");
    let bytes: Vec<u8> = ours.tokens.iter().flat_map(|t| i64::from(*t).to_le_bytes()).collect();
    std::fs::write(&tokens, bytes)?;
    let start = |fused| Theirs::start(arguments, &folder.0.join("model"), fused);
    let (mut plain, mut fused) = (start(false)?, start(true)?);
    let difference = parity(&mut ours, &mut plain, case, &folder.0)?;
    println!("figure step.{}.max_abs_dlogit {difference:.2e} nats", case.name);
    let steps = format!("step {} {} {}", tokens.display(), case.batch, case.steps);
    let (mut own, mut other) = (Vec::new(), [Vec::new(), Vec::new()]);
    for turn in 0..=arguments.turns {
        let times = [ours.steps(case)?, plain.seconds(&steps)?, fused.seconds(&steps)?];
        if turn > 0 {
            own.push(times[0]);
            other[0].push(times[1]);
            other[1].push(times[2]);
        }
    }
    let count = (case.batch * case.length) as f64 * f64::from(case.steps);
    let [plain, fused] = other.map(median);
    let (own, best) = (median(own), plain.min(fused));
    let name = case.name;
    println!("figure step.{name}.tokens_per_second {:.0} tokens/s", count / own);
    println!("figure step.{name}.pytorch_tokens_per_second {:.0} tokens/s", count / best);
    println!("figure step.{name}.vs_pytorch {:.2} x", best / own);
    Ok(best / own)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The largest difference between the logits of both sides for one sequence.
fn parity(ours: &mut Ours, theirs: &mut Theirs, case: &Case, folder: &Path) -> Result<f32> {
    let sequence = &ours.tokens[..case.length];
    let (tokens, out) = (folder.join("sequence"), folder.join("logits"));
    let bytes: Vec<u8> = sequence.iter().flat_map(|t| i64::from(*t).to_le_bytes()).collect();
    std::fs::write(&tokens, bytes)?;
    theirs.ask(&format!("logits {} {}", tokens.display(), out.display()))?;
    let expected = std::fs::read(&out)?;
    let logits = ours.replica.logits(sequence, case.length)?;
    let (values, rest) = expected.as_chunks::<4>();
    ensure!(rest.is_empty() && values.len() == logits.len(), "logits of another shape");
    let differences =
        values.iter().zip(&logits).map(|(value, logit)| (f32::from_le_bytes(*value) - logit).abs());
    let worst = differences.fold(0.0, f32::max);
    ensure!(worst <= 1e-4, "logits differ by {worst}");
    Ok(worst)
}

/// This project's side.
struct Ours {
    replica: Replica,
    tokens: Vec<u32>,
}

impl Ours {
    fn new(arguments: &Arguments, case: &Case) -> Result<Self> {
        let device = DeviceSpec::Cpu { threads: arguments.threads, speed: 1.0 };
        let optimizer =
            OptimizerSpec { learning_rate: 1e-3, warmup_steps: 0, ..OptimizerSpec::default() };
        let count = case.batch * (case.length + 1);
        let tokens = bench_training::tokens(count, case.config.vocab_size);
        let replica = Replica::new(&case.config, 1, &device, &optimizer)?;
        Ok(Self { replica, tokens })
    }

    fn export(&mut self, folder: &Path) -> Result<()> {
        let config = self.replica.model().config().clone();
        let layout = self.replica.layout().clone();
        create_empty(folder)?;
        write_companions(folder, &config, &Tokenizer::Byte)?;
        write_parameters(folder, &layout, self.replica.theta()?, 100 << 20)?;
        Ok(())
    }

    fn steps(&mut self, case: &Case) -> Result<f64> {
        let scale = 1.0 / (case.batch * case.length) as f64;
        let started = Instant::now();
        for _ in 0..case.steps {
            self.replica.forward_backward(&self.tokens, case.batch, case.length, scale)?;
            self.replica.optimizer_step(1e-3)?;
        }
        Ok(started.elapsed().as_secs_f64())
    }
}

/// PyTorch's side, in a process of its own.
struct Theirs {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Theirs {
    /// With the fused optimiser, or with one that goes through the parameters one by one.
    fn start(arguments: &Arguments, folder: &Path, fused: bool) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pytorch_step.py");
        let mut child = Command::new(&arguments.python)
            .arg(script)
            .args(["--threads", &arguments.threads.to_string()])
            .args(["--fused", if fused { "1" } else { "0" }])
            .arg("--folder")
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start {}", arguments.python.display()))?;
        let requests = child.stdin.take().context("the child has no standard input")?;
        let output = child.stdout.take().context("the child has no standard output")?;
        let mut theirs = Self { child, requests, answers: BufReader::new(output) };
        let greeting = theirs.answer()?;
        let version = greeting["torch"].as_str().unwrap_or_default();
        ensure!(version.starts_with("2.11.0"), "PyTorch is {version}, libtorch is 2.11.0");
        Ok(theirs)
    }

    fn seconds(&mut self, request: &str) -> Result<f64> {
        self.ask(request)?["seconds"].as_f64().context("PyTorch answered without a time")
    }

    fn ask(&mut self, request: &str) -> Result<Value> {
        writeln!(self.requests, "{request}")?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("PyTorch's process has ended: {}", self.child.wait()?);
        }
        serde_json::from_str(&line).context("PyTorch did not answer in JSON")
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        // It may have ended already; there is nothing else to do about it here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder that goes when this does.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("bench-step-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays is no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
