//! The cards that an island gets, and what is known of them.

use std::collections::BTreeMap;

use super::answer::refusal::{self, Refusal};
use super::cost::time::Speed;
use crate::cluster::{Curve, Links, NodeCard};
use crate::gpu::{self, Card, Share};
use crate::request::{DeviceRequest, Execution, IslandRequest, Parallelism};
use crate::spec::Precision;

/// Cards of an island beyond which it is refused: what the search is bounded by.
pub const CARDS_MAX: usize = 1024;
/// GB/s that are assumed of a card of which only memory and TFLOP/s are known.
const UNKNOWN_BANDWIDTH: f64 = 500.0;
/// GB/s between two such cards: PCIe 4.0 × 16.
const UNKNOWN_PEER: f64 = 31.5;
/// Watts of such a card.
const UNKNOWN_WATTS: f64 = 300.0;

/// A card that may take part.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chosen {
    pub facts: Facts,
    /// Its node, an index into the nodes of [`Pool`].
    pub node: usize,
    /// Its index on its node; absent computes on the CPU.
    pub cuda_index: Option<u32>,
}

/// The facts that tell cards apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Facts {
    pub product: String,
    /// Bytes, after overrides.
    pub memory: u64,
    pub precision: Precision,
    /// Dense TFLOP/s at that precision, by the catalogue or the user.
    pub peak_tflops: f64,
    pub speed: Speed,
    /// GB/s to another card of the same process.
    pub peer_gbps: f64,
    pub watts: f64,
    pub cost: Option<f64>,
    /// CPU threads, where it computes there.
    pub cpu_threads: Option<u32>,
    /// Whether it has a process of its own: a process sees one slice of MIG at most (NVIDIA's MIG
    /// user guide), and a pod may be denied a second share of a card.
    pub alone: bool,
    /// Share of the CPU's own speed that it runs at: 1 but for emulated cards.
    pub share: f64,
}

impl Facts {
    pub(super) fn on_cpu(&self) -> bool {
        self.cpu_threads.is_some()
    }
}

/// A node as links see it.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    pub name: Option<String>,
    pub links: Links,
}

/// A card of a node that no island has yet.
struct Free {
    node: usize,
    index: u32,
    card: NodeCard,
}

