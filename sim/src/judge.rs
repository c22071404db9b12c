//! Laws that must hold of a world after every turn, whatever its faults were.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rounds::record::{Deed, Entry};
use rounds::request::Identity;
use rounds::types::{
    Commit, Contribution, Digest, MemberState, MemberView, Phase, RunView, SampleRange,
};

use crate::island::{Island, first_theta, theta_after};

/// A law that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The state contradicts itself.
    Unsound(String),
    /// A thing that was shown or answered was not on the disk.
    Forgotten(String),
    /// A round was committed again, otherwise.
    TwoCommits(u64),
    /// A round was left out.
    Gap(u64),
    /// The run went back though somebody held the newer round.
    WentBack {
        /// The round that it went back to.
        to: u64,
        /// The island that held a newer one.
        holder: String,
    },
    /// A committed contribution was never offered, or not by its island.
    NotOffered(String),
    /// A set was closed with too few offers, before its time.
    BelowQuorum {
        /// Offers in the set.
        offers: usize,
        /// Islands that could have offered.
        active: usize,
    },
    /// θ is not what the commits lead to, though it could be known.
    WrongTheta(u64),
    /// A text was trained on twice.
    TextTwice(SampleRange),
    /// An honest island was turned away.
    Refused {
        /// The island.
        island: String,
        /// The reason that it was told.
        why: String,
    },
    /// An exchange was waited for in which nobody got any further.
    Stalled(u64),
    /// After the last fault, the run does not come to its end.
    Stuck(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Longest time between a decision and what is shown of it.
const WRITE_MS: u64 = 20;

/// Times of the run's rules, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) quorum_percent: usize,
    pub(crate) grace: u64,
    pub(crate) stall: u64,
    pub(crate) deadline: u64,
    pub(crate) go_back_after: u64,
}

/// The history of what was committed, offered and said.
pub(crate) struct Judge {
    rules: Rules,
    commits: BTreeMap<u64, Vec<Contribution>>,
    thetas: BTreeMap<u64, Digest>,
    /// Samples behind each contribution that was ever offered.
    offered: BTreeMap<(u64, String, Digest), Vec<SampleRange>>,
    /// The members that said what θ of a round is, and when the first did.
    said: BTreeMap<u64, (u64, BTreeMap<String, Digest>)>,
    /// The same of all coordinators before: what one has saved, the next goes by.
    said_before: BTreeMap<u64, BTreeMap<String, Digest>>,
    /// The members that held θ of a round when it was committed: their word counts for the next.
    holders: BTreeMap<u64, BTreeSet<String>>,
    pieces: BTreeMap<(String, u64), u64>,
    phase_since: u64,
    progress: u64,
    lost_since: Option<u64>,
    /// The coordinator's store was lost: what text was handed out may be lost with it.
    store_lost: bool,
}

impl Judge {
    pub(crate) fn new(rules: Rules) -> Judge {
        Judge {
            rules,
            commits: BTreeMap::new(),
            thetas: BTreeMap::from([(0, first_theta())]),
            offered: BTreeMap::new(),
            said: BTreeMap::new(),
            said_before: BTreeMap::new(),
            holders: BTreeMap::new(),
            pieces: BTreeMap::new(),
            phase_since: 0,
            progress: 0,
            lost_since: None,
            store_lost: false,
        }
    }

    pub(crate) fn store_lost(&mut self) {
        self.store_lost = true;
    }

    /// The coordinator came back from an intact disk.
    pub(crate) fn restarted(&mut self, shown: &RunView, now: &RunView) -> Result<(), Fault> {
        if now.version < shown.version || now.round < shown.round {
            let what = format!("round {} version {}", shown.round, shown.version);
            return Err(Fault::Forgotten(what));
        }
        Ok(())
    }

    pub(crate) fn offers(&mut self, round: u64, offer: &Contribution, samples: &[SampleRange]) {
        let key = (round, offer.island.clone(), offer.digest);
        self.offered.insert(key, samples.to_vec());
    }

    pub(crate) fn says(&mut self, now: u64, round: u64, island: &str, theta: Digest) {
        let said = self.said.entry(round).or_insert_with(|| (now, BTreeMap::new()));
        said.1.insert(island.to_string(), theta);
    }

