//! What becomes of an island: a decision over what was observed, the clock passed in.
//!
//! An island lives and dies as a whole: its ranks hold one replica, so one lost rank ends them all,
//! and they come back together at the next epoch.

mod ends;

use std::time::Duration;

use api::island::{PlanPhase, PlanStatus};
use k8s_openapi::jiff::Timestamp;

use crate::inventory::{Rank, RankState};

/// The wait before the first restart; doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_secs(2);
/// Longest wait before a restart.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);
/// An epoch that ran for so long forgets the failures before it.
const PROVEN: Duration = Duration::from_secs(600);
/// Least time for which pods wait for their queue before anything is done about it.
const LEAST_WAIT: Duration = Duration::from_secs(30);
/// By so much the clocks of two nodes may differ without a word.
const CLOCKS_DIFFER: Duration = Duration::from_secs(10);

/// What is known of an island when it is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Observed<'a> {
    /// What keeps it from running at all: the reason and a sentence.
    pub rests: Option<(&'static str, String)>,
    /// Generation of its spec.
    pub generation: i64,
    /// Generation of its run's spec.
    pub run_generation: i64,
    /// The plan in force, as it was last written.
    pub plan: Option<&'a PlanStatus>,
    /// Its pods, of all epochs.
    pub ranks: &'a [Rank],
    /// Ranks that the plan has.
    pub world: usize,
    /// What of the plan's cards is not there any more, a sentence.
    pub lost: Option<String>,
    /// Whether the run has begun, so that ranks know what to do.
    pub begun: bool,
    /// How long all pods may take to run.
    pub start_deadline: Duration,
    /// Whether other islands wait for cards.
    pub wanted: bool,
    pub now: Timestamp,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Hold no cards any more: nothing runs.
    Rest,
    /// Plan, or plan anew.
    Plan,
    /// Begin the next epoch.
    Start,
    /// Make the pods of these ranks.
    Create(Vec<u32>),
    /// Write that the plan is in this phase.
    Enter(PlanPhase),
    /// The epoch is broken: the ranks are deleted, and it is tried again, or not.
    Break {
        /// It would break again in the same way.
        for_good: bool,
    },
    /// Delete pods that are still there.
    Clear(Vec<String>),
    /// Nothing, until something happens or so much time has passed.
    Keep(Option<Duration>),
}

/// What to do next, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub step: Step,
    /// One of a closed list: the reason of a condition.
    pub reason: &'static str,
    /// A sentence.
    pub why: String,
}

fn decide_to(step: Step, reason: &'static str, why: impl Into<String>) -> Decision {
    Decision { step, reason, why: why.into() }
}

/// Decides.
pub(crate) fn decide(seen: &Observed<'_>) -> Decision {
    if let Some((reason, why)) = &seen.rests {
        let left = names(seen.ranks.iter().filter(|rank| rank.leaving.is_none()));
        let holds = seen.plan.is_some_and(|plan| {
            // What is done is done for this run only.
            let over = matches!(plan.phase, PlanPhase::Done | PlanPhase::Failed);
            plan.phase != PlanPhase::Waiting && (!over || *reason == "RunNotFound")
        });
        let step = match (left.is_empty(), holds) {
            (false, _) => Step::Clear(left),
            (true, true) if seen.ranks.is_empty() => Step::Rest,
            (true, _) => Step::Keep(None),
        };
        return decide_to(step, reason, why.clone());
    }
    let Some(plan) = seen.plan else {
        return decide_to(Step::Plan, "Planning", "there is no plan yet");
    };
    let strays = seen.ranks.iter().filter(|rank| i64::try_from(rank.epoch) != Ok(plan.epoch));
    let (leaving, strays): (Vec<&Rank>, Vec<&Rank>) =
        strays.partition(|rank| rank.leaving.is_some());
    if !leaving.is_empty() && plan.phase == PlanPhase::Planned {
        let why = "pods of an older epoch are leaving";
        return decide_to(Step::Keep(None), "ClearingEpoch", why);
    }
    let strays = names(strays.into_iter());
    if !strays.is_empty() && plan.phase != PlanPhase::Stopping {
        return decide_to(Step::Clear(strays), "ClearingEpoch", "pods of an older epoch are there");
    }
    let own: Vec<&Rank> =
        seen.ranks.iter().filter(|rank| i64::try_from(rank.epoch) == Ok(plan.epoch)).collect();
    match plan.phase {
        PlanPhase::Planned => planned(seen, plan),
        PlanPhase::Starting => starting(seen, plan, &own),
        PlanPhase::Running => running(seen, plan, &own),
        PlanPhase::Stopping => stopping(seen, plan, &own),
        PlanPhase::Waiting => waiting(seen, plan),
        PlanPhase::Done => decide_to(Step::Keep(None), "Complete", "all its ranks ended well"),
        PlanPhase::Failed => failed(seen, plan),
    }
}

