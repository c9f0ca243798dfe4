"""Every engine in turn."""

from __future__ import annotations

import pytest
from io_cases import ENGINES, missing, op_of

from accel.ops.io.async_io import AsyncIO


@pytest.fixture(params=ENGINES)
def io(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIO:
    reason = missing(request.param)
    if reason:
        pytest.skip(reason)
    return op_of(request.param, monkeypatch)
