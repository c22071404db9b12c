//! Which cards of a cluster are idle: what nodes offer, less what pods hold and what plans have set
//! aside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use api::island::{ComputeIsland, PlanPhase, Toleration};
use api::nodes::Usable;
use api::selector::NodeSelector;
use k8s_openapi::api::core::v1::{Container, Node as Object, Pod, PodSpec};
use plan::cluster::Node;

use super::pods;

/// The resource that NVIDIA's device plugin offers whole cards as, and its own taint, which
/// Kubernetes lets pods tolerate that ask for cards.
const GPU: &str = "nvidia.com/gpu";
/// Holders and nodes that a sentence names.
const NAMED: usize = 4;

/// A namespace and a name.
pub(super) type Key = (String, String);

/// Who holds cards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    Island(Key),
    Pod(Key),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Island((namespace, name)) => write!(f, "island {namespace}/{name}"),
            Self::Pod((namespace, name)) => write!(f, "pod {namespace}/{name}"),
        }
    }
}

/// Cards held on each node, by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held(BTreeMap<String, BTreeMap<Holder, u32>>);

impl Held {
    /// By pods that have not ended, and by plans whose pods are not there yet.
    pub(super) fn of(pods: &[Pod], islands: &[ComputeIsland]) -> Self {
        let mut held = Self::default();
        for pod in pods {
            let Some((node, holder, cards)) = holding(pod) else { continue };
            let count = held.0.entry(node).or_default().entry(holder).or_default();
            *count = count.saturating_add(cards);
        }
        for (node, island, cards) in islands.iter().flat_map(promised) {
            let holder = Holder::Island(island);
            let count = held.0.entry(node).or_default().entry(holder).or_default();
            *count = cards.max(*count);
        }
        held
    }
}

/// A pod's node, who it is, and its cards.
fn holding(pod: &Pod) -> Option<(String, Holder, u32)> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let spec = pod.spec.as_ref().filter(|_| !matches!(phase, Some("Succeeded" | "Failed")))?;
    let (node, cards) = (spec.node_name.clone()?, cards(spec));
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let holder = match pods::island(pod) {
        Some(island) => Holder::Island((namespace, island.to_owned())),
        None => Holder::Pod((namespace, pod.metadata.name.clone().unwrap_or_default())),
    };
    (cards > 0).then_some((node, holder, cards))
}

/// Cards that a pod asks for: of containers together, or of the init container with the most.
fn cards(spec: &PodSpec) -> u32 {
    let of = |container: &Container| {
        let limits = container.resources.as_ref()?.limits.as_ref()?;
        limits.get(GPU)?.0.parse::<u32>().ok()
    };
    let together = spec.containers.iter().filter_map(of).fold(0, u32::saturating_add);
    together.max(spec.init_containers.iter().flatten().filter_map(of).max().unwrap_or(0))
}

/// What a plan has set aside, rank by rank summed over a node.
fn promised(island: &ComputeIsland) -> Vec<(String, Key, u32)> {
    let plan = island.status.as_ref().and_then(|status| status.plan.as_ref());
    let holds = [PlanPhase::Planned, PlanPhase::Starting, PlanPhase::Running];
    let mut nodes: BTreeMap<&str, u32> = BTreeMap::new();
    for rank in plan.filter(|plan| holds.contains(&plan.phase)).iter().flat_map(|it| &it.ranks) {
        let count = nodes.entry(&rank.node).or_default();
        *count = count.saturating_add(rank.count);
    }
    let key = key(island);
    nodes.into_iter().map(|(node, cards)| (node.to_owned(), key.clone(), cards)).collect()
}

/// An island's namespace and name.
pub(super) fn key(island: &ComputeIsland) -> Key {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&island.metadata.namespace), text(&island.metadata.name))
}

/// A node with its idle cards.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Free {
    pub node: Node,
    labels: BTreeMap<String, String>,
    /// Taints that keep pods away: key, value, effect.
    taints: Vec<(String, String, String)>,
}

impl Free {
    fn admits(&self, tolerations: &[Toleration]) -> bool {
        self.taints.iter().all(|(key, value, effect)| {
            key == GPU || tolerations.iter().any(|it| it.tolerates(key, value, effect))
        })
    }
}

