//! Which cards of a cluster are idle: what nodes offer, less what pods hold and what plans have set
//! aside. What counts is decided by `api::occupancy`, as for the operator.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use api::island::ComputeIsland;
use api::names::Key;
use api::nodes::{Devices, Slice, Usable};
use api::occupancy::{self, Claims, Taint};
use k8s_openapi::api::core::v1::{Node as Object, Pod};
use k8s_openapi::jiff::Timestamp;
use plan::cluster::Node;
use plan::words::named;

/// Holders and nodes that a sentence names.
const NAMED: usize = 4;

/// Who holds cards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    Island(Key),
    Pod(Key),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Island(key) => write!(f, "island {key}"),
            Self::Pod(key) => write!(f, "pod {key}"),
        }
    }
}

/// Cards held on each node, by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    nodes: BTreeMap<String, BTreeMap<Holder, u32>>,
    /// When cards of a node last went to or came from pods of no island, as these say it: of pods
    /// that were deleted nothing is known.
    changed: BTreeMap<String, Timestamp>,
}

impl Held {
    /// By pods that have not ended, and by plans whose pods are not there yet.
    pub(super) fn of(pods: &[Pod], islands: &[ComputeIsland]) -> Self {
        let mut held = Self::default();
        for pod in pods {
            held.take(pod);
        }
        for island in islands {
            let plan = island.status.as_ref().and_then(|status| status.plan.as_ref());
            let promised = plan.map(|plan| occupancy::promised(plan.phase, &plan.ranks));
            for (node, cards) in promised.into_iter().flatten() {
                let on = held.nodes.entry(node.to_owned()).or_default();
                let count = on.entry(Holder::Island(Key::of(island))).or_default();
                *count = cards.max(*count);
            }
        }
        held
    }

    fn take(&mut self, pod: &Pod) {
        if let Some(holding) = occupancy::holding(pod) {
            let own = Key::of(pod);
            let holder = match holding.island {
                Some(island) => Holder::Island(Key::new(own.namespace, island)),
                None => Holder::Pod(own),
            };
            let on = self.nodes.entry(holding.node).or_default();
            let count = on.entry(holder).or_default();
            *count = count.saturating_add(holding.cards);
        }
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        if let (Some(node), Some(changed)) = (node, occupancy::changed(pod)) {
            let last = self.changed.entry(node).or_insert(changed);
            *last = changed.max(*last);
        }
    }
}

/// A node with its idle cards.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Free {
    pub node: Node,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    /// Cards that the planned islands hold there now.
    own: u32,
    changed: Option<Timestamp>,
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
pub(super) fn idle(
    objects: Vec<Object>,
    slices: &[Slice],
    held: &Held,
    own: &BTreeSet<Key>,
) -> Idle {
    let mut devices: BTreeMap<&str, Vec<&Slice>> = BTreeMap::new();
    for slice in slices {
        devices.entry(&slice.node).or_default().push(slice);
    }
    let mut found = Idle::default();
    for object in objects {
        let name = object.metadata.name.clone().unwrap_or_default();
        let own_slices = devices.get(name.as_str()).into_iter().flatten();
        // Some are missing while the driver writes them: labels count as long.
        let devices = Devices::of(own_slices.copied());
        match api::nodes::of_object(object, devices.as_ref()) {
            Ok(usable) => found.put(usable, held, own),
            Err(why) => found.told.entry(why.to_string()).or_default().push(name),
        }
    }
    found
}

