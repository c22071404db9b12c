//! Why an island is where it is, and why it has no plan: each reason a word and a sentence.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use api::names::Key;
use api::nodes::LeftOut;
use contract::fate::{Cause, Why};
use plan::planner;
use plan::stability::Weighed;
use plan::words::named;

use crate::conditions::AsReason;
use crate::run::InvalidRun;

/// Islands that a sentence names.
const NAMED: usize = 3;

/// Why something was decided of an island.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reason {
    /// Something keeps it from running at all.
    Rests(Rest),
    /// There is no plan yet.
    Unplanned,
    /// Pods of an older epoch are there.
    Strays {
        /// Whether they were asked to end.
        leaving: bool,
    },
    /// The spec that the plan was made for is not the island's any more.
    SpecChanged,
    /// Cards of the plan are not there any more.
    CardsLost(Lost),
    /// The run has begun.
    RunBegun,
    /// It has not.
    RunNotBegun,
    /// The phase was written by a clock that is far ahead.
    ClocksDiffer,
    /// Pods are made and waited for.
    Starting(Progress),
    /// Not all ranks ran within this time.
    StartDeadline(Progress, Duration),
    /// Pods wait for their queue.
    Gated,
    /// They waited for too long, while others want the cards.
    QueueTimeout,
    /// All ranks run.
    Running,
    /// They have run for so long that earlier failures count no more.
    Proven,
    /// Pods were deleted.
    PodsGone {
        /// So many.
        missing: usize,
        /// Of so many.
        world: usize,
    },
    /// Somebody asked this rank to end.
    AskedToEnd(u32),
    /// Ranks ended.
    Ended(Cause),
    /// The leader saw the end of the run.
    LeaderComplete,
    /// All ranks ended well.
    Complete,
    /// Ranks are being deleted.
    Deleting,
    /// So many of them are leaving.
    Leaving(usize),
    /// They are gone.
    Cleared,
    /// The wait before the next try is not over, by so much.
    BackOff(Duration),
    /// It is over.
    WaitOver,
    /// It would break again, and ranks that still run are being deleted.
    FailedLeaving,
    /// It would break again.
    Failed,
    /// This island is older, and is planned first.
    OlderFirst(Key),
    /// Another plan is so much better that moving pays.
    BetterPlan(Weighed),
    /// The API server refused what an epoch's ranks are told: what it said.
    ObjectsRefused(String),
    /// The API server refused pods: what it said.
    PodsRefused(String),
}

/// How far an epoch has started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Ranks that run.
    pub up: usize,
    /// Ranks that there are to be.
    pub world: usize,
    /// One that waits, and for what.
    pub waits: Option<Waits>,
}

/// What a rank waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// What Kubernetes says of it.
    Pending { rank: u32, why: String },
    /// A queue that lets it in.
    Queue { rank: u32 },
}

/// What keeps an island from running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// There is no run of this name.
    RunNotFound(String),
    /// It was told to.
    Suspended,
    /// Its run, of this name, was told to.
    RunSuspended(String),
    /// Its run, of this name, is complete.
    RunComplete(String),
    /// Its run makes no sense.
    InvalidRun(InvalidRun),
}

/// What of a plan's cards is not there any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The node.
    Node(String),
    /// All of a node.
    Unusable(Unusable),
    /// Some of a node.
    Cards { node: String, left: u32, needed: u32 },
}

/// A node whose cards cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unusable {
    pub node: String,
    pub why: LeftOut,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// What the island says makes no sense: how, a sentence.
    InvalidSpec(String),
    /// What the run of this name says makes no sense.
    InvalidRun(String),
    /// No node with cards that can be used is selected; one of those whose cards cannot.
    NoNodes(Option<Unusable>),
    /// The planner's word, and who has cards that the island waits for.
    Planner(planner::Refusal, Competitors),
    /// The planner broke.
    PlannerFailed(String),
}

/// Who has cards that an island could use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Competitors {
    /// Other islands.
    pub islands: BTreeSet<Key>,
    /// Cards that pods of no island hold.
    pub foreign: u32,
    /// When cards that were in use lately have been idle for long enough.
    pub settles: Option<Duration>,
}

impl AsReason for Reason {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Rests(rest) => rest.as_str(),
            Self::Unplanned => "Planning",
            Self::Strays { .. } => "ClearingEpoch",
            Self::SpecChanged => "SpecChanged",
            Self::CardsLost(_) => "CardsLost",
            Self::RunBegun | Self::Starting(_) => "Starting",
            Self::RunNotBegun => "RunNotBegun",
            Self::ClocksDiffer => "ClocksDiffer",
            Self::StartDeadline(..) => "StartDeadline",
            Self::Gated | Self::OlderFirst(_) => "Queued",
            Self::QueueTimeout => "QueueTimeout",
            Self::Running | Self::Proven => "Running",
            Self::PodsGone { .. } | Self::AskedToEnd(_) => "RanksLost",
            Self::Ended(cause) => ended(cause.why),
            Self::LeaderComplete | Self::Complete => "Complete",
            Self::Deleting | Self::Leaving(_) => "Stopping",
            Self::Cleared => "Waiting",
            Self::BackOff(_) => "BackOff",
            Self::WaitOver => "Restarting",
            Self::FailedLeaving | Self::Failed => "Failed",
            Self::BetterPlan(_) => "BetterPlan",
            Self::ObjectsRefused(_) => "ObjectsRefused",
            Self::PodsRefused(_) => "PodsRefused",
        }
    }
}

