//! The memory of a layout and the time of its step: the one model of both that the search, the plan
//! and the tests' exhaustive planner share.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fabric::{Fabric, Message, Spot};
use super::time::{self, Seconds, Work};
use crate::part::{Parts, Place};
use crate::pipeline::{self, StageSeconds};
use crate::planner::cards::Facts;
use crate::planner::island::Planner;
use crate::planner::search::arrange::{Arrangement, Group, Look};
use crate::request::{IslandRequest, Objective};
use crate::spec::{BatchSpec, PipelineCompression, StageSpec};

/// All-reduces of a layer in forward, and as many in backward: one after attention and one after
/// the feed-forward layer (Shoeybi et al. 2019, section 3).
const LAYER_SUMS: f64 = 2.0;

/// Cards in a grid and how they cut the model, without its layers; of [`Estimator::shape`].
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Index into [`Estimator::cuts`].
    pub cut: usize,
    pub compression: Option<PipelineCompression>,
    pub places: Arrangement,
    pub placed: Placed,
}

/// The estimator of layouts over an island's cards.
pub(crate) struct Estimator<'a> {
    pub planner: &'a Planner<'a>,
    pub kinds: Vec<Facts>,
    /// The tensor-parallel sizes that the model allows.
    pub cuts: Vec<Parts>,
    /// Groups of cards, by cut.
    pub groups: Vec<Vec<Group>>,
    pub fabric: Fabric,
    pub objective: Objective,
    /// True to compute activations again; `None` where memory demands it.
    pub recompute: Option<bool>,
    /// Compression in every pipeline, where the island asks for it.
    pub compression: Option<PipelineCompression>,
    /// Seconds that the island's steps took for each second predicted.
    pub correction: f64,
    lines: BTreeMap<LineKey, Lines>,
    /// Paces of each group, by cut and sequences of a micro-batch.
    paces: BTreeMap<(usize, u32), Arc<[Pace]>>,
    /// By cut, of each group.
    singles: BTreeMap<usize, Arc<[f64]>>,
}

/// Bytes by layers, without recompute and with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines([Line; 2]);

#[derive(Clone, Copy, Debug)]
struct Line {
    first: u64,
    further: u64,
}

impl Line {
    /// The line of what so many layers need, which is a straight one.
    fn through(needs: impl Fn(u32) -> u64) -> Self {
        let first = needs(1);
        Self { first, further: needs(2).saturating_sub(first) }
    }

    /// Layers that fit into so many bytes.
    fn room(self, memory: u64) -> u32 {
        let left = memory.checked_sub(self.first);
        let layers = left.map_or(0, |left| 1 + left / self.further.max(1));
        u32::try_from(layers).unwrap_or(u32::MAX)
    }
}

impl Lines {
    pub(crate) fn needs(&self, stage: StageSpec) -> u64 {
        let line = self.0[usize::from(stage.recompute)];
        let further = u64::from(stage.layers.saturating_sub(1));
        line.first.saturating_add(line.further.saturating_mul(further))
    }

    /// Layers that fit into so many bytes.
    pub(crate) fn room(&self, memory: u64, recompute: bool) -> u32 {
        self.0[usize::from(recompute)].room(memory)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LineKey {
    kind: usize,
    cut: usize,
    ends: [bool; 2],
    in_flight: u32,
    size: u32,
    compressed: bool,
    /// 0 where they do not matter.
    ranks: u32,
}

/// The places at which the cells of a grid compute, and how many messages each sends at once with
/// others.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub spots: Vec<Spot>,
    /// By cell: messages to the next stage that share its way.
    streams: Vec<f64>,
}

impl Placed {
    fn new(spots: Vec<Spot>, stages: usize, tensor: u32) -> Self {
        // Messages of the same boundary between nodes, by the node that they leave or enter.
        let mut leaving: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        let mut entering: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        let inner = |cell: &usize| !(cell + 1).is_multiple_of(stages);
        let crosses = |cell: usize| spots[cell].node != spots[cell + 1].node;
        for cell in (0..spots.len()).filter(inner).filter(|cell| crosses(*cell)) {
            *leaving.entry((cell % stages, spots[cell].node)).or_default() += 1.0;
            *entering.entry((cell % stages, spots[cell + 1].node)).or_default() += 1.0;
        }
        let streams = (0..spots.len()).map(|cell| {
            let shared = if inner(&cell) && crosses(cell) {
                let out = leaving[&(cell % stages, spots[cell].node)];
                out.max(entering[&(cell % stages, spots[cell + 1].node)])
            } else {
                1.0
            };
            shared * f64::from(tensor)
        });
        Self { streams: streams.collect(), spots }
    }

    /// Seconds of a message from a cell to the next.
    pub(crate) fn link(&self, fabric: &Fabric, cell: usize, message: Message) -> f64 {
        fabric.messages(self.spots[cell], self.spots[cell + 1], message, self.streams[cell])
    }
}

/// How fast a group works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub layer: Seconds,
    pub head: Seconds,
    /// One sum of a micro-batch's activations over the group.
    pub sum: f64,
}

