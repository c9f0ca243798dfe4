"""The base of element-wise optimizer kernels in Triton: their loads and stores."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language import tensor as Value

from accel.ops.optimizers.triton.elements import load, random_bits, random_seed, scalar_at, store
from accel.ops.optimizers.triton.table import FIRST_BLOCK, NUMBER, NUMEL, OWN

_NUMEL = tl.constexpr(NUMEL)
_FIRST_BLOCK = tl.constexpr(FIRST_BLOCK)
_NUMBER = tl.constexpr(NUMBER)
_PARAM = tl.constexpr(3)
_GRAD = tl.constexpr(4)
_MASTER = tl.constexpr(5)
_STEP = tl.constexpr(6)
_STATE = tl.constexpr(7)
_OWN = tl.constexpr(OWN)
_LR_TENSOR = tl.constexpr(2)
_GRAD_SCALE = tl.constexpr(3)


@triton.jit
def is_wanted(rows: Value) -> Value:
    """Return whether the step must be done."""
    found_inf = scalar_at(tl.load(rows), tl.float32, 0.0)
    noop_flag = scalar_at(tl.load(rows + 1), tl.int32, 0)
    return (found_inf == 0.0) & (noop_flag == 0)


@triton.jit
def own_tensor(owners: Value) -> Value:
    """Return the index in the table of this program's tensor."""
    return tl.load(owners + tl.program_id(0))


@triton.jit
def row_of(rows: Value, tensor: Value, WIDTH: tl.constexpr) -> Value:
    """Return the address of a tensor's row."""
    return rows + (tensor + 1) * WIDTH


@triton.jit
def number_of(row: Value) -> Value:
    """Return the number of the row's tensor, which chooses its random bits."""
    return tl.load(row + _NUMBER)


@triton.jit
def own_elements(rows: Value, row: Value, SIZE: tl.constexpr, ALIGNED: tl.constexpr) -> Value:
    """Return this program's elements, and a mask of those that exist and must be stepped."""
    block = (tl.program_id(0) - tl.load(row + _FIRST_BLOCK)).to(tl.int64)
    offsets = block * SIZE + tl.arange(0, SIZE)
    end = tl.where(is_wanted(rows), tl.load(row + _NUMEL), 0)
    if ALIGNED:
        end = tl.multiple_of(end, 16)
    return offsets, offsets < end


@triton.jit
def rate_at(rows: Value, lr: Value) -> Value:
    """Return the learning rate in float64: the tensor's if there is one, else `lr`."""
    return scalar_at(tl.load(rows + _LR_TENSOR), tl.float32, lr).to(tl.float64)


@triton.jit
def factor_at(rows: Value, grad_factor: Value) -> Value:
    """Return `grad_factor` divided by the gradients' scale on the device."""
    scale = scalar_at(tl.load(rows + _GRAD_SCALE), tl.float32, 1.0).to(tl.float64)
    return (grad_factor / scale).to(tl.float32)


@triton.jit
def seed_at(row: Value, seed: Value, AHEAD: tl.constexpr) -> Value:
    """Return the seed of the step of the row's tensor; `seed` if the step is on the host."""
    address = tl.load(row + _STEP)
    step = scalar_at(address, tl.float32, 0.0) + AHEAD
    return tl.where(address != 0, random_seed(seed, step), seed.to(tl.uint64))


@triton.jit
def load_grad(
    row: Value, at: Value, mask: Value, GRAD: tl.constexpr, ALIGNED: tl.constexpr
) -> Value:
    """Return the gradient's elements."""
    return load(tl.load(row + _GRAD), at, mask, GRAD, ALIGNED)


@triton.jit
def state_at(row: Value, WHICH: tl.constexpr) -> Value:
    """Return the address of a state, or of an extra tensor."""
    return tl.load(row + _STATE + WHICH)


@triton.jit
def load_state(
    row: Value, at: Value, mask: Value, WHICH: tl.constexpr, STATE: tl.constexpr,
    ALIGNED: tl.constexpr,
) -> Value:  # fmt: skip
    """Return the elements of one state."""
    return load(state_at(row, WHICH), at, mask, STATE, ALIGNED)


@triton.jit
def load_param(
    row: Value, at: Value, mask: Value, PARAM: tl.constexpr, MASTER: tl.constexpr,
    ALIGNED: tl.constexpr,
) -> Value:  # fmt: skip
    """Return the elements of the master copy if there is one, else of the parameter."""
    if MASTER:
        return load(tl.load(row + _MASTER), at, mask, 0, ALIGNED)
    else:
        return load(tl.load(row + _PARAM), at, mask, PARAM, ALIGNED)


