// A handle: create, read, total, sleep, destroy. Failures are minus errno.
#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

#include "accel/op.h"

struct Reader {
  int file;
  int64_t total;
};

ACCEL_EXPORT int64_t accel_reader_create(const char *path, void **handle) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -errno;
  *handle = new Reader{file, 0};
  return 0;
}

ACCEL_EXPORT int64_t accel_reader_read(void *handle, void *buffer, int64_t bytes) {
  Reader *reader = static_cast<Reader *>(handle);
  const ssize_t count = read(reader->file, buffer, static_cast<size_t>(bytes));
  if (count < 0) return -errno;
  reader->total += count;
  return count;
}

ACCEL_EXPORT int64_t accel_reader_total(void *handle) { return static_cast<Reader *>(handle)->total; }

ACCEL_EXPORT int64_t accel_reader_sleep(void *, int64_t milliseconds) {
  usleep(static_cast<unsigned>(milliseconds * 1000));
  return 0;
}

ACCEL_EXPORT void accel_reader_destroy(void *handle) {
  close(static_cast<Reader *>(handle)->file);
  delete static_cast<Reader *>(handle);
}
