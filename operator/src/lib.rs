//! The operator: makes a cluster look as its `ComputeIsland`s, `TrainingRun`s and `IslandPool`s
//! say.
//!
//! Each controller is a pipeline: observe → validate → plan → build → apply → status. Only its ends
//! have a client; what is between is pure, and is told the time.
//!
//! ```text
//!  nodes, pods ──> Inventory ──┐ (what is idle)
//!  ComputeIsland ──> island::reconcile ──> ConfigMap, Pods          (one per rank)
//!                     │        ▲ Record: what a run's islands agree on
//!                  Ledger      │
//!  TrainingRun ───> run::reconcile ────> ConfigMap, Deployment, Service, PersistentVolumeClaim
//!  IslandPool ────> pool::reconcile ───> ComputeIslands
//! ```
//!
//! `Inventory` holds what of nodes and pods matters, `Ledger` which cards are promised to which
//! island and what was last written of each: a cache of the API server may be older than our own
//! writes. What the API server says is read into types once: status into `island::Plan`, nodes,
//! pods and slices into what the inventory holds. Why something was decided or refused is an enum,
//! whose word and sentence conditions and events have (`conditions::AsReason`).

pub mod app;
pub mod args;
mod conditions;
mod context;
mod error;
mod fault;
mod feed;
#[cfg(test)]
mod golden;
mod inventory;
mod island;
mod leader;
mod ledger;
mod metrics;
mod pool;
mod record;
mod run;
mod selections;
mod speeds;
mod write;
