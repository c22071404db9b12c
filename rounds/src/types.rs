//! The words of a round: identities, offers, commits and the view that members act on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A blake3 digest; hexadecimal where it is written as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// A text is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read a digest: 64 hexadecimal digits are needed")]
pub struct DigestError;

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(DigestError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or(DigestError);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).map_err(|_| DigestError)?;
        }
        Ok(Digest(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The pieces `first..end` that one rank holds, and where it serves them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankAddress {
    /// `host:port`.
    pub address: String,
    /// First piece of the layout that the rank holds.
    pub first_piece: u32,
    /// One past the last piece that it holds.
    pub end_piece: u32,
}

/// How far a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberState {
    /// Needs θ of the round in progress.
    #[default]
    Syncing,
    /// Holds θ; takes part from the next round.
    Ready,
    /// Takes part in the round in progress.
    Active,
}

/// Positions `first..end` in the run's order of text, a sample each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SampleRange {
    /// The first position.
    pub first: u64,
    /// One past the last.
    pub end: u64,
}

impl SampleRange {
    /// Samples in it.
    pub fn count(&self) -> u64 {
        self.end.saturating_sub(self.first)
    }
}

/// Why a member cannot hold a contribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RejectionCause {
    /// The bytes served are not what was offered, or cannot be decoded.
    Invalid,
    /// Every source was asked, and none serves it.
    Unserved,
}

/// A member's word that it cannot hold a contribution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rejection {
    /// Why.
    pub cause: RejectionCause,
    /// For people.
    pub detail: String,
}

/// One island as the others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// Name of the island.
    pub island: String,
    /// Epoch of the plan that it runs.
    pub epoch: u64,
    /// How far it is.
    pub state: MemberState,
    /// Its ranks, by rank.
    pub ranks: Vec<RankAddress>,
    /// The round whose θ it holds.
    pub round: u64,
    /// Whether it has offered in the round in progress.
    pub offered: bool,
    /// Tokens that it gave in all rounds that were ever committed, of all its epochs; rounds that
    /// were lost afterwards count.
    pub tokens: u64,
    /// The samples of the round in progress that are its own to train on, in this order.
    pub samples: Vec<SampleRange>,
    /// Contributions of it that others refused for what was in them.
    pub rejected: u32,
    /// A complaint about how it came to hold θ, for people; empty where there is nothing.
    pub complaint: String,
}

/// The offer of an island in a round: the commitment comes before the bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Contribution {
    /// Name of the island.
    pub island: String,
    /// Epoch of the plan that made it.
    pub epoch: u64,
    /// blake3 of the concatenated blake3 digests of its pieces.
    pub digest: Digest,
    /// Encoded size of all its pieces.
    pub bytes: u64,
    /// Tokens trained on; its weight.
    pub tokens: u64,
    /// Inner steps made.
    pub steps: u32,
    /// Mean training loss over the round, nats per token.
    pub loss: f32,
}

/// A committed round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// The round.
    pub round: u64,
    /// The set that every member aggregates, in this order. Empty when nobody's contribution
    /// survived.
    pub set: Vec<Contribution>,
    /// blake3 over the record before this one and this one's content.
    pub record_hash: Digest,
    /// Tokens of all rounds up to this one.
    #[serde(default)]
    pub tokens: u64,
    /// Samples that were handed out until it was committed.
    #[serde(default)]
    pub samples: u64,
}

/// A checkpoint that an island keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Checkpoint {
    /// The round at whose start θ is in it.
    pub round: u64,
    /// The island that keeps it.
    pub island: String,
}

/// The phase of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Too few members to begin.
    #[default]
    Waiting,
    /// Members train and offer.
    Training,
    /// The set is closed; members fetch each other's contributions.
    Fetching,
    /// The run has the tokens it asked for.
    Done,
}

/// All that a member needs to know in order to act. Levels, not edges: the newest view suffices.
/// The default is a run that nobody has joined.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// Grows with every change.
    pub version: u64,
    /// The phase of the run.
    pub phase: Phase,
    /// The round in progress.
    pub round: u64,
    /// Hash of θ at the start of `round`, once a member has reported it.
    pub theta_hash: Option<Digest>,
    /// Tokens of all committed rounds.
    pub tokens: u64,
    /// Members, by name.
    pub members: Vec<MemberView>,
    /// The closed set in its order, while fetching; otherwise empty.
    pub closed: Vec<Contribution>,
    /// The last committed rounds, oldest first; bounded.
    pub commits: Vec<Commit>,
    /// W3C trace context of the round in progress; may be empty.
    pub traceparent: String,
    /// Why the phase is what it is, for people.
    pub reason: String,
    /// The newest checkpoint that a member told of.
    pub checkpoint: Option<Checkpoint>,
    /// The highest round ever in progress: a member beyond it holds what this coordinator never
    /// saw.
    pub highest: u64,
    /// Samples of the run's order of text that were handed out so far, to whomever.
    pub samples: u64,
    /// Enough islands have offered: the round closes `grace_ms` after the first view that says so.
    pub closing: bool,
    /// See `closing`.
    pub grace_ms: u64,
}

impl RunView {
    /// The member that runs this epoch of an island's plan.
    pub fn member(&self, island: &str, epoch: u64) -> Option<&MemberView> {
        self.members.iter().find(|member| member.island == island && member.epoch == epoch)
    }
}
