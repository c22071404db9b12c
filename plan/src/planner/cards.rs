//! Which cards an island gets.

use super::refusal::{self, Refusal};
use crate::gpu::{self, Card};
use crate::request::{DeviceRequest, Execution, IslandRequest, LocalCard, Parallelism};
use crate::spec::Precision;

/// A card that may take part.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// What the catalogue says of it.
    pub card: &'static Card,
    /// Its name.
    pub product: String,
    /// Its bytes, after overrides.
    pub memory: u64,
    /// Where it is; absent computes on the CPU.
    pub cuda_index: Option<u32>,
    /// CPU threads, where it computes there.
    pub threads: u32,
    /// Whether the island asks for none of its kind at least, so that it may be left out.
    pub optional: bool,
}

impl Chosen {
    pub(super) fn on_cpu(&self) -> bool {
        self.cuda_index.is_none()
    }

    pub(super) fn precision(&self) -> Precision {
        if self.on_cpu() { Precision::F32 } else { self.card.precision() }
    }

    /// TFLOP/s reached in training: the CPU's catalogue figure is already what is reached.
    pub(super) fn sustained_tflops(&self, gpu_utilisation: f64) -> f64 {
        if self.on_cpu() {
            gpu::cpu().fp32_tflops * f64::from(self.threads)
        } else {
            self.card.tflops() * gpu_utilisation
        }
    }
}

/// The cards not yet given to an island.
pub(super) struct Pool<'a> {
    execution: &'a Execution,
    left: Vec<&'a LocalCard>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(execution: &'a Execution) -> Self {
        let left = match execution {
            Execution::Emulated { .. } => Vec::new(),
            Execution::Local { cards, .. } => cards.iter().collect(),
        };
        Self { execution, left }
    }

    /// The cards of an island, in the order in which it names them.
    pub(super) fn choose(&mut self, island: &IslandRequest) -> Result<Vec<Chosen>, Refusal> {
        let mut chosen = Vec::new();
        for device in &island.devices {
            let cards = self.of_device(&island.name, device)?;
            if cards.len() < device.min as usize {
                return Err(refusal::not_enough(&island.name, device, cards.len()));
            }
            chosen.extend(cards);
        }
        let wanted = cards_of(&island.parallelism);
        if !chosen.is_empty() && (chosen.len() as u64) < wanted {
            return Err(refusal::too_few_for_layout(&island.name, wanted, chosen.len()));
        }
        let memory = chosen.iter().map(|card| card.memory).sum::<u64>();
        if chosen.is_empty() {
            return Err(refusal::no_cards(&island.name));
        }
        if memory < island.min_memory {
            return Err(refusal::below_minimum(&island.name, island.min_memory, memory));
        }
        Ok(chosen)
    }

    fn of_device(&mut self, island: &str, device: &DeviceRequest) -> Result<Vec<Chosen>, Refusal> {
        let unknown = |product: &str| refusal::unknown_product(island, product);
        let threads = self.execution.threads();
        let emulated = matches!(self.execution, Execution::Emulated { .. });
        if emulated || device.product == gpu::CPU {
            let card = gpu::lookup(&device.product).ok_or_else(|| unknown(&device.product))?;
            let chosen = Chosen {
                card,
                product: card.product.to_owned(),
                memory: device.memory.unwrap_or(card.memory()),
                cuda_index: None,
                threads,
                optional: device.min == 0,
            };
            return Ok(vec![chosen; device.max as usize]);
        }
        let mut chosen = Vec::new();
        while chosen.len() < device.max as usize {
            let next = self.left.iter().position(|c| gpu::matches(&device.product, &c.product));
            let Some(found) = next.map(|at| self.left.remove(at)) else { break };
            chosen.push(Chosen {
                card: gpu::lookup(&found.product).ok_or_else(|| unknown(&found.product))?,
                product: found.product.clone(),
                memory: device.memory.unwrap_or(found.memory),
                cuda_index: Some(found.index),
                threads,
                optional: device.min == 0,
            });
        }
        Ok(chosen)
    }
}

/// Cards that a layout takes at least.
fn cards_of(layout: &Parallelism) -> u64 {
    let ways = [layout.data, layout.pipeline, layout.tensor];
    ways.into_iter().flatten().map(u64::from).fold(1, u64::saturating_mul)
}
