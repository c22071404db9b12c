//! Errors while a cluster starts or is used; each names its step and what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a step of the harness failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file, folder or program could not be used.
    #[error("failed to {step}")]
    Io {
        /// The step that failed, as the end of a sentence that begins with "failed to".
        step: String,
        /// The system's error.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("failed to make the certificate of {subject}")]
    Certificate {
        /// The certificate's common name.
        subject: String,
        /// The library's error.
        source: rcgen::Error,
    },
    /// A command ended with an error.
    #[error("failed to run `{command}` ({status}):\n{output}")]
    Command {
        /// The command line, shortened.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// Something was not there when its time was over.
    #[error("failed to see {what} within {bound:?}; last seen: {seen}\n{logs}")]
    NotReady {
        /// The state that was waited for.
        what: String,
        /// How long it was waited for.
        bound: Duration,
        /// The last answer.
        seen: String,
        /// Ends of the logs of who should have made it true.
        logs: String,
    },
    /// A component ended by itself.
    #[error("failed to keep {component} running ({status}); its log {log} ends:\n{tail}")]
    Ended {
        /// The component.
        component: String,
        /// How it ended.
        status: String,
        /// The path of its log.
        log: PathBuf,
        /// The end of the log.
        tail: String,
    },
    /// Namespaces, mounts and cgroups need root.
    #[error("failed to {step}: only root can; run as root, or test with a control plane alone")]
    NotRoot {
        /// The step that failed.
        step: String,
    },
    /// Programs of the system are missing and cannot be installed.
    #[error("failed to find {programs}; install the Debian packages: apt-get install {packages}")]
    Packages {
        /// The missing programs.
        programs: String,
        /// The packages that bring them.
        packages: String,
        /// Why they could not be installed, where that was tried.
        source: Option<Box<ClusterError>>,
    },
    /// The control plane was started without a network for nodes.
    #[error("failed to start node {node}: start the control plane with `Network::Nodes`")]
    NoNetwork {
        /// The node's name.
        node: String,
    },
}

impl ClusterError {
    /// An [`io::Error`] with the step that it ended.
    pub(crate) fn io(step: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let step = step.into();
        move |source| Self::Io { step, source }
    }
}
