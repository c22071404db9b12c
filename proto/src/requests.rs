//! Members' calls: wire to domain with every check, domain to wire.

use std::collections::{BTreeMap, BTreeSet};

use rounds::request::{Applied, Fetched, Identity, Join, Kept, Leave, Meet, Offer, Ready};
use rounds::types::{Contribution, RankAddress, Rejection, RejectionCause};

use crate::bounds::{self, CONTRIBUTIONS_MAX, DETAIL_BYTES_MAX, RANKS_MAX, REASON_BYTES_MAX};
use crate::error::{Problem, ProtoError};
use crate::v1;

fn who(identity: Option<v1::Identity>) -> Result<Identity, ProtoError> {
    Identity::try_from(bounds::present("who", identity)?).map_err(|error| error.within("who"))
}

/// The identity of a call that carries nothing else.
macro_rules! identity_only {
    ($request:ident) => {
        impl TryFrom<v1::$request> for Identity {
            type Error = ProtoError;

            fn try_from(wire: v1::$request) -> Result<Identity, ProtoError> {
                who(wire.who)
            }
        }

        impl From<Identity> for v1::$request {
            fn from(identity: Identity) -> v1::$request {
                v1::$request { who: Some(identity.into()) }
            }
        }
    };
}

identity_only!(HeartbeatRequest);
identity_only!(WatchRequest);

impl TryFrom<v1::Identity> for Identity {
    type Error = ProtoError;

    fn try_from(wire: v1::Identity) -> Result<Identity, ProtoError> {
        let run = bounds::name("run", wire.run)?;
        let island = bounds::name("island", wire.island)?;
        Ok(Identity { run, island, epoch: wire.epoch })
    }
}

impl From<Identity> for v1::Identity {
    fn from(identity: Identity) -> v1::Identity {
        v1::Identity { run: identity.run, island: identity.island, epoch: identity.epoch }
    }
}

impl TryFrom<v1::RankAddress> for RankAddress {
    type Error = ProtoError;

    fn try_from(wire: v1::RankAddress) -> Result<RankAddress, ProtoError> {
        if wire.first_piece > wire.end_piece {
            let problem = Problem::OutOfRange("a range of pieces ends before it begins");
            return Err(ProtoError::new("end_piece", problem));
        }
        let address = bounds::address("address", wire.address)?;
        Ok(RankAddress { address, first_piece: wire.first_piece, end_piece: wire.end_piece })
    }
}

impl From<RankAddress> for v1::RankAddress {
    fn from(rank: RankAddress) -> v1::RankAddress {
        let RankAddress { address, first_piece, end_piece } = rank;
        v1::RankAddress { address, first_piece, end_piece }
    }
}

impl TryFrom<v1::Contribution> for Contribution {
    type Error = ProtoError;

    fn try_from(wire: v1::Contribution) -> Result<Contribution, ProtoError> {
        if wire.tokens == 0 {
            let problem = Problem::OutOfRange("a contribution without tokens has no weight");
            return Err(ProtoError::new("tokens", problem));
        }
        Ok(Contribution {
            island: bounds::name("island", wire.island)?,
            epoch: wire.epoch,
            digest: bounds::digest("digest", &wire.digest)?,
            bytes: wire.bytes,
            tokens: wire.tokens,
            steps: wire.steps,
            loss: bounds::finite("loss", wire.loss)?,
        })
    }
}

impl From<Contribution> for v1::Contribution {
    fn from(contribution: Contribution) -> v1::Contribution {
        v1::Contribution {
            island: contribution.island,
            epoch: contribution.epoch,
            digest: contribution.digest.0.to_vec(),
            bytes: contribution.bytes,
            tokens: contribution.tokens,
            steps: contribution.steps,
            loss: contribution.loss,
        }
    }
}

impl TryFrom<v1::MeetRequest> for Meet {
    type Error = ProtoError;

