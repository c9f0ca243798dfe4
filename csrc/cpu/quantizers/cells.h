// SPDX-License-Identifier: Apache-2.0
// A table that finds the place of a number among 255 bounds in one look: floats from -1 to 1 by their
// signs, exponents and first six digits. Few maps have two bounds in one cell, or one next to 0.
#pragma once

#include <cstdint>

#include "../../common/quantizers/blockwise.h"

namespace accel {

constexpr int32_t kCellBits = 17;                                  // of a key, below the cell's number
constexpr int32_t kCellOfLeast = 103 << 6, kCellOfOne = 127 << 6;  // of 2^-24 and 1
constexpr int32_t kBelowZero = kCellOfOne - kCellOfLeast + 1;      // cells of negative numbers
constexpr int32_t kCells = 2 * kBelowZero + 1;
constexpr uint32_t kNever = (1u << (kCellBits + 1)) - 1;

// Rises with x; 0 and -0 differ.
constexpr int32_t key_of(float x) {
  const int32_t bits = __builtin_bit_cast(int32_t, x);
  return x == x ? bits ^ (bits >> 31 & 0x7FFFFFFF) : 0x7FFFFFFF;
}

struct Cells {
  // The place that a cell begins with, then from which of its keys on it is one more.
  uint32_t at[kCells];
  bool is_whole;  // whether every place is found
};

constexpr int32_t first_key(int32_t cell) {
  const int32_t number = cell <= kBelowZero ? cell - kCellOfOne - 1 : cell - kBelowZero - 1 + kCellOfLeast;
  return number * (1 << kCellBits);
}

constexpr Cells cells_of(const float *values) {
  Cells made{};
  made.is_whole = true;
  int32_t below = 0;
  for (int32_t cell = 0; cell < kCells; ++cell) {
    const int32_t first = first_key(cell), end = first_key(cell + 1);
    while (below < 255 && key_of((values[below] + values[below + 1]) / 2.0f) < first) ++below;
    int32_t inside = 0;
    uint32_t from = kNever;
    for (; below + inside < 255 && inside < 2; ++inside) {
      const int32_t key = key_of((values[below + inside] + values[below + inside + 1]) / 2.0f);
      if (key >= end) break;
      from = static_cast<uint32_t>(key - first) + 1u;
    }
    if (inside > (cell == kBelowZero ? 0 : 1)) made.is_whole = false;
    made.at[cell] = static_cast<uint32_t>(below) << (kCellBits + 1) | from;
  }
  return made;
}

}  // namespace accel
