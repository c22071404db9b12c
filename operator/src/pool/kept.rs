//! Which island of a pool goes on as which: one whose group gained or lost a node is still the same
//! island, whatever the group would be called now. Its spec changes, and it is planned anew.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use api::island::ComputeIsland;
use kube::ResourceExt;

/// Longest name of an object that is a label, too.
const NAME_MAX: usize = 63;

/// Gives islands that are wanted the names of those there that have most nodes in common with them,
/// of the pool with this uid.
pub(super) fn names(wanted: &mut [ComputeIsland], there: &[ComputeIsland], pool: Option<&str>) {
    // Those that end have no nodes any more, nor has somebody else's, for all the labels it has.
    let own = |island: &ComputeIsland| {
        island.metadata.deletion_timestamp.is_none()
            && island.owner_references().iter().any(|owner| Some(owner.uid.as_str()) == pool)
    };
    let of = |island| if own(island) { nodes(island) } else { BTreeSet::new() };
    let old: Vec<BTreeSet<String>> = there.iter().map(of).collect();
    let mut pairs = Vec::new();
    for (new, island) in wanted.iter().enumerate() {
        let own = nodes(island);
        for (at, nodes) in old.iter().enumerate() {
            let common = own.intersection(nodes).count();
            if common > 0 {
                let same = island.name_any() == there[at].name_any();
                let as_it_is = island.spec == there[at].spec;
                pairs.push((Reverse((common, as_it_is, same)), new, at));
            }
        }
    }
    pairs.sort_unstable();
    let mut goes_on: Vec<Option<usize>> = vec![None; wanted.len()];
    let mut taken = BTreeSet::new();
    for (_, new, at) in pairs {
        if goes_on[new].is_none() && taken.insert(at) {
            goes_on[new] = Some(at);
        }
    }
    // One that is new must not have the name of one that was there: that may just be ending.
    let mut names: BTreeSet<String> = there.iter().map(ResourceExt::name_any).collect();
    for (island, goes_on) in wanted.iter_mut().zip(goes_on) {
        let name = match goes_on {
            Some(at) => there[at].name_any(),
            None => free(island.name_any(), &names),
        };
        names.insert(name.clone());
        island.metadata.name = Some(name);
    }
}

/// The name, with a number where it is taken.
fn free(name: String, taken: &BTreeSet<String>) -> String {
    let numbered = (2..).map(|number: u32| {
        let end = format!("-{number}");
        // Names are DNS labels, so each byte is a character.
        format!("{}{end}", &name[..name.len().min(NAME_MAX - end.len())])
    });
    let mut names = std::iter::once(name.clone()).chain(numbered);
    names.find(|name| !taken.contains(name)).unwrap_or(name)
}

/// Hostnames of an island's nodes.
fn nodes(island: &ComputeIsland) -> BTreeSet<String> {
    let selector = island.spec.node_selector.as_ref();
    let all = selector.into_iter().flat_map(|selector| &selector.match_expressions);
    all.flat_map(|requirement| &requirement.values).cloned().collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;

    fn island(name: &str, nodes: &[&str]) -> ComputeIsland {
        let spec = serde_json::json!({
            "runRef": {"name": "run"}, "devices": [{"product": "NVIDIA-L4"}],
            "nodeSelector": {"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": nodes},
            ]},
        });
        let mut island = ComputeIsland::new(name, serde_json::from_value(spec).unwrap());
        island.metadata.owner_references =
            Some(vec![OwnerReference { uid: "pool".into(), ..OwnerReference::default() }]);
        island
    }

    #[test]
    fn an_island_keeps_its_name_when_nodes_come_and_go() {
        type Group = (&'static str, &'static [&'static str]);
        let table: [(&[Group], &[Group], &[&str]); 6] = [
            (&[], &[("a", &["1"])], &["a"]),
            (&[("a", &["1"])], &[("a-and-1", &["1", "2"])], &["a"]),
            (&[("a", &["1", "2"])], &[("b", &["2"])], &["a"]),
            // Split: the larger part goes on.
            (&[("a", &["1", "2", "3"])], &[("a", &["1"]), ("b", &["2", "3"])], &["a-2", "a"]),
            // Joined: the larger part goes on.
            (&[("a", &["1"]), ("b", &["2", "3"])], &[("a", &["1", "2", "3"])], &["b"]),
            // Of other nodes altogether: another island.
            (&[("a", &["1"])], &[("a", &["9"])], &["a-2"]),
        ];
        for (there, wanted, expected) in table {
            let make = |groups: &[Group]| -> Vec<ComputeIsland> {
                groups.iter().map(|(name, nodes)| island(name, nodes)).collect()
            };
            let mut islands = make(wanted);
            names(&mut islands, &make(there), Some("pool"));
            let found: Vec<String> = islands.iter().map(ResourceExt::name_any).collect();
            assert_eq!(found, expected, "{there:?} -> {wanted:?}");
        }
        let mut islands = [island("b", &["1"])];
        names(&mut islands, &[island("a", &["1"])], Some("another pool"));
        assert_eq!(islands[0].name_any(), "b", "somebody else's is left alone");
        let long = "x".repeat(63);
        let taken = BTreeSet::from([long.clone()]);
        assert_eq!(free(long, &taken), format!("{}-2", "x".repeat(61)));
    }
}
