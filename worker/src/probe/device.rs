//! How fast one device multiplies matrices, and reads and writes its memory.

use plan::cluster::{DeviceCapability, Reached};
use tch::{Device, Kind, TchError, Tensor};

use super::ProbeError;
use super::extent::{BUDGET_MAX, DeviceExtent, LONGEST_SECONDS};
use super::host::{Card, Memory};
use super::timing::median_seconds;
use crate::memory::is_full;

/// Matrices and tensors take at most this part of the free memory.
const SHARE: u64 = 4;
/// Tensors that find no room are halved down to this: smaller ones tell of caches, not of memory.
const STREAM_BYTES_MIN: u64 = 1 << 20;

const PRODUCTS: &str = "multiply matrices";
const STREAM: &str = "add large tensors";

/// What a card reaches.
pub(super) fn card(
    index: u32,
    card: &Card,
    extent: &DeviceExtent,
    notes: &mut Vec<String>,
) -> Result<DeviceCapability, ProbeError> {
    let device = Device::Cuda(index as usize);
    let mut bench = Bench { device, free: card.memory.free, extent, notes };
    let has_bf16 = tch_ext::cuda_has_bf16(index).map_err(|source| {
        let operation = "ask for bf16";
        ProbeError::Shim { operation, device: bench.name(), source }
    })?;
    let reached = bench.reached(has_bf16)?;
    let Card { product, memory } = card.clone();
    Ok(DeviceCapability {
        product,
        index: Some(index),
        memory_bytes: memory.total,
        free_bytes: memory.free,
        reached,
    })
}

/// What one thread of the host reaches.
pub(super) fn cpu(
    memory: Memory,
    extent: &DeviceExtent,
    notes: &mut Vec<String>,
) -> Result<DeviceCapability, ProbeError> {
    tch::set_num_threads(1);
    let mut bench = Bench { device: Device::Cpu, free: memory.free, extent, notes };
    // Training computes in f32 there.
    let reached = bench.reached(false)?;
    Ok(DeviceCapability {
        product: "cpu".to_owned(),
        index: None,
        memory_bytes: memory.total,
        free_bytes: memory.free,
        reached,
    })
}

/// Waits until the device has done what was asked of it before. One value is read back, which says
/// what went wrong; `tch::Cuda::synchronize` would panic.
pub(super) fn settle(tensor: &Tensor) -> Result<(), TchError> {
    if tensor.device().is_cuda() {
        tensor.f_view([-1])?.f_get(0)?.f_double_value(&[])?;
    }
    Ok(())
}

/// What one measured operation ended with.
enum Failed {
    Torch(TchError),
    Shim(tch_ext::ShimError),
}

impl From<TchError> for Failed {
    fn from(error: TchError) -> Failed {
        Failed::Torch(error)
    }
}

impl From<tch_ext::ShimError> for Failed {
    fn from(error: tch_ext::ShimError) -> Failed {
        Failed::Shim(error)
    }
}

impl Failed {
    fn for_want_of_memory(&self) -> bool {
        match self {
            Failed::Torch(error) => is_full(error),
            Failed::Shim(error) => is_full(error),
        }
    }
}

struct Bench<'a> {
    device: Device,
    free: u64,
    extent: &'a DeviceExtent,
    notes: &'a mut Vec<String>,
}

impl Bench<'_> {
    fn name(&self) -> String {
        match self.device {
            Device::Cuda(index) => format!("card {index}"),
            _ => "the CPU".to_owned(),
        }
    }

    fn reached(&mut self, has_bf16: bool) -> Result<Reached, ProbeError> {
        Ok(Reached {
            f32_tflops: self.tflops(Kind::Float)?,
            bf16_tflops: has_bf16.then(|| self.tflops(Kind::BFloat16)).transpose()?,
            bandwidth_gbps: self.bandwidth()?,
        })
    }

    /// The most of all sides.
    fn tflops(&mut self, kind: Kind) -> Result<f64, ProbeError> {
        let mut best: Option<f64> = None;
        for side in self.extent.sides.iter().copied() {
            let side_bytes = u64::from(side) * kind.elt_size_in_bytes() as u64;
            let fits = 3 * u64::from(side) * side_bytes <= self.free / SHARE;
            let measured = if fits { Some(self.product_seconds(side, kind)) } else { None };
            let seconds = match measured {
                Some(Ok(seconds)) => seconds,
                Some(Err(error)) if !error.for_want_of_memory() => {
                    return Err(self.failed(PRODUCTS, error));
                }
                _ => {
                    let name = self.name();
                    self.notes.push(format!("{name} has no room for matrices of side {side}"));
                    break;
                }
            };
            let tflops = 2.0 * f64::from(side).powi(3) / seconds / 1e12;
            best = Some(best.map_or(tflops, |best| best.max(tflops)));
            // The next side is twice as long, and its product eight times.
            if seconds * 8.0 > LONGEST_SECONDS {
                break;
            }
        }
        best.ok_or_else(|| ProbeError::NoRoom { operation: PRODUCTS, device: self.name() })
    }

    fn product_seconds(&self, side: u32, kind: Kind) -> Result<f64, Failed> {
        let side = i64::from(side);
        // Cards are clocked higher while they multiply zeros.
        let matrix = || Tensor::f_rand([side, side], (kind, self.device));
        let (x, weight) = (matrix()?, matrix()?);
        median_seconds(BUDGET_MAX, || {
            // As layers compute it: by the shim on the CPU, by libtorch elsewhere.
            let product = match self.device {
                Device::Cpu => tch_ext::product(&x, &weight)?,
                _ => x.f_linear(&weight, None::<&Tensor>)?,
            };
            Ok(settle(&product)?)
        })
    }

    /// GB/s of the largest tensors that there is room for.
    fn bandwidth(&mut self) -> Result<f64, ProbeError> {
        let most = self.extent.stream_bytes;
        let mut bytes = most.min(self.free / SHARE / 2);
        loop {
            match self.add_seconds(bytes) {
                Ok(seconds) => {
                    if bytes < most {
                        let name = self.name();
                        let small = format!("{name}: memory was measured with {bytes} bytes only");
                        self.notes.push(small);
                    }
                    // Two are read, one is written.
                    return Ok(3.0 * bytes as f64 / seconds / 1e9);
                }
                Err(error) if !error.for_want_of_memory() => {
                    return Err(self.failed(STREAM, error));
                }
                Err(_) if bytes / 2 >= STREAM_BYTES_MIN => bytes /= 2,
                Err(_) => {
                    return Err(ProbeError::NoRoom { operation: STREAM, device: self.name() });
                }
            }
        }
    }

    /// In place: what is written was read before, so that no cache line is fetched unasked for.
    fn add_seconds(&self, bytes: u64) -> Result<f64, Failed> {
        let values = (bytes / 4).max(1) as i64;
        let ones = || Tensor::f_ones([values], (Kind::Float, self.device));
        let (mut sum, other) = (ones()?, ones()?);
        median_seconds(BUDGET_MAX, || {
            let _ = sum.f_add_(&other)?;
            Ok(settle(&sum)?)
        })
    }

    fn failed(&self, operation: &'static str, error: Failed) -> ProbeError {
        let device = self.name();
        match error {
            Failed::Torch(source) => ProbeError::Torch { operation, device, source },
            Failed::Shim(source) => ProbeError::Shim { operation, device, source },
        }
    }
}
