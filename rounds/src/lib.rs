//! The protocol of a run as pure decisions: membership, quorum, deadlines, the record of commits.
//!
//! [`step::step`] takes the state, what happened and the time, and gives the next state, the answer
//! and what to append to the record. It does no I/O and reads no clock: whoever calls it saves the
//! state before anybody sees it, and calls again at [`state::State::next_wakeup`].

mod agreement;
pub mod check;
pub mod config;
pub mod decide;
mod fetching;
mod membership;
mod progress;
pub mod record;
pub mod refusal;
pub mod request;
pub mod state;
pub mod step;
pub mod text;
pub mod turn;
pub mod types;
pub mod whereabouts;
