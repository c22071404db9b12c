//! The operations of a LLaMA layer for f32 on the CPU, each one node of autograd's graph and one
//! pass over memory, where libtorch's own would be many.

use std::ffi::c_char;
use std::ptr;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::{ShimError, ffi};

/// How the rows and columns of an attention's input are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Sequences, all of one length.
    pub batch: i64,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads.
    pub key_value_heads: i64,
}

/// `x` [n, k] · `weight` [m, k]ᵀ, by whichever library is faster on this processor. Not
/// differentiable.
///
/// # Errors
/// What is not f32 on the CPU, or shapes that do not fit.
pub fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor, ShimError> {
    returned("multiply matrices", |out| {
        // SAFETY: two live tensors, only read; `out` takes one pointer.
        unsafe { ffi::tch_ext_product(x.as_ptr(), weight.as_ptr(), out) }
    })
}

/// As [`product`], differentiable.
///
/// # Errors
/// What is not f32 on the CPU, or shapes that do not fit.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor, ShimError> {
    returned("apply a linear layer", |out| {
        // SAFETY: two live tensors, only read and shared; `out` takes one pointer.
        unsafe { ffi::tch_ext_linear(x.as_ptr(), weight.as_ptr(), out) }
    })
}

/// RMSNorm of `x` + `delta`, both [n, width], and that sum (`x` itself without a delta).
///
/// # Errors
/// What is not f32 on the CPU, or shapes that do not fit.
pub fn norm(
    x: &Tensor,
    delta: Option<&Tensor>,
    weight: &Tensor,
    epsilon: f64,
) -> Result<(Tensor, Tensor), ShimError> {
    let delta = delta.map_or(ptr::null(), Tensor::as_ptr);
    let mut sum = ptr::null_mut();
    let normed = returned("apply a norm", |out| {
        // SAFETY: live tensors, only read and shared, null being allowed for `delta`; `out` and
        // `sum` take one pointer each.
        unsafe { ffi::tch_ext_norm(x.as_ptr(), delta, weight.as_ptr(), epsilon, out, &mut sum) }
    })?;
    // SAFETY: the call has succeeded, so `sum` is a tensor made by `new` that nobody else has.
    Ok((normed, unsafe { Tensor::from_ptr(sum) }))
}

/// silu(gate) · up for rows of gate then up.
///
/// # Errors
/// What is not f32 on the CPU, or an odd width.
pub fn gate(both: &Tensor) -> Result<Tensor, ShimError> {
    returned("apply a gate", |out| {
        // SAFETY: a live tensor, only read and shared; `out` takes one pointer.
        unsafe { ffi::tch_ext_gate(both.as_ptr(), out) }
    })
}

/// Causal attention over `mixed` [batch · length, (heads + 2 · key_value_heads) · head_dim],
/// queries and keys turned by the rotary tables [≥ length, head_dim]; [batch · length, heads ·
/// head_dim].
///
/// # Errors
/// What is not f32 on the CPU, or shapes that do not fit.
pub fn attention(
    mixed: &Tensor,
    (cosine, sine): (&Tensor, &Tensor),
    shape: AttentionShape,
) -> Result<Tensor, ShimError> {
    let tensors = [mixed.as_ptr(), cosine.as_ptr(), sine.as_ptr()];
    let shape = [shape.batch, shape.heads, shape.key_value_heads];
    returned("apply attention", |out| {
        // SAFETY: three live tensors, only read and shared, and three integers; `out` takes one
        // pointer.
        unsafe { ffi::tch_ext_attention(tensors.as_ptr(), shape.as_ptr(), out) }
    })
}

/// Σ over rows of -ln softmax(`logits`)[target], for `logits` [n, width], which become softmax
/// minus one-hot: the gradient of that sum. `targets` are n integers.
///
/// # Errors
/// What is not contiguous f32 on the CPU, shapes that do not fit, a target beyond the width.
pub fn cross_entropy(logits: &mut Tensor, targets: &Tensor) -> Result<f64, ShimError> {
    let mut loss = 0.0;
    // SAFETY: two live tensors, the first borrowed mutably for the call, which checks shapes, kinds
    // and targets before it writes; `loss` outlives it.
    unsafe {
        let message = ffi::tch_ext_cross_entropy(logits.as_mut_ptr(), targets.as_ptr(), &mut loss);
        ffi::checked("compute a cross-entropy", message)?;
    }
    Ok(loss)
}

/// The tensor that a call of the shim has written.
pub(crate) fn returned(
    operation: &'static str,
    call: impl FnOnce(*mut *mut C_tensor) -> *mut c_char,
) -> Result<Tensor, ShimError> {
    let mut out = ptr::null_mut();
    let message = call(&mut out);
    // SAFETY: the message is what the shim has just returned; where it is null the call has
    // succeeded, so `out` is a tensor made by `new` that nobody else has.
    unsafe {
        ffi::checked(operation, message)?;
        Ok(Tensor::from_ptr(out))
    }
}
