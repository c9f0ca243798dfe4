"""SYCL kernels over lists on the SYCL CPU device."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from list_cases import TYPES, exact_norm, flag, mixed, rungs, same_bits, within_a_step
from list_checks import ListChecks
from sycl_device import SyclDevice
from torch import Tensor

pytestmark = pytest.mark.xpu
MANY = (7, 0, 8192, 8193, 1) * 60
F32 = torch.float32


@pytest.fixture(scope="module")
def op(sycl_device: SyclDevice) -> Any:
    return sycl_device.op("multi_tensor")


def norm_of(op: Any, tensors: list[Tensor]) -> tuple[Tensor, Tensor]:
    total, each = op.multi_tensor_l2norm(1, flag(), [tensors], True)
    return total, each


class TestKernels(ListChecks):
    """The checks of every device."""

    many = MANY

    def test_the_kernels_are_used(self, op: Any) -> None:
        assert op.implementation == "jit"


@pytest.mark.parametrize("size", [1e-45, 1e-42, 1e-38, 1e-20, 1.0, 1e19, 1e30, 3e38])
def test_norms_of_every_size(op: Any, size: float) -> None:
    """Squares leave float32's range; a norm itself may."""
    x = torch.rand(20_000, generator=torch.Generator().manual_seed(1)) * size
    few = x[:3].clone()
    for one in (few, few.sign() * 0, torch.full((8192,), size), x):
        total, _ = norm_of(op, [one])
        exact = exact_norm([one])
        assert within_a_step(total, exact) or (float(exact) > 3.4e38 and total.isinf().all())


def test_small_numbers_beside_large_ones(op: Any) -> None:
    """Many small ones add up to as much as a few large ones, in a chunk and among chunks."""
    for small, large in ((1e-3, 1.0), (2.0**-12, 1.0), (1e-6, 1e3), (1e-30, 1.0)):
        x = torch.full((8192 * 30,), small, dtype=F32)
        x[::8192] = large
        x[: 8192 * 7] = large
        assert within_a_step(norm_of(op, [x, x[:9000]])[0], exact_norm([x, x[:9000]]))


def test_many_small_norms_beside_a_large_one(op: Any) -> None:
    """Each of them is below what a sum of 32 bits would keep."""
    tensors = [torch.full((1,), 2.0**-15.6) for _ in range(4096)]
    tensors[100].fill_(1.0)
    assert within_a_step(norm_of(op, tensors)[0], exact_norm(tensors))


def test_nearly_all_norms_are_the_nearest_floats(op: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    tensors = [torch.randn(3, generator=generator) for _ in range(400)]
    _, each = norm_of(op, tensors)
    exact = torch.stack([exact_norm([one]) for one in tensors])
    assert int((each != exact.float()).sum()) <= 8


def test_scales_of_every_size(op: Any) -> None:
    tensors = mixed(4)
    exact = exact_norm(tensors)
    for by in (3.0, -1e-30, 1e-40, 1e36, 7e-45):
        scale = torch.tensor([by], dtype=F32)
        total, _ = op.multi_tensor_unscale_l2norm(1, flag(), [tensors], scale)
        assert within_a_step(total, exact * scale.double().abs())
    for by in (0.0, math.inf, math.nan, 3e38):
        noop = flag()
        scale = torch.tensor([by], dtype=F32)
        total, _ = op.multi_tensor_unscale_l2norm(1, noop, [tensors], scale)
        assert total.nan_to_num(7.0).item() == (exact * abs(by)).float().nan_to_num(7.0).item()
        assert noop.item() == (by != 0.0)


def test_sums_depend_on_neither_order_nor_place(op: Any) -> None:
    tensors = mixed(5)
    total, each = norm_of(op, tensors)
    assert all(map(torch.equal, norm_of(op, tensors), (total, each)))
    moved = [torch.cat([one[:1], one])[1:] for one in tensors]
    assert all(map(torch.equal, norm_of(op, moved), (total, each)))
    turned = [one.flip(0) for one in tensors if one.numel() <= 8192]
    straight = [one for one in tensors if one.numel() <= 8192]
    assert all(map(torch.equal, norm_of(op, turned), norm_of(op, straight)))
    assert torch.equal(norm_of(op, tensors[::-1])[0], total)


def test_large_tensors_are_launched_in_parts(sycl_device: SyclDevice, op: Any) -> None:
    parted = sycl_device.op("multi_tensor", "-DACCEL_MOST_CHUNKS=2")
    given = mixed(6, [5 * 8192 + 3, 9, 2 * 8192, 3 * 8192, 7 * 8192] * 5)
    assert all(map(torch.equal, norm_of(parted, given), norm_of(op, given)))
    written = []
    for each in (parted, op):
        outputs = [torch.zeros_like(one, dtype=TYPES[at % 2]) for at, one in enumerate(given)]
        each.multi_tensor_axpby(1, flag(), [given, given, outputs], 0.3, -1.7)
        each.multi_tensor_clip(outputs, 0.5)
        written.append(outputs)
    assert same_bits(*written)


@pytest.mark.parametrize("norm", [1e-30, 1e-6, 0.3, 7.0, 1e10, 3e38])
def test_the_clipping_factor_is_that_of_doubles(op: Any, norm: float) -> None:
    """Where norms agree, so do the bits of what is clipped."""
    native = rungs()["native"]
    for bound in (0.0, norm / 3, norm * 0.999999, norm, 1e-40, 0.1, 1e39, math.inf, -2.0, math.nan):
        left, right = ([torch.tensor([norm, 0.0, 1e-3 * norm])] for _ in range(2))
        assert torch.equal(
            op.multi_tensor_clip(left, bound), native.multi_tensor_clip(right, bound)
        )
        assert same_bits(left, right), bound
