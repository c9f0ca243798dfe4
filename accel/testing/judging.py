"""Checks of an op's results: against float64, its inputs, and a second call."""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor

from accel.base import Accelerator
from accel.testing.spec import Case, Lists, OpSpec, dtype_of, laid_out


def problem_of(spec: OpSpec, op: Any, case: Case, acc: Accelerator) -> str:
    """Run a case and return the fault of its results, ``""`` for none."""
    tensors = on_device_of(spec, case, acc)
    given = {name: [one.cpu().double() for one in listed] for name, listed in tensors.items()}
    exact = spec.expected(case, {name: _clones(listed) for name, listed in given.items()})
    spec.call(op, case, tensors)
    acc.synchronize()
    for name in spec.written:
        for at, (found, wanted) in enumerate(zip(tensors[name], exact[name], strict=True)):
            problem = _distance(found, wanted, spec.scale(case, given, exact, name, at), spec.slack)
            if problem:
                return f"{spec.op}: {name}[{at}] {problem}"
    return ""


def _distance(found: Tensor, wanted: Tensor, scale: Tensor, slack: float) -> str:
    """Return a description of the error of `found` if it is more than `slack` roundings."""
    if found.shape != wanted.shape:
        return f"has the shape {tuple(found.shape)}, expected {tuple(wanted.shape)}."
    values = found.cpu().double()
    if not found.is_floating_point():
        bound = slack * scale
        wrong = (values - wanted).abs() > bound
        return _told(values, wanted, bound, wrong)
    info = torch.finfo(found.dtype)
    # Beyond the dtype's range the right answer is infinity, and near it either.
    wanted = torch.where(wanted.abs() > info.max, wanted.sign() * torch.inf, wanted)
    same = (values == wanted) | (values.isnan() & wanted.isnan())
    bound = slack * info.eps * scale + info.smallest_normal * info.eps * slack + info.tiny
    return _told(values, wanted, bound, ~(same | ((values - wanted).abs() <= bound)))


def _told(values: Tensor, wanted: Tensor, bound: Tensor, wrong: Tensor) -> str:
    if not bool(wrong.any()):
        return ""
    first = tuple(int(part) for part in wrong.nonzero()[0])
    value, exact, most = (float(one[first]) for one in (values, wanted, bound))
    return f"at {first} is {value!r}, exactly {exact!r}: off by more than {most:.3g}."


def on_device_of(spec: OpSpec, case: Case, acc: Accelerator) -> Lists:
    """Return a case's tensors, on the accelerator, or on the host for an op of the host."""
    generator = torch.Generator().manual_seed(int(case.get("seed", 0)))
    device = torch.device("cpu") if spec.on_host else acc.device()
    layout = case.get("layout", "contiguous")
    return {
        name: [laid_out(one.to(device, dtype_of(case, name)), layout) for one in listed]
        for name, listed in spec.given(case, generator).items()
    }


def inputs_left_alone(spec: OpSpec, op: Any, case: Case, acc: Accelerator) -> str:
    """Run a case and return an error if it changed a list that it must not, else ``""``."""
    tensors = on_device_of(spec, case, acc)
    before = copies(tensors)
    spec.call(op, case, tensors)
    acc.synchronize()
    kept = [name for name in tensors if name not in spec.written]
    return "" if same_bits(before, tensors, kept) else f"{spec.op} changed one of {kept}."


def results_repeat(spec: OpSpec, op: Any, case: Case, acc: Accelerator) -> str:
    """Run a case twice and return an error if bits differ, else ``""``."""
    first, second = (on_device_of(spec, case, acc) for _ in range(2))
    for tensors in (first, second):
        spec.call(op, case, tensors)
    acc.synchronize()
    return "" if same_bits(first, second, spec.written) else f"{spec.op} gives other bits twice."


def right_or_refused(spec: OpSpec, op: Any, case: Case, acc: Accelerator) -> str:
    """Run a case that may be refused, and return the fault, ``""`` for none."""
    tensors = on_device_of(spec, case, acc)
    before = copies(tensors)
    try:
        spec.call(copy(op), case, tensors)
    except (TypeError, ValueError):
        same = same_bits(before, tensors, [*before])
        return "" if same else f"{spec.op} refused a layout after something was written."
    return problem_of(spec, op, case, acc)


def _clones(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def copies(tensors: Lists) -> Lists:
    """Return copies of lists."""
    return {name: _clones(listed) for name, listed in tensors.items()}


def same_bits(left: Lists, right: Lists, names: Any) -> bool:
    """Return whether lists hold the same bits; a NaN equals itself."""
    return all(
        torch.equal(one.nan_to_num(), two.nan_to_num()) and torch.equal(one.isnan(), two.isnan())
        for name in names
        for one, two in zip(left[name], right[name], strict=True)
    )
