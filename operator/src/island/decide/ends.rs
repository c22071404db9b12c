//! What the ends of an epoch's ranks say of it, as [`contract::fate`] decides.

use std::time::Duration;

use api::island::PlanPhase;
use contract::event::Ending;
use contract::fate::{Cause, End, Epoch, Exit, Fate, WORD_WAIT, fate};
use k8s_openapi::jiff::Timestamp;

use super::{Decision, Step, decide_to, elapsed};
use crate::inventory::{Rank, RankState};
use crate::island::reason::Reason;

/// What is to be done because of how ranks ended; `None` where nothing is.
pub(super) fn judge(own: &[&Rank], world: usize, now: Timestamp) -> Option<Decision> {
    let ended = in_time(own);
    let ends: Vec<End> = ended.iter().map(|(_, end)| end.clone()).collect();
    let leader = own.iter().find(|rank| rank.rank == 0).and_then(|rank| match rank.state {
        RankState::Succeeded => Some(Ending::Complete),
        RankState::Stopped => Some(Ending::Stopped),
        _ => None,
    });
    let asked = own.iter().find(|rank| rank.state == RankState::Stopped);
    let epoch = Epoch { world: u32::try_from(world).unwrap_or(u32::MAX), leader, ends: &ends };
    match (fate(&epoch), asked) {
        (Fate::Done, _) => {
            let over = own.len() == world && ends.len() == world;
            over.then(|| decide_to(Step::Enter(PlanPhase::Done), Reason::LeaderComplete))
        }
        (Fate::Broken(cause), _) if cause.why.lasts() => Some(breaks(cause)),
        (_, Some(rank)) => {
            Some(decide_to(Step::Break { for_good: false }, Reason::AskedToEnd(rank.rank)))
        }
        (Fate::Goes, None) => None,
        (Fate::Broken(cause), None) => Some(breaks(cause)),
        (Fate::Waits(cause), None) => {
            let first = ended.iter().find_map(|(at, end)| Cause::of(end).and(*at));
            let left =
                first.map_or(Duration::ZERO, |at| WORD_WAIT.saturating_sub(elapsed(at, now)));
            if own.iter().any(|rank| rank.state == RankState::Running) && !left.is_zero() {
                return Some(decide_to(Step::Keep(Some(left)), Reason::Ended(cause)));
            }
            Some(breaks(cause))
        }
    }
}

/// Of ranks that are being deleted: what one of them said that would come again, if any did.
pub(super) fn lasting<'a>(ranks: impl Iterator<Item = &'a Rank>) -> Option<Decision> {
    let causes = ranks.filter_map(end).filter_map(|(_, end)| Cause::of(&end));
    causes.filter(|cause| cause.why.lasts()).reduce(Cause::or).map(breaks)
}

fn breaks(cause: Cause) -> Decision {
    decide_to(Step::Break { for_good: cause.why.lasts() }, Reason::Ended(cause))
}

/// Ranks that have ended, the first first.
fn in_time(own: &[&Rank]) -> Vec<(Option<Timestamp>, End)> {
    let mut ended: Vec<_> = own.iter().filter_map(|rank| end(rank)).collect();
    ended.sort_by_key(|(at, end)| (at.is_none(), *at, end.rank));
    ended
}

fn end(rank: &Rank) -> Option<(Option<Timestamp>, End)> {
    let (exit, said, at) = match &rank.state {
        RankState::Failed { exit, said, at } => (*exit, said.clone(), *at),
        RankState::Succeeded | RankState::Stopped => (Exit::Code(0), String::new(), None),
        RankState::Pending { .. } | RankState::Gated | RankState::Running => return None,
    };
    Some((at, End { rank: rank.rank, exit, said }))
}
