//! One replica over several cards: how many share each layer, how many stages there are, which
//! layers make a stage. Every way is tried, and what is predicted to be fastest is taken.

use std::ops::Range;

use super::cards::Chosen;
use super::groups::{self, Group, Rows};
use super::island::{Layout, Planner};
use super::refusal::{self, Refusal};
use super::stages::{self, Room};
use super::{explain, shortfall, split, time};
use crate::part::{Part, Parts};
use crate::request::IslandRequest;
use crate::shard::ShardError;
use crate::spec::{BatchSpec, Sharding, StageSpec};

/// Tensor-parallel devices and stages that are tried where they are not fixed.
const MOST_TENSOR: u32 = 64;
/// See [`MOST_TENSOR`].
const MOST_STAGES: u32 = 256;
/// Micro-batches for each stage, where there are so many sequences, so that the pipeline is mostly
/// full.
const MICRO_BATCHES_PER_STAGE: u32 = 2;

/// The fastest layout; `whole` is why the cards do not each hold the model, where that was tried.
pub(super) fn search(
    planner: &Planner<'_>,
    island: &IslandRequest,
    cards: &[Chosen],
    whole: Option<Refusal>,
) -> Result<Layout, Refusal> {
    let search = Search { planner, island, cards, sizes: sizes(planner, cards) };
    let cuts = search.cuts()?;
    let found = cuts.iter().flat_map(|parts| search.candidates(parts));
    let best = found.reduce(|best, next| if next.seconds < best.seconds { next } else { best });
    match (best, whole) {
        (Some(best), whole) => Ok(search.layout(best, whole)),
        (None, Some(whole)) if cards.len() == 1 => Err(whole),
        (None, _) => Err(search.refusal(&cuts)),
    }
}

/// Sizes of a micro-batch that divide the sequences of a step and are of use, largest first.
fn sizes(planner: &Planner<'_>, cards: &[Chosen]) -> Vec<u32> {
    let (sequences, length) = (planner.run.sequences, planner.run.sequence_length);
    let useful = cards.iter().map(|card| time::useful_micro_batch(card, length));
    let most = useful.max().unwrap_or(1).min(sequences);
    (1..=most).rev().filter(|size| sequences.is_multiple_of(*size)).collect()
}

/// What the search is for.
pub(super) struct Search<'a> {
    pub planner: &'a Planner<'a>,
    pub island: &'a IslandRequest,
    pub cards: &'a [Chosen],
    sizes: Vec<u32>,
}

/// A way to cut the model, without the layers of the stages.
#[derive(Clone, Copy)]
pub(super) struct Cut<'a> {
    pub parts: &'a Parts,
    pub rows: &'a Rows<'a>,
    pub batch: BatchSpec,
    pub recompute: bool,
}

impl Cut<'_> {
    pub(super) fn stages(&self) -> u32 {
        self.rows.first().map_or(0, |row| row.len() as u32)
    }

    fn ranks(&self) -> u32 {
        self.rows.len() as u32 * self.stages() * self.parts.tensor()
    }
}

/// A layout that fits.
pub(super) struct Candidate {
    pub sharding: Sharding,
    pub batches: Vec<BatchSpec>,
    /// For each replica and stage.
    pub groups: Vec<Vec<Group>>,
    pub seconds: f64,
}

impl<'a> Search<'a> {
    /// The tensor-parallel sizes that the model allows.
    fn cuts(&self) -> Result<Vec<Parts>, Refusal> {
        let model = &self.planner.run.model;
        let refuse = |error: ShardError| refusal::unshardable(&self.island.name, &error);
        if let Some(stages) = self.island.parallelism.pipeline {
            let layers = model.config().num_hidden_layers;
            let stage = layers as usize;
            if stages > layers {
                return Err(refuse(ShardError::EmptyStage { stage }));
            }
        }
        if let Some(tensor) = self.island.parallelism.tensor {
            return Ok(vec![Parts::new(model, tensor).map_err(refuse)?]);
        }
        let most = MOST_TENSOR.min(self.cards.len() as u32);
        Ok((1..=most).filter_map(|tensor| Parts::new(model, tensor).ok()).collect())
    }

    pub(super) fn groups(&self, parts: &Parts) -> Vec<Group> {
        groups::groups(self.cards, parts.tensor(), |card| self.planner.tflops(card))
    }

