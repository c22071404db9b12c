#include "ops.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels.h"

namespace tch_ext {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Values that one thread takes at least.
constexpr int64_t GRAIN = 1 << 14;

void check(const Tensor& tensor, int64_t dimensions) {
  TORCH_CHECK(
      tensor.defined() && tensor.is_cpu() && tensor.scalar_type() == at::kFloat &&
          tensor.dim() == dimensions,
      "expected f32 on the CPU with ", dimensions, " dimensions");
}

const float* in(const Tensor& tensor) {
  return tensor.const_data_ptr<float>();
}

float* out(const Tensor& tensor) {
  return tensor.mutable_data_ptr<float>();
}

// Runs body(begin, end) over blocks of rows that do not depend on the number of threads.
template <typename Body>
void over_blocks(int64_t rows, int64_t block, Body body) {
  const int64_t blocks = (rows + block - 1) / block;
  at::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) body(i, i * block, std::min(rows, (i + 1) * block));
  });
}

int64_t rows_for(int64_t width) {
  return std::max<int64_t>(1, GRAIN / width);
}

// libtorch's BLAS is Intel's, which uses AVX-512 on Intel's processors alone; oneDNN uses what there
// is.
bool prefers_onednn() {
#if defined(__x86_64__)
  static const bool prefers = at::hasMKLDNN() && !__builtin_cpu_is("intel");
  return prefers;
#else
  return false;
#endif
}

using OneDnnLinear = Tensor(
    const Tensor&, const Tensor&, const std::optional<Tensor>&, c10::string_view,
    c10::List<std::optional<at::Scalar>>, std::optional<c10::string_view>);

Tensor onednn_product(const Tensor& x, const Tensor& weight) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
                             .typed<OneDnnLinear>();
  return op.call(
      x, weight, std::nullopt, "none", c10::List<std::optional<at::Scalar>>(), std::nullopt);
}

struct Linear : Function<Linear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight) {
    ctx->save_for_backward({x, weight});
    return product(x, weight);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto& [x, weight] = std::tie(saved[0], saved[1]);
    const Tensor& dy = gradients[0];
    return {product(dy, weight.t()), product(dy.t(), x.t())};
  }
};

struct Norm : Function<Norm> {
  static variable_list forward(
      AutogradContext* ctx, const Tensor& x_any, const std::optional<Tensor>& delta_any,
      const Tensor& weight, double epsilon) {
    const Tensor x = x_any.contiguous();
    const Tensor delta = delta_any ? delta_any->contiguous() : Tensor();
    const int64_t rows = x.size(0), width = x.size(1);
    const Tensor sum = delta.defined() ? at::empty_like(x) : x;
    const Tensor normed = at::empty_like(x), scale = at::empty({rows}, x.options());
    const NormForward pass{
        in(x), delta.defined() ? in(delta) : nullptr, in(weight),
        delta.defined() ? out(sum) : nullptr, out(normed), out(scale),
        static_cast<float>(epsilon)};
    over_blocks(rows, rows_for(width), [&](int64_t, int64_t begin, int64_t end) {
      norm_forward(pass, begin, end, width);
    });
    ctx->save_for_backward({sum, weight, scale});
    if (!delta.defined()) return {normed};
    return {normed, sum};
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &sum = saved[0], &weight = saved[1], &scale = saved[2];
    const bool has_delta = gradients.size() == 2;
    const Tensor dout = gradients[0].contiguous();
    const Tensor dsum =
        has_delta && gradients[1].defined() ? gradients[1].contiguous() : Tensor();
    const int64_t rows = sum.size(0), width = sum.size(1), block = rows_for(width);
    const Tensor dx = at::empty_like(sum);
    const Tensor partial = at::zeros({(rows + block - 1) / block, width}, sum.options());
    const NormBackward pass{
        in(sum),  in(weight), in(scale), in(dout), dsum.defined() ? in(dsum) : nullptr,
        out(dx)};
    over_blocks(rows, block, [&](int64_t i, int64_t begin, int64_t end) {
      norm_backward(pass, begin, end, width, out(partial) + i * width);
    });
    return {dx, has_delta ? dx : Tensor(), partial.sum(0), Tensor()};
  }
};

struct Gate : Function<Gate> {
  static Tensor forward(AutogradContext* ctx, const Tensor& both_any) {
    const Tensor both = both_any.contiguous();
    const int64_t rows = both.size(0), width = both.size(1) / 2;
    const Tensor gated = at::empty({rows, width}, both.options());
    over_blocks(rows, rows_for(width), [&](int64_t, int64_t begin, int64_t end) {
      gate_forward(in(both), out(gated), begin, end, width);
    });
    ctx->save_for_backward({both});
    return gated;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const Tensor both = ctx->get_saved_variables()[0];
    const Tensor dout = gradients[0].contiguous(), dboth = at::empty_like(both);
    const int64_t rows = both.size(0), width = both.size(1) / 2;
    over_blocks(rows, rows_for(width), [&](int64_t, int64_t begin, int64_t end) {
      gate_backward(in(both), in(dout), out(dboth), begin, end, width);
    });
    return {dboth};
  }
};

struct Attention : Function<Attention> {
  // [batch, heads, length, head_dim] of [batch · length, heads · head_dim].
  static Tensor by_head(const Tensor& flat, int64_t batch, int64_t heads) {
    return flat.view({batch, flat.size(0) / batch, heads, -1}).transpose(1, 2);
  }

  static Heads heads_of(const Tensor& cosine, const Tensor& sine, int64_t rows,
                        const AttentionShape& shape) {
    return {shape.heads, shape.key_value_heads, cosine.size(1), rows / shape.batch,
            in(cosine),  in(sine)};
  }

