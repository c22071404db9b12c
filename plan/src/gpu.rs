//! The GPU catalogue: what a card holds and how fast it is, by NVIDIA's own figures.
//!
//! Names are `nvidia.com/gpu.product` as GPU feature discovery writes it (NVML's name with hyphens
//! for spaces); [`parse`] takes off what sharing and MIG put behind them.

mod catalogue;
mod product;
#[cfg(test)]
mod tests;

pub use catalogue::{CATALOGUE, CPU, cpu};
pub use product::{Mig, Product, ProductError, Share, is_part, is_shared, parse};

use crate::spec::{DeviceSpec, IslandSpec, Precision};

/// One product: peaks that no program exceeds and none reaches.
///
/// TFLOP/s are dense: where a datasheet gives only the figure with sparsity, it is halved. In half
/// precision they are those with f32 accumulation, which GeForce cards do at half their peak.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Card {
    /// Product name, without suffixes.
    pub product: &'static str,
    /// Memory as NVML reports it, MiB; what a node reports counts more, as drivers and ECC differ.
    pub memory_mib: u64,
    /// bf16 tensor TFLOP/s; 0 where the card has no bf16.
    pub bf16_tflops: f64,
    /// fp16 tensor TFLOP/s; 0 on a CPU.
    pub fp16_tflops: f64,
    /// f32 TFLOP/s outside of tensor cores.
    pub fp32_tflops: f64,
    /// Memory bandwidth, GB/s.
    pub bandwidth_gbps: f64,
    /// GB/s per direction over all NVLinks of the card, which one peer gets through a switch or a
    /// bridge; 0 without NVLink. Cards in slots have it only where a bridge is plugged in, and only
    /// to the cards under the bridge, so that what is measured on a node counts more.
    pub nvlink_gbps: f64,
    /// GB/s per direction over PCIe, by generation and lanes; a CPU's is that of its memory.
    pub pcie_gbps: f64,
    /// CUDA compute capability, major and minor; (0, 0) for a CPU.
    pub compute_capability: (u8, u8),
    /// Highest power that the board is made for, W; clouds and makers may set less.
    pub watts: u32,
}

impl Card {
    /// Memory in bytes.
    pub fn memory(&self) -> u64 {
        self.memory_mib << 20
    }

    /// The precision that training computes in on this card: bf16 since Ampere, f32 before and on
    /// CPUs.
    pub fn precision(&self) -> Precision {
        if self.bf16_tflops > 0.0 { Precision::Bf16 } else { Precision::F32 }
    }

    /// TFLOP/s at that precision.
    pub fn tflops(&self) -> f64 {
        match self.precision() {
            Precision::Bf16 => self.bf16_tflops,
            Precision::F32 => self.fp32_tflops,
        }
    }
}

/// Says whether `product` is meant by `pattern`: the same name, or its beginning before a trailing
/// `*`.
///
/// Slices of MIG and shared cards are meant only by patterns that say so themselves, with `-MIG-`
/// and `-SHARED`: who asks for a family of cards asks for whole ones.
pub fn matches(pattern: &str, product: &str) -> bool {
    names(pattern, product) && product::says_part(pattern, product)
}

/// Says whether `product`, a whole card or a part of one, has the name `pattern`, or its beginning.
pub(crate) fn names(pattern: &str, product: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(family) => product.starts_with(family),
        None => pattern == product,
    }
}

/// The product, or the fastest of a family (the first of equals).
///
/// Whole cards only: a name with the suffix of a MIG slice or of a shared card is not found, as
/// the card's figures would be too high for it. [`part`] finds those.
pub fn lookup(pattern: &str) -> Option<&'static Card> {
    CATALOGUE
        .iter()
        .filter(|card| matches(pattern, card.product))
        .reduce(|best, card| if card.tflops() > best.tflops() { card } else { best })
}

/// The known card that `product` is or is a part of, and what it has of it.
pub fn part(product: &str) -> Option<(&'static Card, Share)> {
    let product = parse(product).ok()?;
    product.card().zip(product.share())
}

/// Dense TFLOP/s of a product in what it trains in; 0 where the catalogue lacks it.
pub fn tflops(product: &str) -> f64 {
    part(product).map_or(0.0, |(card, share)| card.tflops() * share.speed)
}

/// Dense TFLOP/s of all cards of an island; nothing where one is emulated or not known.
pub fn tflops_of(island: &IslandSpec) -> Option<f64> {
    let cards = island.ranks.iter().flat_map(|rank| &rank.devices);
    let peak = cards.map(|card| match card.device {
        DeviceSpec::Cuda { .. } => Some(tflops(&card.product)).filter(|peak| *peak > 0.0),
        DeviceSpec::Cpu { .. } => None,
    });
    peak.sum()
}

/// The sentence on the card that a family is taken to be where no node says which of its cards
/// there are; absent for the name of one product, and where none of the family is known.
pub fn assumed(pattern: &str) -> Option<String> {
    let card = lookup(pattern).filter(|_| pattern.ends_with('*'))?;
    Some(format!("{pattern} is taken to be {}, the fastest card of that name", card.product))
}

/// Known products whose names contain the letters and digits of `name`; all where none does.
///
/// For a card that is not known, its memory and TFLOP/s have to come from its user or from a
/// measurement.
pub fn suggestions(name: &str) -> Vec<&'static str> {
    let plain = |text: &str| {
        text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
    };
    let wanted = plain(name);
    let all = || CATALOGUE.iter().map(|card| card.product);
    let close: Vec<_> =
        all().filter(|p| !wanted.is_empty() && plain(p).contains(&wanted)).collect();
    if close.is_empty() { all().collect() } else { close }
}
