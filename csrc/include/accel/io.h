/* SPDX-License-Identifier: Apache-2.0
 * Asynchronous transfers between files and memory, and locked memory.
 *
 * A handle has threads, which run its transfers. Except for create and destroy, any thread may call
 * any function. Functions return a number from 0 on, or minus an errno. Sizes and offsets are bytes.
 */
#ifndef ACCEL_IO_H
#define ACCEL_IO_H

#include "accel/abi.h"

enum accel_io_engine {
  ACCEL_IO_THREADS = 0, /* each thread reads and writes */
  ACCEL_IO_URING = 1    /* each thread has an io_uring for requests that bypass the page cache */
};

enum accel_io_flag {
  ACCEL_IO_WRITE = 1,       /* memory is written to the file; else the file is read into memory */
  ACCEL_IO_BUFFERED = 2     /* use the page cache even if the transfer could bypass it */
};

/* How a transfer ended. */
typedef struct accel_io_result {
  int64_t ticket;
  int64_t error;  /* an errno, or 0 */
  int64_t offset; /* after an error: the offset of the failed piece in the file, ... */
  int64_t length; /* ... and its number of bytes */
  int64_t done;   /* bytes transferred */
  int64_t direct; /* transferred bytes that bypassed the page cache */
} accel_io_result;

/* `block`: bytes of one request. `depth`: requests in flight per thread. Threads start with the
 * transfers that need them. */
ACCEL_EXPORT int64_t accel_io_create(int64_t block, int64_t depth, int64_t threads, int64_t engine,
                                     void **handle);
/* Ends all transfers first. */
ACCEL_EXPORT void accel_io_destroy(void *handle);

/* Starts a transfer between `address` and the file at `path`, or that of `descriptor` if path is
 * null, and returns its ticket, from 1 on. A file to be written is made if it is missing, and never
 * shortened; a file to be read must have all the bytes. The descriptor may be closed afterwards. */
ACCEL_EXPORT int64_t accel_io_submit(void *handle, const char *path, int64_t descriptor,
                                     void *address, int64_t offset, int64_t length, int64_t flags);
/* The same at once, by the calling thread. Returns 0; a failure is in `result`. */
ACCEL_EXPORT int64_t accel_io_run(void *handle, const char *path, int64_t descriptor, void *address,
                                  int64_t offset, int64_t length, int64_t flags,
                                  accel_io_result *result);

/* Waits, at most so long, until the transfer with that ticket has ended, or all of them if it is 0.
 * Returns how many have not ended. */
ACCEL_EXPORT int64_t accel_io_wait(void *handle, int64_t ticket, int64_t milliseconds);
/* Moves results of transfers that have ended to `results`; of that ticket, or of any if it is 0.
 * Returns how many. */
ACCEL_EXPORT int64_t accel_io_collect(void *handle, int64_t ticket, accel_io_result *results,
                                      int64_t room);
/* Starts no more requests of that transfer; it ends with ECANCELED unless it was done. */
ACCEL_EXPORT int64_t accel_io_cancel(void *handle, int64_t ticket);
/* How many of the threads that have started have an io_uring. */
ACCEL_EXPORT int64_t accel_io_rings(void *handle);

/* Locks as much of the memory as the process may, from its start on, and returns how many bytes. */
ACCEL_EXPORT int64_t accel_pin_lock(void *address, int64_t length);
ACCEL_EXPORT int64_t accel_pin_unlock(void *address, int64_t length);

#endif
