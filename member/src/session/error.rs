//! Why a call to the coordinator fails, and when it is made again.

use std::time::Duration;

use tonic::{Code, Status};

/// Why a call to the coordinator failed for good.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The endpoint is not a URL.
    #[error("failed to use the coordinator's endpoint {endpoint:?}")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The coordinator answered no.
    #[error("failed to {call}: the coordinator refused: {}", status.message())]
    Refused {
        /// What was asked.
        call: &'static str,
        /// The answer.
        status: Box<Status>,
    },
    /// No answer for too long.
    #[error("failed to {call}: no answer from the coordinator for {seconds} s: {last}")]
    Gone {
        /// What was asked.
        call: &'static str,
        /// How long it was tried.
        seconds: u64,
        /// The last failure.
        last: String,
    },
}

impl SessionError {
    /// Whether starting the island again at a newer epoch is in vain.
    pub fn is_final(&self) -> bool {
        match self {
            SessionError::Endpoint { .. } => true,
            SessionError::Refused { status, .. } => is_final(status.code()),
            SessionError::Gone { .. } => false,
        }
    }
}

/// Whether a refusal is one of what the island is, and not of where it or the run stands. The
/// table of codes is in the coordinator's `status.rs`; the others come from what stands between.
fn is_final(code: Code) -> bool {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// Whether asking the same again may help.
pub(super) fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::ResourceExhausted
            | Code::Internal
    )
}

/// What a call that failed leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// It is made again after this wait: the coordinator is away or busy.
    After(Duration),
    /// The coordinator has answered, and would answer the same again.
    Refused,
    /// It has been tried for as long as the session is patient.
    Gone,
}

/// What follows from a call that failed with `code`, or was not answered at all. The next wait
/// would be `backoff`, and patience lasts for the time `left`.
pub(super) fn retry(code: Option<Code>, backoff: Duration, left: Duration) -> Retry {
    match code {
        Some(code) if !is_transient(code) => Retry::Refused,
        _ if backoff > left => Retry::Gone,
        _ => Retry::After(backoff),
    }
}

/// A lease that ended is no error: the island joins again.
pub(super) fn unless_unknown<T>(
    answer: Result<T, SessionError>,
) -> Result<Option<T>, SessionError> {
    match answer {
        Err(SessionError::Refused { status, .. }) if status.code() == Code::NotFound => Ok(None),
        answer => answer.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: Code) -> SessionError {
        SessionError::Refused { call: "join the run", status: Box::new(Status::new(code, "no")) }
    }

    #[test]
    fn a_refusal_is_final_where_it_is_of_what_the_island_is_and_not_of_where_it_stands() {
        let never = [Code::InvalidArgument, Code::FailedPrecondition];
        assert!(never.into_iter().all(|code| refused(code).is_final()));
        let again = [Code::Aborted, Code::NotFound, Code::AlreadyExists, Code::PermissionDenied];
        assert!(!again.into_iter().any(|code| refused(code).is_final()));
        let gone = SessionError::Gone { call: "join the run", seconds: 1, last: String::new() };
        assert!(!gone.is_final());
    }

    #[test]
    fn what_may_help_is_tried_again_until_patience_is_over() {
        let (wait, long, short) =
            (Duration::from_secs(1), Duration::from_secs(5), Duration::from_millis(900));
        let again = [
            None,
            Some(Code::Unavailable),
            Some(Code::DeadlineExceeded),
            Some(Code::Cancelled),
            Some(Code::Unknown),
            Some(Code::ResourceExhausted),
            Some(Code::Internal),
        ];
        for code in again {
            assert_eq!(retry(code, wait, long), Retry::After(wait), "{code:?}");
            assert_eq!(retry(code, wait, wait), Retry::After(wait), "{code:?}: just in time");
            assert_eq!(retry(code, wait, short), Retry::Gone, "{code:?}");
        }
        let never = [
            Code::InvalidArgument,
            Code::FailedPrecondition,
            Code::NotFound,
            Code::AlreadyExists,
            Code::PermissionDenied,
            Code::Aborted,
            Code::Unauthenticated,
        ];
        for code in never {
            assert_eq!(retry(Some(code), wait, long), Retry::Refused, "{code:?}");
        }
    }

    #[test]
    fn a_lease_that_ended_is_no_error_and_any_other_refusal_is() {
        assert!(matches!(unless_unknown::<()>(Err(refused(Code::NotFound))), Ok(None)));
        assert!(matches!(unless_unknown(Ok(3)), Ok(Some(3))));
        let aborted = unless_unknown::<()>(Err(refused(Code::Aborted)));
        assert!(matches!(aborted, Err(SessionError::Refused { .. })));
    }
}
