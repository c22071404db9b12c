//! Which island of a pool goes on as which: one whose group gained or lost a node is still the same
//! island, whatever the group would be called now. Its spec changes, and it is planned anew.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use api::island::ComputeIsland;
use kube::ResourceExt;

/// Longest name of an object that is a label, too.
const NAME_MAX: usize = 63;

/// Gives islands that are wanted the names of those there that have most nodes in common with them.
pub(super) fn names(wanted: &mut [ComputeIsland], there: &[ComputeIsland]) {
    let old: Vec<BTreeSet<String>> = there.iter().map(nodes).collect();
    let mut pairs = Vec::new();
    for (new, island) in wanted.iter().enumerate() {
        let own = nodes(island);
        for (at, nodes) in old.iter().enumerate() {
            let common = own.intersection(nodes).count();
            if common > 0 {
                let same = island.name_any() == there[at].name_any();
                pairs.push((Reverse((common, same)), new, at));
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
    use super::*;

    fn island(name: &str, nodes: &[&str]) -> ComputeIsland {
        let spec = serde_json::json!({
            "runRef": {"name": "run"}, "devices": [{"product": "NVIDIA-L4"}],
            "nodeSelector": {"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": nodes},
            ]},
        });
        ComputeIsland::new(name, serde_json::from_value(spec).unwrap())
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
            names(&mut islands, &make(there));
            let found: Vec<String> = islands.iter().map(ResourceExt::name_any).collect();
            assert_eq!(found, expected, "{there:?} -> {wanted:?}");
        }
        let long = "x".repeat(63);
        let taken = BTreeSet::from([long.clone()]);
        assert_eq!(free(long, &taken), format!("{}-2", "x".repeat(61)));
    }
}
