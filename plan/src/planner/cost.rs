//! The cost of a layout in memory and time: the one model that search, plan and judge ask.

pub(crate) mod estimate;
pub(crate) mod fabric;
pub(crate) mod price;
pub(crate) mod time;
pub(crate) mod wire;
