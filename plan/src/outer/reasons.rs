//! Why the rounds are as they are, and what to change, in sentences.

use super::pace::{self, Choice, OF_DEADLINE, Pace, Why};
use super::{AUTO_INNER_STEPS, INNER_STEPS_MAX, OuterPlan, OuterRequest, Participant, Slowing};
use crate::words::named;

/// Utilisation below which something is said.
const LOW: f64 = 0.8;
/// How much longer than the fastest island's steps one step may take before it is said.
const PATIENCE: f64 = 1.1;
/// Names that a sentence lists.
const NAMES_MAX: usize = 3;

/// The reasons for a plan: H, what was warned of, the exchange, and single islands.
pub(super) fn reasons(
    request: &OuterRequest,
    pace: &Pace<'_>,
    choice: &Choice,
    plan: &OuterPlan,
) -> Vec<String> {
    let said = Said { request, pace, choice, plan };
    let mut reasons = vec![said.steps()];
    reasons.extend(said.deadline());
    reasons.extend(said.low());
    reasons.extend(said.exchange());
    reasons.extend(said.unknown());
    reasons.extend(said.one_step());
    reasons.extend(said.slowing());
    reasons
}

struct Said<'a> {
    request: &'a OuterRequest,
    pace: &'a Pace<'a>,
    choice: &'a Choice,
    plan: &'a OuterPlan,
}

