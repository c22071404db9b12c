//! `island drain`, `undrain`, `run pause` and `run resume`: `spec.suspend` is set or taken away.

use std::fmt::Debug;
use std::time::Duration;

use api::island::ComputeIsland;
use api::run::TrainingRun;
use kube::Resource;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::args::{DrainArgs, RunCommand};
use super::connection::Cluster;
use super::error::ClusterError;
use super::pods;
use super::text::counted;

/// Who writes, in an object's record of its fields.
const MANAGER: &str = "kubectl-island";
/// Between two looks at what is left.
const LOOK: Duration = Duration::from_secs(1);

/// Lets an island rest.
pub(super) async fn drain(cluster: &Cluster, args: &DrainArgs) -> Result<String, ClusterError> {
    let name = &args.island.name;
    let before = cluster.island(name).await?;
    let island: ComputeIsland = suspend(cluster, name, true).await?;
    let done = if before.spec.suspend { "rests already" } else { "was told to rest" };
    let Some(most) = args.wait else {
        return Ok(format!(
            "island {name} {done}; its pods end by themselves, --wait waits for that\n"
        ));
    };
    let start = Instant::now();
    while let Some(why) = left(cluster, &island).await? {
        if start.elapsed() >= most {
            let island = name.clone();
            return Err(ClusterError::NotGone { island, waited: most, why });
        }
        tokio::time::sleep(LOOK.min(most)).await;
    }
    Ok(format!("island {name} rests: its pods are gone\n"))
}

/// Why an island does not rest yet. As long as the operator has not seen the change it may make
/// pods,
/// so that none is not enough.
async fn left(cluster: &Cluster, island: &ComputeIsland) -> Result<Option<String>, ClusterError> {
    let pods = pods::of(cluster, island).await?.len();
    if pods > 0 {
        return Ok(Some(format!("{} not gone", counted(pods, "pod"))));
    }
    let name = island.metadata.name.as_deref().unwrap_or_default();
    let now = cluster.island(name).await?;
    let seen = now.status.and_then(|status| status.observed_generation);
    Ok((seen < island.metadata.generation).then(|| "the operator has not seen the change".into()))
}

/// Lets an island go on.
pub(super) async fn undrain(cluster: &Cluster, name: &str) -> Result<String, ClusterError> {
    let before = cluster.island(name).await?;
    let island: ComputeIsland = suspend(cluster, name, false).await?;
    let done = if before.spec.suspend { "goes on" } else { "was not resting" };
    let run = &island.spec.run_ref.name;
    let found = cluster.ask("read the run", cluster.own::<TrainingRun>().get_opt(run)).await?;
    let but = match found {
        Some(found) if found.spec.suspend => {
            format!("; its run is paused: `kubectl island run resume {run}`")
        }
        _ => String::new(),
    };
    Ok(format!("island {name} {done}{but}\n"))
}

/// Lets a run rest or go on.
pub(super) async fn run(cluster: &Cluster, command: &RunCommand) -> Result<String, ClusterError> {
    let (name, pause) = match command {
        RunCommand::Pause(run) => (&run.name, true),
        RunCommand::Resume(run) => (&run.name, false),
    };
    let before = cluster.run(name).await?.spec.suspend;
    let _: TrainingRun = suspend(cluster, name, pause).await?;
    let done = match (before, pause) {
        (false, true) => "is paused: its islands give their cards back, its coordinator stays",
        (true, true) => "is paused already",
        (true, false) => "goes on",
        (false, false) => "was not paused",
    };
    Ok(format!("run {name} {done}\n"))
}

async fn suspend<K>(cluster: &Cluster, name: &str, rest: bool) -> Result<K, ClusterError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned,
{
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let api = cluster.own::<K>();
    let patch = Patch::Merge(patch(rest));
    cluster.ask("write spec.suspend", api.patch(name, &params, &patch)).await
}

/// What goes on has no such field, as most manifests do not have it.
fn patch(rest: bool) -> Value {
    let suspend = if rest { Value::Bool(true) } else { Value::Null };
    json!({"spec": {"suspend": suspend}})
}
