//! How long a layout's step takes, and what no layout of a grid is faster than.

use super::estimate::{Estimator, Shape};
use super::fabric::{Message, Spot};
use crate::part::{Part, Place};
use crate::pipeline::StageSeconds;
use crate::planner::search::arrange::Arrangement;
use crate::spec::{BatchSpec, StageSpec};

/// Bytes of a bucket of gradients: what is left to add up when backward ends, at least.
const BUCKET_BYTES: f64 = (16 << 20) as f64;

/// A function that says when each stage ends so many micro-batches, by the seconds of each.
pub(crate) type Pipeline = fn(&[StageSeconds], u32) -> Vec<f64>;

/// The time of an inner step by its parts, seconds; by the stage and replica that end it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepTime {
    /// Forward and backward of its own layers.
    pub compute: f64,
    /// Activations added up with tensor-parallel peers.
    pub tensor: f64,
    /// Waiting for other stages, and for messages from them.
    pub bubble: f64,
    /// Gradients added up over replicas, and over stages that share an embedding, as far as
    /// backward does not hide it.
    pub all_reduce: f64,
    /// AdamW.
    pub optimizer: f64,
}

impl StepTime {
    /// The whole step.
    pub fn total(&self) -> f64 {
        self.compute + self.tensor + self.bubble + self.all_reduce + self.optimizer
    }
}

