//! Mishaps: an act, and the process that it is done to.

use std::fmt;

use rustix::process::{Pid, Signal, kill_process};

/// An act on a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// It dies at once.
    Kill,
    /// Its threads stand still for a while.
    Freeze,
    /// Traffic from it and to it vanishes for a while; no connection ends.
    CutOff,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::CutOff => "cut off",
        })
    }
}

/// One of the processes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    /// The coordinator.
    Coordinator,
    /// A rank of an island.
    Rank(&'static str, u32),
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => f.write_str("the coordinator"),
            Self::Rank(island, rank) => write!(f, "rank {rank} of {island}"),
        }
    }
}

const VICTIMS: [Victim; 6] = [
    Victim::Coordinator,
    Victim::Rank("a", 0),
    Victim::Rank("b", 0),
    Victim::Rank("b", 1),
    Victim::Rank("c", 0),
    Victim::Rank("d", 0),
];
const ACTS: [Act; 3] = [Act::Kill, Act::Freeze, Act::CutOff];

/// The `at`-th mishap: every act strikes every process once in eighteen, and neither the same act
/// nor the same process twice in a row.
pub(crate) fn nth(at: u64) -> (Act, Victim) {
    // Within six mishaps every process is struck once, each time by the next act.
    let turn = at / 6;
    let act = (at + 2 * turn) % 3;
    let victim = (at + turn) % 6;
    (ACTS[act as usize], VICTIMS[victim as usize])
}

pub(crate) fn kill(process: Pid) {
    signal(process, Signal::KILL);
}

pub(crate) fn freeze(process: Pid) {
    signal(process, Signal::STOP);
}

pub(crate) fn thaw(process: Pid) {
    signal(process, Signal::CONT);
}

fn signal(process: Pid, signal: Signal) {
    // A process that has just ended is as good as one that is struck.
    let _ = kill_process(process, signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_act_strikes_every_process() {
        let mut seen: Vec<_> = (0..18).map(nth).map(|what| format!("{what:?}")).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 18);
        let pairs = || (0..100).map(|at| (nth(at), nth(at + 1)));
        assert!(pairs().all(|(one, next)| one.1 != next.1), "no process twice in a row");
    }
}
