//! The search for an island's layout: how many cards share each layer, how many stages there are,
//! how many replicas, of which cards, with micro-batches of which size.
//!
//! Every choice has a bound that no layout of it beats. Choices are tried best bound first, until
//! the next bound is worse than what was found: what is left cannot win. What a choice leaves open,
//! which group of cards stands where, is tried in a few ways by rule, and then improved by swapping
//! groups while that helps. Nothing here is random, and the work is bounded by counting it, not by
//! a clock, so that the same request has the same plan everywhere.

pub(crate) mod arrange;
pub(crate) mod bound;
mod choices;
mod climb;
mod divide;
pub(crate) mod evaluate;
#[cfg(any(test, feature = "exhaustive"))]
pub mod exhaustive;
mod split;

use std::collections::BTreeMap;

use self::arrange::Group;
use self::choices::{Choice, Selection};
use self::evaluate::Candidate;
use crate::part::Parts;
use crate::planner::answer::shortfall;
use crate::planner::cost::estimate::{Estimator, Shape};
use crate::request::{IslandRequest, Parallelism};
use crate::spec::PipelineCompression;

/// Tensor-parallel devices that are tried where they are not fixed.
pub(crate) const TENSOR_MAX: u32 = 64;
/// Other ways that are told of.
const OTHERS_MAX: usize = 8;
/// Grids on which it takes no more work have single layers moved, where they are close to the best.
const REFINED_MAX: u64 = 20_000;
/// Relative distance from the best layout within which they count as close.
const REFINED: f64 = 0.15;
/// Work that a search may do: cells of grids and turns of micro-batches that were looked at.
const BUDGET: u64 = 800_000;
/// More work where the groups are so few that they are arranged in every way.
const THOROUGH_BUDGET: u64 = 20_000_000;
/// More work for each group of cards.
const GROUP_BUDGET: u64 = 10_000;
/// A gain that is not looked for: estimates are not that good.
const NEAR: f64 = 0.003;
/// A compressed pipeline has to be this much faster where compression is for slow links only: it
/// costs loss.
const COMPRESSION_GAIN: f64 = 0.1;

/// The findings of a search.
pub(crate) struct Found {
    pub best: Option<Candidate>,
    /// The best of every other number of stages and tensor-parallel size, best first.
    pub others: Vec<Candidate>,
    /// Whether the work that a search may do was not enough to rule everything else out.
    pub cut_short: bool,
}

/// The search: its space, and what was found so far.
pub(crate) struct Search<'a, 'e> {
    pub estimator: &'e mut Estimator<'a>,
    pub parallelism: Parallelism,
    pub spent: u64,
    pub budget: u64,
    best: Option<Candidate>,
    /// The best layouts, by stages and cut.
    pub ways: BTreeMap<(usize, usize), Candidate>,
}

/// Searches with compression as the island asks for it.
pub(crate) fn search(estimator: &mut Estimator<'_>, island: &IslandRequest) -> Found {
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
        // Simple layouts and what is inside a node are often good, and the rest has to beat them.
        // Choices small enough to be looked at in every way come last, for they take most work.
        let (simple, choices): (Vec<Choice>, Vec<Choice>) =
            choices.into_iter().partition(|choice| choice.simple);
        for choice in &simple {
            self.try_choice(choice, &selections[choice.selection], (compression, false));
        }
        self.spent = 0;
        let (inside, across): (Vec<&Choice>, Vec<&Choice>) =
            choices.iter().partition(|choice| choice.inside);
        let mut cut_short = false;
        for choices in [inside, across] {
            cut_short |= !self.try_all(&choices, &selections, (compression, false));
        }
        if self.cards() <= arrange::FEW_GROUPS_MAX {
            let mut every: Vec<&Choice> = simple.iter().chain(&choices).collect();
            every.sort_by(|a, b| a.bound.total_cmp(&b.bound));
            self.budget += THOROUGH_BUDGET;
            cut_short |= !self.try_all(&every, &selections, (compression, true));
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
        others.truncate(OTHERS_MAX);
        let exact = others.into_iter().map(|other| estimator.exact(other));
        let mut others: Vec<Candidate> = exact.collect();
        // Simulated to the end they may come in another order than estimated.
        others.sort_by(|a, b| a.score.total_cmp(&b.score));
        Found { best: self.best.map(|best| estimator.exact(best)), others, cut_short }
    }

    /// Tries the deepest layouts, where no choice that there was time for fits: as many stages as
    /// there can be.
    fn deepest(&mut self, compression: Option<PipelineCompression>) {
        for cut in 0..self.estimator.cuts.len() {
            for limit in shortfall::limits(self.estimator.groups[cut].len()) {
                for places in shortfall::deepest(self.estimator, cut, &self.parallelism, limit) {
                    self.consider(&self.estimator.shape(cut, compression, places), 1);
                }
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
            let every = arrange::every(&selection.groups, groups, grid, arrange::FEW_WAYS_MAX);
            every.unwrap_or_default()
        } else {
            arrange::arrangements(&selection.groups[..replicas * stages], groups, memory, grid)
        };
        for places in ways {
            self.consider(&self.estimator.shape(cut, compression, places), size);
        }
    }

    /// Tries a grid.
    pub(crate) fn consider(&mut self, shape: &Shape, size: u32) {
        let cells = shape.places.cells.len() as u64;
        self.spent += 16 + 2 * cells;
        let least = match shape.places.stages {
            1 => self.estimator.flat_floor(shape),
            _ => self.estimator.floor(shape, size),
        };
        let least = least * self.estimator.burden(shape);
        let hopeless = |best: &Candidate| least >= best.score * (1.0 - NEAR);
        if self.best.as_ref().is_some_and(hopeless) {
            return;
        }
        let run = self.estimator.planner.run;
        let stages = shape.places.stages as u64;
        let micro_batches = u64::from(run.sequences / size) / shape.places.replicas as u64;
        let turns = stages * micro_batches.min(5 * stages + 8);
        // Replicas of one stage try every size.
        let sizes = if stages == 1 { 64 * cells } else { 0 };
        self.spent += 64 + 8 * cells + turns + sizes;
        let Some(mut candidate) = self.estimator.best(shape, size) else { return };
        let close = |best: &Candidate| candidate.score < best.score * (1.0 + REFINED);
        let moves = stages * stages * (64 + cells + turns);
        let small = shape.places.stages > 1 && moves <= REFINED_MAX;
        if small && self.best.as_ref().is_none_or(close) {
            self.spent += 2 * moves;
            candidate = self.estimator.refine(&candidate);
        }
        let way = (shape.places.stages, shape.cut);
        if self.ways.get(&way).is_none_or(|known| candidate.score < known.score) {
            self.ways.insert(way, candidate.clone());
        }
        if self.best.as_ref().is_none_or(|best| candidate.score < best.score) {
            self.best = Some(candidate);
        }
    }
}
