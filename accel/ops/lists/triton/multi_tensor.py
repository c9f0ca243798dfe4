"""``multi_tensor`` in Triton, chunk by chunk, as in ``csrc/cuda/lists/multi_tensor.cu``.

Tensors of different element types have separate launches. Sums have a fixed order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import tensor as Value

from accel.ops import abi
from accel.ops.lists.declared import CHUNK
from accel.ops.optimizers.triton.elements import load, store

_SIZE = 1024
_FIRST = 2  # columns before the addresses: first chunk, number of elements


@triton.jit
def _bad(x: Value) -> Value:
    """Return 1 for each number that is not finite."""
    return ((x.to(tl.uint32, bitcast=True) & 0x7FFFFFFF) >= 0x7F800000).to(tl.int32)


@triton.jit
def _is_skipped(noop_flag: Value, SKIP: tl.constexpr) -> Value:
    if SKIP:
        return tl.load(noop_flag) != 0
    else:
        return tl.program_id(0) < 0


@triton.jit
def _numel_of(row: Value, ALIGNED: tl.constexpr) -> Value:
    if ALIGNED:
        return tl.multiple_of(tl.load(row + 1), 16)
    else:
        return tl.load(row + 1)


@triton.jit
def chunks_kernel(
    rows: Value, owners: Value, noop_flag: Value, sums: Value, WIDTH: tl.constexpr,
    DTYPE: tl.constexpr, SKIP: tl.constexpr, ALIGNED: tl.constexpr, LENGTH: tl.constexpr,
    SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Add up the squares of one chunk."""
    row = rows + tl.load(owners + tl.program_id(0) * 2) * WIDTH
    chunk = tl.load(owners + tl.program_id(0) * 2 + 1)
    numel = _numel_of(row, ALIGNED)
    if _is_skipped(noop_flag, SKIP):
        numel = numel * 0
    total = tl.zeros((SIZE,), tl.float64)
    for start in range(0, LENGTH, SIZE):
        at = chunk * LENGTH + start + tl.arange(0, SIZE)
        x = load(tl.load(row + 2), at, at < numel, DTYPE, ALIGNED).to(tl.float64)
        total += x * x
    tl.store(sums + tl.load(row) + chunk, tl.sum(total))


