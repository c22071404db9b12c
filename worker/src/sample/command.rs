//! `heteroloco-worker generate`.

use std::io::Write;
use std::num::NonZero;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use plan::spec::{DeviceSpec, OptimizerSpec};

use super::{Sampling, generate};
use crate::model::Replica;
use crate::trained::Trained;

/// Which checkpoint continues what, and how.
#[derive(Debug, Args)]
pub struct GenerateArguments {
    /// A checkpoint, or a folder of them (the newest is taken).
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// What to continue; empty begins a document.
    #[arg(long, allow_hyphen_values = true)]
    prompt: String,
    /// Tokens to write at most.
    #[arg(long, default_value_t = 300)]
    tokens: usize,
    /// 0 takes the likeliest token every time.
    #[arg(long, default_value_t = 0.8)]
    temperature: f64,
    /// Consider only so many of the likeliest tokens; 0 considers all.
    #[arg(long, default_value_t = 40)]
    top_k: usize,
    /// Seed of the choices.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Prints the prompt and what the model makes of it.
///
/// # Errors
/// The checkpoint cannot be read, or its model not computed.
pub fn generate_command(arguments: &GenerateArguments) -> anyhow::Result<()> {
    let trained = Trained::open(&arguments.checkpoint)?;
    let mut replica = replica(&trained).context("failed to set up the checkpoint's model")?;
    // The end token stands between documents, so after it one begins.
    let end = trained.tokenizer.end_token();
    let mut prompt = vec![end];
    trained.tokenizer.encode(&arguments.prompt, &mut prompt)?;
    let GenerateArguments { tokens, temperature, top_k, seed, .. } = *arguments;
    let sampling = Sampling { temperature, top_k, seed };
    let written = generate(&mut replica, &prompt, tokens, end, sampling)
        .context("failed to write text with the checkpoint's model")?;
    let text = trained.tokenizer.decode(&[&prompt[1..], &written].concat())?;
    writeln!(std::io::stdout(), "{text}").context("failed to print the text")
}

fn replica(trained: &Trained) -> anyhow::Result<Replica> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get) as u32;
    let device = DeviceSpec::Cpu { threads, speed: 1.0 };
    // Nothing is trained here: the optimiser's settings do not matter.
    let optimizer = OptimizerSpec::default();
    let mut replica = Replica::new(&trained.config, 0, &device, &optimizer)?;
    replica.theta()?.copy_from_slice(&trained.theta);
    replica.store_theta()?;
    Ok(replica)
}
