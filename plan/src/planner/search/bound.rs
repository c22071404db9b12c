//! Bounds that no layout of a choice can beat.

use std::collections::BTreeMap;

use crate::planner::cost::estimate::Estimator;
use crate::planner::cost::fabric::Fabric;
use crate::request::Objective;
use crate::spec::PipelineCompression;

/// Bounds for the first groups of a selection, fastest first, with micro-batches of one size.
///
/// Let stage i of a replica, with speed v_i in layers a second, take t_i for one of m
/// micro-batches. In 1F1B its step takes at least m t_i + Σ_{j<i} t_j, for every i: stage i cannot
/// begin before those ahead of it had the first micro-batch, nor they end before they had its last.
/// The layers that fit into a time T are most where all of these are equal, with the fastest first:
/// t_i = (1 − 1/m)^i T / m, so that T ≥ m L / Σ (1 − 1/m)^i v_i. It takes at least L / v_0, too:
/// the first micro-batch goes through all layers.
///
/// The head counts as so many layers as it takes time on the group for which it is the least.
pub(crate) struct Bound<'a> {
    /// Layers a second of the fastest groups together, by their number.
    speeds: Vec<f64>,
    /// Sequences a second of the fastest groups together where each is a replica, at its best size.
    single: Vec<f64>,
    /// Factors by which a score multiplies seconds, of the first groups together; the same 1 for
    /// all where throughput is what counts.
    burdens: Option<Vec<f64>>,
    layers: f64,
    micro_batches: f64,
    sequences: f64,
    alike: bool,
    /// Groups of the node with the most of them.
    pub together: usize,
    /// Bytes of all gradients, and of a layer's.
    gradient_bytes: f64,
    layer_bytes: f64,
    /// Seconds of a micro-batch's activations from node to node.
    message: f64,
    fabric: &'a Fabric,
}

impl<'a> Bound<'a> {
    /// The bound of the groups with micro-batches of so many sequences.
    pub(crate) fn new(
        estimator: &'a mut Estimator<'_>,
        (cut, groups): (usize, &[usize]),
        compression: Option<PipelineCompression>,
        size: u32,
    ) -> Self {
        let run = estimator.planner.run;
        let mut head = f64::INFINITY;
        let (mut speeds, mut single) = (Vec::new(), Vec::new());
        let (paces, singles) = (estimator.paces(cut, size), estimator.singles(cut));
        for group in groups {
            let pace = paces[*group];
            head = head.min(pace.head.both() / pace.each());
            speeds.push(1.0 / pace.each());
            single.push(1.0 / singles[*group]);
        }
        let burdens = groups.iter().map(|group| estimator.group_burden(cut, *group));
        let mut burdens: Vec<f64> = burdens.collect();
        burdens.sort_by(f64::total_cmp);
        let plain = estimator.objective == Objective::Throughput;
        let layers = f64::from(run.model.config().num_hidden_layers);
        Self {
            alike: speeds.windows(2).all(|pair| pair[0] == pair[1]),
            speeds: fastest_first(speeds),
            single: fastest_first(single),
            burdens: (!plain).then(|| sums(burdens.into_iter())),
            layers: layers + if head.is_finite() { head } else { 0.0 },
            micro_batches: f64::from(run.sequences / size),
            sequences: f64::from(run.sequences),
            together: together(estimator, cut, groups),
            gradient_bytes: 4.0 * run.model.parameters() as f64,
            layer_bytes: 4.0 * run.model.layer_parameters() as f64,
            message: estimator.fabric.least_message(
                estimator.crossing(compression, size),
                f64::from(estimator.cuts[cut].tensor()),
            ),
            fabric: &estimator.fabric,
        }
    }

    /// The least score of so many stages and replicas.
    pub(crate) fn of(&self, stages: usize, replicas: usize) -> f64 {
        let cells = stages * replicas;
        let seconds = match stages {
            1 => self.sequences / self.single[cells],
            _ => self.pipelined(stages, replicas),
        };
        let seconds = self.with_network(seconds, stages, replicas);
        seconds * self.burdens.as_ref().map_or(1.0, |burdens| burdens[cells])
    }

    /// Adds what crosses between nodes where the grid does not fit one. A stage waits for each of
    /// its messages; a sum of gradients is hidden by one backward at most, which is no longer than
    /// what comes before its end.
    fn with_network(&self, seconds: f64, stages: usize, replicas: usize) -> f64 {
        if stages * replicas <= self.together {
            return seconds;
        }
        // A team that does not fit a node adds up its stage, at least an equal part of all.
        let team = match replicas.div_ceil(self.together) {
            1 => 0.0,
            nodes => self.fabric.least_sum(nodes as u32, self.gradient_bytes / stages as f64),
        };
        // Either every team is inside a node, and then all replicas cross, or one is not, and adds
        // up a layer at least.
        let each = (self.micro_batches / replicas as f64).ceil() * self.message;
        let crossing = if stages > self.together || replicas == 1 {
            each
        } else {
            each.min(self.fabric.least_sum(2, self.layer_bytes))
        };
        let crossing = match stages {
            1 => self.fabric.least_sum(2, self.gradient_bytes),
            _ => crossing,
        };
        seconds.max(team).max(crossing)
    }

    fn pipelined(&self, stages: usize, replicas: usize) -> f64 {
        let count = replicas as f64;
        // The most of one replica: of equal ones the mean, rounded up; of unequal ones all but one
        // for each of the others.
        let most = if self.alike {
            (self.micro_batches / count).ceil()
        } else {
            self.micro_batches - count + 1.0
        };
        let mut used = 0.0;
        let mut share = 1.0;
        for stage in 0..stages {
            let from = stage * replicas;
            used += share * (self.speeds[from + replicas] - self.speeds[from]);
            share *= 1.0 - 1.0 / most;
        }
        let all = if self.alike { most * count } else { self.micro_batches };
        (all * self.layers / used).max(self.layers / self.speeds[1])
    }
}

fn together(estimator: &Estimator<'_>, cut: usize, groups: &[usize]) -> usize {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for group in groups {
        *counts.entry(estimator.groups[cut][*group].node).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(1)
}

fn fastest_first(mut speeds: Vec<f64>) -> Vec<f64> {
    speeds.sort_by(|a, b| b.total_cmp(a));
    sums(speeds.into_iter())
}

/// The sums of the first none, one, two and so on.
fn sums(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sum = 0.0;
    let further = values.map(|value| {
        sum += value;
        sum
    });
    std::iter::once(0.0).chain(further).collect()
}
