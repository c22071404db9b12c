//! How much of the cards that it was given a plan uses.

use std::iter::Sum;

/// Cards that are given, and those of them that are used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Cards that compute.
    pub used: u32,
    /// Cards that there are.
    pub given: u32,
    /// Peak TFLOP/s of the cards used, in what each trains in.
    pub used_tflops: f64,
    /// The same of all.
    pub given_tflops: f64,
}

impl Usage {
    /// Share of the peak of all cards that the used ones have, up to 1.
    pub fn speed(&self) -> f64 {
        if self.used >= self.given { 1.0 } else { self.used_tflops / self.given_tflops }
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, next| Self {
            used: sum.used + next.used,
            given: sum.given + next.given,
            used_tflops: sum.used_tflops + next.used_tflops,
            given_tflops: sum.given_tflops + next.given_tflops,
        })
    }
}
