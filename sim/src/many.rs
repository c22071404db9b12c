//! Many worlds, on all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::judge::Fault;
use crate::world::{Trace, simulate};

/// The results of many worlds.
#[derive(Debug)]
pub struct Report {
    /// Worlds that were run.
    pub seeds: u64,
    /// Rounds that they committed.
    pub rounds: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Seeds in whose worlds something was broken, in their order.
    pub faults: Vec<(u64, Fault)>,
}

/// Runs the worlds of `count` seeds from `first` on.
pub fn many(first: u64, count: u64) -> Report {
    let started = Instant::now();
    let (next, rounds) = (AtomicU64::new(first), AtomicU64::new(0));
    let faults = Mutex::new(Vec::new());
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= first + count {
            return;
        }
        let outcome = simulate(seed, Trace::Off);
        rounds.fetch_add(outcome.rounds, Ordering::Relaxed);
        if let Some(fault) = outcome.fault {
            faults.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((seed, fault));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        (0..cores).for_each(|_| {
            scope.spawn(work);
        });
    });
    let mut faults = faults.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    faults.sort_unstable_by_key(|(seed, _)| *seed);
    let (rounds, seconds) = (rounds.into_inner(), started.elapsed().as_secs_f64());
    Report { seeds: count, rounds, seconds, faults }
}
