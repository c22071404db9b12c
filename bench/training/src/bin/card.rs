//! Part of `bench/gpu/check.py`: an inner step of one model on the first CUDA device, or on the
//! CPU. Prints lines of JSON: first the model with what its plan expects, so that others can be
//! measured on the same even where this one fails, then what was measured.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use plan::memory::{Kind, Load, Memory};
use plan::model::{Llama, LlamaConfig};
use plan::part::Parts;
use plan::spec::{DeviceSpec, OptimizerSpec, Precision, Sharding};
use serde_json::json;
use worker::model::Replica;

/// As in the worker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
struct Arguments {
    /// A preset.
    #[arg(long)]
    model: String,
    /// As many of the preset's layers as the plan finds room for in so many bytes.
    #[arg(long, value_name = "BYTES")]
    fill: Option<u64>,
    /// Sequences of a step.
    #[arg(long)]
    batch: usize,
    /// Tokens of a sequence.
    #[arg(long)]
    length: u32,
    /// Steps of a turn.
    #[arg(long, default_value_t = 4)]
    steps: u32,
    /// Turns, after one that does not count; the median does.
    #[arg(long, default_value_t = 5)]
    turns: u32,
    /// Product of the first CUDA device, as in the catalogue: compute there.
    #[arg(long, value_name = "PRODUCT")]
    card: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.batch > 0 && arguments.length > 0 && arguments.turns > 0, "nothing to do");
    let model = arguments.model()?;
    let card = arguments.card.as_deref().and_then(plan::gpu::lookup);
    let planned = arguments.memory(&model, 0)?;
    println!(
        "{}",
        json!({
            "config": model.config(),
            "parameters": model.parameters(),
            "flopsPerToken": model.flops_per_token(arguments.length),
            "peakTflops": card.map(plan::gpu::Card::tflops),
            "plannedBytes": planned.card(),
            "contextBytes": planned.of_kind(Kind::Context),
        })
    );
    let seconds = measure(&arguments, &model)?;
    let tokens = arguments.batch as f64 * f64::from(arguments.length * arguments.steps);
    let peak = worker::memory::peak(&arguments.device());
    println!("{}", json!({"tokensPerSecond": tokens / seconds, "peakBytes": peak}));
    Ok(())
}

impl Arguments {
    fn device(&self) -> DeviceSpec {
        match &self.card {
            Some(product) => DeviceSpec::Cuda { index: 0, precision: precision(product) },
            None => DeviceSpec::Cpu { threads: 1, speed: 1.0 },
        }
    }

    /// The preset, of as many layers as it has or as there is room for.
    fn model(&self) -> Result<Llama> {
        let preset = plan::model::preset(&self.model).context("there is no such preset")?;
        let longest = preset.max_position_embeddings.max(self.length);
        let of = |layers| LlamaConfig {
            num_hidden_layers: layers,
            max_position_embeddings: longest,
            ..preset.clone()
        };
        let Some(bytes) = self.fill else { return Ok(of(preset.num_hidden_layers).validate()?) };
        for layers in (1..=preset.num_hidden_layers).rev() {
            let model = of(layers).validate()?;
            if self.memory(&model, bytes)?.card() <= bytes {
                return Ok(model);
            }
        }
        anyhow::bail!("not even one layer of {} has room in {bytes} bytes", self.model)
    }

    /// The memory that the plan expects of one device that trains the whole model.
    fn memory(&self, model: &Llama, card_bytes: u64) -> Result<Memory> {
        let sharding = Sharding::whole(model.config().num_hidden_layers);
        Ok(Memory::of(&Load {
            model,
            part: Parts::new(model, 1)?.part(&sharding, 0, 0),
            in_flight: 1,
            sequence_length: self.length,
            micro_batch_size: u32::try_from(self.batch)?,
            precision: self.device().precision(),
            on_cpu: self.card.is_none(),
            ranks: 1,
            contributions: 0,
            card_bytes,
        }))
    }
}

/// bf16 on a card that the catalogue does not know: whoever has it, has a new one.
fn precision(product: &str) -> Precision {
    plan::gpu::lookup(product).map_or(Precision::Bf16, plan::gpu::Card::precision)
}

/// Seconds of a turn.
fn measure(arguments: &Arguments, model: &Llama) -> Result<f64> {
    let optimizer =
        OptimizerSpec { learning_rate: 1e-3, warmup_steps: 0, ..OptimizerSpec::default() };
    let mut replica = Replica::new(model.config(), 1, &arguments.device(), &optimizer)?;
    let (batch, length) = (arguments.batch, arguments.length as usize);
    let tokens = bench_training::tokens(batch * (length + 1), model.config().vocab_size);
    let scale = 1.0 / (batch * length) as f64;
    let mut turns = Vec::new();
    for turn in 0..=arguments.turns {
        let started = Instant::now();
        for _ in 0..arguments.steps {
            replica.forward_backward(&tokens, batch, length, scale)?;
            replica.optimizer_step(1e-3)?;
        }
        if turn > 0 {
            turns.push(started.elapsed().as_secs_f64());
        }
    }
    turns.sort_by(f64::total_cmp);
    Ok(turns[turns.len() / 2])
}
