"""Kernels are the same whichever compiler made them: no warning, and the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from compilers import compilers
from family_cases import CASES, LEVELS, Case, assert_like_the_reference


@pytest.fixture(params=compilers())
def made(
    request: pytest.FixtureRequest,
    session_cache: object,
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    monkeypatch.setenv("CXX", request.param)
    return case.builder().jit_load()


def test_no_compiler_warns(case: Case, made: Any) -> None:
    log = Path(made.path).with_name("build.log").read_text()
    assert "warning:" not in log, log


def test_every_compiler_gives_the_same_bits(case: Case, made: Any) -> None:
    native = made.kernel.native
    best = native.simd_level()
    for level in LEVELS:
        if level not in native.simd_levels():
            continue
        native.force_simd(level)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            assert_like_the_reference(case, made, dtype=dtype)
        if case is not CASES["lamb"]:
            hyper = {"rounding": "stochastic", "seed": 77}
            for dtype in (torch.bfloat16, torch.float16):
                assert_like_the_reference(case, made, dtype=dtype, masters=True, hyper=hyper)
    native.force_simd(best)
