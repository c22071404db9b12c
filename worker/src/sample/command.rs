//! `heteroloco-worker generate`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::{Sampling, generate};
use crate::trained::Trained;

/// Which checkpoint continues what, and how.
#[derive(Debug, Args)]
pub struct GenerateArguments {
    /// A run, a checkpoint, a folder of them (the newest is taken), or an exported model.
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// What to continue; empty begins a document.
    #[arg(long, allow_hyphen_values = true)]
    prompt: String,
    /// Tokens to write at most.
    #[arg(long, default_value_t = 300)]
    tokens: usize,
    /// 0 takes the likeliest token every time.
    #[arg(long, default_value_t = 0.8, allow_negative_numbers = true)]
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
    let temperature = arguments.temperature;
    anyhow::ensure!(
        temperature.is_finite() && temperature >= 0.0,
        "failed to sample at --temperature {temperature}: write a number of 0 or more, such as 0.8"
    );
    let trained = Trained::open(&arguments.checkpoint)?;
    let mut replica = trained.replica()?;
    // The end token stands between documents, so after it one begins.
    let end = trained.tokenizer.end_token();
    let mut prompt = vec![end];
    trained.tokenizer.encode(&arguments.prompt, &mut prompt)?;
    let GenerateArguments { tokens, top_k, seed, .. } = *arguments;
    let sampling = Sampling { temperature, top_k, seed };
    let written = generate(&mut replica, &prompt, tokens, end, sampling)
        .context("failed to write text with the model")?;
    let text = trained.tokenizer.decode(&[&prompt[1..], &written].concat())?;
    writeln!(std::io::stdout(), "{text}").context("failed to print the text")
}
