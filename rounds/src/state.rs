//! The state of a run: what is saved, what only time tells, and the view that members get.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::agreement::Voter;
use crate::config::Config;
use crate::record::{Entry, genesis};
use crate::text::Text;
use crate::types::{
    Checkpoint, Commit, Contribution, Digest, MemberState, MemberView, Phase, RankAddress,
    Rejection, RunView, SampleRange,
};

/// Commits that a view carries.
pub(crate) const COMMITS_KEPT_MAX: usize = 8;
/// Rounds whose start (hash of θ, tokens) is kept, so that the run can go back to it.
pub(crate) const STARTS_KEPT_MAX: u64 = 1024;
/// Island names, for each possible member, whose newest epoch is remembered.
pub(crate) const MEMBER_NAMES_MAX: usize = 8;

/// Milliseconds on a clock that never goes back; its zero means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// `ms` later.
    #[must_use]
    pub fn plus(self, ms: u64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }
}

/// A run: its rules, what is saved of it, and its timers.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) config: Config,
    pub(crate) saved: Saved,
    pub(crate) timers: Timers,
    /// Entries of the record that are not handed out yet.
    pub(crate) entries: Vec<Entry>,
}

/// All of a run that survives a restart of its coordinator. Fields that an earlier version wrote
/// and this one does not know are passed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Saved {
    pub(crate) run: String,
    pub(crate) version: u64,
    pub(crate) phase: Phase,
    pub(crate) reason: String,
    /// The round in progress.
    pub(crate) round: u64,
    /// The highest round ever in progress.
    pub(crate) highest: u64,
    pub(crate) layout: Option<LayoutId>,
    /// Newest epoch seen, by island.
    pub(crate) epochs: BTreeMap<String, u64>,
    /// Tokens of each island in all rounds that were ever committed.
    #[serde(default)]
    pub(crate) given: BTreeMap<String, u64>,
    pub(crate) members: BTreeMap<String, Member>,
    /// Offers of the round in progress, by island; they outlive a lost lease.
    pub(crate) offers: BTreeMap<String, Contribution>,
    /// Islands of the closed set, while fetching.
    pub(crate) closed: BTreeSet<String>,
    /// Contributions of the round in progress that each member holds.
    pub(crate) reports: BTreeMap<String, Report>,
    /// A quorum has offered in the round in progress.
    #[serde(default)]
    pub(crate) closing: bool,
    /// Those that held θ of the round before, when it was committed.
    #[serde(default)]
    pub(crate) voters: Vec<Voter>,
    /// The votes that they came to: hashes of θ at the start of the round in progress, while none
    /// is agreed.
    pub(crate) votes: Vec<Vote>,
    pub(crate) starts: BTreeMap<u64, Start>,
    /// How far the run's order of text was handed out.
    #[serde(default)]
    pub(crate) text: Text,
    /// The samples of it that belong to each island in the round in progress; they outlive a lost
    /// lease.
    #[serde(default)]
    pub(crate) allotted: BTreeMap<String, Vec<SampleRange>>,
    /// Contributions of an island that others refused for what was in them.
    #[serde(default)]
    pub(crate) rejected: BTreeMap<String, u32>,
    pub(crate) commits: Vec<Commit>,
    /// The newest round whose θ each island is known to hold, be it here or away.
    #[serde(default)]
    pub(crate) held: BTreeMap<String, u64>,
    /// The newest checkpoint that each island told of.
    #[serde(default)]
    pub(crate) kept: BTreeMap<String, u64>,
    /// Index of the next entry of the record.
    pub(crate) record_length: u64,
    /// Hash of the last entry of the record.
    pub(crate) record_hash: Digest,
}

/// The identity of the layout that all members have to agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct LayoutId {
    pub(crate) hash: Digest,
    pub(crate) pieces: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Member {
    pub(crate) epoch: u64,
    pub(crate) ranks: Vec<RankAddress>,
    pub(crate) state: MemberState,
    /// The round whose θ it says it holds,
    pub(crate) round: u64,
    /// with this hash.
    pub(crate) theta: Digest,
    /// It takes part in no further round than the one it offered in.
    pub(crate) leaving: bool,
    /// Samples that it trains on in a whole round,
    #[serde(default)]
    pub(crate) round_samples: u64,
    /// in so many inner steps.
    #[serde(default)]
    pub(crate) inner_steps: u32,
    /// Tokens of the run at the start of its round, as it said when it joined,
    #[serde(default)]
    pub(crate) tokens: u64,
    /// and samples that were handed out by then.
    #[serde(default)]
    pub(crate) samples: u64,
    /// Rounds in a row that closed without its offer.
    #[serde(default)]
    pub(crate) missed: u32,
    /// True where it came to what it holds by commits on record, from a θ on record.
    #[serde(default)]
    pub(crate) descends: bool,
    /// A complaint about how it came to hold θ, as it said when it joined, for people.
    #[serde(default)]
    pub(crate) complaint: String,
}

