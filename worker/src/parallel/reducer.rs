//! Gradients summed over data-parallel replicas, in buckets, while backward still runs.

use std::ops::Range;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tch::Tensor;

use super::{PeerError, Team, spawn};

const REDUCE: &str = "sum gradients over replicas";
/// Values of a bucket, at least: 16 MiB, from where a ring is as fast as it gets.
const BUCKET: usize = 4 << 20;
/// Buckets that wait.
const QUEUED: usize = 1024;

/// Sums parts of a flat gradient over replicas, on a thread of its own. The parts come from the end
/// of the buffer to its beginning, as backward completes them.
#[derive(Debug)]
pub struct Reducer {
    work: Sender<Tensor>,
    done: Receiver<Result<(), PeerError>>,
    /// Ready and not given away yet.
    open: Range<usize>,
    given: usize,
    wait: Duration,
    team: Team,
}

impl Reducer {
    /// A reducer for the replicas of `team`, which waits for a bucket at most so long.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn new(team: Team, wait: Duration) -> Result<Reducer, PeerError> {
        let (work, tensors) = bounded::<Tensor>(QUEUED);
        let (told, done) = bounded(QUEUED);
        let own = team.clone();
        spawn("reducer", move || {
            while let Ok(mut tensor) = tensors.recv() {
                let result = own.sum(&mut tensor);
                let failed = result.is_err();
                if told.send(result).is_err() || failed {
                    return;
                }
            }
        })?;
        Ok(Reducer { work, done, open: 0..0, given: 0, wait, team })
    }

    /// `range` of `gradient` is complete: nobody writes it before [`Reducer::finish`].
    ///
    /// # Errors
    /// A replica is gone.
    pub fn ready(&mut self, gradient: &Tensor, range: Range<usize>) -> Result<(), PeerError> {
        if range.end == self.open.start {
            self.open.start = range.start;
        } else {
            self.give(gradient)?;
            self.open = range;
        }
        if self.open.len() >= BUCKET { self.give(gradient) } else { Ok(()) }
    }

    /// Returns when all that was ready is summed.
    ///
    /// # Errors
    /// A replica is gone or late.
    pub fn finish(&mut self, gradient: &Tensor) -> Result<(), PeerError> {
        self.give(gradient)?;
        while self.given > 0 {
            match self.done.recv_timeout(self.wait) {
                Ok(result) => result?,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(PeerError::Late { operation: REDUCE, wait: self.wait });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(PeerError::Gone { operation: REDUCE });
                }
            }
            self.given -= 1;
        }
        Ok(())
    }

    /// [`Team::abandon`] of the replicas.
    pub fn abandon(&self) {
        self.team.abandon();
    }

    fn give(&mut self, gradient: &Tensor) -> Result<(), PeerError> {
        let range = std::mem::replace(&mut self.open, 0..0);
        if range.is_empty() {
            return Ok(());
        }
        let bucket = gradient.f_narrow(0, range.start as i64, range.len() as i64);
        let bucket = bucket.map_err(PeerError::torch(REDUCE))?;
        if self.work.try_send(bucket).is_err() {
            // The thread has ended, and has said why.
            let said = self.done.try_iter().find_map(Result::err);
            return Err(said.unwrap_or(PeerError::Gone { operation: REDUCE }));
        }
        self.given += 1;
        Ok(())
    }
}
