// Pools of blocks that are kept for ever unless the cache is emptied: a late write that nobody waits
// for then spoils somebody's values, never the process.
#include "memory.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

namespace sim {
namespace {

struct Block {
  void *pointer;
  size_t size, requested;
  Stream *home;  // the stream whose work on the block is in order anyway; none for host memory
  std::vector<std::pair<Stream *, uint64_t>> uses;
  uint64_t freed_at = 0;  // ticket of its home's last work then
};

// NaN, and -1 as an integer: whoever reads what nobody wrote sees it.
void spoil(const Block &block) { std::memset(block.pointer, 0xff, block.size); }

class Pool {
 public:
  explicit Pool(size_t limit) : limit_(limit) {}

  void *allocate(size_t requested, Stream *home) {
    if (requested == 0) return nullptr;
    const size_t size = (requested + 511) / 512 * 512;
    std::lock_guard lock(mutex_);
    Block block = take_free(size, home);
    if (block.pointer == nullptr) {
      reserve(size);
      block = {std::aligned_alloc(512, size), size, requested, home, {}};
      spoil(block);
    }
    block.requested = requested;
    for (auto *stat : {&stats.allocation, &stats.active}) (*stat)[0].increase(1);
    for (auto *stat : {&stats.allocated_bytes, &stats.active_bytes}) (*stat)[0].increase(size);
    stats.requested_bytes[0].increase(requested);
    in_use_[block.pointer] = block;
    return block.pointer;
  }

  void free(void *pointer) {
    if (pointer == nullptr || bad_fork()) return;
    std::lock_guard lock(mutex_);
    auto found = in_use_.find(pointer);
    Block &block = found->second;
    if (block.home != nullptr) block.freed_at = block.home->last();
    for (auto *stat : {&stats.allocation, &stats.active}) (*stat)[0].decrease(1);
    for (auto *stat : {&stats.allocated_bytes, &stats.active_bytes}) (*stat)[0].decrease(block.size);
    stats.requested_bytes[0].decrease(block.requested);
    free_.push_back(block);
    in_use_.erase(found);
  }

  void record(const void *pointer, Stream &stream) {
    std::lock_guard lock(mutex_);
    if (Block *block = containing(pointer)) block->uses.emplace_back(&stream, stream.last());
  }

  bool contains(const void *pointer) {
    std::lock_guard lock(mutex_);
    return containing(pointer) != nullptr;
  }

  void release_free() {
    std::lock_guard lock(mutex_);
    for (const Block &block : free_) {
      std::free(block.pointer);
      stats.reserved_bytes[0].decrease(block.size);
      stats.segment[0].decrease(1);
      stats.num_device_free++;
    }
    free_.clear();
  }

  void reset(void (c10::CachingAllocator::Stat::*how)()) {
    std::lock_guard lock(mutex_);
    for (auto *stat : {&stats.allocation, &stats.segment, &stats.active, &stats.allocated_bytes,
                       &stats.reserved_bytes, &stats.active_bytes, &stats.requested_bytes})
      ((*stat)[0].*how)();
  }

  c10::CachingDeviceAllocator::DeviceStats stats;

 private:
  Block take_free(size_t size, Stream *home) {
    for (auto block = free_.rbegin(); block != free_.rend(); ++block) {  // the last freed first
      if (block->size != size || block->home != home) continue;
      bool ready = true;
      for (auto [stream, ticket] : block->uses) ready = ready && stream->done(ticket);
      if (!ready) continue;
      Block taken = *block;
      taken.uses.clear();
      free_.erase(std::next(block).base());
      if (home == nullptr || home->done(taken.freed_at)) spoil(taken);
      return taken;
    }
    return {};
  }

