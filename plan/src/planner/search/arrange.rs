//! Arrangements: which cards share layers, and where they stand in a grid of replicas and stages.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Cards of one kind on one node, as many as the tensor-parallel size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub kind: usize,
    pub node: usize,
    /// Indices into the island's cards.
    pub cards: Vec<usize>,
}

impl Group {
    /// Its kind and node: groups in which both are the same are alike.
    pub(crate) fn look(&self) -> Look {
        (self.kind, self.node)
    }
}

/// Kind and node.
pub(crate) type Look = (usize, usize);

/// A card as grouping sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub kind: usize,
    pub node: usize,
}

/// All groups of `tensor` cards of one kind and node, by kind and node.
pub(crate) fn groups(seats: &[Seat], tensor: u32) -> Vec<Group> {
    let mut alike: BTreeMap<Look, Vec<usize>> = BTreeMap::new();
    for (index, seat) in seats.iter().enumerate() {
        alike.entry((seat.kind, seat.node)).or_default().push(index);
    }
    let of_kind = |((kind, node), members): (Look, Vec<usize>)| {
        let groups = members.chunks_exact(tensor as usize);
        groups.map(|cards| Group { kind, node, cards: cards.to_vec() }).collect::<Vec<_>>()
    };
    alike.into_iter().flat_map(of_kind).collect()
}

/// Groups in a grid: for each replica, one after another, the group of each stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrangement {
    pub replicas: usize,
    pub stages: usize,
    /// Indices of groups.
    pub cells: Vec<usize>,
}

impl Arrangement {
    pub(crate) fn at(&self, replica: usize, stage: usize) -> usize {
        self.cells[replica * self.stages + stage]
    }
}

/// Most kinds for which every order is tried; of more, fastest first and largest first.
const FEW_KINDS_MAX: usize = 3;
/// Most groups that are arranged in every way, where those ways are not too many.
pub(crate) const FEW_GROUPS_MAX: usize = 8;
/// See [`FEW_GROUPS_MAX`].
pub(crate) const FEW_WAYS_MAX: usize = 5_000;

/// Ways to fill a grid with the groups chosen for it: neighbours make a replica, or a stage, with
/// the kinds one after another in some order.
pub(crate) fn arrangements(
    chosen: &[usize],
    groups: &[Group],
    memory: impl Fn(usize) -> u64,
    [replicas, stages]: [usize; 2],
) -> Vec<Arrangement> {
    let mut found: Vec<Arrangement> = Vec::new();
    let mut seen: Vec<Vec<Look>> = Vec::new();
    for kinds in orders(chosen, groups, memory) {
        let of = |kind: &usize| {
            let kind = *kind;
            chosen.iter().copied().filter(move |group| groups[*group].kind == kind)
        };
        let order: Vec<usize> = kinds.iter().flat_map(of).collect();
        let turned = (0..replicas * stages)
            .map(|cell| order[cell % stages * replicas + cell / stages])
            .collect();
        for cells in [order, turned] {
            let looks: Vec<_> = cells.iter().map(|group| groups[*group].look()).collect();
            if !seen.contains(&looks) {
                seen.push(looks);
                found.push(Arrangement { replicas, stages, cells });
            }
        }
    }
    found
}

/// Orders of the kinds that are there.
fn orders(chosen: &[usize], groups: &[Group], memory: impl Fn(usize) -> u64) -> Vec<Vec<usize>> {
    let mut kinds: Vec<usize> = Vec::new();
    for group in chosen {
        if !kinds.contains(&groups[*group].kind) {
            kinds.push(groups[*group].kind);
        }
    }
    if kinds.len() > FEW_KINDS_MAX {
        let mut large = kinds.clone();
        large.sort_by_key(|kind| Reverse(memory(*kind)));
        return vec![large, kinds];
    }
    let mut orders = vec![Vec::new()];
    for _ in 0..kinds.len() {
        let longer = |order: &Vec<usize>| {
            let order = order.clone();
            let left = kinds.iter().filter(|kind| !order.contains(kind));
            left.map(|kind| [&order[..], &[*kind]].concat()).collect::<Vec<_>>()
        };
        orders = orders.iter().flat_map(longer).collect();
    }
    orders
}

