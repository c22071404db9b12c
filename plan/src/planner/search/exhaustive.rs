//! The planner that looks at everything: what the search is judged by on small islands.
//!
//! It shares the search's model of memory and time, the list of the ways to stand unlike groups in
//! a grid ([`arrange::every`], here without a limit), and nothing else. It tries every
//! tensor-parallel size, every grid of stages and replicas, every such way, every division of the
//! layers, every size of micro-batch and every division of the sequences. Only what is no choice is
//! not enumerated: a stage computes activations again just where it does not fit without, and
//! groups that are alike are not told apart.

use std::rc::Rc;

use super::arrange;
use super::evaluate::Candidate;
use crate::planner::answer::describe;
use crate::planner::choose_cards;
use crate::planner::cost::estimate::{Estimator, Shape};
use crate::planner::island::Planner;
use crate::request::{Execution, IslandRequest, RunRequest};
use crate::spec::{BatchSpec, Sharding, StageSpec};

/// The best layout there is.
#[derive(Clone, Debug)]
pub struct Best {
    /// Seconds of its step.
    pub seconds: f64,
    /// How it cuts a replica.
    pub sharding: Sharding,
    /// The batches of each replica.
    pub batches: Vec<BatchSpec>,
}

/// The best layout of an island by itself; `None` where nothing fits, or the request is refused for
/// another reason. Meant for at most 8 cards and 12 layers.
pub fn best(run: &RunRequest, island: &IslandRequest, execution: &Execution) -> Option<Best> {
    let (chosen, hosts) = choose_cards(std::slice::from_ref(island), execution).ok()?;
    let planner = Planner::new(run, 1);
    let mut estimator = planner.estimator(island, &chosen[0], &hosts).ok()?;
    let mut all = Exhaustive { estimator: &mut estimator, best: None };
    let mut grids: Vec<Grid> =
        (0..all.estimator.cuts.len()).flat_map(|cut| all.grids(cut)).collect();
    grids.sort_by(|a, b| a.bound.total_cmp(&b.bound));
    for grid in grids {
        // All that follow are no better either.
        if all.best.as_ref().is_some_and(|best| grid.bound >= best.score) {
            break;
        }
        all.pipelines(&grid);
    }
    let best = all.best?;
    Some(Best {
        seconds: best.step.total(),
        sharding: describe::sharding(&estimator, &best),
        batches: best.batches,
    })
}

/// A grid of stages with micro-batches of one size, whose layers are still to be divided.
struct Grid {
    shape: Rc<Shape>,
    /// As many micro-batches as a replica has at most.
    most: BatchSpec,
    /// A score that no division beats.
    bound: f64,
}

struct Exhaustive<'a, 'e> {
    estimator: &'e mut Estimator<'a>,
    best: Option<Candidate>,
}

impl Exhaustive<'_, '_> {
    fn layers(&self) -> u32 {
        self.estimator.planner.run.model.config().num_hidden_layers
    }

    /// Tries what has one stage, and lists what has more.
    fn grids(&mut self, cut: usize) -> Vec<Grid> {
        let all: Vec<usize> = (0..self.estimator.groups[cut].len()).collect();
        let mut grids = Vec::new();
        for stages in 1..=all.len().min(self.layers() as usize) {
            for replicas in 1..=all.len() / stages {
                let groups = &self.estimator.groups[cut];
                let ways = arrange::every(&all, groups, [replicas, stages], usize::MAX);
                for places in ways.unwrap_or_default() {
                    let shape = Rc::new(self.estimator.shape(cut, None, places));
                    if stages == 1 { self.flat(&shape) } else { grids.extend(self.piped(&shape)) }
                }
            }
        }
        grids
    }

