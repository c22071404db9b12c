//! What can go wrong with a cluster: one sentence each, that says what to change.

use std::time::Duration;

use cli::manifests::ManifestError;
use kube::core::Status;
use plan::words::chain;

/// What was asked of a cluster did not go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// Nothing says which cluster.
    #[error("failed to find a cluster: {0}; set --kubeconfig or KUBECONFIG, or another --context")]
    Config(String),
    /// The API server does not answer.
    #[error(
        "failed to {operation}: {server} does not answer ({why}); see that it runs, or choose \
         another --context"
    )]
    Unreachable {
        /// What was tried.
        operation: &'static str,
        /// The server's address.
        server: String,
        /// Why, as far as it is known.
        why: String,
    },
    /// The API server knows nobody of these credentials.
    #[error(
        "failed to {operation}: the cluster does not know who you are; log in again, or choose \
         another --context"
    )]
    Unauthorized {
        /// What was tried.
        operation: &'static str,
    },
    /// The API server does not let this be done.
    #[error(
        "failed to {operation}: {message}; ask for that right, or choose another --context or \
         --namespace"
    )]
    Forbidden {
        /// What was tried.
        operation: &'static str,
        /// Which right is missing.
        message: String,
    },
    /// The custom resource definitions are not there.
    #[error(
        "failed to {operation}: the cluster does not know HeteroLoCo's kinds; install the chart \
         (docs/kubernetes.md), or choose another --context"
    )]
    NotInstalled {
        /// What was tried.
        operation: &'static str,
    },
    /// There is no such object.
    #[error("there is no {kind} {name} in namespace {namespace}: {remedy}")]
    NotFound {
        /// What was looked for.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where.
        namespace: String,
        /// What to do instead.
        remedy: String,
    },
    /// The API server or the way to it made another trouble.
    #[error("failed to {operation}: {why}")]
    Other {
        /// What was tried.
        operation: &'static str,
        /// What it said.
        why: String,
    },
    /// More objects than are looked at.
    #[error("failed to {operation}: there are more than {most}; choose a --namespace with fewer")]
    TooMany {
        /// What was tried.
        operation: &'static str,
        /// The bound.
        most: usize,
    },
    /// Nothing to plan, or nothing that can be planned.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is nothing to read.
    #[error("{0}")]
    NoLogs(String),
    /// An island was told to rest and does not.
    #[error(
        "island {island} does not rest after {} s: {why}; see `kubectl island explain {island}`, \
         or wait longer with --wait=TIMEOUT", waited.as_secs()
    )]
    NotGone {
        /// The island.
        island: String,
        /// How long it was waited.
        waited: Duration,
        /// What is still there.
        why: String,
    },
    /// Standard output does not take it.
    #[error("failed to write to standard output; send it somewhere else")]
    Output(#[source] std::io::Error),
}

impl ClusterError {
    /// Of a call of the API server at this address.
    pub(super) fn api(operation: &'static str, server: &str, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::answered(operation, *status),
            kube::Error::HyperError(_) | kube::Error::Service(_) => Self::Unreachable {
                operation,
                server: server.to_owned(),
                why: std::error::Error::source(&error).map_or_else(|| error.to_string(), chain),
            },
            other => Self::Other { operation, why: chain(&other) },
        }
    }

    fn answered(operation: &'static str, status: Status) -> Self {
        let named = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
        let message = if status.message.is_empty() { status.reason } else { status.message };
        match status.code {
            401 => Self::Unauthorized { operation },
            403 => Self::Forbidden { operation, message },
            // Of an object that is not there the server says its name; of a kind it says nothing.
            404 if !named => Self::NotInstalled { operation },
            _ => Self::Other { operation, why: message },
        }
    }

    /// Whether what was asked for has to change before it can work.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Config(_) | Self::NotFound { .. } | Self::Manifest(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16, name: &str) -> ClusterError {
        let status = serde_json::json!({
            "code": code, "message": "computeislands is forbidden", "details": {"name": name},
        });
        let status: Status = serde_json::from_value(status).unwrap();
        ClusterError::api("read the islands", "https://c:6443", kube::Error::Api(status.boxed()))
    }

    #[test]
    fn an_answer_of_the_server_becomes_a_sentence_that_says_what_to_change() {
        let table = [
            (401, "", "log in again"),
            (403, "", "computeislands is forbidden; ask for that right"),
            (404, "", "install the chart"),
            (500, "", "failed to read the islands: computeislands is forbidden"),
            (404, "big", "failed to read the islands: computeislands is forbidden"),
        ];
        for (code, name, part) in table {
            let text = answered(code, name).to_string();
            assert!(text.contains(part), "{code}: {text}");
            assert!(!answered(code, name).is_refusal());
        }
    }

    #[test]
    fn causes_are_said_once() {
        let io = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
        let error = kube::Error::ReadEvents(io);
        assert_eq!(chain(&error), "Error reading events stream: refused");
    }
}
