//! Domains: nodes that are near each other.

use std::fmt;

use super::Machine;
use crate::cluster::{Node, Topology};

/// Bytes of a message whose speed says how fast a network is.
const LARGE: u64 = 256 << 20;
/// Bytes a second from which a network is fast: what a tenth of a 100 Gb/s link carries.
const FAST: f64 = 1e9;

/// The narrowest place that some nodes are known to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Domain<'a> {
    /// A node by itself.
    Node(&'a str),
    /// An NVLink domain over several nodes.
    Clique(&'a str),
    /// A rack, and its zone: racks of two zones may have one name.
    Rack(Option<&'a str>, &'a str),
    /// A zone.
    Zone(&'a str),
    /// Nodes without labels whose network was measured to be fast; the first of so many.
    Network(&'a str, usize),
    /// Nothing says that they are near each other; the first of so many.
    Anywhere(&'a str, usize),
}

/// How wide a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Clique,
    Rack,
    Zone,
    Network,
}

/// A place of some level, in which nodes are near each other.
pub(super) type Place<'a> = (Option<&'a str>, Option<&'a str>);

impl Level {
    /// The narrowest first.
    pub(super) const NEAR: [Level; 4] = [Level::Clique, Level::Rack, Level::Zone, Level::Network];

    /// The one place in which all these machines are; `None` where there is no such place.
    pub(super) fn place<'a>(
        self,
        machines: &[Machine<'a>],
        members: &[usize],
    ) -> Option<Place<'a>> {
        let mut places = members.iter().map(|member| self.of(machines[*member].node));
        let first = places.next()??;
        places.all(|place| place == Some(first)).then_some(first)
    }

    fn of(self, node: &Node) -> Option<Place<'_>> {
        let Topology { zone, rack, clique } = &node.topology;
        let (zone, rack, clique) = (label(zone), label(rack), label(clique));
        match self {
            Self::Clique => Some((None, Some(clique?))),
            Self::Rack => Some((zone, Some(rack?))),
            Self::Zone => Some((Some(zone?), None)),
            Self::Network => {
                let bare = zone.is_none() && rack.is_none() && clique.is_none();
                let fast = network(node).is_some_and(|speed| speed >= FAST);
                (bare && fast).then_some((None, None))
            }
        }
    }
}

/// A label with something on it.
fn label(label: &Option<String>) -> Option<&str> {
    label.as_deref().filter(|label| !label.is_empty())
}

/// Bytes a second of a large message between this node and others; `None` where nobody measured.
pub(super) fn network(node: &Node) -> Option<f64> {
    let seconds = node.links.network.as_ref()?.seconds(LARGE as f64);
    (seconds > 0.0 && seconds.is_finite()).then(|| LARGE as f64 / seconds)
}

impl<'a> Domain<'a> {
    /// The domain of the machines with these indices.
    pub(super) fn of(machines: &[Machine<'a>], members: &[usize]) -> Self {
        let names = members.iter().map(|member| machines[*member].node.name.as_str());
        let first = names.min().unwrap_or_default();
        if members.len() == 1 {
            return Self::Node(first);
        }
        let place = |level: Level| Some((level, level.place(machines, members)?));
        match Level::NEAR.into_iter().find_map(place) {
            Some((Level::Clique, (_, Some(clique)))) => Self::Clique(clique),
            Some((Level::Rack, (zone, Some(rack)))) => Self::Rack(zone, rack),
            Some((Level::Zone, (Some(zone), _))) => Self::Zone(zone),
            Some((Level::Network, _)) => Self::Network(first, members.len()),
            _ => Self::Anywhere(first, members.len()),
        }
    }
}

impl fmt::Display for Domain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "node {node}"),
            Self::Clique(clique) => write!(f, "clique {clique}"),
            Self::Rack(Some(zone), rack) => write!(f, "rack {rack} of zone {zone}"),
            Self::Rack(None, rack) => write!(f, "rack {rack}"),
            Self::Zone(zone) => write!(f, "zone {zone}"),
            Self::Network(..) => write!(f, "a fast network"),
            Self::Anywhere(..) => write!(f, "several places"),
        }
    }
}
