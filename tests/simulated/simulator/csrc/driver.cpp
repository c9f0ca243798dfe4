// Streams, events and devices: one thread per stream.
#include "driver.h"

#include <pthread.h>

#include <array>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

extern "C" void omp_set_num_threads(int);

namespace sim {
namespace {

constexpr int kDevices = 8;
std::atomic<int> visible{2};
std::atomic<bool> any_used{false}, forked{false};
std::array<std::atomic<bool>, kDevices> device_used{};
std::array<std::atomic<int>, kDevices> handed_out{};
thread_local int device_of_thread = 0;
thread_local std::array<int, kDevices> stream_of_thread{};

double now() {
  using std::chrono::duration, std::chrono::steady_clock;
  return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

void launch_for_kernels(sim_stream *stream, void (*work)(void *), void *argument) {
  static_cast<Stream *>(stream)->launch([=] { work(argument); });
}

// Never destroyed: a thread may still run one when the process ends.
std::vector<std::unique_ptr<Stream>> &streams() {
  static auto *all = [] {
    auto *made = new std::vector<std::unique_ptr<Stream>>;
    for (int device = 0; device < kDevices; ++device)
      for (int id = 0; id < kStreams; ++id) made->push_back(std::make_unique<Stream>(device, id));
    return made;
  }();
  return *all;
}

void check(int device) {
  if (device < 0 || device >= visible)
    throw std::runtime_error("sim: there is no device " + std::to_string(device) + " of " +
                             std::to_string(visible));
}

}  // namespace

Stream::Stream(int device, int id) : device(device), id(id) {
  sim_stream::launch = launch_for_kernels;
}

uint64_t Stream::launch(std::function<void()> work, bool delayed) {
  if (forked)
    throw std::runtime_error(
        "sim: a device was in use before this process was forked, and cannot be used in it; "
        "start it by spawn");
  if (!any_used.exchange(true)) {
    pthread_atfork(nullptr, nullptr, [] { forked = true; });
  }
  device_used[device] = true;
  std::lock_guard lock(mutex_);
  queue_.push_back({std::move(work), delayed});
  if (!started_) {
    started_ = true;
    std::thread([this] { run(); }).detach();
  }
  changed_.notify_all();
  return ++submitted_;
}

void Stream::run() {
  omp_set_num_threads(1);  // each stream would have a pool of its own
  for (;;) {
    Work work;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !queue_.empty(); });
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    if (work.delayed && delay_microseconds > 0)
      std::this_thread::sleep_for(std::chrono::microseconds(delay_microseconds));
    std::exception_ptr failure;
    try {
      work.run();
    } catch (...) {
      failure = std::current_exception();
    }
    work.run = nullptr;
    std::lock_guard lock(mutex_);
    if (failure) failure_ = failure;
    ++completed_;
    changed_.notify_all();
  }
}

uint64_t Stream::last() {
  std::lock_guard lock(mutex_);
  return submitted_;
}

bool Stream::done(uint64_t ticket) {
  std::lock_guard lock(mutex_);
  return completed_ >= ticket;
}

void Stream::wait(uint64_t ticket) {
  if (forked) return;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return completed_ >= ticket; });
}

void Stream::synchronize() {
  wait(last());
  std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Event::record(Stream &on, bool with_time) {
  auto time = std::make_shared<std::atomic<double>>(0.0);
  stream = &on;
  timed = with_time;
  at = time;
  ticket = on.launch([time] { *time = now(); }, /*delayed=*/false);
}

void Event::block(Stream &other) const {
  if (stream == nullptr || stream == &other) return;
  other.launch([on = stream, until = ticket] { on->wait(until); }, /*delayed=*/false);
}

bool Event::done() const { return stream == nullptr || stream->done(ticket); }

double Event::elapsed_until(const Event &end) const {
  if (stream == nullptr || end.stream == nullptr)
    throw std::runtime_error("sim: both events must be recorded before elapsed_time");
  if (!timed || !end.timed)
    throw std::runtime_error("sim: elapsed_time needs events made with enable_timing=True");
  if (!done() || !end.done())
    throw std::runtime_error("sim: both events must be complete before elapsed_time");
  return *end.at - *at;
}

int device_count() { return visible; }
void set_device_count(int count) { visible = std::min(count, kDevices); }
int current_device() { return device_of_thread; }

int exchange_device(int device) {
  check(device);
  return std::exchange(device_of_thread, device);
}

Stream &stream(int device, int id) {
  check(device);
  return *streams().at(device * kStreams + id);
}

Stream &current_stream(int device) { return stream(device, stream_of_thread.at(device)); }

Stream &exchange_stream(Stream &to) {
  return stream(to.device, std::exchange(stream_of_thread.at(to.device), to.id));
}

Stream &next_stream(int device) {
  check(device);
  return stream(device, 1 + handed_out[device]++ % (kStreams - 1));
}

void synchronize_device(int device) {
  for (int id = 0; id < kStreams; ++id) stream(device, id).synchronize();
}

bool used(int device) { return device >= 0 && device < kDevices && device_used[device]; }
bool bad_fork() { return forked; }

void set_delay(int device, int id, double seconds) {
  for (auto &stream : streams())
    if (id < 0 || (stream->device == device && stream->id == id))
      stream->delay_microseconds = static_cast<int64_t>(seconds * 1e6);
}

}  // namespace sim
