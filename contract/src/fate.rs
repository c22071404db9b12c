//! The fate of an island, from how its ranks ended: one decision for everything that starts them.
//!
//! An island lives and dies as a whole: its ranks hold one replica, so one lost rank ends them all.
//! The rank that ends first need not be the one that broke: of all ends the one that lasts counts,
//! in whatever order they come.

use std::fmt;
use std::time::Duration;

use crate::event::Ending;
use crate::exit::{EXIT_CONFIG, EXIT_DIVERGED, EXIT_LOST, EXIT_MEMORY};

/// Time that the other ranks of an island are waited for after one ended badly: their ends may say
/// more than the first.
pub const WORD_WAIT: Duration = Duration::from_secs(5);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// Killed because the memory that it was given was full.
    NoMemory,
    /// Ended by who runs it, such as a node that is drained.
    Removed,
    /// It could not be started, or nobody knows how it ended.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(0) => write!(f, "ended"),
            Self::Code(code) => write!(f, "ended with code {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
            Self::NoMemory => write!(f, "was killed: the memory that it was given is full"),
            Self::Removed => write!(f, "was ended from outside"),
            Self::Unknown => write!(f, "could not be run"),
        }
    }
}

/// The end of one rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The rank that ended.
    pub rank: u32,
    /// How.
    pub exit: Exit,
    /// Its last words; may be empty.
    pub said: String,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} {}", self.rank, self.exit)?;
        if self.said.is_empty() { Ok(()) } else { write!(f, ": {}", self.said) }
    }
}

/// An epoch of an island, as far as its ranks have ended.
#[derive(Clone, Copy, Debug)]
pub struct Epoch<'a> {
    /// Its ranks.
    pub world: u32,
    /// The ending that its leader reported, where it ended well.
    pub leader: Option<Ending>,
    /// Ranks that are gone, the first first.
    pub ends: &'a [End],
}

/// Why an epoch broke; a later one says more than those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// All ranks ended, and none said why.
    Wordless,
    /// A rank lost another one, or the coordinator.
    Lost,
    /// Somebody else asked the island to stop.
    Stopped,
    /// A rank failed, or was killed.
    Failed,
    /// A rank was killed because its memory was full: what else runs there may change.
    Killed,
    /// Training diverges from where the island stands.
    Diverged,
    /// A device has no room for what the plan puts there.
    Memory,
    /// The island's specification never works.
    Configuration,
}

impl Why {
    /// Says whether the island would break again in the same way.
    #[must_use]
    pub fn lasts(self) -> bool {
        match self {
            Self::Wordless | Self::Lost | Self::Stopped | Self::Failed | Self::Killed => false,
            Self::Diverged | Self::Memory | Self::Configuration => true,
        }
    }
}

/// The cause of an island's break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The kind of the cause.
    pub why: Why,
    /// A clause, for people.
    pub what: String,
    /// The sentence that the rank said, where it said one.
    pub said: String,
}

impl Cause {
    /// A cause that no rank told of.
    #[must_use]
    pub fn new(why: Why, what: impl Into<String>) -> Self {
        Self { why, what: what.into(), said: String::new() }
    }

    /// The cause that the end of a rank points to; nothing, where it ended well.
    #[must_use]
    pub fn of(end: &End) -> Option<Self> {
        let why = match end.exit {
            Exit::Code(0) => return None,
            Exit::Code(EXIT_CONFIG) => Why::Configuration,
            Exit::Code(EXIT_MEMORY) => Why::Memory,
            Exit::Code(EXIT_DIVERGED) => Why::Diverged,
            Exit::Code(EXIT_LOST) => Why::Lost,
            Exit::NoMemory => Why::Killed,
            Exit::Code(_) | Exit::Signal(_) | Exit::Removed | Exit::Unknown => Why::Failed,
        };
        Some(Self { why, what: end.to_string(), said: end.said.clone() })
    }

    /// The sentence that the rank said, or what happened to it where it said nothing.
    #[must_use]
    pub fn sentence(&self) -> String {
        if self.said.is_empty() { self.what.clone() } else { self.said.clone() }
    }

    /// The one that says more; this one where both say as much.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if other.why > self.why { other } else { self }
    }
}

/// The fate of an island.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing says that its epoch is over.
    Goes,
    /// A rank broke it, but ranks that still run may say more: for [`WORD_WAIT`] at most.
    Waits(Cause),
    /// It is broken, and what still runs of it is in vain.
    Broken(Cause),
    /// It has done its part; what becomes of ranks that still run does not matter.
    Done,
}

