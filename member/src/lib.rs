//! One island's side of a run: membership, the exchange between islands, and the outer state.
//!
//! Every rank of an island runs a [`Member`] in lockstep with the others. Rank 0, the leader, alone
//! speaks with the coordinator; what it hears reaches the others through the island's collective
//! group, and every rank derives the same directive from it ([`decide`]). Each rank owns a span of
//! the canonical order of parameters: it compresses, serves, fetches and applies just that span.
//! What a rank trains is another part of θ; values move between the two at both ends of a round,
//! behind [`Theta`]. World size 1 is the same code.
//!
//! Nothing here knows of libtorch.

mod config;
mod control;
mod error;
mod exchange;
mod fetch;
mod gather;
pub mod hand_in;
mod hold;
mod member;
mod outer;
mod peers;
mod server;
mod session;
mod sources;
mod store;
#[cfg(test)]
mod testing;
mod theta;

pub use rounds::decide;

pub use config::{MemberConfig, Timeouts};
pub use control::StepControl;
pub use error::MemberError;
pub use exchange::RoundReport;
pub use member::{Member, Turn};
pub use outer::{OuterState, span_of};
pub use session::SessionError;
pub use theta::{Theta, ThetaError};
