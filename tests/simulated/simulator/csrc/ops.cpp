// The operators of the simulated devices: memory, views and copies of their own, torch's CPU for all
// others. Results come late: the CPU computes at once, the stream's thread writes the device later.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/enum_tag.h>
#include <ATen/core/grad_mode.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceGuard.h>

#include "memory.h"
#include "runtime.h"

namespace sim {
namespace {

using at::Tensor;

c10::DeviceType bound_type;
c10::DispatchKey bound_key, bound_autocast_key;
// Set while the CPU's results are brought to the device, which nobody waits for.
thread_local bool late = false;

Stream &stream_of(const Tensor &tensor) { return current_stream(tensor.get_device()); }
bool on_device(const Tensor &tensor) { return tensor.device().type() == bound_type; }

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride,
                     std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                     std::optional<at::Device> device, std::optional<bool>) {
  const c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_strided_generic(size, stride, device_allocator(bound_type),
                                           c10::DispatchKeySet(bound_key),
                                           dtype.value_or(at::kFloat));
}

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<at::Device> device, std::optional<bool>,
             std::optional<at::MemoryFormat> format) {
  const c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_generic(size, device_allocator(bound_type),
                                   c10::DispatchKeySet(bound_key), dtype.value_or(at::kFloat),
                                   format);
}

const Tensor &resize(const Tensor &self, at::IntArrayRef size,
                     std::optional<at::MemoryFormat> format) {
  const c10::OptionalDeviceGuard guard(self.device());
  stream_of(self).synchronize();  // the old content is moved at once
  return at::native::resize_(self, size, format);
}

void record_stream(Tensor &self, at::Stream stream) {
  record_use(self.storage().data(), sim::stream(stream.device_index(), int(stream.id())));
}

// The same memory as a CPU tensor. It owns nothing: the pools keep all memory.
Tensor on_host(const Tensor &tensor) {
  Tensor host = at::from_blob(tensor.mutable_data_ptr(), tensor.sizes(), tensor.strides(),
                              at::TensorOptions().dtype(tensor.dtype()).device(at::kCPU));
  host._set_conj(tensor.is_conj());
  host._set_neg(tensor.is_neg());
  return host;
}

void copy_later(Stream &stream, const Tensor &to, const Tensor &from) {
  stream.launch([to, from] {
    const at::NoGradGuard no_grad;
    to.copy_(from);
  });
}

void copy_now(Stream &stream, const Tensor &to, const Tensor &from) {
  stream.synchronize();
  const at::NoGradGuard no_grad;
  to.copy_(from);
}

void copy_to_device(const Tensor &from, const Tensor &to, bool non_blocking) {
  Stream &stream = stream_of(to);
  if (non_blocking && is_pinned(from.const_data_ptr())) {
    copy_later(stream, on_host(to), on_host(from));
    record_use(from.const_data_ptr(), stream);
    return;
  }
  if (non_blocking || late) {
    copy_later(stream, on_host(to), from.clone());
  } else {
    copy_now(stream, on_host(to), from);
  }
}

void copy_to_host(const Tensor &from, const Tensor &to, bool non_blocking) {
  Stream &stream = stream_of(from);
  if (non_blocking && is_pinned(to.const_data_ptr())) {
    copy_later(stream, on_host(to), on_host(from));
    record_use(to.const_data_ptr(), stream);
    return;
  }
  copy_now(stream, on_host(to), on_host(from));
}

void copy_on_device(const Tensor &from, const Tensor &to) {
  Stream &source = stream_of(from), &target = stream_of(to);
  Event event;
  if (&source != &target) {  // two devices: nothing overtakes the copy on either
    event.record(target, false);
    event.block(source);
  }
  copy_later(source, on_host(to), on_host(from));
  if (&source != &target) {
    event.record(source, false);
    event.block(target);
  }
}

Tensor copy_from(const Tensor &self, const Tensor &dst, bool non_blocking) {
  if (dst.numel() == 0) return dst;
  if (on_device(self) && on_device(dst)) {
    copy_on_device(self, dst);
  } else if (on_device(self)) {
    copy_to_host(self, dst, non_blocking);
  } else {
    copy_to_device(self, dst, non_blocking);
  }
  return dst;
}

Tensor copy_from_and_resize(const Tensor &self, const Tensor &dst) {
  if (self.sizes() != dst.sizes()) dst.resize_(self.sizes());
  return copy_from(self, dst, /*non_blocking=*/false);
}

// Takes a generator of the device out of an op's arguments, which the CPU's kernels would refuse.
std::optional<at::Generator> take_generator(const c10::OperatorHandle &op,
                                            torch::jit::Stack *stack) {
  const size_t count = op.schema().arguments().size();
  for (size_t i = 0; i < count; ++i) {
    c10::IValue &argument = stack->at(stack->size() - count + i);
    if (!argument.isGenerator()) continue;
    at::Generator generator = argument.toGenerator();
    if (generator.device().type() != bound_type) continue;
    argument = c10::IValue();
    return generator;
  }
  return std::nullopt;
}

int device_in(const c10::OperatorHandle &op, const torch::jit::Stack &stack) {
  const size_t count = op.schema().arguments().size();
  for (size_t i = stack.size() - count; i < stack.size(); ++i)
    if (stack[i].isTensor() && stack[i].toTensor().defined() && on_device(stack[i].toTensor()))
      return stack[i].toTensor().get_device();
  return current_device();
}

