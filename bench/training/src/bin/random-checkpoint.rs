//! Writes a checkpoint of a small model with random parameters: something to evaluate and export
//! where nothing was trained.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use data::{Tokenizer, TokenizerChoice};
use plan::model::LlamaConfig;
use worker::checkpoint::{self, FORMAT, Manifest, Part};
use worker::hugging_face::write_companions;
use worker::origin::{Origin, span_values};
use worker::parameters::Layout;

/// As in the worker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
struct Arguments {
    /// `byte`, or a Hugging Face tokenizer.json.
    #[arg(long)]
    tokenizer: TokenizerChoice,
    /// Longest sequence.
    #[arg(long, default_value_t = 160)]
    positions: u32,
    /// Seed of the parameters.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the checkpoint's own folder.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let tokenizer = Tokenizer::load(&arguments.tokenizer)?;
    let config = LlamaConfig {
        hidden_size: 64,
        intermediate_size: 160,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: None,
        vocab_size: tokenizer.vocab_size(),
        max_position_embeddings: arguments.positions,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tie_word_embeddings: false,
        // Ten times the usual: the likelihoods of choices have to differ.
        initializer_range: 0.2,
    };
    let folder = write(&arguments.out, arguments.seed, config, &tokenizer)
        .context("failed to write a checkpoint")?;
    println!("{}", folder.display());
    Ok(())
}

fn write(root: &Path, seed: u64, config: LlamaConfig, tokenizer: &Tokenizer) -> Result<PathBuf> {
    let tensors = Layout::new(config.validate()?.tensors());
    let layout = tensors.canonical()?;
    let pieces = 0..layout.pieces();
    let origin = Origin::Seed { seed, range: config.initializer_range };
    let theta = span_values(&origin, &layout, tensors.tensors(), pieces.clone())?;
    let of = |part| -> Result<Vec<f32>> {
        Ok(if part == Part::Theta { theta.clone() } else { vec![0.0; theta.len()] })
    };
    let part = checkpoint::write_part(root, (0, 0), (pieces, theta.len()), of)?;
    write_companions(&checkpoint::folder_of(root, 0), &config, tokenizer)?;
    let manifest = Manifest {
        format: FORMAT,
        run: "random".into(),
        island: "random".into(),
        seed,
        round: 0,
        tokens: 0,
        samples: 0,
        theta_hash: None,
        optimizer_steps: 0,
        model: config,
        layout: None,
        parts: vec![part],
    };
    Ok(checkpoint::commit(root, &manifest)?)
}