/// What there is to plan with.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Idle {
    /// Nodes with idle cards.
    pub free: Vec<Free>,
    /// Nodes with cards that can be used, idle or not.
    pub nodes: usize,
    /// Cards of these nodes.
    pub cards: usize,
    /// Who holds cards of them, and how many.
    held: BTreeMap<Holder, u32>,
    /// Nodes whose cards cannot be used, by why, and those of which something else is to be said.
    told: BTreeMap<String, Vec<String>>,
}

/// The idle cards of nodes, where islands of `own` hold none: they are planned anew.
pub(super) fn idle(objects: Vec<Object>, held: &Held, own: &BTreeSet<Key>) -> Idle {
    let mut found = Idle::default();
    for object in objects {
        let name = object.metadata.name.clone().unwrap_or_default();
        let taints = taints(&object);
        let Usable { mut node, labels, notes, .. } = match api::nodes::of_object(object, None) {
            Ok(usable) => usable,
            Err(why) => {
                found.told.entry(why).or_default().push(name);
                continue;
            }
        };
        for note in notes {
            found.told.entry(note).or_default().push(name.clone());
        }
        found.nodes += 1;
        found.cards += node.cards.len();
        let mut taken = 0_u32;
        for (holder, cards) in held.0.get(&name).into_iter().flatten() {
            if matches!(holder, Holder::Island(key) if own.contains(key)) {
                continue;
            }
            taken = taken.saturating_add(*cards);
            *found.held.entry(holder.clone()).or_default() += cards;
        }
        node.cards.truncate(node.cards.len().saturating_sub(taken as usize));
        if !node.cards.is_empty() {
            found.free.push(Free { node, labels, taints });
        }
    }
    found
}

fn taints(object: &Object) -> Vec<(String, String, String)> {
    let all = object.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let keeps_away = all.filter(|taint| taint.effect != "PreferNoSchedule");
    keeps_away
        .map(|it| (it.key.clone(), it.value.clone().unwrap_or_default(), it.effect.clone()))
        .collect()
}

impl Idle {
    /// Cards that nobody holds.
    pub(super) fn count(&self) -> usize {
        self.free.iter().map(|free| free.node.cards.len()).sum()
    }

    /// Names of nodes on which an island's pods may be.
    pub(super) fn selected(
        &self,
        selector: Option<&NodeSelector>,
        tolerations: &[Toleration],
    ) -> BTreeSet<String> {
        let may = |free: &&Free| {
            selector.is_none_or(|selector| selector.selects(&free.labels))
                && free.admits(tolerations)
        };
        self.free.iter().filter(may).map(|free| free.node.name.clone()).collect()
    }

    /// Who holds cards, and what is to be said of nodes, a sentence each.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = Vec::new();
        if !self.held.is_empty() {
            let mut held: Vec<_> = self.held.iter().collect();
            held.sort_by_key(|(_, cards)| std::cmp::Reverse(**cards));
            let named = held.iter().map(|(holder, cards)| format!("{holder} holds {cards}"));
            notes.push(format!("cards that are not idle: {}", some(named.collect())));
        }
        notes.extend(self.told.iter().map(|(why, nodes)| {
            let what = if nodes.len() == 1 { "node" } else { "nodes" };
            format!("{what} {}: {why}", some(nodes.clone()))
        }));
        notes
    }
}

