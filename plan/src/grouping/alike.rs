//! Nodes that are alike: one of them answers for all.

use std::collections::BTreeMap;

use super::Machine;
use crate::cluster::{Curve, NodeCard};

/// Measured figures that differ by no more than about a tenth count as the same: estimates are no
/// better, and no two nodes measure the same.
const ALIKE: f64 = 1.1;
/// Bytes of the messages by whose time links are told apart.
const MESSAGES: [f64; 2] = [65_536.0, 268_435_456.0];

/// The facts that are compared of a card: its product and memory, and roughly how fast it is.
type CardLook<'a> = (&'a str, u64, Option<[i32; 3]>);

/// The facts that are compared of a node: its cards and, roughly, its links.
type Look<'a> = (Vec<CardLook<'a>>, [Option<[i32; 2]>; 3]);

/// The kind of each machine, counted from 0; those of one kind are alike.
pub(super) fn kinds(machines: &[Machine<'_>]) -> Vec<usize> {
    let mut known: BTreeMap<Look<'_>, usize> = BTreeMap::new();
    let mut kinds = Vec::with_capacity(machines.len());
    for machine in machines {
        let next = known.len();
        kinds.push(*known.entry(look(machine)).or_insert(next));
    }
    kinds
}

fn look<'a>(machine: &Machine<'a>) -> Look<'a> {
    let mut cards: Vec<CardLook<'a>> = machine.cards.iter().map(|card| card_look(card)).collect();
    cards.sort_unstable();
    let links = &machine.node.links;
    let links = [&links.process, &links.node, &links.network];
    (cards, links.map(|link| link.as_ref().map(link_look)))
}

fn card_look(card: &NodeCard) -> CardLook<'_> {
    let speeds = card.measured.map(|reached| {
        let halves = reached.bf16_tflops.map_or(i32::MIN, rough);
        [rough(reached.f32_tflops), halves, rough(reached.bandwidth_gbps)]
    });
    (&card.product, card.memory, speeds)
}

fn link_look(link: &Curve) -> [i32; 2] {
    MESSAGES.map(|bytes| rough(link.seconds(bytes)))
}

/// The power of [`ALIKE`] that is nearest.
fn rough(figure: f64) -> i32 {
    // NaN becomes 0.
    (libm::log(figure) / libm::log(ALIKE)).round() as i32
}
