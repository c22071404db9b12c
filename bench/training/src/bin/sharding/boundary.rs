//! Bytes between two stages with and without compression.

use anyhow::{Context, Result};
use bench_training::island::{connect, island, stages};
use collective::Group;
use plan::model::LlamaConfig;
use plan::spec::{BatchSpec, OptimizerSpec, PipelineCompression, Sharding};
use worker::model::MicroBatches;

use crate::tokens;

const LENGTH: usize = 128;
const WIDTH: u32 = 512;
/// A hundredth of the width.
const RANK: u32 = WIDTH / 100;

/// Prints the share of bytes that compression saves in one step, both directions together.
pub(crate) fn measure() -> Result<()> {
    let plain = step(None)?;
    let compressed = step(Some(PipelineCompression { rank: RANK }))?;
    println!("boundary of width {WIDTH}: {plain} bytes a step, {compressed} with k = {RANK}");
    let saved = (1.0 - compressed as f64 / plain as f64) * 100.0;
    println!("figure pipeline.bytes_saved_percent {saved:.2} %");
    Ok(())
}

fn step(compression: Option<PipelineCompression>) -> Result<u64> {
    let demo = plan::model::preset("llama-demo").context("a preset is missing")?;
    let config = LlamaConfig {
        num_hidden_layers: 2,
        hidden_size: WIDTH,
        num_attention_heads: 8,
        num_key_value_heads: 8,
        head_dim: None,
        ..demo
    };
    let model = config.validate()?;
    let sharding = Sharding { tensor: 1, stages: stages(&[1, 1]), compression };
    let island = island(sharding, vec![BatchSpec { micro_batches: 2, micro_batch_size: 1 }], 2);
    let mut group = Group::in_memory(1).pop().context("a group has its ranks")?;
    let mut devices = connect(&mut group, &model, &island, &OptimizerSpec::default())?;
    let text = tokens(LENGTH + 1, model.config().vocab_size);
    let work = [MicroBatches { tokens: vec![text; 2], batch: 1, length: LENGTH }];
    devices.accumulate(&work, 1e-3)?;
    Ok(devices.take_boundary_bytes())
}
