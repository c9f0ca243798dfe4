/* SPDX-License-Identifier: Apache-2.0
 * The ABI common to all accel libraries: version, status codes, element types, rounding.
 *
 * Plain C, also read by C++, CUDA and SYCL sources. accel/ops/abi.py mirrors it with ctypes; a test
 * compiles a C program that compares the two sides.
 */
#ifndef ACCEL_ABI_H
#define ACCEL_ABI_H

#include <stdint.h>

/* Raised whenever a struct or the meaning of a symbol changes; part of every artifact's identity. */
#define ACCEL_ABI_VERSION 2

#ifdef __cplusplus
#define ACCEL_EXTERN_C extern "C"
#else
#define ACCEL_EXTERN_C
#endif

/* Marks exported functions: libraries are built with hidden visibility. */
#define ACCEL_EXPORT ACCEL_EXTERN_C __attribute__((visibility("default")))

/* Element types. The numbers are part of the ABI: new ones are appended, none is ever renumbered. */
enum accel_dtype {
  ACCEL_FLOAT32 = 0,
  ACCEL_BFLOAT16 = 1,
  ACCEL_FLOAT16 = 2,
  ACCEL_FLOAT64 = 3,
  ACCEL_INT8 = 4,
  ACCEL_UINT8 = 5,
  ACCEL_INT16 = 6,
  ACCEL_INT32 = 7,
  ACCEL_INT64 = 8,
  ACCEL_BOOL = 9,
  ACCEL_FLOAT8_E4M3FN = 10,
  ACCEL_FLOAT8_E5M2 = 11,
  ACCEL_INT4X2 = 12, /* two signed numbers of 4 bits in a byte, the first one in the low bits */
  ACCEL_UINT4X2 = 13 /* two unsigned ones */
};

/* How a float32 result is stored in a 16-bit type. */
enum accel_rounding {
  ACCEL_ROUND_NEAREST = 0,   /* to nearest, ties to even; NaN stays NaN, overflow becomes infinity */
  ACCEL_ROUND_STOCHASTIC = 1 /* up or down with a probability that makes the mean exact: rounding.h */
};

/* Return values. A negative value is minus an errno of the host. A value from ACCEL_DEVICE_ERROR on
 * is that constant plus the device runtime's own code (cudaError_t, ...). A function that returns
 * anything else than ACCEL_OK below ACCEL_DEVICE_ERROR has written nothing. */
enum accel_status {
  ACCEL_OK = 0,
  ACCEL_BAD_STRUCT = 1,   /* struct_size is not this library's */
  ACCEL_BAD_ARGUMENT = 2, /* a null pointer, a negative count, an unknown code or flag */
  ACCEL_BAD_DTYPE = 3,    /* a combination of element types that this library has no kernel for */
  ACCEL_UNSUPPORTED = 4,  /* a flag or level that this library or processor does not have */
  ACCEL_NO_MEMORY = 5,
  ACCEL_DEVICE_ERROR = 1000
};

/* Every library exports both. The text is static and never null. */
ACCEL_EXPORT int32_t accel_abi_version(void);
ACCEL_EXPORT const char *accel_status_text(int32_t status);

#endif
