//! The planner's answer: the plan that it found with its reasons and what came near, or why there
//! is none and what would do.

pub(crate) mod describe;
pub(crate) mod explain;
pub(crate) mod refusal;
pub(crate) mod remedy;
pub(crate) mod shortfall;
pub(crate) mod usage;
pub(crate) mod whole;
