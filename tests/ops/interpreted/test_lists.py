"""Triton kernels of ``multi_tensor`` in Triton's interpreter."""

from __future__ import annotations

import math
import os

import pytest
import torch
from list_cases import TYPES, exact_norm, flag, mixed, same_bits, within_a_step

from accel.ops.frame.triton import TritonKernel
from accel.ops.lists.multi_tensor import MultiTensor


@pytest.fixture(scope="module")
def op() -> MultiTensor:
    """The op by its Triton kernels."""
    assert os.environ["TRITON_INTERPRET"] == "1"
    made = MultiTensor(TritonKernel("accel.ops.lists.triton.multi_tensor"), backend="cpu")
    assert made.implementation == "portable"
    return made


def test_norms(op: MultiTensor) -> None:
    tensors, noop = mixed(2), flag()
    total, each = op.multi_tensor_l2norm(1, noop, [tensors], True)
    assert within_a_step(total, exact_norm(tensors)) and noop.item() == 0
    assert all(within_a_step(each[at], exact_norm([one])) for at, one in enumerate(tensors))
    by = torch.tensor([-0.5], dtype=torch.float32)
    assert torch.equal(op.multi_tensor_unscale_l2norm(1, noop, [tensors], by)[0], total / 2)
    assert not op.multi_tensor_l2norm_mp(1, flag(1), [tensors])[0].any()
    assert op.multi_tensor_l2norm(1, noop, [[]])[0].tolist() == [0.0]
    tensors[8][-1] = math.inf
    op.multi_tensor_l2norm(1, noop, [tensors])
    assert noop.item() == 1


def test_what_is_written(op: MultiTensor) -> None:
    given = mixed(3)
    ys = [one.flip(0).to(TYPES[at % 2]) for at, one in enumerate(given)]
    written = []
    for each in (op, MultiTensor()):
        outputs = [torch.zeros_like(one, dtype=TYPES[(at + 1) % 3]) for at, one in enumerate(given)]
        flags = [flag(), flag()]
        each.multi_tensor_scale(1, flags[0], [given, outputs], 0.3)
        scaled = [one.clone() for one in outputs]
        each.multi_tensor_axpby(1, flags[1], [outputs, ys, outputs], 0.3, -1.7)
        summed = [one.clone() for one in outputs]
        total = each.multi_tensor_clip(outputs, 1e9)
        assert same_bits(outputs, summed)
        each.multi_tensor_clip(outputs, 0.5)
        written.append(([*scaled, *summed, *flags], total, outputs))
    assert same_bits(written[0][0], written[1][0])
    assert within_a_step(written[0][1], written[1][1].double())
    for one, other in zip(written[0][2], written[1][2], strict=True):
        torch.testing.assert_close(one, other, rtol=2 * torch.finfo(one.dtype).eps, atol=1e-7)


def test_flags(op: MultiTensor) -> None:
    tensors = mixed()
    others = [torch.ones_like(one) for one in tensors]
    tensors[4][0] = math.nan
    for check, lists, expected in (
        (None, [tensors, others], 1),
        (0, [tensors, others, others], 1),
        (1, [tensors, mixed(), others], 0),
        (-1, [mixed(), tensors, others], 1),
    ):
        noop = flag()
        if check is None:
            op.multi_tensor_scale(1, noop, lists, 0.5)
        else:
            op.multi_tensor_axpby(1, noop, lists, 0.5, 0.5, check)
        assert noop.item() == expected
    kept = [one.clone() for one in tensors]
    assert op.multi_tensor_clip(tensors, 1.0, True).isnan() and same_bits(tensors, kept)
