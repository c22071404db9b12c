//! Which nodes an island's pods may be on, remembered until a node changes.

use std::collections::HashMap;
use std::sync::Arc;

use api::island::ComputeIsland;

use crate::inventory::Inventory;
use crate::island::selects;

/// All nodes are gone through only when one has changed: pods come and go much more often.
#[derive(Debug, Default)]
pub(crate) struct Selections {
    /// Of the inventory that this is true of.
    version: u64,
    /// By node selector and tolerations, which many islands share.
    nodes: HashMap<String, Arc<[String]>>,
}

impl Selections {
    /// The names of the nodes, in their order.
    pub(crate) fn of(&mut self, island: &ComputeIsland, inventory: &Inventory) -> Arc<[String]> {
        if self.version != inventory.version() {
            *self = Self { version: inventory.version(), nodes: HashMap::new() };
        }
        let spec = &island.spec;
        let key = serde_json::json!([spec.node_selector, spec.tolerations]).to_string();
        let select = || {
            let own = inventory.nodes().filter(|(_, facts)| selects(island, facts));
            own.map(|(name, _)| name.to_owned()).collect()
        };
        Arc::clone(self.nodes.entry(key).or_insert_with(select))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, zone: &str, taints: Value) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {
                "topology.kubernetes.io/zone": zone,
                "nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.count": "1",
            }},
            "spec": {"taints": taints},
            "status": {"allocatable": {"nvidia.com/gpu": "1"}},
        }))
        .expect("a node")
    }

    fn island(selector: Value) -> ComputeIsland {
        serde_json::from_value(json!({
            "metadata": {"name": "lab"},
            "spec": {
                "runRef": {"name": "mini"}, "devices": [{"product": "NVIDIA-L4"}],
                "nodeSelector": selector,
            },
        }))
        .expect("an island")
    }

    #[test]
    fn nodes_are_gone_through_again_when_one_has_changed_and_not_before() {
        let (mut inventory, mut selections) = (Inventory::new(vec![None]), Selections::default());
        let east = island(json!({"matchLabels": {"topology.kubernetes.io/zone": "east"}}));
        let mut of = |inventory: &Inventory| selections.of(&east, inventory);
        let open = || json!([]);
        inventory.node(Event::Apply(node("a", "east", open())));
        inventory.node(Event::Apply(node("b", "west", open())));
        let first = of(&inventory);
        assert_eq!(*first, ["a"]);
        inventory.node(Event::Apply(node("b", "west", open())));
        assert!(Arc::ptr_eq(&first, &of(&inventory)), "nothing has changed");
        inventory.node(Event::Apply(node("b", "east", open())));
        assert_eq!(*of(&inventory), ["a", "b"]);
        let kept = json!([{"key": "kept", "effect": "NoSchedule"}]);
        inventory.node(Event::Apply(node("b", "east", kept)));
        assert_eq!(*of(&inventory), ["a"]);
        inventory.node(Event::Delete(node("a", "east", open())));
        assert!(of(&inventory).is_empty());
        inventory.node(Event::Apply(node("c", "east", open())));
        inventory.node(Event::Init);
        inventory.node(Event::InitDone);
        assert!(of(&inventory).is_empty(), "the list lacks it");
    }

    #[test]
    fn islands_that_select_alike_share_a_list_and_others_do_not() {
        let (mut inventory, mut selections) = (Inventory::new(vec![None]), Selections::default());
        inventory.node(Event::Apply(node("a", "east", json!([]))));
        let all = selections.of(&island(Value::Null), &inventory);
        assert!(Arc::ptr_eq(&all, &selections.of(&island(Value::Null), &inventory)));
        let west = json!({"matchLabels": {"topology.kubernetes.io/zone": "west"}});
        assert!(selections.of(&island(west), &inventory).is_empty());
    }
}
