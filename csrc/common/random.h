// SPDX-License-Identifier: Apache-2.0
// The random bits of stochastic rounding: a pure function of seed, step, stream and element, so that
// the result depends on neither SIMD level nor thread count nor device. If a tensor has its own step,
// that one counts: a captured graph, which repeats the seed, draws new bits at every replay.
//
// A tensor's number is the one in its call, else its place in the call. Stream s of tensor number i
// at step t (1 in the first) is
// key = accel_random_key(accel_random_seed(seed, t), i, s), with s 0 for the parameter, 1, 2, 3 for
// exp_avg, exp_avg_sq, max_exp_avg_sq (or an op's states in their order). Element e takes
// r = accel_random_bits(key, e), with e counted from the first element of the whole tensor, also if
// a call steps a part of it (first_elements). `rounding.h` says what becomes of r.
#pragma once

#include "shared.h"

ACCEL_ON_BOTH(accel_random_text,

// The seed of one step. With the factor of accel_random_key, no two pairs of step and stream give
// the same number until they are 2^30 apart.
ACCEL_BOTH uint64_t accel_random_seed(uint64_t seed, int64_t step) {
  return seed + 0xD1B54A32D192ED03ull * (uint64_t)step;
}

// splitmix64's finaliser (Steele, Lea, Flood 2014) over the three numbers.
ACCEL_BOTH uint64_t accel_random_key(uint64_t seed, uint64_t tensor, uint64_t stream) {
  uint64_t z = seed + 0x9E3779B97F4A7C15ull * (tensor * 8u + stream + 1u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// lowbias32 (Wellons 2018) of the element's low half, keyed on both sides; 32-bit steps only, so
// that plain loops become vector code. `carry` is accel_random_carry of the element, the same for
// all elements of a block that holds no multiple of 2^32 but its first.
ACCEL_BOTH uint32_t accel_random_carry(uint64_t element) {
  return (uint32_t)(element >> 32) * 0x85EBCA6Bu;
}

ACCEL_BOTH uint32_t accel_random_mix(uint64_t key, uint32_t carry, uint32_t low) {
  uint32_t x = (low ^ (uint32_t)key) + carry;
  x ^= x >> 16;
  x *= 0x7FEB352Du;
  x ^= x >> 15;
  x += (uint32_t)(key >> 32);
  x *= 0x846CA68Bu;
  return x ^ (x >> 16);
}

ACCEL_BOTH uint32_t accel_random_bits(uint64_t key, uint64_t element) {
  return accel_random_mix(key, accel_random_carry(element), (uint32_t)element);
}

)
