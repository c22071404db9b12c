//! Callbacks from inside autograd's graph.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::ops::returned;
use crate::{ShimError, ffi};

type Change = dyn Fn(&mut Tensor) -> bool + Send + Sync;

/// A function that changes a tensor in place, for example into its sum over devices; false where
/// that failed. It is called on whichever thread computes, backward on a card's on a thread of
/// autograd's.
#[derive(Clone)]
pub struct Hook(Arc<Box<Change>>);

impl Hook {
    /// A hook that calls `change`.
    pub fn new(change: impl Fn(&mut Tensor) -> bool + Send + Sync + 'static) -> Hook {
        Hook(Arc::new(Box::new(change)))
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

/// A copy of `x` as `hook` changes it, whose gradient is that of `x`.
///
/// # Errors
/// The hook refused.
pub fn changed_forward(x: &Tensor, hook: &Hook) -> Result<Tensor, ShimError> {
    changed(x, hook, false)
}

/// `x`, whose gradient becomes what `hook` makes of it.
///
/// # Errors
/// None but libtorch's own; a hook that refuses ends the backward.
pub fn changed_backward(x: &Tensor, hook: &Hook) -> Result<Tensor, ShimError> {
    changed(x, hook, true)
}

fn changed(x: &Tensor, hook: &Hook, backward: bool) -> Result<Tensor, ShimError> {
    let context = Arc::into_raw(Arc::clone(&hook.0)).cast_mut().cast::<c_void>();
    returned("pass values through an exchange", |out| {
        // SAFETY: `x` is a live tensor, only read and shared; `context` is one count of an `Arc`
        // that `release` takes back, once, whatever happens; `out` takes one pointer.
        unsafe { ffi::tch_ext_changed(x.as_ptr(), backward, call, release, context, out) }
    })
}

/// # Safety
/// `context` comes from `changed` and is not released yet; `tensor` is live and nobody else's.
unsafe extern "C" fn call(context: *mut c_void, tensor: *mut C_tensor) -> bool {
    // SAFETY: the count that `changed` gave away keeps the closure alive.
    let change = unsafe { &*context.cast::<Box<Change>>() };
    // SAFETY: a live tensor, whose storage this clone shares for the call.
    let mut tensor = unsafe { Tensor::clone_from_ptr(tensor) };
    catch_unwind(AssertUnwindSafe(|| change(&mut tensor))).unwrap_or(false)
}

/// # Safety
/// `context` comes from `changed`; called once for it.
unsafe extern "C" fn release(context: *mut c_void) {
    // SAFETY: takes back the count that `changed` gave away.
    drop(unsafe { Arc::from_raw(context.cast::<Box<Change>>()) });
}
