//! Agreement on θ at the start of a round: those that held θ of the round before say what they came
//! to, and what they gave in it is the weight of their word.

use serde::{Deserialize, Serialize};

use crate::state::{State, Vote};
use crate::types::{Contribution, Digest, MemberState};

/// Whose word counts on θ of the round in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Voter {
    pub(crate) island: String,
    /// Tokens in the committed set; 0 of those that held θ and gave nothing.
    pub(crate) weight: u64,
}

/// The outcome of the votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nobody has voted, or the votes that are missing may still turn it.
    Open,
    /// More than half of all weight says the same.
    Majority(Digest),
    /// The heaviest of the hashes that those present, or in time, voted for.
    Heaviest(Digest),
}

/// How long a voter that has not voted is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It is waited for.
    Waits,
    /// It is not, unless others disagree and its word may turn it.
    IfContested,
    /// It is not.
    Gone,
}

/// The outcome of `votes` by `voters`, of whom those that have not voted are waited for with some
/// `patience`. Of equals the one that more islands say wins, and then the smaller digest: not the
/// one that came first.
pub(crate) fn outcome(
    voters: &[Voter],
    votes: &[Vote],
    patience: impl Fn(&str) -> Patience,
) -> Outcome {
    let weight_of = |island: &str| {
        let voter = voters.iter().find(|voter| voter.island == island);
        voter.map(|voter| voter.weight)
    };
    let said = |theta: Digest| {
        let weights = votes.iter().filter(|vote| vote.theta == theta);
        let weights = weights.filter_map(|vote| weight_of(&vote.island));
        weights.fold((0, 0), |(sum, count), weight| (sum + u128::from(weight), count + 1))
    };
    let counted = votes.iter().filter(|vote| weight_of(&vote.island).is_some());
    let best = counted
        .map(|vote| (said(vote.theta), vote.theta))
        .max_by(|(a, x), (b, y)| a.cmp(b).then_with(|| y.cmp(x)));
    let Some(((weight, _), theta)) = best else { return Outcome::Open };
    let total: u128 = voters.iter().map(|voter| u128::from(voter.weight)).sum();
    if 2 * weight > total {
        return Outcome::Majority(theta);
    }
    let others = votes.iter().filter(|vote| vote.theta != theta).map(|vote| said(vote.theta).0);
    let second = others.max();
    let silent = voters.iter().filter(|voter| votes.iter().all(|v| v.island != voter.island));
    let (mut waits, mut may_come) = (false, 0);
    for voter in silent {
        let patience = patience(&voter.island);
        waits |= patience == Patience::Waits;
        may_come += if patience == Patience::Gone { 0 } else { u128::from(voter.weight) };
    }
    let contested = may_come > 0 && second.is_some_and(|second| second + may_come >= weight);
    if waits || contested { Outcome::Open } else { Outcome::Heaviest(theta) }
}

impl State {
    /// The members that may say what θ after the round that is committed with `set` is.
    pub(crate) fn voters_after(&self, set: &[Contribution]) -> Vec<Voter> {
        let weight = |island: &str| {
            let own = set.iter().find(|contribution| contribution.island == island);
            own.map_or(0, |contribution| contribution.tokens)
        };
        let voter = |island: &String| Voter { island: island.clone(), weight: weight(island) };
        self.holders().map(|(island, _)| voter(island)).collect()
    }

    /// Notes what an island came to, if its word counts and nothing is agreed yet.
    pub(crate) fn vote(&mut self, island: &str, theta: Digest) {
        let counts = self.saved.voters.iter().any(|voter| voter.island == island);
        if !counts || self.start().theta.is_some() {
            return;
        }
        let votes = &mut self.saved.votes;
        match votes.iter_mut().find(|vote| vote.island == island) {
            Some(vote) => vote.theta = theta,
            None => votes.push(Vote { island: island.to_string(), theta }),
        }
    }

    /// Agrees on θ of the round in progress as soon as the votes say it. After the grace since the
    /// first vote, or where the round cannot wait (`now`), those that are missing are not heard.
    pub(crate) fn agree(&mut self, now: bool) {
        if self.start().theta.is_some() {
            return;
        }
        let voters = &self.saved.voters;
        let here = |voter: &Voter| self.saved.members.contains_key(&voter.island);
        if self.saved.votes.is_empty() && !voters.iter().any(here) {
            if now {
                self.agree_without_voters();
            }
            return;
        }
        let voted = !self.saved.votes.is_empty();
        let since = self.timers.voted.unwrap_or(self.timers.now);
        let in_time = self.timers.now < since.plus(self.config.grace_ms);
        let patience = |island: &str| match self.saved.members.contains_key(island) {
            true if !now && in_time => Patience::Waits,
            true if !now => Patience::IfContested,
            _ => Patience::Gone,
        };
        let outcome = outcome(voters, &self.saved.votes, patience);
        self.timers.voted = voted.then_some(since);
        self.take(outcome);
    }

