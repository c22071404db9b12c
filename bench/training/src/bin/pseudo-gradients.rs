//! Writes what islands of a real run would send: their pseudo-gradients, for `make bench-codec`.

use std::path::PathBuf;

use anyhow::Context;
use bench_training::convergence::{Arm, Setting, Trial, pseudo_gradients};
use clap::Parser;
use data::Corpus;
use plan::model::preset;
use sparseloco::outer::Rule;
use worker::hugging_face::{create_empty, write_parameters};

/// Trains llama-demo as four islands with SparseLoCo and keeps the last round's pseudo-gradients.
#[derive(Parser)]
struct Arguments {
    /// A corpus made by `heteroloco data prepare`.
    #[arg(long)]
    data: PathBuf,
    /// Gets one folder per island, with `model.safetensors`.
    #[arg(long)]
    out: PathBuf,
    /// Rounds of 15 inner steps.
    #[arg(long, default_value_t = 12)]
    rounds: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let corpus = Corpus::open(&arguments.data)?;
    let setting = Setting {
        islands: 4,
        inner_steps: 15,
        rounds: arguments.rounds,
        sequences: 2,
        sequence_length: 128,
        heldout_sequences: 1,
        evaluate_every: arguments.rounds,
    };
    let arm = Arm::Sparse { rule: Rule::Counted, alpha: 1.0, retention: 0.5 };
    let trial = Trial { arm, learning_rate: 2e-3, seed: 0 };
    let model = preset("llama-demo").context("llama-demo is a preset")?;
    let (layout, deltas) = pseudo_gradients(&model, &setting, &corpus, &trial)?;
    for (island, delta) in deltas.iter().enumerate() {
        let folder = arguments.out.join(format!("island-{island}"));
        create_empty(&folder)?;
        write_parameters(&folder, &layout, delta, u64::MAX)?;
    }
    Ok(())
}