  static Tensor forward(
      AutogradContext* ctx, const Tensor& mixed_any, const Tensor& cosine, const Tensor& sine,
      int64_t batch, int64_t heads, int64_t key_value_heads) {
    const Tensor mixed = mixed_any.contiguous();
    const int64_t rows = mixed.size(0), width = heads * cosine.size(1);
    const auto shape = heads_of(cosine, sine, rows, {batch, heads, key_value_heads});
    const Tensor parts = at::empty({3, rows, width}, mixed.options());
    const Split split{out(parts[0]), out(parts[1]), out(parts[2])};
    over_blocks(rows, rows_for(mixed.size(1)), [&](int64_t, int64_t begin, int64_t end) {
      split_heads(shape, in(mixed), split, begin, end);
    });
    const auto [attended, log_sums] = at::_scaled_dot_product_flash_attention_for_cpu(
        by_head(parts[0], batch, heads), by_head(parts[1], batch, heads),
        by_head(parts[2], batch, heads), 0.0, /*is_causal=*/true);
    ctx->save_for_backward({parts, attended, log_sums, cosine, sine});
    ctx->saved_data["batch"] = batch;
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["key_value_heads"] = key_value_heads;
    return attended.transpose(1, 2).reshape({rows, width});
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &parts = saved[0], &cosine = saved[3], &sine = saved[4];
    const int64_t batch = ctx->saved_data["batch"].toInt();
    const int64_t heads = ctx->saved_data["heads"].toInt();
    const int64_t key_value_heads = ctx->saved_data["key_value_heads"].toInt();
    const auto [dquery, dkey, dvalue] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        by_head(gradients[0].contiguous(), batch, heads), by_head(parts[0], batch, heads),
        by_head(parts[1], batch, heads), by_head(parts[2], batch, heads), saved[1], saved[2], 0.0,
        /*is_causal=*/true);
    const auto rows_of = [](const Tensor& by_head) {
      return by_head.transpose(1, 2).contiguous();
    };
    const Tensor query = rows_of(dquery), key = rows_of(dkey), value = rows_of(dvalue);
    const int64_t rows = parts.size(1);
    const auto shape = heads_of(cosine, sine, rows, {batch, heads, key_value_heads});
    const int64_t width = (heads + 2 * key_value_heads) * shape.head_dim;
    const Tensor dmixed = at::empty({rows, width}, parts.options());
    const Split split{out(query), out(key), out(value)};
    over_blocks(rows, rows_for(width), [&](int64_t, int64_t begin, int64_t end) {
      join_heads(shape, split, out(dmixed), begin, end);
    });
    return {dmixed, Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor product(const Tensor& x, const Tensor& weight) {
  check(x, 2);
  check(weight, 2);
  TORCH_CHECK(x.size(1) == weight.size(1), "products of unlike widths");
  at::NoGradGuard no_grad;
  return prefers_onednn() ? onednn_product(x, weight) : at::mm(x, weight.t());
}

Tensor linear(const Tensor& x, const Tensor& weight) {
  return Linear::apply(x, weight);
}

std::tuple<Tensor, Tensor> norm(
    const Tensor& x, const std::optional<Tensor>& delta, const Tensor& weight, double epsilon) {
  check(x, 2);
  check(weight, 1);
  TORCH_CHECK(weight.size(0) == x.size(1) && weight.is_contiguous(), "a norm of another width");
  if (!delta) return {Norm::apply(x, delta, weight, epsilon)[0], x};
  check(*delta, 2);
  TORCH_CHECK(delta->sizes() == x.sizes(), "a residual of another shape");
  const auto outputs = Norm::apply(x, delta, weight, epsilon);
  return {outputs[0], outputs[1]};
}

Tensor gate(const Tensor& both) {
  check(both, 2);
  TORCH_CHECK(both.size(1) % 2 == 0, "gate and up of unlike widths");
  return Gate::apply(both);
}

Tensor attention(
    const Tensor& mixed, const Tensor& cosine, const Tensor& sine, const AttentionShape& shape) {
  check(mixed, 2);
  check(cosine, 2);
  check(sine, 2);
  const auto [batch, heads, key_value_heads] = shape;
  TORCH_CHECK(
      batch > 0 && key_value_heads > 0 && heads > 0 && heads % key_value_heads == 0 &&
          mixed.size(0) % batch == 0 && cosine.size(1) % 2 == 0 &&
          mixed.size(1) == (heads + 2 * key_value_heads) * cosine.size(1),
      "heads that do not make up the width");
  TORCH_CHECK(
      cosine.sizes() == sine.sizes() && cosine.size(0) >= mixed.size(0) / batch &&
          cosine.is_contiguous() && sine.is_contiguous(),
      "rotary tables that are too short");
  return Attention::apply(mixed, cosine, sine, batch, heads, key_value_heads);
}

double cross_entropy(const Tensor& logits, const Tensor& targets) {
  check(logits, 2);
  const int64_t rows = logits.size(0), width = logits.size(1), block = rows_for(width);
  TORCH_CHECK(
      logits.is_contiguous() && width > 0 && targets.is_cpu() && targets.is_contiguous() &&
          targets.scalar_type() == at::kLong && targets.dim() == 1 && targets.size(0) == rows,
      "targets of another shape");
  const int64_t* target = targets.const_data_ptr<int64_t>();
  TORCH_CHECK(
      std::all_of(target, target + rows, [&](int64_t t) { return t >= 0 && t < width; }),
      "a target beyond the logits");
  std::vector<double> losses((rows + block - 1) / block);
  over_blocks(rows, block, [&](int64_t i, int64_t begin, int64_t end) {
    losses[i] = tch_ext::cross_entropy(out(logits), target, begin, end, width);
  });
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

}  // namespace tch_ext