impl Member {
    /// Samples of the first `steps` inner steps of a round.
    pub(crate) fn samples_of(&self, steps: u32) -> u64 {
        let step = self.round_samples.checked_div(u64::from(self.inner_steps)).unwrap_or(0);
        step.saturating_mul(u64::from(steps)).min(self.round_samples)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) epoch: u64,
    pub(crate) have: BTreeSet<String>,
    #[serde(default)]
    pub(crate) rejected: BTreeMap<String, Rejection>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Vote {
    pub(crate) island: String,
    pub(crate) theta: Digest,
}

/// The start of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Start {
    /// The agreed hash of θ, once known.
    pub(crate) theta: Option<Digest>,
    /// Tokens of all rounds before.
    pub(crate) tokens: u64,
    /// Samples that were handed out before.
    #[serde(default)]
    pub(crate) samples: u64,
}

/// Times that start anew when the coordinator does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    pub(crate) now: Millis,
    /// The time at which the phase began.
    pub(crate) phase: Millis,
    /// Since when enough members for a beginning are there.
    pub(crate) enough: Option<Millis>,
    /// Since when a quorum has offered.
    pub(crate) quorum: Option<Millis>,
    /// Since when somebody has offered.
    pub(crate) offered: Option<Millis>,
    /// The time of the first vote on θ.
    pub(crate) voted: Option<Millis>,
    /// Since when enough members hold all of the closed set.
    pub(crate) complete: Option<Millis>,
    /// The time at which a member last got further with the closed set.
    pub(crate) progress: Option<Millis>,
    /// Pieces of the closed set that each member has verified.
    pub(crate) pieces: BTreeMap<String, u64>,
    /// Since when nobody holds the round in progress.
    pub(crate) lost: Option<Millis>,
    /// The time at which the last member joined.
    pub(crate) joined: Millis,
    /// Since when members hold rounds that the coordinator never saw.
    pub(crate) ahead: Option<Millis>,
    /// Islands that have said which round they hold since the coordinator began.
    pub(crate) heard: BTreeSet<String>,
    /// The end of each member's lease.
    pub(crate) leases: BTreeMap<String, Millis>,
}

impl Timers {
    fn beginning(now: Millis) -> Timers {
        Timers { now, phase: now, ..Timers::default() }
    }
}

/// A saved state is not this run's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to resume the run {run:?}: the saved state is the run {saved:?}'s")]
pub struct OtherRun {
    /// The run of the configuration.
    pub run: String,
    /// The run that was saved.
    pub saved: String,
}

impl Saved {
    /// Name of the run.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Hash of the record's last entry, the record's genesis where there is none.
    pub fn record_hash(&self) -> Digest {
        self.record_hash
    }

    /// Entries of the record.
    pub fn record_length(&self) -> u64 {
        self.record_length
    }

    /// The newest checkpoint that an island told of, the first by name of equals.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let newest = self.kept.iter().max_by(|(a, x), (b, y)| x.cmp(y).then_with(|| b.cmp(a)));
        newest.map(|(island, round)| Checkpoint { round: *round, island: island.clone() })
    }

    /// The round in progress.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// The highest round ever in progress.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Tokens of all rounds before the one in progress.
    pub fn tokens(&self) -> u64 {
        self.starts.get(&self.round).map_or(0, |start| start.tokens)
    }
}

impl State {
    /// A run that nobody has joined.
    pub fn new(config: Config, now: Millis) -> State {
        let saved = Saved {
            run: config.name.clone(),
            version: 1,
            phase: Phase::Waiting,
            reason: format!("waiting for {} islands", config.islands),
            round: 0,
            highest: 0,
            layout: None,
            epochs: BTreeMap::new(),
            given: BTreeMap::new(),
            members: BTreeMap::new(),
            offers: BTreeMap::new(),
            closed: BTreeSet::new(),
            reports: BTreeMap::new(),
            closing: false,
            voters: Vec::new(),
            votes: Vec::new(),
            starts: BTreeMap::from([(0, Start::default())]),
            text: Text::default(),
            allotted: BTreeMap::new(),
            rejected: BTreeMap::new(),
            commits: Vec::new(),
            held: BTreeMap::new(),
            kept: BTreeMap::new(),
            record_length: 0,
            record_hash: genesis(&config.name),
        };
        State { config, saved, timers: Timers::beginning(now), entries: Vec::new() }
    }