fn ended(why: Why) -> &'static str {
    match why {
        Why::Wordless | Why::Failed => "RankFailed",
        Why::Lost => "PeerLost",
        Why::Stopped => "RanksLost",
        Why::Killed | Why::Memory => "OutOfMemory",
        Why::Diverged => "Diverged",
        Why::Configuration => "BadConfiguration",
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unplanned => "there is no plan yet",
            Self::Strays { leaving: true } => "pods of an older epoch are leaving",
            Self::Strays { leaving: false } => "pods of an older epoch are there",
            Self::SpecChanged => "its spec changed",
            Self::RunBegun => "the run has begun",
            Self::RunNotBegun => "it waits for the run to begin",
            Self::ClocksDiffer => {
                "it began to start by a clock that is ahead of this one: its time counts anew"
            }
            Self::Gated => "its pods wait to be let in by their queue",
            Self::QueueTimeout => {
                "its pods were not let in by their queue, and others wait for cards"
            }
            Self::Running => "all ranks run",
            Self::Proven => "it has run for a while",
            Self::LeaderComplete => "its leader saw the end of the run",
            Self::Complete => "all its ranks ended well",
            Self::Deleting => "its ranks are being deleted",
            Self::Cleared => "it is tried again soon",
            Self::WaitOver => "its wait is over",
            Self::FailedLeaving => "its other ranks are being deleted",
            Self::Failed => "it would break again in the same way",
            Self::Ended(cause) => &cause.what,
            Self::Rests(rest) => return rest.fmt(f),
            Self::CardsLost(lost) => return lost.fmt(f),
            Self::Starting(it) => return write!(f, "{} of {} ranks run{it}", it.up, it.world),
            Self::StartDeadline(it, most) => {
                let (up, world, most) = (it.up, it.world, most.as_secs());
                return write!(f, "{up} of {world} ranks ran within {most} s{it}");
            }
            Self::PodsGone { missing, world } => {
                return write!(f, "{missing} of {world} ranks are gone: their pods were deleted");
            }
            Self::AskedToEnd(rank) => return write!(f, "rank {rank} was asked to end"),
            Self::Leaving(ranks) => return write!(f, "{ranks} of its ranks are leaving"),
            Self::BackOff(left) => {
                return write!(f, "it is tried again in {} s", left.as_secs().max(1));
            }
            Self::OlderFirst(older) => {
                return write!(f, "island {older} is older and is planned first");
            }
            Self::BetterPlan(weighed) => return weighed.fmt(f),
            Self::ObjectsRefused(said) | Self::PodsRefused(said) => said,
        })
    }
}

/// What is added to how many ranks run.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.waits {
            None => Ok(()),
            Some(Waits::Pending { rank, why }) => write!(f, "; rank {rank} waits: {why}"),
            Some(Waits::Queue { rank }) => write!(f, "; rank {rank} waits for its queue"),
        }
    }
}

impl AsReason for Rest {
    fn as_str(&self) -> &'static str {
        match self {
            Self::RunNotFound(_) => "RunNotFound",
            Self::Suspended => "Suspended",
            Self::RunSuspended(_) => "RunSuspended",
            Self::RunComplete(_) => "RunComplete",
            Self::InvalidRun(_) => "InvalidRun",
        }
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RunNotFound(run) => {
                write!(f, "there is no TrainingRun {run} in this namespace: apply one")
            }
            Self::Suspended => f.write_str("spec.suspend is true"),
            Self::RunSuspended(run) => write!(f, "spec.suspend of TrainingRun {run} is true"),
            Self::RunComplete(run) => write!(f, "TrainingRun {run} is complete"),
            Self::InvalidRun(problem) => problem.fmt(f),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "node {node} is gone"),
            Self::Unusable(unusable) => unusable.fmt(f),
            Self::Cards { node, left, needed } => {
                write!(f, "{left} of {needed} cards of node {node} are left")
            }
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}: {}", self.node, self.why)
    }
}

impl Refusal {
    /// Whether more cards would do.
    pub(crate) fn for_cards(&self) -> bool {
        use planner::Reason::{BelowMinimumMemory, ModelTooLarge, NotEnoughCards};
        match self {
            Self::NoNodes(_) => true,
            Self::Planner(refusal, _) => {
                matches!(refusal.reason, NotEnoughCards | BelowMinimumMemory | ModelTooLarge)
            }
            Self::InvalidSpec(_) | Self::InvalidRun(_) | Self::PlannerFailed(_) => false,
        }
    }
}

