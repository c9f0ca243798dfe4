// SPDX-License-Identifier: Apache-2.0
// One transfer, cut into pieces: whole pages past the page cache if that is possible, all else
// through it, afterwards.
#pragma once

#include "accel/io.h"
#include "fault.h"
#include "file.h"

namespace accel {

constexpr int64_t kMostBytes = 1 << 30;  // of one request; the kernel's limit is a little below 2 GiB

struct Transfer;

// A part of a transfer that is with one thread.
struct Piece {
  Transfer *transfer;
  Piece *next;
  int64_t offset, length;
  bool direct;
  int32_t tries;
};

// What a request's result means for its piece.
enum class Settled { kDone, kAgain, kLater, kFailed };

struct Transfer {
  Transfer *next;
  int64_t ticket;
  bool write, cancelled;
  File file;
  char *address;
  int64_t offset, length;
  // What nobody has taken yet: of the pages to bypass the cache, before them, and after them.
  int64_t direct_from, direct_to, head_from, head_to, tail_from, tail_to;
  Piece *later;  // pieces that are to go on through the page cache
  int64_t block, pieces_out, direct_out;
  int64_t error, error_offset, error_length, done, direct_done;

  // Opens the file and plans; returns 0, or minus an errno.
  int start(const char *path, int64_t descriptor, int64_t flags) {
    write = flags & ACCEL_IO_WRITE;
    if (const int status = file.open(path, descriptor, write)) return status;
    if (!write && length && file.size() >= 0 && length > file.size() - offset) {
      file.close();
      return -ENODATA;
    }
    head_from = head_to = direct_from = direct_to = offset;
    tail_from = offset;
    tail_to = offset + length;
    if (!(flags & ACCEL_IO_BUFFERED)) plan_direct();
    return 0;
  }

  bool has_failed() const { return error || cancelled; }
  bool is_all_taken() const {
    return has_failed() || (direct_from >= direct_to && head_from >= head_to && tail_from >= tail_to && !later);
  }
  bool has_ended() const { return pieces_out == 0 && is_all_taken(); }

  // Whether there is a piece that only a gate keeps from being taken.
  bool is_blocked() const { return !is_all_taken() && (direct_from < direct_to || !direct_out); }

  // Returns how many more threads could help.
  int64_t pieces_left() const { return (direct_to - direct_from + tail_to - tail_from) / block + 1; }

  // Puts the next piece into `piece`, or returns false: there is none, or none yet.
  bool take(Piece **piece) {
    if (is_all_taken()) return false;
    const bool past_cache = direct_from < direct_to;
    // The rest waits for what bypasses the cache: see Gate.
    if (!past_cache && direct_out) return false;
    const Gate::Kind kind = !past_cache ? Gate::kCached : write ? Gate::kDirectWrite : Gate::kNone;
    if (!file.gate()->try_enter(kind)) return false;
    if (past_cache) {
      cut(*piece, &direct_from, direct_to);
    } else if (later) {
      free(*piece);
      *piece = later;
      later = later->next;
    } else if (head_from < head_to) {
      cut(*piece, &head_from, head_to);
    } else {
      cut(*piece, &tail_from, tail_to);
    }
    (*piece)->transfer = this;
    (*piece)->direct = past_cache;
    (*piece)->tries = 0;
    ++pieces_out;
    direct_out += past_cache;
    return true;
  }

  // Leaves the gate; the piece is no longer with a thread.
  void give_back(const Piece &piece) {
    file.gate()->leave(!piece.direct ? Gate::kCached : write ? Gate::kDirectWrite : Gate::kNone);
    --pieces_out;
    direct_out -= piece.direct;
  }

  void fail(int64_t why, int64_t at, int64_t bytes) {
    if (error) return;
    error = why;
    error_offset = at;
    error_length = bytes;
  }

  void *memory(const Piece &piece) const { return address + (piece.offset - offset); }

  accel_io_result result() const {
    if (!error && cancelled && done < length)
      return {ticket, ECANCELED, offset, length, done, direct_done};
    return {ticket, error, error_offset, error_length, done, direct_done};
  }

 private:
  void cut(Piece *piece, int64_t *from, int64_t to) {
    piece->offset = *from;
    piece->length = to - *from < block ? to - *from : block;
    *from += piece->length;
  }

  // Pages are never shared by pieces that bypass the cache and pieces that do not.
  void plan_direct() {
    if (length < kPage || !file.ask_alignment()) return;
    const int64_t unit = file.offset_alignment() > kPage ? file.offset_alignment() : kPage;
    const int64_t from = round_up(offset, unit), to = round_down(offset + length, unit);
    if (from >= to || unit % file.offset_alignment()) return;
    const auto start = reinterpret_cast<uintptr_t>(address) + static_cast<uintptr_t>(from - offset);
    if (start % static_cast<uintptr_t>(file.memory_alignment())) return;
    if (!file.open_direct(from != offset || to != offset + length)) return;
    block = round_up(block, unit);
    direct_from = from;
    direct_to = to;
    head_to = from;
    tail_from = to;
  }
};

// What a request that was given `piece` has come to; moves the piece on.
inline Settled settle(Piece *piece, int64_t result, int64_t *error) {
  Transfer &transfer = *piece->transfer;
  if (result == -EINTR) return Settled::kAgain;
  if (result == -EAGAIN && ++piece->tries < 1000) return Settled::kAgain;
  // Some file systems accept the flag and refuse the request.
  if (result < 0 && piece->direct && (result == -EINVAL || result == -EOPNOTSUPP)) return Settled::kLater;
  if (result <= 0) {
    *error = result ? -result : transfer.write ? EIO : ENODATA;
    return Settled::kFailed;
  }
  __atomic_add_fetch(&transfer.done, result, __ATOMIC_RELAXED);
  if (piece->direct) __atomic_add_fetch(&transfer.direct_done, result, __ATOMIC_RELAXED);
  piece->offset += result;
  piece->length -= result;
  if (!piece->length) return Settled::kDone;
  return piece->direct && result % kPage ? Settled::kLater : Settled::kAgain;
}

// One system call; returns bytes, or minus an errno.
inline int64_t request(const Piece &piece) {
  const Transfer &transfer = *piece.transfer;
  const int64_t length = faulty(piece.length, piece.direct);
  if (length < 0) return length;
  const int descriptor = transfer.file.descriptor(piece.direct);
  const auto bytes = static_cast<size_t>(length);
  void *const memory = transfer.memory(piece);
  const ssize_t found = transfer.write ? ::pwrite(descriptor, memory, bytes, piece.offset)
                                       : ::pread(descriptor, memory, bytes, piece.offset);
  return found < 0 ? -errno : found;
}

// Does a piece by system calls.
inline Settled run_piece(Piece *piece, int64_t *error) {
  Settled settled;
  do settled = settle(piece, request(*piece), error);
  while (settled == Settled::kAgain);
  return settled;
}

}  // namespace accel
