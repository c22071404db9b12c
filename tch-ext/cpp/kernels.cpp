// Loops that the compiler vectorises, for each level of x86-64 that is worth a version.
#include "kernels.h"

#include <cmath>
#include <cstring>

#if defined(__x86_64__) && defined(__gnu_linux__)
#define VECTORISED \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), flatten))
#else
#define VECTORISED
#endif

namespace tch_ext {
namespace {

// eˣ to about 2 units in the last place, without a branch or a table: x = n ln 2 + r, a polynomial
// for eʳ (Cephes), n into the exponent.
inline float exponential(float x) {
  // In this order a NaN stays one.
  x = 88.0f < x ? 88.0f : x;
  x = -87.0f > x ? -87.0f : x;
  // Adding 1.5 · 2²³ rounds to an integer, which then stands in the low bits.
  const float shifted = x * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float mantissa = (p * r) * r + r + 1.0f;
  return mantissa * __builtin_bit_cast(float, (static_cast<int32_t>(n) + 127) << 23);
}

inline float sigmoid(float x) {
  return 1.0f / (1.0f + exponential(-x));
}

}  // namespace

VECTORISED void norm_forward(
    const NormForward& pass, int64_t begin, int64_t end, int64_t width) {
  const float* __restrict weight = pass.weight;
  for (int64_t row = begin; row < end; ++row) {
    const float* __restrict x = pass.x + row * width;
    const float* sum = x;
    float squares = 0.0f;
    if (pass.delta != nullptr) {
      const float* __restrict delta = pass.delta + row * width;
      float* __restrict into = pass.sum + row * width;
#pragma omp simd reduction(+ : squares)
      for (int64_t i = 0; i < width; ++i) {
        const float value = x[i] + delta[i];
        into[i] = value;
        squares += value * value;
      }
      sum = into;
    } else {
#pragma omp simd reduction(+ : squares)
      for (int64_t i = 0; i < width; ++i) squares += x[i] * x[i];
    }
    const float scale = 1.0f / std::sqrt(squares / static_cast<float>(width) + pass.epsilon);
    pass.scale[row] = scale;
    float* __restrict out = pass.out + row * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) out[i] = weight[i] * (sum[i] * scale);
  }
}

VECTORISED void norm_backward(
    const NormBackward& pass, int64_t begin, int64_t end, int64_t width, float* dweight) {
  const float* __restrict weight = pass.weight;
  float* __restrict total = dweight;
  for (int64_t row = begin; row < end; ++row) {
    const float* __restrict sum = pass.sum + row * width;
    const float* __restrict dout = pass.dout + row * width;
    float* __restrict dx = pass.dx + row * width;
    const float scale = pass.scale[row];
    float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
    for (int64_t i = 0; i < width; ++i) {
      const float along = dout[i] * sum[i];
      dot += along * weight[i];
      total[i] += along * scale;
    }
    const float back = dot * scale * scale * scale / static_cast<float>(width);
    if (pass.dsum != nullptr) {
      const float* __restrict dsum = pass.dsum + row * width;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        dx[i] = dsum[i] + (scale * weight[i] * dout[i] - back * sum[i]);
      }
    } else {
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        dx[i] = scale * weight[i] * dout[i] - back * sum[i];
      }
    }
  }
}

VECTORISED void gate_forward(
    const float* both, float* out, int64_t begin, int64_t end, int64_t width) {
  for (int64_t row = begin; row < end; ++row) {
    const float* __restrict gate = both + 2 * row * width;
    const float* __restrict up = gate + width;
    float* __restrict into = out + row * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) into[i] = gate[i] * sigmoid(gate[i]) * up[i];
  }
}

VECTORISED void gate_backward(
    const float* both, const float* dout, float* dboth, int64_t begin, int64_t end,
    int64_t width) {
  for (int64_t row = begin; row < end; ++row) {
    const float* __restrict gate = both + 2 * row * width;
    const float* __restrict up = gate + width;
    const float* __restrict slope = dout + row * width;
    float* __restrict dgate = dboth + 2 * row * width;
    float* __restrict dup = dgate + width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      const float s = sigmoid(gate[i]);
      const float silu = gate[i] * s;
      dup[i] = slope[i] * silu;
      dgate[i] = slope[i] * up[i] * (s + silu * (1.0f - s));
    }
  }
}

