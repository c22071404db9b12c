//! The resources that users write: `ComputeIsland`, `TrainingRun` and `IslandPool`
//! (`heteroloco.dev/v1alpha1`), and the way from their YAML to a plan's input. [`load`] is the
//! entry for files; the operator starts from the types. [`nodes`] reads what a cluster has,
//! [`proposal`] writes islands that are proposed for it.

mod advice;
mod convert;
pub mod crds;
pub mod island;
mod load;
pub mod names;
pub mod nodes;
pub mod occupancy;
pub mod pool;
pub mod proposal;
pub mod run;
mod schema;
pub mod selector;
pub mod status;
pub mod text;
mod yaml;

pub use convert::ReadConfig;
pub use load::{
    Manifests, Problem, Problems, Resources, RunAlone, Source, load, load_run, load_with, resources,
};
pub use schema::FieldProblem;
pub use yaml::{Mark, TEXT_MAX};
