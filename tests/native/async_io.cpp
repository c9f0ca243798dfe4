// SPDX-License-Identifier: Apache-2.0
// Ring and pool: many threads on one handle, whatever requests come to; every byte is compared.
#include "accel/io.h"
#include "io/file.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <map>
#include <string>
#include <thread>
#include <vector>

extern "C" void accel_io_faults(int64_t error, int64_t error_every, int64_t short_every, int64_t interrupt_every);

#define REQUIRE(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      abort(); \
    } \
  } while (0)

// Every call of io_uring_enter comes here first: how many there were, and the most that one took.
static long calls_of_enter, requests_of_enter, most_of_enter;

extern "C" long syscall(long number, ...) noexcept {
  using Call = long (*)(long, ...);
  static const Call next = reinterpret_cast<Call>(dlsym(RTLD_NEXT, "syscall"));
  long given[6];
  va_list list;
  va_start(list, number);
  for (long &one : given) one = va_arg(list, long);
  va_end(list);
  const long found = next(number, given[0], given[1], given[2], given[3], given[4], given[5]);
  constexpr long kEnter = 426;
  if (number == kEnter && found >= 0) {
    __atomic_add_fetch(&calls_of_enter, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&requests_of_enter, found, __ATOMIC_RELAXED);
    long most = __atomic_load_n(&most_of_enter, __ATOMIC_RELAXED);
    while (found > most && !__atomic_compare_exchange_n(&most_of_enter, &most, found, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
  }
  return found;
}

static std::string folder;

static std::string path_of(int64_t number) { return folder + "/file" + std::to_string(number); }

struct Memory {
  explicit Memory(int64_t size) : bytes(nullptr) {
    REQUIRE(posix_memalign(reinterpret_cast<void **>(&bytes), 4096, static_cast<size_t>(size)) == 0);
  }
  ~Memory() { free(bytes); }
  char *bytes;
};

static void *make(int64_t block, int64_t depth, int64_t threads, int64_t engine) {
  void *handle = nullptr;
  REQUIRE(accel_io_create(block, depth, threads, engine, &handle) == 0);
  return handle;
}

static std::map<int64_t, accel_io_result> all(void *handle) {
  while (accel_io_wait(handle, 0, 100)) {}
  std::map<int64_t, accel_io_result> found;
  accel_io_result room[7];
  while (const int64_t count = accel_io_collect(handle, 0, room, 7))
    for (int64_t at = 0; at < count; ++at) found[room[at].ticket] = room[at];
  return found;
}

// Parts of one file, written and read at once by several threads through one handle.
static void parts(void *handle, int64_t thread, bool may_fail) {
  constexpr int64_t kRoom = 300000;
  const std::string path = path_of(0);
  uint32_t seed = static_cast<uint32_t>(thread) * 7919u + 1;
  const auto random = [&seed](int64_t below) {
    seed = seed * 1664525u + 1013904223u;
    return static_cast<int64_t>(seed >> 8) % below;
  };
  Memory written(kRoom + 8192), read(kRoom + 8192);
  for (int turn = 0; turn < 12; ++turn) {
    const int64_t shift = random(2) * random(4096), size = random(kRoom), offset = thread * (kRoom + 5000) + random(2) * 4096;
    for (int64_t i = 0; i < size; ++i) written.bytes[shift + i] = static_cast<char>(random(256));
    const int64_t flags = ACCEL_IO_WRITE | (random(4) ? 0 : ACCEL_IO_BUFFERED);
    const int64_t one = accel_io_submit(handle, path.c_str(), -1, written.bytes + shift, offset, size, flags);
    REQUIRE(one > 0);
    while (accel_io_wait(handle, one, 20)) {}
    accel_io_result result;
    REQUIRE(accel_io_collect(handle, one, &result, 1) == 1);
    REQUIRE(result.error == 0 ? result.done == size : may_fail);
    if (result.error) continue;
    if (random(3)) {
      REQUIRE(accel_io_run(handle, path.c_str(), -1, read.bytes, offset, size, 0, &result) == 0);
    } else {
      const int64_t other = accel_io_submit(handle, path.c_str(), -1, read.bytes, offset, size, 0);
      REQUIRE(other > 0);
      if (random(5) == 0) REQUIRE(accel_io_cancel(handle, other) == 0);
      while (accel_io_wait(handle, other, 20)) {}
      REQUIRE(accel_io_collect(handle, other, &result, 1) == 1);
    }
    REQUIRE(result.error == 0 || result.error == ECANCELED || may_fail);
    if (!result.error) REQUIRE(memcmp(written.bytes + shift, read.bytes, static_cast<size_t>(size)) == 0);
  }
}

static void together(int64_t engine, int64_t depth, int64_t threads, bool may_fail) {
  void *const handle = make(16384, depth, threads, engine), *const other = make(65536, depth, 1, engine);
  std::vector<std::thread> users;
  for (int64_t thread = 0; thread < 4; ++thread)
    users.emplace_back([=] { parts(thread % 2 ? other : handle, thread, may_fail); });
  for (auto &user : users) user.join();
  REQUIRE(all(handle).empty() && all(other).empty());
  accel_io_destroy(handle);
  accel_io_destroy(other);
}

static void many_pending(int64_t engine) {
  constexpr int64_t kFiles = 40, kSize = 70001;
  void *handle = make(8192, 4, 2, engine);
  Memory memory(kFiles * kSize);
  for (int64_t i = 0; i < kFiles * kSize; ++i) memory.bytes[i] = static_cast<char>(i * 31 >> 3);
  for (int64_t file = 0; file < kFiles; ++file)
    REQUIRE(accel_io_submit(handle, path_of(file).c_str(), -1, memory.bytes + file * kSize, 0, kSize, ACCEL_IO_WRITE) == file + 1);
  accel_io_destroy(handle);  // ends them
  handle = make(8192, 4, 2, engine);
  Memory read(kFiles * kSize);
  for (int64_t file = 0; file < kFiles; ++file)
    REQUIRE(accel_io_submit(handle, path_of(file).c_str(), -1, read.bytes + file * kSize, 0, kSize, 0) > 0);
  const auto results = all(handle);
  REQUIRE(results.size() == kFiles);
  for (const auto &one : results) REQUIRE(one.second.error == 0 && one.second.done == kSize);
  REQUIRE(memcmp(read.bytes, memory.bytes, kFiles * kSize) == 0);
  accel_io_destroy(handle);
}

static void refused(int64_t engine) {
  void *handle = nullptr;
  REQUIRE(accel_io_create(0, 1, 1, engine, &handle) == -EINVAL && accel_io_create(1, 0, 1, engine, &handle) == -EINVAL);
  REQUIRE(accel_io_create(1, 1, 0, engine, &handle) == -EINVAL && accel_io_create(1, 1, 1, 7, &handle) == -EINVAL);
  handle = make(4096, 2, 1, engine);
  char byte = 0;
  REQUIRE(accel_io_submit(handle, (folder + "/no/file").c_str(), -1, &byte, 0, 1, ACCEL_IO_WRITE) == -ENOENT);
  REQUIRE(accel_io_submit(handle, folder.c_str(), -1, &byte, 0, 1, 0) == -EISDIR);
  REQUIRE(accel_io_submit(handle, nullptr, 987654, &byte, 0, 1, ACCEL_IO_WRITE) == -EBADF);
  REQUIRE(accel_io_submit(handle, path_of(0).c_str(), -1, &byte, INT64_MAX, 1, 0) == -EINVAL);
  REQUIRE(accel_io_submit(handle, path_of(0).c_str(), -1, &byte, 1 << 30, 1, 0) == -ENODATA);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  REQUIRE(accel_io_submit(handle, nullptr, ends[1], &byte, 0, 1, ACCEL_IO_WRITE) == -ESPIPE);
  close(ends[0]);
  close(ends[1]);
  REQUIRE(accel_io_submit(handle, path_of(0).c_str(), -1, nullptr, 0, 0, ACCEL_IO_WRITE) > 0);
  REQUIRE(all(handle).size() == 1);
  accel_io_destroy(handle);
}

// What goes through the page cache waits for direct writes to the file, and the reverse.
static void gates(int64_t engine) {
  void *const handle = make(4096, 2, 1, engine);
  const std::string path = path_of(1000);
  Memory memory(8192);
  memset(memory.bytes, 1, 8192);
  accel_io_result result;
  REQUIRE(accel_io_run(handle, path.c_str(), -1, memory.bytes, 0, 8192, ACCEL_IO_WRITE, &result) == 0);
  const bool has_direct = result.direct == 8192;
  struct stat found;
  REQUIRE(stat(path.c_str(), &found) == 0);
  accel::Gate *const gate = accel::Gate::of(found.st_dev, found.st_ino);
  REQUIRE(gate == accel::Gate::of(found.st_dev, found.st_ino) && gate != accel::Gate::of(found.st_dev, 1));
  for (const auto kind : {accel::Gate::kDirectWrite, accel::Gate::kCached}) {
    if (kind == accel::Gate::kCached && !has_direct) continue;
    REQUIRE(gate->try_enter(kind) && gate->try_enter(kind));
    const int64_t flags = ACCEL_IO_WRITE | (kind == accel::Gate::kDirectWrite ? ACCEL_IO_BUFFERED : 0);
    const int64_t ticket = accel_io_submit(handle, path.c_str(), -1, memory.bytes, 0, 8192, flags);
    REQUIRE(ticket > 0 && accel_io_wait(handle, ticket, 20) == 1);
    gate->leave(kind);
    REQUIRE(accel_io_wait(handle, ticket, 20) == 1);
    gate->leave(kind);
    REQUIRE(all(handle).at(ticket).done == 8192);
  }
  gate->give_back();
  gate->give_back();
  accel_io_destroy(handle);
}

// Requests of a ring are handed over many at a time: a queue's worth by the first call.
static void batches() {
  constexpr int64_t kDepth = 32, kRequests = 4 * kDepth, kBlock = 4096;
  void *const handle = make(kBlock, kDepth, 1, ACCEL_IO_URING);
  Memory memory(kRequests * kBlock);
  memset(memory.bytes, 5, kRequests * kBlock);
  const std::string path = path_of(2000);
  accel_io_result result;
  REQUIRE(accel_io_run(handle, path.c_str(), -1, memory.bytes, 0, kRequests * kBlock, ACCEL_IO_WRITE, &result) == 0);
  calls_of_enter = requests_of_enter = most_of_enter = 0;
  const int64_t ticket = accel_io_submit(handle, path.c_str(), -1, memory.bytes, 0, kRequests * kBlock, 0);
  REQUIRE(all(handle).at(ticket).direct == result.direct);
  if (accel_io_rings(handle) && result.direct) {
    REQUIRE(most_of_enter == kDepth && requests_of_enter == kRequests);
    REQUIRE(calls_of_enter < kRequests + kRequests / 8);
  }
  accel_io_destroy(handle);
}

int main() {
  char name[] = "/var/tmp/accel-io-XXXXXX";
  REQUIRE(mkdtemp(name));
  folder = name;
  for (const int64_t engine : {ACCEL_IO_THREADS, ACCEL_IO_URING}) {
    accel_io_faults(0, 0, 0, 0);
    many_pending(engine);
    refused(engine);
    gates(engine);
    together(engine, 8, 3, false);
    accel_io_faults(0, 0, 3, 5);
    together(engine, 2, 2, false);
    many_pending(engine);
    accel_io_faults(EIO, 9, 4, 7);
    together(engine, 8, 2, true);
  }
  accel_io_faults(0, 0, 0, 0);
  batches();
  REQUIRE(system(("rm -r " + folder).c_str()) == 0);
}
