/* SPDX-License-Identifier: Apache-2.0
 * Reads thousands of tensors before a call, for which an interpreter is too slow. */
#ifndef ACCEL_LISTS_H
#define ACCEL_LISTS_H

#include "accel/tensors.h"

/* The expected properties of a call's lists. Bit k of a mask belongs to list k. */
typedef struct accel_read {
  uint64_t struct_size;
  const accel_python *python;
  int32_t (*put)(void *list, intptr_t index, void *object); /* PyList_SetItem, which takes the object */
  void *version;         /* the name of the attribute that a tensor of inference mode lacks */
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

/* Checks every tensor of `lists`, a list of lists that nobody else uses. If `sources` is a list, the first
 * list is filled with the gradients of its tensors; else it is None. Writes into `table` the addresses of
 * each list, then the numbers of elements of the first list, then, 32 bits each, the codes of each list's
 * element types. Tensors must be contiguous float32, bfloat16 or float16. Returns ACCEL_UNSUPPORTED if
 * anything is not as expected; the checks in Python then name it. `room` is temporary memory for
 * 2 * count + 6 * (lists * count + 1) numbers. Call with the interpreter's lock. */
ACCEL_EXPORT int32_t accel_read_lists(const accel_read *read, void *sources, void *lists, int64_t *table,
                                      int64_t *room);

#endif
