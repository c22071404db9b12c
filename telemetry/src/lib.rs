//! Telemetry of a process: logs on stderr, traces by OTLP, metrics for Prometheus.

mod logs;
pub mod metrics;
mod propagation;
mod serve;

pub use logs::{Guard, InitError, Service, init};
pub use propagation::{inject, propagate, set_parent, set_parent_from, traceparent};
pub use serve::{serve, serve_ready};