@triton.jit
def _store_rounded(
    row: Value, address: Value, at: Value, mask: Value, x: Value, seed: Value,
    STREAM: tl.constexpr, DTYPE: tl.constexpr, STOCHASTIC: tl.constexpr, ALIGNED: tl.constexpr,
) -> None:  # fmt: skip
    noise = at
    if STOCHASTIC:
        noise = random_bits(seed, number_of(row), STREAM, at)
    store(address, at, mask, x, noise, DTYPE, STOCHASTIC, ALIGNED)


@triton.jit
def store_param(
    row: Value, at: Value, mask: Value, x: Value, seed: Value, PARAM: tl.constexpr,
    MASTER: tl.constexpr, STOCHASTIC: tl.constexpr, ALIGNED: tl.constexpr,
) -> None:  # fmt: skip
    """Write the parameter, and its master copy if there is one."""
    if MASTER:
        store(tl.load(row + _MASTER), at, mask, x, at, 0, False, ALIGNED)
    address = tl.load(row + _PARAM)
    _store_rounded(row, address, at, mask, x, seed, 0, PARAM, STOCHASTIC, ALIGNED)


@triton.jit
def store_state(
    row: Value, at: Value, mask: Value, x: Value, seed: Value, WHICH: tl.constexpr,
    STATE: tl.constexpr, STOCHASTIC: tl.constexpr, ALIGNED: tl.constexpr,
) -> None:  # fmt: skip
    """Write one state."""
    address = state_at(row, WHICH)
    _store_rounded(row, address, at, mask, x, seed, WHICH + 1, STATE, STOCHASTIC, ALIGNED)


@triton.jit
def own_slots(rows: Value, count: Value, SIZE: tl.constexpr) -> Value:
    """Return the tensors of a program over tensors, and a mask of those that exist."""
    slots = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    return slots, slots < tl.where(is_wanted(rows), count, 0)


@triton.jit
def extras_of(
    rows: Value, slots: Value, mask: Value, WHICH: tl.constexpr, WIDTH: tl.constexpr
) -> Value:
    """Return the addresses of an extra tensor of each of `slots`."""
    return tl.load(rows + (slots + 1) * WIDTH + _STATE + WHICH, mask, other=0)


@triton.jit
def steps_of(rows: Value, slots: Value, mask: Value, WIDTH: tl.constexpr) -> Value:
    """Return the step counters of the tensors of `slots`, in float64."""
    steps = tl.load(rows + (slots + 1) * WIDTH + _STEP, mask, other=0)
    return tl.load(steps.to(tl.pointer_type(tl.float32)), mask, other=0.0).to(tl.float64)


@triton.jit
def _scalars_at(row: Value, WIDTH: tl.constexpr) -> Value:
    return (row + (WIDTH - _OWN + 1)).to(tl.pointer_type(tl.float32), bitcast=True)


@triton.jit
def leave_scalar(
    rows: Value, slots: Value, mask: Value, WHICH: tl.constexpr, value: Value, WIDTH: tl.constexpr
) -> None:
    """Store a float32 for each tensor of `slots`, which all programs of its elements read."""
    tl.store(_scalars_at(rows + (slots + 1) * WIDTH, WIDTH) + WHICH, value, mask)


@triton.jit
def scalar_left(row: Value, WHICH: tl.constexpr, WIDTH: tl.constexpr) -> Value:
    """Return the scalar that `leave_scalar` stored for the row's tensor."""
    return tl.load(_scalars_at(row, WIDTH) + WHICH)


@triton.jit
def programs_of(row: Value, BLOCK: tl.constexpr, WIDTH: tl.constexpr) -> Value:
    """Return the tensor's first program among those of all launches, and its number of programs."""
    return tl.load(row + (WIDTH - _OWN)), (tl.load(row + _NUMEL) + BLOCK - 1) // BLOCK


@triton.jit(do_not_specialize=["count"])
def count_kernel(
    rows: Value, count: tl.int32, by: tl.float32, WIDTH: tl.constexpr, SIZE: tl.constexpr
) -> None:
    """Add `by` to the step counters of `SIZE` tensors of the table."""
    slots, mask = own_slots(rows, count, SIZE)
    steps = tl.load(rows + (slots + 1) * WIDTH + _STEP, mask, other=0)
    pointers = steps.to(tl.pointer_type(tl.float32))
    tl.store(pointers, tl.load(pointers, mask, other=0.0) + by, mask)
