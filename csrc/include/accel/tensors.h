/* SPDX-License-Identifier: Apache-2.0
 * A check of thousands of tensors at the start of a step, for which an interpreter is too slow: their
 * facts are compared with those of the prepared step, and their addresses go into its calls. */
#ifndef ACCEL_TENSORS_H
#define ACCEL_TENSORS_H

#include "accel/abi.h"

/* One tensor as DLPack 1 describes it (`DLTensor` of dlpack.h). */
typedef struct accel_dl_tensor {
  void *data;
  int32_t device_type;
  int32_t device_id;
  int32_t ndim;
  uint8_t dtype_code;
  uint8_t dtype_bits;
  uint16_t dtype_lanes;
  const int64_t *shape;
  const int64_t *strides;
  uint64_t byte_offset;
} accel_dl_tensor;

/* Functions of the interpreter and of the tensors' library, and objects that they need. All are
 * called with the interpreter's lock held. The names on the right are those of Python's C API. */
typedef struct accel_python {
  uint64_t struct_size;
  int32_t (*read)(void *object, accel_dl_tensor *tensor);      /* of DLPack's exchange table */
  void *(*attribute)(void *object, void *name);                /* PyObject_GetAttr */
  void *(*call)(void *function, void *const *arguments, uintptr_t count, void *names);
                                                               /* PyObject_Vectorcall */
  void *(*type_of)(void *object);                              /* PyObject_Type */
  void *(*item_of_list)(void *list, intptr_t index);           /* PyList_GetItem, borrowed */
  void *(*item_of_dictionary)(void *dictionary, void *key);    /* PyDict_GetItemWithError, borrowed */
  int32_t (*next_entry)(void *dictionary, intptr_t *position, void **key, void **value);
                                                               /* PyDict_Next, borrowed */
  void (*keep)(void *object);                                  /* Py_IncRef */
  void (*let_go)(void *object);                                /* Py_DecRef */
  int64_t (*as_integer)(void *object);                         /* PyLong_AsLongLong */
  void (*forget_error)(void);                                  /* PyErr_Clear */
  void *none;
  void *no;             /* False */
  void *tensor;         /* the types of plain tensors, which no subclass overrides */
  void *parameter;
  void *dictionary;     /* the type of plain dictionaries */
  void *grad;           /* names of attributes */
  void *requires_grad;
  void *is_neg;         /* the function that returns whether a tensor has the negative bit */
  void *storage_offset; /* the function that returns a tensor's place in its storage */
} accel_python;

/* The expected facts about one tensor. */
typedef struct accel_expected {
  int64_t *slot;   /* the place of its address; null: nothing is expected, and nothing read */
  int64_t numel;   /* of a contiguous tensor; negative: its layout is its parameter's */
  uint32_t dtype;  /* DLPack's code, bits and lanes, lowest byte first */
  int32_t written; /* whether a step writes it: then its address must not change */
} accel_expected;

/* The facts that a step was prepared for. Arrays of tensors have, for each parameter, an entry of its
 * own, one for its gradient and one for each key of its state. */
typedef struct accel_watch {
  uint64_t struct_size;
  const accel_python *python;
  int64_t num_params;
  int64_t num_keys;
  int64_t num_written;
  void *const *keys;              /* of a parameter's state, as the interpreter's strings */
  const accel_expected *expected;
  const int64_t *layout_at;       /* a parameter's place in `layouts`: dimensions, sizes, strides */
  const int64_t *layouts;
  const int64_t *places;          /* a parameter's place among the states, as `next_entry` counts them */
  const int32_t *devices;         /* of each parameter, its gradient and state: type and number */
  const int64_t *written_from;    /* blocks of memory that no gradient may share a byte with, rising */
  const int64_t *written_to;      /* and apart from each other */
  void **kept;                    /* for each tensor the object that is kept alive, or null */
} accel_watch;

/* Checks every parameter of a list, its gradient and its entry of a dictionary of states, writes their
 * addresses into their slots and keeps them alive. Returns ACCEL_UNSUPPORTED, with nothing kept, if a
 * fact is not as expected; slots of gradients may have changed then. Call with the interpreter's lock. */
ACCEL_EXPORT int32_t accel_watch_take(const accel_watch *watch, void *params, void *states);
/* Releases the kept objects. Call with the interpreter's lock. */
ACCEL_EXPORT void accel_watch_release(const accel_watch *watch);

#endif
