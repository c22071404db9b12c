//! The whereabouts of rounds, near and far: going back where a round is lost with all its holders,
//! and going forward where the coordinator is the one that lost it.

use crate::config::Config;
use crate::progress::names;
use crate::record::Deed;
use crate::state::{Member, Millis, Saved, Start, State, Timers};
use crate::text::Text;
use crate::types::{Digest, MemberState, Phase};

/// A beginning that was taken over from a checkpoint, by a person's word.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Adopted {
    /// The round.
    pub round: u64,
    /// Hash of θ at its start; the members that hold the round agree on it where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub theta_hash: Option<Digest>,
    /// Tokens of all rounds before.
    pub tokens: u64,
    /// Samples that were handed out before.
    #[serde(default)]
    pub samples: u64,
}

/// The decision on going back, and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GoBack {
    /// Nobody can hold anything newer, or those that may are away for too long.
    Now,
    /// An island that is away may hold something newer.
    WaitsFor { island: String, round: u64, until: Millis },
    /// A member that is here may come to the newer round by itself: the commit after its own is
    /// known.
    MayApply { until: Millis },
    /// An island that is away keeps a newer checkpoint: only a person may give it up.
    Kept { island: String, round: u64 },
}

/// Since when a run is held up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// Since when nobody holds its round,
    pub(crate) since: Millis,
    /// and when the last member joined.
    pub(crate) joined: Millis,
}

/// Decides whether the run may go back to round `to`.
pub(crate) fn may_go_back(saved: &Saved, config: &Config, to: u64, waits: Waits) -> GoBack {
    let Waits { since, joined } = waits;
    let newest = |rounds: &std::collections::BTreeMap<String, u64>| {
        let is_away = |island: &String| !saved.members.contains_key(island);
        let newer = rounds.iter().filter(|(island, round)| **round > to && is_away(island));
        newer.max_by_key(|(_, round)| **round).map(|(island, round)| (island.clone(), *round))
    };
    if config.go_back {
        return GoBack::Now;
    }
    if let Some((island, round)) = newest(&saved.kept) {
        return GoBack::Kept { island, round };
    }
    match newest(&saved.held) {
        Some((island, round)) => {
            GoBack::WaitsFor { island, round, until: since.plus(config.go_back_after_ms) }
        }
        None if saved.commits.iter().any(|commit| commit.round == to) => {
            let until = since.max(joined).plus(config.stall_ms());
            GoBack::MayApply { until: until.min(since.plus(config.go_back_after_ms)) }
        }
        None => GoBack::Now,
    }
}

impl State {
    /// A run that goes on from a checkpoint, without the coordinator's store that it began with.
    pub fn adopt(config: Config, adopted: &Adopted, now: Millis) -> State {
        let mut state = State::new(config, now);
        let reason = "taken over from a checkpoint".to_string();
        state.go_forward(adopted, reason);
        state
    }

    fn go_forward(&mut self, adopted: &Adopted, reason: String) {
        let Adopted { round, theta_hash, tokens, samples } = *adopted;
        debug_assert!(round >= self.saved.highest, "round {round} lies behind what is known");
        self.append(Deed::Adopt { round, theta: theta_hash, tokens, samples, reason });
        self.clear_round();
        self.saved.commits.clear();
        self.saved.voters.clear();
        self.saved.round = round;
        self.saved.highest = round;
        self.saved.starts.insert(round, Start { theta: theta_hash, tokens, samples });
        self.saved.text = Text::from(samples);
    }

    /// Members hold rounds that this coordinator never saw: its store is older than they are. It
    /// takes the run over from the one that is furthest, once all islands are there, or a quorum is
    /// beyond the store and the others were waited for. How many hold an older round says nothing:
    /// one that is further went on while they were away.
    pub(crate) fn catch_up(&mut self) -> bool {
        let quorum = self.config.quorum(self.config.islands as usize);
        let says = |member: &Member| (member.round, member.theta);
        let said: Vec<_> = self.members_ahead().map(|(_, member)| says(member)).collect();
        let since = self.timers.ahead.unwrap_or(self.timers.now);
        self.timers.ahead = (!said.is_empty()).then_some(since);
        let heard = |island: &String| self.timers.heard.contains(island);
        // A member that outlives a lease is there, and would have said that it holds more.
        let told = since.plus(self.config.lease_ms) <= self.timers.now;
        let members = self.saved.members.len() >= self.config.islands as usize;
        let all = members && (told || self.saved.members.keys().all(heard));
        let waited = since.plus(self.config.go_back_after_ms) <= self.timers.now;
        let enough = all || (waited && said.len() >= quorum);
        if !enough {
            return false;
        }
        let times = |what: &(u64, Digest)| said.iter().filter(|other| *other == what).count();
        let furthest = said.iter().max_by_key(|what| (what.0, times(what), what.1));
        let Some(&(round, theta)) = furthest else { return false };
        let group = || self.members_ahead().filter(|(_, member)| says(member) == (round, theta));
        let tokens = group().map(|(_, member)| member.tokens).max().unwrap_or(0);
        let samples = group().map(|(_, member)| member.samples).max().unwrap_or(0);
        let names = names(group().map(|(island, _)| island));
        let reason = format!("{names} held round {round}, which the coordinator's store lacks");
        let adopted = Adopted { round, theta_hash: Some(theta), tokens, samples };
        self.go_forward(&adopted, reason.clone());
        self.settle_holders(round, MemberState::Ready);
        self.enter(Phase::Waiting, reason)
    }

