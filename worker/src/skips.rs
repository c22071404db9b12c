//! Inner steps whose loss or gradient is not finite: they change nothing, and too many of them in a
//! row give up the round. Ranks decide alike, because the sums they decide by have the same bits.

use member::StepControl;

use crate::sums::finite;

/// Steps in a row that may not be finite before the island gives its round up.
const IN_A_ROW_MAX: u32 = 3;

/// The steps of a round so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skips {
    made: u32,
    skipped: u32,
    in_a_row: u32,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It is made.
    Step,
    /// It is skipped.
    Nothing,
    /// It is skipped, and the round is not worth going on with.
    TooManySkips,
}

impl Skips {
    /// Judges a step by its sums over the island's ranks, as the optimiser does.
    pub fn after(&mut self, sums: &StepControl) -> Made {
        if finite([sums.loss_sum, sums.squares]) {
            self.made += 1;
            self.in_a_row = 0;
            return Made::Step;
        }
        self.skipped += 1;
        self.in_a_row += 1;
        if self.in_a_row >= IN_A_ROW_MAX { Made::TooManySkips } else { Made::Nothing }
    }

    /// Steps that were made.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// Why the round has no contribution.
    pub fn reason(&self) -> String {
        let Skips { made, skipped, in_a_row } = self;
        let which = match made {
            0 => format!("none of {skipped} steps was finite"),
            _ => format!("{in_a_row} steps in a row were not finite"),
        };
        format!("{which}: no contribution")
    }
}

#[cfg(test)]
mod laws;

#[cfg(test)]
mod tests {
    use super::*;

    /// By letter: a finite step, one without a finite loss, one without a finite gradient.
    fn sums(kind: char) -> StepControl {
        let (loss_sum, squares) = match kind {
            'f' => (2.0, 9.0),
            'l' => (f64::NAN, 9.0),
            _ => (2.0, f64::INFINITY),
        };
        StepControl { loss_sum, squares, ..StepControl::default() }
    }

    #[test]
    fn three_steps_in_a_row_that_are_not_finite_give_the_round_up_and_fewer_do_not() {
        let table = [
            ("fff", "sss", 3, "0 steps in a row"),
            ("flgf", "s--s", 2, "0 steps in a row"),
            ("lglf", "--xs", 1, "0 steps in a row"),
            ("llflgg", "--s--x", 1, "3 steps in a row were not finite"),
            ("gg", "--", 0, "none of 2 steps was finite"),
            ("lgl", "--x", 0, "none of 3 steps was finite"),
        ];
        for (steps, expected, made, reason) in table {
            let mut skips = Skips::default();
            let letter = |made: Made| match made {
                Made::Step => 's',
                Made::Nothing => '-',
                Made::TooManySkips => 'x',
            };
            let judged: String =
                steps.chars().map(|kind| letter(skips.after(&sums(kind)))).collect();
            assert_eq!(judged, expected, "{steps}");
            assert_eq!(skips.made(), made, "{steps}");
            assert!(skips.reason().starts_with(reason), "{steps}: {}", skips.reason());
        }
    }
}
