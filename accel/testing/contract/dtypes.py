"""Tests of the dtype members and the tensor factories."""

from __future__ import annotations

import torch

from accel.testing.kit import (
    Conformance,
    expect,
    expect_equal,
    expect_raises,
    expect_type,
    on_device,
)

_FACTORIES = {
    "BFloat16Tensor": torch.bfloat16,
    "ByteTensor": torch.uint8,
    "DoubleTensor": torch.float64,
    "FloatTensor": torch.float32,
    "HalfTensor": torch.float16,
    "IntTensor": torch.int32,
    "LongTensor": torch.int64,
}


class DtypeTests(Conformance):
    """Supported dtypes and tensor factories."""

    @on_device
    def test_supported_dtypes(self) -> None:
        """They begin with float32 and agree with the predicates."""
        found = self.acc.supported_dtypes()
        expect_type(found, list, "supported_dtypes()")
        expect(found and found[0] == torch.float32, f"supported_dtypes() is {found}.")
        expect_equal(torch.bfloat16 in found, self.acc.is_bf16_supported(), "bfloat16 in it")
        expect_equal(torch.float16 in found, self.acc.is_fp16_supported(), "float16 in it")

    @on_device
    def test_float64_is_float64(self) -> None:
        """If it is supported, it distinguishes numbers that are equal in float32."""
        if not self.acc.is_fp64_supported():
            return
        near = torch.full((4,), 1 + 2.0**-40, dtype=torch.float64, device=self.acc.device())
        found = (near * near - 1).cpu()
        expect_equal(found.dtype, torch.float64, "the dtype of a float64 product")
        exact = torch.full((4,), 2.0**-39, dtype=torch.float64, device="cpu")
        expect(torch.allclose(found, exact, rtol=1e-6, atol=0), f"float64 computes {found[0]}.")

    @on_device
    def test_supported_dtypes_compute(self) -> None:
        """A linear layer runs forward and backward in each, close to float64 on the host."""
        generator = torch.Generator().manual_seed(3)
        exact = torch.randn(16, 16, generator=generator, dtype=torch.float64, device="cpu") / 4
        wanted = exact @ exact
        for dtype in self.acc.supported_dtypes():
            given = exact.to(self.acc.device(), dtype).requires_grad_()
            found = torch.nn.functional.linear(given, given.detach().T)
            torch.autograd.backward(found.sum())
            worst = float((found.detach().cpu().double() - wanted).abs().max())
            bound = 40 * torch.finfo(dtype).eps
            expect(worst < bound, f"a product in {dtype} is off by {worst}, more than {bound}.")
            expect(given.grad is not None, f"no gradient in {dtype}.")

    @on_device
    def test_tensor_factories(self) -> None:
        """Whole numbers are a shape, one sequence is values; dtype and device are right."""
        for member, dtype in _FACTORIES.items():
            if dtype == torch.float64 and not self._has_double():
                continue
            factory = getattr(self.acc, member)
            empty, shaped, valued = factory(), factory(2, 3), factory([1, 2, 3])
            expect_equal(tuple(empty.shape), (0,), f"the shape of {member}()")
            expect_equal(tuple(shaped.shape), (2, 3), f"the shape of {member}(2, 3)")
            expect_equal(tuple(factory(torch.Size([4])).shape), (4,), f"{member}(Size([4]))'s")
            expect_equal(valued.cpu().tolist(), [1, 2, 3], f"the values of {member}([1, 2, 3])")
            for made in (empty, shaped, valued):
                expect_equal(made.dtype, dtype, f"the dtype of {member}")
                expect(self.acc.on_accelerator(made), f"{member} makes tensors on {made.device}.")
            expect_raises((TypeError, RuntimeError), lambda make=factory: make("a", 2), member)  # type: ignore[misc]

    def _has_double(self) -> bool:
        try:
            torch.ones(1, dtype=torch.float64, device=self.acc.device())
        except (RuntimeError, TypeError):
            return False
        return True