impl Estimator<'_> {
    /// How long an inner step takes, by a `pipeline` that is simulated or estimated.
    pub(crate) fn price(
        &mut self,
        shape: &Shape,
        stages: &[StageSpec],
        batches: &[BatchSpec],
        pipeline: Pipeline,
    ) -> StepTime {
        let mut known: Vec<(Vec<StageSeconds>, u32)> = Vec::new();
        let mut ends: Vec<Option<End>> = vec![None; shape.places.stages];
        for (replica, batch) in batches.iter().enumerate() {
            let row = self.row(shape, replica, (stages, batch.micro_batch_size));
            let seconds: Vec<StageSeconds> = row.iter().map(|(seconds, _)| *seconds).collect();
            let alike = (seconds, batch.micro_batches);
            if known.contains(&alike) {
                continue;
            }
            let done = pipeline(&alike.0, batch.micro_batches);
            for ((end, seconds), (own, work)) in ends.iter_mut().zip(done).zip(row) {
                if end.is_none_or(|end| end.seconds < seconds) {
                    let times = f64::from(batch.micro_batches);
                    let tensor = times * work.tensor;
                    let compute = times * own.both() - tensor;
                    *end = Some(End { seconds, compute, tensor, backward: own.backward });
                }
            }
            known.push(alike);
        }
        self.finish(shape, stages, ends.into_iter().flatten().collect())
    }

    /// From when the stages are done to the end of the step.
    fn finish(&self, shape: &Shape, stages: &[StageSpec], ends: Vec<End>) -> StepTime {
        let held = self.held(shape, stages);
        let (mut worst, mut all_reduce): (Option<End>, f64) = (None, 0.0);
        let late = |end: &Option<End>, extra: f64| end.map_or(-1.0, |end| end.seconds + extra);
        for (stage, end) in ends.into_iter().enumerate() {
            let seconds = self.gradients(shape, stage, held[stage]);
            let last = seconds.min(seconds * BUCKET_BYTES / (4.0 * held[stage] as f64).max(1.0));
            let exposed = (seconds - end.backward).max(last);
            if end.seconds + exposed > late(&worst, all_reduce) {
                (worst, all_reduce) = (Some(end), exposed);
            }
        }
        let end = worst.unwrap_or_default();
        StepTime {
            compute: end.compute,
            tensor: end.tensor,
            bubble: (end.seconds - end.compute - end.tensor).max(0.0),
            all_reduce: all_reduce + self.tied(shape),
            optimizer: self.optimizer(shape, &held),
        }
    }

    /// Parameters of the heaviest card of each stage.
    fn held(&self, shape: &Shape, stages: &[StageSpec]) -> Vec<u64> {
        let parts = &self.cuts[shape.cut];
        let count = stages.len() as u32;
        let part = |(stage, own): (u32, &StageSpec)| -> Part {
            let place = Place { stage, stages: count, compression: None };
            parts.at(place, *own, parts.heaviest())
        };
        (0..).zip(stages).map(part).map(|part| part.parameters).collect()
    }

    /// A stage's gradients added up over replicas.
    fn gradients(&self, shape: &Shape, stage: usize, parameters: u64) -> f64 {
        let Arrangement { replicas, stages, .. } = shape.places;
        let spot = |replica| shape.placed.spots[replica * stages + stage];
        let team: Vec<Spot> = (0..replicas).map(spot).collect();
        let message = Message::of(parameters as f64, 4.0);
        self.fabric.sum(&team, message, self.sharing(shape, &team))
    }

    /// Sums over replicas that use a node's network at the same time, on the node with the most.
    fn sharing(&self, shape: &Shape, team: &[Spot]) -> f64 {
        if team.iter().all(|spot| spot.node == team[0].node) {
            return 1.0;
        }
        let stages = shape.places.stages;
        let most = team.iter().map(|member| {
            let here = |stage: &usize| {
                let mut column = shape.placed.spots.iter().skip(*stage).step_by(stages);
                column.any(|spot| spot.node == member.node)
            };
            (0..stages).filter(here).count()
        });
        most.max().unwrap_or(1) as f64 * f64::from(self.cuts[shape.cut].tensor())
    }

    /// A tied embedding's gradient, which the first and the last stage add up.
    fn tied(&self, shape: &Shape) -> f64 {
        let config = self.planner.run.model.config();
        let stages = shape.places.stages;
        if stages == 1 || !config.tie_word_embeddings {
            return 0.0;
        }
        let parts = &self.cuts[shape.cut];
        let values = parts.head_rows(parts.heaviest()) as f64 * f64::from(config.hidden_size);
        let sums = shape.placed.spots.chunks(stages).map(|row| {
            let pair = [row[0], row[stages - 1]];
            self.fabric.sum(&pair, Message::of(values, 4.0), f64::from(parts.tensor()))
        });
        sums.fold(0.0, f64::max)
    }

    fn optimizer(&self, shape: &Shape, held: &[u64]) -> f64 {
        let cells = shape.places.cells.iter().enumerate();
        let seconds = cells.map(|(cell, group)| {
            let kind = self.groups[shape.cut][*group].kind;
            self.kinds[kind].speed.optimizer(held[cell % shape.places.stages])
        });
        seconds.fold(0.0, f64::max) * self.correction
    }

    /// A lower bound of the seconds of all divisions of layers and micro-batches over a grid.
    pub(crate) fn floor(&mut self, shape: &Shape, size: u32) -> f64 {
        let paces = self.paces(shape.cut, size);
        let layers = f64::from(self.planner.run.model.config().num_hidden_layers);
        let message = self.crossing(shape.compression, size);
        let stages = shape.places.stages;
        // Micro-batches a second of all replicas together.
        let mut rate = 0.0;
        for (replica, row) in shape.places.cells.chunks(stages).enumerate() {
            let speed: f64 = row.iter().map(|group| 1.0 / paces[*group].each()).sum();
            let cells = replica * stages..(replica + 1) * stages - 1;
            let links = cells.map(|cell| shape.placed.link(&self.fabric, cell, message));
            rate += 1.0 / links.fold(layers / speed, f64::max);
        }
        let seconds = f64::from(self.planner.run.sequences / size) / rate;
        seconds.max(self.least_gradients(shape)) + self.tied(shape)
    }

    /// The same of replicas of one stage, which choose the sizes of their micro-batches.
    pub(crate) fn flat_floor(&mut self, shape: &Shape) -> f64 {
        let singles = self.singles(shape.cut);
        let rate: f64 = shape.places.cells.iter().map(|group| 1.0 / singles[*group]).sum();
        let seconds = f64::from(self.planner.run.sequences) / rate;
        seconds.max(self.least_gradients(shape))
    }

    /// A lower bound of the seconds of adding up gradients over the network: all of them where
    /// replicas are inside nodes, an equal part for some stage where they are not, but every team
    /// crosses.
    fn least_gradients(&self, shape: &Shape) -> f64 {
        let (spots, stages) = (&shape.placed.spots, shape.places.stages);
        let rows = || spots.chunks(stages);
        let inside = rows().all(|row| row.iter().all(|spot| spot.node == row[0].node));
        let spans = |stage: usize| rows().any(|row| row[stage].node != spots[stage].node);
        let share = match (inside, spots.iter().any(|spot| spot.node != spots[0].node)) {
            (_, false) => return 0.0,
            (true, true) => 1.0,
            (false, true) if (0..stages).all(spans) => 1.0 / stages as f64,
            (false, true) => return 0.0,
        };
        let model = &self.planner.run.model;
        let layers = f64::from(model.config().num_hidden_layers);
        let bytes = 4.0 * layers * model.layer_parameters() as f64;
        self.fabric.least_sum(2, share * bytes)
    }
}

/// The end of a stage's micro-batches: when, and with what.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    seconds: f64,
    compute: f64,
    tensor: f64,
    /// Seconds of one micro-batch: what hides the sum of gradients.
    backward: f64,
}