@triton.jit
def tensors_kernel(
    rows: Value, sums: Value, results: Value, inv_scale: Value, norms: Value, WIDTH: tl.constexpr,
    SCALED: tl.constexpr, EACH: tl.constexpr, LENGTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Add up the chunks of one tensor."""
    row = rows + tl.program_id(0) * WIDTH
    first = tl.load(row)
    chunks = (tl.load(row + 1) + LENGTH - 1) // LENGTH
    total = tl.zeros((SIZE,), tl.float64)
    for start in range(0, chunks, SIZE):
        at = start + tl.arange(0, SIZE)
        total += tl.load(sums + first + at, at < chunks, other=0.0)
    squares = tl.sum(total)
    tl.store(results + tl.program_id(0), squares)
    if EACH:
        _store_norm(norms + tl.program_id(0), squares, inv_scale, SCALED)


@triton.jit
def _store_norm(place: Value, squares: Value, inv_scale: Value, SCALED: tl.constexpr) -> None:
    norm = tl.sqrt(squares)
    if SCALED:
        norm = norm * tl.abs(tl.load(inv_scale)).to(tl.float64)
    tl.store(place, norm.to(tl.float32))


@triton.jit(do_not_specialize=["count"])
def total_kernel(
    results: Value, count: Value, inv_scale: Value, norm: Value, noop_flag: Value,
    SCALED: tl.constexpr, FLAG: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Sum over all tensors; the result is at least the largest norm of one."""
    total = tl.zeros((SIZE,), tl.float64)
    for start in range(0, count, SIZE):
        at = start + tl.arange(0, SIZE)
        total += tl.load(results + at, at < count, other=0.0)
    squares = tl.sum(total)
    _store_norm(norm, squares, inv_scale, SCALED)
    if FLAG:
        found = tl.sqrt(squares)
        if SCALED:
            found = found * tl.abs(tl.load(inv_scale)).to(tl.float64)
        tl.store(noop_flag, 1, mask=_bad(found.to(tl.float32)) != 0)


@triton.jit
def work_kernel(
    rows: Value, owners: Value, noop_flag: Value, norm: Value, a: tl.float32, b: tl.float32,
    max_norm: tl.float64, WIDTH: tl.constexpr, X: tl.constexpr, Y: tl.constexpr, OUT: tl.constexpr,
    CHECK: tl.constexpr, CLIP: tl.constexpr, KEEP: tl.constexpr, ALIGNED: tl.constexpr,
    LENGTH: tl.constexpr, SIZE: tl.constexpr,
) -> None:  # fmt: skip
    """Write one chunk of outputs; y's code is -1 if there is none; CHECK has bits for x and y."""
    row = rows + tl.load(owners + tl.program_id(0) * 2) * WIDTH
    chunk = tl.load(owners + tl.program_id(0) * 2 + 1)
    numel = _numel_of(row, ALIGNED)
    if CLIP:
        size = tl.load(norm)
        ratio = max_norm / (size.to(tl.float64) + 1e-6)
        a = tl.where(ratio > 1.0, 1.0, ratio).to(tl.float32)
        if KEEP:
            numel = tl.where(_bad(size) != 0, numel * 0, numel)
        numel = tl.where(a == 1.0, numel * 0, numel)
    bad = tl.zeros((SIZE,), tl.int32)
    for start in range(0, LENGTH, SIZE):
        at = chunk * LENGTH + start + tl.arange(0, SIZE)
        mask = at < numel
        x = load(tl.load(row + 2), at, mask, X, ALIGNED)
        if CHECK & 1:
            bad = bad | _bad(x)
        out = x * a
        if Y >= 0:
            y = load(tl.load(row + 3), at, mask, Y, ALIGNED)
            if CHECK & 2:
                bad = bad | _bad(y)
            out = out + y * b
        store(tl.load(row + WIDTH - 1), at, mask, out, 0, OUT, False, ALIGNED)
    if CHECK:
        tl.store(noop_flag, 1, mask=tl.max(bad) != 0)


class Table:
    """A call's tensors on their device: rows of numbers, and the programs of each group of types.

    Args:
        lists: lists of one length; the first one gives the numbers of elements.
        device: the tensors' device.
    """

    def __init__(self, lists: Sequence[Sequence[Tensor]], device: torch.device) -> None:
        self.count = len(lists[0])
        self.width = _FIRST + len(lists)
        groups: dict[tuple[tuple[int, ...], bool], list[tuple[int, int]]] = {}
        rows, first = [], 0
        for at, tensors in enumerate(zip(*lists, strict=True)):
            numel = tensors[0].numel()
            addresses = [one.data_ptr() for one in tensors]
            rows.append([first, numel, *addresses])
            chunks = -(-numel // CHUNK)
            codes = tuple([abi.ELEMENTS[one.dtype] for one in tensors])
            aligned = all(number % 16 == 0 for number in (numel, *addresses))
            owned = groups.setdefault((codes, aligned), [])
            owned += [(at, chunk) for chunk in range(chunks)]
            first += chunks
        self.chunks = first
        self.rows = self._sent(rows, device)
        self._groups = [(key, self._sent(own, device), len(own)) for key, own in groups.items()]

    @staticmethod
    def _sent(numbers: Any, device: torch.device) -> Tensor:
        made = torch.tensor(numbers, dtype=torch.int64, device="cpu")
        return made if device.type == "cpu" else made.pin_memory().to(device, non_blocking=True)

    def launch(self, kernel: Callable[..., Any], *args: Any, **constants: Any) -> None:
        """Launch a kernel for each group; ``TYPES`` names its constants of element types."""
        names = constants.pop("TYPES")
        for (key, aligned), owners, programs in self._groups:
            if programs:
                codes = {name: key[at % len(key)] for at, name in enumerate(names)}
                kernel[(programs,)](  # type: ignore[index]
                    self.rows, owners, *args, WIDTH=self.width, ALIGNED=aligned, LENGTH=CHUNK,
                    SIZE=_SIZE, **codes, **constants, num_warps=4, enable_fp_fusion=False,
                )  # fmt: skip


def _add_all(
    table: Table, sums: Tensor, norm: Tensor, norms: Tensor, inv_scale: Tensor | None, *,
    noop_flag: Tensor | None, each: bool = False, skip: bool = False,
) -> None:  # fmt: skip
    scaled, flagged = inv_scale is not None, noop_flag is not None
    flag = norm if noop_flag is None else noop_flag
    factor = norm if inv_scale is None else inv_scale
    results = sums[table.chunks :]
    table.launch(chunks_kernel, flag, sums, TYPES=("DTYPE",), SKIP=skip)
    common = {"SIZE": _SIZE, "num_warps": 4, "enable_fp_fusion": False}
    if table.count:
        tensors_kernel[(table.count,)](
            table.rows, sums, results, factor, norms, WIDTH=table.width, SCALED=scaled, EACH=each,
            LENGTH=CHUNK, **common,
        )  # fmt: skip
    total_kernel[(1,)](
        results, table.count, factor, norm, flag, SCALED=scaled, FLAG=flagged, **common
    )


def multi_tensor_norm(
    noop_flag: Tensor, tensors: Sequence[Tensor], inv_scale: Tensor | None, per_tensor: bool,
    skip: bool, norm: Tensor, norms: Tensor, sums: Tensor | None,
) -> None:  # fmt: skip
    """Do what ``accel_multi_tensor_norm`` does."""
    table = Table([tensors], noop_flag.device)
    _add_all(table, _room(sums, table, noop_flag.device), norm, norms, inv_scale,
             noop_flag=noop_flag, each=per_tensor, skip=skip)  # fmt: skip


def multi_tensor_scale_(
    noop_flag: Tensor, inputs: Sequence[Tensor], outputs: Sequence[Tensor], scale: float
) -> None:
    """Do what ``accel_multi_tensor_scale_`` does."""
    table = Table([inputs, outputs], noop_flag.device)
    table.launch(work_kernel, noop_flag, noop_flag, scale, 0.0, 0.0, TYPES=("X", "OUT"), Y=-1,
                 CHECK=1, CLIP=False, KEEP=False)  # fmt: skip


def multi_tensor_axpby_(
    noop_flag: Tensor, xs: Sequence[Tensor], ys: Sequence[Tensor], outputs: Sequence[Tensor],
    a: float, b: float, arg_to_check: int,
) -> None:  # fmt: skip
    """Do what ``accel_multi_tensor_axpby_`` does."""
    table = Table([xs, ys, outputs], noop_flag.device)
    check = 3 if arg_to_check < 0 else 1 << arg_to_check
    table.launch(work_kernel, noop_flag, noop_flag, a, b, 0.0, TYPES=("X", "Y", "OUT"),
                 CHECK=check, CLIP=False, KEEP=False)  # fmt: skip


def multi_tensor_clip_(
    tensors: Sequence[Tensor], max_norm: float, keep_nonfinite: bool, norm: Tensor,
    sums: Tensor | None,
) -> None:  # fmt: skip
    """Do what ``accel_multi_tensor_clip_`` does."""
    device = tensors[0].device
    table = Table([tensors], device)
    _add_all(table, _room(sums, table, device), norm, norm, None, noop_flag=None)
    table.launch(work_kernel, norm, norm, 0.0, 0.0, max_norm, TYPES=("X", "OUT"), Y=-1, CHECK=0,
                 CLIP=True, KEEP=keep_nonfinite)  # fmt: skip


def _room(sums: Tensor | None, table: Table, device: torch.device) -> Tensor:
    """Return memory for sums; in the interpreter, where the op passes none, new memory."""
    if sums is not None:
        return sums
    return torch.empty((table.chunks + table.count,), dtype=torch.float64, device=device)
