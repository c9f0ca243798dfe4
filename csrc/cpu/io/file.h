// SPDX-License-Identifier: Apache-2.0
// A regular file or block device opened for one transfer, through the page cache and past it.
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace accel {

static_assert(sizeof(off_t) == 8, "files above 2 GiB");

constexpr int64_t kPage = 4096;

inline int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }
inline int64_t round_down(int64_t value, int64_t to) { return value / to * to; }

// Keeps writes past the page cache and uses of the page cache apart, file by file: a page (or a
// folio of many) that is read between a direct write's two invalidations would be stale, and written
// back over newer bytes. Any number of either kind at a time, never both.
class Gate {
 public:
  enum Kind { kNone = -1, kDirectWrite = 0, kCached = 1 };

  // Returns the gate of a file, to be given back by `leave`; null without memory.
  static Gate *of(dev_t device, ino_t number) {
    pthread_mutex_lock(&mutex_);
    if (!watches_forks_) watches_forks_ = ::pthread_atfork(nullptr, nullptr, forget) == 0;
    Gate *gate = all_;
    while (gate && !(gate->device_ == device && gate->number_ == number)) gate = gate->next_;
    if (!gate) {
      gate = static_cast<Gate *>(calloc(1, sizeof(Gate)));
      if (gate) {
        gate->device_ = device;
        gate->number_ = number;
        gate->next_ = all_;
        all_ = gate;
      }
    }
    if (gate) ++gate->users_;
    pthread_mutex_unlock(&mutex_);
    return gate;
  }

  void give_back() {
    pthread_mutex_lock(&mutex_);
    if (--users_ == 0) {
      Gate **place = &all_;
      while (*place != this) place = &(*place)->next_;
      *place = next_;
      free(this);
    }
    pthread_mutex_unlock(&mutex_);
  }

  bool try_enter(Kind kind) {
    if (kind == kNone) return true;
    pthread_mutex_lock(&mutex_);
    const bool free = inside_[1 - kind] == 0;
    if (free) ++inside_[kind];
    pthread_mutex_unlock(&mutex_);
    return free;
  }

  void leave(Kind kind) {
    if (kind == kNone) return;
    pthread_mutex_lock(&mutex_);
    --inside_[kind];
    pthread_mutex_unlock(&mutex_);
  }

 private:
  // In a child: the parent's threads, which were inside, are not here.
  static void forget() {
    mutex_ = PTHREAD_MUTEX_INITIALIZER;
    all_ = nullptr;
  }

  static inline pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  static inline bool watches_forks_ = false;
  static inline Gate *all_ = nullptr;

  dev_t device_;
  ino_t number_;
  int64_t users_, inside_[2];
  Gate *next_;
};

class File {
 public:
  // Returns 0, or minus an errno; the file is then closed.
  int open(const char *path, int64_t descriptor, bool write) {
    const int status = path ? open_path(path, write) : open_descriptor(descriptor, write);
    if (status) close();
    return status;
  }

  // Asks the file system what it wants of requests that bypass the page cache; false: there are none.
  bool ask_alignment() {
    constexpr unsigned kDirectAlignment = 0x2000;
    // As long as the kernel's struct, in which the two numbers stand at bytes 152 and 156.
    alignas(8) char answer[256] = {};
    uint32_t mask = 0, memory = 0, offset = 0;
#ifdef SYS_statx
    if (::syscall(SYS_statx, cached_, "", AT_EMPTY_PATH, kDirectAlignment, answer) == 0) {
      __builtin_memcpy(&mask, answer, sizeof mask);
      __builtin_memcpy(&memory, answer + 152, sizeof memory);
      __builtin_memcpy(&offset, answer + 156, sizeof offset);
    }
#endif
    if (mask & kDirectAlignment) {
      if (!memory || !offset) return false;
      memory_alignment_ = memory;
      offset_alignment_ = offset;
      return offset_alignment_ <= 1 << 20;
    }
    // Memory is this one's only medium, whatever it says to the flag.
    constexpr long kTmpfs = 0x01021994, kRamfs = 0x858458f6;
    struct statfs system;
    if (::fstatfs(cached_, &system) || system.f_type == kTmpfs || system.f_type == kRamfs) return false;
    // It does not say: what every disk accepts, if the file system accepts the flag at all.
    memory_alignment_ = offset_alignment_ = kPage;
    return true;
  }

