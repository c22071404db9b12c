//! Names, labels and annotations of what the operator makes: the same for the same thing, always,
//! for the operator that writes them and for `kubectl island` that reads them.

use std::collections::BTreeMap;
use std::fmt;

use kube::Resource;

/// The resource that NVIDIA's device plugin offers whole cards as, and the taint of nodes that have
/// it: pods that ask for cards tolerate that one.
pub const GPU: &str = "nvidia.com/gpu";
/// The label by which a node is known to have GPUs.
pub const PRODUCT: &str = "nvidia.com/gpu.product";
/// The label of who made an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value of what the operator made; also the field manager of all that the operator writes.
pub const MANAGER: &str = "heteroloco-operator";
/// `spec.managedBy` of a run that this operator looks after, as it does where the field is absent.
pub const OPERATOR: &str = "heteroloco.dev/operator";
/// The label of what an object is a part of: [`WORKER`] or [`COORDINATOR`].
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The component of ranks, and the container in a rank's pod.
pub const WORKER: &str = "worker";
/// The component of coordinators, and the container in a coordinator's pod.
pub const COORDINATOR: &str = "coordinator";
/// The label of an object's run.
pub const RUN: &str = "heteroloco.dev/run";
/// The label of a pod that is of an island.
pub const ISLAND: &str = "heteroloco.dev/island";
/// The label with the epoch of a rank's pod.
pub const EPOCH: &str = "heteroloco.dev/epoch";
/// The label with the rank of a pod.
pub const RANK: &str = "heteroloco.dev/rank";
/// The label of the pool that made an island.
pub const POOL: &str = "heteroloco.dev/pool";
/// The label with Kueue's queue, which islands hand on to their pods.
pub const QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// The longest name of a pod or Service is a DNS label, bytes.
const LABEL_MAX: usize = 63;

/// An object of a kind, by its namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Empty of objects that are in none.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The object of this name there.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// An object's own.
    pub fn of<K: Resource>(object: &K) -> Self {
        let metadata = object.meta();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self { namespace: text(&metadata.namespace), name: text(&metadata.name) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The pod of a rank.
pub fn pod(island: &str, epoch: u64, rank: usize) -> String {
    limited(island, &format!("-e{epoch}-r{rank}"))
}

/// Whether this is the name of a rank's pod of an island, of whatever epoch.
pub fn is_pod_of(pod: &str, island: &str) -> bool {
    let place = pod.rsplit_once("-r").and_then(|(rest, rank)| {
        let (_, epoch) = rest.rsplit_once("-e")?;
        Some((epoch.parse().ok()?, rank.parse().ok()?))
    });
    place.is_some_and(|(epoch, rank)| self::pod(island, epoch, rank) == pod)
}

/// The ConfigMap with what the ranks of an epoch are told.
pub fn plan(island: &str, epoch: u64) -> String {
    limited(island, &format!("-e{epoch}"))
}

/// The coordinator's objects of a run.
pub fn coordinator(run: &str) -> String {
    let digit = run.starts_with(|first: char| first.is_ascii_digit());
    // The name of a Service begins with a letter.
    if digit {
        limited(&format!("run-{run}"), "-coordinator")
    } else {
        limited(run, "-coordinator")
    }
}

/// The ConfigMap with what a run's islands agree on.
pub fn record(run: &str) -> String {
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
pub fn label(name: &str) -> String {
    if name.len() <= LABEL_MAX { name.to_owned() } else { limited(name, "") }
}

/// Labels that every object of a component has.
pub fn labels(component: &str, run: &str) -> BTreeMap<String, String> {
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
    fn the_pods_of_an_island_are_known_by_their_names() {
        let long = "a".repeat(200);
        for island in ["lab", "lab-e1-r0", "lab.example", &long] {
            assert!(is_pod_of(&pod(island, 12, 3), island), "{island}");
        }
        for other in ["lab", "lab-e1", "lab-e1-r", "lab-ex-r0", "lab-e1-r0-x", "labs-e1-r0"] {
            assert!(!is_pod_of(other, "lab"), "{other}");
        }
        assert!(!is_pod_of("lab-e1-r0-e2-r0", "lab"), "of island lab-e1-r0");
    }

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
