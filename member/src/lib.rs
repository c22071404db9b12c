//! One island's side of a run: membership, the exchange between islands, and the outer state.
//!
//! Every rank of an island runs a [`Member`] in lockstep with the others. Rank 0, the leader, alone
//! speaks with the coordinator; what it hears reaches the others through the island's collective
//! group, and every rank derives the same directive from it ([`rounds::decide`]). Each rank owns a
//! span of the canonical order of parameters: it compresses, serves, fetches and applies just that
//! span. What all ranks agree on is in `lockstep`, what each has of its own in `exchange`;
//! [`Member`] has both. What a rank trains is another part of θ; values move between the two at
//! both ends of a round, behind [`Theta`]. World size 1 is the same code.
//!
//! Nothing here knows of libtorch.

mod config;
mod control;
mod error;
mod exchange;
mod fetch;
mod gather;
mod hand_in;
mod hold;
mod lockstep;
mod member;
mod outer;
mod peers;
mod report;
mod server;
mod session;
mod sources;
mod stopping;
mod store;
#[cfg(test)]
mod testing;
mod theta;

use rounds::decide;

pub use config::{MemberConfig, Timeouts};
pub use control::StepControl;
pub use error::MemberError;
pub use member::{Member, Turn};
pub use outer::{OuterState, span_of};
pub use report::RoundReport;
pub use session::SessionError;
pub use theta::{Theta, ThetaError};
