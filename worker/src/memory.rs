//! What a rank really uses, beside what its plan expects; and what to say where it is too much.

use std::fs;

use contract::event::WorkerEvent;
use plan::spec::{CardSpec, DeviceSpec};

use crate::error::{RunError, chain};

#[cfg(test)]
mod tests;

/// A peak is told again when it has grown by this share.
const WORTH_TELLING: f64 = 1.01;

/// The peaks of one rank's devices.
#[derive(Debug)]
pub struct Memory {
    cards: Vec<CardSpec>,
    /// By card, what was told last.
    told: Vec<u64>,
}

impl Memory {
    /// Nothing told yet.
    pub fn new(cards: &[CardSpec]) -> Memory {
        Memory { cards: cards.to_vec(), told: vec![0; cards.len()] }
    }

    /// What is new since this was last asked.
    pub fn news(&mut self) -> Vec<WorkerEvent> {
        let mut news = Vec::new();
        let mut host_seen = false;
        for (index, told) in self.told.iter_mut().enumerate() {
            let card = &self.cards[index];
            let on_cpu = matches!(card.device, DeviceSpec::Cpu { .. });
            // The CPU's devices share the process: the first one speaks for all.
            if on_cpu && std::mem::replace(&mut host_seen, true) {
                continue;
            }
            let Some(peak_bytes) = peak(&card.device) else { continue };
            if peak_bytes as f64 <= *told as f64 * WORTH_TELLING {
                continue;
            }
            *told = peak_bytes;
            let planned_bytes = alike(&self.cards, card).map(|card| card.planned_bytes).sum();
            let device = index as u32;
            news.push(WorkerEvent::Memory { device, peak_bytes, planned_bytes });
        }
        news
    }
}

/// The cards of a rank whose memory is one with that of `card`.
fn alike<'a>(cards: &'a [CardSpec], card: &'a CardSpec) -> impl Iterator<Item = &'a CardSpec> {
    let on_cpu = |card: &CardSpec| matches!(card.device, DeviceSpec::Cpu { .. });
    cards.iter().filter(move |other| on_cpu(card) && on_cpu(other) || *other == card)
}

/// What has no room left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    Host,
    /// A CUDA device; which one, where libtorch says so.
    Cuda(Option<u32>),
}

/// How libtorch says that the host has no room.
const HOST: [&str; 3] = ["DefaultCPUAllocator", "std::bad_alloc", "allocate pinned memory"];
/// How libtorch and the libraries below it say so of a card.
const CUDA: [&str; 3] = ["CUDA out of memory", "CUDA error: out of memory", "_ALLOC_FAILED"];

const MORE_ROOM: &str = "give devices[].memory of the island less than that, so that it is planned \
    with smaller micro-batches, set pipeline.recompute, or raise parallelism.pipeline or \
    parallelism.tensor";
const MORE_ROOM_ON_THE_CPU: &str = "all processes share this machine's memory: free some of it, \
    train a smaller model, take fewer sequences in batch.sequences, or set pipeline.recompute";

/// Reads out of what an error says what has no room left, if it says that.
fn full(said: &str) -> Option<Full> {
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&HOST) {
        return Some(Full::Host);
    }
    says(&CUDA).then(|| {
        let after = said.split_once(" GPU ").map_or("", |(_, after)| after);
        let digits = after.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("");
        Full::Cuda(digits.parse().ok())
    })
}

/// Whether an error says that the host or a card has no room left.
pub(crate) fn is_full(error: &dyn std::error::Error) -> bool {
    full(&chain(error)).is_some()
}

/// Where `error` says that one of the rank's cards has no room left: what was planned for it.
pub fn explain(error: RunError, cards: &[CardSpec]) -> RunError {
    let Some(full) = full(&chain(&error)) else { return error };
    // Where cards compute, the host's memory is nothing that was planned.
    let is_full = |card: &CardSpec| match (full, &card.device) {
        (Full::Host, DeviceSpec::Cpu { .. }) => true,
        (Full::Cuda(full), DeviceSpec::Cuda { index, .. }) => {
            full.is_none_or(|full| full == *index)
        }
        _ => false,
    };
    let Some(at) = cards.iter().position(is_full) else { return error };
    let card = &cards[at];
    RunError::OutOfMemory {
        device: at as u32,
        product: card.product.clone(),
        planned_bytes: alike(cards, card).map(|card| card.planned_bytes).sum(),
        memory_bytes: card.memory_bytes,
        peak_bytes: peak(&card.device).unwrap_or(0),
        remedy: match card.device {
            DeviceSpec::Cuda { .. } => MORE_ROOM,
            DeviceSpec::Cpu { .. } => MORE_ROOM_ON_THE_CPU,
        },
        source: Box::new(error),
    }
}

/// Most bytes that a device has held: the process's resident set, or what libtorch's allocator has
/// taken of a card.
pub fn peak(device: &DeviceSpec) -> Option<u64> {
    match device {
        DeviceSpec::Cpu { .. } => resident_peak(&fs::read_to_string("/proc/self/status").ok()?),
        DeviceSpec::Cuda { index, .. } => tch_ext::cuda_peak_bytes(*index).ok(),
    }
}

/// VmHWM, the high-water mark of the resident set (proc(5)).
fn resident_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