    fn try_from(wire: v1::MeetRequest) -> Result<Meet, ProtoError> {
        let ranks = u32::try_from(RANKS_MAX).unwrap_or(u32::MAX);
        if wire.world_size == 0 || wire.world_size > ranks {
            let problem = Problem::OutOfRange("an island has 1 to 4096 ranks");
            return Err(ProtoError::new("world_size", problem));
        }
        if wire.rank >= wire.world_size {
            let problem = Problem::OutOfRange("a rank is below the world's size");
            return Err(ProtoError::new("rank", problem));
        }
        Ok(Meet {
            who: who(wire.who)?,
            rank: wire.rank,
            world_size: wire.world_size,
            address: bounds::address("address", wire.address)?,
            plan_hash: bounds::digest("plan_hash", &wire.plan_hash)?,
        })
    }
}

impl From<Meet> for v1::MeetRequest {
    fn from(meet: Meet) -> v1::MeetRequest {
        v1::MeetRequest {
            who: Some(meet.who.into()),
            rank: meet.rank,
            world_size: meet.world_size,
            address: meet.address,
            plan_hash: meet.plan_hash.0.to_vec(),
        }
    }
}

impl TryFrom<v1::JoinRequest> for Join {
    type Error = ProtoError;

    fn try_from(wire: v1::JoinRequest) -> Result<Join, ProtoError> {
        if wire.ranks.is_empty() {
            return Err(ProtoError::new("ranks", Problem::Missing));
        }
        Ok(Join {
            who: who(wire.who)?,
            ranks: bounds::list("ranks", wire.ranks, RANKS_MAX)?,
            layout_hash: bounds::digest("layout_hash", &wire.layout_hash)?,
            round: wire.round,
            theta_hash: bounds::digest("theta_hash", &wire.theta_hash)?,
            tokens_per_second_milli: wire.tokens_per_second_milli,
            inner_steps: wire.inner_steps,
            round_samples: wire.round_samples,
            tokens: wire.tokens,
            samples: wire.samples,
            complaint: bounds::text("complaint", wire.complaint, DETAIL_BYTES_MAX)?,
        })
    }
}

impl From<Join> for v1::JoinRequest {
    fn from(join: Join) -> v1::JoinRequest {
        v1::JoinRequest {
            who: Some(join.who.into()),
            ranks: join.ranks.into_iter().map(Into::into).collect(),
            layout_hash: join.layout_hash.0.to_vec(),
            round: join.round,
            theta_hash: join.theta_hash.0.to_vec(),
            tokens_per_second_milli: join.tokens_per_second_milli,
            inner_steps: join.inner_steps,
            round_samples: join.round_samples,
            tokens: join.tokens,
            samples: join.samples,
            complaint: to_detail(&join.complaint),
        }
    }
}

impl TryFrom<v1::ReadyRequest> for Ready {
    type Error = ProtoError;

    fn try_from(wire: v1::ReadyRequest) -> Result<Ready, ProtoError> {
        let theta_hash = bounds::digest("theta_hash", &wire.theta_hash)?;
        Ok(Ready { who: who(wire.who)?, round: wire.round, theta_hash })
    }
}

impl From<Ready> for v1::ReadyRequest {
    fn from(ready: Ready) -> v1::ReadyRequest {
        let theta_hash = ready.theta_hash.0.to_vec();
        v1::ReadyRequest { who: Some(ready.who.into()), round: ready.round, theta_hash }
    }
}

impl TryFrom<v1::OfferRequest> for Offer {
    type Error = ProtoError;

    fn try_from(wire: v1::OfferRequest) -> Result<Offer, ProtoError> {
        let who = who(wire.who)?;
        let contribution = bounds::present("contribution", wire.contribution)?;
        let contribution =
            Contribution::try_from(contribution).map_err(|error| error.within("contribution"))?;
        if contribution.island != who.island {
            let problem = Problem::Differs("who.island");
            return Err(ProtoError::new("contribution.island", problem));
        }
        if contribution.epoch != who.epoch {
            return Err(ProtoError::new("contribution.epoch", Problem::Differs("who.epoch")));
        }
        Ok(Offer { who, round: wire.round, contribution, leaving: wire.leaving })
    }
}

impl From<Offer> for v1::OfferRequest {
    fn from(offer: Offer) -> v1::OfferRequest {
        v1::OfferRequest {
            who: Some(offer.who.into()),
            round: offer.round,
            contribution: Some(offer.contribution.into()),
            leaving: offer.leaving,
        }
    }
}

