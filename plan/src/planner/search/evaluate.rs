//! The best that a grid of cards can do: which layers on which stage, which of them computed again,
//! how many micro-batches for which replica.

use super::arrange::Look;
use super::divide::{self, Room, Turn};
use super::split::{self, Cost};
use crate::pipeline;
use crate::planner::cost::estimate::{Estimator, Lines, Pace, Shape, ends};
use crate::planner::cost::price::{Pipeline, StepTime};
use crate::request::Objective;
use crate::spec::{BatchSpec, StageSpec};

/// A layout that fits.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub shape: Shape,
    pub stages: Vec<StageSpec>,
    /// Batches of each replica.
    pub batches: Vec<BatchSpec>,
    pub step: StepTime,
    /// Less is better: seconds of a step, times what its cards draw or cost where that is asked.
    pub score: f64,
}

impl Estimator<'_> {
    /// The best way for a grid with micro-batches of so many sequences; `None` where it does not
    /// fit.
    pub(crate) fn best(&mut self, shape: &Shape, size: u32) -> Option<Candidate> {
        if shape.places.stages == 1 {
            return self.flat(shape);
        }
        let all = self.planner.run.sequences / size;
        let replicas = shape.places.replicas as u32;
        let most = all.checked_sub(replicas)? + 1;
        let weights = self.weights(shape, size);
        let sum: f64 = weights.iter().sum();
        let expected = (f64::from(all) / sum).ceil() as u32 + 1;
        // How many a replica gets decides what it holds, which decides how fast it is.
        let mut assumed = [expected.min(most), most].into_iter();
        assumed.find_map(|micro_batches| {
            let batch = BatchSpec { micro_batches, micro_batch_size: size };
            let stages = self.stages(shape, &weights, batch)?;
            let batches = self.batches(shape, &stages, (all, size));
            self.fits(shape, &stages, &batches).then(|| self.candidate(shape, stages, batches))
        })
    }

    /// A layout with its step estimated.
    pub(crate) fn candidate(
        &mut self,
        shape: &Shape,
        stages: Vec<StageSpec>,
        batches: Vec<BatchSpec>,
    ) -> Candidate {
        self.scored(shape.clone(), stages, batches, pipeline::estimate)
    }

    /// A layout with its step simulated to the end.
    pub(crate) fn exact(&mut self, like: Candidate) -> Candidate {
        let Candidate { shape, stages, batches, .. } = like;
        self.scored(shape, stages, batches, pipeline::simulate)
    }

    fn scored(
        &mut self,
        shape: Shape,
        stages: Vec<StageSpec>,
        batches: Vec<BatchSpec>,
        pipeline: Pipeline,
    ) -> Candidate {
        let step = self.price(&shape, &stages, &batches, pipeline);
        let score = step.total() * self.burden(&shape);
        Candidate { shape, stages, batches, step, score }
    }

    /// Moves single layers from stage to stage while that makes a layout faster.
    pub(crate) fn refine(&mut self, from: &Candidate) -> Candidate {
        let mut best = from.clone();
        let size = from.batches[0].micro_batch_size;
        let all = from.batches.iter().map(|batch| batch.micro_batches).sum();
        loop {
            let mut next: Option<Candidate> = None;
            for (less, more) in pairs(best.stages.len()) {
                let mut counts: Vec<u32> = best.stages.iter().map(|own| own.layers).collect();
                if counts[less] == 1 {
                    continue;
                }
                counts[less] -= 1;
                counts[more] += 1;
                let Some(moved) = self.with_layers(&best, &counts, (all, size)) else { continue };
                if moved.score < next.as_ref().map_or(best.score, |next| next.score) {
                    next = Some(moved);
                }
            }
            match next {
                Some(better) => best = better,
                None => return best,
            }
        }
    }

    /// A layout with other layers, computed again where they do not fit otherwise.
    fn with_layers(
        &mut self,
        like: &Candidate,
        counts: &[u32],
        (all, size): (u32, u32),
    ) -> Option<Candidate> {
        let shape = &like.shape;
        let most = like.batches.iter().map(|batch| batch.micro_batches).max().unwrap_or(1);
        let batch = BatchSpec { micro_batches: most, micro_batch_size: size };
        let weights = vec![1.0; shape.places.replicas];
        let mut stages = Vec::with_capacity(counts.len());
        for (stage, layers) in counts.iter().enumerate() {
            stages.push(self.column(shape, stage, &weights, batch).stage(*layers, self.recompute));
        }
        let batches = self.batches(shape, &stages, (all, size));
        self.fits(shape, &stages, &batches).then(|| self.candidate(shape, stages, batches))
    }

    /// Says whether every card holds its part.
    pub(crate) fn fits(
        &mut self,
        shape: &Shape,
        stages: &[StageSpec],
        batches: &[BatchSpec],
    ) -> bool {
        let mut known = Vec::new();
        for (replica, batch) in batches.iter().enumerate() {
            for (stage, own) in stages.iter().enumerate() {
                let kind = self.group(shape, replica, stage).kind;
                if known.contains(&(kind, stage, *batch)) {
                    continue;
                }
                known.push((kind, stage, *batch));
                let needs = self.lines(shape, kind, stage, *batch).needs(*own);
                if needs > self.kinds[kind].memory {
                    return false;
                }
            }
        }
        true
    }

    /// The factor by which a score multiplies seconds.
    pub(crate) fn burden(&self, shape: &Shape) -> f64 {
        match self.objective {
            Objective::Throughput => 1.0,
            Objective::PerWatt | Objective::PerCost => {
                let groups = shape.places.cells.iter();
                let sum: f64 = groups.map(|group| self.group_burden(shape.cut, *group)).sum();
                sum * f64::from(self.cuts[shape.cut].tensor())
            }
        }
    }

    /// The factor of a card of a group.
    pub(crate) fn group_burden(&self, cut: usize, group: usize) -> f64 {
        let facts = &self.kinds[self.groups[cut][group].kind];
        match self.objective {
            Objective::Throughput => 1.0,
            Objective::PerWatt => facts.watts,
            Objective::PerCost => facts.cost.unwrap_or(1.0),
        }
    }

    /// Each replica's speed beside the fastest's.
    fn weights(&mut self, shape: &Shape, size: u32) -> Vec<f64> {
        let paces = self.paces(shape.cut, size);
        let rows = shape.places.cells.chunks(shape.places.stages);
        let speed = |row: &[usize]| row.iter().map(|group| 1.0 / paces[*group].each()).sum();
        let speeds: Vec<f64> = rows.map(speed).collect();
        let fastest = speeds.iter().copied().fold(0.0, f64::max);
        speeds.into_iter().map(|speed| speed / fastest).collect()
    }

    /// Layers of each stage, so that the stage that takes longest is done as early as possible.
    fn stages(
        &mut self,
        shape: &Shape,
        weights: &[f64],
        batch: BatchSpec,
    ) -> Option<Vec<StageSpec>> {
        let count = shape.places.stages;
        let columns: Vec<_> =
            (0..count).map(|stage| self.column(shape, stage, weights, batch)).collect();
        let asked = self.recompute;
        let rooms = columns.iter().enumerate().map(|(stage, column)| Room {
            layers: column.room(asked != Some(false)),
            seconds: move |layers| column.seconds(column.stage(layers, asked), ends(stage, count)),
        });
        let rooms: Vec<_> = rooms.collect();
        let counts = divide::layers(self.planner.run.model.config().num_hidden_layers, &rooms)?;
        let stages = counts.into_iter().zip(&columns);
        Some(stages.map(|(layers, column)| column.stage(layers, asked)).collect())
    }

    /// The work of a stage on each kind of card, for the replica of it with the most to do.
    fn column(&mut self, shape: &Shape, stage: usize, weights: &[f64], batch: BatchSpec) -> Column {
        let mut cards: Vec<ColumnCard> = Vec::new();
        for (replica, weight) in weights.iter().enumerate() {
            let index = shape.places.at(replica, stage);
            let look = self.groups[shape.cut][index].look();
            match cards.iter_mut().find(|card| card.look == look) {
                Some(card) => card.weight = card.weight.max(*weight),
                None => {
                    let (kind, _) = look;
                    let lines = self.lines(shape, kind, stage, batch);
                    let pace = self.pace(shape.cut, index, batch.micro_batch_size);
                    let memory = self.kinds[kind].memory;
                    cards.push(ColumnCard { look, weight: *weight, lines, pace, memory });
                }
            }
        }
        Column { cards }
    }

    /// Micro-batches of each replica, so that all end together.
    fn batches(
        &mut self,
        shape: &Shape,
        stages: &[StageSpec],
        (all, size): (u32, u32),
    ) -> Vec<BatchSpec> {
        let mut turns = Vec::with_capacity(shape.places.replicas);
        for replica in 0..shape.places.replicas {
            let row = self.row(shape, replica, (stages, size));
            let seconds = || row.iter().map(|(seconds, _)| seconds);
            let links = seconds().map(|own| own.forward_link.max(own.backward_link));
            let slowest = seconds().map(|own| own.both()).chain(links).fold(0.0, f64::max);
            let sum: f64 =
                seconds().map(|own| own.both() + own.forward_link + own.backward_link).sum();
            turns.push(Turn { once: (sum - slowest).max(0.0), each: slowest });
        }
        let counts = divide::micro_batches(all, &turns);
        let batch = |micro_batches| BatchSpec { micro_batches, micro_batch_size: size };
        counts.into_iter().map(batch).collect()
    }

    /// Replicas of one stage each: each with micro-batches of its own size.
    fn flat(&mut self, shape: &Shape) -> Option<Candidate> {
        if (self.planner.run.sequences as usize) < shape.places.replicas {
            return None;
        }
        let choices = match self.recompute {
            Some(true) => [true].as_slice(),
            Some(false) => &[false],
            None => &[false, true],
        };
        let layers = self.planner.run.model.config().num_hidden_layers;
        let mut best: Option<Candidate> = None;
        for recompute in choices {
            let stage = StageSpec { layers, recompute: *recompute };
            let Some(costs) = self.costs(shape, stage) else { continue };
            let batches = split::split(self.planner.run.sequences, &costs);
            let next = self.candidate(shape, vec![stage], batches);
            if best.as_ref().is_none_or(|best| next.score < best.score) {
                best = Some(next);
            }
        }
        best
    }

    /// The cost of micro-batches for each replica, as large as fit and are of use.
    fn costs(&mut self, shape: &Shape, stage: StageSpec) -> Option<Vec<Cost>> {
        let mut costs: Vec<Cost> = Vec::with_capacity(shape.places.replicas);
        let mut known: Vec<(Look, usize)> = Vec::new();
        for (replica, index) in shape.places.cells.iter().enumerate() {
            let look = self.groups[shape.cut][*index].look();
            if let Some((_, at)) = known.iter().find(|(other, _)| *other == look) {
                costs.push(costs[*at].clone());
                continue;
            }
            let (kind, _) = look;
            let mut cost = Vec::new();
            for size in 1..=self.useful_size(kind) {
                let batch = BatchSpec { micro_batches: 1, micro_batch_size: size };
                if self.lines(shape, kind, 0, batch).needs(stage) > self.kinds[kind].memory {
                    break;
                }
                let work = self.pace(shape.cut, *index, size).stage(stage, [true, true]);
                cost.push(work.forward + work.backward);
            }
            if cost.is_empty() {
                return None;
            }
            known.push((look, replica));
            costs.push(cost);
        }
        Some(costs)
    }
}

