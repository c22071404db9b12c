//! The loss that compression of a pipeline costs: the same training with and without it.

use std::path::Path;

use anyhow::{Context, Result};
use bench_training::island::{connect, island, stages};
use collective::Group;
use data::{Corpus, HeldOut, Sampler, SamplerOptions, Split};
use plan::model::LlamaConfig;
use plan::schedule::Schedule;
use plan::spec::{BatchSpec, OptimizerSpec, PipelineCompression, Sharding};
use worker::devices::Devices;
use worker::model::MicroBatches;

const WIDTH: u32 = 128;
/// k: an eighth of the width.
const RANK: u32 = WIDTH / 8;
const LENGTH: usize = 64;
/// Sequences of a micro-batch, and micro-batches of a step.
const BATCH: usize = 4;
const MICRO_BATCHES: usize = 2;
const HELD_OUT: u32 = 256;

/// Trains both for so many steps; prints the difference of their held-out losses.
pub(crate) fn measure(data: &Path, steps: u64) -> Result<()> {
    let corpus = Corpus::open(data)?;
    let plain = train(&corpus, None, steps)?;
    let compressed = train(&corpus, Some(PipelineCompression { rank: RANK }), steps)?;
    let gap = (compressed / plain - 1.0) * 100.0;
    println!("held-out loss after {steps} steps: {plain:.4}, with k = {RANK} {compressed:.4}");
    println!("figure pipeline.k_eighth.loss_gap_percent {gap:.2} %");
    Ok(())
}

fn model() -> LlamaConfig {
    LlamaConfig {
        hidden_size: WIDTH,
        intermediate_size: 384,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        max_position_embeddings: 128,
        ..bench_training::convergence::model()
    }
}

/// The held-out loss in nats per token after so many steps of two stages.
fn train(corpus: &Corpus, compression: Option<PipelineCompression>, steps: u64) -> Result<f64> {
    let model = model().validate()?;
    let sharding = Sharding { tensor: 1, stages: stages(&[2, 2]), compression };
    let batch = BatchSpec { micro_batches: MICRO_BATCHES as u32, micro_batch_size: BATCH as u32 };
    let island = island(sharding, vec![batch], 2);
    let optimizer =
        OptimizerSpec { learning_rate: 3e-3, warmup_steps: 50, ..OptimizerSpec::default() };
    let mut group = Group::in_memory(1).pop().context("a group has its ranks")?;
    let mut devices = connect(&mut group, &model, &island, &optimizer)?;
    let sampler = Sampler::new(SamplerOptions {
        tokens: corpus.tokens(Split::Train),
        seed: 1,
        sequence_length: LENGTH as u32,
    })?;
    let scale = 1.0 / (MICRO_BATCHES * BATCH * LENGTH) as f64;
    let schedule = Schedule::new(&optimizer, optimizer.warmup_steps as f64, steps as f64);
    for step in 0..steps {
        let work = [batches(corpus, &sampler, step)?];
        let sums = devices.accumulate(&work, scale)?;
        devices.optimizer_step(schedule.rate(step as f64), &sums)?;
        if (step + 1).is_multiple_of(250) {
            let [loss, _] = sums.read()?;
            println!("step {}: {:.4}, {compression:?}", step + 1, loss * scale);
        }
    }
    held_out(corpus, &mut devices)
}

fn batches(corpus: &Corpus, sampler: &Sampler, step: u64) -> Result<MicroBatches> {
    let mut tokens = vec![vec![0; BATCH * (LENGTH + 1)]; MICRO_BATCHES];
    let rows = tokens.iter_mut().flat_map(|tokens| tokens.chunks_exact_mut(LENGTH + 1));
    for (row, sample) in rows.zip(step * (MICRO_BATCHES * BATCH) as u64..) {
        corpus.read(Split::Train, sampler.sequence(sample), row)?;
    }
    Ok(MicroBatches { tokens, batch: BATCH, length: LENGTH })
}

fn held_out(corpus: &Corpus, devices: &mut Devices) -> Result<f64> {
    let held_out = HeldOut::new(corpus.tokens(Split::Validation), LENGTH as u32, HELD_OUT);
    let held_out = held_out.context("failed to find held-out data; prepare more text")?;
    let mut tokens = Vec::new();
    for first in held_out.sequences() {
        let mut row = vec![0; LENGTH + 1];
        corpus.read(Split::Validation, first, &mut row)?;
        tokens.push(row);
    }
    let count = (tokens.len() * LENGTH) as f64;
    let work = [MicroBatches { tokens, batch: 1, length: LENGTH }];
    Ok(devices.loss(&work)? / count)
}