fn rejection_cause(value: i32) -> Result<RejectionCause, ProtoError> {
    match v1::RejectionCause::try_from(value) {
        Ok(v1::RejectionCause::Invalid) => Ok(RejectionCause::Invalid),
        Ok(v1::RejectionCause::Unserved) => Ok(RejectionCause::Unserved),
        Ok(v1::RejectionCause::Unspecified) | Err(_) => {
            Err(ProtoError::new("rejected.cause", Problem::UnknownValue(value)))
        }
    }
}

fn rejection(wire: v1::Rejection) -> Result<(String, Rejection), ProtoError> {
    let island = bounds::name("rejected.island", wire.island)?;
    let detail = bounds::text("rejected.detail", wire.detail, DETAIL_BYTES_MAX)?;
    Ok((island, Rejection { cause: rejection_cause(wire.cause)?, detail }))
}

/// Cut to what a message may hold, between two characters.
fn to_detail(text: &str) -> String {
    text[..text.floor_char_boundary(DETAIL_BYTES_MAX)].to_string()
}

fn to_rejection((island, rejection): (String, Rejection)) -> v1::Rejection {
    let cause = match rejection.cause {
        RejectionCause::Invalid => v1::RejectionCause::Invalid,
        RejectionCause::Unserved => v1::RejectionCause::Unserved,
    };
    v1::Rejection { island, cause: cause.into(), detail: to_detail(&rejection.detail) }
}

impl TryFrom<v1::FetchedRequest> for Fetched {
    type Error = ProtoError;

    fn try_from(wire: v1::FetchedRequest) -> Result<Fetched, ProtoError> {
        let have = bounds::count("have", wire.have, CONTRIBUTIONS_MAX)?;
        let have: Result<BTreeSet<_>, _> =
            have.into_iter().map(|island| bounds::name("have", island)).collect();
        let rejected = bounds::count("rejected", wire.rejected, CONTRIBUTIONS_MAX)?;
        let rejected: Result<BTreeMap<_, _>, _> = rejected.into_iter().map(rejection).collect();
        Ok(Fetched {
            who: who(wire.who)?,
            round: wire.round,
            have: have?,
            pieces: wire.pieces,
            rejected: rejected?,
        })
    }
}

impl From<Fetched> for v1::FetchedRequest {
    fn from(fetched: Fetched) -> v1::FetchedRequest {
        v1::FetchedRequest {
            who: Some(fetched.who.into()),
            round: fetched.round,
            have: fetched.have.into_iter().collect(),
            pieces: fetched.pieces,
            rejected: fetched.rejected.into_iter().map(to_rejection).collect(),
        }
    }
}

impl TryFrom<v1::AppliedRequest> for Applied {
    type Error = ProtoError;

    fn try_from(wire: v1::AppliedRequest) -> Result<Applied, ProtoError> {
        Ok(Applied {
            who: who(wire.who)?,
            round: wire.round,
            theta_hash: bounds::digest("theta_hash", &wire.theta_hash)?,
        })
    }
}

impl From<Applied> for v1::AppliedRequest {
    fn from(applied: Applied) -> v1::AppliedRequest {
        v1::AppliedRequest {
            who: Some(applied.who.into()),
            round: applied.round,
            theta_hash: applied.theta_hash.0.to_vec(),
        }
    }
}

impl TryFrom<v1::KeptRequest> for Kept {
    type Error = ProtoError;

    fn try_from(wire: v1::KeptRequest) -> Result<Kept, ProtoError> {
        Ok(Kept { who: who(wire.who)?, round: wire.round })
    }
}

impl From<Kept> for v1::KeptRequest {
    fn from(kept: Kept) -> v1::KeptRequest {
        v1::KeptRequest { who: Some(kept.who.into()), round: kept.round }
    }
}

impl TryFrom<v1::LeaveRequest> for Leave {
    type Error = ProtoError;

    fn try_from(wire: v1::LeaveRequest) -> Result<Leave, ProtoError> {
        let reason = bounds::text("reason", wire.reason, REASON_BYTES_MAX)?;
        Ok(Leave { who: who(wire.who)?, reason })
    }
}

impl From<Leave> for v1::LeaveRequest {
    fn from(leave: Leave) -> v1::LeaveRequest {
        v1::LeaveRequest { who: Some(leave.who.into()), reason: leave.reason }
    }
}

#[cfg(test)]
mod tests;
