"""`CPUAdam` for parameters on a device, under the user's defaults; in a process of its own."""

from __future__ import annotations

import pytest
import torch
from late_training import assert_same, late_accelerator, parameters, train

from accel.optim import CPUAdam

__all__ = ["late_accelerator"]


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float16, torch.float64, "sim", "meta"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_bits_under_any_default(default: torch.dtype | str, dtype: torch.dtype) -> None:
    there, here = parameters("sim", dtype), parameters("cpu", dtype)
    train(here, CPUAdam(here, lr=1e-2, master_dtype=torch.float32), 20)
    gradients = torch.get_default_dtype()
    away = CPUAdam(there, lr=1e-2)
    for step in range(20):
        # Gradients are drawn under torch's own defaults, the step is made under the user's.
        for index, param in enumerate(there):
            param.grad = drawn(step, index, there).to(param.device).to(param.dtype)
        try:
            if isinstance(default, str):
                torch.set_default_device(default)
            else:
                torch.set_default_dtype(default)
            away.step()
        finally:
            torch.set_default_device(None)
            torch.set_default_dtype(gradients)
    assert_same(there, here)
    assert all(away.state[param]["step"].dtype == torch.float32 for param in there)


@pytest.mark.parametrize("rung", ["auto", "reference"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_buckets_draw_the_random_bits_of_whole_tensors(
    dtype: torch.dtype, rung: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCEL_OPS", rung)
    options = {"lr": 1e-2, "state_dtype": torch.bfloat16, "rounding": "stochastic", "seed": 5}
    there, here = parameters("sim", dtype), parameters("cpu", dtype)
    # One on the host between them, which is stepped apart from the rest.
    there[3] = torch.nn.Parameter(there[3].detach().cpu())
    away = CPUAdam(there, master_dtype=torch.float32, **options)
    home = CPUAdam(here, master_dtype=torch.float32, **options)
    train(there, away, 3)
    train(here, home, 3)
    assert_same(there, here)
    for left, right in zip(there, here, strict=True):
        for key in ("exp_avg", "exp_avg_sq", "master"):
            assert torch.equal(away.state[left][key], home.state[right][key])


@pytest.mark.parametrize("key", ["exp_avg", "exp_avg_sq", "master"])
def test_a_state_that_does_not_fit_is_refused(key: str) -> None:
    there = parameters("sim", torch.float32)
    optimizer = CPUAdam(there)
    train(there, optimizer, 1)
    before = [param.detach().cpu() for param in there]
    whole = optimizer.state[there[0]][key]
    for wrong, message in ((whole[:1].clone(), "has shape"), (freed(whole.clone()), "needs")):
        optimizer.state[there[0]][key] = wrong
        with pytest.raises(ValueError, match=rf"\['{key}'\] {message}"):
            train(there, optimizer, 1)
        for param, old in zip(there, before, strict=True):
            assert torch.equal(param.detach().cpu(), old)


def freed(tensor: torch.Tensor) -> torch.Tensor:
    tensor.untyped_storage().resize_(0)
    return tensor


def drawn(step: int, index: int, params: list[torch.nn.Parameter]) -> torch.Tensor:
    """Return the gradient that `train` gives a parameter at a step."""
    make = torch.Generator().manual_seed(step)
    grads = [torch.randn(param.shape, generator=make) * 2 for param in params]
    return grads[index]
