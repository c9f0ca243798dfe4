"""The installed release of another framework, and whether it is one that works."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

Release = tuple[int, int]

RELEASES: Mapping[str, tuple[Release, Release]] = MappingProxyType(
    {
        "accelerate": ((1, 1), (2, 0)),
        "deepspeed": ((0, 19), (0, 20)),
        "lightning": ((2, 5), (3, 0)),
        "peft": ((0, 21), (1, 0)),
        "ray": ((2, 60), (3, 0)),
        "sentence-transformers": ((6, 2), (7, 0)),
        "transformers": ((5, 24), (6, 0)),
    }
)
"""By distribution: the oldest release that works, and the first one that is not known to work."""


def require(package: str, first: Release | None = None, end: Release | None = None) -> None:
    """Check that a release of `package` is installed that is known to work. Imports nothing of it.

    Args:
        package: name of the distribution.
        first: the oldest release that works, as two numbers; default: that of `RELEASES`.
        end: the first release after it that is not known to work; likewise.

    Raises:
        ImportError: there is none, or another release.
        ValueError: it is not in `RELEASES`, and no releases are given.
    """
    if first is None or end is None:
        if package not in RELEASES:
            raise ValueError(
                f"require({package!r}): accel knows no releases of it. Known: "
                f"{', '.join(RELEASES)}; or give the first one and the one to end before."
            )
        first, end = RELEASES[package]
    wanted = f"{package}>={first[0]}.{first[1]},<{end[0]}.{end[1]}"
    try:
        found = version(package)
    except PackageNotFoundError:
        found = ""
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:2])
    if found and first <= numbers < end:
        return
    state = f"{package} {found} is installed" if found else f"{package} is not installed"
    raise ImportError(f"{state}, and accel works with {wanted}: pip install '{wanted}'.")
