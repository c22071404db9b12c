//! Collective operations between the ranks of one island, on plain slices of f32.
//!
//! ```text
//!  Group            blocking calls; owns a current-thread runtime that runs while a call runs
//!    ring, chain, direct      the algorithms, over ...
//!      Links        one queue to, and one queue from, every other rank; checks every message
//!        in_memory  the queues are joined directly
//!        grpc       a client-streaming RPC per ordered pair of ranks stands between them
//! ```
//!
//! A call ends with the result, or with a [`CommError`] within the group's timeout; after an error
//! the group stays failed, and its peers are told. Frames carry no checksum of their own: values
//! garbled in flight are TCP's to notice; garbled headers are refused.

mod chain;
mod direct;
mod error;
mod faults;
mod group;
mod grpc;
mod in_memory;
mod links;
mod numeric;
mod pool;
mod ring;
mod wire;

pub use error::CommError;
pub use faults::Faults;
pub use group::{Group, GroupConfig};
pub use grpc::Endpoint;
pub use wire::Operation;
