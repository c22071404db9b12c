//! The coordinator's process: one turn at a time, shown when it is saved, on a disk that keeps what
//! was synced and nothing else.

use std::collections::VecDeque;
use std::rc::Rc;

use rounds::config::Config;
use rounds::record::Entry;
use rounds::state::{Millis, Saved, State};
use rounds::step::Event;
use rounds::turn::Turn;
use rounds::types::RunView;

/// Calls that wait for their turn; more are lost, as if the connection had broken.
pub(crate) const CALLS_QUEUED_MAX: usize = 256;

/// The caller that waits for an answer: the island, its process and its call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) island: usize,
    pub(crate) life: u64,
    pub(crate) call: u64,
}

/// The content of the coordinator's disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) saved: Option<Saved>,
    pub(crate) record: Vec<Entry>,
}

/// A coordinator that runs.
pub(crate) struct Process {
    pub(crate) state: State,
    pub(crate) view: Rc<RunView>,
    /// A turn whose state is being written, and who waits for it.
    pub(crate) writing: Option<(Turn, Option<Caller>)>,
    pub(crate) inbox: VecDeque<(Event, Caller)>,
    /// The time at which its clock began.
    started: u64,
}

impl Process {
    /// Comes up from its disk.
    pub(crate) fn start(config: Config, disk: &Disk, now: u64) -> Process {
        let state = match disk.saved.clone() {
            Some(saved) => State::resume(config, saved, Millis(0)).expect("the disk is this run's"),
            None => State::new(config, Millis(0)),
        };
        let view = Rc::new(state.view());
        Process { state, view, writing: None, inbox: VecDeque::new(), started: now }
    }

    /// Its own clock.
    pub(crate) fn clock(&self, now: u64) -> Millis {
        Millis(now - self.started)
    }

    /// The time at which it has to look by itself, on the world's clock.
    pub(crate) fn wakeup(&self) -> Option<u64> {
        self.state.next_wakeup().map(|at| at.0 + self.started)
    }
}
