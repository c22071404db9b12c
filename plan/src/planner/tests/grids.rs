//! Ways to fill grids with groups of cards.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::planner::search::arrange::{self, Arrangement, Group, Look, Seat};

prop_compose! {
    /// Cards of up to three kinds on up to three nodes.
    fn any_seats()(of in prop::collection::vec((0_usize..3, 0_usize..3), 1..9)) -> Vec<Seat> {
        of.into_iter().map(|(kind, node)| Seat { kind, node }).collect()
    }
}

fn looks(way: &Arrangement, groups: &[Group]) -> Vec<Vec<Look>> {
    let look = |cell: &usize| groups[*cell].look();
    way.cells.chunks(way.stages).map(|row| row.iter().map(look).collect()).collect()
}

/// The same whatever the names of replicas are.
fn unnamed(mut rows: Vec<Vec<Look>>) -> Vec<Vec<Look>> {
    rows.sort();
    rows
}

/// Every sequence of so many of the groups, by brute force.
fn sequences_of(groups: &[Group], length: usize) -> BTreeSet<Vec<usize>> {
    let mut all = BTreeSet::from([Vec::new()]);
    for _ in 0..length {
        let longer = all.iter().flat_map(|cells: &Vec<usize>| {
            let left = (0..groups.len()).filter(|group| !cells.contains(group));
            left.map(|group| [&cells[..], &[group]].concat()).collect::<Vec<_>>()
        });
        all = longer.collect();
    }
    all
}

proptest! {
    #[test]
    fn groups_are_as_many_as_there_can_be_of_cards_that_are_alike(
        seats in any_seats(),
        tensor in 1_u32..5,
    ) {
        let groups = arrange::groups(&seats, tensor);
        let mut used = BTreeSet::new();
        for group in &groups {
            prop_assert_eq!(group.cards.len(), tensor as usize);
            for card in &group.cards {
                let seat = seats[*card];
                prop_assert_eq!((seat.kind, seat.node), group.look());
                prop_assert!(used.insert(*card), "card {card} twice");
            }
        }
        let mut alike: BTreeMap<Look, usize> = BTreeMap::new();
        for seat in &seats {
            *alike.entry((seat.kind, seat.node)).or_default() += 1;
        }
        let most: usize = alike.values().map(|count| count / tensor as usize).sum();
        prop_assert_eq!(groups.len(), most);
    }

    #[test]
    fn every_way_to_fill_a_small_grid_is_there_once(
        seats in prop::collection::vec((0_usize..2, 0_usize..2), 1..6),
        (replicas, stages) in (1_usize..4, 1_usize..4),
    ) {
        let seats: Vec<Seat> =
            seats.into_iter().map(|(kind, node)| Seat { kind, node }).collect();
        let groups = arrange::groups(&seats, 1);
        let all: Vec<usize> = (0..groups.len()).collect();
        let ways = arrange::every(&all, &groups, [replicas, stages], usize::MAX);
        let ways = ways.expect("no limit");
        let found: Vec<_> = ways.iter().map(|way| unnamed(looks(way, &groups))).collect();
        let expected: BTreeSet<_> = sequences_of(&groups, replicas * stages)
            .into_iter()
            .map(|cells| unnamed(looks(&Arrangement { replicas, stages, cells }, &groups)))
            .collect();
        prop_assert_eq!(found.len(), expected.len(), "each once");
        prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
        for way in &ways {
            let distinct: BTreeSet<_> = way.cells.iter().collect();
            prop_assert_eq!(distinct.len(), replicas * stages, "a group stands once");
        }
    }

    #[test]
    fn ways_by_rule_have_the_groups_that_were_chosen_and_are_unlike(
        seats in any_seats(),
        memories in prop::array::uniform3(1_u64..9),
        shape in any::<prop::sample::Index>(),
    ) {
        let groups = arrange::groups(&seats, 1);
        let shapes: Vec<[usize; 2]> = (1..=groups.len())
            .flat_map(|replicas| (1..=groups.len() / replicas).map(move |s| [replicas, s]))
            .collect();
        let [replicas, stages] = shapes[shape.index(shapes.len())];
        let chosen: Vec<usize> = (0..replicas * stages).collect();
        let memory = |kind: usize| memories[kind];
        let ways = arrange::arrangements(&chosen, &groups, memory, [replicas, stages]);
        prop_assert!(!ways.is_empty());
        let mut seen = BTreeSet::new();
        for way in &ways {
            prop_assert_eq!((way.replicas, way.stages), (replicas, stages));
            let mut cells = way.cells.clone();
            cells.sort_unstable();
            prop_assert_eq!(&cells, &chosen);
            prop_assert!(seen.insert(looks(way, &groups)), "{ways:?}");
        }
    }
}

#[test]
fn a_grid_that_is_larger_than_its_groups_cannot_be_filled() {
    let groups = arrange::groups(&[Seat { kind: 0, node: 0 }; 3], 1);
    assert_eq!(arrange::every(&[0, 1, 2], &groups, [2, 2], usize::MAX), Some(Vec::new()));
    assert_eq!(arrange::groups(&[Seat { kind: 0, node: 0 }; 3], 4), []);
}

/// With more kinds than are tried in every order there are two: as they come, fastest first, and
/// the largest in memory first; each by replica and by stage.
#[test]
fn many_kinds_stand_by_speed_or_by_memory() {
    let seats: Vec<Seat> = (0..4).map(|kind| Seat { kind, node: 0 }).collect();
    let groups = arrange::groups(&seats, 1);
    let memory = |kind: usize| [10, 40, 20, 30][kind];
    let found = arrange::arrangements(&[0, 1, 2, 3], &groups, memory, [2, 2]);
    let cells: Vec<_> = found.into_iter().map(|way| way.cells).collect();
    assert_eq!(cells, [[1, 3, 2, 0], [1, 2, 3, 0], [0, 1, 2, 3], [0, 2, 1, 3]]);
}
