//! The search for an island's layout: how many cards share each layer, how many stages there are,
//! how many replicas, of which cards, with micro-batches of which size.
//!
//! Every choice has a bound that no layout of it beats. Choices are tried best bound first, until
//! the next bound is worse than what was found: what is left cannot win. What a choice leaves open,
//! which group of cards stands where, is tried in a few ways by rule, and then improved by swapping
//! groups while that helps. Nothing here is random, and the work is bounded by counting it, not by
//! a clock, so that the same request has the same plan everywhere.

use std::collections::BTreeMap;
use std::ops::Range;

use super::arrange::{self, Arrangement, Group};
use super::bound::Bound;
use super::estimate::{Estimator, Shape};
use super::evaluate::Candidate;
use super::{shortfall, time};
use crate::part::Parts;
use crate::request::{IslandRequest, Parallelism};
use crate::spec::PipelineCompression;

/// Tensor-parallel devices that are tried where they are not fixed.
pub(super) const MOST_TENSOR: u32 = 64;
/// Stages that are tried.
const MOST_STAGES: usize = 256;
/// Kinds of cards of which every set is tried; of more, those that a rule picks.
const MOST_KINDS: usize = 4;
/// Groups up to which every number of replicas is tried; of more, the least for each number of
/// micro-batches.
const FEW_GROUPS: usize = 64;
/// Grids up to this size are improved by swapping groups.
const MOST_SWAPPED: usize = 64;
/// Other ways that are told of.
const OTHERS: usize = 8;
/// The best grids that are improved so.
const IMPROVED: usize = 4;
/// Grids on which it takes no more work have single layers moved, where they are close to the best.
const MOST_REFINED: u64 = 20_000;
/// How close.
const REFINED: f64 = 0.15;
/// Work that a search may do: cells of grids and turns of micro-batches that were looked at.
const BUDGET: u64 = 1_500_000;
/// More work where the groups are so few that they are arranged in every way.
const THOROUGH_BUDGET: u64 = 20_000_000;
/// More work for each group of cards.
const GROUP_BUDGET: u64 = 10_000;
/// A gain that is not looked for: estimates are not that good.
const NEAR: f64 = 0.003;
/// A compressed pipeline has to be this much faster where compression is for slow links only: it
/// costs loss.
const COMPRESSION_GAIN: f64 = 0.1;

/// What a search found.
pub(super) struct Found {
    pub best: Option<Candidate>,
    /// The best of every other number of stages and tensor-parallel size, best first.
    pub others: Vec<Candidate>,
    /// Whether the work that a search may do was not enough to rule everything else out.
    pub cut_short: bool,
}

/// What is searched, and what was found so far.
pub(super) struct Search<'a, 'e> {
    estimator: &'e mut Estimator<'a>,
    parallelism: Parallelism,
    spent: u64,
    budget: u64,
    best: Option<Candidate>,
    /// By stages and cut.
    ways: BTreeMap<(usize, usize), Candidate>,
}

/// A choice that leaves open which group stands where.
#[derive(Clone, Copy, Debug)]
struct Choice {
    bound: f64,
    cut: usize,
    /// Index of a selection of groups.
    selection: usize,
    stages: usize,
    replicas: usize,
    size: u32,
    /// Whether a node may have all of it.
    inside: bool,
}

/// Groups of some kinds, fastest first.
struct Selection {
    cut: usize,
    groups: Vec<usize>,
}

/// Searches with compression as the island asks for it.
pub(super) fn search(estimator: &mut Estimator<'_>, island: &IslandRequest) -> Found {
    let Some(compression) = island.pipeline.compression else {
        return Search::new(estimator, island).run(None);
    };
    let compressed = Search::new(estimator, island).run(Some(compression));
    if !island.pipeline.compress_where_slow {
        return compressed;
    }
    let plain = Search::new(estimator, island).run(None);
    let score = |found: &Found| found.best.as_ref().map_or(f64::INFINITY, |best| best.score);
    if score(&compressed) * (1.0 + COMPRESSION_GAIN) < score(&plain) { compressed } else { plain }
}

impl<'a, 'e> Search<'a, 'e> {
    fn new(estimator: &'e mut Estimator<'a>, island: &IslandRequest) -> Self {
        let parallelism = island.parallelism;
        let groups = estimator.groups.iter().map(Vec::len).max().unwrap_or(0);
        let budget = BUDGET + GROUP_BUDGET * groups as u64;
        Self { estimator, parallelism, spent: 0, budget, best: None, ways: BTreeMap::new() }
    }

