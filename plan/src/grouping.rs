//! Grouping of machines into islands: proposals from what a cluster has.
//!
//! A node that holds the model is an island by itself. Nodes that do not are joined with others
//! that do not, as many as it takes, nearest first: in their NVLink clique, their rack, their zone,
//! then anywhere. What holds the model is joined with something near it only where the planner
//! predicts more tokens a second for the joined island than for its parts together. A node that is
//! left over joins an island near it where that makes the island faster; else it is left out, with
//! the figures.
//!
//! Near is what one label names, or, of nodes without labels, a network that was measured to be
//! fast. Joined islands exchange activations and gradients at each step, for which a link between
//! places that nobody knows of is not good enough.
//!
//! The order of the nodes does not matter, and every card that is asked for is in one proposal or
//! is left out with a reason. Nodes that are alike are asked about once, and the work is bounded by
//! counting it.

mod alike;
mod ask;
mod domain;
mod faster;
mod join;
mod name;
mod spread;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;

use crate::cluster::{Node, NodeCard};
use crate::gpu;
use crate::planner;
use crate::request::{Objective, PipelineRequest, RunRequest};

use domain::Domain;
use join::Joining;

/// The wishes that every island has to meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Least memory over all its cards, whatever cards they are, bytes.
    pub min_memory: Option<u64>,
    /// Most memory over all its cards, bytes.
    pub max_memory: Option<u64>,
    /// Products that may be used, as [`gpu::matches`] understands them; all whole cards where
    /// empty.
    pub products: Vec<String>,
    /// The goal of its plan.
    pub objective: Objective,
    /// Settings of what its pipeline stages keep and send.
    pub pipeline: PipelineRequest,
}

impl Wishes {
    fn wants(&self, product: &str) -> bool {
        let named = || self.products.iter().any(|pattern| gpu::matches(pattern, product));
        if self.products.is_empty() { gpu::matches("*", product) } else { named() }
    }
}

/// A planner's predictions for an island that has all cards of some nodes.
pub trait Predict {
    /// Says whether they hold the model, in whatever layout.
    fn holds(&self, nodes: &[Node]) -> bool;

    /// Tokens a second of the best layout, exchanges with other islands not counted; `None` where
    /// they do not hold the model.
    fn tokens_per_second(&self, nodes: &[Node]) -> Option<f64>;
}

/// Nodes that make an island.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// A name that no other proposal has: a DNS-1123 label.
    pub name: String,
    /// The nodes, by name.
    pub nodes: Vec<String>,
    /// How many cards of each product, by product.
    pub products: Vec<(String, u32)>,
    /// Bytes of all its cards.
    pub memory: u64,
    /// Why they go together, and not with others.
    pub reason: Reason,
}

/// Why nodes are an island: a sentence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reason {
    /// The nodes and where they are, in words.
    pub place: String,
    /// The decisions that led to it, first to last; not empty.
    pub why: Vec<Why>,
}

/// Why nodes were joined, or were not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// It is an island as it is.
    Holds,
    /// None of them is one: the model does not fit, or it is less than the least memory.
    Needed {
        /// Whether nothing says that they are near each other.
        far: bool,
    },
    /// They make more tokens a second together.
    Faster(Compared),
    /// Joined with what is near they would make no more tokens a second.
    Apart(Compared),
}

/// Predicted tokens a second of a joined island, and of its parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// Tokens a second of all as one island.
    pub together: f64,
    /// Tokens a second of the islands that they are otherwise, added up.
    pub apart: f64,
}

/// Cards that are in no proposal.
#[derive(Clone, Debug, PartialEq)]
pub struct LeftOut {
    /// The nodes that they are in, by name.
    pub nodes: Vec<String>,
    /// How many cards of each product, by product.
    pub products: Vec<(String, u32)>,
    /// Bytes of all of them.
    pub memory: u64,
    /// Why, and what to change.
    pub reason: Omitted,
}

/// Why cards are in no island: a sentence.
#[derive(Clone, Debug, PartialEq)]
pub enum Omitted {
    /// Their products are not asked for; those that are.
    Unasked(Vec<String>),
    /// Several nodes have this name.
    NamedTwice(String),
    /// A node, in words, whose memory is above the most that is wished.
    AboveMost(String, u64),
    /// The rest, in words, is below the least memory that is wished.
    BelowLeast(String, u64),
    /// The rest, in words, does not hold the model.
    TooSmall(String),
    /// The rest, in words, is no island, and makes none near it faster.
    NoFaster(String, Compared),
}

/// The fate of all cards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grouping {
    /// The islands, by name.
    pub proposals: Vec<Proposal>,
    /// The rest, by its first node.
    pub left_out: Vec<LeftOut>,
}

/// Proposes islands for a run.
///
/// Beside a card contributions are in the host's memory ([`crate::memory::buffers`]), so that it
/// does not matter here how many islands there will be.
pub fn for_run(run: &RunRequest, nodes: &[Node], wishes: &Wishes) -> Grouping {
    struct Planner<'a>(&'a RunRequest, &'a Wishes);

    impl Predict for Planner<'_> {
        fn holds(&self, nodes: &[Node]) -> bool {
            planner::holds(self.0, nodes, self.1.pipeline)
        }

        fn tokens_per_second(&self, nodes: &[Node]) -> Option<f64> {
            planner::tokens_per_second(self.0, nodes, (self.1.objective, self.1.pipeline))
        }
    }

    propose(nodes, wishes, &Planner(run, wishes))
}

