//! The plan of an island that stands: what its status says, read once, and how it goes on from
//! phase to phase.

use api::island::{PlanPhase, PlanStatus, RankStatus};
use api::text::{Decimal, Quantity};
use k8s_openapi::jiff::Timestamp;

use super::decide::{Decision, Step};
use super::reason::Reason;
use crate::conditions::{seconds, whole_seconds};

/// A plan that stands, as status has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// Its epoch; 0 before the first.
    pub epoch: u64,
    /// The generation of the island's spec that it was made for.
    pub generation: i64,
    /// The generation of the run's spec that it was made for.
    pub run_generation: i64,
    pub phase: PlanPhase,
    /// When it came to this phase, in whole seconds.
    pub since: Timestamp,
    /// Epochs that broke, one after another, since it last ran for a while.
    pub failures: u32,
    /// The island's place among the run's islands.
    pub index: u32,
    /// Data-, pipeline- and tensor-parallel sizes.
    pub layout: String,
    /// Cards that take part.
    pub cards: u32,
    /// Memory of these cards.
    pub memory: Quantity,
    /// Inner steps of a round; absent until the run has begun.
    pub inner_steps: Option<u32>,
    /// Seconds of an inner step that are expected, to a millionth; absent where status has 0 or no
    /// number there.
    pub step_seconds: Option<f64>,
    /// Tokens a second that are expected.
    pub tokens_per_second: i64,
    /// What each rank holds.
    pub ranks: Vec<RankStatus>,
    /// Why it is so, a sentence each.
    pub reasons: Vec<String>,
}

impl Plan {
    /// What status says. A phase that began at no time that can be read began `now`: whoever waits
    /// for it to end does so from here on.
    pub(crate) fn read(status: &PlanStatus, now: Timestamp) -> Self {
        let status = status.clone();
        Self {
            epoch: epoch(&status),
            generation: status.generation,
            run_generation: status.run_generation,
            phase: status.phase,
            since: whole_seconds(status.since.parse().unwrap_or(now)),
            failures: status.failures,
            index: status.index,
            layout: status.layout,
            cards: status.cards,
            memory: status.memory,
            inner_steps: status.inner_steps,
            step_seconds: status.step_seconds.parse().ok().filter(|seconds| *seconds > 0.0),
            tokens_per_second: status.tokens_per_second,
            ranks: status.ranks,
            reasons: status.reasons,
        }
    }

    /// The same as status has it.
    pub(crate) fn written(&self) -> PlanStatus {
        PlanStatus {
            epoch: i64::try_from(self.epoch).unwrap_or(i64::MAX),
            generation: self.generation,
            run_generation: self.run_generation,
            phase: self.phase,
            since: seconds(self.since),
            failures: self.failures,
            index: self.index,
            layout: self.layout.clone(),
            cards: self.cards,
            memory: self.memory.clone(),
            inner_steps: self.inner_steps,
            step_seconds: Decimal(format!("{:.6}", self.step_seconds.unwrap_or(0.0))),
            tokens_per_second: self.tokens_per_second,
            ranks: self.ranks.clone(),
            reasons: self.reasons.clone(),
        }
    }

    /// The plan from now on in this phase.
    pub(crate) fn entered(self, phase: PlanPhase, now: Timestamp) -> Self {
        Self { phase, since: whole_seconds(now), ..self }
    }

    /// The plan of which nothing runs any more, and that failed at nothing.
    pub(crate) fn rested(self, now: Timestamp) -> Self {
        Self { failures: 0, ..self.entered(PlanPhase::Waiting, now) }
    }

    /// The plan whose ranks end because of something better to do, which is no failure.
    pub(crate) fn left(self, now: Timestamp) -> Self {
        Self { failures: 0, ..self.broken(false, now) }
    }

    /// The plan whose epoch is broken, to be tried again or not.
    pub(crate) fn broken(self, for_good: bool, now: Timestamp) -> Self {
        let phase = if for_good { PlanPhase::Failed } else { PlanPhase::Stopping };
        self.entered(phase, now)
    }

