//! Tests of the harness: a control plane, nodes, images, and what they leave behind.

// clippy.toml allows it in functions marked as tests, not in what they call.
#![allow(clippy::unwrap_used)]

mod control_plane;
mod look;
mod nodes;
