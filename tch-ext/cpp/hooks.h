// Nodes of autograd's graph that call back: what has to be summed over devices is changed on its way
// forward or backward.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include "shim.h"

namespace tch_ext {

// A callback and what it owns.
class Hook : public torch::CustomClassHolder {
 public:
  Hook(TchExtCall* call, TchExtRelease* release, void* context)
      : call_(call), release_(release), context_(context) {}
  Hook(const Hook&) = delete;
  Hook& operator=(const Hook&) = delete;
  ~Hook() override { release_(context_); }

  // Changes `tensor`, which nobody else has, in place; throws what the callback refuses.
  void operator()(at::Tensor& tensor) const;

 private:
  TchExtCall* call_;
  TchExtRelease* release_;
  void* context_;
};

// hook(x); its gradient is passed on as it is.
at::Tensor changed_forward(const at::Tensor& x, const c10::intrusive_ptr<Hook>& hook);

// x; its gradient becomes hook(gradient).
at::Tensor changed_backward(const at::Tensor& x, const c10::intrusive_ptr<Hook>& hook);

}  // namespace tch_ext