    /// The plan in the phase that was decided on.
    pub(crate) fn turned(self, decision: &Decision, now: Timestamp) -> Self {
        match decision.step {
            Step::Enter(phase) => {
                // It has run for a while.
                let proven = (self.phase, phase) == (PlanPhase::Running, PlanPhase::Running);
                let failures = if proven { 0 } else { self.failures };
                Self { failures, ..self.entered(phase, now) }
            }
            Step::Break { for_good } => {
                // Other wishes are no failure. Lost cards count, so that whoever deletes pods again
                // and again does not make epochs without end.
                let blameless = decision.reason == Reason::SpecChanged;
                let failures = if blameless { 0 } else { self.failures.saturating_add(1) };
                Self { failures, ..self.broken(for_good, now) }
            }
            _ => self,
        }
    }
}

/// The epoch that a status speaks of; those before the first are none.
pub(crate) fn epoch(status: &PlanStatus) -> u64 {
    u64::try_from(status.epoch).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::examples::{at, plan};
    use super::super::reason::Lost;
    use super::*;

    #[test]
    fn what_was_written_is_read_as_it_was() {
        let stands = plan(PlanPhase::Running, 3);
        assert_eq!(Plan::read(&stands.written(), at(9_999)), stands);
        let text = PlanStatus { since: "1970-01-01T00:01:40Z".into(), ..stands.written() };
        assert_eq!(text, stands.written(), "times are whole seconds of UTC");
        let entered =
            stands.entered(PlanPhase::Stopping, "1970-01-01T00:05:00.7Z".parse().unwrap());
        assert_eq!(
            (entered.since, entered.written().since.as_str()),
            (at(300), "1970-01-01T00:05:00Z")
        );
    }

    #[test]
    fn what_status_says_in_another_form_or_not_at_all_has_a_meaning() {
        let written = plan(PlanPhase::Running, 0).written();
        let read = |change: fn(&mut PlanStatus)| {
            let mut status = written.clone();
            change(&mut status);
            Plan::read(&status, at(777))
        };
        assert_eq!(read(|status| status.since = "1970-01-01T01:00:07+01:00".into()).since, at(7));
        assert_eq!(read(|status| status.since = "yesterday".into()).since, at(777));
        assert_eq!(read(|status| status.step_seconds = "5e-1".into()).step_seconds, Some(0.5));
        for none in ["soon", "0.000000", "-1"] {
            let status = PlanStatus { step_seconds: none.into(), ..written.clone() };
            let unknown = Plan::read(&status, at(777));
            assert_eq!(unknown.step_seconds, None, "{none}");
            assert_eq!(Plan::read(&unknown.written(), at(777)), unknown, "{none}");
        }
        assert_eq!(read(|status| status.epoch = -4).epoch, 0);
    }

    #[test]
    fn failures_count_until_it_has_run_for_a_while_or_somebody_wished_otherwise() {
        use PlanPhase::{Failed, Running, Starting, Stopping, Waiting};
        let enter = |phase| (Step::Enter(phase), Reason::Running);
        let breaks = |for_good, reason| (Step::Break { for_good }, reason);
        let lost = || Reason::CardsLost(Lost::Node("a".into()));
        let table = [
            (Starting, enter(Running), Running, 2),
            (Running, enter(Running), Running, 0),
            (Stopping, enter(Waiting), Waiting, 2),
            (Running, breaks(false, Reason::SpecChanged), Stopping, 0),
            (Running, breaks(false, lost()), Stopping, 3),
            (Starting, breaks(true, Reason::AskedToEnd(1)), Failed, 3),
            (Running, (Step::Keep(None), Reason::Running), Running, 2),
        ];
        for (before, (step, reason), phase, failures) in table {
            let decision = Decision { step, reason };
            let now = plan(before, 2).turned(&decision, at(500));
            assert_eq!((now.phase, now.failures), (phase, failures), "{before:?}: {decision:?}");
        }
        let most = Decision { step: Step::Break { for_good: false }, reason: lost() };
        assert_eq!(plan(Running, u32::MAX).turned(&most, at(500)).failures, u32::MAX);
        assert_eq!(plan(Running, 2).left(at(500)).failures, 0);
        assert_eq!(plan(Running, 2).rested(at(500)).phase, Waiting);
    }
}
