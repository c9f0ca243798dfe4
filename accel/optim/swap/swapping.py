"""`Swapping`: the part of an optimizer that keeps its states in files, if it is asked to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from accel.errors import Unsupported
from accel.ops.io.buffers import check_int
from accel.optim.base import KernelOptimizer
from accel.optim.step_cache import PreparedGroup

if TYPE_CHECKING:
    from accel.optim.swap.store import Store

Group = dict[str, Any]
SWAP_MEMORY = 1 << 28
"""The default limit of buffers, in bytes."""


class Swapping(KernelOptimizer):
    """An optimizer of parameters on the host whose states can be in files."""

    store: Store | None = None
    """The files; ``None``: the states are in memory."""

    def swap_to(self, swap_dir: Any, swap_memory: int, swap_keep: bool) -> None:
        """Keep the states in files from now on; the constructor's arguments, described there."""
        limit = check_int("swap_memory", swap_memory, 1, 2**63 - 1)
        if swap_dir is None:
            return
        from accel.optim.swap.store import Store

        self.store = Store(swap_dir, limit, keep=bool(swap_keep))
        self.streams = True

    def close(self) -> None:
        """Remove the files of the states, or finish them if they are to stay; once.

        The optimizer cannot step afterwards. Without `swap_dir` there is nothing to close.
        """
        if self.store is not None:
            self._forget()
            self.store.close()
            self.state.clear()

    def prepare(self, group: Group, grads: Sequence[Tensor | None]) -> PreparedGroup:
        """Return the prepared group for its next steps; raises if a tensor cannot be stepped."""
        if self.store is None:
            return super().prepare(group, grads)
        from accel.optim.swap.group import SwappedGroup

        return SwappedGroup(self.store, self, group, grads)

    def step_groups(self) -> None:
        """Do one step on every parameter that has a gradient, with the prepared groups."""
        if self.store is None:
            super().step_groups()
            return
        self.store.check()
        try:
            super().step_groups()
            self.store.flush(self)
        finally:
            self.store.drop()

    def state_dict(self) -> dict[str, Any]:
        """Return the state; if it is in files, its tensors are these files' memory, not copies."""
        if self.store is not None:
            self.store.check()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, as `KernelOptimizer` does; states in files are copied there."""
        if self.store is not None:
            self.store.check()
        super().load_state_dict(state_dict)
        if self.store is not None:
            self._place_states(self.store)

    @torch.no_grad()
    def _place_states(self, store: Store) -> None:
        from accel.optim.swap.placing import settle

        with torch.inference_mode(False):
            for index, group in enumerate(self.param_groups):
                keys = {*self.state_keys(group)}
                places = [
                    at
                    for at, param in enumerate(group["params"])
                    if not keys.isdisjoint(self.state.get(param, ()))
                ]
                params = [group["params"][at] for at in places]
                settle(store, self, index, params, places)
                for param in params:
                    # Two optimizers must not count in the same tensor.
                    self.state[param]["step"] = self.state[param]["step"].clone()
            with store.changing(self):
                pass

    def __getstate__(self) -> dict[str, Any]:
        """Return everything that a copy needs; raises `Unsupported` for states in files."""
        if self.store is not None:
            raise Unsupported(
                f"{type(self).__name__}: an optimizer with swap_dir cannot be copied or pickled, "
                f"since its files are its own; make another, and load this one's state_dict()."
            )
        return super().__getstate__()
