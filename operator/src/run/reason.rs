//! Why a run has not begun, and what its conditions say: each reason a word and a sentence.

use std::fmt;

use api::FieldProblem;

use crate::conditions::AsReason;

/// Why a run's spec makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InvalidRun {
    /// Nothing says where its data is.
    NoDataVolume,
    /// This field wants a folder of nodes mounted, which is not allowed here.
    HostPath(&'static str),
    /// Fields are wrong.
    Fields(Vec<FieldProblem>),
}

impl fmt::Display for InvalidRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDataVolume => {
                f.write_str("spec.data.volume: missing: say where the data's folder lies")
            }
            Self::HostPath(field) => write!(
                f,
                "spec.{field}.volume.hostPath: not allowed here: use claimName, or have the \
                 operator's allowHostPath set"
            ),
            Self::Fields(problems) => {
                let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                f.write_str(&problems.join("; "))
            }
        }
    }
}

/// What a run that has not begun waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// Its spec makes no sense.
    Invalid(InvalidRun),
    /// The API server refused an object: what it said.
    ObjectsRefused(String),
    /// What is left of an earlier run of its name is being deleted.
    Replacing,
    /// Its Service has no address.
    NoAddress,
    /// No island names the run of this name.
    NoIslands(String),
    /// So many islands are not planned.
    Planning(usize),
    /// No island has a plan.
    NoIslandPlanned,
    /// The islands' rounds do not go together: why.
    NoRounds(String),
}

impl Waits {
    /// Whether nothing tells when it is over, so that it is looked at again soon.
    pub(super) fn is_untold(&self) -> bool {
        matches!(self, Self::Replacing | Self::NoAddress)
    }
}

impl AsReason for Waits {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "InvalidRun",
            Self::ObjectsRefused(_) => "ObjectsRefused",
            Self::Replacing => "Replacing",
            Self::NoAddress => "NoAddress",
            Self::NoIslands(_) => "NoIslands",
            Self::Planning(_) => "Planning",
            Self::NoIslandPlanned => "NoIslandPlanned",
            Self::NoRounds(_) => "NoRounds",
        }
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(problem) => problem.fmt(f),
            Self::ObjectsRefused(said) | Self::NoRounds(said) => f.write_str(said),
            Self::Replacing => {
                f.write_str("what is left of an earlier run of this name is being deleted")
            }
            Self::NoAddress => f.write_str("its Service has no address yet"),
            Self::NoIslands(run) => {
                write!(f, "no ComputeIsland names it: apply one with runRef.name {run}")
            }
            Self::Planning(untried) => write!(f, "{untried} of its islands are not planned yet"),
            Self::NoIslandPlanned => {
                f.write_str("none of its islands has a plan: see their conditions")
            }
        }
    }
}

/// What a condition says of a run that does not wait for anything of the above.
pub(super) enum Word<'a> {
    /// It was told to rest.
    Suspended,
    /// All tokens are trained on.
    Complete,
    /// The coordinator waits for islands: what it says.
    WaitingForIslands(&'a str),
    /// Rounds are made: what the coordinator says.
    Training(&'a str),
    /// Nothing was heard of the coordinator, and so many islands run of so many.
    Starting { ready: usize, all: usize },
    /// The coordinator is silent: why.
    NoAnswer(&'a str),
    /// The coordinator answers.
    Answers,
    /// There is no coordinator.
    NotBegun,
    /// All tokens are trained on.
    AllTokens,
    /// They are not.
    TokensLeft,
}

impl AsReason for Word<'_> {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Suspended => "Suspended",
            Self::Complete => "Complete",
            Self::WaitingForIslands(_) => "WaitingForIslands",
            Self::Training(_) => "Training",
            Self::Starting { .. } => "Starting",
            Self::NoAnswer(_) => "NoAnswer",
            Self::Answers => "Answers",
            Self::NotBegun => "NotBegun",
            Self::AllTokens => "AllTokens",
            Self::TokensLeft => "TokensLeft",
        }
    }
}

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Suspended => "spec.suspend is true",
            Self::Complete | Self::AllTokens => "all tokens are trained on",
            Self::WaitingForIslands(said) | Self::Training(said) | Self::NoAnswer(said) => said,
            Self::Starting { ready, all } => {
                return write!(
                    f,
                    "{ready} of {all} islands run; the coordinator was not heard yet"
                );
            }
            Self::Answers => "the coordinator answers",
            Self::NotBegun => "the run has not begun",
            Self::TokensLeft => "there are tokens left to train on",
        })
    }
}
