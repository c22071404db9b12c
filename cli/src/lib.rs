//! The command `heteroloco`: propose islands, plan a run, prepare its data, run it on this machine,
//! use what it made, see and steer what a cluster's operator does.

pub mod args;
pub mod cluster;
pub mod corpus;
pub mod devices;
pub mod group;
pub mod manifests;
pub mod measured;
pub mod plan;
pub mod prepare;
pub mod programs;
pub mod show;
pub mod up;
pub mod verify;
