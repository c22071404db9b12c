//! The pods of an island's ranks: which there are, of which epoch.

use api::island::ComputeIsland;
use api::names::{self, EPOCH, ISLAND, RANK};
use api::occupancy;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;

use super::connection::Cluster;
use super::error::ClusterError;

/// The pod of a rank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub epoch: u64,
    pub rank: u32,
    pub pod: String,
    /// Absent until the pod is placed.
    pub node: Option<String>,
}

/// The ranks of an island among pods, by epoch and rank.
pub(super) fn ranks(pods: &[Pod], of: &str) -> Vec<Rank> {
    let own = pods.iter().filter(|pod| occupancy::island(pod) == Some(of));
    let mut ranks: Vec<Rank> = own.filter_map(rank).collect();
    ranks.sort();
    ranks
}

fn rank(pod: &Pod) -> Option<Rank> {
    let labels = pod.metadata.labels.as_ref()?;
    Some(Rank {
        epoch: labels.get(EPOCH)?.parse().ok()?,
        rank: labels.get(RANK)?.parse().ok()?,
        pod: pod.metadata.name.clone()?,
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
    })
}

/// Which ranks are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// The epoch in force, as far as the operator has said it.
    pub epoch: Option<u64>,
    /// The one before it.
    pub previous: bool,
    /// This rank alone.
    pub rank: Option<u32>,
}

/// The ranks that are asked for, of one epoch.
///
/// # Errors
/// Why there are none, a sentence.
pub(super) fn chosen(ranks: Vec<Rank>, of: &str, wanted: Wanted) -> Result<Vec<Rank>, String> {
    let newest = ranks.last().map(|rank| rank.epoch);
    let current = wanted.epoch.filter(|epoch| newest.is_none_or(|newest| newest <= *epoch));
    let current = current.or(newest);
    let before = |rank: &&Rank| current.is_some_and(|current| rank.epoch < current);
    let epoch = match wanted.previous {
        true => ranks.iter().rfind(before).map(|rank| rank.epoch),
        // Until an epoch has pods, those of the one before it say most.
        false => newest,
    };
    let Some(epoch) = epoch else {
        let which = match (wanted.previous, current) {
            (true, Some(current)) => format!("of an epoch before {current} "),
            _ => String::new(),
        };
        return Err(format!(
            "island {of} has no pods {which}to read: they are deleted when an epoch ends; \
             `kubectl island explain {of}` says what happened"
        ));
    };
    let own: Vec<Rank> = ranks.into_iter().filter(|rank| rank.epoch == epoch).collect();
    let count = own.len();
    let fits = |rank: &Rank| wanted.rank.is_none_or(|wanted| wanted == rank.rank);
    let own: Vec<Rank> = own.into_iter().filter(fits).collect();
    if own.is_empty() {
        let rank = wanted.rank.unwrap_or_default();
        return Err(format!(
            "island {of} has no pod of rank {rank} in epoch {epoch}, but {count} others: choose \
             one of these with --rank"
        ));
    }
    Ok(own)
}

/// The pods of an island, of all epochs.
pub(super) async fn of(
    cluster: &Cluster,
    island: &ComputeIsland,
) -> Result<Vec<Pod>, ClusterError> {
    let name = island.metadata.name.as_deref().unwrap_or_default();
    let selector = format!("{ISLAND}={}", names::label(name));
    let params = ListParams::default().labels(&selector);
    let pods = cluster.all("list the island's pods", cluster.own::<Pod>(), params).await?;
    Ok(pods.into_iter().filter(|pod| occupancy::island(pod) == Some(name)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(island: &str, epoch: &str, rank: u32) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": format!("{island}-e{epoch}-r{rank}"),
                "labels": {
                    "app.kubernetes.io/managed-by": "heteroloco-operator",
                    "heteroloco.dev/island": island,
                    "heteroloco.dev/epoch": epoch,
                    "heteroloco.dev/rank": rank.to_string(),
                },
            },
            "spec": {"nodeName": "a", "containers": []},
        }))
        .expect("a pod")
    }

    fn pods() -> Vec<Pod> {
        vec![
            pod("lab", "10", 1),
            pod("lab", "9", 0),
            pod("lab", "10", 0),
            pod("other", "11", 0),
            pod("lab", "x", 0),
        ]
    }

    fn names(wanted: Wanted) -> Result<Vec<String>, String> {
        let chosen = chosen(ranks(&pods(), "lab"), "lab", wanted)?;
        Ok(chosen.into_iter().map(|rank| rank.pod).collect())
    }

    #[test]
    fn ranks_are_of_the_epoch_in_force_or_of_the_one_before() {
        let newest = ["lab-e10-r0", "lab-e10-r1"].map(str::to_owned).to_vec();
        let wanted = Wanted { epoch: Some(10), ..Wanted::default() };
        assert_eq!(names(wanted), Ok(newest.clone()));
        assert_eq!(names(Wanted::default()), Ok(newest.clone()));
        let previous = Wanted { previous: true, ..wanted };
        assert_eq!(names(previous), Ok(vec!["lab-e9-r0".into()]));
        // The pods of epoch 11 are not there yet.
        let next = Wanted { epoch: Some(11), ..Wanted::default() };
        assert_eq!(names(next), Ok(newest.clone()));
        assert_eq!(names(Wanted { previous: true, ..next }), Ok(newest));
        assert_eq!(names(Wanted { rank: Some(1), ..wanted }), Ok(vec!["lab-e10-r1".into()]));
    }

    #[test]
    fn what_is_not_there_is_said() {
        let said = names(Wanted { rank: Some(7), ..Wanted::default() }).unwrap_err();
        assert!(said.contains("no pod of rank 7 in epoch 10"), "{said}");
        let only = ranks(&[pod("lab", "1", 0)], "lab");
        let said = chosen(only, "lab", Wanted { previous: true, ..Wanted::default() });
        assert!(said.unwrap_err().contains("no pods of an epoch before 1"));
        assert!(chosen(vec![], "lab", Wanted::default()).unwrap_err().contains("no pods to read"));
    }

    #[test]
    fn a_long_name_is_its_owner_s_and_not_the_label_s() {
        let mut pod = pod("short-1234abcd", "1", 0);
        let owner = json!({
            "apiVersion": "heteroloco.dev/v1alpha1", "kind": "ComputeIsland", "name": "long",
            "uid": "u",
        });
        pod.metadata.owner_references = Some(vec![serde_json::from_value(owner).expect("one")]);
        assert_eq!(ranks(std::slice::from_ref(&pod), "long").len(), 1);
        assert_eq!(ranks(&[pod], "short-1234abcd"), []);
    }
}