impl Idle {
    fn put(&mut self, usable: Usable, held: &Held, own: &BTreeSet<Key>) {
        let Usable { mut node, labels, taints, notes } = usable;
        for note in notes {
            self.told.entry(note).or_default().push(node.name.clone());
        }
        self.nodes += 1;
        self.cards += node.cards.len();
        let mut claims = Claims { all: node.cards.len() as u32, ..Claims::default() };
        for (holder, cards) in held.nodes.get(&node.name).into_iter().flatten() {
            let sum = match holder {
                Holder::Island(key) if own.contains(key) => &mut claims.own,
                Holder::Island(_) => &mut claims.others,
                Holder::Pod(_) => &mut claims.foreign,
            };
            *sum = sum.saturating_add(*cards);
            if !matches!(holder, Holder::Island(key) if own.contains(key)) {
                let sum = self.held.entry(holder.clone()).or_default();
                *sum = sum.saturating_add(*cards);
            }
        }
        // Islands share the nodes of a plan, so that what has to settle is asked of each later.
        let (left, _) = claims.left(None);
        node.cards.truncate(left as usize);
        if !node.cards.is_empty() {
            let changed = held.changed.get(&node.name).copied();
            self.free.push(Free { node, labels, taints, own: claims.own, changed });
        }
    }

    /// Cards that nobody holds.
    pub(super) fn count(&self) -> usize {
        self.free.iter().map(|free| free.node.cards.len()).sum()
    }

    /// Names of nodes on which an island's pods may be, and what keeps them from others, a clause
    /// each.
    pub(super) fn selected(&mut self, island: &ComputeIsland, now: Timestamp) -> BTreeSet<String> {
        let spec = &island.spec;
        let name = island.metadata.name.clone().unwrap_or_default();
        let cooldown = occupancy::cooldown(island);
        let mut names = BTreeSet::new();
        for free in &self.free {
            let node = &free.node.name;
            if !spec.node_selector.as_ref().is_none_or(|it| it.selects(&free.labels)) {
                continue;
            }
            let settles = occupancy::settles(cooldown, free.changed, now);
            let why = match (occupancy::kept_away(&free.taints, &spec.tolerations), settles) {
                (Some(taint), _) => format!("tainted {taint}, which {name} does not tolerate"),
                (None, Some(wait)) if free.own == 0 => format!(
                    "its cards were in use lately, and count for {name} in {} s",
                    wait.as_secs().max(1)
                ),
                _ => {
                    names.insert(node.clone());
                    continue;
                }
            };
            self.told.entry(why).or_default().push(node.clone());
        }
        names
    }