fn planned(seen: &Observed<'_>, plan: &PlanStatus) -> Decision {
    if plan.generation != seen.generation {
        return decide_to(Step::Plan, "SpecChanged", "its spec changed");
    }
    if let Some(lost) = &seen.lost {
        return decide_to(Step::Plan, "CardsLost", lost.clone());
    }
    if seen.begun {
        return decide_to(Step::Start, "Starting", "the run has begun");
    }
    decide_to(Step::Keep(None), "RunNotBegun", "it waits for the run to begin")
}

fn starting(seen: &Observed<'_>, plan: &PlanStatus, own: &[&Rank]) -> Decision {
    if plan.generation != seen.generation {
        let step = Step::Break { for_good: false };
        return decide_to(step, "SpecChanged", "its spec changed");
    }
    let elapsed = since(&plan.since, seen.now);
    if elapsed == Duration::MAX {
        let why = "it began to start by a clock that is ahead of this one: its time counts anew";
        return decide_to(Step::Enter(PlanPhase::Starting), "ClocksDiffer", why);
    }
    if let Some(decided) = ends::judge(own, seen.world, seen.now) {
        return decided;
    }
    if let Some(lost) = &seen.lost {
        return decide_to(Step::Break { for_good: false }, "CardsLost", lost.clone());
    }
    let up = own.iter().filter(|rank| is_up(rank)).count();
    if up == seen.world {
        return decide_to(Step::Enter(PlanPhase::Running), "Running", "all ranks run");
    }
    if own.len() == seen.world && own.iter().all(|rank| rank.state == RankState::Gated) {
        return gated(seen, elapsed);
    }
    let waits = own.iter().find_map(|rank| match &rank.state {
        RankState::Pending { why: Some(why) } => Some(format!("; rank {} waits: {why}", rank.rank)),
        RankState::Gated => Some(format!("; rank {} waits for its queue", rank.rank)),
        _ => None,
    });
    let waits = waits.unwrap_or_default();
    if elapsed >= seen.start_deadline {
        let (most, world) = (seen.start_deadline.as_secs(), seen.world);
        let why = format!("{up} of {world} ranks ran within {most} s{waits}");
        return decide_to(Step::Break { for_good: false }, "StartDeadline", why);
    }
    let there: Vec<u32> = own.iter().map(|rank| rank.rank).collect();
    let all = 0..u32::try_from(seen.world).unwrap_or(u32::MAX);
    let missing: Vec<u32> = all.filter(|rank| !there.contains(rank)).collect();
    let why = format!("{up} of {} ranks run{waits}", seen.world);
    if missing.is_empty() {
        return decide_to(Step::Keep(Some(seen.start_deadline - elapsed)), "Starting", why);
    }
    decide_to(Step::Create(missing), "Starting", why)
}

/// Pods that wait for their queue have no card, and may wait. Their time to start is to count from
/// when they are let in: the phase begins anew until then, so that half of it is left. What is set
/// aside for them is given up where others wait for cards.
fn gated(seen: &Observed<'_>, elapsed: Duration) -> Decision {
    let half = (seen.start_deadline / 2).max(LEAST_WAIT);
    let step = match half.checked_sub(elapsed).filter(|left| !left.is_zero()) {
        Some(left) => Step::Keep(Some(left)),
        None if seen.wanted => {
            let why = "its pods were not let in by their queue, and others wait for cards";
            return decide_to(Step::Break { for_good: false }, "QueueTimeout", why);
        }
        None => Step::Enter(PlanPhase::Starting),
    };
    decide_to(step, "Queued", "its pods wait to be let in by their queue")
}

