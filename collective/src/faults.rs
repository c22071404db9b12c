//! Faults that strike at a scheduled operation: what tests of failure are made of.

use std::time::Duration;

/// A schedule of faults. Operations are counted per rank, from 0, in the order of its calls after
/// the group was made. One schedule may be given to all ranks; each picks out what concerns it.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    scheduled: Vec<(u64, Fault)>,
}

/// A fault that strikes a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill { rank: u32 },
    DropLink { from: u32, to: u32 },
    Delay { from: u32, to: u32, by: Duration },
    Garble { from: u32, to: u32 },
}

impl Faults {
    /// No faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// `rank` dies without a word as it begins the operation; its call returns
    /// [`crate::CommError::Killed`].
    pub fn kill(self, rank: u32, operation: u64) -> Self {
        self.schedule(operation, Fault::Kill { rank })
    }

    /// The link that carries `from`'s messages to `to` breaks as `from` begins the operation.
    pub fn drop_link(self, from: u32, to: u32, operation: u64) -> Self {
        self.schedule(operation, Fault::DropLink { from, to })
    }

    /// `from` holds back the operation's first message to `to`.
    pub fn delay(self, from: u32, to: u32, operation: u64, by: Duration) -> Self {
        self.schedule(operation, Fault::Delay { from, to, by })
    }

    /// The header of the operation's first message of `from` to `to` is garbled.
    pub fn garble(self, from: u32, to: u32, operation: u64) -> Self {
        self.schedule(operation, Fault::Garble { from, to })
    }

    /// The faults that strike `rank` at its operation `operation`.
    pub(crate) fn at(&self, rank: u32, operation: u64) -> impl Iterator<Item = Fault> {
        let due = self.scheduled.iter().filter(move |(at, fault)| {
            *at == operation
                && match fault {
                    Fault::Kill { rank: struck } => *struck == rank,
                    Fault::DropLink { from, .. }
                    | Fault::Delay { from, .. }
                    | Fault::Garble { from, .. } => *from == rank,
                }
        });
        due.map(|(_, fault)| *fault)
    }

    fn schedule(mut self, operation: u64, fault: Fault) -> Self {
        self.scheduled.push((operation, fault));
        self
    }
}

#[cfg(test)]
mod tests;
