//! `make bench-sharding`: what it costs to cut a model, and whether that is what the plan says.
//! Prints `figure NAME VALUE UNIT` lines.

mod boundary;
mod bubble;
mod segments;
mod subspace;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use rustix::time::{ClockId, clock_gettime};

/// As in the worker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
struct Arguments {
    /// A corpus of bytes made by `heteroloco data prepare`.
    #[arg(long)]
    data: PathBuf,
    /// Only this part.
    #[arg(long)]
    only: Option<Part>,
    /// Steps with and without compression.
    #[arg(long, default_value_t = 1000)]
    steps: u64,
    /// Run as this stage of the pipeline.
    #[arg(long, hide = true)]
    rank: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Segments,
    Bubble,
    Boundary,
    Subspace,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(rank) = arguments.rank {
        return bubble::run_rank(rank);
    }
    let asked = |part| arguments.only.is_none_or(|only| only == part);
    if asked(Part::Segments) {
        segments::measure()?;
    }
    if asked(Part::Bubble) {
        bubble::measure(&arguments.data)?;
    }
    if asked(Part::Boundary) {
        boundary::measure()?;
    }
    if asked(Part::Subspace) {
        subspace::measure(&arguments.data, arguments.steps)?;
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds that this thread has computed; waiting does not count.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Tokens that are repeatable and mean nothing: a step's time does not depend on the text.
fn tokens(count: usize, vocabulary: u32) -> Vec<u32> {
    let token = |index: u64| index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    (0..count as u64).map(|index| (token(index) % u64::from(vocabulary)) as u32).collect()
}
