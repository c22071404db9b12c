//! Whether an island goes on with its inner steps: nobody waits for work that cannot count.

use std::fmt;
use std::time::{Duration, Instant};

use rounds::types::RunView;

use crate::decide::is_closed;

/// Why the steps of a round go on or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandIn {
    /// The round is open.
    Open,
    /// The round closes soon, and the remaining steps fit.
    Fits,
    /// The remaining steps do not fit into what is left of the round: what is there is handed in.
    TooSlow {
        /// What the steps would take.
        needed: Duration,
        /// What there is for them.
        left: Duration,
    },
    /// The round is closed, or the run has moved on.
    Closed,
}

impl HandIn {
    /// Whether the steps end here.
    pub(crate) fn is_due(self) -> bool {
        matches!(self, HandIn::TooSlow { .. } | HandIn::Closed)
    }
}

impl fmt::Display for HandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandIn::Open => f.write_str("the round is open"),
            HandIn::Fits => f.write_str("the round closes, and the remaining steps fit"),
            HandIn::TooSlow { needed, left } => {
                write!(f, "the remaining steps take {needed:.1?}, and the round {left:.1?}")
            }
            HandIn::Closed => f.write_str("the round is closed"),
        }
    }
}

/// How the inner steps of a round go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Steps that are still to be made.
    pub(crate) steps_left: u32,
    /// The mean time of a step so far in this round.
    pub(crate) step: Duration,
    /// The time since the view first said that the round closes.
    pub(crate) closing_for: Duration,
}

/// Whether the steps of `round` end with the one just made. Half of the grace is for the steps that
/// remain, half for compressing and offering.
pub(crate) fn hand_in(view: &RunView, round: u64, pace: &Pace) -> HandIn {
    if is_closed(view, round) {
        return HandIn::Closed;
    }
    if !view.closing {
        return HandIn::Open;
    }
    let left = (Duration::from_millis(view.grace_ms) / 2).saturating_sub(pace.closing_for);
    let needed = pace.step.saturating_mul(pace.steps_left);
    if needed <= left { HandIn::Fits } else { HandIn::TooSlow { needed, left } }
}

/// What is known of the round's steps while they are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Training {
    begun: Instant,
    steps: u32,
    steps_left: u32,
    closing_since: Option<Instant>,
}

impl Training {
    pub(crate) fn new() -> Training {
        Training { begun: Instant::now(), steps: 0, steps_left: 0, closing_since: None }
    }

    pub(crate) fn expect(&mut self, steps_left: u32) {
        self.steps_left = steps_left;
    }

    /// Takes note of a step and of the view after it.
    pub(crate) fn step(&mut self, view: &RunView, round: u64) -> HandIn {
        self.steps = self.steps.saturating_add(1);
        if view.closing && view.round == round {
            self.closing_since.get_or_insert_with(Instant::now);
        }
        let pace = Pace {
            steps_left: self.steps_left,
            step: self.begun.elapsed() / self.steps,
            closing_for: self.closing_since.map_or(Duration::ZERO, |since| since.elapsed()),
        };
        hand_in(view, round, &pace)
    }
}

#[cfg(test)]
mod tests {
    use rounds::types::Phase;

    use super::*;

    fn view(phase: Phase, round: u64, closing: bool) -> RunView {
        RunView { phase, round, closing, grace_ms: 60_000, ..RunView::default() }
    }

    #[test]
    fn steps_go_on_only_while_they_can_count() {
        let seconds = Duration::from_secs;
        let too_slow =
            |needed, left| HandIn::TooSlow { needed: seconds(needed), left: seconds(left) };
        // Steps left, seconds of a step, seconds since the round began to close.
        let table = [
            (view(Phase::Training, 3, false), (100, 10, 0), HandIn::Open),
            (view(Phase::Training, 3, true), (3, 10, 0), HandIn::Fits),
            (view(Phase::Training, 3, true), (4, 10, 0), too_slow(40, 30)),
            (view(Phase::Training, 3, true), (2, 10, 10), HandIn::Fits),
            (view(Phase::Training, 3, true), (2, 10, 11), too_slow(20, 19)),
            (view(Phase::Training, 3, true), (1, 10, 70), too_slow(10, 0)),
            (view(Phase::Training, 3, true), (0, 10, 70), HandIn::Fits),
            (view(Phase::Fetching, 3, false), (1, 10, 0), HandIn::Closed),
            (view(Phase::Training, 4, false), (1, 10, 0), HandIn::Closed),
        ];
        for (view, (steps_left, step, since), expected) in table {
            let (step, closing_for) = (seconds(step), seconds(since));
            let pace = Pace { steps_left, step, closing_for };
            assert_eq!(hand_in(&view, 3, &pace), expected, "{pace:?}, {:?}", view.phase);
            let goes_on = matches!(expected, HandIn::Open | HandIn::Fits);
            assert_eq!(expected.is_due(), !goes_on);
        }
    }

    #[test]
    fn the_time_counts_from_the_first_view_that_says_that_the_round_closes() {
        let mut training = Training::new();
        training.expect(1_000_000);
        assert_eq!(training.step(&view(Phase::Training, 3, false), 3), HandIn::Open);
        assert!(training.closing_since.is_none());
        let closing = view(Phase::Training, 3, true);
        training.step(&closing, 3);
        let since = training.closing_since;
        assert!(since.is_some());
        training.step(&closing, 3);
        assert_eq!(training.closing_since, since);
    }

    #[test]
    fn a_view_of_another_round_says_nothing_of_when_this_one_closes() {
        let mut training = Training::new();
        assert_eq!(training.step(&view(Phase::Training, 4, true), 3), HandIn::Closed);
        assert!(training.closing_since.is_none());
    }

    #[test]
    fn the_last_step_is_never_too_slow() {
        let mut training = Training::new();
        training.expect(0);
        let closing = RunView { grace_ms: 0, ..view(Phase::Training, 3, true) };
        assert_eq!(training.step(&closing, 3), HandIn::Fits);
        training.expect(u32::MAX);
        let verdict = training.step(&closing, 3);
        assert!(matches!(verdict, HandIn::TooSlow { left: Duration::ZERO, .. }), "{verdict:?}");
    }
}
