//! The protocol of a run as pure decisions: membership, quorum, deadlines, the record of commits.

pub mod request;
pub mod types;
