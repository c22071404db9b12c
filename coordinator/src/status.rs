//! The one place where a domain error becomes a gRPC status.
//!
//! | code | what a member does |
//! |---|---|
//! | `INVALID_ARGUMENT` | it has a defect: end |
//! | `NOT_FOUND` | not a member: join again |
//! | `PERMISSION_DENIED` | a newer epoch has taken its place: end |
//! | `ALREADY_EXISTS` | another island has its name: end, and come back later |
//! | `ABORTED` | it does not stand where the run does: end, and come back at another epoch |
//! | `FAILED_PRECONDITION` | refused for good, see the message |
//! | `RESOURCE_EXHAUSTED`, `UNAVAILABLE`, `DEADLINE_EXCEEDED` | try again later |

use proto::ProtoError;
use rounds::refusal::Refusal;
use tonic::{Code, Status};

use crate::engine::Stopped;
use crate::meet::MeetError;

pub(crate) fn malformed(error: &ProtoError) -> Status {
    Status::invalid_argument(error.to_string())
}

pub(crate) fn refused(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::UnknownMember { .. } | Refusal::NotReached { .. } => Code::NotFound,
        Refusal::Superseded { .. } => Code::PermissionDenied,
        Refusal::AlreadyMember { .. } => Code::AlreadyExists,
        Refusal::Full { .. } => Code::ResourceExhausted,
        // The island does not fit the run: it will not at another epoch either.
        Refusal::WrongRun { .. }
        | Refusal::LayoutDiffers
        | Refusal::Pieces { .. }
        | Refusal::ThetaDiffers { round: 0 } => Code::FailedPrecondition,
        // Only its standing does not fit.
        Refusal::ThetaDiffers { .. } | Refusal::OfferChanged { .. } => Code::Aborted,
    };
    Status::new(code, refusal.to_string())
}

pub(crate) fn stopped(stopped: Stopped) -> Status {
    Status::unavailable(stopped.to_string())
}

pub(crate) fn not_met(error: &MeetError) -> Status {
    let code = match error {
        MeetError::Superseded { .. } => Code::PermissionDenied,
        MeetError::Taken { .. } => Code::AlreadyExists,
        MeetError::Differs { .. } => Code::FailedPrecondition,
        MeetError::Full => Code::ResourceExhausted,
        MeetError::Missing { .. } => Code::DeadlineExceeded,
        MeetError::Stopped => Code::Unavailable,
    };
    Status::new(code, error.to_string())
}

#[cfg(test)]
mod tests;