impl AsReason for Refusal {
    fn as_str(&self) -> &'static str {
        match self {
            Self::InvalidSpec(_) => "InvalidSpec",
            Self::InvalidRun(_) => "InvalidRun",
            Self::NoNodes(_) => "NoNodes",
            Self::Planner(refusal, _) => refusal.reason.name(),
            Self::PlannerFailed(_) => "PlannerFailed",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidSpec(problems) => f.write_str(problems),
            Self::InvalidRun(run) => write!(f, "see TrainingRun {run}"),
            Self::NoNodes(Some(unusable)) => write!(f, "no card can be used: {unusable}"),
            Self::NoNodes(None) => f.write_str(
                "no node with GPUs matches nodeSelector and tolerations: see `kubectl get nodes \
                 --show-labels`",
            ),
            Self::Planner(refusal, competitors) => {
                write!(f, "{}: {}", refusal.message, refusal.remedy)?;
                if self.for_cards() { competitors.fmt(f) } else { Ok(()) }
            }
            Self::PlannerFailed(why) => write!(f, "the planner ended without a plan: {why}"),
        }
    }
}

/// What is added to what is missing.
impl fmt::Display for Competitors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut who = Vec::new();
        if !self.islands.is_empty() {
            let islands: Vec<_> = self.islands.iter().map(ToString::to_string).collect();
            who.push(format!("island {}", named(&islands, NAMED)));
        }
        if self.foreign > 0 {
            who.push(format!("other pods ({} cards)", self.foreign));
        }
        if !who.is_empty() {
            write!(f, "; it waits for cards of {}", who.join(" and of "))?;
        }
        match self.settles {
            Some(wait) => {
                let seconds = wait.as_secs().max(1);
                write!(f, "; cards that were freed lately count in {seconds} s")
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use api::occupancy;

    use super::*;

    fn planner(reason: planner::Reason) -> planner::Refusal {
        let (message, remedy) = ("2 of 3 cards".into(), "lower count".into());
        planner::Refusal { island: None, reason, message, remedy }
    }

    #[test]
    fn who_has_the_cards_is_said_where_cards_are_what_lacks() {
        let islands = |names: &[&str]| names.iter().map(|name| Key::new("ml", *name)).collect();
        let second = Some(Duration::from_millis(200));
        let table = [
            (&[][..], 0, None, ""),
            (&["a"], 0, None, "; it waits for cards of island ml/a"),
            (&[], 3, None, "; it waits for cards of other pods (3 cards)"),
            (
                &["a", "b"],
                1,
                None,
                "; it waits for cards of island ml/a, ml/b and of other pods (1 cards)",
            ),
            (&[], 0, second, "; cards that were freed lately count in 1 s"),
        ];
        for (names, foreign, settles, said) in table {
            let competitors = Competitors { islands: islands(names), foreign, settles };
            let few =
                Refusal::Planner(planner(planner::Reason::NotEnoughCards), competitors.clone());
            assert_eq!(few.to_string(), format!("2 of 3 cards: lower count{said}"));
            let other = Refusal::Planner(planner(planner::Reason::Unshardable), competitors);
            assert_eq!(other.to_string(), "2 of 3 cards: lower count");
        }
    }

    #[test]
    fn an_island_waits_for_cards_only_where_more_of_them_would_do() {
        use planner::Reason as Planner;
        let word = |reason| Refusal::Planner(planner(reason), Competitors::default());
        let why = LeftOut::Unusable(occupancy::Unusable::Cordoned);
        let cordoned = Unusable { node: "a".into(), why };
        let table = [
            (word(Planner::NotEnoughCards), true, "NotEnoughCards"),
            (word(Planner::BelowMinimumMemory), true, "BelowMinimumMemory"),
            (word(Planner::ModelTooLarge), true, "ModelTooLarge"),
            (word(Planner::TooManyCards), false, "TooManyCards"),
            (word(Planner::BatchTooSmall), false, "BatchTooSmall"),
            (Refusal::NoNodes(None), true, "NoNodes"),
            (Refusal::NoNodes(Some(cordoned.clone())), true, "NoNodes"),
            (Refusal::InvalidSpec("count".into()), false, "InvalidSpec"),
            (Refusal::PlannerFailed("panic".into()), false, "PlannerFailed"),
        ];
        for (refusal, for_cards, name) in table {
            assert_eq!((refusal.for_cards(), refusal.as_str()), (for_cards, name), "{refusal}");
        }
        let said = Refusal::NoNodes(Some(cordoned)).to_string();
        assert!(said.starts_with("no card can be used: node a: left out, cordoned"), "{said}");
    }
}