/// Two unlike stages, in every way.
fn pairs(stages: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..stages).flat_map(move |less| {
        (0..stages).filter(move |more| *more != less).map(move |more| (less, more))
    })
}

/// A stage on each kind of card that has it.
struct Column {
    cards: Vec<ColumnCard>,
}

struct ColumnCard {
    look: Look,
    /// The speed of its replica beside the fastest's, which has that many more micro-batches.
    weight: f64,
    lines: Lines,
    pace: Pace,
    memory: u64,
}

impl Column {
    /// Layers that all hold.
    fn room(&self, recompute: bool) -> u32 {
        let holds = |card: &ColumnCard| {
            let plain = card.lines.room(card.memory, false);
            if recompute { plain.max(card.lines.room(card.memory, true)) } else { plain }
        };
        self.cards.iter().map(holds).min().unwrap_or(0)
    }

    /// With recompute only where that is asked for, or they do not fit without.
    fn stage(&self, layers: u32, asked: Option<bool>) -> StageSpec {
        let plain = StageSpec { layers, recompute: false };
        let fits = || self.cards.iter().all(|card| card.lines.needs(plain) <= card.memory);
        StageSpec { layers, recompute: asked.unwrap_or_else(|| !fits()) }
    }

    fn seconds(&self, stage: StageSpec, ends: [bool; 2]) -> f64 {
        let seconds = self.cards.iter().map(|card| {
            let work = card.pace.stage(stage, ends);
            card.weight * (work.forward + work.backward)
        });
        seconds.fold(0.0, f64::max)
    }
}
