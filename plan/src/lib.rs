//! What a run needs and how an island meets it: model arithmetic, GPU facts, memory, plans.

pub mod event;
pub mod model;
pub mod spec;
