//! The operator against a real control plane, with nodes that only say that they run pods.

// clippy.toml allows it in functions marked as tests, not in what they call.
#![allow(clippy::unwrap_used)]

mod discovery;
mod faults;
mod lifecycle;
mod rules;
mod sharing;
mod site;
