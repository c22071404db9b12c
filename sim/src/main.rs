//! `sim [--seeds N] [--seed S]`: many worlds, or one with all that happens in it.

use std::process::ExitCode;

use sim::{Trace, simulate};

fn number(name: &str) -> Option<u64> {
    let mut args = std::env::args().skip_while(|arg| arg != name);
    args.nth(1).and_then(|text| text.parse().ok())
}

fn main() -> ExitCode {
    if let Some(seed) = number("--seed") {
        let outcome = simulate(seed, Trace::On);
        print!("{}", outcome.trace);
        println!("seed {seed}: {} rounds in {} ms", outcome.rounds, outcome.ms);
        return outcome.fault.map_or(ExitCode::SUCCESS, |_| ExitCode::FAILURE);
    }
    let first = number("--first").unwrap_or(0);
    let report = sim::many(first, number("--seeds").unwrap_or(10_000));
    for (seed, fault) in report.faults.iter().take(20) {
        println!("seed {seed}: {fault}");
    }
    println!("figure sim.seeds {} worlds", report.seeds);
    println!("figure sim.rounds {} rounds", report.rounds);
    println!("figure sim.seconds {:.1} s", report.seconds);
    println!("figure sim.faults {} worlds", report.faults.len());
    if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
