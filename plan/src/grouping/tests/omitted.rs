//! Cards that are left out, and that they are used once what is said is changed.

use super::*;

/// Nodes of a 24 GB card each, in one zone.
fn desks(count: usize) -> Vec<Node> {
    let name = |at: usize| format!("n{at}");
    (0..count).map(|at| node(&name(at), ["lab", "", ""], &[(RTX3090, 24)])).collect()
}

fn some(gib: u64) -> Option<u64> {
    Some(gib * GIB)
}

/// Nodes of all proposals.
fn used(grouping: &Grouping) -> usize {
    grouping.proposals.iter().map(|proposal| proposal.nodes.len()).sum()
}

#[test]
fn a_node_above_the_most_memory_is_used_once_that_is_raised() {
    let large = [node("big", NOWHERE, &[(H100, 80); 8])];
    let wishes = |max_memory| Wishes { max_memory, ..none() };
    let grouping = group(&large, &wishes(some(639)), 100);
    let expected = "node big alone is above maxMemory of 639.0 GiB: raise maxMemory";
    assert_eq!((used(&grouping), left_reason(&grouping, 0).as_str()), (0, expected));
    assert_eq!(used(&group(&large, &wishes(some(640)), 100)), 1);
    assert_eq!(used(&group(&large, &wishes(None), 100)), 1);
}

#[test]
fn what_is_below_the_least_memory_is_used_with_more_cards_or_another_bound() {
    let wishes = |min_memory| Wishes { min_memory, ..none() };
    let grouping = group(&desks(3), &wishes(some(96)), 10);
    let expected = "3 nodes of zone lab make no island of minMemory of 96.0 GiB, and nothing is \
                    left to join: add cards or change minMemory or maxMemory";
    assert_eq!((used(&grouping), left_reason(&grouping, 0).as_str()), (0, expected));
    assert_eq!(used(&group(&desks(4), &wishes(some(96)), 10)), 4);
    assert_eq!(used(&group(&desks(3), &wishes(some(72)), 10)), 3);
}

#[test]
fn what_does_not_hold_the_model_is_used_with_more_cards_more_memory_or_a_smaller_one() {
    let most = |max_memory| Wishes { max_memory, ..none() };
    let grouping = group(&desks(5), &most(some(100)), 120);
    let expected = "5 nodes of zone lab cannot hold the model, and nothing is left to join: add \
                    cards, raise maxMemory where it is set, or choose a smaller model";
    assert_eq!((used(&grouping), left_reason(&grouping, 0).as_str()), (0, expected));
    assert_eq!(used(&group(&desks(5), &most(some(120)), 120)), 5);
    assert_eq!(used(&group(&desks(5), &most(None), 120)), 5);
    assert_eq!(used(&group(&desks(4), &most(some(100)), 96)), 4);
    assert_eq!(used(&group(&desks(4), &none(), 120)), 0);
}

#[test]
fn cards_that_are_not_asked_for_are_used_once_they_are() {
    let nodes = [node("a", NOWHERE, &[(H100, 80), (RTX3090, 24)])];
    let asked = |products: &[&str]| Wishes {
        products: products.iter().map(|product| (*product).to_owned()).collect(),
        ..none()
    };
    let four = ["NVIDIA-H100*", "NVIDIA-L4", "NVIDIA-L40", "NVIDIA-L40S"];
    let grouping = group(&nodes, &asked(&four), 10);
    let expected = "these are not the products asked for, NVIDIA-H100*, NVIDIA-L4, NVIDIA-L40 and \
                    1 more: add them to be used";
    assert_eq!(left_reason(&grouping, 0), expected);
    let all = group(&nodes, &asked(&["NVIDIA-H100*", RTX3090]), 10);
    assert_eq!((all.proposals[0].memory, all.left_out.len()), (104 * GIB, 0));
}

#[test]
fn parts_of_cards_are_used_where_they_are_named_only() {
    let slice = "NVIDIA-A100-SXM4-40GB-MIG-3g.20gb";
    let nodes = [node("a", NOWHERE, &[(slice, 19), (slice, 19), (H100, 80)])];
    let grouping = group(&nodes, &none(), 10);
    assert_eq!(grouping.proposals[0].products, [(H100.into(), 1)]);
    let expected = "these are parts of cards, which are used only where products name them: name \
                    the whole cards, too";
    assert_eq!(left_reason(&grouping, 0), expected);
    // Then the whole cards are not meant by themselves any more.
    let named = |products: Vec<String>| group(&nodes, &Wishes { products, ..none() }, 10);
    assert_eq!(named(vec![slice.into()]).proposals[0].products, [(slice.into(), 2)]);
    let both = named(vec!["NVIDIA-A100*-MIG-*".into(), slice.into(), "NVIDIA-H100*".into()]);
    assert_eq!((both.proposals[0].products.len(), both.left_out.len()), (2, 0));
}

#[test]
fn nodes_of_one_name_are_used_once_each_has_its_own() {
    let twice = |second| [node("a", NOWHERE, &[(H100, 80)]), node(second, NOWHERE, &[(H100, 80)])];
    let grouping = group(&twice("a"), &none(), 10);
    let expected = "several nodes are named a: give each a name of its own";
    assert_eq!((used(&grouping), left_reason(&grouping, 0).as_str()), (0, expected));
    assert_eq!(used(&group(&twice("b"), &none(), 10)), 2);
}

#[test]
fn nothing_at_all_is_grouped_into_nothing() {
    assert_eq!(group(&[], &none(), 10), Grouping::default());
    assert_eq!(group(&[node("empty", NOWHERE, &[])], &none(), 10), Grouping::default());
    // A model that fits anywhere, and nodes of no memory.
    let bare = group(&[node("a", NOWHERE, &[(H100, 0)])], &none(), 0);
    assert_eq!(used(&bare), 1);
}
