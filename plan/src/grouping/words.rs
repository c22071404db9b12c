//! Why machines go together, or go nowhere, in sentences.

use std::fmt;

use super::domain::Domain;
use super::{Compared, Omitted, Reason, Why};
use crate::words::{gib, named};

/// Products that a sentence lists.
const LISTED_MAX: usize = 3;

/// Some nodes and where they are.
pub(super) fn counted(domain: &Domain<'_>, nodes: usize) -> String {
    match domain {
        Domain::Node(_) => domain.to_string(),
        _ => format!("{nodes} nodes of {domain}"),
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        for (at, why) in self.why.iter().enumerate() {
            write!(f, "{} {why}", if at == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => write!(f, "the model fits"),
            Self::Needed { far } => {
                write!(f, "joined because the model does not fit in fewer with enough memory")?;
                let far = if *far { ", though links between them may be slow" } else { "" };
                write!(f, "{far}")
            }
            Self::Faster(compared) => write!(f, "joined because that is faster: {compared}"),
            Self::Apart(compared) => {
                write!(f, "kept apart from what is near, which would not be faster: {compared}")
            }
        }
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { together, apart } = self;
        write!(f, "{together:.0} tokens/s together, {apart:.0} tokens/s apart")
    }
}

impl fmt::Display for Omitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unasked(products) if products.is_empty() => write!(
                f,
                "these are parts of cards, which are used only where products name them: name the \
                 whole cards, too"
            ),
            Self::Unasked(products) => write!(
                f,
                "these are not the products asked for, {}: add them to be used",
                named(products, LISTED_MAX)
            ),
            Self::NamedTwice(name) => {
                write!(f, "several nodes are named {name}: give each a name of its own")
            }
            Self::AboveMost(what, most) => {
                write!(f, "{what} alone is above maxMemory of {}: raise maxMemory", gib(*most))
            }
            Self::BelowLeast(what, least) => write!(
                f,
                "{what} make no island of minMemory of {}, and nothing is left to join: add cards \
                 or change minMemory or maxMemory",
                gib(*least)
            ),
            Self::TooSmall(what) => write!(
                f,
                "{what} cannot hold the model, and nothing is left to join: add cards, raise \
                 maxMemory where it is set, or choose a smaller model"
            ),
            Self::NoFaster(what, compared) => write!(
                f,
                "{what} cannot be an island, and none near by would be faster with a node of it: \
                 {compared}; add cards, or choose a smaller model"
            ),
        }
    }
}
