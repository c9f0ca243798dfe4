// SPDX-License-Identifier: Apache-2.0
// OpenMP's three entry points over std::thread, so that a sanitizer sees every thread start and end.
//
// libgomp's own barriers are not instrumented: under ThreadSanitizer each would look like a race.
#pragma once

#include <thread>
#include <vector>

namespace team {
inline thread_local int number = 0, size = 1;
}

extern "C" {

int omp_get_thread_num() { return team::number; }

int omp_get_num_threads() { return team::size; }

// What g++ makes of `#pragma omp parallel num_threads(n)`.
void GOMP_parallel(void (*body)(void *), void *data, unsigned wanted, unsigned) {
  const int size = static_cast<int>(wanted);
  std::vector<std::thread> threads;
  for (int number = 0; number < size; ++number)
    threads.emplace_back([=] {
      team::number = number;
      team::size = size;
      body(data);
    });
  for (auto &thread : threads) thread.join();
}
}