    /// Members beyond all that the store knows; who knows of fewer tokens is not to be believed.
    fn members_ahead(&self) -> impl Iterator<Item = (&String, &Member)> {
        let (highest, tokens) = (self.saved.highest, self.tokens());
        let ahead = move |m: &Member| m.round > highest && m.tokens >= tokens;
        self.saved.members.iter().filter(move |(_, member)| ahead(member))
    }

    /// The reason for which a run stands still though members are there: some hold a round that
    /// the coordinator never saw, too few to take it over, and too few are there without them.
    pub(crate) fn ahead(&self) -> Option<String> {
        let newest = self.members_ahead().map(|(_, member)| member.round).max()?;
        let quorum = self.config.quorum(self.config.islands as usize);
        let trains = self.saved.phase != Phase::Waiting && self.holders().count() >= quorum;
        if self.config.go_back || trains {
            return None;
        }
        let names = names(self.members_ahead().map(|(island, _)| island));
        Some(format!(
            "{names} hold rounds up to {newest}, of which the coordinator's store knows nothing: \
             waiting until all {} islands are there, or until {quorum} hold such rounds and {} s \
             have passed; to go on without them, set `rounds.goBack`",
            self.config.islands,
            self.config.go_back_after_ms.div_ceil(1000)
        ))
    }

    /// Nobody holds θ of the round in progress: on from the newest round that somebody does hold,
    /// unless something newer may come back.
    pub(crate) fn go_back(&mut self) -> bool {
        let from = self.saved.round;
        let Some((to, is_agreed)) = self.newest_held() else {
            let count = self.saved.members.len();
            self.saved.reason = format!(
                "round {from} is lost: none of {count} islands holds θ of any round on record; \
                 start one that does, or set `rounds.goBack` to go on from what they hold"
            );
            return false;
        };
        // Whoever holds another θ that was agreed may be away.
        let behind = if is_agreed { to } else { to.saturating_sub(1) };
        if behind < from && !self.is_given_up(behind) {
            return false;
        }
        let holders = self.saved.members.iter().filter(|(_, m)| self.may_be_true(m) == is_agreed);
        let holders = names(holders.filter(|(_, m)| m.round == to).map(|(island, _)| island));
        let mut reason =
            format!("no member holds round {from} any more; {holders} held round {to}");
        if to < from {
            self.rewind(to, &reason);
        }
        if is_agreed {
            self.agree(true);
        } else {
            reason = format!("nobody holds the θ of round {to} that was agreed any more");
            self.agree_again(reason.clone());
        }
        let (phase, state) = if self.tokens() >= self.config.tokens {
            (Phase::Done, MemberState::Ready)
        } else {
            (Phase::Training, MemberState::Active)
        };
        self.settle_holders(to, state);
        self.enter(phase, reason)
    }

    /// The newest round whose θ a member holds, and whether that may be the θ that was agreed.
    /// Another one counts where nobody has that: of the round in progress; or of any round, if it
    /// came of a θ on record, or a person says so.
    fn newest_held(&self) -> Option<(u64, bool)> {
        let from = self.saved.round;
        if self.members_at(from).next().is_some() {
            return Some((from, false));
        }
        let held = || self.saved.members.values().filter(|member| member.round < from);
        let agreed = held().filter(|member| self.may_be_true(member)).map(|member| member.round);
        if let Some(agreed) = agreed.max() {
            return Some((agreed, true));
        }
        let counts = |member: &&Member| member.descends || self.config.go_back;
        held().filter(counts).map(|member| (member.round, false)).max()
    }

