"""The answer to "can this be used here?": `Accepted` or `Rejected`, never an exception."""

from __future__ import annotations

from typing import Literal

from accel.record import Record


class Accepted(Record):
    """Yes. `note` is a remark for people, ``""`` if there is nothing to add."""

    note: str = ""

    def __bool__(self) -> Literal[True]:
        """Return ``True``."""
        return True


class Rejected(Record):
    """No. `reason` is the finding, `fix` a remedy, ``""`` if nothing helps."""

    reason: str
    fix: str = ""

    def __bool__(self) -> Literal[False]:
        """Return ``False``."""
        return False

    def __str__(self) -> str:
        """Return reason and fix as one text."""
        return f"{self.reason} {self.fix}".rstrip()


Probe = Accepted | Rejected

FAILURES = (Exception, SystemExit)
"""Exceptions that a plugin may raise; some vendors' packages even exit the process."""