    fn flat(&mut self, shape: &Shape) {
        let (run, layers) = (self.estimator.planner.run, self.layers());
        for recompute in [false, true] {
            let stage = StageSpec { layers, recompute };
            let mut ways = Vec::new();
            for replica in 0..shape.places.replicas {
                let kind = self.estimator.group(shape, replica, 0).kind;
                let (memory, useful) =
                    (self.estimator.kinds[kind].memory, self.estimator.useful_size(kind));
                let mut way: Vec<Option<(f64, BatchSpec)>> = vec![None];
                for sequences in 1..=run.sequences {
                    let sizes = (1..=useful.min(sequences)).filter(|s| sequences % s == 0);
                    let mut best: Option<(f64, BatchSpec)> = None;
                    for micro_batch_size in sizes {
                        let micro_batches = sequences / micro_batch_size;
                        let batch = BatchSpec { micro_batches, micro_batch_size };
                        if self.estimator.lines(shape, kind, 0, batch).needs(stage) > memory {
                            break;
                        }
                        let group = shape.places.at(replica, 0);
                        let pace = self.estimator.pace(shape.cut, group, micro_batch_size);
                        let work = pace.stage(stage, [true, true]);
                        let seconds = f64::from(micro_batches) * (work.forward + work.backward);
                        if best.is_none_or(|(other, _)| seconds < other) {
                            best = Some((seconds, batch));
                        }
                    }
                    way.push(best);
                }
                ways.push(way);
            }
            self.try_division(shape, &[stage], &ways, run.sequences);
        }
    }

    fn piped(&mut self, shape: &Rc<Shape>) -> Vec<Grid> {
        let run = self.estimator.planner.run;
        let groups = &self.estimator.groups[shape.cut];
        let kinds = shape.places.cells.iter().map(|group| groups[*group].kind);
        let useful = kinds.map(|kind| self.estimator.useful_size(kind)).max().unwrap_or(1);
        let stages = shape.places.stages as u32;
        let mut grids = Vec::new();
        for size in (1..=useful).filter(|size| run.sequences.is_multiple_of(*size)) {
            let all = run.sequences / size;
            // So many micro-batches a replica has at most; of more than stages, any number.
            for most in 1..=stages.min(all) {
                let micro_batches = if most == stages { all } else { most };
                let most = BatchSpec { micro_batches, micro_batch_size: size };
                grids.push(Grid { bound: self.bound(shape, most), shape: Rc::clone(shape), most });
            }
        }
        grids
    }

    /// Stage i ends its m micro-batches no earlier than m t_i + Σ_{j<i} t_j, with the first of them
    /// through every stage before it. The most layers that a replica's stages, of v_i layers a
    /// second, have done by then are Σ (1 − 1/m)^i v_i T / m, fastest first.
    fn bound(&mut self, shape: &Shape, most: BatchSpec) -> f64 {
        let paces = self.estimator.paces(shape.cut, most.micro_batch_size);
        let left = 1.0 - 1.0 / f64::from(most.micro_batches);
        let rows = shape.places.cells.chunks(shape.places.stages).map(|row| {
            let mut speeds: Vec<f64> = row.iter().map(|group| 1.0 / paces[*group].each()).collect();
            speeds.sort_by(|a, b| b.total_cmp(a));
            speeds.iter().rev().fold(0.0, |later, speed| speed + left * later)
        });
        let rate: f64 = rows.sum();
        let all = self.estimator.planner.run.sequences / most.micro_batch_size;
        let seconds = f64::from(all) * f64::from(self.layers()) / rate;
        seconds * self.estimator.burden(shape)
    }

    fn pipelines(&mut self, grid: &Grid) {
        let stages = grid.shape.places.stages;
        let holds: Vec<_> = (0..stages).map(|stage| self.holds(grid, stage)).collect();
        for counts in compositions(self.layers(), stages as u32) {
            let own = counts.iter().zip(&holds).map(|(layers, holds)| holds[*layers as usize]);
            if let Some(stages) = own.collect::<Option<Vec<StageSpec>>>() {
                self.pipeline(grid, &stages);
            }
        }
    }

