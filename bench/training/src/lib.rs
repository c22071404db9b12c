//! Benchmarks that train: they link libtorch, the others in `bench` do not.

pub mod convergence;
pub mod island;
