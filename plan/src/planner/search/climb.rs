//! Grids made better by exchanging what stands where.

use super::Search;
use super::arrange::{Arrangement, Look};
use super::choices::Selection;
use super::evaluate::Candidate;

/// Grids up to this size are improved by swapping groups.
const SWAPPED_MAX: usize = 64;
/// The best grids that are improved so.
const IMPROVED_MAX: usize = 4;

impl Search<'_, '_> {
    /// Swaps groups of the best grids while that makes them faster.
    pub(crate) fn improve(&mut self, selections: &[Selection]) {
        let mut starts: Vec<Candidate> = self.ways.values().cloned().collect();
        starts.sort_by(|a, b| a.score.total_cmp(&b.score));
        starts.truncate(IMPROVED_MAX);
        for start in starts {
            let all = selections.iter().filter(|selection| selection.cut == start.shape.cut);
            let Some(all) = all.max_by_key(|selection| selection.groups.len()) else { continue };
            if start.shape.places.cells.len() <= SWAPPED_MAX {
                self.climb(start, &all.groups);
            }
        }
    }

    fn climb(&mut self, mut from: Candidate, groups: &[usize]) {
        let (cut, compression) = (from.shape.cut, from.shape.compression);
        let way = (from.shape.places.stages, cut);
        while self.spent < self.budget {
            let look = |group: usize| self.estimator.groups[cut][group].look();
            let moves = moves(&from.shape.places, groups, look);
            let size = from.batches[0].micro_batch_size;
            for places in moves {
                let shape = self.estimator.shape(cut, compression, places);
                self.consider(&shape, size);
                if self.spent >= self.budget {
                    break;
                }
            }
            match self.ways.get(&way).filter(|known| known.score < from.score) {
                Some(better) => from = better.clone(),
                None => return,
            }
        }
    }
}

/// Grids that differ from one by a swap of two unlike groups, or by a group that takes the place of
/// an unlike one.
fn moves(places: &Arrangement, groups: &[usize], look: impl Fn(usize) -> Look) -> Vec<Arrangement> {
    let cells = &places.cells;
    let mut found = Vec::new();
    for at in 0..cells.len() {
        let unlike = |other: &usize| look(cells[*other]) != look(cells[at]);
        for other in (at + 1..cells.len()).filter(unlike) {
            let mut swapped = places.clone();
            swapped.cells.swap(at, other);
            found.push(swapped);
        }
        let mut tried = vec![look(cells[at])];
        for group in groups.iter().filter(|group| !cells.contains(group)) {
            if !tried.contains(&look(*group)) {
                tried.push(look(*group));
                let mut replaced = places.clone();
                replaced.cells[at] = *group;
                found.push(replaced);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_changes_what_stands_where_and_nothing_alike() {
        let places = Arrangement { replicas: 1, stages: 2, cells: vec![0, 1] };
        let look = |group: usize| ([0, 1, 1, 2][group], 0);
        let cells: Vec<_> =
            moves(&places, &[0, 1, 2, 3], look).into_iter().map(|way| way.cells).collect();
        assert_eq!(cells, [vec![1, 0], vec![2, 1], vec![3, 1], vec![0, 3]]);
    }
}
