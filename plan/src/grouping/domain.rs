//! What has fast links inside, and where such things are near each other.

use super::Machine;
use crate::cluster::{Node, Topology};

/// Bytes of a message whose speed says how fast a network is.
const LARGE: u64 = 256 << 20;
/// Bytes a second from which a network is fast: what a tenth of a 100 Gb/s link carries.
const FAST: f64 = 1e9;

/// A fast domain: the narrowest that a node is known to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Domain<'a> {
    /// An NVLink domain over several nodes.
    Clique(&'a str),
    /// A rack, and its zone: racks of two zones may have one name.
    Rack(Option<&'a str>, &'a str),
    /// A zone.
    Zone(&'a str),
    /// Nodes without labels whose network was measured to be fast.
    Network,
    /// A node by itself.
    Node(&'a str),
}

/// How far apart the domains are that are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Rack,
    Zone,
    Anywhere,
}

/// Where a group is, at some level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place<'a> {
    zone: Option<&'a str>,
    rack: Option<&'a str>,
}

/// A label with something on it.
fn label(label: &Option<String>) -> Option<&str> {
    label.as_deref().filter(|label| !label.is_empty())
}

impl<'a> Domain<'a> {
    pub(super) fn of(node: &'a Node) -> Self {
        let Topology { zone, rack, clique } = &node.topology;
        match (label(clique), label(rack), label(zone)) {
            (Some(clique), _, _) => Self::Clique(clique),
            (None, Some(rack), zone) => Self::Rack(zone, rack),
            (None, None, Some(zone)) => Self::Zone(zone),
            _ if network(node).is_some_and(|speed| speed >= FAST) => Self::Network,
            _ => Self::Node(&node.name),
        }
    }
}

/// Bytes a second of a large message between this node and others; `None` where nobody measured.
pub(super) fn network(node: &Node) -> Option<f64> {
    let seconds = node.links.network.as_ref()?.seconds(LARGE as f64);
    (seconds > 0.0 && seconds.is_finite()).then(|| LARGE as f64 / seconds)
}

impl Level {
    pub(super) const ALL: [Level; 3] = [Level::Rack, Level::Zone, Level::Anywhere];

    /// The one place in which all these machines are; `None` where there is no such place.
    pub(super) fn place<'a>(
        self,
        machines: &[Machine<'a>],
        members: &[usize],
    ) -> Option<Place<'a>> {
        let place = |member: &usize| {
            let Topology { zone, rack, .. } = &machines[*member].node.topology;
            match self {
                Self::Rack => Some(Place { zone: label(zone), rack: Some(label(rack)?) }),
                Self::Zone => Some(Place { zone: Some(label(zone)?), rack: None }),
                Self::Anywhere => Some(Place { zone: None, rack: None }),
            }
        };
        let first = place(members.first()?)?;
        members.iter().all(|member| place(member) == Some(first)).then_some(first)
    }
}
