//! The steps of a round whose sums nobody has read yet. A card works off what the host gives it,
//! and to read is to wait until it is done; so the host reads the steps of a lone card a few at a
//! time and gives it more meanwhile. Where devices have to agree on each step, each is read.

use std::time::Instant;

use member::StepControl;
use plan::spec::{DeviceSpec, IslandSpec};

use crate::model::ModelError;
use crate::sums::{self, Sums};

/// Steps of a lone card that are read at a time: enough for a wait not to count, few enough for the
/// progress to be seen.
const READ_EVERY: usize = 8;

/// Steps that are made, up to the next reading.
#[derive(Debug)]
pub struct Unread {
    every: usize,
    steps: Vec<(u32, StepControl, Sums)>,
    /// When the first of them began.
    since: Option<Instant>,
}

/// A step as it is told of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadStep {
    /// Its number in the round, from 0.
    pub step: u32,
    /// Sums over the island, and what its ranks have said.
    pub control: StepControl,
    /// Its share of the seconds since the last reading.
    pub seconds: f64,
}

impl Unread {
    /// For the steps of an island.
    pub fn new(island: &IslandSpec) -> Unread {
        match only_device(island) {
            Some(DeviceSpec::Cuda { .. }) => Unread::every(READ_EVERY),
            // What the host computes is there.
            Some(DeviceSpec::Cpu { .. }) | None => Unread::every(1),
        }
    }

    fn every(every: usize) -> Unread {
        Unread { every, steps: Vec::new(), since: None }
    }

    /// A step begins.
    pub fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// A step was made; of `control`, `sums` stand for loss and squares.
    pub fn push(&mut self, step: u32, control: StepControl, sums: Sums) {
        self.steps.push((step, control, sums));
    }

    /// Whether it is time to read.
    pub fn is_due(&self) -> bool {
        self.steps.len() >= self.every
    }

    /// All steps since the last reading, in their order.
    ///
    /// # Errors
    /// What the device has failed at.
    pub fn read(&mut self) -> Result<Vec<ReadStep>, ModelError> {
        let steps = std::mem::take(&mut self.steps);
        let values = sums::read_all(steps.iter().map(|(.., sums)| sums))?;
        let seconds = self.since.take().map_or(0.0, |since| since.elapsed().as_secs_f64());
        let seconds = seconds / steps.len().max(1) as f64;
        let steps = steps.into_iter().zip(values);
        let read = steps.map(|((step, control, _), [loss_sum, squares])| {
            let control = StepControl { loss_sum, squares, ..control };
            ReadStep { step, control, seconds }
        });
        Ok(read.collect())
    }
}

/// The device of an island that has only one: it judges its steps by itself.
pub fn only_device(island: &IslandSpec) -> Option<&DeviceSpec> {
    let [rank] = &island.ranks[..] else { return None };
    let [card] = &rank.devices[..] else { return None };
    Some(&card.device)
}

#[cfg(test)]
mod islands;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_together_in_their_order_with_the_flags_of_each() {
        let mut unread = Unread::every(3);
        let mut due = Vec::new();
        for step in 0..3 {
            unread.begin();
            let control = StepControl { tokens: 7, closed: step == 1, ..StepControl::default() };
            let sums = Sums::of(f64::from(step) + 0.5, f64::NAN).unwrap();
            unread.push(step, control, sums);
            due.push(unread.is_due());
        }
        assert_eq!(due, [false, false, true]);
        let read = unread.read().unwrap();
        let told: Vec<_> = read.iter().map(|read| (read.step, read.control.loss_sum)).collect();
        assert_eq!(told, [(0, 0.5), (1, 1.5), (2, 2.5)]);
        assert_eq!(read.iter().map(|read| read.control.tokens).sum::<u64>(), 21);
        assert!(read.iter().all(|read| read.control.squares.is_nan()));
        assert_eq!(
            read.iter().map(|read| read.control.closed).collect::<Vec<_>>(),
            [false, true, false]
        );
        assert!(read.windows(2).all(|pair| pair[0].seconds == pair[1].seconds));
        assert!(unread.read().unwrap().is_empty(), "nothing is told twice");
    }
}
