"""Tests of the mixed-precision members."""

from __future__ import annotations

from collections.abc import Callable
from unittest import SkipTest

import torch

from accel.errors import Unsupported
from accel.testing.kit import Conformance, expect, expect_equal, expect_type, on_device


class AmpTests(Conformance):
    """Autocast and gradient scaling."""

    def _low(self) -> torch.dtype:
        """Return a 16-bit dtype of the device; skip the test without one, or without autocast."""
        try:
            self.acc.autocast(enabled=False)
        except Unsupported as error:
            raise SkipTest(str(error)) from error
        if self.acc.is_bf16_supported():
            return torch.bfloat16
        if self.acc.is_fp16_supported() or self.acc.device_type == "cpu":
            return torch.float16 if self.acc.is_fp16_supported() else torch.bfloat16
        raise SkipTest(f"{self.acc.name} computes in no 16-bit dtype.")

    @on_device
    def test_autocast(self) -> None:
        """Products in a block have the requested dtype, by either name, unless disabled."""
        low = self._low()
        ones = torch.ones(4, 4, dtype=torch.float32, device=self.acc.device())
        for scope in (self.acc.autocast(dtype=low), self.acc.amp().autocast(True, low)):
            expect_type(scope, torch.autocast, "autocast()")
            with scope:
                expect_equal((ones @ ones).dtype, low, "the dtype of a product under autocast")
        with self.acc.autocast(dtype=low), self.acc.autocast(enabled=False):
            expect_equal((ones @ ones).dtype, torch.float32, "that under disabled autocast")
        expect_equal((ones @ ones).dtype, torch.float32, "that after autocast")

    @on_device
    def test_autocast_decorates(self) -> None:
        """It decorates functions and, through `amp`, autograd functions."""
        low = self._low()
        amp = self.acc.amp()

        class Half(torch.autograd.Function):
            @staticmethod
            @amp.custom_fwd(cast_inputs=torch.float32)
            def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:
                return x / 2

            @staticmethod
            @amp.custom_bwd
            def backward(ctx: torch.autograd.function.FunctionCtx, g: torch.Tensor) -> torch.Tensor:
                return g / 2

        given = torch.ones(4, 4, dtype=torch.float32, device=self.acc.device()).requires_grad_()

        product: Callable[[], torch.Tensor] = self.acc.autocast(dtype=low)(lambda: given @ given)

        expect_equal(product().dtype, low, "the dtype in a decorated function")
        with self.acc.autocast(dtype=low):
            halved: torch.Tensor = Half.apply(product())  # type: ignore[no-untyped-call]
        expect_equal(halved.dtype, torch.float32, "the dtype of cast inputs")
        torch.autograd.backward(halved.sum())
        found = [] if given.grad is None else given.grad.flatten().tolist()
        expect_equal(found, [4.0] * 16, "a gradient through custom_bwd")

    @on_device
    def test_scaler(self) -> None:
        """It scales a loss, unscales gradients, and skips a step that overflowed."""
        for make in (self.acc.GradScaler, self.acc.amp().GradScaler):
            scaler = make(init_scale=8.0, growth_interval=100)
            expect_type(scaler, torch.amp.GradScaler, f"{make.__qualname__}()")
            weight = torch.ones(3, dtype=torch.float32, device=self.acc.device())
            weight = torch.nn.Parameter(weight)
            optimizer = torch.optim.SGD([weight], lr=1.0)
            for factor, wanted in ((0.5, 0.5), (float("inf"), 0.5)):
                optimizer.zero_grad()
                torch.autograd.backward(scaler.scale((weight * factor).sum()))
                scaler.step(optimizer)
                scaler.update()
                expect_equal(weight.tolist(), [wanted] * 3, f"weights after a gradient of {factor}")
            expect_equal(scaler.get_scale(), 4.0, "the scale after an overflow")
        expect(not self.acc.GradScaler(enabled=False).is_enabled(), "a disabled scaler is enabled.")
