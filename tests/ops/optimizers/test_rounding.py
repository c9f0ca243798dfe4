"""Into 16 bits and back: exact to nearest, unbiased and reproducible when stochastic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from accel.ops.optimizers.adam import FusedAdam
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.random_keys import random_key
from accel.ops.optimizers.reference.adam import ADAM_ADAMW, AdamHyper
from accel.ops.rounding import random_bits

HALVES = [torch.bfloat16, torch.float16]


def through(
    op: FusedAdam, values: Tensor, dtype: torch.dtype, rounding: str, seed: int = 0
) -> Tensor:
    """Let the kernel round `values` into a parameter, as a step that changes nothing else."""
    param = torch.zeros(values.shape, dtype=dtype)
    zeros = torch.zeros_like(values)
    lists = TensorLists({"params": [param], "grads": [zeros], "exp_avgs": [zeros.clone()],
                         "exp_avg_sqs": [zeros.clone()], "masters": [values.clone()]})  # fmt: skip
    hyper = AdamHyper(lr=0.0, weight_decay=0.0, beta1=0.9, beta2=0.9, eps=1.0, rounding=rounding,
                      seed=seed, flags=ADAM_ADAMW)  # fmt: skip
    op.kernel.run(lists, hyper)
    return param


def patterns() -> Tensor:
    """Every sign, exponent and high mantissa, with low bits on and around each tie."""
    high = torch.arange(-(2**15), 2**15, dtype=torch.int32) << 16
    low = torch.tensor(
        [0, 1, 0x0FFF, 0x1000, 0x1001, 0x2000, 0x3000, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
    )
    return (high[:, None] + low.to(torch.int32)).reshape(-1).view(torch.float32)


@pytest.mark.parametrize("dtype", HALVES)
def test_nearest_is_torchs(simd_adam: FusedAdam, dtype: torch.dtype) -> None:
    values = patterns()
    found, expected = through(simd_adam, values, dtype, "nearest"), values.to(dtype)
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("dtype", HALVES)
def test_every_half_is_read_exactly(simd_adam: FusedAdam, dtype: torch.dtype) -> None:
    """A first moment of half the gradient shows what the kernel read."""
    grads = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    moments = torch.zeros(grads.shape)
    zeros = torch.zeros(grads.shape)
    simd_adam.multi_tensor_adam(1, None, [[grads], [zeros], [moments], [zeros.clone()]],
                                0.0, 0.0, 0.5, 1.0, 1, 1, False, 0.0)  # fmt: skip
    finite = grads.isfinite()
    assert torch.equal(moments.isfinite(), finite)
    assert torch.equal(moments[finite], grads.float()[finite])


@pytest.mark.parametrize("dtype", HALVES)
def test_stochastic_is_the_same_everywhere(simd_adam: FusedAdam, dtype: torch.dtype) -> None:
    values = patterns()
    ours = through(simd_adam, values, dtype, "stochastic", seed=2**63 + 11)
    reference = through(FusedAdam(), values, dtype, "stochastic", seed=2**63 + 11)
    assert torch.equal(ours.isnan(), reference.isnan())
    assert torch.equal(ours.nan_to_num(), reference.nan_to_num())
    other = through(simd_adam, values, dtype, "stochastic", seed=12)
    assert not torch.equal(ours.nan_to_num(), other.nan_to_num())


@pytest.mark.parametrize("seed", [0, 1, 2**63 + 11, 2**64 - 1])
def test_a_key_is_the_same_whoever_knows_the_step(seed: int) -> None:
    for step in (1, 7, 2**24):
        for tensor, stream in ((0, 0), (3, 2), (2**20, 3)):
            key = random_key(seed, step, tensor, stream)
            on_device = random_key(seed, torch.tensor(float(step)).double(), tensor, stream)
            assert int(on_device) & (2**64 - 1) == key
            elements = torch.tensor([0, 1, 2**31, 2**32 + 5, 2**40])
            assert torch.equal(random_bits(on_device, elements), random_bits(key, elements))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("value", [1.0001, -3.3, 1e-3, 3e-6, -2.1e-7])
def test_stochastic_is_unbiased(fused_adam: FusedAdam, dtype: torch.dtype, value: float) -> None:
    count = 1_000_000
    rounded = through(fused_adam, torch.full((count,), value), dtype, "stochastic", seed=5).double()
    exact = float(torch.tensor(value))
    low, high = rounded.min().item(), rounded.max().item()
    assert low <= exact <= high
    neighbours = torch.unique(rounded)
    assert len(neighbours) <= 2
    spread = (high - low) * (0.25 / count) ** 0.5
    assert abs(rounded.mean().item() - exact) <= 5 * spread + abs(exact) * 2.0**-22


def test_stochastic_elements_are_independent(fused_adam: FusedAdam) -> None:
    ups = through(fused_adam, torch.full((2**16,), 1.0 + 2.0**-8), torch.bfloat16, "stochastic") > 1
    ups = ups.double() - 0.5
    for lag in (1, 2, 16, 1024, 2048):
        assert abs((ups[:-lag] * ups[lag:]).mean()) < 5 * 0.25 / (2**16) ** 0.5