/// The cards not yet given to an island.
pub(super) struct Pool<'a> {
    execution: &'a Execution,
    hosts: Vec<Host>,
    left: Vec<Free>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(execution: &'a Execution) -> Self {
        let mut hosts = Vec::new();
        let mut left = Vec::new();
        match execution {
            Execution::Emulated { .. } => hosts.push(Host::default()),
            Execution::Local { cards, .. } => {
                hosts.push(Host::default());
                left.extend(cards.iter().map(|card| Free {
                    node: 0,
                    index: card.index,
                    card: NodeCard {
                        product: card.product.clone(),
                        memory: card.memory,
                        measured: None,
                    },
                }));
            }
            Execution::Cluster { nodes } => {
                for (node, own) in nodes.iter().enumerate() {
                    let name = Some(own.name.clone());
                    hosts.push(Host { name, links: own.links.clone() });
                    let cards = (0..).zip(&own.cards);
                    left.extend(cards.map(|(index, card)| {
                        let card = card.clone();
                        Free { node, index, card }
                    }));
                }
            }
        }
        Self { execution, hosts, left }
    }

    /// The nodes that cards are on.
    pub(super) fn into_hosts(self) -> Vec<Host> {
        self.hosts
    }

    /// The cards of an island, in the order in which it names them.
    pub(super) fn choose(&mut self, island: &IslandRequest) -> Result<Vec<Chosen>, Refusal> {
        let mut chosen = Vec::new();
        for device in &island.devices {
            let room = CARDS_MAX - chosen.len();
            let cards = self.of_device(island, device, room + 1)?;
            if cards.len() > room {
                return Err(refusal::too_many_cards(&island.name, CARDS_MAX));
            }
            if cards.len() < device.min as usize {
                let cluster = matches!(self.execution, Execution::Cluster { .. });
                let part = cards.is_empty().then(|| self.part_of(island, device)).flatten();
                return Err(refusal::not_enough(
                    &island.name,
                    device,
                    (cards.len(), part),
                    cluster,
                ));
            }
            chosen.extend(cards);
        }
        let wanted = cards_of(&island.parallelism);
        if !chosen.is_empty() && (chosen.len() as u64) < wanted {
            return Err(refusal::too_few_for_layout(&island.name, wanted, chosen.len()));
        }
        let memory = chosen.iter().fold(0_u64, |sum, card| sum.saturating_add(card.facts.memory));
        if chosen.is_empty() {
            return Err(refusal::no_cards(&island.name));
        }
        if memory < island.min_memory {
            return Err(refusal::below_minimum(&island.name, island.min_memory, memory));
        }
        Ok(chosen)
    }

    /// At most `limit` cards for an entry.
    fn of_device(
        &mut self,
        island: &IslandRequest,
        device: &DeviceRequest,
        limit: usize,
    ) -> Result<Vec<Chosen>, Refusal> {
        let threads = self.execution.threads();
        let most = limit.min(device.max as usize);
        let emulated = matches!(self.execution, Execution::Emulated { .. });
        let cluster = matches!(self.execution, Execution::Cluster { .. });
        if emulated || (device.product == gpu::CPU && !cluster) {
            // A product that nobody knows is emulated by what the user says of it.
            let card = NodeCard::named(&device.product);
            let facts = facts(&island.name, device, &card, Some(threads))?;
            return Ok(vec![Chosen { facts, node: 0, cuda_index: None }; most]);
        }
        let taken = self.take(island, device, most);
        let chosen = taken.into_iter().map(|free| {
            let cpu = (free.card.product == gpu::CPU).then_some(threads);
            let facts = facts(&island.name, device, &free.card, cpu)?;
            let cuda_index = cpu.is_none().then_some(free.index);
            Ok(Chosen { facts, node: free.node, cuda_index })
        });
        chosen.collect()
    }

    /// A part of a card that an entry would mean if it said so.
    fn part_of(&self, island: &IslandRequest, device: &DeviceRequest) -> Option<&str> {
        let own = self.left.iter().filter(|free| self.allows(island, free.node));
        let mut products = own.map(|free| free.card.product.as_str());
        products.find(|product| gpu::is_part(product) && gpu::names(&device.product, product))
    }

    fn allows(&self, island: &IslandRequest, node: usize) -> bool {
        let name = self.hosts[node].name.as_ref();
        island.nodes.as_ref().zip(name).is_none_or(|(nodes, name)| nodes.contains(name))
    }

    /// Cards for an entry, from the nodes that have the most of them, so that they stay together.
    fn take(&mut self, island: &IslandRequest, device: &DeviceRequest, most: usize) -> Vec<Free> {
        let wanted = |free: &Free| {
            gpu::matches(&device.product, &free.card.product) && self.allows(island, free.node)
        };
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for free in self.left.iter().filter(|free| wanted(free)) {
            *counts.entry(free.node).or_default() += 1;
        }
        let mut order: Vec<usize> = (0..self.left.len()).collect();
        order.retain(|at| wanted(&self.left[*at]));
        order.sort_by_key(|at| {
            let node = self.left[*at].node;
            (std::cmp::Reverse(counts[&node]), node)
        });
        order.truncate(most);
        order.sort_unstable();
        let mut taken: Vec<Free> = order.into_iter().rev().map(|at| self.left.remove(at)).collect();
        taken.reverse();
        taken
    }
}

/// CPU threads that emulate a card at most: the small models that CPUs train gain nothing by more.
const THREADS_MAX: u32 = 4;