    /// Says whether a member's θ is the one on record, or of a round that the record knows nothing
    /// of: it may have been taken over from a store that ended before.
    pub(crate) fn may_be_true(&self, member: &Member) -> bool {
        let known = self.saved.starts.get(&member.round).and_then(|start| start.theta);
        known.is_none_or(|theta| theta == member.theta)
    }

    fn members_at(&self, round: u64) -> impl Iterator<Item = &Member> {
        self.saved.members.values().filter(move |member| member.round == round)
    }

    /// Those that are here hold the round in progress, but none of them the θ that was agreed: who
    /// had that is gone, and what they hold is θ.
    fn agree_again(&mut self, reason: String) {
        let round = self.saved.round;
        let Start { tokens, samples, .. } = self.start();
        self.saved.starts.insert(round, Start { theta: None, tokens, samples });
        self.saved.voters.clear();
        self.saved.votes.clear();
        self.agree(true);
        let theta = self.start().theta;
        self.append(Deed::Adopt { round, theta, tokens, samples, reason });
    }

    /// Says whether what is newer than `to` is given up; where it is not, the reason says what is
    /// waited for.
    fn is_given_up(&mut self, to: u64) -> bool {
        let since = *self.timers.lost.get_or_insert(self.timers.now);
        let (from, now) = (self.saved.round, self.timers.now);
        let waits = Waits { since, joined: self.timers.joined };
        self.saved.reason = match may_go_back(&self.saved, &self.config, to, waits) {
            GoBack::Now => return true,
            GoBack::WaitsFor { until, .. } | GoBack::MayApply { until } if until <= now => {
                return true;
            }
            GoBack::MayApply { .. } => {
                format!("round {from} is held by no member; those here may still come to it")
            }
            GoBack::WaitsFor { island, round, .. } => format!(
                "round {from} is held by no member; {island} held round {round} when it was last \
                 heard: the run waits {} s for it before it goes back to round {to}",
                self.config.go_back_after_ms.div_ceil(1000)
            ),
            GoBack::Kept { island, round } => format!(
                "round {from} is held by no member; {island}, which is away, keeps a checkpoint of \
                 round {round}: start it, or set `rounds.goBack` to give up what is beyond round \
                 {to}"
            ),
        };
        false
    }

    fn rewind(&mut self, to: u64, reason: &str) {
        let from = self.saved.round;
        debug_assert!(to < from, "back from round {from} to {to}");
        self.append(Deed::Rewind { from, to, reason: reason.to_string() });
        self.saved.round = to;
        let after = self.saved.starts.split_off(&(to + 1));
        self.saved.commits.retain(|commit| commit.round < to);
        self.saved.voters.clear();
        // What θ of `to` never saw is handed out again, but for the text of `to` itself: those that
        // trained on it may offer what they made of it.
        let next = after.get(&(to + 1)).map_or(self.saved.text.next, |start| start.samples);
        let known = |of: fn(&Member) -> u64| self.members_at(to).map(of).max().unwrap_or(0);
        let before = self.saved.starts.range(..to).next_back().map_or(0, |(_, start)| start.tokens);
        let tokens = known(|m| m.tokens).max(before);
        let start = Start { theta: None, tokens, samples: known(|m| m.samples) };
        self.saved.starts.entry(to).or_insert(start);
        self.saved.text = Text::from(next);
        // Those beyond hold what will never have been.
        self.saved.held.retain(|_, round| *round <= to);
        self.saved.kept.retain(|_, round| *round <= to);
        self.clear_round();
    }

    /// Members that hold the agreed θ of `round` become `state`, all others have to sync.
    fn settle_holders(&mut self, round: u64, state: MemberState) {
        let theta = self.start().theta;
        for member in self.saved.members.values_mut() {
            let holds = member.round == round && Some(member.theta) == theta;
            member.state = if holds { state } else { MemberState::Syncing };
        }
    }

    /// The times at which waiting for what may be newer ends: for those that are away, and for
    /// those that are ahead of the store.
    pub(crate) fn gives_up_at(&self) -> impl Iterator<Item = Millis> {
        let Timers { lost, ahead, .. } = self.timers;
        let (wait, stall) = (self.config.go_back_after_ms, self.config.stall_ms());
        let lease = self.config.lease_ms;
        let joined = lost.map(|at| at.max(self.timers.joined).plus(stall));
        let waits = [joined, lost.map(|at| at.plus(wait))];
        let ahead = [ahead.map(|at| at.plus(lease)), ahead.map(|at| at.plus(wait))];
        waits.into_iter().chain(ahead).flatten()
    }
}
