"""What CUDA kernels rest on, held on the host: the quick quotient's every case."""

import shutil
import subprocess

import pytest

from accel.jit import csrc_dir

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")

QUOTIENTS = r"""
#include <cstdio>
#include <cstdlib>
#include <limits>
#include "quotient.h"

using namespace accel;

static uint32_t state = 1;
static uint32_t next() {
  state = state * 1664525u + 1013904223u;
  return state ^ state >> 15;
}

static bool same(float a, float b) { return a != a ? b != b : bits_of(a) == bits_of(b); }

// Whether all were done quickly; what is done quickly is right to the bit, the sign of 0 included.
static bool quick(float x, float y, float eps) {
  // Three usual pairs stand beside the one in question.
  const float xs[4] = {0.5f, x, 0x1p-20f, 3.0f}, ys[4] = {0.25f, y, 0x1p-40f, 7.0f};
  float all[4], out[4];
  const bool is_quick = quick_over_root(xs, ys, eps, out);
  over_root(xs, ys, eps, all);
  for (int k = 0; k < 4; ++k) {
    const float right = xs[k] / (sqrtf(ys[k]) + eps);
    if (!same(all[k], right) || (is_quick && !same(out[k], right))) {
      std::printf("%a / (sqrt(%a) + %a): %a, not %a\n", xs[k], ys[k], eps, all[k], right);
      std::exit(1);
    }
  }
  return is_quick;
}

int main() {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float odd[] = {0.0f,       -0.0f,      inf,        -inf,      nan,       0x1p-149f, -0x1p-149f,
                       0x1p-126f,  -0x1p-126f, 0x1p-101f,  0x1p-100f, -0x1p-100f,
                       0x1p-60f,   0x1p-30f,
                       -0x1p-30f,  1.0f,       -1.0f,      0x1p23f,   0x1p24f,   0x1p25f,   0x1p48f,
                       0x1p60f,    -0x1p60f,   0x1p100f,   0x1p126f,  -0x1.fffffep127f};
  for (float x : odd)
    for (float y : odd)
      for (float eps : odd) quick(x, y, eps);
  // Any two numbers at all, then the usual ones, all of which are quick.
  for (int i = 0; i < 300000; ++i) quick(float_of(next()), float_of(next()), i % 2 ? 1e-8f : 0.0f);
  for (int i = 0; i < 300000; ++i) {
    const float x = float_of((next() & 0x807FFFFFu) | (80 + next() % 60) << 23);
    const float y = float_of((next() & 0x7FFFFFu) | (70 + next() % 60) << 23);
    if (!quick(x, y, 1e-8f)) return 2;
  }
  // Zeros, as of rows without a gradient, stay quick.
  return quick(0.0f, 0.0f, 1e-8f) && quick(-0.0f, 1.0f, 1e-8f) && quick(1.0f, 0.0f, 1e-8f) ? 0 : 3;
}
"""


def test_a_quick_quotient_is_the_right_one_or_none(tmp_path):
    source = tmp_path / "quotients.cpp"
    source.write_text(QUOTIENTS)
    flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
    folders = [f"-I{csrc_dir() / name}" for name in ("include", "cuda")]
    command = ["g++", *flags, "-DACCEL_HOST_BUILD", *folders, source, "-o", tmp_path / "quotients"]
    subprocess.run(command, check=True)
    done = subprocess.run([tmp_path / "quotients"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