/// Proposes islands by what `planner` predicts. It is asked of nodes with those of their cards that
/// may be used; in all less than ten times for each node whether they hold the model.
pub fn propose(nodes: &[Node], wishes: &Wishes, planner: &dyn Predict) -> Grouping {
    let (machines, mut left_out) = usable(nodes, wishes);
    let mut joining = Joining::new(&machines, wishes, planner);
    joining.join();
    left_out.extend(rests(&machines, joining.weak, wishes));
    left_out.sort_by(|a, b| a.nodes.cmp(&b.nodes));
    Grouping { proposals: proposals(&machines, joining.standing), left_out }
}

/// A node with the cards of it that may be used.
struct Machine<'a> {
    node: &'a Node,
    /// At least one.
    cards: Vec<&'a NodeCard>,
    memory: u64,
}

/// Nodes that go together.
#[derive(Clone, Debug, Default)]
struct Group {
    /// Indices of machines, ascending.
    members: Vec<usize>,
    memory: u64,
    /// Why its nodes are together, first to last.
    why: Vec<Why>,
    /// The comparison for the way to join it with something near in which it would lose least.
    apart: Option<Compared>,
}

/// The machines, neighbours next to each other, and what may not be used.
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
                let reason = Omitted::NamedTwice(name.to_owned());
                left_out.push(cards_left_out(&[(name, cards)], reason));
            }
            _ => {}
        }
    }
    if !unasked.is_empty() {
        left_out.push(cards_left_out(&unasked, Omitted::Unasked(wishes.products.clone())));
    }
    machines.sort_by(|a, b| {
        let place = |machine: &Machine<'a>| {
            let topology = &machine.node.topology;
            (&topology.zone, &topology.rack, &topology.clique, &machine.node.name)
        };
        place(a).cmp(&place(b))
    });
    (machines, left_out)
}

fn memory(cards: &[&NodeCard]) -> u64 {
    cards.iter().fold(0, |sum, card| sum.saturating_add(card.memory))
}

/// The cards that are left over, those of a zone with the same reason together.
fn rests(machines: &[Machine<'_>], weak: Vec<Group>, wishes: &Wishes) -> Vec<LeftOut> {
    let above = |group: &Group| wishes.max_memory.filter(|most| group.memory > *most);
    let below = |group: &Group| wishes.min_memory.filter(|least| group.memory < *least);
    let bits = |compared: Compared| [compared.together, compared.apart].map(f64::to_bits);
    let mut alike: BTreeMap<_, Vec<Group>> = BTreeMap::new();
    for group in weak {
        let zone = machines[group.members[0]].node.topology.zone.as_deref();
        let single = above(&group).map(|_| group.members[0]);
        let key = (zone, single, group.apart.map(bits), below(&group).is_some());
        alike.entry(key).or_default().push(group);
    }
    let left_out = alike.into_values().map(|groups| {
        let all = join::joined(groups.iter());
        let what = words::counted(&Domain::of(machines, &all.members), all.members.len());
        let reason = match (above(&groups[0]), groups[0].apart, below(&groups[0])) {
            (Some(most), ..) => Omitted::AboveMost(what, most),
            (None, Some(compared), _) => Omitted::NoFaster(what, compared),
            (None, None, Some(least)) => Omitted::BelowLeast(what, least),
            (None, None, None) => Omitted::TooSmall(what),
        };
        leave_out(machines, &all, reason)
    });
    left_out.collect()
}

fn cards_left_out(nodes: &[(&str, Vec<&NodeCard>)], reason: Omitted) -> LeftOut {
    let cards: Vec<&NodeCard> = nodes.iter().flat_map(|(_, cards)| cards.iter().copied()).collect();
    let mut names: Vec<String> = nodes.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort_unstable();
    LeftOut { nodes: names, products: products(&cards), memory: memory(&cards), reason }
}

fn products(cards: &[&NodeCard]) -> Vec<(String, u32)> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for card in cards {
        *counts.entry(&card.product).or_default() += 1;
    }
    counts.into_iter().map(|(product, count)| (product.to_owned(), count)).collect()
}

fn leave_out(machines: &[Machine<'_>], group: &Group, reason: Omitted) -> LeftOut {
    let members = group.members.iter().map(|member| &machines[*member]);
    let nodes: Vec<_> = members.map(|m| (m.node.name.as_str(), m.cards.clone())).collect();
    cards_left_out(&nodes, reason)
}

fn proposals(machines: &[Machine<'_>], mut groups: Vec<Group>) -> Vec<Proposal> {
    groups.sort_by(|a, b| a.members.cmp(&b.members));
    let domains: Vec<_> = groups.iter().map(|it| Domain::of(machines, &it.members)).collect();
    let names = name::unique(domains.iter().map(name::of));
    let proposal = |((group, domain), name): ((Group, &Domain<'_>), String)| {
        let members = group.members.iter().map(|member| &machines[*member]);
        let cards: Vec<&NodeCard> = members.clone().flat_map(|it| it.cards.clone()).collect();
        let mut nodes: Vec<String> = members.map(|it| it.node.name.clone()).collect();
        nodes.sort_unstable();
        let mut why = group.why;
        if why.is_empty() {
            why.push(Why::Holds);
        }
        why.extend(group.apart.map(Why::Apart));
        let reason = Reason { place: words::counted(domain, nodes.len()), why };
        Proposal { name, nodes, products: products(&cards), memory: group.memory, reason }
    };
    let mut proposals: Vec<_> = groups.into_iter().zip(&domains).zip(names).map(proposal).collect();
    proposals.sort_by(|a, b| a.name.cmp(&b.name));
    proposals
}