impl Said<'_> {
    fn steps(&self) -> String {
        let (steps, fastest) = (self.choice.steps, &self.pace.fastest.name);
        let published = self.pace.round_of(AUTO_INNER_STEPS);
        let before = percent(published.utilisation);
        let now = percent(self.plan.utilisation);
        let deadline = seconds(self.request.deadline_seconds);
        let of_deadline = percent(OF_DEADLINE);
        match self.choice.why {
            Why::Asked => format!("H is {steps} on {fastest}, the fastest island, as asked"),
            Why::Published | Why::NeverInTime => {
                format!("H is {steps} on {fastest}, the fastest island, as in SparseLoCo")
            }
            Why::Raised => format!(
                "H is raised from {AUTO_INNER_STEPS} to {steps} on {fastest}, the fastest island: \
                 the cards compute {now} of a round in place of {before}"
            ),
            Why::RaisedInVain if steps == INNER_STEPS_MAX => format!(
                "H is raised from {AUTO_INNER_STEPS} to {steps} on {fastest}, the fastest island, \
                 the most that was tried with SparseLoCo: the cards compute {now} of a round in \
                 place of {before}"
            ),
            Why::RaisedInVain => format!(
                "H is {steps} on {fastest}, the fastest island, the most that ends within \
                 {of_deadline} of rounds.deadline ({deadline}): the cards compute {now} of a round"
            ),
            Why::Lowered => format!(
                "H is lowered from {AUTO_INNER_STEPS} to {steps} on {fastest}, the fastest \
                 island: a round would take {}, and is to end within {of_deadline} of \
                 rounds.deadline ({deadline})",
                seconds(published.seconds)
            ),
        }
    }

    /// A round that ends too late, or nearly.
    fn deadline(&self) -> Option<String> {
        let (round, deadline) = (self.plan.round_seconds, self.request.deadline_seconds);
        let late = match self.choice.why {
            Why::NeverInTime => true,
            _ => round > deadline,
        };
        let enough = seconds((round / OF_DEADLINE).ceil());
        let best = pace::automatic(self.pace, deadline);
        let or_lower = match best.why {
            Why::NeverInTime => String::new(),
            _ => format!(", or lower sparseLoCo.innerSteps to {}", best.steps),
        };
        let how = if round > deadline { "beyond" } else { "too near" };
        late.then(|| {
            format!(
                "a round takes {}, {how} rounds.deadline of {}: raise it to at least \
                 {enough}{or_lower}",
                seconds(round),
                seconds(deadline)
            )
        })
    }

    fn low(&self) -> Option<String> {
        if self.plan.utilisation >= LOW {
            return None;
        }
        let best = pace::automatic(self.pace, self.request.deadline_seconds);
        // A longer window may be emptier, where no further step of a slow island goes into it.
        let better = best.why != Why::NeverInTime
            && best.steps > self.choice.steps
            && self.pace.round_of(best.steps).utilisation > self.plan.utilisation;
        let remedy = if better {
            format!("raise sparseLoCo.innerSteps to {}", best.steps)
        } else if self.plan.exchange_seconds * 2.0 > (1.0 - LOW) * self.plan.round_seconds {
            "faster uplinks, fewer islands, a smaller sparseLoCo.topK or a later rounds.deadline \
             would raise it"
                .into()
        } else {
            "islands that are less unlike would raise it".into()
        };
        let utilisation = percent(self.plan.utilisation);
        Some(format!("the cards compute only {utilisation} of a round: {remedy}"))
    }

    /// A sentence on the bytes that go over the uplinks, and on whose is the slowest.
    fn exchange(&self) -> Option<String> {
        let others = self.plan.islands.len() - 1;
        if others == 0 {
            return None;
        }
        let (sent, dense) = (self.request.contribution_bytes, self.request.dense_bytes);
        let less = dense as f64 / sent.max(1) as f64;
        let sparse = format!("a contribution is {}, {less:.0} times less than dense", size(sent));
        let exchange = |island: &&&Participant| self.pace.exchange_of(island);
        let by_exchange =
            |a: &&&Participant, b: &&&Participant| exchange(a).total_cmp(&exchange(b));
        let slowest = self.pace.islands.iter().max_by(by_exchange)?;
        let Some(uplink) = slowest.uplink else { return Some(sparse) };
        let (way, bits) = match uplink.up <= uplink.down {
            true => ("sends", uplink.up),
            false => ("receives", uplink.down),
        };
        Some(format!(
            "{sparse}; {} {way} {others} of them in a round, {} at {:.0} Mb/s",
            slowest.name,
            seconds(self.plan.exchange_seconds),
            bits / 1e6
        ))
    }

    fn unknown(&self) -> Option<String> {
        let unknown = self.pace.islands.iter().filter(|island| island.uplink.is_none());
        let unknown: Vec<&str> = unknown.map(|island| island.name.as_str()).collect();
        (!unknown.is_empty() && self.pace.islands.len() > 1).then(|| {
            format!(
                "the uplink of {} is not known, so its exchange counts as 0 s: set uplink or have \
                 it measured",
                named(&unknown, NAMES_MAX)
            )
        })
    }

    /// Islands that cost more than they give, each beside those before it.
    fn slowing(&self) -> Vec<String> {
        let sentence = |(before, slowing): (usize, &Slowing)| {
            format!(
                "without {}{} the run would make {} tokens/s in place of {}: it is kept; \
                 leave it out, or give it faster cards or a faster uplink",
                slowing.island,
                if before > 0 { " as well" } else { "" },
                rate(slowing.without),
                rate(slowing.with)
            )
        };
        self.plan.slowing.iter().enumerate().map(sentence).collect()
    }

    /// Islands that keep the others waiting with a single step.
    fn one_step(&self) -> Option<String> {
        let reference = self.pace.window(self.choice.steps);
        let slow =
            self.pace.islands.iter().filter(|island| island.step_seconds > PATIENCE * reference);
        let slow: Vec<_> = slow.collect();
        let longest = slow.iter().map(|island| island.step_seconds).fold(0.0, f64::max);
        let listed: Vec<&str> = slow.iter().map(|island| island.name.as_str()).collect();
        (!slow.is_empty()).then(|| {
            format!(
                "one step of {} takes up to {}, all steps of the fastest island {}: raise \
                 sparseLoCo.innerSteps, or give fewer or faster cards",
                named(&listed, NAMES_MAX),
                seconds(longest),
                seconds(reference)
            )
        })
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

fn rate(tokens: f64) -> String {
    if tokens < 100.0 { format!("{tokens:.1}") } else { format!("{tokens:.0}") }
}

fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        1e9.. => format!("{:.1} GB", bytes / 1e9),
        1e6.. => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.1} kB", bytes / 1e3),
    }
}
