//! What can go wrong in a reconcile, and when it is tried again.

use std::time::Duration;

use kube::runtime::controller::Action;

/// A reconcile that did not end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server refused or did not answer.
    #[error("failed to {operation}")]
    Api {
        /// What was tried.
        operation: &'static str,
        /// Why it did not go.
        source: Box<kube::Error>,
    },
    /// An object of ours is not what we wrote.
    #[error("failed to understand {object}: {problem}")]
    Damaged {
        /// The object.
        object: String,
        /// What is wrong.
        problem: String,
    },
    /// The coordinator does not answer.
    #[error("failed to ask the coordinator of {run}: {problem}")]
    Coordinator {
        /// The run.
        run: String,
        /// Why.
        problem: String,
    },
}

/// Classes of errors: what metrics tell apart, and how soon another try makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Somebody else wrote at the same time: at once.
    Conflict,
    /// The server is not there or too busy: soon, then later.
    Unavailable,
    /// We may not, or a quota is exceeded: when somebody has had time to change that.
    Forbidden,
    /// What we wrote is not accepted: only a change helps.
    Invalid,
    /// Anything else.
    Other,
}

/// The wait before the first retry of what is not there.
const SOON: Duration = Duration::from_secs(1);
/// The longest wait before a retry.
const LATEST: Duration = Duration::from_secs(300);
/// Somebody has to change something before that makes sense.
const LATER: Duration = Duration::from_secs(30);

impl Error {
    /// Of a call of the API server.
    pub(crate) fn api(operation: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { operation, source: Box::new(source) }
    }

    pub(crate) fn class(&self) -> Class {
        let Self::Api { source, .. } = self else {
            return match self {
                Self::Coordinator { .. } => Class::Unavailable,
                _ => Class::Other,
            };
        };
        match source.as_ref() {
            kube::Error::Api(status) => match status.code {
                409 => Class::Conflict,
                401 | 403 => Class::Forbidden,
                400 | 422 => Class::Invalid,
                429 | 500.. => Class::Unavailable,
                _ => Class::Other,
            },
            kube::Error::HyperError(_) | kube::Error::Service(_) => Class::Unavailable,
            _ => Class::Other,
        }
    }

    /// When to try again after so many failures in a row, counted from 1.
    pub(crate) fn retry(&self, failures: u32) -> Action {
        let doubled = SOON.saturating_mul(1 << failures.saturating_sub(1).min(10));
        Action::requeue(match self.class() {
            Class::Conflict => Duration::from_millis(100) * failures.min(50),
            Class::Unavailable | Class::Other => doubled.min(LATEST),
            Class::Forbidden | Class::Invalid => doubled.max(LATER).min(LATEST),
        })
    }

    /// Whether the API server refuses what was asked: a quota, a policy, a right that lacks.
    /// Somebody has to know.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.class(), Class::Forbidden | Class::Invalid)
    }

    /// The error with its causes, for people.
    pub(crate) fn sentence(&self) -> String {
        plan::words::chain(self)
    }
}

impl Class {
    /// Its name in metrics and conditions.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Conflict => "Conflict",
            Self::Unavailable => "Unavailable",
            Self::Forbidden => "Forbidden",
            Self::Invalid => "Invalid",
            Self::Other => "Other",
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answered(code: u16) -> Error {
        let status = Status { code, ..Status::default() };
        Error::api("apply a pod")(kube::Error::Api(status.boxed()))
    }

    #[test]
    fn errors_are_tried_again_by_their_class_and_never_later_than_the_bound() {
        let table = [
            (409, Class::Conflict),
            (403, Class::Forbidden),
            (422, Class::Invalid),
            (503, Class::Unavailable),
            (418, Class::Other),
        ];
        for (code, class) in table {
            assert_eq!(answered(code).class(), class, "{code}");
        }
        assert_eq!(answered(503).retry(1), Action::requeue(SOON));
        assert_eq!(answered(503).retry(4), Action::requeue(Duration::from_secs(8)));
        assert_eq!(answered(503).retry(u32::MAX), Action::requeue(LATEST));
        assert_eq!(answered(403).retry(1), Action::requeue(LATER));
    }
}
