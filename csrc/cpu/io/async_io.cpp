// SPDX-License-Identifier: Apache-2.0
// A handle: transfers in a queue, threads that take pieces of them, and results that wait.
#include "accel/op.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "lock.h"
#include "ring.h"
#include "transfer.h"

namespace accel {

constexpr int64_t kMostThreads = 1024;
constexpr long kGatePoll = 200000;  // nanoseconds between checks of a gate that another handle holds

struct Lock {
  explicit Lock(pthread_mutex_t *mutex) : mutex(mutex) { pthread_mutex_lock(mutex); }
  ~Lock() { pthread_mutex_unlock(mutex); }
  pthread_mutex_t *mutex;
};

// The lock is given back as long as it lives.
struct Unlocked {
  explicit Unlocked(pthread_mutex_t *mutex) : mutex(mutex) { pthread_mutex_unlock(mutex); }
  ~Unlocked() { pthread_mutex_lock(mutex); }
  pthread_mutex_t *mutex;
};

inline timespec after(int64_t nanoseconds) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const int64_t total = now.tv_nsec + nanoseconds;
  now.tv_sec += total / 1000000000;
  now.tv_nsec = total % 1000000000;
  return now;
}

class Handle {
 public:
  static Handle *make(int64_t block, int64_t depth, int64_t threads, int64_t engine) {
    Handle *const made = static_cast<Handle *>(calloc(1, sizeof(Handle)));
    if (!made) return nullptr;
    made->block_ = block < kMostBytes ? round_up(block, kPage) : kMostBytes;
    made->depth_ = depth;
    made->wanted_threads_ = threads;
    made->engine_ = engine;
    pthread_mutex_init(&made->mutex_, nullptr);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&made->work_, &attributes);
    pthread_cond_init(&made->ended_, &attributes);
    pthread_condattr_destroy(&attributes);
    made->threads_ = static_cast<pthread_t *>(calloc(static_cast<size_t>(threads), sizeof(pthread_t)));
    if (made->threads_) return made;
    made->destroy();
    return nullptr;
  }

  // Ends what is pending, without threads if none could be started.
  void destroy() {
    pthread_mutex_lock(&mutex_);
    stopping_ = true;
    pthread_cond_broadcast(&work_);
    pthread_mutex_unlock(&mutex_);
    for (int64_t at = 0; at < started_; ++at) pthread_join(threads_[at], nullptr);
    while (Transfer *transfer = finished_) {
      finished_ = transfer->next;
      free(transfer);
    }
    pthread_cond_destroy(&work_);
    pthread_cond_destroy(&ended_);
    pthread_mutex_destroy(&mutex_);
    free(threads_);
    free(this);
  }

  int64_t submit(const char *path, int64_t descriptor, void *address, int64_t offset, int64_t length, int64_t flags) {
    Transfer *transfer = nullptr;
    const int64_t status = prepare(&transfer, path, descriptor, address, offset, length, flags);
    if (status) return status;
    Lock lock(&mutex_);
    const int64_t ticket = transfer->ticket = ++tickets_;
    Transfer **place = &queue_;
    while (*place) place = &(*place)->next;
    *place = transfer;
    ++pending_;
    if (transfer->has_ended()) {
      finish(transfer);
      return ticket;
    }
    const int64_t pieces = transfer->pieces_left();
    // Who is idle helps before another starts.
    for (int64_t more = pieces - idle_; more > 0 && start_thread(); --more) {}
    if (!started_) work(nullptr);
    else if (pieces > 1) pthread_cond_broadcast(&work_);
    else pthread_cond_signal(&work_);
    return ticket;
  }

  int64_t run(const char *path, int64_t descriptor, void *address, int64_t offset, int64_t length, int64_t flags, accel_io_result *result) {
    Transfer *transfer = nullptr;
    const int64_t status = prepare(&transfer, path, descriptor, address, offset, length, flags);
    if (status) return status;
    Piece *piece = static_cast<Piece *>(malloc(sizeof(Piece)));
    if (!piece) transfer->fail(ENOMEM, offset, length);
    while (!transfer->has_ended()) {
      if (!transfer->take(&piece)) {
        const timespec pause = {0, kGatePoll};
        nanosleep(&pause, nullptr);
        continue;
      }
      int64_t error = 0;
      const Settled settled = run_piece(piece, &error);
      transfer->give_back(*piece);
      if (settled == Settled::kFailed) transfer->fail(error, piece->offset, piece->length);
      if (settled == Settled::kLater) piece = put_later(transfer, piece);
      if (!piece) break;
    }
    free(piece);
    close(transfer);
    *result = transfer->result();
    free(transfer);
    return 0;
  }

  int64_t wait(int64_t ticket, int64_t milliseconds) {
    Lock lock(&mutex_);
    const timespec until = after(milliseconds * 1000000);
    int64_t left;
    while ((left = pending(ticket)) != 0)
      if (pthread_cond_timedwait(&ended_, &mutex_, &until)) return pending(ticket);
    return left;
  }

  int64_t collect(int64_t ticket, accel_io_result *results, int64_t room) {
    Lock lock(&mutex_);
    int64_t count = 0;
    for (Transfer **place = &finished_; *place && count < room;) {
      Transfer *const transfer = *place;
      if (ticket && transfer->ticket != ticket) {
        place = &transfer->next;
        continue;
      }
      *place = transfer->next;
      results[count++] = transfer->result();
      free(transfer);
    }
    return count;
  }

  int64_t cancel(int64_t ticket) {
    Lock lock(&mutex_);
    for (Transfer *transfer = queue_; transfer; transfer = transfer->next)
      if (transfer->ticket == ticket) {
        transfer->cancelled = true;
        if (transfer->has_ended()) finish(transfer);
        return 0;
      }
    return 0;
  }

  int64_t rings() {
    Lock lock(&mutex_);
    return rings_;
  }

 private:
  int64_t prepare(Transfer **made, const char *path, int64_t descriptor, void *address, int64_t offset, int64_t length, int64_t flags) const {
    if (offset < 0 || length < 0 || (!address && length) || offset > INT64_MAX - length) return -EINVAL;
    Transfer *const transfer = static_cast<Transfer *>(calloc(1, sizeof(Transfer)));
    if (!transfer) return -ENOMEM;
    transfer->file = File();
    transfer->address = static_cast<char *>(address);
    transfer->offset = offset;
    transfer->length = length;
    transfer->block = block_;
    const int status = transfer->start(path, descriptor, flags);
    if (status) free(transfer);
    else *made = transfer;
    return status;
  }

  int64_t pending(int64_t ticket) const {
    if (!ticket) return pending_;
    int64_t count = 0;
    for (const Transfer *transfer = queue_; transfer; transfer = transfer->next) count += transfer->ticket == ticket;
    for (const Transfer *transfer = closing_; transfer; transfer = transfer->next) count += transfer->ticket == ticket;
    return count;
  }

  bool start_thread() {
    if (started_ >= wanted_threads_) return false;
    // Signals are for the threads of the program.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int status = pthread_create(&threads_[started_], nullptr, thread, this);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (status) return false;
    ++started_;
    return true;
  }

  static void *thread(void *handle) {
    Handle &self = *static_cast<Handle *>(handle);
    Ring ring;
    if (self.engine_ == ACCEL_IO_URING) ring.open(self.depth_);
    Lock lock(&self.mutex_);
    self.rings_ += ring.usable();
    self.work(&ring);
    return nullptr;
  }

  // Takes pieces until the handle is stopped, or there are none if there is no thread to wait in. A
  // thread waits for a gate only while it has no request in flight, so that no two wait for each other.
  void work(Ring *ring) {
    const bool alone = !ring;
    const bool has_ring = ring && ring->usable();
    Piece *piece = nullptr;
    while (true) {
      if (!piece) piece = static_cast<Piece *>(malloc(sizeof(Piece)));
      const bool has_room = !has_ring || !ring->is_full();
      if (has_room && piece && take(&piece)) {
        if (has_ring && piece->direct) start_request(ring, piece);
        else if (run_here(ring, has_ring, &piece)) continue;
        piece = nullptr;
        continue;
      }
      if (has_ring && ring->in_flight()) {
        reap(ring, 1);
        continue;
      }
      if (!queue_ && (stopping_ || alone)) break;
      if (!piece) fail_all(ENOMEM);
      rest();
    }
    free(piece);
  }

  void rest() {
    ++idle_;
    if (blocked_) {
      // The gate may be held by somebody who does not know of this handle.
      const timespec until = after(kGatePoll);
      pthread_cond_timedwait(&work_, &mutex_, &until);
    } else {
      pthread_cond_wait(&work_, &mutex_);
    }
    --idle_;
  }

  bool take(Piece **piece) {
    blocked_ = false;
    for (Transfer *transfer = queue_; transfer; transfer = transfer->next) {
      if (transfer->take(piece)) return true;
      blocked_ |= transfer->is_blocked();
    }
    return false;
  }

  // Does a piece by system calls, after handing over what is prepared; returns whether `*piece` can be
  // used for another.
  bool run_here(Ring *ring, bool has_ring, Piece **piece) {
    int64_t error = 0;
    Settled settled;
    {
      Unlocked unlocked(&mutex_);
      if (has_ring && ring->prepared()) ring->enter(0);
      settled = run_piece(*piece, &error);
    }
    return end_piece(piece, settled, error);
  }

  // Prepares a request; a fault of a test's ends it at once.
  void start_request(Ring *ring, Piece *piece) {
    const Transfer &transfer = *piece->transfer;
    const int64_t length = faulty(piece->length, true);
    if (length < 0) {
      ended(ring, piece, length, false);
      return;
    }
    ring->prepare(transfer.write, transfer.file.descriptor(true), transfer.memory(*piece), length, piece->offset, piece);
  }

  void reap(Ring *ring, int64_t wanted) {
    int status;
    {
      Unlocked unlocked(&mutex_);
      status = ring->enter(wanted);
    }
    void *tag;
    int64_t result;
    bool any = false;
    while (ring->next(&tag, &result)) {
      any = true;
      ended(ring, static_cast<Piece *>(tag), result, true);
    }
    if (any || !status || status == -EINTR) return;
    // The kernel lacks something for now, such as memory.
    Unlocked unlocked(&mutex_);
    const timespec pause = {0, kGatePoll};
    nanosleep(&pause, nullptr);
  }

  // Goes on with a piece whose request has ended: by the ring if it may be tried again there.
  void ended(Ring *ring, Piece *piece, int64_t result, bool again) {
    int64_t error = 0;
    Settled settled = settle(piece, result, &error);
    if (settled == Settled::kAgain && again && !piece->tries && !ring->is_full()) {
      start_request(ring, piece);
      return;
    }
    if (settled == Settled::kAgain) {
      Unlocked unlocked(&mutex_);
      settled = run_piece(piece, &error);
    }
    if (end_piece(&piece, settled, error)) free(piece);
  }

  // Returns whether the piece is not needed any more.
  bool end_piece(Piece **piece, Settled settled, int64_t error) {
    Transfer *const transfer = (*piece)->transfer;
    transfer->give_back(**piece);
    if (settled == Settled::kFailed) transfer->fail(error, (*piece)->offset, (*piece)->length);
    const bool later = settled == Settled::kLater;
    if (later) {
      (*piece)->next = transfer->later;
      transfer->later = *piece;
    }
    if (transfer->has_ended()) finish(transfer);
    // What was to wait for this piece can be taken now.
    else if (idle_ && !transfer->is_all_taken()) pthread_cond_broadcast(&work_);
    return !later;
  }

  static Piece *put_later(Transfer *transfer, Piece *piece) {
    piece->next = transfer->later;
    transfer->later = piece;
    Piece *const another = static_cast<Piece *>(malloc(sizeof(Piece)));
    if (!another) transfer->fail(ENOMEM, piece->offset, piece->length);
    return another;
  }

  void fail_all(int64_t error) {
    for (Transfer *transfer = queue_; transfer; transfer = transfer->next)
      transfer->fail(error, transfer->offset, transfer->length);
    while (Transfer *ended = first_ended()) finish(ended);
  }

  Transfer *first_ended() const {
    Transfer *transfer = queue_;
    while (transfer && !transfer->has_ended()) transfer = transfer->next;
    return transfer;
  }

  static void close(Transfer *transfer) {
    while (Piece *piece = transfer->later) {
      transfer->later = piece->next;
      free(piece);
    }
    const int status = transfer->file.close();
    if (status && transfer->write) transfer->fail(-status, transfer->offset, transfer->length);
  }

  static void move(Transfer **from, Transfer *transfer, Transfer **to) {
    while (*from != transfer) from = &(*from)->next;
    *from = transfer->next;
    while (*to) to = &(*to)->next;
    transfer->next = nullptr;
    *to = transfer;
  }

  void finish(Transfer *transfer) {
    move(&queue_, transfer, &closing_);
    {
      Unlocked unlocked(&mutex_);
      close(transfer);
    }
    move(&closing_, transfer, &finished_);
    --pending_;
    pthread_cond_broadcast(&ended_);
    if (stopping_) pthread_cond_broadcast(&work_);
  }

  int64_t block_, depth_, wanted_threads_, engine_;
  pthread_mutex_t mutex_;
  pthread_cond_t work_, ended_;
  pthread_t *threads_;
  int64_t started_, idle_, rings_, tickets_, pending_;
  bool stopping_, blocked_;  // blocked_: by a gate, at the last look
  Transfer *queue_, *closing_, *finished_;
};

