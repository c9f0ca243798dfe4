"""The spec of an op for the op suite: cases, exact results, and calls that must be refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

Case = Mapping[str, Any]
Lists = dict[str, list[Tensor]]


@dataclass(frozen=True)
class BadCall:
    """A call that must be refused before anything is written.

    Attributes:
        what: description of the mistake, for the report.
        argument: the name that the message must contain.
        change: changes the case and the tensors of a good call into the bad one; both are copies,
            and what it returns is not used.
    """

    what: str
    argument: str
    change: Callable[[dict[str, Any], Lists], object]


class OpSpec:
    """The exact meaning of one op. A subclass gives the five members below `written`.

    A case is a mapping of printable values. ``dtype`` names the dtype of all tensors, or
    ``dtypes`` one by each list's name; ``layout`` is ``"contiguous"`` (the default),
    ``"transposed"`` or ``"strided"``; ``seed`` the seed. The rest is the op's own.

    Attributes:
        op: the op's name, such as ``"fused_adam"``.
        on_host: whether it works on host tensors on every accelerator.
        written: the lists that a call changes.
        slack: the largest allowed error, in roundings of a result's dtype.
    """

    op: ClassVar[str] = ""
    on_host: ClassVar[bool] = False
    written: ClassVar[tuple[str, ...]] = ()
    slack: ClassVar[float] = 4.0

    def cases(self) -> Iterable[Case]:
        """Return the cases, hard ones too: empty, one element, odd sizes, extreme numbers."""
        raise NotImplementedError

    def given(self, case: Case, generator: torch.Generator) -> Lists:
        """Return the tensors of a case by list, in float64 on the host."""
        raise NotImplementedError

    def expected(self, case: Case, given: Lists) -> Lists:
        """Return the values of the `written` lists after the call, in float64, by the formula."""
        raise NotImplementedError

    def call(self, op: Any, case: Case, tensors: Lists) -> None:
        """Call the op on device tensors, in place."""
        raise NotImplementedError

    def bad(self) -> Iterable[BadCall]:
        """Return calls that must raise `TypeError` or `ValueError`. Default: none."""
        return ()

    def scale(self, case: Case, given: Lists, expected: Lists, name: str, at: int) -> Tensor:
        """Return the size of the terms of one result, to judge its error.

        Default: the larger of the result and the previous value, element by element.
        """
        return torch.maximum(expected[name][at].abs(), given[name][at].abs())


def dtype_of(case: Case, name: str) -> torch.dtype:
    """Return the dtype that `case` gives the list `name`; default float32."""
    found: torch.dtype = getattr(
        torch, case.get("dtypes", {}).get(name) or case.get("dtype", "float32")
    )
    return found


def laid_out(values: Tensor, layout: str) -> Tensor:
    """Return `values` with another layout in memory; unchanged if they are too small for it."""
    if layout == "transposed" and values.dim() >= 2:
        return values.mT.contiguous().mT
    if layout == "strided" and values.dim() >= 1 and values.numel():
        wide = values.new_zeros(*values.shape[:-1], values.shape[-1] * 2)
        wide[..., ::2] = values
        return wide[..., ::2]
    return values.clone()
