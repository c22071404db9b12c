//! `heteroloco-worker export`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::{create_empty, write_companions, write_parameters};
use crate::trained::Trained;

/// Which checkpoint, and where to.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// A run, a checkpoint, a folder of them (the newest is taken), or an exported model.
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// Folder to write; it must be new or empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Largest file of parameters, in MB.
    #[arg(long, value_name = "MB", default_value_t = 5000)]
    shard_megabytes_max: u64,
}

/// Writes a checkpoint as a folder that transformers loads, and says where it is.
///
/// # Errors
/// The checkpoint cannot be read, or the folder not written.
pub fn export_command(arguments: &ExportArguments) -> anyhow::Result<()> {
    let trained = Trained::open(&arguments.checkpoint)?;
    create_empty(&arguments.out)?;
    let bytes_max = arguments.shard_megabytes_max.saturating_mul(1_000_000);
    write_companions(&arguments.out, &trained.config, &trained.tokenizer)?;
    write_parameters(&arguments.out, &trained.layout, &trained.theta, bytes_max)
        .context("failed to export the checkpoint")?;
    println!("{}", arguments.out.display());
    Ok(())
}