/// A stage's part of a micro-batch on one group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StageWork {
    pub forward: f64,
    pub backward: f64,
    /// Seconds of both, in sums over the group.
    pub tensor: f64,
}

impl Pace {
    /// Seconds of a layer, without recompute.
    pub(crate) fn each(&self) -> f64 {
        self.layer.both() + 2.0 * LAYER_SUMS * self.sum
    }

    pub(crate) fn stage(&self, stage: StageSpec, [first, last]: [bool; 2]) -> StageWork {
        let layers = f64::from(stage.layers);
        let [first, last] = [first, last].map(|there| f64::from(u8::from(there)));
        let sums = layers * LAYER_SUMS;
        let again = if stage.recompute { 1.0 } else { 0.0 };
        let forward = layers * self.layer.forward + last * self.head.forward;
        let backward =
            layers * (self.layer.backward + again * self.layer.forward) + last * self.head.backward;
        let forward_sums = (sums + first) * self.sum;
        let backward_sums = (sums * (1.0 + again) + last) * self.sum;
        StageWork {
            forward: forward + forward_sums,
            backward: backward + backward_sums,
            tensor: forward_sums + backward_sums,
        }
    }
}

impl<'a> Estimator<'a> {
    pub(crate) fn new(
        planner: &'a Planner<'a>,
        island: &IslandRequest,
        kinds: Vec<Facts>,
        (cuts, groups): (Vec<Parts>, Vec<Vec<Group>>),
        fabric: Fabric,
    ) -> Self {
        Self {
            planner,
            kinds,
            cuts,
            groups,
            fabric,
            objective: island.objective,
            recompute: island.pipeline.recompute,
            compression: island
                .pipeline
                .compression
                .filter(|_| !island.pipeline.compress_where_slow),
            correction: island.correction,
            lines: BTreeMap::new(),
            paces: BTreeMap::new(),
            singles: BTreeMap::new(),
        }
    }

    pub(crate) fn group(&self, shape: &Shape, replica: usize, stage: usize) -> &Group {
        &self.groups[shape.cut][shape.places.at(replica, stage)]
    }

    /// Bytes of a card at a stage by the stage's layers, with so many micro-batches of a step.
    pub(crate) fn lines(
        &mut self,
        shape: &Shape,
        kind: usize,
        stage: usize,
        batch: BatchSpec,
    ) -> Lines {
        let stages = shape.places.stages;
        let count = shape.places.cells.len() as u32 * self.cuts[shape.cut].tensor();
        let on_cpu = self.kinds[kind].on_cpu();
        let in_flight = pipeline::in_flight(stage as u32, stages as u32, batch.micro_batches);
        let key = LineKey {
            kind,
            cut: shape.cut,
            ends: ends(stage, stages),
            in_flight,
            size: batch.micro_batch_size,
            compressed: shape.compression.is_some(),
            ranks: if on_cpu { count } else { 0 },
        };
        if let Some(lines) = self.lines.get(&key) {
            return *lines;
        }
        let place =
            Place { stage: stage as u32, stages: stages as u32, compression: shape.compression };
        let parts = &self.cuts[shape.cut];
        let needs = |layers, recompute| {
            let part = parts.at(place, StageSpec { layers, recompute }, parts.heaviest());
            self.planner.needs(&self.kinds[kind], part, count, batch)
        };
        let lines = Lines([false, true].map(|again| Line::through(|layers| needs(layers, again))));
        self.lines.insert(key, lines);
        lines
    }

    /// Layers that a card of a kind holds where it has nothing else, and one micro-batch at a time.
    pub(crate) fn most_layers(&self, cut: usize, kind: usize, size: u32) -> u32 {
        let facts = &self.kinds[kind];
        if facts.on_cpu() {
            // It has a share of the outer state besides, which many ranks make small.
            return u32::MAX;
        }
        let batch = BatchSpec { micro_batches: 1, micro_batch_size: size };
        let room = |recompute| {
            let needs = |layers| {
                let part = self.cuts[cut].layers_only(StageSpec { layers, recompute });
                self.planner.needs(facts, part, 1, batch)
            };
            Line::through(needs).room(facts.memory)
        };
        room(false).max(if self.recompute == Some(false) { 0 } else { room(true) })
    }

    /// How fast a group is with micro-batches of so many sequences.
    pub(crate) fn pace(&mut self, cut: usize, group: usize, size: u32) -> Pace {
        self.paces(cut, size)[group]
    }

    /// How fast a cut's groups are with micro-batches of so many sequences.
    pub(crate) fn paces(&mut self, cut: usize, size: u32) -> Arc<[Pace]> {
        if let Some(paces) = self.paces.get(&(cut, size)) {
            return Arc::clone(paces);
        }
        let mut known: BTreeMap<Look, Pace> = BTreeMap::new();
        let all = self.groups[cut].iter().map(|group| {
            let pace = || self.new_pace(cut, group, size);
            *known.entry(group.look()).or_insert_with(pace)
        });
        let paces: Arc<[Pace]> = all.collect();
        self.paces.insert((cut, size), Arc::clone(&paces));
        paces
    }

