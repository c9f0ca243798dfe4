"""The installed release of another framework, and whether it is one that works."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version


def require(package: str, first: tuple[int, int], end: tuple[int, int]) -> None:
    """Check that a release of `package` is installed that is known to work. Imports nothing of it.

    Args:
        package: name of the distribution.
        first: the oldest release that works, as two numbers.
        end: the first release after it that is not known to work.

    Raises:
        ImportError: there is none, or another release.
    """
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
