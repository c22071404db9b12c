//! What becomes of an island: a decision over what was observed, the clock passed in.
//!
//! An island lives and dies as a whole: its ranks hold one replica, so one lost rank ends them all,
//! and they come back together at the next epoch.

mod ends;

use std::time::Duration;

use api::island::PlanPhase;
use k8s_openapi::jiff::Timestamp;

use super::reason::{Lost, Progress, Reason, Rest, Waits};
use super::standing::Plan;
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
    /// What keeps it from running at all.
    pub rests: Option<Rest>,
    /// Generation of its spec.
    pub generation: i64,
    /// Generation of its run's spec.
    pub run_generation: i64,
    /// The plan in force, as it was last written.
    pub plan: Option<&'a Plan>,
    /// Its pods, of all epochs.
    pub ranks: &'a [Rank],
    /// Ranks that the plan has.
    pub world: usize,
    /// What of the plan's cards is not there any more.
    pub lost: Option<Lost>,
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
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decision {
    pub step: Step,
    pub reason: Reason,
}

fn decide_to(step: Step, reason: Reason) -> Decision {
    Decision { step, reason }
}

/// Decides.
pub(crate) fn decide(seen: &Observed<'_>) -> Decision {
    if let Some(rest) = &seen.rests {
        return rests(seen, rest.clone());
    }
    let Some(plan) = seen.plan else { return decide_to(Step::Plan, Reason::Unplanned) };
    let (own, strays): (Vec<&Rank>, Vec<&Rank>) =
        seen.ranks.iter().partition(|rank| rank.epoch == plan.epoch);
    let (leaving, strays): (Vec<&Rank>, Vec<&Rank>) =
        strays.into_iter().partition(|rank| rank.leaving.is_some());
    if !leaving.is_empty() && plan.phase == PlanPhase::Planned {
        return decide_to(Step::Keep(None), Reason::Strays { leaving: true });
    }
    let strays = names(strays.into_iter());
    if !strays.is_empty() && plan.phase != PlanPhase::Stopping {
        return decide_to(Step::Clear(strays), Reason::Strays { leaving: false });
    }
    match plan.phase {
        PlanPhase::Planned => planned(seen, plan),
        PlanPhase::Starting => starting(seen, plan, &own),
        PlanPhase::Running => running(seen, plan, &own),
        PlanPhase::Stopping => stopping(seen, plan, &own),
        PlanPhase::Waiting => waiting(seen, plan),
        PlanPhase::Done => decide_to(Step::Keep(None), Reason::Complete),
        PlanPhase::Failed => failed(seen, plan),
    }
}

fn rests(seen: &Observed<'_>, rest: Rest) -> Decision {
    let left = names(seen.ranks.iter().filter(|rank| rank.leaving.is_none()));
    let holds = seen.plan.is_some_and(|plan| {
        // What is done is done for this run only.
        let over = matches!(plan.phase, PlanPhase::Done | PlanPhase::Failed);
        plan.phase != PlanPhase::Waiting && (!over || matches!(rest, Rest::RunNotFound(_)))
    });
    let step = match (left.is_empty(), holds) {
        (false, _) => Step::Clear(left),
        (true, true) if seen.ranks.is_empty() => Step::Rest,
        (true, _) => Step::Keep(None),
    };
    decide_to(step, Reason::Rests(rest))
}

fn planned(seen: &Observed<'_>, plan: &Plan) -> Decision {
    if plan.generation != seen.generation {
        return decide_to(Step::Plan, Reason::SpecChanged);
    }
    if let Some(lost) = &seen.lost {
        return decide_to(Step::Plan, Reason::CardsLost(lost.clone()));
    }
    if seen.begun {
        return decide_to(Step::Start, Reason::RunBegun);
    }
    decide_to(Step::Keep(None), Reason::RunNotBegun)
}

