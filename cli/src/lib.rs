//! The command `heteroloco`: plan a run, prepare its data, run it on this machine, use what it
//! made.

pub mod args;
pub mod corpus;
pub mod devices;
pub mod manifests;
pub mod plan;
pub mod prepare;
pub mod programs;
pub mod show;
pub mod up;