/// The facts about a card: the user's word before a measurement, that before the catalogue.
fn facts(
    island: &str,
    device: &DeviceRequest,
    card: &NodeCard,
    cpu_threads: Option<u32>,
) -> Result<Facts, Refusal> {
    let measured = card.measured;
    let memory = device.memory.unwrap_or(card.memory);
    let own = if card.memory > 0 { card.memory } else { memory };
    let known = gpu::part(&card.product);
    let share = known.map_or(1.0, |(_, share)| speed_share(&card.product, own, share));
    let known = known.map(|(card, _)| card);
    let (precision, peak) = match (known, device.tflops, measured) {
        (Some(known), tflops, _) => (known.precision(), tflops.unwrap_or(known.tflops() * share)),
        (None, Some(tflops), _) => (Precision::Bf16, tflops),
        (None, None, Some(reached)) => match reached.bf16_tflops {
            Some(tflops) => (Precision::Bf16, tflops),
            None => (Precision::F32, reached.f32_tflops),
        },
        (None, None, None) => return Err(refusal::unknown_product(island, &card.product)),
    };
    if memory == 0 {
        return Err(match device.memory {
            Some(_) => refusal::zero_memory(island, &card.product),
            None => refusal::no_memory(island, &card.product),
        });
    }
    let on_cpu = cpu_threads.is_some();
    let bandwidth = known.map_or(UNKNOWN_BANDWIDTH, |known| known.bandwidth_gbps * share);
    let speed = match (cpu_threads, device.tflops) {
        (Some(threads), _) => Speed::cpu(threads, measured),
        (None, Some(_)) => Speed::gpu(peak, bandwidth, precision, None),
        (None, None) => Speed::gpu(peak, bandwidth, precision, measured),
    };
    Ok(Facts {
        product: card.product.clone(),
        memory,
        precision: if on_cpu { Precision::F32 } else { precision },
        peak_tflops: peak,
        speed,
        peer_gbps: known.map_or(UNKNOWN_PEER, peer_gbps),
        watts: known.map_or(UNKNOWN_WATTS, |known| f64::from(known.watts) * share),
        cost: device.cost_per_hour,
        cpu_threads,
        alone: on_cpu || gpu::is_part(&card.product),
        share: 1.0,
    })
}

/// The share that a card of so much memory has in the speed of the whole one: sevenths of it by its
/// slices, and where others take turns as much as it has of the memory.
fn speed_share(product: &str, memory: u64, share: Share) -> f64 {
    let turns = (memory as f64 / share.memory as f64).min(1.0);
    if gpu::is_shared(product) { share.speed * turns } else { share.speed }
}

/// NVLink where it is part of the board, PCIe where not: whether cards in slots have a bridge, and
/// to which of their peers, is only known where it is measured.
fn peer_gbps(card: &Card) -> f64 {
    let slot = card.product.contains("NVL") || card.product.to_ascii_uppercase().contains("PCIE");
    let bridge = card.product.contains("RTX");
    if card.nvlink_gbps > 0.0 && !slot && !bridge { card.nvlink_gbps } else { card.pcie_gbps }
}

/// Slows emulated cards down to what they are beside the fastest of the run. Each has as few
/// threads as keep all of so many cores at work: slow cards rest most of the time.
pub(super) fn emulate(chosen: &mut [Vec<Chosen>], cores: u32) {
    let peaks = || chosen.iter().flatten().map(|card| card.facts.peak_tflops);
    let fastest = peaks().fold(0.0, f64::max);
    let at_work: f64 = peaks().map(|peak| peak / fastest).sum();
    let threads = (f64::from(cores) / at_work).ceil().clamp(1.0, f64::from(THREADS_MAX)) as u32;
    for card in chosen.iter_mut().flatten() {
        let share = card.facts.peak_tflops / fastest;
        card.facts.share = share;
        card.facts.cpu_threads = Some(threads);
        card.facts.speed = Speed::cpu(threads, None).slowed(share);
    }
}

impl Host {
    /// How long a message takes between two cards of one process.
    pub(super) fn process(&self, peer_gbps: f64) -> Curve {
        /// Seconds that a peer copy takes to start.
        const LATENCY: f64 = 1e-5;
        /// Share of a link's datasheet figure that copies reach.
        const REACHED: f64 = 0.8;
        let link = || Curve::linear(LATENCY, peer_gbps * 1e9 * REACHED);
        self.links.process.clone().unwrap_or_else(link)
    }

    /// Between two processes: gRPC over loopback, with a copy through the host.
    pub(super) fn node(&self) -> Curve {
        self.links.node.clone().unwrap_or_else(|| Curve::linear(1e-4, 1e9))
    }

    /// To another node: 10 Gb/s Ethernet.
    pub(super) fn network(&self) -> Curve {
        self.links.network.clone().unwrap_or_else(|| Curve::linear(2e-4, 1.25e9))
    }
}

/// Cards that a layout takes at least.
fn cards_of(layout: &Parallelism) -> u64 {
    let ways = [layout.data, layout.pipeline, layout.tensor];
    ways.into_iter().flatten().map(u64::from).fold(1, u64::saturating_mul)
}