VECTORISED void split_heads(
    const Heads& shape, const float* mixed, const Split& out, int64_t begin, int64_t end) {
  const int64_t width = shape.head_dim, half = width / 2;
  const int64_t group = shape.heads / shape.key_value_heads;
  const int64_t all = shape.heads + 2 * shape.key_value_heads;
  for (int64_t row = begin; row < end; ++row) {
    const float* __restrict cosine = shape.cosine + (row % shape.length) * width;
    const float* __restrict sine = shape.sine + (row % shape.length) * width;
    const float* in = mixed + row * all * width;
    for (int64_t head = 0; head < shape.heads + shape.key_value_heads; ++head) {
      const float* __restrict x = in + head * width;
      const bool is_query = head < shape.heads;
      const int64_t first = is_query ? head : (head - shape.heads) * group;
      float* base = (is_query ? out.query : out.key) + (row * shape.heads + first) * width;
      float* __restrict y = base;
#pragma omp simd
      for (int64_t i = 0; i < half; ++i) {
        y[i] = x[i] * cosine[i] - x[i + half] * sine[i];
        y[i + half] = x[i + half] * cosine[i] + x[i] * sine[i];
      }
      for (int64_t copy = 1; !is_query && copy < group; ++copy) {
        std::memcpy(base + copy * width, base, width * sizeof(float));
      }
    }
    const float* value = in + (shape.heads + shape.key_value_heads) * width;
    for (int64_t head = 0; head < shape.heads; ++head) {
      std::memcpy(
          out.value + (row * shape.heads + head) * width, value + head / group * width,
          width * sizeof(float));
    }
  }
}

VECTORISED void join_heads(
    const Heads& shape, const Split& gradients, float* dmixed, int64_t begin, int64_t end) {
  const int64_t width = shape.head_dim, half = width / 2;
  const int64_t group = shape.heads / shape.key_value_heads;
  const int64_t all = shape.heads + 2 * shape.key_value_heads;
  for (int64_t row = begin; row < end; ++row) {
    const float* __restrict cosine = shape.cosine + (row % shape.length) * width;
    const float* __restrict sine = shape.sine + (row % shape.length) * width;
    float* out = dmixed + row * all * width;
    const int64_t from = row * shape.heads * width;
    for (int64_t head = 0; head < all; ++head) {
      const bool is_query = head < shape.heads;
      const bool is_value = head >= shape.heads + shape.key_value_heads;
      const int64_t index = is_query ? head : (head - shape.heads) % shape.key_value_heads * group;
      const float* base =
          (is_query ? gradients.query : is_value ? gradients.value : gradients.key) + from;
      const float* __restrict x = base + index * width;
      float* __restrict y = out + head * width;
      std::memcpy(y, x, width * sizeof(float));
      for (int64_t copy = 1; !is_query && copy < group; ++copy) {
        const float* __restrict more = x + copy * width;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) y[i] += more[i];
      }
      if (is_value) continue;
#pragma omp simd
      for (int64_t i = 0; i < half; ++i) {
        const float low = y[i], high = y[i + half];
        y[i] = low * cosine[i] + high * sine[i];
        y[i + half] = high * cosine[i] - low * sine[i];
      }
    }
  }
}

VECTORISED double cross_entropy(
    float* logits, const int64_t* targets, int64_t begin, int64_t end, int64_t width) {
  double loss = 0.0;
  for (int64_t row = begin; row < end; ++row) {
    float* __restrict x = logits + row * width;
    const float target = x[targets[row]];
    float largest = x[0];
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < width; ++i) largest = x[i] > largest ? x[i] : largest;
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; ++i) {
      x[i] = exponential(x[i] - largest);
      sum += x[i];
    }
    const float share = 1.0f / sum;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) x[i] *= share;
    x[targets[row]] -= 1.0f;
    loss += std::log(static_cast<double>(sum)) + (largest - target);
  }
  return loss;
}

}  // namespace tch_ext
