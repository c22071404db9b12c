//! One rank of an island: the model and its optimiser, the inner step, and what is made of the
//! result. Links libtorch.

pub mod ahead;
pub mod checkpoint;
pub mod devices;
pub mod error;
pub mod evaluation;
pub mod events;
pub mod hugging_face;
pub mod init;
pub mod interrupt;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod optimizer;
pub mod origin;
pub mod pace;
pub mod parallel;
pub mod parameters;
pub mod probe;
pub mod program;
pub mod reshard;
pub mod run;
pub mod sample;
pub mod skips;
pub mod sums;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;
pub mod trained;
pub mod unread;