  void reserve(size_t size) {
    const size_t reserved = static_cast<size_t>(stats.reserved_bytes[0].current);
    if (reserved + size > limit_) {
      stats.num_ooms++;
      TORCH_CHECK_WITH(OutOfMemoryError, false, "sim: out of memory: ", size,
                       " bytes asked for, ", reserved, " of ", limit_, " reserved");
    }
    stats.reserved_bytes[0].increase(size);
    stats.segment[0].increase(1);
    stats.num_device_alloc++;
  }

  Block *containing(const void *pointer) {
    auto next = in_use_.upper_bound(const_cast<void *>(pointer));
    if (pointer == nullptr || next == in_use_.begin()) return nullptr;
    Block &block = std::prev(next)->second;
    const auto offset = static_cast<const char *>(pointer) - static_cast<char *>(block.pointer);
    return static_cast<size_t>(offset) < block.size ? &block : nullptr;
  }

  std::mutex mutex_;
  const size_t limit_;
  std::map<void *, Block> in_use_;
  std::vector<Block> free_;
};

Pool &pool(int device) {
  static auto *pools = new std::map<int, Pool>;
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  return pools->try_emplace(device, kTotalMemory).first->second;
}

Pool &pinned() {
  static auto *pool = new Pool(SIZE_MAX);
  return *pool;
}

class DeviceMemory final : public c10::DeviceAllocator {
 public:
  explicit DeviceMemory(c10::DeviceType type) : type_(type) {}

  c10::DataPtr allocate(size_t size) override {
    static constexpr c10::DeleterFnPtr deleters[] = {&free_at<0>, &free_at<1>, &free_at<2>,
                                                     &free_at<3>, &free_at<4>, &free_at<5>,
                                                     &free_at<6>, &free_at<7>};
    const int device = current_device();
    void *pointer = pool(device).allocate(size, &current_stream(device));
    return {pointer, pointer, deleters[device],
            c10::Device(type_, static_cast<c10::DeviceIndex>(device))};
  }

  void copy_data(void *to, const void *from, size_t size) const override {
    for (int device = 0; device < device_count(); ++device) synchronize_device(device);
    std::memcpy(to, from, size);
  }

  bool initialized() override { return true; }

  void emptyCache(c10::MempoolId_t) override {
    for (int device = 0; device < device_count(); ++device) {
      synchronize_device(device);
      pool(device).release_free();
    }
  }

  void recordStream(const c10::DataPtr &data, c10::Stream on) override {
    record_use(data.get(), stream(on.device_index(), static_cast<int>(on.id())));
  }

  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    return pool(device).stats;
  }

  void resetAccumulatedStats(c10::DeviceIndex device) override {
    pool(device).reset(&c10::CachingAllocator::Stat::reset_accumulated);
  }

  void resetPeakStats(c10::DeviceIndex device) override {
    pool(device).reset(&c10::CachingAllocator::Stat::reset_peak);
  }

  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex device) override {
    const auto reserved = static_cast<size_t>(pool(device).stats.reserved_bytes[0].current);
    return {kTotalMemory - reserved, kTotalMemory};
  }

 private:
  template <int device>
  static void free_at(void *pointer) {
    pool(device).free(pointer);
  }

  const c10::DeviceType type_;
};

class PinnedMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    void *pointer = pinned().allocate(size, nullptr);
    return {pointer, pointer, [](void *freed) { pinned().free(freed); }, c10::Device(c10::kCPU)};
  }
  void copy_data(void *to, const void *from, size_t size) const override {
    std::memcpy(to, from, size);
  }
};

}  // namespace

c10::DeviceAllocator *device_allocator(c10::DeviceType type) {
  static auto *memory = new DeviceMemory(type);
  return memory;
}

c10::Allocator *pinned_allocator() {
  static auto *memory = new PinnedMemory;
  return memory;
}

bool is_pinned(const void *pointer) { return pinned().contains(pointer); }

void record_use(const void *pointer, Stream &stream) {
  pinned().record(pointer, stream);
  for (int device = 0; device < device_count(); ++device) pool(device).record(pointer, stream);
}

}  // namespace sim