    /// The best layout for every choice of cards, stages and places.
    fn candidates(&self, parts: &Parts) -> Vec<Candidate> {
        let groups = self.groups(parts);
        let mut found = Vec::new();
        for groups in groups::beginnings(&groups) {
            for stages in self.stages(groups.len()) {
                let Some(replicas) = self.replicas(groups.len() / stages) else { continue };
                for rows in groups::arrangements(groups, self.cards, replicas, stages) {
                    found.extend(self.best(parts, &rows));
                }
            }
        }
        found
    }

    /// Numbers of stages that so many groups can make.
    pub(super) fn stages(&self, groups: usize) -> Range<usize> {
        let layers = self.planner.run.model.config().num_hidden_layers;
        match self.island.parallelism.pipeline {
            Some(stages) if stages == 0 || stages as usize > groups => 0..0,
            Some(stages) => stages as usize..stages as usize + 1,
            None => 1..groups.min(layers.min(MOST_STAGES) as usize) + 1,
        }
    }

    /// Replicas, of so many that there could be.
    fn replicas(&self, most: usize) -> Option<usize> {
        let most = most.min(self.planner.run.sequences as usize);
        match self.island.parallelism.data {
            Some(data) if data == 0 || data as usize > most => None,
            Some(data) => Some(data as usize),
            None => Some(most),
        }
    }

    /// The fastest sizes of micro-batches for this grid, with recompute only where that is asked
    /// for, or nothing fits without.
    fn best(&self, parts: &Parts, rows: &Rows<'_>) -> Option<Candidate> {
        let recompute = match self.island.pipeline.recompute {
            Some(true) => [true].as_slice(),
            Some(false) => &[false],
            None => &[false, true],
        };
        let (replicas, stages) = (rows.len() as u32, rows[0].len() as u32);
        let full = if stages > 1 { MICRO_BATCHES_PER_STAGE * stages } else { 1 };
        let most = (self.planner.run.sequences / (replicas * full)).max(1);
        recompute.iter().find_map(|recompute| {
            let sizes = self.sizes.iter().filter(|size| **size <= most);
            let candidates = sizes.filter_map(|micro_batch_size| {
                let micro_batches = self.planner.run.sequences / micro_batch_size;
                let batch = BatchSpec { micro_batches, micro_batch_size: *micro_batch_size };
                self.candidate(Cut { parts, rows, batch, recompute: *recompute })
            });
            candidates.reduce(|best, next| if next.seconds < best.seconds { next } else { best })
        })
    }

    fn candidate(&self, cut: Cut<'_>) -> Option<Candidate> {
        let layers = self.planner.run.model.config().num_hidden_layers;
        let rooms: Vec<_> = (0..cut.stages()).map(|stage| self.room(&cut, stage)).collect();
        let layers = stages::divide(layers, &rooms)?;
        let mut sharding = self.sharding(&cut, &layers);
        if self.island.pipeline.recompute.is_none() {
            self.keep_what_fits(&cut, &mut sharding);
        }
        let (batches, seconds) = self.timed(&cut, &sharding);
        let groups = cut.rows.iter().map(|row| row.iter().map(|group| (*group).clone()).collect());
        Some(Candidate { sharding, batches, groups: groups.collect(), seconds })
    }

    pub(super) fn sharding(&self, cut: &Cut<'_>, layers: &[u32]) -> Sharding {
        let recompute = cut.recompute;
        let stages = layers.iter().map(|layers| StageSpec { layers: *layers, recompute });
        let compression = self.island.pipeline.compression.filter(|_| layers.len() > 1);
        Sharding { tensor: cut.parts.tensor(), stages: stages.collect(), compression }
    }

    /// Layers that every card of a stage holds, and their time on the slowest.
    fn room(&self, cut: &Cut<'_>, stage: u32) -> Room {
        let part = |layers| self.part(cut, stage, layers);
        let (one, two) = (part(1), part(2));
        let kinds = groups::kinds(cut.rows, stage as usize);
        let cards = || kinds.iter().map(|kind| &self.cards[*kind]);
        let holds = |card: &Chosen| {
            let (first, second) = (self.needs(cut, card, one), self.needs(cut, card, two));
            // Every further layer needs as much as the second.
            match card.memory.checked_sub(first) {
                Some(left) => 1 + left / (second - first).max(1),
                None => 0,
            }
        };
        let seconds = |part: &Part| {
            let each = cards().map(|card| self.planner.pace(card, part));
            each.map(|pace| pace.micro_batch(cut.batch.micro_batch_size)).fold(0.0, f64::max)
        };
        let (first, second) = (seconds(&one), seconds(&two));
        Room {
            layers: cards().map(holds).min().unwrap_or(0).min(u32::MAX.into()) as u32,
            layer_seconds: second - first,
            other_seconds: 2.0 * first - second,
        }
    }

