//! When an island that was asked to stop does.

use std::time::Duration;

use crate::decide::Directive;

/// Whether an island ends here, and why or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopping {
    /// Nobody asked.
    NotAsked,
    /// What it made is not the run's yet: it follows the round to its commit.
    Owes,
    /// It has nothing more to give.
    Free,
    /// It has followed its last round for as long as it may.
    OutOfTime,
}

impl Stopping {
    pub(crate) fn is_due(self) -> bool {
        matches!(self, Stopping::Free | Stopping::OutOfTime)
    }
}

/// Whether an island that was `asked` to stop so long ago does so instead of what it is directed
/// to. `offered`: it has made its contribution to the round in progress.
pub(crate) fn stopping(
    asked: Option<Duration>,
    limit: Duration,
    directive: &Directive,
    offered: bool,
) -> Stopping {
    let Some(asked) = asked else { return Stopping::NotAsked };
    if asked > limit {
        return Stopping::OutOfTime;
    }
    match directive {
        Directive::Fetch { .. } | Directive::Apply { .. } | Directive::OfferAgain => Stopping::Owes,
        Directive::Wait { .. } if offered => Stopping::Owes,
        Directive::Wait { .. }
        | Directive::Train { .. }
        | Directive::Sync { .. }
        | Directive::Join
        | Directive::Finish
        | Directive::Miss
        | Directive::Rewind { .. } => Stopping::Free,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::commit_of;
    use rounds::types::Digest;

    const LIMIT: Duration = Duration::from_secs(45);

    #[test]
    fn an_island_stops_when_it_has_nothing_more_to_give() {
        use Stopping::{Free, Owes};
        let wait = Directive::Wait { reason: String::new() };
        let sync = Directive::Sync { round: 3, hash: Digest([0; 32]) };
        let table = [
            (Directive::Train { round: 3 }, false, Free),
            (wait.clone(), false, Free),
            (wait, true, Owes),
            (Directive::OfferAgain, true, Owes),
            (Directive::Fetch { set: vec![] }, true, Owes),
            (Directive::Apply { commit: commit_of(3, &[]) }, false, Owes),
            (sync, false, Free),
            (Directive::Join, true, Free),
            (Directive::Finish, true, Free),
            (Directive::Miss, false, Free),
            (Directive::Rewind { round: 1 }, true, Free),
        ];
        for (directive, offered, expected) in table {
            let asked = stopping(Some(LIMIT), LIMIT, &directive, offered);
            assert_eq!(asked, expected, "{directive:?}, offered: {offered}");
            assert_eq!(asked.is_due(), expected == Free);
            let late = stopping(Some(LIMIT * 2), LIMIT, &directive, offered);
            assert_eq!((late, late.is_due()), (Stopping::OutOfTime, true), "{directive:?}");
            let never = stopping(None, LIMIT, &directive, offered);
            assert_eq!((never, never.is_due()), (Stopping::NotAsked, false), "{directive:?}");
        }
    }
}
