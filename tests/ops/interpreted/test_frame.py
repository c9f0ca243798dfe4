"""The portable rung of a declared op in Triton's interpreter."""

from __future__ import annotations

import torch
from frame_ops.layers import SiluMul

from accel.ops.frame.triton import TritonKernel


def test_results_and_gradients_are_pytorchs() -> None:
    op = SiluMul(TritonKernel("frame_ops.triton.silu_mul"), backend="cpu")
    assert op.implementation == "portable"
    gate, up = (torch.randn(300, requires_grad=True) for _ in range(2))
    for call in (op, torch.ops.frame_ops.silu_mul):
        result = call(gate, up)
        exact = torch.nn.functional.silu(gate) * up
        assert torch.allclose(result, exact, atol=1e-6)
        for one in (gate, up):
            found, wanted = (
                torch.autograd.grad(it.sum(), one, retain_graph=True)[0] for it in (result, exact)
            )
            assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.allclose(op(gate.detach(), up.detach()), exact, atol=1e-6)