    pub(crate) fn got_further(&mut self, now: u64, who: &Identity, pieces: u64) {
        let known = self.pieces.entry((who.island.clone(), who.epoch)).or_default();
        if pieces > *known {
            *known = pieces;
            self.progress = now;
        }
    }

    /// A coordinator's clock and phases begin anew.
    pub(crate) fn begins_anew(&mut self, now: u64) {
        (self.phase_since, self.progress) = (now, now);
        self.lost_since = None;
        for (round, (_, said)) in std::mem::take(&mut self.said) {
            self.said_before.entry(round).or_default().extend(said);
        }
        self.pieces.clear();
    }

    /// One turn of the coordinator.
    pub(crate) fn turn(
        &mut self,
        now: u64,
        (before, after): (&RunView, &RunView),
        entries: &[Entry],
        islands: &[Island],
    ) -> Result<(), Fault> {
        self.check_close(now, before, after)?;
        let mut round = before.round;
        for entry in entries {
            self.check_entry(now, entry, round, islands)?;
            match entry.deed {
                Deed::Rewind { to, .. } => round = to,
                Deed::Commit { round, .. } => self.note_holders(round, after),
                Deed::Adopt { .. } => {}
            }
        }
        if (before.phase, before.round) != (after.phase, after.round) {
            (self.phase_since, self.progress) = (now, now);
            self.pieces.clear();
        }
        if after.phase == Phase::Waiting {
            self.lost_since.get_or_insert(now);
        } else {
            self.lost_since = None;
        }
        let went_back = entries.iter().any(|e| !matches!(e.deed, Deed::Commit { .. }));
        if after.round < before.round && !went_back {
            return Err(Fault::Forgotten(format!("round {}", before.round)));
        }
        let waits = now - self.phase_since.max(self.progress);
        if after.phase == Phase::Fetching && waits > self.rules.stall.max(self.rules.grace) + 200 {
            return Err(Fault::Stalled(after.round));
        }
        self.check_theta(now, after)
    }

    fn note_holders(&mut self, round: u64, after: &RunView) {
        let holds = |m: &&MemberView| m.round == round && m.state != MemberState::Syncing;
        let holders = after.members.iter().filter(holds).map(|m| m.island.clone());
        self.holders.insert(round, holders.collect());
    }

    fn check_close(&self, now: u64, before: &RunView, after: &RunView) -> Result<(), Fault> {
        let closes = before.phase == Phase::Training && after.phase == Phase::Fetching;
        // A view was decided a write before it is shown.
        let overdue = now + WRITE_MS >= self.phase_since + self.rules.deadline;
        if !closes || overdue || after.reason.contains("closed: all") {
            return Ok(());
        }
        // Whoever came back in the same turn came after the set was closed.
        let same = |a: &MemberView, b: &MemberView| (&a.island, a.epoch) == (&b.island, b.epoch);
        let was = |member: &MemberView| {
            before.members.iter().any(|m| same(m, member) && m.state == MemberState::Active)
        };
        let active = after.members.iter().filter(|m| m.state == MemberState::Active);
        let active = active.filter(|member| was(member)).count();
        let offers = after.closed.len();
        let enough = offers * 100 >= self.rules.quorum_percent * active;
        if enough { Ok(()) } else { Err(Fault::BelowQuorum { offers, active }) }
    }

    fn check_entry(
        &mut self,
        now: u64,
        entry: &Entry,
        current: u64,
        islands: &[Island],
    ) -> Result<(), Fault> {
        match &entry.deed {
            Deed::Commit { round, set } => self.commit(*round, set),
            Deed::Rewind { to, .. } => self.go_back(now, *to, islands),
            Deed::Adopt { round, theta, .. } => {
                if *round < current {
                    return Err(Fault::Forgotten(format!("round {current}")));
                }
                self.go_back(now, *round, islands)?;
                // The θ that the members present hold counts, even if the commits lead to another.
                self.thetas.extend(theta.map(|theta| (*round, theta)));
                Ok(())
            }
        }
    }

