//! The shim's C interface, as declared in `cpp/shim.h`.

use std::ffi::{CStr, c_char, c_void};

use torch_sys::C_tensor;

use crate::{AdamW, ShimError};

unsafe extern "C" {
    fn tch_ext_free_message(message: *mut c_char);
    pub(crate) fn tch_ext_backward(
        outputs: *const *mut C_tensor,
        gradients: *const *mut C_tensor,
        count: i64,
    ) -> *mut c_char;
    pub(crate) fn tch_ext_set_gradient(
        leaf: *mut C_tensor,
        gradient: *const C_tensor,
    ) -> *mut c_char;
    pub(crate) fn tch_ext_fused_adamw(
        tensors: *const *mut C_tensor,
        scalars: *const *const C_tensor,
        settings: *const AdamW,
    ) -> *mut c_char;
    pub(crate) fn tch_ext_product(
        x: *const C_tensor,
        weight: *const C_tensor,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn tch_ext_linear(
        x: *const C_tensor,
        weight: *const C_tensor,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn tch_ext_norm(
        x: *const C_tensor,
        delta: *const C_tensor,
        weight: *const C_tensor,
        epsilon: f64,
        out: *mut *mut C_tensor,
        sum: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn tch_ext_gate(both: *const C_tensor, out: *mut *mut C_tensor) -> *mut c_char;
    pub(crate) fn tch_ext_attention(
        tensors: *const *const C_tensor,
        shape: *const i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn tch_ext_cross_entropy(
        logits: *mut C_tensor,
        targets: *const C_tensor,
        loss: *mut f64,
    ) -> *mut c_char;
    pub(crate) fn tch_ext_changed(
        x: *const C_tensor,
        backward: bool,
        call: unsafe extern "C" fn(*mut c_void, *mut C_tensor) -> bool,
        release: unsafe extern "C" fn(*mut c_void),
        context: *mut c_void,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn tch_ext_pinned(count: i64, out: *mut *mut C_tensor) -> *mut c_char;
    pub(crate) fn tch_ext_on_card(
        values: *const i64,
        count: i64,
        index: i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn tch_ext_cuda_has_bf16(index: i64, out: *mut bool) -> *mut c_char;
    pub(crate) fn tch_ext_cuda_peak_bytes(index: i64, peak: *mut i64) -> *mut c_char;
}

/// Takes the message of a shim call, null for success.
///
/// # Safety
/// `message` is what a function of the shim has just returned, and is not used again.
pub(crate) unsafe fn checked(
    operation: &'static str,
    message: *mut c_char,
) -> Result<(), ShimError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a message that is not null is a C string made by strdup and given to us alone.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: it was made by malloc in the shim, and nobody has it after this.
    unsafe { tch_ext_free_message(message) };
    Err(ShimError { operation, message: text })
}
