//! The nodes that islands are planned on: assumed from what they declare, with what was measured on
//! them.

#[cfg(test)]
mod tests;

use crate::cluster::{Bandwidth, Capability, DeviceCapability, Links, Node, NodeCard, Topology};
use crate::gpu;
use crate::planner::CARDS_MAX;
use crate::request::{DeviceRequest, IslandRequest};
use crate::words::named;

/// Cards of a node, where nobody says how they are placed.
pub const NODE_CARDS: usize = 8;
/// Nodes that an error lists.
const LISTED_MAX: usize = 16;

/// Nodes, and the islands that take cards from them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The islands.
    pub islands: Vec<IslandRequest>,
    /// Assumptions about cards of which less was said, a sentence each.
    pub notes: Vec<String>,
}

/// A record that speaks of something else than the site.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Nothing is planned on the node.
    #[error(
        "failed to apply the record of node {node}: the nodes here are {known}; write one of them \
         into the record's \"node\", or give it by `heteroloco probe --node`"
    )]
    UnknownNode {
        /// The record's node.
        node: String,
        /// The nodes that there are.
        known: String,
    },
    /// The node has another card there.
    #[error(
        "failed to apply the record of node {node}: it measured {measured} where the island has \
         card {index}, {declared}; name the product in the island's devices, or leave the record \
         out"
    )]
    OtherCard {
        /// The record's node.
        node: String,
        /// Index of the node's card.
        index: usize,
        /// The record's product.
        measured: String,
        /// The node's product.
        declared: String,
    },
}

impl Site {
    /// As many cards as each island declares at most, each entry's on nodes of its own with at most
    /// [`NODE_CARDS`]: `<island>-<entry>-<n>`, both counted from 0. A family (`NVIDIA-H100*`) is
    /// taken to be [`gpu::lookup`]'s choice. An island uses its own nodes only.
    ///
    /// The nodes that islands are assumed to have. An island with more cards than are planned for
    /// gets one too many, so that the planner refuses it.
    pub fn assumed(islands: Vec<IslandRequest>) -> Site {
        let mut site = Site::default();
        for mut island in islands {
            let mut room = CARDS_MAX + 1;
            let before = site.nodes.len();
            for (entry, device) in island.devices.iter_mut().enumerate() {
                let card = card(device);
                let note = gpu::assumed(&device.product);
                site.notes.extend(note.map(|note| format!("island {}: {note}", island.name)));
                // Else an entry for a family would take the cards of another one's member.
                device.product.clone_from(&card.product);
                let count = room.min(device.max as usize);
                room -= count;
                site.nodes.extend(nodes(&format!("{}-{entry}", island.name), &card, count));
            }
            let own = site.nodes[before..].iter().map(|node| node.name.clone());
            island.nodes = Some(own.collect());
            site.islands.push(island);
        }
        site
    }

    /// With what was measured in place of what was assumed: cards by index and product, links, and
    /// the uplink of islands that say nothing of theirs (of the first of their nodes that has one).
    /// Where records speak of the same, the later counts. Measured cards that the node lacks are
    /// passed over: an island may use some of a machine's cards.
    ///
    /// # Errors
    /// When a record is of a node that is not there, or of other cards than the node's.
    pub fn measured(mut self, records: &[Capability]) -> Result<Site, RecordError> {
        for record in records {
            let Some(node) = self.nodes.iter_mut().find(|node| node.name == record.node) else {
                return Err(self.unknown(&record.node));
            };
            measure(node, record)?;
        }
        let Site { nodes, islands, .. } = &mut self;
        for island in islands.iter_mut().filter(|island| island.uplink.is_none()) {
            let allowed = |node: &&Node| {
                island.nodes.as_ref().is_none_or(|allowed| allowed.contains(&node.name))
            };
            island.uplink = nodes.iter().filter(allowed).find_map(|node| uplink(node, records));
        }
        Ok(self)
    }

    fn unknown(&self, node: &str) -> RecordError {
        let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        RecordError::UnknownNode { node: node.to_owned(), known: named(&names, LISTED_MAX) }
    }
}

/// The card of an entry: the catalogue's, for the entry's own figures count more in any case; the
/// entry's where the catalogue lacks it.
fn card(device: &DeviceRequest) -> NodeCard {
    let card = NodeCard::named(&device.product);
    let memory = if card.memory > 0 { card.memory } else { device.memory.unwrap_or(0) };
    NodeCard { memory, ..card }
}

fn nodes(name: &str, card: &NodeCard, count: usize) -> impl Iterator<Item = Node> {
    (0..count.div_ceil(NODE_CARDS)).map(move |index| Node {
        name: format!("{name}-{index}"),
        topology: Topology::default(),
        cards: vec![card.clone(); NODE_CARDS.min(count - index * NODE_CARDS)],
        links: Links::default(),
    })
}

/// Puts measurements in the place of a node's assumed figures: cards by index, and links. Which
/// node the record names is not looked at.
///
/// # Errors
/// When the record is of other cards than the node's; some of them may have been measured then.
pub fn measure(node: &mut Node, record: &Capability) -> Result<(), RecordError> {
    let on_cpu = node.cards.iter().filter(|card| card.product == gpu::CPU).count() as u64;
    for (index, card) in node.cards.iter_mut().enumerate() {
        let Some(device) = device_of(&record.devices, index, card) else { continue };
        if device.product != card.product {
            return Err(RecordError::OtherCard {
                node: record.node.clone(),
                index,
                measured: device.product.clone(),
                declared: card.product.clone(),
            });
        }
        // All threads of a host share its memory.
        let sharing = if card.product == gpu::CPU { on_cpu } else { 1 };
        card.memory = device.memory_bytes / sharing;
        card.measured = Some(device.reached);
    }
    let Links { process, node: beside, network } = &record.links;
    for (own, measured) in [
        (&mut node.links.process, process),
        (&mut node.links.node, beside),
        (&mut node.links.network, network),
    ] {
        if measured.is_some() {
            own.clone_from(measured);
        }
    }
    Ok(())
}

/// The measurement of a card, found by its index; the CPU's has no index.
fn device_of<'a>(
    devices: &'a [DeviceCapability],
    index: usize,
    card: &NodeCard,
) -> Option<&'a DeviceCapability> {
    let wanted = (card.product != gpu::CPU).then_some(index);
    devices.iter().find(|device| device.index.map(|at| at as usize) == wanted)
}

fn uplink(node: &Node, records: &[Capability]) -> Option<Bandwidth> {
    let mut own = records.iter().rev().filter(|record| record.node == node.name);
    own.find_map(|record| record.uplink)
}