/// Every way to fill a grid with some of the groups, with rows in order, for replicas may be
/// renamed and groups that are alike exchanged; `None` where there are more than `most`.
pub(crate) fn every(
    selection: &[usize],
    groups: &[Group],
    [replicas, stages]: [usize; 2],
    most: usize,
) -> Option<Vec<Arrangement>> {
    let look = |group: &usize| groups[*group].look();
    let mut found = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(cells) = open.pop() {
        let rows: Vec<Vec<_>> =
            cells.chunks(stages).map(|row| row.iter().map(look).collect()).collect();
        let full = &rows[..cells.len() / stages];
        if !full.is_sorted() {
            continue;
        }
        if cells.len() == replicas * stages {
            found.push(Arrangement { replicas, stages, cells });
            if found.len() > most {
                return None;
            }
            continue;
        }
        let mut tried = Vec::new();
        for group in selection.iter().filter(|group| !cells.contains(group)) {
            if !tried.contains(&look(group)) {
                tried.push(look(group));
                open.push([&cells[..], &[*group]].concat());
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(of: &[(usize, usize)]) -> Vec<Seat> {
        of.iter().map(|(kind, node)| Seat { kind: *kind, node: *node }).collect()
    }

    #[test]
    fn a_group_is_of_one_kind_on_one_node() {
        let groups = groups(&seats(&[(0, 0), (1, 0), (0, 0), (0, 1), (1, 0), (0, 0)]), 2);
        let cards: Vec<_> = groups.iter().map(|group| group.cards.clone()).collect();
        assert_eq!(cards, [vec![0, 2], vec![1, 4]]);
    }

    #[test]
    fn a_small_grid_is_filled_in_every_way_but_for_the_names_of_replicas() {
        let groups = groups(&seats(&[(0, 0), (0, 0), (1, 1), (1, 1)]), 1);
        let within =
            |cells: &[usize], shape, most| every(cells, &groups, shape, most).map(|all| all.len());
        let ways = |cells: &[usize], shape| within(cells, shape, usize::MAX);
        // Groups aabb make two rows in order out of {aa, ab, ba, bb}.
        assert_eq!(ways(&[0, 1, 2, 3], [2, 2]), Some(4));
        assert_eq!(ways(&[0, 1, 2, 3], [1, 4]), Some(6));
        assert_eq!(ways(&[0, 1, 2, 3], [4, 1]), Some(1));
        assert_eq!(ways(&[0, 1, 2, 3], [1, 2]), Some(4));
        assert_eq!(ways(&[0, 1], [1, 2]), Some(1));
        assert_eq!(within(&[0, 1, 2, 3], [2, 2], 4), Some(4));
        assert_eq!(within(&[0, 1, 2, 3], [2, 2], 3), None);
    }

    #[test]
    fn a_large_grid_is_filled_by_replica_and_by_stage_in_every_order_of_the_kinds() {
        let cards: Vec<_> = (0..16).map(|card| (card / 8, card / 8)).collect();
        let groups = groups(&seats(&cards), 1);
        let all: Vec<usize> = (0..16).collect();
        let found = arrangements(&all, &groups, |_| 1, [8, 2]);
        let kinds =
            |way: &Arrangement| way.cells.iter().map(|cell| groups[*cell].kind).collect::<Vec<_>>();
        let expected: [Vec<usize>; 4] = [
            [[0; 8], [1; 8]].concat(),
            [0, 1].repeat(8),
            [[1; 8], [0; 8]].concat(),
            [1, 0].repeat(8),
        ];
        assert_eq!(found.iter().map(kinds).collect::<Vec<_>>(), expected);
    }
}
