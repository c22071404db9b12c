//! `make bench-step` and `make bench-gpu`: tokens per second of one rank's inner step against the
//! same model in PyTorch, both of the same libtorch version, on the same threads or card, taking
//! turns. On the CPU it checks on the way that an exported model has the same logits in
//! transformers; on a card, where both compute in bf16, it gives the share of the card's TFLOP/s.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use data::Tokenizer;
use plan::model::LlamaConfig;
use plan::spec::{DeviceSpec, OptimizerSpec, Precision};
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
    /// Product of the first CUDA device, as in the catalogue: measure there.
    #[arg(long, value_name = "PRODUCT")]
    card: Option<String>,
}

impl Arguments {
    fn device(&self) -> DeviceSpec {
        match self.card {
            Some(_) => DeviceSpec::Cuda { index: 0, precision: Precision::Bf16 },
            None => DeviceSpec::Cpu { threads: self.threads, speed: 1.0 },
        }
    }
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

/// From small to large: the last one that fits is the largest that does.
fn card_cases() -> Result<Vec<Case>> {
    let case = |name, batch| -> Result<Case> {
        Ok(Case { name, config: preset(name)?, batch, length: 2048, steps: 4 })
    };
    Ok(vec![case("llama-160m", 8)?, case("llama-1b", 4)?, case("llama-8b", 1)?])
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
    for case in if arguments.card.is_some() { card_cases()? } else { cases()? } {
        if arguments.only.as_deref().is_some_and(|name| name != case.name) {
            continue;
        }
        match compare(&arguments, &case) {
            Ok(ratio) => least = least.min(ratio),
            Err(error) if format!("{error:#}").contains("out of memory") => {
                println!("{} does not fit the card", case.name);
                break;
            }
            Err(error) => return Err(error.context(format!("in case {}", case.name))),
        }
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
    let on_card = arguments.card.is_some();
    let start = |mode| Theirs::start(arguments, &folder.0.join("model"), mode);
    // On a card a loop over parameters is no rival to the fused optimiser, but compiled code is.
    let mut plain = start(if on_card { Mode::Compiled } else { Mode::Plain })?;
    let mut fused = start(Mode::Fused)?;
    if !on_card {
        let difference = parity(&mut ours, &mut plain, case, &folder.0)?;
        println!("figure step.{}.max_abs_dlogit {difference:.2e} nats", case.name);
    }
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
    if let Some(product) = &arguments.card {
        let card = plan::gpu::lookup(product).context("the catalogue does not know the card")?;
        let flops = ours.replica.model().flops_per_token(case.length as u32) * count;
        let utilisation = |seconds: f64| 100.0 * flops / seconds / (card.tflops() * 1e12);
        println!("figure step.{name}.mfu {:.1} %", utilisation(own));
        println!("figure step.{name}.pytorch_eager_mfu {:.1} %", utilisation(fused));
        println!("figure step.{name}.pytorch_compiled_mfu {:.1} %", utilisation(plain));
    }
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
        let device = arguments.device();
        let optimizer =
            OptimizerSpec { learning_rate: 1e-3, warmup_steps: 0, ..OptimizerSpec::default() };
        // Repeatable and of no meaning: a step's time does not depend on the text.
        let count = case.batch * (case.length + 1);
        let vocabulary = u64::from(case.config.vocab_size);
        let token = |index: u64| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % vocabulary;
        let tokens = (0..count as u64).map(|index| token(index) as u32).collect();
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

/// How PyTorch runs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// Eager, with an optimiser that goes through the parameters one by one.
    Plain,
    /// Eager, with the fused optimiser.
    Fused,
    /// Compiled, with the fused optimiser.
    Compiled,
}

/// PyTorch's side, in a process of its own.
struct Theirs {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Theirs {
    fn start(arguments: &Arguments, folder: &Path, mode: Mode) -> Result<Self> {
        let flag = |on: bool| if on { "1" } else { "0" };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pytorch_step.py");
        let mut child = Command::new(&arguments.python)
            .arg(script)
            .args(["--threads", &arguments.threads.to_string()])
            .args(["--fused", flag(mode != Mode::Plain)])
            .args(["--compile", flag(mode == Mode::Compiled)])
            .args(["--device", if arguments.card.is_some() { "cuda:0" } else { "cpu" }])
            .arg("--folder")
            .arg(folder)
            // Its own libtorch, not the one that this process was started with.
            .env_remove("LD_LIBRARY_PATH")
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
