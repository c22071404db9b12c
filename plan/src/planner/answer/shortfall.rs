//! By how much an island's cards are too small together, and how many more would do.

use std::cmp::Reverse;

use crate::planner::cost::estimate::{Estimator, Lines, Shape};
use crate::planner::search::arrange::{self, Arrangement};
use crate::request::Parallelism;
use crate::spec::{BatchSpec, StageSpec};

/// A layout that does not fit, spread as evenly over the memory as it can be.
#[derive(Clone, Debug)]
pub(crate) struct Shortfall {
    /// Bytes that are missing on the cards that are too small.
    pub bytes: u64,
    /// Bytes that all cards of the layout need.
    pub needed: u64,
    /// Bytes that they have.
    pub given: u64,
    /// Stages and tensor-parallel devices of a replica.
    pub stages: u32,
    pub tensor: u32,
    /// How many there are.
    pub cards: u32,
    /// Whether activations are computed again.
    pub recompute: bool,
    /// The card that is short of the most, its bytes, and what it needs.
    pub product: String,
    pub card_bytes: u64,
    pub card_needs: u64,
}

/// The ways to fill the grid with as many stages as the cards make for a cut, but no more than the
/// limit, with the largest cards; none where they do not make up the layout at all.
pub(crate) fn deepest(
    estimator: &Estimator<'_>,
    cut: usize,
    parallelism: &Parallelism,
    limit: usize,
) -> Vec<Arrangement> {
    let replicas = parallelism.data.unwrap_or(1).max(1) as usize;
    let groups = &estimator.groups[cut];
    let layers = estimator.planner.run.model.config().num_hidden_layers as usize;
    let most = (groups.len() / replicas).min(layers).min(limit);
    let stages = parallelism.pipeline.map_or(most, |stages| stages as usize);
    if stages == 0 || stages > most || replicas > estimator.planner.run.sequences as usize {
        return Vec::new();
    }
    let memory = |kind: usize| estimator.kinds[kind].memory;
    let mut chosen: Vec<usize> = (0..groups.len()).collect();
    chosen.sort_by_key(|group| Reverse(memory(groups[*group].kind)));
    chosen.truncate(replicas * stages);
    arrange::arrangements(&chosen, groups, memory, [replicas, stages])
}

/// Says whether one sequence at a time fits some way: as many stages as there can be, or fewer of
/// the largest cards. Which kind of card has the embedding, and which the head, may decide it.
pub(crate) fn fits(estimator: &mut Estimator<'_>, parallelism: &Parallelism) -> bool {
    (0..estimator.cuts.len()).any(|cut| {
        let most = estimator.groups[cut].len();
        limits(most).any(|limit| {
            let mut ways = deepest(estimator, cut, parallelism, limit).into_iter();
            ways.any(|places| {
                let shape = estimator.shape(cut, estimator.compression, places);
                estimator.best(&shape, 1).is_some()
            })
        })
    })
}

/// All, then three quarters of it, and so on.
pub(crate) fn limits(most: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(most), |limit| Some(limit * 3 / 4)).take_while(|limit| *limit > 0)
}

/// The least shortfall over all tensor-parallel sizes, one sequence at a time.
pub(crate) fn least(estimator: &mut Estimator<'_>, parallelism: &Parallelism) -> Option<Shortfall> {
    let cuts = 0..estimator.cuts.len();
    let all = cuts.filter_map(|cut| {
        let places = deepest(estimator, cut, parallelism, usize::MAX).pop()?;
        let shape = estimator.shape(cut, estimator.compression, places);
        of(estimator, &shape)
    });
    all.reduce(|best, next| if next.bytes < best.bytes { next } else { best })
}

fn of(estimator: &mut Estimator<'_>, shape: &Shape) -> Option<Shortfall> {
    let recompute = estimator.recompute.unwrap_or(true);
    let count = shape.places.stages;
    let mut columns: Vec<Column> =
        (0..count).filter_map(|stage| column(estimator, shape, stage, recompute)).collect();
    let layers = estimator.planner.run.model.config().num_hidden_layers;
    for _ in count as u32..layers {
        columns.iter_mut().max_by_key(|column| column.left())?.stage.layers += 1;
    }
    let worst = columns.iter().min_by_key(|column| column.left())?;
    let tensor = estimator.cuts[shape.cut].tensor();
    let each = shape.places.replicas as u64 * u64::from(tensor);
    let all = |bytes: fn(&Column) -> u64| {
        let sum = columns.iter().fold(0_u64, |sum, column| sum.saturating_add(bytes(column)));
        sum.saturating_mul(each)
    };
    Some(Shortfall {
        bytes: all(|column| column.needs().saturating_sub(column.memory)),
        needed: all(Column::needs),
        given: all(|column| column.memory),
        stages: count as u32,
        tensor,
        cards: count as u32 * each as u32,
        recompute,
        product: estimator.kinds[worst.kind].product.clone(),
        card_bytes: worst.memory,
        card_needs: worst.needs(),
    })
}

/// A stage on the smallest of its cards.
struct Column {
    kind: usize,
    memory: u64,
    lines: Lines,
    stage: StageSpec,
}

impl Column {
    fn needs(&self) -> u64 {
        self.lines.needs(self.stage)
    }

    fn left(&self) -> i128 {
        i128::from(self.memory) - i128::from(self.needs())
    }
}

fn column(
    estimator: &mut Estimator<'_>,
    shape: &Shape,
    at: usize,
    recompute: bool,
) -> Option<Column> {
    let batch = BatchSpec { micro_batches: estimator.planner.run.sequences, micro_batch_size: 1 };
    let mut smallest: Option<Column> = None;
    for replica in 0..shape.places.replicas {
        let kind = estimator.group(shape, replica, at).kind;
        let lines = estimator.lines(shape, kind, at, batch);
        let stage = StageSpec { layers: 1, recompute };
        let column = Column { kind, memory: estimator.kinds[kind].memory, lines, stage };
        if smallest.as_ref().is_none_or(|other| column.left() < other.left()) {
            smallest = Some(column);
        }
    }
    smallest
}
