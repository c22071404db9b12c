//! The products and their figures, each group under the NVIDIA paper that gives them.

use super::Card;

/// The product name of a rank that computes on the CPU.
pub const CPU: &str = "cpu";

/// GB/s per direction of 16 lanes of PCIe 3, 4 and 5: 8, 16 and 32 GT/s a lane, 128 bits of 130.
const GEN3: f64 = 16.0 * 8.0 / 8.0 * 128.0 / 130.0;
const GEN4: f64 = 2.0 * GEN3;
const GEN5: f64 = 4.0 * GEN3;

/// A card of the table. bf16 is not given: since Ampere tensor cores do it at fp16's rate, before
/// they have none.
const fn row(
    product: &'static str,
    (memory_mib, watts): (u64, u32),
    compute_capability: (u8, u8),
    [fp16_tflops, fp32_tflops]: [f64; 2],
    [bandwidth_gbps, nvlink_gbps, pcie_gbps]: [f64; 3],
) -> Card {
    let bf16_tflops = if compute_capability.0 >= 8 { fp16_tflops } else { 0.0 };
    Card {
        product,
        memory_mib,
        bf16_tflops,
        fp16_tflops,
        fp32_tflops,
        bandwidth_gbps,
        nvlink_gbps,
        pcie_gbps,
        compute_capability,
        watts,
    }
}

/// Every product known, each once. Of a family's equals the first is what its pattern means.
///
/// Columns: product; MiB and W; compute capability; fp16 and f32 TFLOP/s; GB/s of memory, NVLink
/// and PCIe.
#[rustfmt::skip]
pub const CATALOGUE: &[Card] = &[
    // Blackwell datasheet, per GPU of an HGX B200 and of a GB200 NVL72.
    row("NVIDIA-B200", (183_359, 1000), (10, 0), [2250.0, 75.0], [7700.0, 900.0, GEN5]),
    row("NVIDIA-GB200", (189_471, 1200), (10, 0), [2500.0, 80.0], [8000.0, 900.0, GEN5]),
    // H200 datasheet: SXM, NVL (bridges for two or four).
    row("NVIDIA-H200", (143_771, 700), (9, 0), [989.5, 67.0], [4800.0, 450.0, GEN5]),
    row("NVIDIA-H200-NVL", (143_771, 600), (9, 0), [835.5, 60.0], [4800.0, 450.0, GEN5]),
    // H100 datasheet: SXM, NVL and PCIe (bridges for two).
    row("NVIDIA-H100-80GB-HBM3", (81_559, 700), (9, 0), [989.5, 67.0], [3350.0, 450.0, GEN5]),
    row("NVIDIA-H100-NVL", (95_830, 400), (9, 0), [835.5, 60.0], [3900.0, 300.0, GEN5]),
    row("NVIDIA-H100-PCIe", (81_559, 350), (9, 0), [756.5, 51.0], [2000.0, 300.0, GEN5]),
    // A100 datasheets of 40 GB and 80 GB; bridges for two in slots.
    row("NVIDIA-A100-SXM4-80GB", (81_920, 400), (8, 0), [312.0, 19.5], [2039.0, 300.0, GEN4]),
    row("NVIDIA-A100-80GB-PCIe", (81_920, 300), (8, 0), [312.0, 19.5], [1935.0, 300.0, GEN4]),
    row("NVIDIA-A100-SXM4-40GB", (40_960, 400), (8, 0), [312.0, 19.5], [1555.0, 300.0, GEN4]),
    row("NVIDIA-A100-PCIE-40GB", (40_960, 250), (8, 0), [312.0, 19.5], [1555.0, 300.0, GEN4]),
    // L40S, L40, L4 and A10 datasheets; memory with ECC on, as they come.
    row("NVIDIA-L40S", (46_068, 350), (8, 9), [362.0, 91.6], [864.0, 0.0, GEN4]),
    row("NVIDIA-L40", (46_068, 300), (8, 9), [181.0, 90.5], [864.0, 0.0, GEN4]),
    row("NVIDIA-L4", (23_034, 72), (8, 9), [121.0, 30.3], [300.0, 0.0, GEN4]),
    row("NVIDIA-A10", (23_028, 150), (8, 6), [125.0, 31.2], [600.0, 0.0, GEN4]),
    // RTX 6000 Ada and RTX A6000 datasheets, tensor figures of the Ada and GA102 whitepapers;
    // memory with ECC off, as they come.
    row("NVIDIA-RTX-6000-Ada-Generation", (49_140, 300), (8, 9), [364.2, 91.1], [960.0, 0.0, GEN4]),
    row("NVIDIA-RTX-A6000", (49_140, 300), (8, 6), [154.8, 38.7], [768.0, 56.25, GEN4]),
    // RTX Blackwell, Ada and GA102 whitepapers; bridges for two 3090 or 3090 Ti.
    row("NVIDIA-GeForce-RTX-5090", (32_607, 575), (12, 0), [209.5, 104.8], [1792.0, 0.0, GEN5]),
    row("NVIDIA-GeForce-RTX-4090", (24_564, 450), (8, 9), [165.2, 82.6], [1008.0, 0.0, GEN4]),
    row("NVIDIA-GeForce-RTX-4080", (16_376, 320), (8, 9), [97.5, 48.7], [717.0, 0.0, GEN4]),
    row("NVIDIA-GeForce-RTX-3090-Ti", (24_564, 450), (8, 6), [80.0, 40.0], [1008.0, 56.25, GEN4]),
    row("NVIDIA-GeForce-RTX-3090", (24_576, 350), (8, 6), [71.0, 35.6], [936.0, 56.25, GEN4]),
    row("NVIDIA-GeForce-RTX-3080", (10_240, 320), (8, 6), [59.5, 29.8], [760.0, 0.0, GEN4]),
    // V100 datasheet. SXM2 boards have no switch: all six links reach several peers together.
    row("Tesla-V100-SXM2-32GB", (32_768, 300), (7, 0), [125.0, 15.7], [900.0, 150.0, GEN3]),
    row("Tesla-V100-SXM2-16GB", (16_384, 300), (7, 0), [125.0, 15.7], [900.0, 150.0, GEN3]),
    row("Tesla-V100-PCIE-32GB", (32_768, 250), (7, 0), [112.0, 14.0], [900.0, 0.0, GEN3]),
    row("Tesla-V100-PCIE-16GB", (16_384, 250), (7, 0), [112.0, 14.0], [900.0, 0.0, GEN3]),
    // T4 datasheet; bandwidth of its product brief, above the datasheet's "300 GB/s".
    row("Tesla-T4", (15_360, 70), (7, 5), [65.0, 8.1], [320.0, 0.0, GEN3]),
    CPU_CARD,
];

/// One thread of a server CPU as training with libtorch in f32 uses it; cautious shares of the
/// host's memory, which `memory:` replaces, and of some 300 W for 64 threads.
const CPU_CARD: Card = row(CPU, (4_096, 5), (0, 0), [0.0, 0.05], [10.0, 0.0, 10.0]);

/// One CPU thread.
pub fn cpu() -> &'static Card {
    &CPU_CARD
}
