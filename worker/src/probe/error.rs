//! Why a machine could not be measured.

use std::io;

use collective::CommError;
use nvml_wrapper::error::NvmlError;
use plan::cluster::CurveError;
use tch::TchError;
use tch_ext::ShimError;

/// Ends a probe.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel does not say it.
    #[error(
        "failed to read {path}, which only Linux has; name the node with --node if it is its name"
    )]
    Host {
        /// Where it should stand.
        path: &'static str,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// The kernel says it in other words.
    #[error("failed to find {key} in /proc/meminfo; run the probe where /proc is Linux's own")]
    Meminfo {
        /// What is not there.
        key: &'static str,
    },
    /// The driver cannot describe a card.
    #[error("failed to ask the driver for card {index}; `nvidia-smi` should show it first")]
    Card {
        /// Its index in PCI bus order.
        index: u32,
        /// What the management library says.
        source: NvmlError,
    },
    /// The driver and libtorch do not see the same.
    #[error(
        "failed to match cards: the driver shows {shown}, libtorch sees {seen}; put a libtorch \
         with CUDA first in LD_LIBRARY_PATH, and unset CUDA_VISIBLE_DEVICES"
    )]
    Cards {
        /// Of the driver's management library.
        shown: u32,
        /// Of libtorch.
        seen: i64,
    },
    /// CUDA may count cards in another order than the driver.
    #[error(
        "failed to match cards: there are {shown}, and CUDA may count them in another order than \
         the driver; set CUDA_DEVICE_ORDER=PCI_BUS_ID"
    )]
    Order {
        /// How many there are.
        shown: u32,
    },
    /// libtorch refused.
    #[error("failed to {operation} on {device}")]
    Torch {
        /// What was measured.
        operation: &'static str,
        /// Which device.
        device: String,
        /// What libtorch says.
        source: TchError,
    },
    /// The shim refused.
    #[error("failed to {operation} on {device}")]
    Shim {
        /// What was measured.
        operation: &'static str,
        /// Which device.
        device: String,
        /// What libtorch says.
        source: ShimError,
    },
    /// Not even the smallest size fits.
    #[error("failed to {operation} on {device}: end something that uses its memory")]
    NoRoom {
        /// What was measured.
        operation: &'static str,
        /// Which device.
        device: String,
    },
    /// The host has no room for messages.
    #[error("failed to find {bytes} bytes for a message: end something that uses memory")]
    NoMemory {
        /// What was asked for.
        bytes: u64,
    },
    /// The other rank, or the way to it.
    #[error(
        "failed to {operation} the other rank: each has to reach the other, at any port, and \
         neither may end early"
    )]
    Group {
        /// What was done.
        operation: &'static str,
        /// What the transport says.
        source: CommError,
    },
    /// A thread could not be had.
    #[error("failed to start a second rank; raise the limit of threads (ulimit -u)")]
    Thread(#[source] io::Error),
    /// The second rank panicked.
    #[error("failed to measure links: the second rank broke off; report this")]
    Broken,
    /// The other machine, before there was a group.
    #[error("failed to {operation} {address}; {remedy}")]
    Meet {
        /// What was done.
        operation: &'static str,
        /// As given, or as it appeared.
        address: String,
        /// What to change.
        remedy: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It speaks otherwise.
    #[error("failed to understand {who}: {detail}; run the same version of the probe on both")]
    Strange {
        /// Who spoke.
        who: String,
        /// What it said.
        detail: String,
    },
    /// It goes on and on.
    #[error(
        "failed to finish within {seconds} s: the way to the other rank is too slow to measure"
    )]
    Slow {
        /// The bound.
        seconds: u64,
    },
    /// Times that are none.
    #[error("failed to make a curve of {link}'s times; measure again with less other work")]
    Curve {
        /// Which link.
        link: &'static str,
        /// What is wrong.
        source: CurveError,
    },
}

impl ProbeError {
    /// An operation with the other rank that the transport ended.
    pub(super) fn group(operation: &'static str) -> impl FnOnce(CommError) -> ProbeError {
        move |source| ProbeError::Group { operation, source }
    }
}
