//! The command `heteroloco`: propose islands, plan a run, prepare its data, run it on this machine,
//! use what it made. `kubectl-island` shares what is said of plans.

pub mod args;
pub mod console;
pub mod corpus;
pub mod devices;
pub mod group;
pub mod manifests;
pub mod measured;
pub mod memory;
pub mod outlook;
pub mod plan;
pub mod prepare;
pub mod programs;
pub mod show;
pub mod up;
pub mod verify;
