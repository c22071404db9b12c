//! The work and memory of an island's cards: a column for each kind of rank.

use std::collections::BTreeSet;

use plan::memory::{Memory, Place, Term};
use plan::planner::{CardPlan, IslandPlan};
use plan::shard::{Grid, Position};
use plan::spec::{BatchSpec, CardSpec, DeviceSpec, Precision};

use super::grid;
use super::words::{bytes, listed, ranges, seconds};

/// A card of an island at its place.
pub(super) struct Seat<'a> {
    /// Its place in the island's order.
    pub position: u32,
    /// Its process.
    pub rank: u32,
    /// Its place in the grid.
    pub at: Position,
    pub card: &'a CardSpec,
    pub batch: &'a BatchSpec,
    pub plan: &'a CardPlan,
}

/// The cards of an island, in order.
pub(super) fn seats(island: &IslandPlan) -> impl Iterator<Item = Seat<'_>> {
    let grid = Grid::of(&island.spec);
    let ranks = (0..).zip(&island.spec.ranks);
    let cards = ranks.flat_map(|(rank, spec)| spec.devices.iter().map(move |card| (rank, card)));
    let cards = (0..).zip(cards.zip(&island.cards));
    cards.map(move |(position, ((rank, card), plan))| {
        let at = grid.position(position);
        let batch = &island.spec.batches[at.data as usize];
        Seat { position, rank, at, card, batch, plan }
    })
}

/// Cards that do and hold the same, wherever they are.
struct Group<'a> {
    seats: Vec<Seat<'a>>,
}

impl<'a> Group<'a> {
    fn first(&self) -> &Seat<'a> {
        &self.seats[0]
    }

    fn takes(&self, seat: &Seat<'_>) -> bool {
        let own = self.first();
        let memory = |plan: &CardPlan| (plan.card_bytes, plan.memory.clone());
        own.at.stage == seat.at.stage
            && own.card.product == seat.card.product
            && computes(own.card) == computes(seat.card)
            && own.batch == seat.batch
            && own.plan.compute_seconds == seat.plan.compute_seconds
            && memory(own.plan) == memory(seat.plan)
    }

    fn numbers(&self, of: impl Fn(&Seat<'_>) -> u32) -> String {
        let numbers: BTreeSet<u32> = self.seats.iter().map(of).collect();
        ranges(&numbers.into_iter().collect::<Vec<_>>())
    }
}

fn groups(island: &IslandPlan) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for seat in seats(island) {
        match groups.iter_mut().find(|group| group.takes(&seat)) {
            Some(group) => group.seats.push(seat),
            None => groups.push(Group { seats: vec![seat] }),
        }
    }
    groups
}

/// The table of an island's cards.
pub(super) fn table(island: &IslandPlan) -> String {
    let groups = groups(island);
    let terms = groups.first().map_or(&[] as &[Term], |group| &group.first().plan.memory.terms);
    let mut labels = vec!["ranks"];
    labels.extend(places(island).map(|(label, _)| label));
    labels.extend(["micro-batches", "computes"]);
    labels.extend(terms.iter().map(|term| term.kind.name()));
    labels.extend(["needs", "headroom"]);
    let columns: Vec<_> = groups.iter().map(|group| column(island, group)).collect();
    grid::labelled(&labels, &columns)
}

fn column(island: &IslandPlan, group: &Group<'_>) -> Vec<String> {
    let Seat { card, batch, plan, .. } = group.first();
    let needs = plan.memory.card();
    let mut cells = vec![group.numbers(|seat| seat.rank)];
    cells.extend(places(island).map(|(_, cell)| cell(island, group)));
    cells.extend([
        format!("{} of {} sequences", batch.micro_batches, batch.micro_batch_size),
        format!("{} a step, {}", seconds(plan.compute_seconds), computes(card)),
    ]);
    cells.extend(held(&plan.memory));
    cells.push(format!("{} of {}", bytes(needs), bytes(plan.card_bytes)));
    cells.push(bytes(plan.card_bytes.saturating_sub(needs)));
    cells
}

fn held(memory: &Memory) -> impl Iterator<Item = String> {
    memory.terms.iter().map(|term| match term.place {
        Place::Card => bytes(term.bytes),
        Place::Host => format!("{} (host)", bytes(term.bytes)),
    })
}

/// A cell of a group's column.
type Cell = fn(&IslandPlan, &Group<'_>) -> String;

/// The rows that say which cards they are, and where they stand; those that would say nothing are
/// left out.
fn places(island: &IslandPlan) -> impl Iterator<Item = (&'static str, Cell)> {
    let Grid { stages, tensor, .. } = Grid::of(&island.spec);
    let shared = island.spec.ranks.iter().any(|rank| rank.devices.len() > 1);
    let named = island.cards.iter().any(|card| card.node.is_some());
    let rows: [(bool, &'static str, Cell); 7] = [
        (shared, "positions", |_, group| group.numbers(|seat| seat.position)),
        (true, "card", |_, group| group.first().card.product.clone()),
        (named, "node", |_, group| nodes(group)),
        (stages > 1, "stage", |_, group| group.first().at.stage.to_string()),
        (stages > 1, "layers", layers),
        (tensor > 1, "tp", |_, group| group.numbers(|seat| seat.at.tensor)),
        (stages * tensor > 1, "dp", |_, group| group.numbers(|seat| seat.at.data)),
    ];
    let shown = rows.into_iter().filter(|(shown, ..)| *shown);
    shown.map(|(_, label, cell)| (label, cell))
}

fn nodes(group: &Group<'_>) -> String {
    let names: BTreeSet<&str> =
        group.seats.iter().filter_map(|seat| seat.plan.node.as_deref()).collect();
    listed(&names.into_iter().collect::<Vec<_>>())
}

/// `0–11, recompute`.
fn layers(island: &IslandPlan, group: &Group<'_>) -> String {
    let stage = group.first().at.stage;
    let (first, own) = (first_layer(island, stage), island.spec.sharding.stages[stage as usize]);
    let recompute = if own.recompute { ", recompute" } else { "" };
    format!("{}{recompute}", ranges(&(first..first + own.layers).collect::<Vec<_>>()))
}

/// Layers before a stage.
pub(super) fn first_layer(island: &IslandPlan, stage: u32) -> u32 {
    let before = &island.spec.sharding.stages[..stage as usize];
    before.iter().map(|stage| stage.layers).sum()
}

/// The precision that a card computes in.
pub(super) fn precision(card: &CardSpec) -> &'static str {
    match card.device.precision() {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

fn computes(card: &CardSpec) -> String {
    let precision = precision(card);
    match card.device {
        DeviceSpec::Cuda { .. } => precision.to_owned(),
        DeviceSpec::Cpu { speed, .. } => {
            format!("{precision} at {:.0}% of a CPU thread", speed * 100.0)
        }
    }
}
