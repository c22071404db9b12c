// The computations of a LLaMA layer for f32 on the CPU, with their gradients. What they are given is
// checked: shapes, kinds and devices that do not fit are exceptions.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace tch_ext {

// x [n, k] · weight [m, k]ᵀ.
at::Tensor product(const at::Tensor& x, const at::Tensor& weight);

// As `product`, differentiable.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight);

// (normed, sum) of RMSNorm over x + delta; sum is x where there is no delta.
std::tuple<at::Tensor, at::Tensor> norm(
    const at::Tensor& x, const std::optional<at::Tensor>& delta, const at::Tensor& weight,
    double epsilon);

// silu(gate) · up of [n, gate then up].
at::Tensor gate(const at::Tensor& both);

struct AttentionShape {
  int64_t batch;
  int64_t heads;
  int64_t key_value_heads;
};

// Causal attention over [batch · length, (heads + 2 · key_value_heads) · head_dim] with rotary
// tables [≥ length, head_dim]; [batch · length, heads · head_dim].
at::Tensor attention(
    const at::Tensor& mixed, const at::Tensor& cosine, const at::Tensor& sine,
    const AttentionShape& shape);

// Σ -log softmax(logits)[target]; logits become softmax - one-hot.
double cross_entropy(const at::Tensor& logits, const at::Tensor& targets);

}  // namespace tch_ext