static Handle *of(void *handle) { return static_cast<Handle *>(handle); }

}  // namespace accel

int64_t accel_io_create(int64_t block, int64_t depth, int64_t threads, int64_t engine, void **handle) {
  const bool is_engine = engine == ACCEL_IO_THREADS || engine == ACCEL_IO_URING;
  if (block < 1 || depth < 1 || threads < 1 || threads > accel::kMostThreads || !is_engine) return -EINVAL;
  *handle = accel::Handle::make(block, depth, threads, engine);
  return *handle ? 0 : -ENOMEM;
}

void accel_io_destroy(void *handle) { accel::of(handle)->destroy(); }

int64_t accel_io_submit(void *handle, const char *path, int64_t descriptor, void *address, int64_t offset, int64_t length, int64_t flags) {
  return accel::of(handle)->submit(path, descriptor, address, offset, length, flags);
}

int64_t accel_io_run(void *handle, const char *path, int64_t descriptor, void *address, int64_t offset, int64_t length, int64_t flags, accel_io_result *result) {
  return accel::of(handle)->run(path, descriptor, address, offset, length, flags, result);
}

int64_t accel_io_wait(void *handle, int64_t ticket, int64_t milliseconds) { return accel::of(handle)->wait(ticket, milliseconds); }

int64_t accel_io_collect(void *handle, int64_t ticket, accel_io_result *results, int64_t room) {
  return accel::of(handle)->collect(ticket, results, room);
}

int64_t accel_io_cancel(void *handle, int64_t ticket) { return accel::of(handle)->cancel(ticket); }

int64_t accel_io_rings(void *handle) { return accel::of(handle)->rings(); }
