// The driver of the simulated devices: streams that run late and events between them. No torch.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>

#include "sim.h"

namespace sim {

constexpr int kStreams = 32;  // per device, the default one first; more are handed out again

// A queue of work that one thread of its own runs in order. The thread starts with the first work.
class Stream : public sim_stream {
 public:
  Stream(int device, int id);
  const int device, id;

  // Puts work at the end and returns its ticket. What somebody waits for anyway is not delayed.
  uint64_t launch(std::function<void()> work, bool delayed = true);
  // The ticket of the last work so far.
  uint64_t last();
  bool done(uint64_t ticket);
  // Blocks until the work of that ticket is complete.
  void wait(uint64_t ticket);
  // Blocks until all work so far is complete; throws what a work has thrown.
  void synchronize();

  std::atomic<int64_t> delay_microseconds{0};

 private:
  struct Work {
    std::function<void()> run;
    bool delayed;
  };
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> queue_;
  uint64_t submitted_ = 0, completed_ = 0;
  bool started_ = false;
  std::exception_ptr failure_;
};

// A point in a stream. Recording it again moves it; whoever waits keeps the older point.
struct Event {
  Stream *stream = nullptr;
  uint64_t ticket = 0;
  bool timed = false;
  std::shared_ptr<std::atomic<double>> at;  // milliseconds

  void record(Stream &on, bool with_time);
  void block(Stream &other) const;  // makes the other stream wait
  bool done() const;
  double elapsed_until(const Event &end) const;
};

int device_count();
void set_device_count(int count);
int current_device();  // of this thread
int exchange_device(int device);
Stream &stream(int device, int id);
Stream &current_stream(int device);  // of this thread
Stream &exchange_stream(Stream &stream);
Stream &next_stream(int device);
void synchronize_device(int device);
bool used(int device);  // whether work was ever put on it
bool bad_fork();        // whether this process is a child of one that has used a device
// Lets work begin that much later than it could: on one stream, or on all where its id is negative.
void set_delay(int device, int id, double seconds);

}  // namespace sim
