//! The needs of a run and how an island meets them: model arithmetic, GPU facts, memory, plans.
//!
//! Pure: no I/O, no clock. `planner::plan_run` is the entry, `spec` what it answers.

pub mod calibration;
pub mod cluster;
pub mod gpu;
pub mod grouping;
pub mod memory;
pub mod model;
pub mod nodes;
pub mod outer;
pub mod part;
pub mod pipeline;
pub mod planner;
pub mod request;
pub mod schedule;
pub mod shard;
pub mod spec;
pub mod stability;
pub mod words;
