// The C interface of the shim. Every function returns nullptr, or a message made by malloc that the
// caller gives back to tch_ext_free_message. No C++ exception crosses it.
#pragma once

#include <cstdint>

namespace at {
class Tensor;
}

extern "C" {

void tch_ext_free_message(char* message);

// Backward from `outputs`, whose gradients are `gradients`, into the leaves.
char* tch_ext_backward(at::Tensor* const* outputs, at::Tensor* const* gradients, int64_t count);

// Makes `gradient` the tensor that `leaf`'s gradient accumulates into.
char* tch_ext_set_gradient(at::Tensor* leaf, const at::Tensor* gradient);

struct TchExtAdamW {
  double learning_rate;
  double beta1;
  double beta2;
  double weight_decay;
  double epsilon;
};

// One fused AdamW step. `tensors`: theta, gradient, first, second. `scalars`, single f32 on the same
// device: the step's number from 1, what the gradient is divided by, 1 to change nothing.
char* tch_ext_fused_adamw(
    at::Tensor* const* tensors, const at::Tensor* const* scalars, const TchExtAdamW* settings);

// What `ops.h` declares. `out` and `sum` receive tensors that the caller owns; `delta` may be null.
char* tch_ext_product(const at::Tensor* x, const at::Tensor* weight, at::Tensor** out);
char* tch_ext_linear(const at::Tensor* x, const at::Tensor* weight, at::Tensor** out);
char* tch_ext_norm(
    const at::Tensor* x, const at::Tensor* delta, const at::Tensor* weight, double epsilon,
    at::Tensor** out, at::Tensor** sum);
char* tch_ext_gate(const at::Tensor* both, at::Tensor** out);
// `tensors`: mixed, cosine, sine; `shape`: batch, heads, key_value_heads.
char* tch_ext_attention(
    const at::Tensor* const* tensors, const int64_t* shape, at::Tensor** out);
char* tch_ext_cross_entropy(at::Tensor* logits, const at::Tensor* targets, double* loss);

// Changes a tensor in place and returns true, or false where it cannot.
typedef bool TchExtCall(void* context, at::Tensor* tensor);
typedef void TchExtRelease(void* context);

// x, which `call` changes on its way forward, or whose gradient it changes on its way back. Called
// from whichever thread computes. `release` is called once, when no graph needs `context` any more;
// if this function fails, too.
char* tch_ext_changed(
    const at::Tensor* x, bool backward, TchExtCall* call, TchExtRelease* release, void* context,
    at::Tensor** out);

// `count` f32 on the host in memory that cards copy from and to directly.
char* tch_ext_pinned(int64_t count, at::Tensor** out);

// `count` integers on CUDA device `index`, copied in the order of its work.
char* tch_ext_on_card(const int64_t* values, int64_t count, int64_t index, at::Tensor** out);

// Whether CUDA device `index` computes in bf16 (Ampere and later).
char* tch_ext_cuda_has_bf16(int64_t index, bool* out);

// Bytes of CUDA device `index` that libtorch's allocator has taken at most so far.
char* tch_ext_cuda_peak_bytes(int64_t index, int64_t* peak);
}