    /// Who holds cards, and what is to be said of nodes, a sentence each.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = Vec::new();
        if !self.held.is_empty() {
            let mut held: Vec<_> = self.held.iter().collect();
            held.sort_by_key(|(_, cards)| std::cmp::Reverse(**cards));
            let holders = held.iter().map(|(holder, cards)| format!("{holder} holds {cards}"));
            let holders = named(&holders.collect::<Vec<_>>(), NAMED);
            notes.push(format!("cards that are not idle: {holders}"));
        }
        notes.extend(self.told.iter().map(|(why, nodes)| {
            let what = if nodes.len() == 1 { "node" } else { "nodes" };
            format!("{what} {}: {why}", named(nodes, NAMED))
        }));
        notes
    }
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    use api::island::Toleration;
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
        let own = own.iter().map(|name| Key::new("ml", *name)).collect();
        let nodes = vec![node("a", 8, plain()), node("b", 4, plain())];
        let free = idle(nodes, &[], held, &own).free.into_iter();
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
        let found = idle(nodes, &[], &held, &BTreeSet::new());
        assert_eq!((found.nodes, found.cards, found.count()), (2, 12, 5));
        let expected = "cards that are not idle: pod ml/much holds 9, island ml/lab holds 2, \
                        pod ml/other holds 1";
        assert_eq!(found.notes(), [expected]);
    }

    #[test]
    fn a_plan_holds_its_cards_before_its_pods_are_there_and_not_twice() {
        let pods = [pod("lab-e1-r0", "a", 2, "Running", Some("lab"))];
        let phases =
            [("Starting", 5), ("Planned", 5), ("Stopping", 5), ("Waiting", 6), ("Failed", 6)];
        for (phase, expected) in phases {
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
        let found = idle(nodes, &[], &Held::default(), &BTreeSet::new());
        let names = |tolerations: Vec<Toleration>| {
            let mut island = planned("lab", "Waiting", "a", 1);
            island.spec.tolerations = tolerations;
            let mut found = found.clone();
            let names: Vec<_> =
                found.selected(&island, Timestamp::UNIX_EPOCH).into_iter().collect();
            (names, found.notes())
        };
        let named =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let note = "node a: tainted team=x:NoSchedule, which lab does not tolerate".to_owned();
        assert_eq!(names(vec![]), (named(&["b", "c"]), vec![note]));
        let key = Some("team".to_owned());
        let value = Some("x".to_owned());
        let tolerates = vec![Toleration { key, value, ..Toleration::default() }];
        assert_eq!(names(tolerates), (named(&["a", "b", "c"]), vec![]));
    }

    #[test]
    fn cards_are_known_by_the_driver_s_slices_before_labels() {
        let mut unlabelled = node("a", 2, plain());
        unlabelled.metadata.labels = None;
        let card = json!({"name": "gpu-0", "attributes": {
            "type": {"string": "gpu"}, "productName": {"string": "NVIDIA H100 80GB HBM3"},
        }, "capacity": {"memory": {"value": "81559Mi"}}});
        let slice = Slice::of(
            serde_json::from_value(json!({"metadata": {"name": "a-x"}, "spec": {
                "driver": "gpu.nvidia.com", "nodeName": "a",
                "pool": {"name": "a", "generation": 1, "resourceSliceCount": 1},
                "devices": [card, card],
            }}))
            .expect("a slice"),
        );
        let none = BTreeSet::new();
        let without = idle(vec![unlabelled.clone()], &[], &Held::default(), &none);
        assert_eq!(without.cards, 0);
        let slices: Vec<Slice> = slice.into_iter().collect();
        assert_eq!(idle(vec![unlabelled], &slices, &Held::default(), &none).cards, 2);
    }

    #[test]
    fn cards_that_are_being_freed_for_a_pod_are_not_idle() {
        let mut preempts = pod("urgent", "a", 3, "Pending", None);
        preempts.spec.get_or_insert_default().node_name = None;
        preempts.status.get_or_insert_default().nominated_node_name = Some("a".into());
        assert_eq!(left(&Held::of(&[preempts], &[]), &[])[0], ("a".into(), 5));
    }

    #[test]
    fn an_island_that_harvests_waits_until_cards_were_idle_for_its_cooldown() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let mut ended = pod("ended", "a", 2, "Succeeded", None);
        ended.status.get_or_insert_default().start_time =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1000)));
        let held = Held::of(&[ended], &[]);
        let mut island = planned("lab", "Waiting", "a", 1);
        let nodes = || vec![node("a", 8, plain())];
        let mut found = idle(nodes(), &[], &held, &BTreeSet::new());
        assert_eq!(found.selected(&island, at(1001)).len(), 1, "it does not harvest");
        let idles = json!({"policy": "Harvest", "cooldown": "5m"});
        island.spec.idle = serde_json::from_value(idles).expect("idle");
        assert_eq!(found.selected(&island, at(1100)).len(), 0);
        let note = "node a: its cards were in use lately, and count for lab in 200 s";
        assert_eq!(found.notes(), [note]);
        assert_eq!(found.selected(&island, at(1300)).len(), 1);
        let own = Held::of(&[pod("r0", "a", 2, "Running", Some("lab"))], &[]);
        let held = Held { changed: held.changed, ..own };
        let mut found = idle(nodes(), &[], &held, &[Key::of(&island)].into());
        assert_eq!(found.selected(&island, at(1100)).len(), 1, "its own cards are idle");
    }

    #[test]
    fn a_node_that_cannot_be_used_is_named_with_why() {
        let mut cordoned = node("a", 8, plain());
        cordoned.spec.get_or_insert_default().unschedulable = Some(true);
        let found = idle(vec![cordoned], &[], &Held::default(), &BTreeSet::new());
        let [note] = &found.notes()[..] else { panic!("one note") };
        assert!(note.starts_with("node a: left out, cordoned"), "{note}");
    }
}