    fn run(mut self, compression: Option<PipelineCompression>) -> Found {
        let selections = self.selections();
        let choices = self.choices(&selections, compression);
        // What is inside a node is often good, and the rest has to beat it. What is small enough to
        // be looked at in every way comes last, for it takes the most work.
        let (inside, across): (Vec<&Choice>, Vec<&Choice>) =
            choices.iter().partition(|choice| choice.inside);
        let few = self.cards() <= arrange::FEW_GROUPS;
        let every: Vec<&Choice> = choices.iter().filter(|_| few).collect();
        let mut cut_short = false;
        for (choices, thorough) in [(inside, false), (across, false), (every, true)] {
            if thorough && few {
                self.budget += THOROUGH_BUDGET;
            }
            cut_short |= !self.try_all(&choices, &selections, (compression, thorough));
        }
        if self.best.is_none() {
            self.deepest(compression);
        }
        self.improve(&selections);
        self.found(cut_short)
    }

    /// Cards of the island.
    fn cards(&self) -> usize {
        let cut = |(parts, groups): (&Parts, &Vec<Group>)| parts.tensor() as usize * groups.len();
        self.estimator.cuts.iter().zip(&self.estimator.groups).map(cut).max().unwrap_or(0)
    }

    /// Tries choices, the best bound first. Whether none is left that could be better.
    fn try_all(
        &mut self,
        choices: &[&Choice],
        selections: &[Selection],
        how: (Option<PipelineCompression>, bool),
    ) -> bool {
        for choice in choices {
            let beaten = |best: &Candidate| choice.bound >= best.score * (1.0 - NEAR);
            if self.best.as_ref().is_some_and(beaten) {
                return true;
            }
            if self.spent >= self.budget {
                return false;
            }
            self.try_choice(choice, &selections[choice.selection], how);
        }
        true
    }

    fn found(self, cut_short: bool) -> Found {
        let estimator = self.estimator;
        let best_way = self.best.as_ref().map(|best| (best.shape.places.stages, best.shape.cut));
        let others = self.ways.into_iter().filter(|(way, _)| Some(*way) != best_way);
        let mut others: Vec<Candidate> = others.map(|(_, candidate)| candidate).collect();
        others.sort_by(|a, b| a.score.total_cmp(&b.score));
        others.truncate(OTHERS);
        let others = others.into_iter().map(|other| estimator.exact(other)).collect();
        Found { best: self.best.map(|best| estimator.exact(best)), others, cut_short }
    }

