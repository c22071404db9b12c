//! Which machines make an island: proposals from what a cluster has.
//!
//! What has fast links inside goes together: the nodes of an NVLink clique, of a rack, of a zone,
//! whichever is the narrowest that a node is labelled with. Nodes without labels go together where
//! their network was measured to be fast, else each is by itself. A group that cannot be an island,
//! because it does not hold the model or has less than the wished memory, joins others that cannot,
//! in its rack, then in its zone, then anywhere; where none are left, it joins an island of its
//! rack or zone. (Not one from elsewhere: that one would be slower for it.) A group with more than
//! the wished memory is split between nodes.
//!
//! The order of the nodes does not matter, and every card that is asked for is in one proposal or
//! is left out with a reason.

mod domain;
mod merge;
mod name;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;

use crate::cluster::{Node, NodeCard};
use crate::gpu;

use domain::{Domain, Level};
use merge::Groups;

/// What is wished of every island.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Least memory over all its cards, whatever cards they are, bytes.
    pub min_memory: Option<u64>,
    /// Most memory over all its cards, bytes.
    pub max_memory: Option<u64>,
    /// Products that may be used, as [`gpu::matches`] understands them; all whole cards where
    /// empty.
    pub products: Vec<String>,
}

impl Wishes {
    fn wants(&self, product: &str) -> bool {
        let named = || self.products.iter().any(|pattern| gpu::matches(pattern, product));
        if self.products.is_empty() { gpu::matches("*", product) } else { named() }
    }
}

/// Nodes that make an island.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// A name that no other proposal has: a DNS-1123 label.
    pub name: String,
    /// The nodes, by name.
    pub nodes: Vec<String>,
    /// How many cards of each product, by product.
    pub products: Vec<(String, u32)>,
    /// Bytes of all its cards.
    pub memory: u64,
    /// Why they go together, a sentence.
    pub reason: String,
}

/// Cards that are in no proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The nodes that they are in, by name.
    pub nodes: Vec<String>,
    /// How many cards of each product, by product.
    pub products: Vec<(String, u32)>,
    /// Bytes of all of them.
    pub memory: u64,
    /// Why, and what to change.
    pub reason: String,
}

/// What becomes of all cards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grouping {
    /// The islands, by name.
    pub proposals: Vec<Proposal>,
    /// The rest, by its first node.
    pub left_out: Vec<LeftOut>,
}

/// Proposes islands. `holds` says whether cards hold the model together; it is asked a few times
/// for each group that is looked at, in all less than ten times for each node.
pub fn propose(
    nodes: &[Node],
    wishes: &Wishes,
    holds: impl Fn(&[(&Node, &NodeCard)]) -> bool,
) -> Grouping {
    let (machines, mut left_out) = usable(nodes, wishes);
    let stands = |members: &[usize]| {
        let members = members.iter().map(|member| &machines[*member]);
        let cards = members.flat_map(|m| m.cards.iter().map(|card| (m.node, *card)));
        holds(&cards.collect::<Vec<_>>())
    };
    let mut groups = Groups::new(&machines, wishes, &stands);
    groups.merge();
    let reason = |group: &Group<'_>| words::left_out(group, wishes);
    left_out.extend(groups.weak.iter().map(|group| leave_out(&machines, group, reason(group))));
    left_out.sort_by(|a, b| a.nodes.cmp(&b.nodes));
    Grouping { proposals: proposals(&machines, groups.standing), left_out }
}

/// A node with the cards of it that may be used.
struct Machine<'a> {
    node: &'a Node,
    /// At least one.
    cards: Vec<&'a NodeCard>,
    memory: u64,
}

/// Nodes that go together.
#[derive(Clone, Debug)]
struct Group<'a> {
    /// Indices of machines, ascending.
    members: Vec<usize>,
    memory: u64,
    /// What it is made of, ascending.
    domains: Vec<Domain<'a>>,
    /// Whether it is a part of its domain.
    part: bool,
    /// Where its domains were joined.
    joined: Option<Level>,
}

/// The machines by name, and what may not be used.
fn usable<'a>(nodes: &'a [Node], wishes: &Wishes) -> (Vec<Machine<'a>>, Vec<LeftOut>) {
    let asked = |card: &&NodeCard| wishes.wants(&card.product);
    let mut by_name: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for node in nodes {
        by_name.entry(&node.name).or_default().push(node);
    }
    let (mut machines, mut unasked, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for (name, nodes) in by_name {
        let all = nodes.iter().flat_map(|node| &node.cards);
        let (cards, others): (Vec<_>, Vec<_>) = all.partition(asked);
        if !others.is_empty() {
            unasked.push((name, others));
        }
        match nodes[..] {
            [node] if !cards.is_empty() => {
                machines.push(Machine { node, memory: memory(&cards), cards });
            }
            [_, _, ..] if !cards.is_empty() => {
                left_out.push(cards_left_out(&[(name, cards)], words::named_twice(name)));
            }
            _ => {}
        }
    }
    if !unasked.is_empty() {
        left_out.push(cards_left_out(&unasked, words::unasked(&wishes.products)));
    }
    (machines, left_out)
}

fn memory(cards: &[&NodeCard]) -> u64 {
    cards.iter().fold(0, |sum, card| sum.saturating_add(card.memory))
}

fn cards_left_out(nodes: &[(&str, Vec<&NodeCard>)], reason: String) -> LeftOut {
    let cards: Vec<&NodeCard> = nodes.iter().flat_map(|(_, cards)| cards.iter().copied()).collect();
    LeftOut {
        nodes: nodes.iter().map(|(name, _)| (*name).to_owned()).collect(),
        products: products(&cards),
        memory: memory(&cards),
        reason,
    }
}

fn products(cards: &[&NodeCard]) -> Vec<(String, u32)> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for card in cards {
        *counts.entry(&card.product).or_default() += 1;
    }
    counts.into_iter().map(|(product, count)| (product.to_owned(), count)).collect()
}

fn leave_out(machines: &[Machine<'_>], group: &Group<'_>, reason: String) -> LeftOut {
    let members = group.members.iter().map(|member| &machines[*member]);
    let nodes: Vec<_> = members.map(|m| (m.node.name.as_str(), m.cards.clone())).collect();
    cards_left_out(&nodes, reason)
}

fn proposals(machines: &[Machine<'_>], mut groups: Vec<Group<'_>>) -> Vec<Proposal> {
    groups.sort_by(|a, b| a.members.cmp(&b.members));
    let names = name::unique(groups.iter().map(|group| name::of(machines, group)));
    let proposal = |(group, name): (&Group<'_>, String)| {
        let LeftOut { nodes, products, memory, reason } =
            leave_out(machines, group, words::proposed(group));
        Proposal { name, nodes, products, memory, reason }
    };
    let mut proposals: Vec<_> = groups.iter().zip(names).map(proposal).collect();
    proposals.sort_by(|a, b| a.name.cmp(&b.name));
    proposals
}
