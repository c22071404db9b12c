//! Questions to a planner: each mix of nodes is asked about once, as long as there is work left to
//! spend.

use std::collections::{BTreeMap, BTreeSet};

use super::{Machine, Predict, alike};
use crate::cluster::Node;
use crate::planner::CARDS_MAX;

/// How many nodes of each kind: islands of the same mix are alike.
pub(super) type Mix = Vec<(usize, u32)>;

/// Cards of all islands whose speed is asked for, together: about a millisecond each.
const CARDS_ASKED_MAX: usize = 2_000;
/// Most unlike cards that are arranged in every way; asking about them counts as [`FEW_COUNT_AS`]
/// cards.
const FEW_CARDS_MAX: usize = 8;
/// See [`FEW_CARDS_MAX`].
const FEW_COUNT_AS: usize = 400;

/// Answers of a planner.
pub(super) struct Asked<'a> {
    machines: &'a [Machine<'a>],
    /// The kind of each machine.
    kinds: Vec<usize>,
    planner: &'a dyn Predict,
    holds: BTreeMap<Mix, bool>,
    speeds: BTreeMap<Mix, Option<f64>>,
    left: usize,
}

impl<'a> Asked<'a> {
    pub(super) fn new(machines: &'a [Machine<'a>], planner: &'a dyn Predict) -> Self {
        Self {
            machines,
            kinds: alike::kinds(machines),
            planner,
            holds: BTreeMap::new(),
            speeds: BTreeMap::new(),
            left: CARDS_ASKED_MAX,
        }
    }

    pub(super) fn mix(&self, members: &[usize]) -> Mix {
        let mut counts: BTreeMap<usize, u32> = BTreeMap::new();
        for member in members {
            *counts.entry(self.kinds[*member]).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    /// Says whether the machines hold the model together.
    pub(super) fn holds(&mut self, members: &[usize]) -> bool {
        let mix = self.mix(members);
        if let Some(known) = self.holds.get(&mix) {
            return *known;
        }
        let holds = self.planner.holds(&self.nodes(members));
        self.holds.insert(mix, holds);
        holds
    }

    /// Tokens a second of the machines as one island; `None` where they are none, and where no work
    /// is left.
    pub(super) fn speed(&mut self, members: &[usize]) -> Option<f64> {
        let mix = self.mix(members);
        if let Some(known) = self.speeds.get(&mix) {
            return *known;
        }
        let cards = self.work(members);
        if !self.holds(members) {
            return None;
        }
        self.left = self.left.checked_sub(cards)?;
        let speed = self.planner.tokens_per_second(&self.nodes(members));
        let speed = speed.filter(|speed| speed.is_finite());
        self.speeds.insert(mix, speed);
        speed
    }

    /// Cards of an island, as their work counts.
    fn work(&self, members: &[usize]) -> usize {
        let cards = || members.iter().flat_map(|member| &self.machines[*member].cards);
        let (count, nodes) = (cards().count(), members.len());
        let products: BTreeSet<&str> = cards().map(|card| card.product.as_str()).collect();
        let unlike = products.len() > 1 || nodes > 1;
        if unlike && count <= FEW_CARDS_MAX { FEW_COUNT_AS } else { count.min(CARDS_MAX) }
    }

    /// The machines with those of their cards that may be used, those of a kind together.
    fn nodes(&self, members: &[usize]) -> Vec<Node> {
        let mut members = members.to_vec();
        members.sort_by_key(|member| (self.kinds[*member], *member));
        let node = |member: &usize| {
            let Machine { node, cards, .. } = &self.machines[*member];
            Node {
                name: node.name.clone(),
                topology: node.topology.clone(),
                cards: cards.iter().map(|card| (*card).clone()).collect(),
                links: node.links.clone(),
            }
        };
        members.iter().map(node).collect()
    }
}