    /// The heaviest part of a stage of so many layers.
    pub(super) fn part(&self, cut: &Cut<'_>, stage: u32, layers: u32) -> Part {
        let sharding = self.sharding(cut, &vec![layers; cut.stages() as usize]);
        cut.parts.part(&sharding, stage, cut.parts.heaviest())
    }

    /// Bytes on a card; no replica has more micro-batches than the island.
    pub(super) fn needs(&self, cut: &Cut<'_>, card: &Chosen, part: Part) -> u64 {
        self.planner.memory(card, part, cut.ranks(), cut.batch).card()
    }

    /// Turns recompute off on every stage that has room for all its activations.
    fn keep_what_fits(&self, cut: &Cut<'_>, sharding: &mut Sharding) {
        for stage in 0..sharding.stages.len() {
            sharding.stages[stage].recompute = false;
            let part = cut.parts.part(sharding, stage as u32, cut.parts.heaviest());
            let kinds = groups::kinds(cut.rows, stage);
            let holds = |kind: &usize| {
                let card = &self.cards[*kind];
                self.needs(cut, card, part) <= card.memory
            };
            sharding.stages[stage].recompute = !kinds.iter().all(holds);
        }
    }

    /// What each replica does in a step, in proportion to its speed, and how long a step takes.
    fn timed(&self, cut: &Cut<'_>, sharding: &Sharding) -> (Vec<BatchSpec>, f64) {
        let part = |stage| cut.parts.part(sharding, stage, cut.parts.heaviest());
        let parts: Vec<Part> = (0..cut.stages()).map(part).collect();
        let slowest = |row: &Vec<&Group>, seconds: &dyn Fn(&Chosen, &Part) -> f64| {
            let stages = row.iter().zip(&parts);
            stages.map(|(group, part)| seconds(&self.cards[group.kind], part)).fold(0.0, f64::max)
        };
        let micro_batch = |card: &Chosen, part: &Part| {
            self.planner.pace(card, part).micro_batch(cut.batch.micro_batch_size)
        };
        let optimizer = |card: &Chosen, part: &Part| {
            time::optimizer_seconds(card, part.parameters) / self.planner.speed(card)
        };
        let paces: Vec<f64> = cut.rows.iter().map(|row| slowest(row, &micro_batch)).collect();
        let counts = at_least_one(split::divide(cut.batch.micro_batches, &paces));
        let replicas = cut.rows.iter().zip(counts.iter().zip(&paces));
        let seconds = replicas.map(|(row, (count, pace))| {
            time::pipeline_seconds(cut.stages(), *count, *pace) + slowest(row, &optimizer)
        });
        let seconds = seconds.fold(0.0, f64::max);
        let replicas = cut.rows.len() as u32;
        let seconds = seconds + time::gradient_seconds(&self.planner.run.model, replicas, &parts);
        let batch = |micro_batches| BatchSpec { micro_batches, ..cut.batch };
        (counts.into_iter().map(batch).collect(), seconds)
    }

    fn layout(&self, best: Candidate, whole: Option<Refusal>) -> Layout {
        let reasons = explain::reasons(self, &best, whole);
        let cards = best.groups.iter().flatten().flat_map(|group| &group.cards);
        let cards = cards.map(|index| self.cards[*index].clone()).collect();
        Layout { sharding: best.sharding, batches: best.batches, cards, reasons }
    }

    /// Why nothing was found.
    fn refusal(&self, cuts: &[Parts]) -> Refusal {
        let name = &self.island.name;
        let layout = &self.island.parallelism;
        let short = cuts.iter().filter_map(|parts| shortfall::of(self, parts));
        let least = short.reduce(|best, next| if next.bytes < best.bytes { next } else { best });
        match (least, layout.data) {
            (_, Some(data)) if data > self.planner.run.sequences => {
                refusal::too_few_sequences(name, self.planner.run.sequences, data)
            }
            (Some(shortfall), _) => refusal::too_large_together(name, &shortfall),
            (None, _) => refusal::too_few_alike(name, layout),
        }
    }
}

/// Gives every replica a micro-batch, from whoever has the most; there are enough.
fn at_least_one(mut counts: Vec<u32>) -> Vec<u32> {
    while let Some(none) = counts.iter().position(|count| *count == 0) {
        let most = (0..counts.len()).max_by_key(|replica| counts[*replica]).unwrap_or(none);
        counts[most] -= 1;
        counts[none] += 1;
    }
    counts
}
