//! How long an island's cards take to send each other something.
//!
//! A process has all cards of a node that stand next to each other in the grid; CPU ranks and parts
//! of cards have a process each. Between cards of one process tensors are copied from card to card,
//! between processes they go through the host by gRPC, in f32.

use crate::cluster::Curve;
use crate::planner::cards::{Chosen, Host};

/// The place at which a group of cards computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub process: u32,
    pub node: usize,
}

/// The links of an island.
#[derive(Clone, Debug)]
pub(crate) struct Fabric {
    /// The links of each node.
    nodes: Vec<NodeLinks>,
}

#[derive(Clone, Debug)]
struct NodeLinks {
    process: Curve,
    node: Curve,
    network: Curve,
}

/// Bytes of the same message in one process, and as it goes between processes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub inside: f64,
    pub outside: f64,
}

impl Message {
    /// A message of `values` values of `bytes` bytes each; f32 between processes.
    pub(crate) fn of(values: f64, bytes: f64) -> Self {
        Self { inside: values * bytes, outside: values * 4.0 }
    }
}

impl Fabric {
    pub(crate) fn new(hosts: &[Host], cards: &[Chosen]) -> Self {
        let links = |(node, host): (usize, &Host)| {
            let own = cards.iter().filter(|card| card.node == node);
            let slowest = own.map(|card| card.facts.peer_gbps).fold(f64::INFINITY, f64::min);
            let slowest = if slowest.is_finite() { slowest } else { 1.0 };
            NodeLinks { process: host.process(slowest), node: host.node(), network: host.network() }
        };
        Self { nodes: hosts.iter().enumerate().map(links).collect() }
    }

    /// Seconds of `count` messages at once from one group of cards to another.
    pub(crate) fn messages(&self, from: Spot, to: Spot, message: Message, count: f64) -> f64 {
        let (here, there) = (&self.nodes[from.node], &self.nodes[to.node]);
        if from.process == to.process {
            // Each pair of cards has its own link.
            here.process.seconds(message.inside)
        } else if from.node == to.node {
            here.node.seconds(message.outside * count)
        } else {
            let bytes = message.outside * count;
            here.network.seconds(bytes).max(there.network.seconds(bytes))
        }
    }

    /// Seconds in which the cards of a node add up a tensor, in one process or each in its own.
    pub(crate) fn sum_beside(
        &self,
        node: usize,
        cards: u32,
        one_process: bool,
        message: Message,
    ) -> f64 {
        let links = &self.nodes[node];
        if one_process {
            gathered(&links.process, cards, message.inside)
        } else {
            ring(&links.node, cards, message.outside)
        }
    }

    /// Seconds in which cards at several spots add up a tensor, while `sharing` such sums use the
    /// same links between nodes.
    pub(crate) fn sum(&self, spots: &[Spot], message: Message, sharing: f64) -> f64 {
        let mut processes: Vec<(Spot, u32)> = Vec::new();
        for spot in spots {
            match processes.iter_mut().find(|(other, _)| other.process == spot.process) {
                Some((_, cards)) => *cards += 1,
                None => processes.push((*spot, 1)),
            }
        }
        let inside = processes
            .iter()
            .map(|(spot, cards)| gathered(&self.nodes[spot.node].process, *cards, message.inside));
        let inside = inside.fold(0.0, f64::max);
        let count = processes.len() as u32;
        let away = processes.iter().any(|(spot, _)| spot.node != processes[0].0.node);
        let outside = processes.iter().map(|(spot, _)| {
            let links = &self.nodes[spot.node];
            if away {
                ring(&links.network, count, message.outside * sharing)
            } else {
                ring(&links.node, count, message.outside)
            }
        });
        inside + outside.fold(0.0, f64::max)
    }
}

impl Fabric {
    /// A lower bound of the seconds of a sum over so many processes on several nodes.
    pub(crate) fn least_sum(&self, processes: u32, bytes: f64) -> f64 {
        let sums = self.nodes.iter().map(|links| ring(&links.network, processes, bytes));
        sums.fold(f64::INFINITY, f64::min)
    }

    /// A lower bound of the seconds of `count` messages at once from node to node.
    pub(crate) fn least_message(&self, message: Message, count: f64) -> f64 {
        let bytes = message.outside * count;
        let times = self.nodes.iter().map(|links| links.network.seconds(bytes));
        times.fold(f64::INFINITY, f64::min)
    }
}

/// One card takes the tensors of all the others, adds up, and gives each the sum.
fn gathered(link: &Curve, cards: u32, bytes: f64) -> f64 {
    if cards < 2 { 0.0 } else { 2.0 * f64::from(cards - 1) * link.seconds(bytes) }
}

/// A ring all-reduce: in each of 2 (n − 1) turns every rank sends an n-th (Patarasuk & Yuan 2009).
fn ring(link: &Curve, ranks: u32, bytes: f64) -> f64 {
    let turns = 2 * ranks.saturating_sub(1);
    if turns == 0 { 0.0 } else { f64::from(turns) * link.seconds(bytes / f64::from(ranks)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Links;

    fn fabric() -> Fabric {
        let links = Links {
            process: Some(Curve::linear(0.0, 100.0)),
            node: Some(Curve::linear(0.0, 10.0)),
            network: Some(Curve::linear(0.0, 1.0)),
        };
        let host = Host { name: None, links };
        Fabric::new(&[host.clone(), host], &[])
    }

    fn spot(process: u32, node: usize) -> Spot {
        Spot { process, node }
    }

    #[test]
    fn a_message_takes_the_nearest_way_and_several_share_what_lies_outside() {
        let message = Message { inside: 100.0, outside: 200.0 };
        let send = |from, to, count| fabric().messages(from, to, message, count);
        assert_eq!(send(spot(0, 0), spot(0, 0), 2.0), 1.0);
        assert_eq!(send(spot(0, 0), spot(1, 0), 2.0), 40.0);
        assert_eq!(send(spot(0, 0), spot(1, 1), 2.0), 400.0);
    }

    #[test]
    fn a_sum_is_gathered_inside_a_process_and_goes_round_between_them() {
        let message = Message { inside: 100.0, outside: 200.0 };
        let sum = |spots: &[Spot]| fabric().sum(spots, message, 1.0);
        assert_eq!(sum(&[spot(0, 0)]), 0.0);
        assert_eq!(sum(&[spot(0, 0), spot(0, 0), spot(0, 0)]), 4.0);
        assert_eq!(sum(&[spot(0, 0), spot(1, 0)]), 20.0);
        assert_eq!(sum(&[spot(0, 0), spot(0, 0), spot(1, 1)]), 2.0 + 200.0);
        assert_eq!(fabric().sum(&[spot(0, 0), spot(1, 1)], message, 3.0), 600.0);
        assert_eq!(fabric().sum_beside(0, 2, true, message), 2.0);
        assert_eq!(fabric().sum_beside(0, 2, false, message), 20.0);
    }
}
