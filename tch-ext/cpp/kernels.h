// What lies between the large products of a LLaMA layer, fused for f32 on the CPU: each function
// passes over its rows once. Matrices are row-major and contiguous.
#pragma once

#include <cstdint>

namespace tch_ext {

// sum = x + delta (absent: x); out = sum · weight / √(mean(sum²) + epsilon). Keeps 1/√… in `scale`.
struct NormForward {
  const float* x;
  const float* delta;
  const float* weight;
  float* sum;
  float* out;
  float* scale;
  float epsilon;
};
void norm_forward(const NormForward& pass, int64_t begin, int64_t end, int64_t width);

// dx = the gradient through `out` plus that of `sum` (absent: 0); adds to dweight [width].
struct NormBackward {
  const float* sum;
  const float* weight;
  const float* scale;
  const float* dout;
  const float* dsum;
  float* dx;
};
void norm_backward(
    const NormBackward& pass, int64_t begin, int64_t end, int64_t width, float* dweight);

// out[i] = silu(gate[i]) · up[i], rows of `both` being gate then up, `width` of each.
void gate_forward(const float* both, float* out, int64_t begin, int64_t end, int64_t width);
void gate_backward(
    const float* both, const float* dout, float* dboth, int64_t begin, int64_t end, int64_t width);

// Rows of `mixed` are heads + 2 · key_value_heads vectors of head_dim; row r has position
// r % length. Queries and keys are turned, keys and values repeated for every query head.
struct Heads {
  int64_t heads;
  int64_t key_value_heads;
  int64_t head_dim;
  int64_t length;
  const float* cosine;
  const float* sine;
};
struct Split {
  float* query;
  float* key;
  float* value;
};
void split_heads(
    const Heads& shape, const float* mixed, const Split& out, int64_t begin, int64_t end);
// Its transpose: from the gradients of query, key and value to that of `mixed`.
void join_heads(
    const Heads& shape, const Split& gradients, float* dmixed, int64_t begin, int64_t end);

// The sum of -log softmax(logits)[target] over rows; logits become softmax - one-hot.
double cross_entropy(
    float* logits, const int64_t* targets, int64_t begin, int64_t end, int64_t width);

}  // namespace tch_ext
