"""Detection of tensors that share memory, to the element."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

LOWEST = -(2**63)
"""The lowest address as a signed 64-bit integer: the upper half of the addresses is negative."""


class Span:
    """A tensor's memory.

    Attributes:
        start: address of its first byte.
        stop: address of the byte after its last.
        written: whether it will be written.
        name: its name in errors.
        tensor: the tensor.
    """

    # Not a `NamedTuple`, whose definition costs more than the rest of this module.
    __slots__ = ("name", "start", "stop", "tensor", "written")

    def __init__(self, start: int, stop: int, written: bool, name: str, tensor: Tensor) -> None:
        self.start = start
        self.stop = stop
        self.written = written
        self.name = name
        self.tensor = tensor


def extent(tensor: Tensor) -> tuple[int, int]:
    """Return the signed addresses of a tensor's first byte and of the byte after its last.

    Both are 0 if it has no elements or no memory of its own.
    """
    start = tensor.data_ptr()
    if start == 0 or tensor.numel() == 0:
        return (0, 0)
    if start >= -LOWEST:
        start += 2 * LOWEST
    return (start, start + reach(tensor) * tensor.element_size())


def reach(tensor: Tensor) -> int:
    """Return the number of elements from a tensor's first to its last in memory."""
    if tensor.is_contiguous():
        return tensor.numel()
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * stride for size, stride in pairs)


def find_conflict(spans: Sequence[Span]) -> tuple[Span, Span] | None:
    """Return two tensors that share an element, at least one of them written; ``None`` if none do.

    Tensors whose elements alternate, such as two columns of one buffer, share nothing.
    """
    found = [
        conflict
        for cluster in _clusters(sorted(spans, key=_order))
        if any(span.written for span in cluster)
        if (conflict := _conflict_within(cluster)) is not None
    ]
    # The first pair in the order of the lists, so that the result does not depend on addresses.
    order = {id(span): place for place, span in enumerate(spans)}
    return min(found, key=lambda conflict: order[id(conflict[0])], default=None)


def _order(span: Span) -> tuple[int, int, bool, str]:
    return span.start, span.stop, span.written, span.name


def _clusters(spans: Sequence[Span]) -> Iterator[list[Span]]:
    """Yield tensors that begin before all earlier ones have ended, if there are several."""
    cluster: list[Span] = []
    end = LOWEST
    for span in spans:
        if span.start >= end:
            if len(cluster) > 1:
                yield cluster
            cluster = []
        cluster.append(span)
        end = max(end, span.stop)
    if len(cluster) > 1:
        yield cluster


def _conflict_within(cluster: Sequence[Span]) -> tuple[Span, Span] | None:
    first = cluster[0].start
    unit = math.gcd(
        *(span.start - first for span in cluster),
        *(span.tensor.element_size() for span in cluster),
    )
    size = (max(span.stop for span in cluster) - first) // unit
    taken = torch.zeros(size, dtype=torch.bool, device="cpu")
    # Read-only tensors may share memory with each other, so they come last.
    for span in sorted(cluster, key=lambda span: not span.written):
        place = _place(taken, span, first, unit)
        if bool(place.any()):
            return span, _owner(span, cluster, taken.zero_(), unit)
        if span.written:
            place.fill_(True)
    return None


def _place(taken: Tensor, span: Span, first: int, unit: int) -> Tensor:
    """Return the marks of a tensor's elements."""
    units = span.tensor.element_size() // unit
    return taken.as_strided(
        (*span.tensor.shape, units),
        (*(stride * units for stride in span.tensor.stride()), 1),
        (span.start - first) // unit,
    )


def _owner(span: Span, cluster: Sequence[Span], taken: Tensor, unit: int) -> Span:
    """Return the written tensor that shares an element with a given one."""
    first = cluster[0].start
    _place(taken, span, first, unit).fill_(True)
    return next(
        other
        for other in cluster
        if other is not span
        and (other.written or span.written)
        and bool(_place(taken, other, first, unit).any())
    )