    fn new_pace(&self, cut: usize, group: &Group, size: u32) -> Pace {
        let (facts, parts, run) = (&self.kinds[group.kind], &self.cuts[cut], self.planner.run);
        let work = Work {
            model: &run.model,
            parts,
            sequence_length: run.sequence_length,
            size,
            precision: facts.precision,
        };
        let values = work.tokens() * f64::from(run.model.config().hidden_size);
        let message = Message::of(values, facts.precision.bytes().into());
        let sum = self.fabric.sum_beside(group.node, parts.tensor(), !facts.alone, message);
        let scale = |it: Seconds| Seconds {
            forward: it.forward * self.correction,
            backward: it.backward * self.correction,
        };
        let head = work.head(&facts.speed, parts.head_rows(parts.heaviest()));
        Pace { layer: scale(work.layer(&facts.speed)), head: scale(head), sum }
    }

    /// Sequences of the largest micro-batch that is of use to a kind of card.
    pub(crate) fn useful_size(&self, kind: usize) -> u32 {
        let run = self.planner.run;
        let useful = time::useful_micro_batch(self.kinds[kind].on_cpu(), run.sequence_length);
        useful.min(run.sequences)
    }

    /// Least seconds of a sequence in a replica of one stage, over all sizes of a micro-batch that
    /// are of use, for each of a cut's groups.
    pub(crate) fn singles(&mut self, cut: usize) -> Arc<[f64]> {
        if let Some(singles) = self.singles.get(&cut) {
            return Arc::clone(singles);
        }
        let layers = self.planner.run.model.config().num_hidden_layers;
        let stage = StageSpec { layers, recompute: false };
        let mut singles = vec![f64::INFINITY; self.groups[cut].len()];
        let largest = self.groups[cut].iter().map(|group| self.useful_size(group.kind)).max();
        for size in 1..=largest.unwrap_or(0) {
            let paces = self.paces(cut, size);
            for (index, group) in self.groups[cut].iter().enumerate() {
                if size <= self.useful_size(group.kind) {
                    let work = paces[index].stage(stage, [true, true]);
                    let each = (work.forward + work.backward) / f64::from(size);
                    singles[index] = singles[index].min(each);
                }
            }
        }
        let singles: Arc<[f64]> = singles.into();
        self.singles.insert(cut, Arc::clone(&singles));
        singles
    }

    /// A grid of a cut's groups; what goes between stages is compressed where there are several.
    pub(crate) fn shape(
        &self,
        cut: usize,
        compression: Option<PipelineCompression>,
        places: Arrangement,
    ) -> Shape {
        let compression = compression.filter(|_| places.stages > 1);
        let placed = self.placed(cut, &places);
        Shape { cut, compression, places, placed }
    }

    /// The places at which the groups of a grid compute: neighbours on a node share a process.
    fn placed(&self, cut: usize, places: &Arrangement) -> Placed {
        let mut spots: Vec<Spot> = Vec::with_capacity(places.cells.len());
        let mut before = None;
        for cell in &places.cells {
            let group = &self.groups[cut][*cell];
            let alone = self.kinds[group.kind].alone;
            let last = spots.last().map_or(0, |spot| spot.process);
            let joins = !alone && before == Some((group.node, false));
            let first = before.is_none();
            let process = if joins || first { last } else { last + 1 };
            spots.push(Spot { process, node: group.node });
            before = Some((group.node, alone));
        }
        Placed::new(spots, places.stages, self.cuts[cut].tensor())
    }

    /// The seconds of each stage of a replica, and of what goes to the next one.
    pub(crate) fn row(
        &mut self,
        shape: &Shape,
        replica: usize,
        (stages, size): (&[StageSpec], u32),
    ) -> Vec<(StageSeconds, StageWork)> {
        let count = shape.places.stages;
        let message = self.crossing(shape.compression, size);
        let paces = self.paces(shape.cut, size);
        let mut row = Vec::with_capacity(count);
        for (stage, own) in stages.iter().enumerate() {
            let work = paces[shape.places.at(replica, stage)].stage(*own, ends(stage, count));
            let last = stage + 1 == count;
            let cell = replica * count + stage;
            // As long in both directions: networks are full duplex.
            let link = if last { 0.0 } else { shape.placed.link(&self.fabric, cell, message) };
            row.push((
                StageSeconds {
                    forward: work.forward,
                    backward: work.backward,
                    forward_link: link,
                    backward_link: link,
                },
                work,
            ));
        }
        row
    }

    /// A micro-batch's activations between two stages.
    pub(crate) fn crossing(&self, compression: Option<PipelineCompression>, size: u32) -> Message {
        let run = self.planner.run;
        let width = compression.map_or(run.model.config().hidden_size, |it| it.rank);
        let tokens = f64::from(size) * f64::from(run.sequence_length);
        // Lanes carry f32.
        Message::of(tokens * f64::from(width), 4.0)
    }
}

/// Says whether a stage is the first, and whether it is the last.
pub(crate) fn ends(stage: usize, stages: usize) -> [bool; 2] {
    [stage == 0, stage + 1 == stages]
}
