//! Why a pool's islands are what they are: each reason a word and a sentence.

use std::fmt;

use api::status::ConditionType;

use crate::conditions::{AsReason, Said};
use crate::run::InvalidRun;

/// What keeps a pool from knowing its islands.
pub(super) enum Refused {
    /// What it says makes no sense: how.
    InvalidSpec(String),
    /// There is no run of this name.
    RunNotFound(String),
    /// Its run makes no sense.
    InvalidRun(InvalidRun),
}

impl AsReason for Refused {
    fn as_str(&self) -> &'static str {
        match self {
            Self::InvalidSpec(_) => "InvalidSpec",
            Self::RunNotFound(_) => "RunNotFound",
            Self::InvalidRun(_) => "InvalidRun",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidSpec(problems) => f.write_str(problems),
            Self::RunNotFound(run) => write!(f, "there is no TrainingRun {run}: apply one"),
            Self::InvalidRun(problem) => problem.fmt(f),
        }
    }
}

/// How the nodes of a pool became islands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reason<'a> {
    /// No node with cards is selected.
    NoNodes,
    /// All were left out: why one of them was.
    NoIslands(&'a str),
    /// Some were left out: why one of them was.
    SomeLeftOut(&'a str),
    /// All are in an island.
    Grouped,
}

impl<'a> Reason<'a> {
    /// Of so many islands, where this is why a node was left out.
    pub(super) fn of(islands: u32, left_out: Option<&'a String>) -> Self {
        match (islands, left_out) {
            (0, None) => Self::NoNodes,
            (0, Some(why)) => Self::NoIslands(why),
            (_, Some(why)) => Self::SomeLeftOut(why),
            (_, None) => Self::Grouped,
        }
    }

    /// What it says of a pool.
    pub(super) fn said(&self) -> Said {
        match self {
            Self::NoNodes | Self::NoIslands(_) => Said::no(ConditionType::Ready, self),
            Self::SomeLeftOut(_) | Self::Grouped => Said::yes(ConditionType::Ready, self),
        }
    }
}

impl AsReason for Reason<'_> {
    fn as_str(&self) -> &'static str {
        match self {
            Self::NoNodes => "NoNodes",
            Self::NoIslands(_) => "NoIslands",
            Self::SomeLeftOut(_) => "SomeLeftOut",
            Self::Grouped => "Grouped",
        }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNodes => "no node with cards is selected",
            Self::NoIslands(why) | Self::SomeLeftOut(why) => why,
            Self::Grouped => "every node is in an island",
        })
    }
}
