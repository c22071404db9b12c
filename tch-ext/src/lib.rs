//! What tch lacks, through a small C++ shim: backward from a given gradient, gradients that are
//! views of one buffer, nodes of the graph that call back, fused AdamW, memory statistics; the
//! operations of a LLaMA layer fused for the CPU; and CPU tensors as slices. Home of `unsafe`.

mod ffi;
mod hook;
mod host;
mod ops;

use tch::Tensor;
use torch_sys::C_tensor;

pub use crate::hook::{Hook, changed_backward, changed_forward};
pub use crate::host::{HostError, host_slice};
pub use crate::ops::{AttentionShape, attention, cross_entropy, gate, linear, norm, product};

/// libtorch refused an operation.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation}: {message}")]
pub struct ShimError {
    operation: &'static str,
    message: String,
}

/// Settings of one AdamW step.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// First moment's decay.
    pub beta1: f64,
    /// Second moment's decay.
    pub beta2: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

/// Backward from outputs, each with its gradient, adding to the gradients of the leaves.
///
/// # Errors
/// What autograd says: shapes that differ, an output without a graph.
pub fn backward(outputs: &[(&Tensor, &Tensor)]) -> Result<(), ShimError> {
    let roots: Vec<_> = outputs.iter().map(|(output, _)| raw(output)).collect();
    let gradients: Vec<_> = outputs.iter().map(|(_, gradient)| raw(gradient)).collect();
    // SAFETY: both arrays hold `count` live tensors, which the call only reads and shares.
    unsafe {
        let count = roots.len() as i64;
        let message = ffi::tch_ext_backward(roots.as_ptr(), gradients.as_ptr(), count);
        ffi::checked("run backward", message)
    }
}

/// Makes `gradient` the tensor that the gradient of `leaf` accumulates into, in place: a view of a
/// larger buffer stays one.
///
/// # Errors
/// A gradient of another shape, kind or device.
pub fn set_gradient(leaf: &mut Tensor, gradient: &Tensor) -> Result<(), ShimError> {
    if leaf.size() != gradient.size() || leaf.device() != gradient.device() {
        let message = format!("shape {:?} is not {:?}", gradient.size(), leaf.size());
        return Err(ShimError { operation: "set a gradient", message });
    }
    // SAFETY: both are live tensors; the shim shares the second's ownership.
    unsafe {
        let message = ffi::tch_ext_set_gradient(leaf.as_mut_ptr(), gradient.as_ptr());
        ffi::checked("set a gradient", message)
    }
}

/// The tensors of one AdamW step; one shape, kind and device.
#[derive(Debug)]
pub struct AdamWTensors<'a> {
    /// Parameters, updated in place.
    pub theta: &'a mut Tensor,
    /// Their gradients.
    pub gradient: &'a mut Tensor,
    /// First moments, updated in place.
    pub first: &'a mut Tensor,
    /// Second moments, updated in place.
    pub second: &'a mut Tensor,
}

/// libtorch's fused AdamW; `step` counts from 1.
///
/// # Errors
/// What libtorch says: shapes or devices that differ.
pub fn fused_adamw(
    tensors: AdamWTensors<'_>,
    step: u64,
    settings: &AdamW,
) -> Result<(), ShimError> {
    let AdamWTensors { theta, gradient, first, second } = tensors;
    let pointers = [raw(theta), raw(gradient), raw(first), raw(second)];
    // SAFETY: four live tensors, borrowed mutably for the call; `AdamW` has the layout of the C
    // struct.
    unsafe {
        let message = ffi::tch_ext_fused_adamw(pointers.as_ptr(), step as f64, settings);
        ffi::checked("run fused AdamW", message)
    }
}

/// `count` f32 on the host, not initialised, in memory that cards copy from and to directly
/// (pinned).
///
/// # Errors
/// No card is here, or the host has no such memory left.
pub fn pinned(count: usize) -> Result<Tensor, ShimError> {
    ops::returned("allocate pinned memory", |out| {
        // SAFETY: `out` takes one pointer.
        unsafe { ffi::tch_ext_pinned(count as i64, out) }
    })
}

/// Whether CUDA device `index` computes in bf16, which Ampere and later cards do.
///
/// # Errors
/// There is no such device.
pub fn cuda_has_bf16(index: u32) -> Result<bool, ShimError> {
    let mut has = false;
    // SAFETY: `has` outlives the call, which writes one bool.
    unsafe {
        let message = ffi::tch_ext_cuda_has_bf16(i64::from(index), &mut has);
        ffi::checked("ask a device for bf16", message)?;
    }
    Ok(has)
}

/// Bytes of CUDA device `index` that libtorch's allocator has taken at most since the process
/// began, gaps included.
///
/// # Errors
/// There is no such device.
pub fn cuda_peak_bytes(index: u32) -> Result<u64, ShimError> {
    let mut peak = 0;
    // SAFETY: the integer outlives the call, which writes one value to it.
    unsafe {
        let message = ffi::tch_ext_cuda_peak_bytes(i64::from(index), &mut peak);
        ffi::checked("read memory statistics", message)?;
    }
    Ok(u64::try_from(peak).unwrap_or(0))
}

fn raw(tensor: &Tensor) -> *mut C_tensor {
    tensor.as_ptr().cast_mut()
}

#[cfg(test)]
mod tests;
