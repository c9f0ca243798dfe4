"""Checks of kernels over lists that any device's can be put through: norms, bits, flags."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from list_cases import TYPES, exact_norm, flag, mixed, rungs, same_bits, within_a_step
from torch import Tensor


class ListChecks:
    """Checks of `op`, a fixture of the subclass's module.

    Attributes:
        many: numbers of elements of more tensors than one launch takes.
    """

    many: tuple[int, ...] = ()

    def given(self, few: bool) -> list[Tensor]:
        """Return the tensors of a check."""
        return mixed(2) if few else mixed(2, self.many)

    @pytest.mark.parametrize("few", [True, False], ids=["few", "many"])
    def test_norms(self, op: Any, few: bool) -> None:
        tensors = self.given(few)
        noop = flag()
        total, each = op.multi_tensor_l2norm(1, noop, [tensors], True)
        assert within_a_step(total, exact_norm(tensors)) and noop.item() == 0
        assert all(within_a_step(each[at], exact_norm([one])) for at, one in enumerate(tensors))
        by = torch.tensor([-0.5], dtype=torch.float32)
        assert torch.equal(op.multi_tensor_unscale_l2norm(1, noop, [tensors], by)[0], total / 2)
        noop.fill_(1)
        total, each = op.multi_tensor_l2norm_mp(1, noop, [tensors], True)
        assert not total.any() and not each.any()
        assert op.multi_tensor_l2norm(1, flag(), [[]])[0].tolist() == [0.0]

    @pytest.mark.parametrize("start", [0, 1], ids=["aligned", "unaligned"])
    @pytest.mark.parametrize("few", [True, False], ids=["few", "many"])
    def test_what_is_written_has_the_cpus_bits(self, op: Any, start: int, few: bool) -> None:
        given = self.given(few)[:1500]
        if start:
            given = [torch.cat([one, one])[1 : 1 + one.numel()] for one in given]
        ys = [one.flip(0).to(TYPES[at % 2]) for at, one in enumerate(given)]
        written = []
        for each in (op, rungs()["native"]):
            outputs = [
                torch.zeros_like(one, dtype=TYPES[(at + 1) % 3]) for at, one in enumerate(given)
            ]
            each.multi_tensor_scale(1, flag(), [given, outputs], 0.3)
            scaled = [one.clone() for one in outputs]
            each.multi_tensor_axpby(1, flag(), [outputs, ys, outputs], 0.3, -1.7)
            summed = [one.clone() for one in outputs]
            totals = [each.multi_tensor_clip(outputs, 1e9), each.multi_tensor_clip(outputs, 0.5)]
            written.append((totals, [*scaled, *summed], outputs))
        assert same_bits(written[0][1], written[1][1])
        for one, other in zip(written[0][0], written[1][0], strict=True):
            assert within_a_step(one, other.double())
        for one, other in zip(written[0][2], written[1][2], strict=True):
            eps = torch.finfo(one.dtype).eps
            torch.testing.assert_close(one, other, rtol=2 * eps, atol=1e-7)

    @pytest.mark.parametrize("value", [math.inf, math.nan])
    def test_flags(self, op: Any, value: float) -> None:
        tensors = mixed()
        others = [torch.ones_like(one) for one in tensors]
        tensors[8][-1] = value

        def axpby(noop: Tensor, xs: list[Tensor], ys: list[Tensor], at: int) -> None:
            op.multi_tensor_axpby(1, noop, [xs, ys, others], 1.0, 0.0, at)

        for call, expected in (
            (lambda noop: op.multi_tensor_l2norm(1, noop, [tensors]), 1),
            (lambda noop: op.multi_tensor_l2norm_mp(1, noop, [tensors], True), 1),
            (lambda noop: op.multi_tensor_scale(1, noop, [tensors, others], 0.0), 1),
            (
                lambda noop: op.multi_tensor_axpby(1, noop, [tensors, others, others], 1.0, 0.0, 0),
                1,
            ),
            (
                lambda noop: op.multi_tensor_axpby(
                    1, noop, [tensors, mixed(), others], 1.0, 0.0, 1
                ),
                0,
            ),
        ):
            noop = flag()
            call(noop)
            assert noop.item() == expected
        total, each = op.multi_tensor_l2norm(1, flag(), [tensors], True)
        assert total.isnan().item() == each[8].isnan().item() == math.isnan(value)
        assert not total.isfinite() and each[:8].isfinite().all()
        kept = [one.clone() for one in tensors]
        assert not op.multi_tensor_clip(tensors, 1.0, True).isfinite()
        assert same_bits(tensors, kept)
        op.multi_tensor_clip(tensors, 1.0)
        assert tensors[8].isnan().any() and not same_bits(tensors, kept)