/// Decides.
#[must_use]
pub fn fate(epoch: &Epoch<'_>) -> Fate {
    let stopped = match epoch.leader {
        Some(Ending::Complete | Ending::Missed) => return Fate::Done,
        Some(Ending::Stopped) => true,
        None => false,
    };
    let all = epoch.ends.len() >= epoch.world as usize;
    let worst = epoch.ends.iter().filter_map(Cause::of).reduce(Cause::or);
    let asked = || Cause::new(Why::Stopped, "it was asked to stop, but not by whoever started it");
    let cause = match worst {
        Some(worst) if stopped => worst.or(asked()),
        Some(worst) => worst,
        None if !all => return Fate::Goes,
        None if stopped => asked(),
        None => Cause::new(Why::Wordless, "it ended without saying why"),
    };
    if all || cause.why.lasts() { Fate::Broken(cause) } else { Fate::Waits(cause) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::EXIT_FAILED;

    fn end(rank: u32, exit: Exit) -> End {
        End { rank, exit, said: String::new() }
    }

    fn code(code: i32) -> Exit {
        Exit::Code(code)
    }

    /// Every order of `items`.
    fn orders<T: Copy>(items: &[T]) -> Vec<Vec<T>> {
        if items.is_empty() {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for first in 0..items.len() {
            let mut rest = items.to_vec();
            let first = rest.remove(first);
            for mut order in orders(&rest) {
                order.insert(0, first);
                all.push(order);
            }
        }
        all
    }

    #[test]
    fn the_cause_that_lasts_wins_whatever_rank_it_is_of_and_whenever_it_comes() {
        let killed = Exit::Signal(9);
        let table = [
            (&[code(EXIT_FAILED), code(EXIT_MEMORY), code(EXIT_LOST)][..], Why::Memory),
            (&[code(EXIT_FAILED), code(EXIT_CONFIG), killed], Why::Configuration),
            (&[code(EXIT_MEMORY), code(EXIT_CONFIG), code(0)], Why::Configuration),
            (&[code(EXIT_LOST), code(EXIT_DIVERGED), killed], Why::Diverged),
            (&[code(EXIT_LOST), code(101), code(0)], Why::Failed),
            (&[code(EXIT_FAILED), Exit::NoMemory, code(EXIT_LOST)], Why::Killed),
            (&[code(EXIT_LOST), killed, code(EXIT_LOST)], Why::Failed),
            (&[code(EXIT_LOST), Exit::Unknown, code(EXIT_LOST)], Why::Failed),
            (&[code(EXIT_LOST), code(EXIT_LOST), code(0)], Why::Lost),
            (&[code(0), code(0), code(0)], Why::Wordless),
        ];
        for (exits, why) in table {
            for in_time in orders(exits) {
                for ranks in orders(&[0, 1, 2]) {
                    let ends: Vec<End> =
                        ranks.iter().zip(&in_time).map(|(rank, exit)| end(*rank, *exit)).collect();
                    let fate = fate(&Epoch { world: 3, leader: None, ends: &ends });
                    let Fate::Broken(cause) = fate else { panic!("{ends:?}: {fate:?}") };
                    assert_eq!(cause.why, why, "{ends:?}");
                }
            }
        }
    }

    #[test]
    fn of_ends_that_say_as_much_the_first_is_told() {
        let ends = [end(1, code(EXIT_LOST)), end(2, code(1)), end(0, Exit::Signal(9))];
        let fate = fate(&Epoch { world: 3, leader: None, ends: &ends });
        assert_eq!(fate, Fate::Broken(Cause::new(Why::Failed, "rank 2 ended with code 1")));
    }

    #[test]
    fn ranks_that_run_are_waited_for_unless_the_cause_lasts() {
        let table = [
            (code(0), "goes"),
            (code(EXIT_LOST), "waits"),
            (code(EXIT_FAILED), "waits"),
            (Exit::Signal(9), "waits"),
            (code(EXIT_MEMORY), "broken"),
            (code(EXIT_CONFIG), "broken"),
            (code(EXIT_DIVERGED), "broken"),
        ];
        for (exit, expected) in table {
            let ends = [end(1, exit)];
            let name = match fate(&Epoch { world: 2, leader: None, ends: &ends }) {
                Fate::Goes => "goes",
                Fate::Waits(_) => "waits",
                Fate::Broken(_) => "broken",
                Fate::Done => "done",
            };
            assert_eq!(name, expected, "{exit:?}");
        }
        assert_eq!(fate(&Epoch { world: 2, leader: None, ends: &[] }), Fate::Goes);
    }

    #[test]
    fn an_island_whose_leader_saw_the_runs_end_has_done_its_part_whatever_the_others_do() {
        let ends = [end(0, code(0)), end(1, code(EXIT_CONFIG))];
        for leader in [Ending::Complete, Ending::Missed] {
            let epoch = Epoch { world: 3, leader: Some(leader), ends: &ends };
            assert_eq!(fate(&epoch), Fate::Done);
        }
        let stopped = |ends| fate(&Epoch { world: 2, leader: Some(Ending::Stopped), ends });
        assert_eq!(stopped(&ends[..1]), Fate::Goes);
        let Fate::Broken(cause) = stopped(&[end(0, code(0)), end(1, code(EXIT_LOST))]) else {
            panic!("broken")
        };
        assert_eq!(cause.why, Why::Stopped);
    }
}