    /// Nobody is there that held the round before, or there was none: what most members hold that
    /// are there.
    fn agree_without_voters(&mut self) {
        let round = self.saved.round;
        let here = self.saved.members.iter().filter(|(_, member)| member.round == round);
        let (voters, votes): (Vec<_>, Vec<_>) = here
            .map(|(island, member)| {
                let island = island.clone();
                (Voter { island: island.clone(), weight: 1 }, Vote { island, theta: member.theta })
            })
            .unzip();
        self.take(outcome(&voters, &votes, |_| Patience::Gone));
    }

    fn take(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Open => {}
            Outcome::Majority(theta) | Outcome::Heaviest(theta) => self.set_theta(theta),
        }
    }

    /// θ of the round in progress is `theta`: whoever holds another cannot take part.
    fn set_theta(&mut self, theta: Digest) {
        let round = self.saved.round;
        debug_assert!(self.start().theta.is_none(), "θ of round {round} was agreed before");
        self.saved.starts.entry(round).or_default().theta = Some(theta);
        self.timers.voted = None;
        let standing = self.standing();
        let mut others = Vec::new();
        for (island, member) in &mut self.saved.members {
            if member.round == round && member.theta != theta {
                others.push(island.clone());
            } else if member.round == round && member.state == MemberState::Syncing {
                self.saved.held.insert(island.clone(), round);
                member.state = standing;
            }
        }
        others.iter().for_each(|island| self.demote(island));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    fn votes(votes: &[(&str, u8)]) -> Vec<Vote> {
        let vote =
            |(island, byte): &(&str, u8)| Vote { island: (*island).into(), theta: digest(*byte) };
        votes.iter().map(vote).collect()
    }

    #[test]
    fn weight_decides_and_neither_who_came_first_nor_who_gave_nothing() {
        let voters = [("a", 10), ("b", 30), ("c", 20), ("idle", 0)];
        let voters: Vec<_> = voters
            .iter()
            .map(|(island, weight)| Voter { island: (*island).into(), weight: *weight })
            .collect();
        type Said = &'static [(&'static str, u8)];
        let table: [(Said, Outcome, &str); 9] = [
            (&[], Outcome::Open, "nobody has voted"),
            (&[("a", 9)], Outcome::Open, "the first is not the last"),
            (&[("stranger", 9)], Outcome::Open, "others do not count"),
            (&[("a", 1), ("b", 1)], Outcome::Majority(digest(1)), "more than half"),
            (&[("a", 9), ("b", 1)], Outcome::Open, "c may turn it"),
            (&[("a", 9), ("c", 9), ("b", 1)], Outcome::Open, "half is not more than half"),
            (
                &[("a", 9), ("c", 9), ("b", 1), ("idle", 1)],
                Outcome::Heaviest(digest(1)),
                "equal in weight and number: the smaller digest",
            ),
            (&[("a", 9), ("b", 1), ("c", 9), ("idle", 9)], Outcome::Heaviest(digest(9)), "3 to 1"),
            (&[("idle", 9), ("b", 1), ("a", 1)], Outcome::Majority(digest(1)), "0 weighs nothing"),
        ];
        for (said, expected, why) in table {
            assert_eq!(outcome(&voters, &votes(said), |_| Patience::Waits), expected, "{why}");
        }
        let late = [
            (&[("a", 9), ("b", 1)][..], Outcome::Open, "c may turn it"),
            (&[("b", 1)], Outcome::Heaviest(digest(1)), "nobody says otherwise"),
            (&[("b", 1), ("idle", 9)], Outcome::Open, "a and c together may equal it"),
        ];
        for (said, expected, why) in late {
            let found = outcome(&voters, &votes(said), |_| Patience::IfContested);
            assert_eq!(found, expected, "{why}");
        }
        let gone = outcome(&voters, &votes(&[("a", 9), ("b", 1)]), |_| Patience::Gone);
        assert_eq!(gone, Outcome::Heaviest(digest(1)));
    }
}