    /// Sets of kinds, by cut, with all their groups.
    fn selections(&mut self) -> Vec<Selection> {
        let mut found = Vec::new();
        for cut in 0..self.estimator.cuts.len() {
            let order = self.by_speed(cut);
            let mut kinds: Vec<usize> = Vec::new();
            for group in &order {
                let kind = self.estimator.groups[cut][*group].kind;
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            let memory = |kind: &usize| self.estimator.kinds[*kind].memory;
            for set in sets(&kinds, memory) {
                let groups = &self.estimator.groups[cut];
                let within = order.iter().filter(|group| set.contains(&groups[**group].kind));
                found.push(Selection { cut, groups: within.copied().collect() });
            }
        }
        found
    }

    /// A cut's groups, fastest for what they cost first; those of nodes with many of them first.
    fn by_speed(&mut self, cut: usize) -> Vec<usize> {
        let groups = self.estimator.groups[cut].len();
        let mut beside: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for group in &self.estimator.groups[cut] {
            *beside.entry((group.kind, group.node)).or_default() += 1;
        }
        let mut keyed: Vec<(f64, usize, usize, usize)> = (0..groups)
            .map(|index| {
                let each = self.estimator.pace(cut, index, 1).each();
                let group = &self.estimator.groups[cut][index];
                let burden = self.estimator.group_burden(cut, index);
                let many = usize::MAX - beside[&(group.kind, group.node)];
                (each * burden, many, group.node, index)
            })
            .collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
        keyed.into_iter().map(|(.., index)| index).collect()
    }

    /// Everything that may be chosen, best bound first.
    fn choices(
        &mut self,
        selections: &[Selection],
        compression: Option<PipelineCompression>,
    ) -> Vec<Choice> {
        let mut choices = Vec::new();
        let layers = self.estimator.planner.run.model.config().num_hidden_layers;
        for (index, selection) in selections.iter().enumerate() {
            for size in self.sizes(selection) {
                let rooms = self.rooms(selection, size);
                let sizes = self.stages(selection.groups.len());
                let replicas = sizes
                    .clone()
                    .map(|stages| self.replicas(selection.groups.len() / stages, size));
                let replicas: Vec<Vec<usize>> = replicas.collect();
                let groups = (selection.cut, &selection.groups[..]);
                let bound = Bound::new(self.estimator, groups, compression, size);
                for (stages, replicas) in sizes.zip(replicas) {
                    if stages == 1 && size != 1 {
                        continue;
                    }
                    for replicas in replicas {
                        if rooms[stages * replicas] < u64::from(layers) * replicas as u64 {
                            continue;
                        }
                        choices.push(Choice {
                            bound: bound.of(stages, replicas),
                            cut: selection.cut,
                            selection: index,
                            stages,
                            replicas,
                            size,
                            inside: stages * replicas <= bound.together,
                        });
                    }
                }
            }
        }
        choices.sort_by(|a, b| a.bound.total_cmp(&b.bound));
        choices
    }

    /// Layers that so many of the groups hold together at most, from none: those with the most room
    /// first, each as if it were in the middle of a pipeline and had one micro-batch at a time.
    fn rooms(&mut self, selection: &Selection, size: u32) -> Vec<u64> {
        let layers = self.estimator.planner.run.model.config().num_hidden_layers;
        let mut rooms: Vec<u64> = Vec::with_capacity(selection.groups.len());
        for group in &selection.groups {
            let kind = self.estimator.groups[selection.cut][*group].kind;
            let room = self.estimator.most_layers(selection.cut, kind, size);
            rooms.push(room.min(layers).into());
        }
        rooms.sort_unstable_by_key(|room| std::cmp::Reverse(*room));
        let mut sum = 0;
        let sums = rooms.into_iter().map(|room| {
            sum += room;
            sum
        });
        std::iter::once(0).chain(sums).collect()
    }

    /// Sizes of a micro-batch that divide the sequences of a step and are of use.
    fn sizes(&self, selection: &Selection) -> Vec<u32> {
        let run = self.estimator.planner.run;
        let kinds = selection.groups.iter().map(|group| {
            let group = &self.estimator.groups[selection.cut][*group];
            &self.estimator.kinds[group.kind]
        });
        let useful = kinds.map(|kind| time::useful_micro_batch(kind.on_cpu(), run.sequence_length));
        let most = useful.max().unwrap_or(1).min(run.sequences);
        (1..=most).filter(|size| run.sequences.is_multiple_of(*size)).collect()
    }

    /// Numbers of stages that so many groups can make.
    fn stages(&self, groups: usize) -> Range<usize> {
        let layers = self.estimator.planner.run.model.config().num_hidden_layers as usize;
        let most = groups.min(layers);
        match self.parallelism.pipeline.map(|stages| stages as usize) {
            Some(stages) if (1..=most).contains(&stages) => stages..stages + 1,
            Some(_) => 0..0,
            None => 1..most.min(MOST_STAGES) + 1,
        }
    }

    /// Numbers of replicas, of so many that there could be.
    fn replicas(&self, most: usize, size: u32) -> Vec<usize> {
        let micro_batches = (self.estimator.planner.run.sequences / size) as usize;
        let most = most.min(micro_batches);
        match self.parallelism.data {
            Some(data) if (1..=most).contains(&(data as usize)) => vec![data as usize],
            Some(_) => Vec::new(),
            None if most <= FEW_GROUPS => (1..=most).collect(),
            None => {
                let least = (1..=micro_batches).map(|each| micro_batches.div_ceil(each));
                let mut counts: Vec<usize> = least.filter(|count| *count <= most).collect();
                counts.push(most);
                counts.sort_unstable();
                counts.dedup();
                counts
            }
        }
    }

    /// Where no choice that there was time for fits: as many stages as there can be.
    fn deepest(&mut self, compression: Option<PipelineCompression>) {
        for cut in 0..self.estimator.cuts.len() {
            if let Some(shape) = shortfall::deepest(self.estimator, cut, &self.parallelism) {
                let compression = compression.filter(|_| shape.places.stages > 1);
                self.consider(&Shape { compression, ..shape }, 1);
            }
        }
    }

    fn try_choice(
        &mut self,
        choice: &Choice,
        selection: &Selection,
        (compression, thorough): (Option<PipelineCompression>, bool),
    ) {
        let Choice { stages, replicas, size, cut, .. } = *choice;
        let kinds = &self.estimator.kinds;
        let memory = |kind: usize| kinds[kind].memory;
        let groups = &self.estimator.groups[cut];
        let grid = [replicas, stages];
        let ways = if thorough {
            arrange::every(&selection.groups, groups, grid).unwrap_or_default()
        } else {
            arrange::arrangements(&selection.groups[..replicas * stages], groups, memory, grid)
        };
        for places in ways {
            let compression = compression.filter(|_| stages > 1);
            self.consider(&Shape { cut, compression, places }, size);
        }
    }

    /// Tries a grid. Whether it is the best so far.
    fn consider(&mut self, shape: &Shape, size: u32) -> bool {
        let cells = shape.places.cells.len() as u64;
        self.spent += 16 + 2 * cells;
        let least = self.estimator.floor(shape, size) * self.estimator.burden(shape);
        let hopeless = |best: &Candidate| least >= best.score * (1.0 - NEAR);
        if self.best.as_ref().is_some_and(hopeless) {
            return false;
        }
        let run = self.estimator.planner.run;
        let stages = shape.places.stages as u64;
        let micro_batches = u64::from(run.sequences / size) / shape.places.replicas as u64;
        let turns = stages * micro_batches.min(5 * stages + 8);
        self.spent += 64 + 8 * cells + turns;
        let Some(mut candidate) = self.estimator.best(shape, size) else { return false };
        let close = |best: &Candidate| candidate.score < best.score * (1.0 + REFINED);
        let moves = stages * stages * (64 + cells + turns);
        let small = shape.places.stages > 1 && moves <= MOST_REFINED;
        if small && self.best.as_ref().is_none_or(close) {
            self.spent += 2 * moves;
            candidate = self.estimator.refine(&candidate);
        }
        let way = (shape.places.stages, shape.cut);
        if self.ways.get(&way).is_none_or(|known| candidate.score < known.score) {
            self.ways.insert(way, candidate.clone());
        }
        let better = self.best.as_ref().is_none_or(|best| candidate.score < best.score);
        if better {
            self.best = Some(candidate);
        }
        better
    }

    /// Swaps groups of the best grids while that makes them faster.
    fn improve(&mut self, selections: &[Selection]) {
        let mut starts: Vec<Candidate> = self.ways.values().cloned().collect();
        starts.sort_by(|a, b| a.score.total_cmp(&b.score));
        starts.truncate(IMPROVED);
        for start in starts {
            let all = selections.iter().filter(|selection| selection.cut == start.shape.cut);
            let Some(all) = all.max_by_key(|selection| selection.groups.len()) else { continue };
            if start.shape.places.cells.len() <= MOST_SWAPPED {
                self.climb(start, &all.groups);
            }
        }
    }

    fn climb(&mut self, mut from: Candidate, groups: &[usize]) {
        while self.spent < self.budget {
            let moves = moves(&from.shape.places, groups, |group| {
                let group = &self.estimator.groups[from.shape.cut][group];
                (group.kind, group.node)
            });
            let size = from.batches[0].micro_batch_size;
            let mut next: Option<Candidate> = None;
            for places in moves {
                let shape = Shape { places, ..from.shape.clone() };
                self.consider(&shape, size);
                let way = (shape.places.stages, shape.cut);
                let known = self.ways.get(&way).filter(|known| known.score < from.score);
                next = known.cloned().or(next);
                if self.spent >= self.budget {
                    break;
                }
            }
            match next {
                Some(better) => from = better,
                None => return,
            }
        }
    }
}

/// Grids that differ from one by a swap of two unlike groups, or by a group that takes the place of
/// an unlike one.
fn moves(
    places: &Arrangement,
    groups: &[usize],
    look: impl Fn(usize) -> (usize, usize),
) -> Vec<Arrangement> {
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

/// Every set of few kinds; of many, the fastest and the largest in memory, each with all before.
fn sets(kinds: &[usize], memory: impl Fn(&usize) -> u64) -> Vec<Vec<usize>> {
    if kinds.len() <= MOST_KINDS {
        let masks = (1_usize..1 << kinds.len()).rev();
        let set = |mask: usize| {
            let inside = kinds.iter().enumerate().filter(move |(at, _)| mask >> at & 1 == 1);
            inside.map(|(_, kind)| *kind).collect()
        };
        return masks.map(set).collect();
    }
    let mut large = kinds.to_vec();
    large.sort_by_key(|kind| std::cmp::Reverse(memory(kind)));
    let orders = [kinds.to_vec(), large];
    let mut sets: Vec<Vec<usize>> = orders
        .iter()
        .flat_map(|order| (1..=order.len()).map(|end| order[..end].to_vec()))
        .collect();
    sets.extend(kinds.iter().map(|kind| vec![*kind]));
    for set in &mut sets {
        set.sort_unstable();
    }
    sets.sort();
    sets.dedup();
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_few_kinds_every_set_is_tried_and_of_many_a_few_dozen() {
        assert_eq!(sets(&[2, 7], |_| 1), [vec![2, 7], vec![7], vec![2]]);
        let kinds: Vec<usize> = (0..12).collect();
        let many = sets(&kinds, |kind| *kind as u64);
        assert!(many.len() <= 3 * kinds.len() && many.contains(&kinds), "{}", many.len());
    }

    #[test]
    fn a_move_changes_what_stands_where_and_nothing_alike() {
        let places = Arrangement { replicas: 1, stages: 2, cells: vec![0, 1] };
        let look = |group: usize| ([0, 1, 1, 2][group], 0);
        let cells: Vec<_> =
            moves(&places, &[0, 1, 2, 3], look).into_iter().map(|way| way.cells).collect();
        assert_eq!(cells, [vec![1, 0], vec![2, 1], vec![3, 1], vec![0, 3]]);
    }
}
