"""The arithmetic of launches and blocks, as host C++: sizes beyond 2^31, empty tensors anywhere."""

import shutil
import subprocess

import pytest

from accel.jit import csrc_dir

PROGRAM = r"""
#include <cstdio>
#include <cstdlib>
#include <vector>
#include "pieces.h"

using Table = accel::Tensors<2, 3>;

#define REQUIRE(truth) \
  if (!(truth)) { std::printf("line %d: %s\n", __LINE__, #truth); std::exit(1); }

// Every element of every non-empty tensor is in one piece, in its own tensor.
static void covers(const std::vector<int64_t> &numels, bool every_block) {
  std::vector<int64_t> done(numels.size(), 0);
  Table table;
  const auto place = [](int role, int64_t i) {
    return reinterpret_cast<void *>(16 * (i + 1) + role);
  };
  const auto flush = [&](const Table &t, int64_t blocks) -> int32_t {
    REQUIRE(t.count > 0 && t.count <= Table::kCapacity);
    REQUIRE(blocks > 0 && blocks <= accel::kMostBlocks);
    int64_t expected = 0;
    for (int32_t j = 0; j < t.count; ++j) {
      REQUIRE(t.first_block[j] == static_cast<uint32_t>(expected));
      REQUIRE(t.at[1][j] == place(1, t.index[j]) && t.numel[j] == numels[t.index[j]]);
      const int64_t more = accel::blocks_of(t.numel[j]);
      const int64_t last = expected + more - 1;
      const int64_t step = every_block || more < 3 ? 1 : more - 1;
      for (int64_t b = expected; b <= last; b += step) {
        const accel::Piece piece = accel::piece_of(t, static_cast<uint32_t>(b));
        REQUIRE(piece.slot == j);
        REQUIRE(piece.begin == (b - expected) * accel::kChunk && piece.begin < piece.end);
        REQUIRE(piece.end - piece.begin <= accel::kChunk && piece.end <= t.numel[j]);
        if (b == last) REQUIRE(piece.end == t.numel[j]);
      }
      done[t.index[j]] += t.numel[j];
      expected += more;
    }
    REQUIRE(expected == blocks);
    return ACCEL_OK;
  };
  const int64_t count = static_cast<int64_t>(numels.size());
  REQUIRE(accel::for_launches(table, numels.data(), count, place, flush) == ACCEL_OK);
  REQUIRE(done == numels);
}

int main() {
  const int64_t big = (1ll << 31) + 5, huge = 1ll << 43, c = accel::kChunk;
  covers({}, true);
  covers({0}, true);
  covers({0, 0, 0, 0}, true);
  covers({1, 0, c - 1, c, c + 1, 0}, true);
  covers({0, 0, 7, 0, 0, 7, 7, 0, 7, 0}, true);
  covers({big, 0, 3, big + c}, true);
  covers({(1ll << 34) + 1}, true);
  covers({huge, huge, huge, 0, huge}, false);  // 2^30 blocks each: two do not go together
  covers({huge, 1, huge - 2 * c, 1}, false);

  int calls = 0;
  Table table;
  const std::vector<int64_t> many(9, 1);
  const int32_t status = accel::for_launches(
      table, many.data(), 9, [](int, int64_t) { return static_cast<void *>(nullptr); },
      [&](const Table &, int64_t) { return ++calls == 2 ? 1002 : ACCEL_OK; });
  REQUIRE(status == 1002 && calls == 2);  // a failed launch is the last one
}
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_every_element_is_in_one_piece(tmp_path):
    source = tmp_path / "pieces.cpp"
    source.write_text(PROGRAM)
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined"]
    folders = [f"-I{csrc_dir() / name}" for name in ("include", "cuda", "cuda/optimizers")]
    command = ["g++", *flags, "-DACCEL_HOST_BUILD", *folders, source, "-o", tmp_path / "pieces"]
    subprocess.run(command, check=True)
    done = subprocess.run([tmp_path / "pieces"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
