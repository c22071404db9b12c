//! `island plan`: what islands would do on the cards that are idle now. Nothing is written.

use std::collections::BTreeSet;

use ::plan::planner::plan_run;
use ::plan::request::Execution;
use api::island::ComputeIsland;
use api::names::Key;
use api::nodes::Slice;
use api::{Manifests, Resources};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::resource::v1::ResourceSlice;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use serde::Serialize;

use super::args::ClusterPlanArgs;
use super::connection::Cluster;
use super::error::ClusterError;
use super::idle::{self, Held, Idle};
use super::text::counted;
use cli::manifests::{self, ManifestError};
use cli::plan::{Basis, View};

/// Plans as asked.
pub(super) async fn make(
    cluster: &Cluster,
    args: &ClusterPlanArgs,
    tell: &mut impl FnMut(&str),
) -> Result<View, ClusterError> {
    let wanted = match &args.name {
        Some(name) => named(cluster, name, tell).await?,
        None => completed(cluster, manifests::texts(&args.files)?).await?,
    };
    let Manifests { run, mut islands, passed_over, .. } = manifests::of_cluster(&wanted)?;
    let wanted = Documents::of(&wanted);
    for note in passed_over.iter().chain(&wanted.notes()) {
        tell(note);
    }
    let mut idle = idle(cluster, &wanted.keys(&cluster.namespace), tell).await?;
    let now = Timestamp::now();
    for island in &mut islands {
        let named = |own: &&ComputeIsland| own.metadata.name.as_ref() == Some(&island.name);
        island.nodes = wanted.0.islands.iter().find(named).map(|own| idle.selected(own, now));
    }
    for note in idle.notes() {
        tell(&note);
    }
    let basis = Basis::Cluster { nodes: idle.nodes, cards: idle.cards, idle: idle.count() };
    let nodes = idle.free.into_iter().map(|free| free.node).collect();
    let plan = plan_run(&run, &islands, &Execution::Cluster { nodes });
    Ok(View { plan: plan.map_err(ManifestError::Refused)?, basis })
}

/// An island of the cluster and its run, as texts.
async fn named(
    cluster: &Cluster,
    name: &str,
    tell: &mut impl FnMut(&str),
) -> Result<Vec<(String, String)>, ClusterError> {
    let island = cluster.island(name).await?;
    let run = cluster.run(&island.spec.run_ref.name).await?;
    let others = islands_of(cluster, &island.spec.run_ref.name).await?.len().saturating_sub(1);
    if others > 0 {
        tell(&format!(
            "{name} is planned alone: H and rounds also depend on the run's {}",
            counted(others, "other island")
        ));
    }
    Ok(vec![written(&run), written(&island)])
}

/// Files, and from the cluster what they lack: the run, or its islands.
async fn completed(
    cluster: &Cluster,
    mut texts: Vec<(String, String)>,
) -> Result<Vec<(String, String)>, ClusterError> {
    let documents = Documents::of(&texts);
    let found = &documents.0;
    let cluster = match documents.namespace() {
        Some(namespace) => cluster.within(namespace),
        None => cluster.clone(),
    };
    if let ([], false, [island, ..]) = (&found.runs[..], found.broken, &found.islands[..]) {
        texts.push(written(&cluster.run(&island.spec.run_ref.name).await?));
    }
    if let ([run, ..], false, []) = (&found.runs[..], found.broken, &found.islands[..]) {
        let name = run.metadata.name.as_deref().unwrap_or_default();
        texts.extend(islands_of(&cluster, name).await?.iter().map(written));
    }
    Ok(texts)
}

async fn islands_of(cluster: &Cluster, run: &str) -> Result<Vec<ComputeIsland>, ClusterError> {
    let params = ListParams::default().fields(&format!("spec.runRef.name={run}"));
    cluster.all("list the run's islands", cluster.own(), params).await
}

/// A resource of the cluster as a manifest. A resource that was read can be written.
fn written(resource: &impl Serialize) -> (String, String) {
    let text = serde_yaml::to_string(resource).unwrap_or_default();
    (manifests::CLUSTER.into(), text)
}

