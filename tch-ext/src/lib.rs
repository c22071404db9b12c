//! Operations that tch lacks, through a small C++ shim: backward from a given gradient, gradients
//! that are views of one buffer, nodes of the graph that call back, fused AdamW, copies to a card
//! that nobody waits for, memory statistics; the operations of a LLaMA layer fused for the CPU; and
//! CPU tensors as slices. Home of `unsafe`.

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

/// The scalars of one AdamW step that its device may know before the host: single f32 on the device
/// of the parameters.
#[derive(Debug)]
pub struct AdamWScalars<'a> {
    /// The step's number; counts from 1.
    pub step: &'a Tensor,
    /// The divisor of the gradient, which is divided in place.
    pub divisor: &'a Tensor,
    /// 1 to change nothing at all, else 0.
    pub skip: &'a Tensor,
}

/// libtorch's fused AdamW. On a card nobody waits for it.
///
/// # Errors
/// Shapes, kinds or devices that differ, gaps between values; what libtorch says.
pub fn fused_adamw(
    tensors: AdamWTensors<'_>,
    scalars: &AdamWScalars<'_>,
    settings: &AdamW,
) -> Result<(), ShimError> {
    let AdamWTensors { theta, gradient, first, second } = tensors;
    let AdamWScalars { step, divisor, skip } = scalars;
    let pointers = [theta, gradient, first, second].map(|tensor| raw(tensor));
    let scalars = [step, divisor, skip].map(|tensor| tensor.as_ptr());
    // SAFETY: four live tensors, borrowed mutably for the call, and three that are only read;
    // `AdamW` has the layout of the C struct.
    unsafe {
        let message = ffi::tch_ext_fused_adamw(pointers.as_ptr(), scalars.as_ptr(), settings);
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

/// `values` on CUDA device `index`, copied in the order of its work: nobody waits for what it was
/// given to do before, as a copy from memory that is not pinned would.
///
/// # Errors
/// There is no such device, or no room.
pub fn on_card(values: &[i64], index: u32) -> Result<Tensor, ShimError> {
    ops::returned("copy values to a card", |out| {
        // SAFETY: the call copies `count` integers before it returns; `out` takes one pointer.
        unsafe {
            let (count, index) = (values.len() as i64, i64::from(index));
            ffi::tch_ext_on_card(values.as_ptr(), count, index, out)
        }
    })
}

/// Says whether CUDA device `index` computes in bf16, which Ampere and later cards do.
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
