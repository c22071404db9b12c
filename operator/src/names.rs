//! Names and labels of everything that the operator makes: the same for the same thing, always.

use std::collections::BTreeMap;

/// Also the field manager of every write.
pub(crate) use api::occupancy::MANAGER;
pub(crate) use api::occupancy::{GPU, ISLAND, MANAGED_BY};

/// What an object is a part of: `worker`, `coordinator`.
pub(crate) const COMPONENT: &str = "app.kubernetes.io/component";
/// The run of an object.
pub(crate) const RUN: &str = "heteroloco.dev/run";
/// The epoch of a rank's pod.
pub(crate) const EPOCH: &str = "heteroloco.dev/epoch";
/// The rank of a pod.
pub(crate) const RANK: &str = "heteroloco.dev/rank";
/// The pool that made an island.
pub(crate) const POOL: &str = "heteroloco.dev/pool";
/// Kueue's queue, which islands hand on to their pods.
pub(crate) const QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// Port of a coordinator's members.
pub(crate) const COORDINATOR_PORT: u16 = 7070;
/// Port of a coordinator's metrics.
pub(crate) const COORDINATOR_METRICS_PORT: u16 = 9090;
/// Port of a rank's metrics.
pub(crate) const WORKER_METRICS_PORT: u16 = 9090;

/// The longest name of a pod or Service is a DNS label.
const LABEL_MAX: usize = 63;

/// A resource by namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The pod of a rank.
pub(crate) fn pod(island: &str, epoch: u64, rank: usize) -> String {
    limited(island, &format!("-e{epoch}-r{rank}"))
}

/// The ConfigMap with what the ranks of an epoch are told.
pub(crate) fn plan(island: &str, epoch: u64) -> String {
    limited(island, &format!("-e{epoch}"))
}

/// The coordinator's objects of a run.
pub(crate) fn coordinator(run: &str) -> String {
    let digit = run.starts_with(|first: char| first.is_ascii_digit());
    // The name of a Service begins with a letter.
    if digit {
        limited(&format!("run-{run}"), "-coordinator")
    } else {
        limited(run, "-coordinator")
    }
}

/// The ConfigMap with what a run's islands agree on.
pub(crate) fn record(run: &str) -> String {
    limited(run, "-record")
}

/// `name` and `suffix`, as a DNS label: of a name that is too long the beginning, and a hash of all
/// of it.
fn limited(name: &str, suffix: &str) -> String {
    let plain = !name.contains('.');
    if plain && name.len() + suffix.len() <= LABEL_MAX {
        return format!("{name}{suffix}");
    }
    let hash = format!("-{:08x}", fnv1a(name));
    let room = LABEL_MAX - suffix.len() - hash.len();
    let start: String = name.replace('.', "-").chars().take(room).collect();
    format!("{}{hash}{suffix}", start.trim_end_matches('-'))
}

/// FNV-1a (Fowler, Noll, Vo): the same in every version, which the standard library's is not.
fn fnv1a(text: &str) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    text.bytes().fold(2_166_136_261, step)
}

/// A name as a label's value, which may be shorter than a name.
pub(crate) fn label(name: &str) -> String {
    if name.len() <= LABEL_MAX { name.to_owned() } else { limited(name, "") }
}

/// Labels that every object of a component has.
pub(crate) fn labels(component: &str, run: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "heteroloco".to_owned()),
        (MANAGED_BY, MANAGER.to_owned()),
        (COMPONENT, component.to_owned()),
        (RUN, label(run)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_begins_with_a_letter() {
        assert_eq!(coordinator("7b"), "run-7b-coordinator");
    }

    #[test]
    fn names_are_dns_labels_and_differ_where_their_owners_do() {
        assert_eq!(pod("lab-a", 3, 12), "lab-a-e3-r12");
        let long = "a".repeat(200);
        let other = format!("{}b", "a".repeat(199));
        for name in [pod(&long, u64::MAX, 1023), plan("lab.example", 1), coordinator(&long)] {
            assert!(name.len() <= LABEL_MAX && !name.contains('.'), "{name}");
        }
        assert_ne!(pod(&long, 1, 0), pod(&other, 1, 0));
        assert_ne!(plan("lab.a", 1), plan("lab-a", 1));
        assert_ne!(label(&long), label(&other));
    }
}
