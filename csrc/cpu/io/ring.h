// SPDX-License-Identifier: Apache-2.0
// io_uring by its system calls, for one thread. The kernel's structs are written out, since headers
// of older systems lack them.
#pragma once

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace accel {

// The numbers are the same on every architecture that Linux has had since 2011.
constexpr long kSetup = 425, kEnter = 426;
constexpr uint32_t kRead = 22, kWrite = 23;
constexpr uint32_t kSingleMap = 1u << 0, kNoDrop = 1u << 1, kReadWrite = 1u << 3;
constexpr uint32_t kGetEvents = 1, kClamp = 1u << 4;
constexpr int64_t kMostEntries = 4096;

struct SubmissionEntry {
  uint8_t opcode, flags;
  uint16_t priority;
  int32_t descriptor;
  uint64_t offset, address;
  uint32_t length, operation_flags;
  uint64_t user_data, unused[3];
};

struct CompletionEntry {
  uint64_t user_data;
  int32_t result;
  uint32_t flags;
};

struct SubmissionOffsets {
  uint32_t head, tail, mask, entries, flags, dropped, array, unused;
  uint64_t address;
};

struct CompletionOffsets {
  uint32_t head, tail, mask, entries, overflow, entries_at, flags, unused;
  uint64_t address;
};

struct RingParams {
  uint32_t submissions, completions, flags, poll_cpu, poll_idle, features, work_queue, unused[3];
  SubmissionOffsets submission;
  CompletionOffsets completion;
};

static_assert(sizeof(SubmissionEntry) == 64 && sizeof(CompletionEntry) == 16, "the kernel's sizes");
static_assert(sizeof(RingParams) == 120, "the kernel's size");

class Ring {
 public:
  Ring() = default;
  Ring(const Ring &) = delete;
  Ring &operator=(const Ring &) = delete;
  ~Ring() { close(); }

  // Returns 0, or minus an errno.
  int open(int64_t depth) {
    RingParams params = {};
    params.flags = kClamp;
    const int64_t entries = depth < kMostEntries ? depth : kMostEntries;
    descriptor_ = static_cast<int>(::syscall(kSetup, static_cast<unsigned>(entries), &params));
    if (descriptor_ < 0) return -errno;
    const uint32_t needed = kSingleMap | kNoDrop | kReadWrite;
    const int status = (params.features & needed) == needed ? map(params) : -ENOSYS;
    if (status) close();
    return status;
  }

  bool usable() const { return descriptor_ >= 0; }
  bool is_full() const { return prepared_ + in_flight_ >= entries_; }
  int64_t in_flight() const { return prepared_ + in_flight_; }
  int64_t prepared() const { return prepared_; }

  // The ring is not full.
  void prepare(bool write, int descriptor, void *address, int64_t length, int64_t offset, void *tag) {
    const uint32_t tail = *submission_tail_, at = tail & submission_mask_;
    SubmissionEntry &entry = submissions_[at];
    memset(&entry, 0, sizeof entry);
    entry.opcode = write ? kWrite : kRead;
    entry.descriptor = descriptor;
    entry.offset = static_cast<uint64_t>(offset);
    entry.address = reinterpret_cast<uint64_t>(address);
    entry.length = static_cast<uint32_t>(length);
    entry.user_data = reinterpret_cast<uint64_t>(tag);
    submission_array_[at] = at;
    __atomic_store_n(submission_tail_, tail + 1, __ATOMIC_RELEASE);
    ++prepared_;
  }

  // Hands over what is prepared and waits for `wanted` completions. Returns 0, or minus an errno.
  int enter(int64_t wanted) {
    while (prepared_ || wanted) {
      const long taken = ::syscall(kEnter, descriptor_, static_cast<unsigned>(prepared_),
                                   static_cast<unsigned>(wanted), wanted ? kGetEvents : 0u, nullptr, 0);
      if (taken < 0) return -errno;
      prepared_ -= taken;
      in_flight_ += taken;
      if (!prepared_ || taken == 0) return 0;
      wanted = 0;
    }
    return 0;
  }

  // Returns whether there was a completion.
  bool next(void **tag, int64_t *result) {
    const uint32_t head = *completion_head_;
    if (head == __atomic_load_n(completion_tail_, __ATOMIC_ACQUIRE)) return false;
    const CompletionEntry &entry = completions_[head & completion_mask_];
    *tag = reinterpret_cast<void *>(entry.user_data);
    *result = entry.result;
    __atomic_store_n(completion_head_, head + 1, __ATOMIC_RELEASE);
    --in_flight_;
    return true;
  }

 private:
  int map(const RingParams &params) {
    const size_t by_array = params.submission.array + params.submissions * sizeof(uint32_t);
    const size_t by_entries = params.completion.entries_at + params.completions * sizeof(CompletionEntry);
    queue_bytes_ = by_array > by_entries ? by_array : by_entries;
    entry_bytes_ = params.submissions * sizeof(SubmissionEntry);
    char *const queue = map_at(queue_bytes_, 0);
    queue_ = queue;
    submissions_ = reinterpret_cast<SubmissionEntry *>(map_at(entry_bytes_, 0x10000000));
    if (!queue_ || !submissions_) return -ENOMEM;
    const auto word = [queue](uint32_t at) { return reinterpret_cast<uint32_t *>(queue + at); };
    submission_tail_ = word(params.submission.tail);
    submission_mask_ = *word(params.submission.mask);
    submission_array_ = word(params.submission.array);
    completion_head_ = word(params.completion.head);
    completion_tail_ = word(params.completion.tail);
    completion_mask_ = *word(params.completion.mask);
    completions_ = reinterpret_cast<CompletionEntry *>(queue + params.completion.entries_at);
    entries_ = params.submissions;
    return 0;
  }

  char *map_at(size_t bytes, off_t offset) {
    void *const found = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor_, offset);
    return found == MAP_FAILED ? nullptr : static_cast<char *>(found);
  }

  void close() {
    if (queue_) ::munmap(queue_, queue_bytes_);
    if (submissions_) ::munmap(submissions_, entry_bytes_);
    if (descriptor_ >= 0) ::close(descriptor_);
    queue_ = nullptr;
    submissions_ = nullptr;
    descriptor_ = -1;
  }

  int descriptor_ = -1;
  char *queue_ = nullptr;
  size_t queue_bytes_ = 0, entry_bytes_ = 0;
  SubmissionEntry *submissions_ = nullptr;
  CompletionEntry *completions_ = nullptr;
  uint32_t *submission_tail_ = nullptr, *submission_array_ = nullptr;
  uint32_t *completion_head_ = nullptr, *completion_tail_ = nullptr;
  uint32_t submission_mask_ = 0, completion_mask_ = 0;
  int64_t entries_ = 0, prepared_ = 0, in_flight_ = 0;
};

}  // namespace accel
