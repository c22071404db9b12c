//! Leaving a step that is in progress: a large model on a slow device takes minutes for one, and
//! whoever asked the rank to stop does not want to wait for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::model::ModelError;

/// A step that ends within this of the stop still counts.
const STEP_WAIT: Duration = Duration::from_secs(2);
/// A device that rests looks so often whether it is to go on.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Whether a rank that is to stop leaves the step that it is in. Clones are one; the default never
/// interrupts.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    stop: Arc<AtomicBool>,
    since: Arc<OnceLock<Instant>>,
}

impl Interrupt {
    /// Follows `stop`, which is set once and for all.
    pub fn new(stop: Arc<AtomicBool>) -> Interrupt {
        Interrupt { stop, since: Arc::default() }
    }

    /// Between two pieces of a step.
    ///
    /// # Errors
    /// [`ModelError::Interrupted`] when the step is to be left.
    pub fn check(&self) -> Result<(), ModelError> {
        if self.is_due(Instant::now()) { Err(ModelError::Interrupted) } else { Ok(()) }
    }

    fn is_due(&self, now: Instant) -> bool {
        let stops = self.stop.load(Ordering::Relaxed);
        stops && now.duration_since(*self.since.get_or_init(|| now)) >= STEP_WAIT
    }

    /// Does nothing for so long, or until the step is to be left.
    pub(crate) fn rest(&self, time: Duration) {
        let ends = Instant::now() + time;
        loop {
            let now = Instant::now();
            if now >= ends || self.is_due(now) {
                return;
            }
            std::thread::sleep(LOOK_EVERY.min(ends - now));
        }
    }
}

#[cfg(test)]
mod rests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_left_some_time_after_the_stop_and_no_sooner() {
        let stop = Arc::new(AtomicBool::new(false));
        let interrupt = Interrupt::new(Arc::clone(&stop));
        let now = Instant::now();
        assert!(!interrupt.is_due(now + 9 * STEP_WAIT), "nobody asked");
        stop.store(true, Ordering::Relaxed);
        assert!(!interrupt.is_due(now), "it may still end");
        assert!(!interrupt.clone().is_due(now + STEP_WAIT / 2));
        assert!(interrupt.clone().is_due(now + STEP_WAIT));
        interrupt.rest(Duration::ZERO);
    }
}
