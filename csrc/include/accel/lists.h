/* SPDX-License-Identifier: Apache-2.0
 * Reading thousands of tensors before a call, which an interpreter is too slow for. */
#ifndef ACCEL_LISTS_H
#define ACCEL_LISTS_H

#include "accel/tensors.h"

/* What a call's lists are expected to be. Bit k of a mask is list k's. */
typedef struct accel_read {
  uint64_t struct_size;
  const accel_python *python;
  int32_t (*put)(void *list, intptr_t index, void *object); /* PyList_SetItem, which takes the object */
  void *version;         /* the name of the attribute that a tensor of inference mode has not */
  int64_t lists;         /* how many: at most 64 */
  int64_t count;         /* tensors of each list; those in one place have one shape */
  uint64_t written;      /* lists that share no byte with anything, */
  uint64_t in_place;     /* but a tensor of one of these may be the written one in its place */
  uint64_t detached;     /* lists of which no tensor requires grad */
  uint64_t versioned;    /* lists of which no tensor is of inference mode */
  int64_t apart_from;    /* one more block of memory that is written */
  int64_t apart_to;
  int32_t device_type;   /* as DLPack numbers devices */
  int32_t device_id;
} accel_read;

/* Looks at every tensor of `lists`, a list of lists that nobody else has. If `sources` is a list, the first
 * list is filled with the gradients of what is in it; else it is None. Writes into `table` the addresses
 * of each list, then the numbers of elements of the first list, then, 32 bits each, the codes of each
 * list's element types. ACCEL_UNSUPPORTED where something is not as expected, which a careful look is to
 * name; tensors are contiguous float32, bfloat16 or float16. `room` is 2 * count + 6 * (lists * count + 1)
 * numbers to work in. Call with the interpreter's lock. */
ACCEL_EXPORT int32_t accel_read_lists(const accel_read *read, void *sources, void *lists, int64_t *table,
                                      int64_t *room);

#endif