    fn commit(&mut self, round: u64, set: &[Contribution]) -> Result<(), Fault> {
        if self.store_lost {
            // Later rounds may be lost with the store and all that held them.
            self.commits.split_off(&round);
            self.thetas.split_off(&(round + 1));
        }
        if self.commits.get(&round).is_some_and(|earlier| earlier != set) {
            return Err(Fault::TwoCommits(round));
        }
        let Some(theta) = self.thetas.get(&round).copied() else { return Err(Fault::Gap(round)) };
        for contribution in set {
            let island = contribution.island.clone();
            let key = (round, island.clone(), contribution.digest);
            if !self.offered.contains_key(&key) {
                return Err(Fault::NotOffered(island));
            }
        }
        self.commits.insert(round, set.to_vec());
        let digest = Digest([0; 32]);
        let commit =
            Commit { round, set: set.to_vec(), record_hash: digest, tokens: 0, samples: 0 };
        self.thetas.insert(round + 1, theta_after(theta, &commit));
        if self.store_lost { Ok(()) } else { self.check_text() }
    }

    /// No position of the order of text stands behind two committed contributions.
    fn check_text(&self) -> Result<(), Fault> {
        let behind = |(round, set): (&u64, &Vec<Contribution>)| {
            let of = |c: &Contribution| self.offered.get(&(*round, c.island.clone(), c.digest));
            set.iter().filter_map(of).flatten().copied().collect::<Vec<_>>()
        };
        let mut ranges: Vec<_> = self.commits.iter().flat_map(behind).collect();
        ranges.sort_unstable_by_key(|range| range.first);
        let twice = ranges.windows(2).find(|pair| pair[1].first < pair[0].end);
        twice.map_or(Ok(()), |pair| Err(Fault::TextTwice(pair[1])))
    }

    /// Whoever holds something newer was waited for, and no checkpoint that is known was passed.
    fn go_back(&mut self, now: u64, to: u64, islands: &[Island]) -> Result<(), Fault> {
        let newest = self.commits.keys().next_back().map_or(0, |round| round + 1);
        let true_theta = |at: &crate::island::Checkpoint| {
            at.round > to && at.round <= newest && self.thetas.get(&at.round) == Some(&at.theta)
        };
        let waited = self.lost_since.is_some_and(|since| now - since >= self.rules.go_back_after);
        for island in islands {
            let kept = island.kept > to && island.disk.iter().any(true_theta);
            let holds = island.alive && true_theta(&island.at) && !waited;
            if kept || holds {
                return Err(Fault::WentBack { to, holder: island.name.clone() });
            }
        }
        self.commits.split_off(&to);
        self.thetas.split_off(&(to + 1));
        self.said.split_off(&(to + 1));
        self.said_before.split_off(&(to + 1));
        Ok(())
    }

    fn check_theta(&mut self, now: u64, view: &RunView) -> Result<(), Fault> {
        let round = view.round;
        let (Some(agreed), Some(truth)) = (view.theta_hash, self.thetas.get(&round).copied())
        else {
            return Ok(());
        };
        if agreed == truth || self.commits.contains_key(&round) {
            return Ok(());
        }
        // A flipped bit: it may win where nobody else spoke up in time, and then it is what counts.
        let set = self.commits.get(&round.saturating_sub(1)).cloned().unwrap_or_default();
        let (first, said) = self.said.get(&round).cloned().unwrap_or((now, BTreeMap::new()));
        // An earlier coordinator may have saved what it heard.
        let before = self.said_before.get(&round).cloned().unwrap_or_default();
        let weight = |counts: &dyn Fn(&String) -> bool| -> u64 {
            set.iter().filter(|c| counts(&c.island)).map(|contribution| contribution.tokens).sum()
        };
        let says = |island: &String, theta| said.get(island) == Some(&theta);
        let for_truth = weight(&|island| says(island, truth));
        let for_agreed =
            weight(&|island| says(island, agreed) || before.get(island) == Some(&agreed));
        let here = |island: &String| view.members.iter().any(|m| m.island == *island);
        let heard = |island: &String| said.contains_key(island) || before.contains_key(island);
        let held = self.holders.get(&round.saturating_sub(1)).cloned().unwrap_or_default();
        let unheard = weight(&|island| held.contains(island) && here(island) && !heard(island));
        let early = now < first + self.rules.grace && view.phase == Phase::Training;
        if for_truth > for_agreed || (early && unheard > for_agreed) {
            return Err(Fault::WrongTheta(round));
        }
        self.thetas.insert(round, agreed);
        Ok(())
    }
}
