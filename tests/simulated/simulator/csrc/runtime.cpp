// The simulated devices as torch's guard, hooks and random number generators.
#include "runtime.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/HPUHooksInterface.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "memory.h"

namespace sim {
namespace {

c10::DeviceType bound_type;

c10::DeviceIndex index(int device) { return static_cast<c10::DeviceIndex>(device); }
c10::Device device_of(int device) { return {bound_type, index(device)}; }

c10::Stream torch_stream(const Stream &stream) {
  return c10::Stream(c10::Stream::UNSAFE, device_of(stream.device), stream.id);
}

Stream &own(const c10::Stream &stream) {
  return sim::stream(stream.device_index(), static_cast<int>(stream.id()));
}

int at_or_current(c10::DeviceIndex device) { return device < 0 ? current_device() : device; }

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return bound_type; }
  c10::Device exchangeDevice(c10::Device to) const override {
    return device_of(exchange_device(to.index()));
  }
  c10::Device getDevice() const override { return device_of(current_device()); }
  void setDevice(c10::Device to) const override { exchange_device(to.index()); }
  void uncheckedSetDevice(c10::Device to) const noexcept override { exchange_device(to.index()); }
  c10::DeviceIndex deviceCount() const noexcept override { return index(device_count()); }
  c10::DeviceCapability getDeviceCapability(c10::Device) const override { return {}; }

  c10::Stream getStream(c10::Device of) const override {
    return torch_stream(current_stream(at_or_current(of.index())));
  }
  c10::Stream getDefaultStream(c10::Device of) const override {
    return torch_stream(sim::stream(at_or_current(of.index()), 0));
  }
  c10::Stream getStreamFromGlobalPool(c10::Device of, bool) const override {
    return getNewStream(of, 0);
  }
  c10::Stream getNewStream(c10::Device of, int) const override {
    return torch_stream(next_stream(at_or_current(of.index())));
  }
  c10::Stream exchangeStream(c10::Stream to) const override {
    return torch_stream(exchange_stream(own(to)));
  }
  void *getStreamNativeHandle(const c10::Stream stream) const override {
    return static_cast<sim_stream *>(&own(stream));
  }
  bool queryStream(const c10::Stream &stream) const override {
    return own(stream).done(own(stream).last());
  }
  void synchronizeStream(const c10::Stream &stream) const override { own(stream).synchronize(); }
  void synchronizeDevice(c10::DeviceIndex device) const override { synchronize_device(device); }
  void recordDataPtrOnStream(const c10::DataPtr &data, const c10::Stream &stream) const override {
    record_use(data.get(), own(stream));
  }

  void record(void **event, const c10::Stream &stream, const c10::DeviceIndex,
              const c10::EventFlag flag) const override {
    if (*event == nullptr) *event = new Event;
    static_cast<Event *>(*event)->record(own(stream), flag == c10::EventFlag::BACKEND_DEFAULT);
  }
  void block(void *event, const c10::Stream &stream) const override {
    if (event != nullptr) static_cast<Event *>(event)->block(own(stream));
  }
  bool queryEvent(void *event) const override {
    return event == nullptr || static_cast<Event *>(event)->done();
  }
  void synchronizeEvent(void *event) const override {
    if (auto *point = static_cast<Event *>(event); point != nullptr && point->stream != nullptr)
      point->stream->wait(point->ticket);
  }
  void destroyEvent(void *event, const c10::DeviceIndex) const noexcept override {
    delete static_cast<Event *>(event);
  }
  double elapsedTime(void *begin, void *end, const c10::DeviceIndex) const override {
    TORCH_CHECK(begin != nullptr && end != nullptr,
                "sim: both events must be recorded before elapsed_time");
    return static_cast<Event *>(begin)->elapsed_until(*static_cast<Event *>(end));
  }
};

// Torch's host generator under the device's name; `ops.cpp` lends its state to the host's kernels.
struct Generator final : at::CPUGeneratorImpl {
  explicit Generator(int device, uint64_t seed = c10::default_rng_seed_val)
      : at::CPUGeneratorImpl(seed) {
    device_ = device_of(device);
    key_set_ = c10::DispatchKeySet(bound_type == c10::DeviceType::HPU
                                       ? c10::DispatchKey::HPU
                                       : c10::DispatchKey::PrivateUse1);
  }
  Generator *clone_impl() const override {
    auto *copy = new Generator(device_.index());
    copy->set_state(*get_state());
    return copy;
  }
};

// `Base` is the interface of the kind that the devices are bound to; both ask for the same.
template <class Base>
struct Hooks : Base {
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return device_count() > 0; }
  bool hasPrimaryContext(c10::DeviceIndex device) const override { return used(device); }
  c10::DeviceIndex deviceCount() const override { return index(device_count()); }
  void setCurrentDevice(c10::DeviceIndex device) const override { exchange_device(device); }
  c10::DeviceIndex getCurrentDevice() const override { return index(current_device()); }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override {
    return index(exchange_device(device));
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override {
    return device < 0 ? getCurrentDevice() : exchangeDevice(device);
  }
  bool isPinnedPtr(const void *pointer) const override { return is_pinned(pointer); }
  at::Allocator *getPinnedMemoryAllocator() const override { return pinned_allocator(); }
  at::Device getDeviceFromPtr(void *) const override { return device_of(current_device()); }
  const at::Generator &getDefaultGenerator(c10::DeviceIndex device) const override {
    return default_generator(at_or_current(device));
  }
  at::Generator getNewGenerator(c10::DeviceIndex device) const override {
    return at::make_generator<Generator>(at_or_current(device));
  }
};

struct PrivateUse1Hooks final : Hooks<at::PrivateUse1HooksInterface> {
  void resizePrivateUse1Bytes(const c10::Storage &storage, size_t size) const override {
    const int device = storage.device().index(), before = exchange_device(device);
    synchronize_device(device);
    c10::DataPtr resized = device_allocator(bound_type)->allocate(size);
    exchange_device(before);
    const size_t kept = std::min(size, storage.nbytes());
    if (kept > 0) std::memcpy(resized.get(), storage.data(), kept);
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(resized));
    storage.unsafeGetStorageImpl()->set_nbytes(size);
  }
};

struct HPUHooks final : Hooks<at::HPUHooksInterface> {
  explicit HPUHooks(at::HPUHooksArgs) {}
  bool hasHPU() const override { return device_count() > 0; }
};

}  // namespace

const at::Generator &default_generator(int device) {
  static auto *generators = new std::map<int, at::Generator>;
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  auto found = generators->find(device);
  if (found == generators->end())
    found = generators->emplace(device, at::make_generator<Generator>(device)).first;
  return found->second;
}

void register_runtime(c10::DeviceType type) {
  bound_type = type;
  c10::impl::registerDeviceGuard(type, new Guard);
  c10::SetAllocator(type, device_allocator(type));
  if (type == c10::DeviceType::HPU) {
    // Torch looks the hooks up by this name when a program first asks for its accelerator.
    at::HPUHooksRegistry()->Register("HPUHooks", [](at::HPUHooksArgs) {
      return std::unique_ptr<at::HPUHooksInterface>(new HPUHooks({}));
    });
  } else {
    at::RegisterPrivateUse1HooksInterface(new PrivateUse1Hooks);
  }
}

}  // namespace sim
