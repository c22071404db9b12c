//! A call from its arrival to its answer, without I/O: nobody learns of anything that is not saved.

use crate::check::Unsound;
use crate::record::Entry;
use crate::refusal::Refusal;
use crate::state::{Millis, Saved, State};
use crate::step::{Event, Step, Verdict, step};
use crate::types::RunView;

/// A step that was taken, and is not shown to anybody yet.
#[derive(Debug)]
pub struct Turn {
    step: Step,
}

/// The results of a turn that may be shown once it is saved.
#[derive(Debug)]
pub struct Shown {
    /// The state from which the next turn goes on.
    pub state: State,
    /// The answer to whoever called.
    pub reply: Result<Verdict, Refusal>,
    /// The new view; absent where nothing changed.
    pub view: Option<RunView>,
    /// The entries that the record was extended by.
    pub entries: Vec<Entry>,
}

impl Turn {
    /// Takes `event` at `now`.
    ///
    /// # Errors
    /// The state that it leads to contradicts itself, so it must not be saved.
    pub fn take(state: &State, event: Event, now: Millis) -> Result<Turn, Unsound> {
        let step = step(state.clone(), event, now);
        step.state.check()?;
        Ok(Turn { step })
    }

    /// The state and the new entries of the record, which have to be on the disk before
    /// [`Turn::saved`].
    pub fn to_save(&self) -> Option<(&Saved, &[Entry])> {
        self.step.changed.then(|| (self.step.state.saved(), self.step.entries.as_slice()))
    }

    /// The answer and the view to show, after the turn is saved.
    pub fn saved(self) -> Shown {
        let Step { state, reply, entries, changed } = self.step;
        let view = changed.then(|| state.view());
        Shown { state, reply, view, entries }
    }
}
