// SPDX-License-Identifier: Apache-2.0
// How work is split, for sizes that no machine has the memory for.
#include "parallel.h"

#include <algorithm>
#include <mutex>

#include "drive.h"

struct Piece {
  int64_t tensor, begin, end;
};

template <int64_t kUnit>
static void covers(const std::vector<int64_t> &numels, int32_t threads) {
  std::mutex guard;
  std::vector<Piece> pieces;
  accel::for_pieces<kUnit>(numels.data(), static_cast<int64_t>(numels.size()), threads,
                           [&](int64_t tensor, int64_t begin, int64_t end) {
                             const std::lock_guard<std::mutex> lock(guard);
                             pieces.push_back({tensor, begin, end});
                           });
  std::sort(pieces.begin(), pieces.end(), [](const Piece &a, const Piece &b) {
    return a.tensor != b.tensor ? a.tensor < b.tensor : a.begin < b.begin;
  });
  size_t next = 0;
  for (size_t i = 0; i < numels.size(); ++i)
    for (int64_t at = 0; at < numels[i]; ++next) {
      REQUIRE(next < pieces.size());
      REQUIRE(pieces[next].tensor == static_cast<int64_t>(i));
      REQUIRE(pieces[next].begin == at && at % kUnit == 0);
      REQUIRE(pieces[next].end > at);
      at = pieces[next].end;
    }
  REQUIRE(next == pieces.size());
}

int main() {
  constexpr int64_t k31 = int64_t{1} << 31, k40 = int64_t{1} << 40, k61 = int64_t{1} << 61;
  const std::vector<std::vector<int64_t>> lists = {
      {}, {0}, {0, 0, 1}, {k31 + 5}, {k31, 3, k31 - 1}, {k40 + 17, 0, 1}, {k61 + 1, k61 - 3, 7},
      std::vector<int64_t>(5000, 1000), {100'003, 1, 0, 33'333}};
  for (const auto &numels : lists)
    for (int32_t threads : {1, 2, 3, 7, 16}) {
      covers<16>(numels, threads);
      covers<256>(numels, threads);
      covers<1024>(numels, threads);
    }
}