fn starting(seen: &Observed<'_>, plan: &Plan, own: &[&Rank]) -> Decision {
    if plan.generation != seen.generation {
        return decide_to(Step::Break { for_good: false }, Reason::SpecChanged);
    }
    let elapsed = elapsed(plan.since, seen.now);
    if elapsed == Duration::MAX {
        return decide_to(Step::Enter(PlanPhase::Starting), Reason::ClocksDiffer);
    }
    if let Some(decided) = ends::judge(own, seen.world, seen.now) {
        return decided;
    }
    if let Some(lost) = &seen.lost {
        return decide_to(Step::Break { for_good: false }, Reason::CardsLost(lost.clone()));
    }
    let up = own.iter().filter(|rank| is_up(rank)).count();
    if up == seen.world {
        return decide_to(Step::Enter(PlanPhase::Running), Reason::Running);
    }
    if own.len() == seen.world && own.iter().all(|rank| rank.state == RankState::Gated) {
        return gated(seen, elapsed);
    }
    let progress = Progress { up, world: seen.world, waits: own.iter().find_map(waits) };
    if elapsed >= seen.start_deadline {
        let reason = Reason::StartDeadline(progress, seen.start_deadline);
        return decide_to(Step::Break { for_good: false }, reason);
    }
    let there: Vec<u32> = own.iter().map(|rank| rank.rank).collect();
    let all = 0..u32::try_from(seen.world).unwrap_or(u32::MAX);
    let missing: Vec<u32> = all.filter(|rank| !there.contains(rank)).collect();
    let step = match missing.is_empty() {
        true => Step::Keep(Some(seen.start_deadline - elapsed)),
        false => Step::Create(missing),
    };
    decide_to(step, Reason::Starting(progress))
}

/// What a rank waits for, where somebody has said it.
fn waits(rank: &&Rank) -> Option<Waits> {
    let own = rank.rank;
    match &rank.state {
        RankState::Pending { why: Some(why) } => {
            Some(Waits::Pending { rank: own, why: why.clone() })
        }
        RankState::Gated => Some(Waits::Queue { rank: own }),
        _ => None,
    }
}

/// Pods that wait for their queue have no card, and may wait. Their time to start is to count from
/// when they are let in: the phase begins anew until then, so that half of it is left. What is set
/// aside for them is given up where others wait for cards.
fn gated(seen: &Observed<'_>, elapsed: Duration) -> Decision {
    let half = (seen.start_deadline / 2).max(LEAST_WAIT);
    match half.checked_sub(elapsed).filter(|left| !left.is_zero()) {
        Some(left) => decide_to(Step::Keep(Some(left)), Reason::Gated),
        None if seen.wanted => decide_to(Step::Break { for_good: false }, Reason::QueueTimeout),
        None => decide_to(Step::Enter(PlanPhase::Starting), Reason::Gated),
    }
}

fn running(seen: &Observed<'_>, plan: &Plan, own: &[&Rank]) -> Decision {
    if let Some(decided) = ends::judge(own, seen.world, seen.now) {
        return decided;
    }
    if own.len() < seen.world {
        let reason = Reason::PodsGone { missing: seen.world - own.len(), world: seen.world };
        return decide_to(Step::Break { for_good: false }, reason);
    }
    if plan.generation != seen.generation {
        return decide_to(Step::Plan, Reason::SpecChanged);
    }
    if plan.failures > 0 && elapsed(plan.since, seen.now) >= PROVEN {
        return decide_to(Step::Enter(PlanPhase::Running), Reason::Proven);
    }
    decide_to(Step::Keep(None), Reason::Running)
}

fn stopping(seen: &Observed<'_>, plan: &Plan, own: &[&Rank]) -> Decision {
    // A rank may say what would come again only after another had broken the epoch.
    if let Some(lasting) = ends::lasting(own.iter().copied())
        && plan.generation == seen.generation
    {
        return lasting;
    }
    let left = names(seen.ranks.iter().filter(|rank| rank.leaving.is_none()));
    if !left.is_empty() {
        return decide_to(Step::Clear(left), Reason::Deleting);
    }
    if !seen.ranks.is_empty() {
        return decide_to(Step::Keep(None), Reason::Leaving(seen.ranks.len()));
    }
    decide_to(Step::Enter(PlanPhase::Waiting), Reason::Cleared)
}

fn waiting(seen: &Observed<'_>, plan: &Plan) -> Decision {
    let left = backoff(plan.failures).saturating_sub(elapsed(plan.since, seen.now));
    if left > Duration::ZERO && plan.generation == seen.generation {
        return decide_to(Step::Keep(Some(left)), Reason::BackOff(left));
    }
    decide_to(Step::Plan, Reason::WaitOver)
}

/// Ranks that still run are deleted; what has ended stays for its logs.
fn failed(seen: &Observed<'_>, plan: &Plan) -> Decision {
    let changed = plan.generation != seen.generation || plan.run_generation != seen.run_generation;
    let runs = |rank: &&Rank| !matches!(rank.state, RankState::Failed { .. });
    let left = names(seen.ranks.iter().filter(|rank| changed || runs(rank)));
    match (left.is_empty(), changed) {
        (false, _) => decide_to(Step::Clear(left), Reason::FailedLeaving),
        (true, true) => decide_to(Step::Plan, Reason::SpecChanged),
        (true, false) => decide_to(Step::Keep(None), Reason::Failed),
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
