//! One rank of an island: the model and its optimiser, the inner step, and what is made of the
//! result. Links libtorch.

pub mod checkpoint;
pub mod error;
pub mod events;
pub mod hugging_face;
pub mod init;
pub mod metrics;
pub mod model;
pub mod optimizer;
pub mod pace;
pub mod parameters;
pub mod program;
pub mod run;
pub mod sample;
pub mod schedule;
pub mod trained;
