//! Names of islands, from whatever nodes and places are called.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// As Kubernetes has it: RFC 1123, at most 63 bytes.
fn is_label(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Texts that come near each other, and any at all.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]{0,2}-?[1-3]{0,1}", "[a-zA-Z0-9._-]{40,80}", any::<String>()]
}

proptest! {
    #[test]
    fn whatever_places_are_called_islands_have_labels_of_their_own(
        texts in prop::collection::vec(any_text(), 0..40),
    ) {
        let asked: Vec<&str> = texts.iter().map(String::as_str).collect();
        let names = unique_names(&asked);
        prop_assert_eq!(names.len(), texts.len());
        prop_assert!(names.iter().all(|name| is_label(name)), "{names:?}");
        prop_assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{:?}", names);
    }

    #[test]
    fn every_sort_of_place_makes_a_label(
        (first, second) in (any_text(), any_text()),
        nodes in 2_usize..2000,
        zone in any::<bool>(),
    ) {
        let zone = zone.then_some(second.as_str());
        let places = [
            Domain::Node(&first),
            Domain::Clique(&first),
            Domain::Rack(zone, &first),
            Domain::Zone(&first),
            Domain::Network(&first, nodes),
            Domain::Anywhere(&first, nodes),
        ];
        for place in places {
            prop_assert!(is_label(&name::of(&place)), "{place}: {}", name::of(&place));
        }
    }
}

#[test]
fn a_place_is_said_by_what_it_is() {
    let table = [
        (Domain::Node("n1"), "n1", "node n1"),
        (Domain::Clique("nv.7"), "nv-7", "clique nv.7"),
        (Domain::Rack(Some("East"), "r1"), "east-r1", "rack r1 of zone East"),
        (Domain::Rack(None, "r1"), "r1", "rack r1"),
        (Domain::Zone("east"), "east", "zone east"),
        (Domain::Network("n1", 3), "n1-and-2", "a fast network"),
        (Domain::Anywhere("n1", 2), "n1-and-1", "several places"),
    ];
    for (place, name, words) in table {
        assert_eq!((name::of(&place).as_str(), place.to_string().as_str()), (name, words));
    }
}

/// Labels that are set to nothing say nothing: nodes with them are nowhere, not in one place.
#[test]
fn an_empty_label_is_no_place() {
    let named = |name: &str, zone: &str| {
        let mut node = node(name, NOWHERE, &[(RTX3090, 24)]);
        node.topology.zone = Some(zone.into());
        node
    };
    let far = group(&[named("a", ""), named("b", "")], &none(), 48);
    assert!(reason(&far, 0).ends_with("links between them may be slow"), "{far:#?}");
    let near = group(&[named("a", "lab"), named("b", "lab")], &none(), 48);
    assert!(!reason(&near, 0).contains("slow"), "{near:#?}");
}

/// The rack of one zone is not that of another, a clique is one wherever its nodes say they are.
#[test]
fn racks_belong_to_their_zones_and_cliques_to_nobody() {
    let small = [(RTX3090, 24)];
    let racks = [node("a", ["east", "r1", ""], &small), node("b", ["west", "r1", ""], &small)];
    assert_eq!(islands(&group(&racks, &none(), 48)), ["a-and-1: a b"]);
    let clique = [node("a", ["east", "r1", "nv"], &small), node("b", ["west", "r2", "nv"], &small)];
    assert_eq!(islands(&group(&clique, &none(), 48)), ["nv: a b"]);
}