  // Makes requests possible that bypass the page cache, beside others if they are needed; false if
  // the file system has none.
  bool open_direct(bool with_cached) {
    const int flags = ::fcntl(cached_, F_GETFL);
    if (flags < 0) return false;
    if (!with_cached && !shares_flags_) {
      if (::fcntl(cached_, F_SETFL, flags | O_DIRECT)) return false;
      direct_ = cached_;
      return true;
    }
    char name[40];
    snprintf(name, sizeof name, "/proc/self/fd/%d", cached_);
    direct_ = ::open(name, (flags & O_ACCMODE) | O_DIRECT | O_CLOEXEC);
    return direct_ >= 0;
  }

  // Returns 0, or minus the errno by which a network file system tells that it lost a write.
  int close() {
    int status = 0;
    if (direct_ >= 0 && direct_ != cached_ && ::close(direct_)) status = -errno;
    if (cached_ >= 0 && ::close(cached_)) status = -errno;
    if (gate_) gate_->give_back();
    cached_ = direct_ = -1;
    gate_ = nullptr;
    return status == -EINTR ? 0 : status;
  }

  int descriptor(bool direct) const { return direct ? direct_ : cached_; }
  Gate *gate() const { return gate_; }
  // Bytes of the file, or -1 for a device.
  int64_t size() const { return size_; }
  int64_t memory_alignment() const { return memory_alignment_; }
  int64_t offset_alignment() const { return offset_alignment_; }

 private:
  int open_path(const char *path, bool write) {
    // A pipe without another end would be waited for.
    const int flags = (write ? O_WRONLY | O_CREAT : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    do cached_ = ::open(path, flags, 0600);
    while (cached_ < 0 && errno == EINTR);
    if (cached_ < 0) return errno == ENXIO ? -ESPIPE : -errno;
    const int status = look();
    if (status) return status;
    // With it, io_uring gives up instead of waiting.
    return ::fcntl(cached_, F_SETFL, ::fcntl(cached_, F_GETFL) & ~O_NONBLOCK) ? -errno : 0;
  }

  int open_descriptor(int64_t descriptor, bool write) {
    const int given = static_cast<int>(descriptor);
    if (given != descriptor || given < 0) return -EBADF;
    const int flags = ::fcntl(given, F_GETFL);
    if (flags < 0) return -errno;
    const int access = flags & O_ACCMODE;
    if ((flags & O_PATH) || (access != O_RDWR && access != (write ? O_WRONLY : O_RDONLY))) return -EBADF;
    // Such a descriptor always writes at the end of the file, whatever the offset.
    if (write && (flags & O_APPEND)) return -EINVAL;
    if (flags & (O_DIRECT | O_NONBLOCK)) {
      // Its flags are its owner's, and parts of a transfer may need others.
      char name[40];
      snprintf(name, sizeof name, "/proc/self/fd/%d", given);
      cached_ = ::open(name, access | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
      if (cached_ >= 0) ::fcntl(cached_, F_SETFL, ::fcntl(cached_, F_GETFL) & ~O_NONBLOCK);
    }
    if (cached_ < 0) {
      shares_flags_ = true;
      cached_ = ::fcntl(given, F_DUPFD_CLOEXEC, 0);
    }
    return cached_ < 0 ? -errno : look();
  }

  int look() {
    struct stat found;
    if (::fstat(cached_, &found)) return -errno;
    if (S_ISDIR(found.st_mode)) return -EISDIR;
    if (!S_ISREG(found.st_mode) && !S_ISBLK(found.st_mode)) return -ESPIPE;
    size_ = S_ISREG(found.st_mode) ? found.st_size : -1;
    gate_ = Gate::of(S_ISBLK(found.st_mode) ? found.st_rdev : found.st_dev, found.st_ino);
    return gate_ ? 0 : -ENOMEM;
  }

  int cached_ = -1, direct_ = -1;
  // Whether it is a duplicate of the caller's descriptor, whose flags are not ours to change.
  bool shares_flags_ = false;
  Gate *gate_ = nullptr;
  int64_t size_ = -1, memory_alignment_ = 0, offset_alignment_ = 0;
};

}  // namespace accel
