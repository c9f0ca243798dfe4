// SPDX-License-Identifier: Apache-2.0
// The loops of adam8bit.cpp over eight elements at a time, for levels with AVX2: included inside the
// namespace of each. They give the same bits, and prefetch.

// `decode` and `update` in one, for scales above 0. Meanwhile the parameters and gradients of the
// block after the next are prefetched, a line at a time: all at once they would wait for each other.
static inline __attribute__((always_inline)) Largest update_eights(
    Moments &to, const float *__restrict p, const float *__restrict grad, const Codes &m,
    const Codes &v, const AdamScalars &given, bool RARE) {
  const AdamScalars s = given;
  const uint32_t m_unit = unit_signed(*m.scale), v_unit = unit_unsigned(*v.scale);
  Words largest_m = {}, largest_v = {};
  for (int64_t line = 0; line < kCodes; line += 16) {
    __builtin_prefetch(grad + 2 * kCodes + line);
    __builtin_prefetch(p + 2 * kCodes + line);
#pragma GCC unroll 2
    for (int64_t i = line; i < line + 16; i += 8) {
      const Values old_m = decode_eight<true>(m.codes + i, m_unit);
      const Values old_v = decode_eight<false>(v.codes + i, v_unit);
      Values g = read<Values>(grad + i);
      if (RARE) g = g * s.grad_factor;
      if (RARE) g = s.has_l2 ? g + s.l2 * read<Values>(p + i) : g;
      const Values base = RARE && s.from_grad ? g : old_m;
      const Values new_m = base + s.m_weight * (g - old_m);
      const Values new_v = s.beta2 * old_v + s.v_weight * g * g;
      write(to.m + i, new_m);
      write(to.v + i, new_v);
      write(to.root + i, __builtin_ia32_sqrtps256(new_v));
      largest_m = greater(largest_m, as<Words>(new_m) & 0x7FFFFFFFu);
      largest_v = greater(largest_v, as<Words>(new_v));
    }
  }
  return {greatest(largest_m), greatest(largest_v)};
}

// `encode` and `narrow` in one.
static void encode_eights(uint8_t *__restrict m_codes, uint8_t *__restrict v_codes, float *__restrict p,
                          const Moments &from, uint32_t m_unit, uint32_t v_unit, uint32_t first_noise,
                          const AdamScalars &given) {
  const AdamScalars s = given;
  Words noise = Words{0, 1, 2, 3, 4, 5, 6, 7} * uint32_t{kLattice} + first_noise;
  Words m[4], v[4];
  for (int64_t i = 0; i < kCodes; i += 32) {
#pragma GCC unroll 4
    for (int64_t k = 0; k < 4; ++k) {
      const int64_t at = i + 8 * k;
      const Words new_m = read<Words>(from.m + at);
      const Values change = s.step_size * as<Values>(new_m) / (read<Values>(from.root + at) + s.eps);
      write(p + at, read<Values>(p + at) * s.keep - change);
      m[k] = blur_eight<true>(new_m, m_unit, noise);
      v[k] = blur_eight<false>(read<Words>(from.v + at), v_unit, noise);
      noise += 8u * kLattice;
    }
    store_blurred<true>(m_codes + i, m, m_unit);
    store_blurred<false>(v_codes + i, v, v_unit);
  }
}