/// What nobody holds, islands of these names left out.
async fn idle(
    cluster: &Cluster,
    own: &BTreeSet<Key>,
    tell: &mut impl FnMut(&str),
) -> Result<Idle, ClusterError> {
    let client = || cluster.client.clone();
    let every = ListParams::default;
    let nodes = cluster.all("list nodes", Api::<Node>::all(client()), every()).await?;
    let slices = Api::<ResourceSlice>::all(client());
    let params = every().fields(&format!("spec.driver={}", api::nodes::DRIVER));
    let slices = match cluster.all("list ResourceSlices", slices, params).await {
        // Not every cluster has them, and labels say much the same.
        Err(ClusterError::NotInstalled { .. }) => Vec::new(),
        Err(error @ ClusterError::Forbidden { .. }) => {
            tell(&format!("cards are known by labels alone: {error}"));
            Vec::new()
        }
        slices => slices?,
    };
    let slices: Vec<Slice> = slices.into_iter().filter_map(Slice::of).collect();
    // Those that have ended say when their cards became idle.
    let pods: Api<Pod> = Api::all(client());
    let pods = cluster.all("list pods of all namespaces", pods, every()).await?;
    let islands: Api<ComputeIsland> = Api::all(client());
    let islands = match cluster.all("list islands of all namespaces", islands, every()).await {
        // Files can be planned before anything is installed.
        Err(ClusterError::NotInstalled { .. }) => Vec::new(),
        islands => islands?,
    };
    Ok(idle::idle(nodes, &slices, &Held::of(&pods, &islands), own))
}

/// The resources in texts, as far as they can be read; `api` says what cannot.
#[derive(Debug, Default)]
struct Documents(Resources);

impl Documents {
    fn of(texts: &[(String, String)]) -> Self {
        Self(api::resources(&manifests::sources(texts)))
    }

    fn namespace(&self) -> Option<&str> {
        let runs = self.0.runs.iter().map(|run| &run.metadata);
        let all = runs.chain(self.0.islands.iter().map(|island| &island.metadata));
        all.filter_map(|metadata| metadata.namespace.as_deref()).next()
    }

    /// The islands' own names, by which they are known where they are in the cluster already.
    fn keys(&self, namespace: &str) -> BTreeSet<Key> {
        let namespace = self.namespace().unwrap_or(namespace);
        let names = self.0.islands.iter().map(|island| Key::of(island).name);
        names.map(|name| Key::new(namespace, name)).collect()
    }

    /// What the operator would want beyond a plan.
    fn notes(&self) -> Vec<String> {
        let lacking = self.0.runs.iter().filter(|run| run.spec.data.volume.is_none());
        let note = "spec.data.volume of the run is missing: the operator starts nothing without it";
        lacking.map(|_| note.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "
apiVersion: heteroloco.dev/v1alpha1
kind: TrainingRun
metadata: {name: mini, namespace: ml}
spec:
  model: {preset: llama-demo}
  data: {path: data, tokenizer: byte}
  tokens: 1000000
";
    const ISLAND: &str = "
apiVersion: heteroloco.dev/v1alpha1
kind: ComputeIsland
metadata: {name: big}
spec:
  runRef: {name: mini}
  devices: [{product: NVIDIA-H100-80GB-HBM3}]
  tolerations: [{key: team, operator: Exists}]
";

    fn documents(text: &str) -> Documents {
        Documents::of(&[("file".into(), text.into())])
    }

    #[test]
    fn files_say_which_islands_are_planned_anew_and_what_they_tolerate() {
        let found = documents(&format!("{RUN}---\n{ISLAND}---\n"));
        assert!(!found.0.broken);
        assert_eq!((found.0.runs.len(), found.0.islands.len()), (1, 1));
        assert_eq!(found.keys("default"), [Key::new("ml", "big")].into());
        assert!(found.notes()[0].contains("spec.data.volume"));
        assert_eq!(documents(ISLAND).keys("x"), [Key::new("x", "big")].into());
    }

    #[test]
    fn what_cannot_be_read_is_left_to_the_one_that_says_why() {
        for text in ["kind: IslandPool", "kind: TrainingRun", "a: b: c", "7"] {
            assert!(documents(text).0.broken, "{text}");
        }
        assert!(!documents("---\n").0.broken);
    }

    #[test]
    fn a_resource_of_the_cluster_is_a_manifest_again() {
        let mut found = documents(&format!("{RUN}---\n{ISLAND}"));
        found.0.islands[0].status = Some(Default::default());
        let texts = [written(&found.0.runs[0]), written(&found.0.islands[0])];
        let manifests = manifests::of_cluster(&texts).expect("right");
        assert_eq!(manifests.islands[0].name, "big");
    }
}
