//! One island's side of a run: membership, the exchange between islands, and the outer state.
//!
//! Every rank of an island runs a [`Member`] in lockstep with the others. Rank 0, the leader, alone
//! speaks with the coordinator; what it hears reaches the others through the island's collective
//! group, and every rank derives the same directive from it ([`decide`]). Each rank owns a span of
//! the canonical order of parameters: it compresses, serves, fetches and applies just that span,
//! and an all-gather puts θ together again. World size 1 is the same code.
//!
//! Nothing here knows of libtorch: parameters are a flat `&mut [f32]` behind [`Theta`].

mod config;
pub mod decide;
mod error;
mod exchange;
mod fetch;
mod member;
mod outer;
mod server;
mod session;
mod store;

pub use config::{MemberConfig, Timeouts};
pub use error::MemberError;
pub use exchange::RoundReport;
pub use member::{Member, StepControl, Theta, ThetaError, Turn};
pub use outer::OuterState;
pub use session::SessionError;
