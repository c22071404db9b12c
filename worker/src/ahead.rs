//! The samples of inner steps, read on a thread of their own while the devices compute the step
//! before: no step waits for a disk or a file system that is far away.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use data::Allotment;
use plan::spec::BatchSpec;

use crate::error::RunError;
use crate::model::MicroBatches;
use crate::text::Text;

/// Steps that are asked for or read and not taken: one, and one that a round left behind.
const AHEAD: usize = 2;

/// What an inner step needs of the text.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What each replica does in a step.
    pub batches: Vec<BatchSpec>,
    /// Whether a device of it is here; the samples of the others are not read.
    pub here: Vec<bool>,
    /// Inputs of a sequence.
    pub length: usize,
}

/// A step of a round; rounds are told apart by the order in which they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Which {
    round: u64,
    step: u32,
}

type Asked = (Which, Arc<Allotment>);
type Read = (Which, Result<Vec<MicroBatches>, RunError>);

/// Reads one step ahead.
#[derive(Debug)]
pub struct ReadAhead {
    asks: SyncSender<Asked>,
    read: Receiver<Read>,
    samples: Arc<Allotment>,
    round: u64,
    steps: u32,
}

impl ReadAhead {
    /// Starts the thread, which ends with this.
    ///
    /// # Errors
    /// The machine has none left.
    pub fn new(text: Arc<Text>, shape: Shape) -> Result<ReadAhead, RunError> {
        let (asks, asked) = sync_channel::<Asked>(AHEAD);
        let (tell, read) = sync_channel(AHEAD);
        let work = move || {
            for (which, samples) in asked {
                let step = read_step(&text, &shape, &samples, which.step);
                if tell.send((which, step)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("samples".into()).spawn(work);
        thread.map_err(|source| RunError::System { operation: "read samples ahead", source })?;
        Ok(ReadAhead { asks, read, samples: Arc::default(), round: 0, steps: 0 })
    }

    /// A round of so many steps begins, on `samples`; what was read of another one is forgotten.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn begin(&mut self, samples: Allotment, steps: u32) -> Result<(), RunError> {
        self.samples = Arc::new(samples);
        self.round += 1;
        self.steps = steps;
        self.ask(0)
    }

    /// The micro-batches of the round's next step, by replica; none of those that have no device
    /// here. Steps are taken in their order.
    ///
    /// # Errors
    /// They cannot be read, or the island has no more samples in this round.
    pub fn take(&mut self, step: u32) -> Result<Vec<MicroBatches>, RunError> {
        let wanted = Which { round: self.round, step };
        loop {
            let (which, read) = self.read.recv().map_err(|_| gone())?;
            if which == wanted {
                self.ask(step + 1)?;
                return read;
            }
        }
    }

    fn ask(&self, step: u32) -> Result<(), RunError> {
        if step >= self.steps {
            return Ok(());
        }
        let which = Which { round: self.round, step };
        self.asks.send((which, Arc::clone(&self.samples))).map_err(|_| gone())
    }
}

fn gone() -> RunError {
    let source = io::Error::other("the thread has ended");
    RunError::System { operation: "read samples ahead", source }
}

fn read_step(
    text: &Text,
    shape: &Shape,
    samples: &Allotment,
    step: u32,
) -> Result<Vec<MicroBatches>, RunError> {
    let sequences =
        |batch: &BatchSpec| u64::from(batch.micro_batches) * u64::from(batch.micro_batch_size);
    let length = shape.length;
    let mut first = u64::from(step) * shape.batches.iter().map(sequences).sum::<u64>();
    let mut work = Vec::new();
    for (spec, here) in shape.batches.iter().zip(&shape.here) {
        let batch = spec.micro_batch_size as usize;
        let count = if *here { spec.micro_batches as usize } else { 0 };
        let mut tokens = vec![vec![0; batch * (length + 1)]; count];
        let rows = tokens.iter_mut().flat_map(|tokens| tokens.chunks_exact_mut(length + 1));
        for (row, nth) in rows.zip(first..) {
            text.sample(samples.position(nth)?, row)?;
        }
        work.push(MicroBatches { tokens, batch, length });
        first += sequences(spec);
    }
    Ok(work)
}

#[cfg(test)]
mod rounds;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tests::{corpus, options};

    #[test]
    fn steps_come_in_their_order_though_a_round_was_left_in_the_middle() {
        let (_folder, out) = corpus();
        let text = Arc::new(Text::open(&options(&out)).expect("whole data"));
        let batch = BatchSpec { micro_batches: 2, micro_batch_size: 1 };
        let shape = Shape { batches: vec![batch; 2], here: vec![true, false], length: 16 };
        let mut ahead = ReadAhead::new(Arc::clone(&text), shape).expect("a thread");
        let expected = |position: u64| {
            let mut row = vec![0; 17];
            text.sample(position, &mut row).expect("a sample");
            row
        };
        ahead.begin(Allotment::new(std::iter::once(0..12)), 3).expect("asked");
        assert_eq!(ahead.take(0).expect("read")[0].tokens, [expected(0), expected(1)]);
        // The second step is under way, and nobody takes it.
        ahead.begin(Allotment::new([5..6, 9..16]), 2).expect("asked");
        for (step, [first, second]) in [[5, 9], [12, 13]].into_iter().enumerate() {
            let read = ahead.take(step as u32).expect("read");
            assert_eq!(read[0].tokens, [expected(first), expected(second)], "step {step}");
            assert!(read[1].tokens.is_empty(), "its device is elsewhere");
        }
    }

    #[test]
    fn a_step_beyond_what_the_island_was_given_says_so() {
        let (_folder, out) = corpus();
        let text = Arc::new(Text::open(&options(&out)).expect("whole data"));
        let batches = vec![BatchSpec { micro_batches: 1, micro_batch_size: 1 }];
        let shape = Shape { batches, here: vec![true], length: 16 };
        let mut ahead = ReadAhead::new(text, shape).expect("a thread");
        ahead.begin(Allotment::new(std::iter::once(3..4)), 2).expect("asked");
        ahead.take(0).expect("read");
        assert!(matches!(ahead.take(1), Err(RunError::Sampler(_))));
    }
}