    /// A run as it was saved. Leases and deadlines begin anew; rules may have changed, and a run
    /// that was done goes on when it is asked for more tokens than before.
    ///
    /// # Errors
    /// The saved state is another run's.
    pub fn resume(config: Config, saved: Saved, now: Millis) -> Result<State, OtherRun> {
        if saved.run != config.name {
            return Err(OtherRun { run: config.name.clone(), saved: saved.run });
        }
        let mut timers = Timers::beginning(now);
        let lease = now.plus(config.lease_ms);
        timers.leases = saved.members.keys().map(|island| (island.clone(), lease)).collect();
        let mut state = State { config, saved, timers, entries: Vec::new() };
        if state.saved.phase == Phase::Done && state.tokens() < state.config.tokens {
            state.saved.phase = Phase::Waiting;
            state.saved.version += 1;
        }
        Ok(state)
    }

    /// Entries of the record that are to be saved with the state.
    pub fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// The state that has to be saved before anybody learns of it.
    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// The rules.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The newest epoch seen of an island.
    pub(crate) fn newest_epoch(&self, island: &str) -> Option<u64> {
        self.saved.epochs.get(island).copied()
    }

    /// Says whether the island is a member with this epoch.
    pub(crate) fn is_member(&self, island: &str, epoch: u64) -> bool {
        self.saved.members.get(island).is_some_and(|member| member.epoch == epoch)
    }

    /// The time at which time alone changes something next; nothing happens before.
    pub fn next_wakeup(&self) -> Option<Millis> {
        let leases = self.timers.leases.values().copied();
        leases.chain(self.phase_wakeups()).filter(|at| *at > self.timers.now).min()
    }

    /// All that a member acts on.
    pub fn view(&self) -> RunView {
        let saved = &self.saved;
        RunView {
            version: saved.version,
            phase: saved.phase,
            round: saved.round,
            theta_hash: self.start().theta,
            tokens: self.tokens(),
            members: saved.members.iter().map(|(island, m)| self.member_view(island, m)).collect(),
            closed: self.closed_set(),
            commits: saved.commits.clone(),
            traceparent: traceparent(&saved.run, saved.round),
            reason: saved.reason.clone(),
            checkpoint: self.saved.checkpoint(),
            highest: saved.highest,
            samples: saved.text.next,
            closing: saved.closing,
            grace_ms: self.config.grace_ms,
        }
    }

    fn member_view(&self, island: &str, member: &Member) -> MemberView {
        MemberView {
            island: island.to_string(),
            epoch: member.epoch,
            state: member.state,
            ranks: member.ranks.clone(),
            round: member.round,
            offered: self.offer_of(island, member.epoch).is_some(),
            tokens: self.saved.given.get(island).copied().unwrap_or(0),
            samples: self.saved.allotted.get(island).cloned().unwrap_or_default(),
            rejected: self.saved.rejected.get(island).copied().unwrap_or(0),
            complaint: member.complaint.clone(),
        }
    }

    /// Start of the round in progress.
    pub(crate) fn start(&self) -> Start {
        self.saved.starts.get(&self.saved.round).copied().unwrap_or_default()
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.saved.tokens()
    }

    /// The closed set in its order: by name.
    pub(crate) fn closed_set(&self) -> Vec<Contribution> {
        let offer = |island| self.saved.offers.get(island).cloned();
        self.saved.closed.iter().filter_map(offer).collect()
    }

    pub(crate) fn offer_of(&self, island: &str, epoch: u64) -> Option<&Contribution> {
        self.saved.offers.get(island).filter(|offer| offer.epoch == epoch)
    }

    /// Says whether a member's θ is the one that the run recorded for its round.
    pub(crate) fn is_verified(&self, member: &Member) -> bool {
        let start = self.saved.starts.get(&member.round);
        start.and_then(|start| start.theta) == Some(member.theta)
    }

    /// Members that hold θ of the round in progress, by name.
    pub(crate) fn holders(&self) -> impl Iterator<Item = (&String, &Member)> {
        let round = self.saved.round;
        let holds = move |m: &Member| m.state != MemberState::Syncing && m.round == round;
        self.saved.members.iter().filter(move |(_, member)| holds(member))
    }
}

/// W3C trace context of a round: the same for all who compute it, and sampled.
fn traceparent(run: &str, round: u64) -> String {
    use std::fmt::Write;
    let mut hasher = blake3::Hasher::new_derive_key("heteroloco round trace v1");
    hasher.update(run.as_bytes());
    hasher.update(&round.to_le_bytes());
    let hash = hasher.finalize();
    let mut text = String::from("00-");
    for (at, byte) in hash.as_bytes()[..24].iter().enumerate() {
        if at == 16 {
            text.push('-');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push_str("-01");
    text
}
