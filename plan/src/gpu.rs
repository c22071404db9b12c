//! The GPU catalogue: what a card holds and how fast it is, by NVIDIA's own figures.
//!
//! Names are `nvidia.com/gpu.product` as GPU feature discovery writes it (NVML's name with hyphens
//! for spaces). Memory is what NVML reports in MiB. TFLOP/s are dense: where a datasheet gives only
//! the figure with sparsity, it is halved; for GeForce cards bf16 with f32 accumulation counts.

use crate::spec::Precision;

/// One product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Card {
    /// Product name.
    pub product: &'static str,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Dense bf16 tensor TFLOP/s; 0 where the card has no bf16.
    pub bf16_tflops: f64,
    /// f32 TFLOP/s.
    pub fp32_tflops: f64,
    /// Memory bandwidth, GB/s.
    pub bandwidth_gbps: f64,
}

/// The product name of a rank that computes on the CPU.
pub const CPU: &str = "cpu";

const fn card(
    product: &'static str,
    memory_mib: u64,
    [bf16_tflops, fp32_tflops]: [f64; 2],
    bandwidth_gbps: f64,
) -> Card {
    Card { product, memory_mib, bf16_tflops, fp32_tflops, bandwidth_gbps }
}

/// Every product known.
#[rustfmt::skip]
pub const CATALOGUE: &[Card] = &[
    // NVIDIA DGX B200 and HGX B200 datasheets, per GPU: 2.25 PFLOP/s dense bf16, 8 TB/s (7.7 HGX).
    card("NVIDIA-B200", 183_359, [2250.0, 75.0], 7700.0),
    // NVIDIA H200 datasheet.
    card("NVIDIA-H200", 143_771, [989.5, 67.0], 4800.0),
    card("NVIDIA-H200-NVL", 143_771, [835.5, 60.0], 4800.0),
    // NVIDIA H100 datasheet: SXM, NVL, PCIe.
    card("NVIDIA-H100-80GB-HBM3", 81_559, [989.5, 67.0], 3350.0),
    card("NVIDIA-H100-NVL", 95_830, [835.5, 60.0], 3900.0),
    card("NVIDIA-H100-PCIe", 81_559, [756.5, 51.0], 2000.0),
    // NVIDIA A100 datasheet.
    card("NVIDIA-A100-SXM4-80GB", 81_920, [312.0, 19.5], 2039.0),
    card("NVIDIA-A100-80GB-PCIe", 81_920, [312.0, 19.5], 1935.0),
    card("NVIDIA-A100-SXM4-40GB", 40_960, [312.0, 19.5], 1555.0),
    card("NVIDIA-A100-PCIE-40GB", 40_960, [312.0, 19.5], 1555.0),
    // NVIDIA L40S, L4, A10 datasheets.
    card("NVIDIA-L40S", 46_068, [362.0, 91.6], 864.0),
    card("NVIDIA-L4", 23_034, [121.0, 30.3], 300.0),
    card("NVIDIA-A10", 23_028, [125.0, 31.2], 600.0),
    // NVIDIA RTX 6000 Ada and RTX A6000 datasheets.
    card("NVIDIA-RTX-6000-Ada-Generation", 49_140, [364.2, 91.1], 960.0),
    card("NVIDIA-RTX-A6000", 49_140, [154.8, 38.7], 768.0),
    // NVIDIA RTX Blackwell, Ada and Ampere GA102 architecture whitepapers.
    card("NVIDIA-GeForce-RTX-5090", 32_607, [209.5, 104.8], 1792.0),
    card("NVIDIA-GeForce-RTX-4090", 24_564, [165.2, 82.6], 1008.0),
    card("NVIDIA-GeForce-RTX-4080", 16_376, [97.5, 48.7], 717.0),
    card("NVIDIA-GeForce-RTX-3090-Ti", 24_564, [80.0, 40.0], 1008.0),
    card("NVIDIA-GeForce-RTX-3090", 24_576, [71.0, 35.6], 936.0),
    card("NVIDIA-GeForce-RTX-3080", 10_240, [59.5, 29.8], 760.0),
    // NVIDIA V100 and T4 datasheets; no bf16 before Ampere.
    card("Tesla-V100-SXM2-32GB", 32_768, [0.0, 15.7], 900.0),
    card("Tesla-V100-SXM2-16GB", 16_384, [0.0, 15.7], 900.0),
    card("Tesla-T4", 15_360, [0.0, 8.1], 320.0),
    CPU_CARD,
];

/// One thread of a server CPU as training with libtorch in f32 uses it; a cautious share of the
/// host's memory, which `memory:` replaces.
const CPU_CARD: Card = card(CPU, 4_096, [0.0, 0.05], 10.0);

/// One CPU thread.
pub fn cpu() -> &'static Card {
    &CPU_CARD
}

impl Card {
    /// Memory in bytes.
    pub fn memory(&self) -> u64 {
        self.memory_mib << 20
    }

    /// What training computes in on this card: bf16 since Ampere, f32 before and on CPUs.
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

/// Whether `product` is meant by `pattern`: the same name, or its beginning before a trailing `*`.
pub fn matches(pattern: &str, product: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(family) => product.starts_with(family),
        None => pattern == product,
    }
}

/// The product, or the fastest of a family (the first of equals).
pub fn lookup(pattern: &str) -> Option<&'static Card> {
    CATALOGUE
        .iter()
        .filter(|card| matches(pattern, card.product))
        .reduce(|best, card| if card.tflops() > best.tflops() { card } else { best })
}

/// Known products whose names contain the letters and digits of `name`; all where none does.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_means_its_fastest_card_and_a_name_only_itself() {
        assert_eq!(lookup("NVIDIA-H100*").expect("known").product, "NVIDIA-H100-80GB-HBM3");
        assert_eq!(lookup("NVIDIA-H100-PCIe").expect("known").tflops(), 756.5);
        assert_eq!(lookup("NVIDIA-H100"), None);
        for card in CATALOGUE {
            assert_eq!(lookup(card.product), Some(card), "{} stands twice", card.product);
        }
    }

    #[test]
    fn cards_before_ampere_compute_in_f32() {
        assert_eq!(lookup("Tesla-T4").expect("known").precision(), Precision::F32);
        assert_eq!(lookup("Tesla-V100*").expect("known").tflops(), 15.7);
        assert_eq!(lookup("NVIDIA-A10").expect("known").precision(), Precision::Bf16);
        assert_eq!(lookup(CPU).expect("known").precision(), Precision::F32);
    }

    #[test]
    fn a_name_that_is_nearly_right_gets_the_right_ones() {
        assert_eq!(suggestions("rtx 4090"), ["NVIDIA-GeForce-RTX-4090"]);
        assert_eq!(suggestions("H200").len(), 2);
        assert_eq!(suggestions("MI300X").len(), CATALOGUE.len());
    }
}
