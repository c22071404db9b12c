//! A run of four islands in which something breaks every few seconds, against the same run left
//! alone: `figure NAME VALUE UNIT` lines.
//!
//! The programs are those that users start. All that happens is real: processes are killed, stand
//! still, or have every packet to and from them dropped by the kernel, in a network namespace of
//! the run's own. What counts are rounds that the record says were committed.

mod mishap;
mod namespace;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use coordinator::store::Store;
use rounds::record::{Deed, Entry};

use crate::mishap::{Act, Victim};
use crate::run::{GRACE_WAIT, Place, Running};

/// Breaks a run for minutes and counts what it loses.
#[derive(Parser)]
struct Args {
    /// Folder of the programs.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Minutes of chaos.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Seconds from one mishap to the next; each lasts for half of that.
    #[arg(long, default_value_t = 20)]
    every: u64,
    /// Seconds in which the run is left alone, before and after, for comparison.
    #[arg(long, default_value_t = 120)]
    quiet: u64,
}

/// Rounds before anything is measured: processes start, and their first steps are slow.
const WARM_ROUNDS: u64 = 3;
/// Islands that are frozen for good, one after another, at different points of a round.
const FROZEN: [(&str, &str); 4] =
    [("b", "exchanging"), ("c", "training"), ("d", "exchanging"), ("a", "waiting")];

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(code) = namespace::enter()? {
        return Ok(code);
    }
    let place = Place::new(&args.programs.canonicalize().context("failed to find the programs")?)?;
    // Before and after, as what else the machine does changes.
    let before = leave_alone(&place, "before", &args)?;
    freeze_for_good(&place, 1.0 / before)?;
    let chaos = break_things(&place, &args)?;
    let after = leave_alone(&place, "after", &args)?;
    println!("figure chaos.rounds_vs_quiet {:.2} ratio", chaos / before.midpoint(after));
    Ok(ExitCode::SUCCESS)
}

/// Rounds in a second where nothing goes wrong.
fn leave_alone(place: &Place, name: &str, args: &Args) -> Result<f64> {
    let mut run = place.start(name)?;
    run.wait_for_rounds(WARM_ROUNDS)?;
    let (begun, rounds) = (Instant::now(), run.rounds());
    sleep(Duration::from_secs(args.quiet));
    let rate = (run.rounds() - rounds) as f64 / begun.elapsed().as_secs_f64();
    run.stop()?;
    println!("left alone {name}: {:.1} rounds a minute", rate * 60.0);
    Ok(rate)
}

/// How much longer than a round the others stand still when an island does, at the worst.
fn freeze_for_good(place: &Place, round: f64) -> Result<()> {
    let mut worst: f64 = 0.0;
    for (island, state) in FROZEN {
        let mut run = place.start(&format!("frozen-{island}"))?;
        run.wait_for_rounds(WARM_ROUNDS)?;
        run.wait_for_state(island, state)?;
        let frozen = run.find(Victim::Rank(island, 0))?;
        mishap::freeze(frozen);
        let before = run.rounds();
        run.wait_for_rounds(before + 5)?;
        let longest = run.longest_between(before);
        println!("{island} frozen while {state}: {longest:.1} s between two rounds at most");
        worst = worst.max(longest - round);
        mishap::thaw(frozen);
        run.stop()?;
    }
    println!("grace is {} s", GRACE_WAIT.as_secs());
    println!("figure exchange.slow_peer_stall_s {worst:.1} s");
    Ok(())
}

/// Something breaks, is mended, and the next breaks; rounds in a second all the while.
fn break_things(place: &Place, args: &Args) -> Result<f64> {
    let mut run = place.start("chaos")?;
    run.wait_for_rounds(WARM_ROUNDS)?;
    let (begun, before) = (Instant::now(), run.rounds());
    let every = Duration::from_secs(args.every);
    let count = args.minutes * 60 / args.every.max(1);
    for at in 0..count {
        let (act, victim) = mishap::nth(at);
        let rounds = run.rounds();
        act_on(&mut run, act, victim, every / 2)?;
        let next = every * u32::try_from(at + 1).unwrap_or(u32::MAX);
        sleep(next.saturating_sub(begun.elapsed()));
        println!("{act} {victim}: {} rounds in {} s", run.rounds() - rounds, args.every);
    }
    let rate = (run.rounds() - before) as f64 / begun.elapsed().as_secs_f64();
    let rounds = run.rounds();
    let store = run.stop()?;
    let record = Store::open(&store)?.record()?;
    let lost = lost(&record);
    let committed = record.iter().filter(|e| matches!(e.deed, Deed::Commit { .. })).count() as u64;
    ensure!(committed >= rounds, "{rounds} rounds were applied, {committed} are on record");
    println!("figure chaos.mishaps {count} mishaps");
    println!("figure chaos.lost_rounds {lost} rounds");
    Ok(rate)
}

/// Rounds that were committed and taken back.
fn lost(record: &[Entry]) -> u64 {
    let lost = |entry: &Entry| match entry.deed {
        Deed::Rewind { from, to, .. } => from - to,
        Deed::Commit { .. } | Deed::Adopt { .. } => 0,
    };
    record.iter().map(lost).sum()
}

/// Does it for `time`; a process that was killed is started again by others.
fn act_on(run: &mut Running, act: Act, victim: Victim, time: Duration) -> Result<()> {
    // A victim that is away already, as its island is being started again, is spared.
    let Ok(process) = run.find(victim) else { return Ok(()) };
    match act {
        Act::Kill => mishap::kill(process),
        Act::Freeze => {
            mishap::freeze(process);
            sleep(time);
            mishap::thaw(process);
        }
        Act::CutOff => namespace::cut_off(process, time)?,
    }
    Ok(())
}
