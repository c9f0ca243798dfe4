"""Fixtures of the numerics tests: native ops, and every SIMD level in turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


@pytest.fixture(params=["native", "reference"])
def op(request: pytest.FixtureRequest, ops: dict[str, Any]) -> Any:
    """Each rung of the loaded op that a test file's fixture `ops` has, by the rung's name."""
    return ops[request.param]


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, ops: dict[str, Any]) -> Iterator[Any]:
    """The native op of the fixture `ops` with each SIMD level forced in turn."""
    native = ops["native"]
    libraries = (getattr(one, "_library", None) for one in vars(native).values())
    with forced(next(filter(None, libraries)), request.param):
        yield native


@pytest.fixture(params=LEVELS)
def simd_adam(request: pytest.FixtureRequest, fused_adam: FusedAdam) -> Iterator[FusedAdam]:
    """`FusedAdam` with each SIMD level of this processor forced in turn."""
    with forced(fused_adam.kernel.native, request.param):
        yield fused_adam


@contextmanager
def forced(library: Any, level: str) -> Iterator[None]:
    """Hold a library to one SIMD level; skips if the processor or the build lacks it."""
    if level not in library.simd_levels():
        pytest.skip(f"this processor or build has no {level}")
    best = library.simd_level()
    library.force_simd(level)
    assert library.simd_level() == level
    yield
    library.force_simd(best)
