//! Tests of the whole project, as one binary: its papers, its crates, its programs.

// clippy.toml allows it in functions marked as tests, not in what they call.
#![allow(clippy::unwrap_used)]

mod cluster;
mod gpu_check;
mod linking;
mod papers;
mod protocol;
mod run;
