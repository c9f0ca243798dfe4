"""Fixtures of the numerics tests: native ops, and every SIMD level in turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from family_cases import CASES, LEVELS, Case
from sycl_device import SyclDevice
from sycl_device import missing as sycl_device_missing

from accel.builders import cpu
from accel.ops.optimizers.adam import CPUAdam, FusedAdam


@pytest.fixture(scope="session")
def fused_adam(session_cache: object) -> FusedAdam:
    op: FusedAdam = cpu.FusedAdamBuilder().jit_load()
    return op


@pytest.fixture(scope="session")
def cpu_adam(session_cache: object) -> CPUAdam:
    op: CPUAdam = cpu.CPUAdamBuilder().jit_load()
    return op


@pytest.fixture(scope="session")
def sycl_device(session_cache: object) -> Iterator[SyclDevice]:
    """The SYCL CPU device; skips where the packages of the extra ``xpu-test`` are absent."""
    reason = sycl_device_missing()
    if reason:
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch:
        yield SyclDevice(patch)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """Every optimizer op in turn."""
    return CASES[request.param]


@pytest.fixture(params=LEVELS)
def simd_adam(request: pytest.FixtureRequest, fused_adam: FusedAdam) -> Iterator[FusedAdam]:
    """`FusedAdam` with each SIMD level of this processor forced in turn."""
    native = fused_adam.kernel.native
    if request.param not in native.simd_levels():
        pytest.skip(f"this processor or build has no {request.param}")
    best = native.simd_level()
    native.force_simd(request.param)
    assert native.simd_level() == request.param
    yield fused_adam
    native.force_simd(best)
