//! By how much an island's cards are too small together.

use super::cards::Chosen;
use super::groups;
use super::sharding::{Cut, Search};
use crate::part::Parts;
use crate::spec::BatchSpec;

/// A layout that does not fit, spread as evenly over the memory as it can be.
#[derive(Clone, Debug)]
pub(super) struct Shortfall {
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
    /// Whether more stages are possible.
    pub can_grow: bool,
    /// The card that is short of the most, and what it needs.
    pub card: Chosen,
    pub card_needs: u64,
}

/// The shortfall with as many stages as the cards make, one sequence at a time; `None` where the
/// cards do not make up the layout at all.
pub(super) fn of(search: &Search<'_>, parts: &Parts) -> Option<Shortfall> {
    let groups = search.groups(parts);
    let replicas = search.island.parallelism.data.unwrap_or(1) as usize;
    let stages = search.stages(groups.len() / replicas.max(1)).next_back()?;
    let rows = groups::arrangements(&groups, search.cards, replicas, stages).pop()?;
    let batch = BatchSpec { micro_batches: search.planner.run.sequences, micro_batch_size: 1 };
    let recompute = search.island.pipeline.recompute.unwrap_or(true);
    let cut = Cut { parts, rows: &rows, batch, recompute };
    let mut columns: Vec<_> = (0..cut.stages()).map(|stage| column(search, &cut, stage)).collect();
    let layers = search.planner.run.model.config().num_hidden_layers;
    for _ in cut.stages()..layers {
        let column = columns.iter_mut().max_by_key(|column| column.left())?;
        column.needed = column.needed.saturating_add(column.layer);
    }
    let worst = columns.iter().min_by_key(|column| column.left())?;
    let each = replicas as u64 * u64::from(parts.tensor());
    let all = |bytes: fn(&Column<'_>) -> u64| {
        columns
            .iter()
            .fold(0_u64, |sum, column| sum.saturating_add(bytes(column)))
            .saturating_mul(each)
    };
    Some(Shortfall {
        bytes: all(|column| column.needed.saturating_sub(column.card.memory)),
        needed: all(|column| column.needed),
        given: all(|column| column.card.memory),
        stages: cut.stages(),
        tensor: parts.tensor(),
        cards: columns.len() as u32 * each as u32,
        recompute,
        can_grow: search.island.parallelism.pipeline.is_none() && cut.stages() < layers,
        card: worst.card.clone(),
        card_needs: worst.needed,
    })
}

/// A stage on the smallest of its cards.
struct Column<'a> {
    card: &'a Chosen,
    needed: u64,
    /// Bytes of one more layer.
    layer: u64,
}

impl Column<'_> {
    fn left(&self) -> i128 {
        i128::from(self.card.memory) - i128::from(self.needed)
    }
}

fn column<'a>(search: &Search<'a>, cut: &Cut<'_>, stage: u32) -> Column<'a> {
    let kinds = groups::kinds(cut.rows, stage as usize).into_iter();
    let needs = |kind: usize, layers| {
        search.needs(cut, &search.cards[kind], search.part(cut, stage, layers))
    };
    let columns = kinds.map(|kind| Column {
        card: &search.cards[kind],
        needed: needs(kind, 1),
        layer: needs(kind, 2).saturating_sub(needs(kind, 1)),
    });
    let smallest = columns.min_by_key(Column::left);
    smallest.expect("a stage has cards")
}
