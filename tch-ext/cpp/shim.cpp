// What tch lacks, against libtorch's C++ interface.
#include "shim.h"

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/core/grad_mode.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <vector>

#include "hooks.h"
#include "ops.h"

namespace {

// Runs `body` and turns what it throws into a message.
template <typename Body>
char* guarded(Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("unknown C++ exception");
  }
}

}  // namespace

void tch_ext_free_message(char* message) {
  free(message);
}

char* tch_ext_backward(at::Tensor* const* outputs, at::Tensor* const* gradients, int64_t count) {
  return guarded([&] {
    std::vector<at::Tensor> roots, upstream;
    for (int64_t i = 0; i < count; ++i) {
      roots.push_back(*outputs[i]);
      upstream.push_back(*gradients[i]);
    }
    torch::autograd::backward(roots, upstream);
  });
}

char* tch_ext_set_gradient(at::Tensor* leaf, const at::Tensor* gradient) {
  return guarded([&] { leaf->mutable_grad() = *gradient; });
}

char* tch_ext_fused_adamw(
    at::Tensor* const* tensors, const at::Tensor* const* scalars, const TchExtAdamW* settings) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    // The kernels take what is behind the pointers as it is, as many values as theta has.
    for (int i = 0; i < 4; ++i) {
      TORCH_CHECK(
          tensors[i]->sizes() == tensors[0]->sizes() && tensors[i]->is_contiguous() &&
              tensors[i]->scalar_type() == tensors[0]->scalar_type() &&
              tensors[i]->device() == tensors[0]->device(),
          "tensors of unlike shapes, kinds or devices, or with gaps between their values");
    }
    for (int i = 0; i < 3; ++i) {
      TORCH_CHECK(
          scalars[i]->numel() == 1 && scalars[i]->scalar_type() == at::kFloat &&
              scalars[i]->device() == tensors[0]->device(),
          "not a single f32 on the device of the parameters");
    }
    std::vector<at::Tensor> theta{*tensors[0]}, gradient{*tensors[1]};
    std::vector<at::Tensor> first{*tensors[2]}, second{*tensors[3]};
    std::vector<at::Tensor> steps{*scalars[0]};
    at::_fused_adamw_(
        theta, gradient, first, second, {}, steps, settings->learning_rate, settings->beta1,
        settings->beta2, settings->weight_decay, settings->epsilon, /*amsgrad=*/false,
        /*maximize=*/false, /*grad_scale=*/*scalars[1], /*found_inf=*/*scalars[2]);
  });
}

char* tch_ext_product(const at::Tensor* x, const at::Tensor* weight, at::Tensor** out) {
  return guarded([&] { *out = new at::Tensor(tch_ext::product(*x, *weight)); });
}

char* tch_ext_linear(const at::Tensor* x, const at::Tensor* weight, at::Tensor** out) {
  return guarded([&] { *out = new at::Tensor(tch_ext::linear(*x, *weight)); });
}

char* tch_ext_norm(
    const at::Tensor* x, const at::Tensor* delta, const at::Tensor* weight, double epsilon,
    at::Tensor** out, at::Tensor** sum) {
  return guarded([&] {
    const auto added = delta == nullptr ? std::nullopt : std::optional<at::Tensor>(*delta);
    auto [normed, total] = tch_ext::norm(*x, added, *weight, epsilon);
    auto first = std::make_unique<at::Tensor>(std::move(normed));
    *sum = new at::Tensor(std::move(total));
    *out = first.release();
  });
}

char* tch_ext_gate(const at::Tensor* both, at::Tensor** out) {
  return guarded([&] { *out = new at::Tensor(tch_ext::gate(*both)); });
}

char* tch_ext_attention(
    const at::Tensor* const* tensors, const int64_t* shape, at::Tensor** out) {
  return guarded([&] {
    *out = new at::Tensor(tch_ext::attention(
        *tensors[0], *tensors[1], *tensors[2], {shape[0], shape[1], shape[2]}));
  });
}

char* tch_ext_cross_entropy(at::Tensor* logits, const at::Tensor* targets, double* loss) {
  return guarded([&] { *loss = tch_ext::cross_entropy(*logits, *targets); });
}

char* tch_ext_changed(
    const at::Tensor* x, bool backward, TchExtCall* call, TchExtRelease* release, void* context,
    at::Tensor** out) {
  return guarded([&] {
    const auto hook = c10::make_intrusive<tch_ext::Hook>(call, release, context);
    *out = new at::Tensor(
        backward ? tch_ext::changed_backward(*x, hook) : tch_ext::changed_forward(*x, hook));
  });
}

char* tch_ext_pinned(int64_t count, at::Tensor** out) {
  return guarded([&] {
    const auto options = at::TensorOptions().dtype(at::kFloat).pinned_memory(true);
    *out = new at::Tensor(at::empty({count}, options));
  });
}

char* tch_ext_on_card(const int64_t* values, int64_t count, int64_t index, at::Tensor** out) {
  return guarded([&] {
    const c10::Device card(c10::kCUDA, static_cast<c10::DeviceIndex>(index));
    const auto pinned = at::empty({count}, at::TensorOptions(at::kLong).pinned_memory(true));
    std::copy_n(values, count, pinned.data_ptr<int64_t>());
    *out = new at::Tensor(pinned.to(card, at::kLong, /*non_blocking=*/true));
  });
}

char* tch_ext_cuda_has_bf16(int64_t index, bool* out) {
  return guarded([&] {
    c10::DeviceGuard guard(c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index)));
    *out = at::detail::getCUDAHooks().supportsBFloat16ConvolutionWithCuDNNv8();
  });
}

char* tch_ext_cuda_peak_bytes(int64_t index, int64_t* peak) {
  return guarded([&] {
    const auto statistics =
        at::accelerator::getDeviceStats(static_cast<c10::DeviceIndex>(index));
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *peak = statistics.reserved_bytes[all].peak;
  });
}
