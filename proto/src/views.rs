//! The run's view: wire to domain with every check, domain to wire.

use rounds::types::{Checkpoint, Commit, MemberState, MemberView, Phase, RunView, SampleRange};

use crate::bounds::{
    self, COMMITS_MAX, CONTRIBUTIONS_MAX, DETAIL_BYTES_MAX, MEMBERS_MAX, RANGES_MAX, RANKS_MAX,
    REASON_BYTES_MAX,
};
use crate::error::{Problem, ProtoError};
use crate::v1;

fn phase(value: i32) -> Result<Phase, ProtoError> {
    match v1::Phase::try_from(value) {
        Ok(v1::Phase::Waiting) => Ok(Phase::Waiting),
        Ok(v1::Phase::Training) => Ok(Phase::Training),
        Ok(v1::Phase::Fetching) => Ok(Phase::Fetching),
        Ok(v1::Phase::Done) => Ok(Phase::Done),
        Ok(v1::Phase::Unspecified) | Err(_) => {
            Err(ProtoError::new("phase", Problem::UnknownValue(value)))
        }
    }
}

fn member_state(value: i32) -> Result<MemberState, ProtoError> {
    match v1::MemberState::try_from(value) {
        Ok(v1::MemberState::Syncing) => Ok(MemberState::Syncing),
        Ok(v1::MemberState::Ready) => Ok(MemberState::Ready),
        Ok(v1::MemberState::Active) => Ok(MemberState::Active),
        Ok(v1::MemberState::Unspecified) | Err(_) => {
            Err(ProtoError::new("state", Problem::UnknownValue(value)))
        }
    }
}

impl From<Phase> for v1::Phase {
    fn from(phase: Phase) -> v1::Phase {
        match phase {
            Phase::Waiting => v1::Phase::Waiting,
            Phase::Training => v1::Phase::Training,
            Phase::Fetching => v1::Phase::Fetching,
            Phase::Done => v1::Phase::Done,
        }
    }
}

impl From<MemberState> for v1::MemberState {
    fn from(state: MemberState) -> v1::MemberState {
        match state {
            MemberState::Syncing => v1::MemberState::Syncing,
            MemberState::Ready => v1::MemberState::Ready,
            MemberState::Active => v1::MemberState::Active,
        }
    }
}

impl TryFrom<v1::Member> for MemberView {
    type Error = ProtoError;

    fn try_from(wire: v1::Member) -> Result<MemberView, ProtoError> {
        Ok(MemberView {
            island: bounds::name("island", wire.island)?,
            epoch: wire.epoch,
            state: member_state(wire.state)?,
            ranks: bounds::list("ranks", wire.ranks, RANKS_MAX)?,
            round: wire.round,
            offered: wire.offered,
            tokens: wire.tokens,
            samples: bounds::list("samples", wire.samples, RANGES_MAX)?,
            rejected: wire.rejected,
            complaint: bounds::text("complaint", wire.complaint, DETAIL_BYTES_MAX)?,
        })
    }
}

impl TryFrom<v1::SampleRange> for SampleRange {
    type Error = ProtoError;

    fn try_from(wire: v1::SampleRange) -> Result<SampleRange, ProtoError> {
        if wire.first > wire.end {
            let problem = Problem::OutOfRange("a range of samples ends before it begins");
            return Err(ProtoError::new("end", problem));
        }
        Ok(SampleRange { first: wire.first, end: wire.end })
    }
}

impl From<SampleRange> for v1::SampleRange {
    fn from(range: SampleRange) -> v1::SampleRange {
        v1::SampleRange { first: range.first, end: range.end }
    }
}

impl From<MemberView> for v1::Member {
    fn from(member: MemberView) -> v1::Member {
        v1::Member {
            island: member.island,
            epoch: member.epoch,
            state: v1::MemberState::from(member.state).into(),
            ranks: member.ranks.into_iter().map(Into::into).collect(),
            round: member.round,
            offered: member.offered,
            tokens: member.tokens,
            samples: member.samples.into_iter().map(Into::into).collect(),
            rejected: member.rejected,
            complaint: member.complaint,
        }
    }
}

impl TryFrom<v1::Commit> for Commit {
    type Error = ProtoError;

    fn try_from(wire: v1::Commit) -> Result<Commit, ProtoError> {
        Ok(Commit {
            round: wire.round,
            set: bounds::list("set", wire.set, CONTRIBUTIONS_MAX)?,
            record_hash: bounds::digest("record_hash", &wire.record_hash)?,
            tokens: wire.tokens,
            samples: wire.samples,
        })
    }
}

impl From<Commit> for v1::Commit {
    fn from(commit: Commit) -> v1::Commit {
        v1::Commit {
            round: commit.round,
            set: commit.set.into_iter().map(Into::into).collect(),
            record_hash: commit.record_hash.0.to_vec(),
            tokens: commit.tokens,
            samples: commit.samples,
        }
    }
}

impl TryFrom<v1::Checkpoint> for Checkpoint {
    type Error = ProtoError;

    fn try_from(wire: v1::Checkpoint) -> Result<Checkpoint, ProtoError> {
        Ok(Checkpoint { round: wire.round, island: bounds::name("island", wire.island)? })
    }
}

impl From<Checkpoint> for v1::Checkpoint {
    fn from(checkpoint: Checkpoint) -> v1::Checkpoint {
        v1::Checkpoint { round: checkpoint.round, island: checkpoint.island }
    }
}

impl TryFrom<v1::RunView> for RunView {
    type Error = ProtoError;

    fn try_from(wire: v1::RunView) -> Result<RunView, ProtoError> {
        let checkpoint = wire.checkpoint.map(Checkpoint::try_from).transpose();
        Ok(RunView {
            version: wire.version,
            phase: phase(wire.phase)?,
            round: wire.round,
            theta_hash: bounds::optional_digest("theta_hash", &wire.theta_hash)?,
            tokens: wire.tokens,
            members: bounds::list("members", wire.members, MEMBERS_MAX)?,
            closed: bounds::list("closed", wire.closed, CONTRIBUTIONS_MAX)?,
            commits: bounds::list("commits", wire.commits, COMMITS_MAX)?,
            traceparent: bounds::text("traceparent", wire.traceparent, REASON_BYTES_MAX)?,
            reason: bounds::text("reason", wire.reason, REASON_BYTES_MAX)?,
            checkpoint: checkpoint.map_err(|error| error.within("checkpoint"))?,
            highest: wire.highest,
            samples: wire.samples,
            closing: wire.closing,
            grace_ms: wire.grace_ms,
        })
    }
}

impl From<RunView> for v1::RunView {
    fn from(view: RunView) -> v1::RunView {
        v1::RunView {
            version: view.version,
            phase: v1::Phase::from(view.phase).into(),
            round: view.round,
            theta_hash: view.theta_hash.map(|hash| hash.0.to_vec()).unwrap_or_default(),
            tokens: view.tokens,
            members: view.members.into_iter().map(Into::into).collect(),
            closed: view.closed.into_iter().map(Into::into).collect(),
            commits: view.commits.into_iter().map(Into::into).collect(),
            traceparent: view.traceparent,
            reason: view.reason,
            checkpoint: view.checkpoint.map(Into::into),
            highest: view.highest,
            samples: view.samples,
            closing: view.closing,
            grace_ms: view.grace_ms,
        }
    }
}
