"""Optimizers that callers identify by an integer, from create to destroy, in this process."""

from __future__ import annotations

import threading
from typing import Any, Generic, TypeVar

from accel.ops.checks import shown

Config = TypeVar("Config")


class OptimizerIds(Generic[Config]):
    """A thread-safe table of the optimizers' configurations.

    Args:
        kind: the stem of the functions' names, for messages: ``"adam"``.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._known: dict[int, Config] = {}
        self._lock = threading.Lock()

    def create(self, optimizer_id: Any, config: Config) -> None:
        """Register an id, replacing an earlier one; raises `TypeError` if it is not an int."""
        with self._lock:
            self._known[_checked(optimizer_id)] = config

    def find(self, optimizer_id: Any) -> Config:
        """Return an id's configuration; raises `ValueError` if the id is not known."""
        found = self._known.get(_checked(optimizer_id))
        if found is None:
            raise ValueError(self._unknown(optimizer_id))
        return found

    def destroy(self, optimizer_id: Any) -> None:
        """Forget an id; raises `ValueError` if it is not known."""
        with self._lock:
            if self._known.pop(_checked(optimizer_id), None) is None:
                raise ValueError(self._unknown(optimizer_id))

    def _unknown(self, optimizer_id: int) -> str:
        return (
            f"optimizer_id {optimizer_id} is unknown: it was not passed to create_{self._kind} in "
            f"this process, or it was passed to destroy_{self._kind} since."
        )


def _checked(optimizer_id: Any) -> int:
    if isinstance(optimizer_id, bool) or not isinstance(optimizer_id, int):
        raise TypeError(f"optimizer_id is {shown(optimizer_id)}; expected an int.")
    return optimizer_id
