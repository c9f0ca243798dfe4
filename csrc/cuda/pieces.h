// SPDX-License-Identifier: Apache-2.0
// Many tensors in few launches: the assignment of blocks to elements of tensors. Sizes have 64 bits;
// empty tensors take no blocks.
#pragma once

#include "runtime.h"

namespace accel {

constexpr int64_t kChunk = 8192;                // elements of one block; a multiple of every vector
constexpr int64_t kMostBlocks = (1ll << 31) - 1;  // of one launch: CUDA's limit on a grid's x

ACCEL_BOTH int64_t blocks_of(int64_t numel) { return numel / kChunk + (numel % kChunk != 0); }

// The tensors of one launch: `at[r][j]` is the address of role r (parameter, gradient, ...) of tensor j.
template <int ROLES, int CAPACITY>
struct Tensors {
  static constexpr int kRoles = ROLES;
  static constexpr int kCapacity = CAPACITY;
  int32_t count;
  uint32_t first_block[CAPACITY];  // rising; tensor j has the blocks up to first_block[j + 1]
  uint32_t index[CAPACITY];        // its number for random bits: the call's, else its place in it
  int64_t numel[CAPACITY];
  void *at[ROLES][CAPACITY];
};

// The number of tensors with so many roles that fit into a kernel's parameters beside `other` bytes.
constexpr int capacity_for(int roles, int64_t other, int64_t bytes = kParameterBytes) {
  return static_cast<int>((bytes - other - 16) / (16 + 8 * static_cast<int64_t>(roles)));
}

// The elements [begin, end) of tensor `slot` in a launch.
struct Piece {
  int32_t slot;
  int64_t begin, end;
};

template <int ROLES, int CAPACITY>
ACCEL_DEVICE Piece piece_of(const Tensors<ROLES, CAPACITY> &tensors, uint32_t block) {
  int32_t low = 0, high = tensors.count;
  while (high - low > 1) {
    const int32_t middle = (low + high) / 2;
    if (tensors.first_block[middle] <= block) low = middle;
    else high = middle;
  }
  const int64_t begin = static_cast<int64_t>(block - tensors.first_block[low]) * kChunk;
  const int64_t rest = tensors.numel[low] - begin;
  return {low, begin, begin + (rest < kChunk ? rest : kChunk)};
}

// True if every non-null pointer of a slot allows 16-byte accesses.
template <int ROLES, int CAPACITY>
ACCEL_DEVICE bool is_aligned(const Tensors<ROLES, CAPACITY> &tensors, int32_t slot, int roles) {
  uintptr_t bits = 0;
  for (int role = 0; role < roles; ++role) bits |= reinterpret_cast<uintptr_t>(tensors.at[role][slot]);
  return (bits & 15u) == 0;
}

// Fills launches with the non-empty tensors among `count` and hands each, with its number of
// blocks, to `flush`, which returns an accel_status. `place(role, i)` is the address of that role of
// tensor i. `numbers` are the tensors', or null. Stops at the first failure.
template <class Table, class Place, class Flush>
int32_t for_launches(Table &table, const int64_t *numels, int64_t count, const Place &place,
                     const Flush &flush, const uint32_t *numbers = nullptr) {
  int64_t blocks = 0;
  table.count = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (numels[i] == 0) continue;
    const int64_t more = blocks_of(numels[i]);
    if (table.count == Table::kCapacity || blocks + more > kMostBlocks) {
      const int32_t status = flush(table, blocks);
      if (status != ACCEL_OK) return status;
      blocks = 0;
      table.count = 0;
    }
    const int32_t slot = table.count++;
    table.first_block[slot] = static_cast<uint32_t>(blocks);
    table.index[slot] = numbers ? numbers[i] : static_cast<uint32_t>(i);
    table.numel[slot] = numels[i];
    for (int role = 0; role < Table::kRoles; ++role) table.at[role][slot] = place(role, i);
    blocks += more;
  }
  return table.count ? flush(table, blocks) : ACCEL_OK;
}

}  // namespace accel