fn running(seen: &Observed<'_>, plan: &PlanStatus, own: &[&Rank]) -> Decision {
    if let Some(decided) = ends::judge(own, seen.world, seen.now) {
        return decided;
    }
    if own.len() < seen.world {
        let missing = seen.world - own.len();
        let why = format!("{missing} of {} ranks are gone: their pods were deleted", seen.world);
        return decide_to(Step::Break { for_good: false }, "RanksLost", why);
    }
    if plan.generation != seen.generation {
        return decide_to(Step::Plan, "SpecChanged", "its spec changed");
    }
    if plan.failures > 0 && since(&plan.since, seen.now) >= PROVEN {
        return decide_to(Step::Enter(PlanPhase::Running), "Running", "it has run for a while");
    }
    decide_to(Step::Keep(None), "Running", "all ranks run")
}

fn stopping(seen: &Observed<'_>, plan: &PlanStatus, own: &[&Rank]) -> Decision {
    // A rank may say what would come again only after another had broken the epoch.
    if let Some(lasting) = ends::lasting(own.iter().copied())
        && plan.generation == seen.generation
    {
        return lasting;
    }
    let left = names(seen.ranks.iter().filter(|rank| rank.leaving.is_none()));
    if !left.is_empty() {
        return decide_to(Step::Clear(left), "Stopping", "its ranks are being deleted");
    }
    if !seen.ranks.is_empty() {
        let why = format!("{} of its ranks are leaving", seen.ranks.len());
        return decide_to(Step::Keep(None), "Stopping", why);
    }
    decide_to(Step::Enter(PlanPhase::Waiting), "Waiting", "it is tried again soon")
}

fn waiting(seen: &Observed<'_>, plan: &PlanStatus) -> Decision {
    let left = backoff(plan.failures).saturating_sub(since(&plan.since, seen.now));
    if left > Duration::ZERO && plan.generation == seen.generation {
        let why = format!("it is tried again in {} s", left.as_secs().max(1));
        return decide_to(Step::Keep(Some(left)), "BackOff", why);
    }
    decide_to(Step::Plan, "Restarting", "its wait is over")
}

/// Ranks that still run are deleted; what has ended stays for its logs.
fn failed(seen: &Observed<'_>, plan: &PlanStatus) -> Decision {
    let changed = plan.generation != seen.generation || plan.run_generation != seen.run_generation;
    let runs = |rank: &&Rank| !matches!(rank.state, RankState::Failed { .. });
    let left = names(seen.ranks.iter().filter(|rank| changed || runs(rank)));
    match (left.is_empty(), changed) {
        (false, _) => decide_to(Step::Clear(left), "Failed", "its other ranks are being deleted"),
        (true, true) => decide_to(Step::Plan, "SpecChanged", "its spec changed"),
        (true, false) => {
            decide_to(Step::Keep(None), "Failed", "it would break again in the same way")
        }
    }
}

/// The wait after so many failures in a row.
fn backoff(failures: u32) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    FIRST_BACKOFF.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_BACKOFF)
}

fn is_up(rank: &Rank) -> bool {
    matches!(rank.state, RankState::Running | RankState::Succeeded)
}

fn names<'a>(ranks: impl Iterator<Item = &'a Rank>) -> Vec<String> {
    ranks.map(|rank| rank.pod.clone()).collect()
}

/// Time since an RFC 3339 time, as [`elapsed`]; none since what is no time.
pub(crate) fn since(text: &str, now: Timestamp) -> Duration {
    text.parse().map_or(Duration::ZERO, |then: Timestamp| elapsed(then, now))
}

/// Time since another clock's time: none where that is a little ahead, as clocks differ, and all
/// the time where it is far ahead. Else whoever waits would wait until this clock is there, too.
fn elapsed(then: Timestamp, now: Timestamp) -> Duration {
    let ahead = Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO);
    if ahead > CLOCKS_DIFFER {
        return Duration::MAX;
    }
    Duration::try_from(now.duration_since(then)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests;