    /// How a stage holds each number of layers on all of its cards.
    fn holds(&mut self, grid: &Grid, stage: usize) -> Vec<Option<StageSpec>> {
        let shape = &grid.shape;
        let mut rooms = [u32::MAX; 2];
        for replica in 0..shape.places.replicas {
            let kind = self.estimator.group(shape, replica, stage).kind;
            let lines = self.estimator.lines(shape, kind, stage, grid.most);
            let memory = self.estimator.kinds[kind].memory;
            for (recompute, room) in [false, true].into_iter().zip(&mut rooms) {
                *room = (*room).min(lines.room(memory, recompute));
            }
        }
        let hold = |layers| {
            let recompute = layers > rooms[0];
            (layers <= rooms[usize::from(recompute)]).then_some(StageSpec { layers, recompute })
        };
        (0..=self.layers()).map(hold).collect()
    }

    fn pipeline(&mut self, Grid { shape, most, .. }: &Grid, stages: &[StageSpec]) {
        let all = self.estimator.planner.run.sequences / most.micro_batch_size;
        let mut rate = 0.0;
        let mut rows = Vec::new();
        for replica in 0..shape.places.replicas {
            let row = self.estimator.row(shape, replica, (stages, most.micro_batch_size));
            let row: Vec<_> = row.into_iter().map(|(seconds, _)| seconds).collect();
            rate += 1.0 / row.iter().map(|own| own.both()).fold(0.0, f64::max);
            rows.push(row);
        }
        let least = f64::from(all) / rate * self.estimator.burden(shape);
        if self.best.as_ref().is_some_and(|best| least >= best.score) {
            return;
        }
        let mut ways = Vec::new();
        for row in &rows {
            let mut way = vec![None];
            for micro_batches in 1..=most.micro_batches {
                let done = crate::pipeline::simulate(row, micro_batches);
                let seconds = done.into_iter().fold(0.0, f64::max);
                way.push(Some((seconds, BatchSpec { micro_batches, ..*most })));
            }
            ways.push(way);
        }
        self.try_division(shape, stages, &ways, all);
    }

    /// Divides `all` over replicas, each of which takes so long for its share of each size, so that
    /// the last ends first; and takes the exact price of that.
    fn try_division(
        &mut self,
        shape: &Shape,
        stages: &[StageSpec],
        ways: &[Vec<Option<(f64, BatchSpec)>>],
        all: u32,
    ) {
        let Some(batches) = divide(ways, all as usize) else { return };
        let next = self.estimator.candidate(shape, stages.to_vec(), batches);
        let next = self.estimator.exact(next);
        if self.best.as_ref().is_none_or(|best| next.score < best.score) {
            self.best = Some(next);
        }
    }
}

/// The division with the earliest end, by dynamic programming over the replicas.
fn divide(ways: &[Vec<Option<(f64, BatchSpec)>>], all: usize) -> Option<Vec<BatchSpec>> {
    let mut ends = vec![None; all + 1];
    ends[0] = Some((0.0, Vec::new()));
    for way in ways {
        let mut next: Vec<Option<(f64, Vec<BatchSpec>)>> = vec![None; all + 1];
        for (given, before) in ends.iter().enumerate() {
            let Some((end, batches)) = before else { continue };
            for (share, own) in way.iter().enumerate().take(all - given + 1) {
                let Some((seconds, batch)) = own else { continue };
                let end = seconds.max(*end);
                if next[given + share].as_ref().is_none_or(|(other, _)| end < *other) {
                    let mut batches: Vec<BatchSpec> = batches.clone();
                    batches.push(*batch);
                    next[given + share] = Some((end, batches));
                }
            }
        }
        ends = next;
    }
    ends.pop().flatten().map(|(_, batches)| batches)
}

/// Every way to write `sum` as so many numbers of at least one.
fn compositions(sum: u32, parts: u32) -> Vec<Vec<u32>> {
    if parts == 1 {
        return vec![vec![sum]];
    }
    let first = 1..=sum.saturating_sub(parts - 1);
    let with = |first: u32| {
        compositions(sum - first, parts - 1).into_iter().map(move |mut rest| {
            rest.insert(0, first);
            rest
        })
    };
    first.flat_map(with).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_composition_is_there_once() {
        assert_eq!(compositions(4, 2), [vec![1, 3], vec![2, 2], vec![3, 1]]);
        assert_eq!(compositions(12, 5).len(), 330);
        assert!(compositions(2, 3).is_empty());
    }
}
