//! How the devices of an island work on one model: sums between peers, and the pipeline's lanes.
//! Devices of one process hand each other tensors; between processes values go over `collective`.

mod lane;
mod mesh;
mod reducer;
mod team;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use collective::CommError;
use tch::{Device, Kind, TchError, Tensor};

pub use lane::{LaneIn, LaneOut, lane};
pub use mesh::{Links, Place, Side, build};
pub use reducer::Reducer;
pub use team::{Meeting, Team};

/// Why devices could not work together.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// Another process of the island is gone, late, or not in step.
    #[error("failed to work with another rank of the island")]
    Group(#[source] CommError),
    /// Another device of this process did not come in time.
    #[error("failed to {operation}: another device of this rank did not follow within {wait:?}")]
    Late {
        /// What was waited for.
        operation: &'static str,
        /// How long.
        wait: Duration,
    },
    /// Another device of this process has failed.
    #[error("failed to {operation}: another device of this rank has failed")]
    Gone {
        /// What was tried.
        operation: &'static str,
    },
    /// libtorch refused.
    #[error("failed to {operation}: {message}")]
    Torch {
        /// What was tried.
        operation: &'static str,
        /// What libtorch says.
        message: String,
    },
}

impl PeerError {
    fn torch(operation: &'static str) -> impl Fn(TchError) -> PeerError {
        move |error| PeerError::Torch { operation, message: error.to_string() }
    }
}

/// Starts a thread that moves tensors. It ends when its queues' other ends in this process are
/// dropped, or with its group.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), PeerError> {
    let started = thread::Builder::new().name(name.into()).spawn(run).map(drop);
    started.map_err(|source| PeerError::Group(CommError::Runtime { source: Arc::new(source) }))
}

/// A tensor's values as `collective` takes them; the tensor itself where it has that form.
fn to_host(tensor: &Tensor) -> Result<Tensor, TchError> {
    tensor.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?.f_contiguous()
}

impl From<tch_ext::HostError> for PeerError {
    fn from(error: tch_ext::HostError) -> PeerError {
        PeerError::Torch { operation: "bring values to the host", message: error.to_string() }
    }
}