/// Some of them by name, and how many more there are.
fn some(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let named = names.join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, cards: u32, taint: Value) -> Object {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {
                "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
                "nvidia.com/gpu.count": cards.to_string(), "nvidia.com/gpu.memory": "81559",
            }},
            "spec": {"taints": [taint]},
            "status": {"allocatable": {"nvidia.com/gpu": cards.to_string()}},
        }))
        .expect("a node")
    }

    fn pod(name: &str, node: &str, cards: u32, phase: &str, island: Option<&str>) -> Pod {
        let limits = json!({"resources": {"limits": {"nvidia.com/gpu": cards.to_string()}}});
        let mut pod = json!({
            "metadata": {"namespace": "ml", "name": name, "labels": {}},
            "spec": {"nodeName": node, "containers": [limits]},
            "status": {"phase": phase},
        });
        pod["spec"]["containers"][0]["name"] = "worker".into();
        if let Some(island) = island {
            pod["metadata"]["labels"] = json!({
                "app.kubernetes.io/managed-by": "heteroloco-operator",
                "heteroloco.dev/island": island,
            });
        }
        serde_json::from_value(pod).expect("a pod")
    }

    fn planned(name: &str, phase: &str, node: &str, cards: u32) -> ComputeIsland {
        let rank = json!({
            "node": node, "product": "NVIDIA-H100-80GB-HBM3", "count": cards, "layers": "0-3",
            "memory": "1Gi", "headroom": "1Gi",
        });
        serde_json::from_value(json!({
            "apiVersion": "heteroloco.dev/v1alpha1", "kind": "ComputeIsland",
            "metadata": {"name": name, "namespace": "ml"},
            "spec": {"runRef": {"name": "mini"}, "devices": [{"product": "NVIDIA-H100*"}]},
            "status": {"plan": {
                "epoch": 1, "generation": 1, "phase": phase, "since": "2026-01-01T00:00:00Z",
                "index": 0, "layout": "1×1×1", "cards": cards, "memory": "80Gi",
                "stepSeconds": "1.0", "tokensPerSecond": 1, "ranks": [rank],
            }},
        }))
        .expect("an island")
    }

    fn plain() -> Value {
        json!({"key": "nvidia.com/gpu", "effect": "NoSchedule"})
    }

    fn left(held: &Held, own: &[&str]) -> Vec<(String, usize)> {
        let own = own.iter().map(|name| ("ml".to_owned(), (*name).to_owned())).collect();
        let nodes = vec![node("a", 8, plain()), node("b", 4, plain())];
        let free = idle(nodes, held, &own).free.into_iter();
        free.map(|free| (free.node.name.clone(), free.node.cards.len())).collect()
    }

    #[test]
    fn cards_are_idle_that_no_living_pod_and_no_plan_of_others_holds() {
        let pods = [
            pod("lab-e1-r0", "a", 2, "Running", Some("lab")),
            pod("other", "a", 1, "Pending", None),
            pod("ended", "a", 4, "Succeeded", None),
            pod("much", "b", 9, "Running", None),
        ];
        let held = Held::of(&pods, &[]);
        assert_eq!(left(&held, &[]), [("a".into(), 5)]);
        assert_eq!(left(&held, &["lab"]), [("a".into(), 7)]);
        let nodes = vec![node("a", 8, plain()), node("b", 4, plain())];
        let found = idle(nodes, &held, &BTreeSet::new());
        assert_eq!((found.nodes, found.cards, found.count()), (2, 12, 5));
        let expected = "cards that are not idle: pod ml/much holds 9, island ml/lab holds 2, \
                        pod ml/other holds 1";
        assert_eq!(found.notes(), [expected]);
    }

    #[test]
    fn a_plan_holds_its_cards_before_its_pods_are_there_and_not_twice() {
        let pods = [pod("lab-e1-r0", "a", 2, "Running", Some("lab"))];
        for (phase, expected) in [("Starting", 5), ("Planned", 5), ("Waiting", 6), ("Failed", 6)] {
            let held = Held::of(&pods, &[planned("lab", phase, "a", 3)]);
            assert_eq!(left(&held, &[])[0], ("a".into(), expected), "{phase}");
            assert_eq!(left(&held, &["lab"])[0], ("a".into(), 8), "{phase}");
        }
    }

    #[test]
    fn nodes_are_left_to_islands_that_tolerate_their_taints() {
        let taint = json!({"key": "team", "value": "x", "effect": "NoSchedule"});
        let soft = json!({"key": "team", "value": "x", "effect": "PreferNoSchedule"});
        let nodes = vec![node("a", 1, taint), node("b", 1, soft), node("c", 1, plain())];
        let found = idle(nodes, &Held::default(), &BTreeSet::new());
        let names = |tolerations: &[Toleration]| {
            found.selected(None, tolerations).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["b", "c"]);
        let key = Some("team".to_owned());
        let value = Some("x".to_owned());
        assert_eq!(names(&[Toleration { key, value, ..Toleration::default() }]), ["a", "b", "c"]);
    }

    #[test]
    fn a_node_that_cannot_be_used_is_named_with_why() {
        let mut cordoned = node("a", 8, plain());
        cordoned.spec.get_or_insert_default().unschedulable = Some(true);
        let found = idle(vec![cordoned], &Held::default(), &BTreeSet::new());
        let [note] = &found.notes()[..] else { panic!("one note") };
        assert!(note.starts_with("node a: left out, cordoned"), "{note}");
    }
}