// Lends a device's random state to the CPU's default generator while it lives.
class LentState {
 public:
  explicit LentState(at::Generator generator) : generator_(std::move(generator)) {
    cpu_.set_state(generator_.get_state());
  }
  ~LentState() {
    generator_.set_state(cpu_.get_state());
    cpu_.set_state(kept_);
  }

 private:
  at::Generator generator_;
  at::Generator cpu_ = at::detail::getDefaultCPUGenerator();
  Tensor kept_ = cpu_.get_state();
};

class LateScope {
 public:
  ~LateScope() { late = before_; }

 private:
  const bool before_ = std::exchange(late, true);
};

void fallback(const c10::OperatorHandle &op, torch::jit::Stack *stack) {
  const int device = device_in(op, *stack);
  std::optional<at::Generator> generator = take_generator(op, stack);
  std::optional<LentState> lent;
  if (generator || op.hasTag(at::Tag::nondeterministic_seeded))
    lent.emplace(generator ? *generator : default_generator(device));
  const LateScope scope;
  at::native::cpu_fallback(op, stack);
}

void register_ops(torch::Library &aten) {
  aten.impl("empty.memory_format", &empty);
  aten.impl("empty_strided", &empty_strided);
  aten.impl("resize_", &resize);
  aten.impl("set_.source_Storage", &at::native::set_);
  aten.impl("set_.source_Storage_storage_offset", &at::native::set_storage_cpu_);
  aten.impl("set_.source_Tensor", &at::native::set_tensor_);
  aten.impl("as_strided", &at::native::as_strided_tensorimpl);
  aten.impl("view", &at::native::view);
  aten.impl("_reshape_alias", &at::native::_reshape_alias);
  aten.impl("unfold", &at::native::unfold);
  aten.impl("view_as_real", &at::native::view_as_real);
  aten.impl("view_as_complex", &at::native::view_as_complex);
  aten.impl("record_stream", &record_stream);
  aten.impl("_copy_from", &copy_from);
  aten.impl("_copy_from_and_resize", &copy_from_and_resize);
}

// Under autocast, products are computed in its dtype and all else as it comes.
void lower_precision(const c10::OperatorHandle &op, torch::jit::Stack *stack) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(bound_autocast_key);
  const auto dtype = at::autocast::get_autocast_dtype(bound_type);
  const size_t count = op.schema().arguments().size();
  for (size_t i = stack->size() - count; i < stack->size(); ++i) {
    if (!stack->at(i).isTensor()) continue;
    const Tensor tensor = stack->at(i).toTensor();
    if (tensor.defined() && on_device(tensor) && tensor.scalar_type() == at::kFloat)
      stack->at(i) = tensor.to(dtype);
  }
  op.callBoxed(stack);
}

void register_autocast(torch::Library &aten) {
  for (const char *product : {"linear", "matmul", "mm", "addmm", "bmm", "baddbmm", "conv2d",
                              "scaled_dot_product_attention"})
    aten.impl(product, torch::CppFunction::makeFromBoxedFunction<&lower_precision>());
}

at::Generator generator_of(int64_t device) { return default_generator(static_cast<int>(device)); }

}  // namespace
}  // namespace sim

extern "C" {

__attribute__((visibility("default"))) void sim_bind(int hpu, int devices) {
  using torch::Library;
  sim::set_device_count(devices);
  sim::bound_type = hpu ? c10::DeviceType::HPU : c10::DeviceType::PrivateUse1;
  sim::bound_key = hpu ? c10::DispatchKey::HPU : c10::DispatchKey::PrivateUse1;
  sim::bound_autocast_key =
      hpu ? c10::DispatchKey::AutocastHPU : c10::DispatchKey::AutocastPrivateUse1;
  sim::register_runtime(sim::bound_type);
  // Kept for ever, since destroying them takes the registrations back.
  static auto *all = new Library(Library::IMPL, "_", sim::bound_key, __FILE__, __LINE__);
  static auto *aten = new Library(Library::IMPL, "aten", sim::bound_key, __FILE__, __LINE__);
  const auto cast_key = sim::bound_autocast_key;
  static auto *autocast = new Library(Library::IMPL, "_", cast_key, __FILE__, __LINE__);
  static auto *cast = new Library(Library::IMPL, "aten", cast_key, __FILE__, __LINE__);
  static auto *own = new Library(Library::DEF, "sim", std::nullopt, __FILE__, __LINE__);
  all->fallback(torch::CppFunction::makeFromBoxedFunction<&sim::fallback>());
  sim::register_ops(*aten);
  autocast->fallback(torch::CppFunction::makeFallthrough());
  sim::register_autocast(*cast);
  // Copies of lazily conjugated and negated tensors reach `copy_from` as they are.
  for (const auto key : {c10::DispatchKey::Conjugate, c10::DispatchKey::Negative})
    (new Library(Library::IMPL, "aten", key, __FILE__, __LINE__))
        ->impl("_copy_from", torch::CppFunction::makeFallthrough());
  own->def("default_generator(int device) -> Generator?", &sim::generator_of);
}

__attribute__((visibility("default"))) void sim_set_delay(int device, int stream,
                                                          double seconds) {
  sim::set_delay(device, stream, seconds);
}

__attribute__((visibility("default"))) int sim_device_count() { return sim::device_count(); }

__attribute__((visibility("default"))) int sim_bad_fork() { return sim::bad_fork(); }

__attribute__((visibility("default"))) void sim_drain() {
  for (int device = 0; device < sim::device_count() && !sim::bad_fork(); ++device)
    if (sim::used(device)) sim::synchronize_device(device);
}
}
