//! CPU tensors as slices, without a copy.

use tch::{Device, Kind, Tensor};

/// Why a tensor cannot be seen as a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It lies on another device.
    #[error("failed to view a tensor as a slice: it is on {0:?}, not on the CPU")]
    Device(Device),
    /// Its values are not f32.
    #[error("failed to view a tensor as a slice: it holds {0:?}, not Float")]
    Kind(Kind),
    /// Its values are not adjacent.
    #[error("failed to view a tensor as a slice: it is not contiguous")]
    Strided,
}

/// The values of a contiguous f32 tensor on the CPU. Autograd does not see what is written here, so
/// no graph that has saved the tensor may be waiting for its backward.
///
/// # Errors
/// Another device or kind, or gaps between the values.
pub fn host_slice(tensor: &mut Tensor) -> Result<&mut [f32], HostError> {
    if tensor.device() != Device::Cpu {
        return Err(HostError::Device(tensor.device()));
    }
    if tensor.kind() != Kind::Float {
        return Err(HostError::Kind(tensor.kind()));
    }
    if !tensor.is_contiguous() {
        return Err(HostError::Strided);
    }
    let count = tensor.numel();
    if count == 0 {
        return Ok(&mut []);
    }
    // SAFETY: the tensor is f32, on the CPU and contiguous, so `data_ptr` points to `count`
    // initialised f32 (any bits are a valid f32), aligned by libtorch's allocator. The storage
    // lives as long as the tensor, which stays mutably borrowed for as long as the slice. Other
    // tensors that share the storage can only be used through libtorch calls; who holds them must
    // not make any while holding the slice, as the crates above ensure by keeping them in one
    // struct borrowed mutably.
    Ok(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<f32>(), count) })
}
