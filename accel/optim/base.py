"""`KernelOptimizer`: the base of all optimizers here, with the interface of torch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from accel.ops.optimizers.lists import Hyper
from accel.optim.entries import check_states, moved
from accel.optim.foreign import Loading, fitted
from accel.optim.grad_limit import Group, LastNorm, is_clipping, set_limit
from accel.optim.grad_norm import clip
from accel.optim.hooks import marked_where_watched
from accel.optim.options import scaling
from accel.optim.policy import POLICY_KEYS, Policy, check_policy, keep_policy
from accel.optim.state import add_place, check_complete, complete_state, keep_states
from accel.optim.step_cache import PreparedGroup
from accel.optim.stepped import SteppedOptimizer
from accel.optim.traced import complete_group, traced_step


class KernelOptimizer(SteppedOptimizer):
    """A torch optimizer whose step is one call of a kernel for each group, device and dtype.

    A subclass names its builder and states and turns a group into the kernel's numbers. Steps are
    counted per tensor, as torch does, in float32 scalars on the parameter's device.
    """

    def __init__(
        self, params: Any, defaults: Group, policy: Policy, *, set_grad_none: bool = True
    ) -> None:
        defaults.update(check_policy(policy, seeded=self.always_seeded))
        set_limit(defaults, 0.0)
        self.set_grad_none = bool(set_grad_none)
        self._forget()
        # As in torch, numbers are checked before parameters.
        self.hyper(defaults)
        super().__init__(params, defaults)

    def complete(self, group: Group, param: Tensor) -> Group:
        """Return a parameter's state with everything that its next step needs."""
        self.refuse_pieces([param])
        return complete_state(self, group, param)

    def prepare(self, group: Group, grads: Sequence[Tensor | None]) -> PreparedGroup:
        """Return the prepared group for its next steps; raises if a tensor cannot be stepped."""
        return PreparedGroup(self, group, grads)

    def run(self, prepared: PreparedGroup, hyper: Hyper) -> None:
        """Step a prepared group."""
        prepared.step(hyper)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step on every parameter that has a gradient.

        Every group is checked before any group is stepped. Returns the result of `closure`.

        Raises:
            TypeError: a sparse gradient, or an element type that is not supported.
            ValueError: a number out of range, a gradient that requires grad, tensors that share
                memory. Parameters and state are as before.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if torch.compiler.is_compiling():
            traced_step(self)
        else:
            self.step_groups()
        return loss

    def step_groups(self) -> None:
        """Do one step on every parameter that has a gradient, with the prepared groups."""
        taken: list[PreparedGroup] = []
        try:
            hypers = self._take_all(taken)
            clip(self, hypers)
            for prepared, hyper in zip(taken, hypers, strict=True):
                self.run(prepared, hyper)
                prepared.release()
        finally:
            for prepared in taken:
                prepared.release()

    def _init_group(self, group: Group, index: int, *lists: list[Any]) -> str:
        """Prepare a group for a traced step; torch's compiler calls a method of this name."""
        return complete_group(self, group, index, lists)

    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `step` in torch's hooks and profiler mark; torch calls this once for each class."""
        return marked_where_watched(func)

    def zero_grad(self, set_to_none: bool | None = None) -> None:
        """Clear the gradients: to ``None``, or to zeros if asked here or at construction."""
        super().zero_grad(self.set_grad_none if set_to_none is None else set_to_none)

    def _take_all(self, taken: list[PreparedGroup]) -> list[Hyper]:
        """Take every group's tensors for a step; returns each group's numbers.

        If a group is refused, states are put back as they were.
        """
        check_states(self.state)
        hypers: list[Hyper] = []
        undo: list[Callable[[], None]] = []
        scaled = scaling(self)
        group: Group = {}
        self.clips = is_clipping(self)
        try:
            for group in self.param_groups:
                hypers.append(self._take(len(hypers), group, scaled, taken, undo))
        except BaseException as error:
            for put_back in undo:
                put_back()
            place = f"param_groups[{len(hypers)}]"
            if isinstance(error, KeyError):
                check_complete(group, ("params", *self.defaults), place)
            if isinstance(error, TypeError | ValueError):
                add_place(error, place)
            raise
        return hypers

    def _take(
        self,
        index: int,
        group: Group,
        scaled: tuple[Tensor | None, Tensor | None],
        taken: list[PreparedGroup],
        undo: list[Callable[[], None]],
    ) -> Hyper:
        """Take a group's tensors for a step; returns its numbers."""
        hyper = self.judge(index, group)
        hyper.grad_scale, hyper.found_inf = scaled
        self._set_rounding(index, group, hyper)
        prepared = self._prepared.get(index)
        if prepared is None or not prepared.take(self, group):
            undo.append(keep_states(self, group["params"]))
            prepared = self.prepare(group, [param.grad for param in group["params"]])
            self._prepared[index] = prepared
        taken.append(prepared)
        self.adjust(group, prepared, hyper)
        return hyper

    def _forget(self) -> None:
        """Discard all prepared groups and checks."""
        self._prepared: dict[int, PreparedGroup] = {}
        self._judged: dict[int, tuple[Any, ...]] = {}
        self.last_norm = LastNorm()

    def add_param_group(self, param_group: Group) -> None:
        """Add a group, checked as the constructor checks; see `torch.optim.Optimizer`."""
        super().add_param_group(param_group)
        self.clips = is_clipping(self)
        try:
            self.refuse_pieces(self.param_groups[-1]["params"])
            self._settle(self.param_groups[-1])
        except Exception:
            self.param_groups.pop()
            raise

    def _settle(self, group: Group) -> None:
        """Fill in the entries that a group from elsewhere lacks, and check it."""
        for key, value in self.defaults.items():
            group.setdefault(key, value)
        self._check_torch_options(group)
        group.update(check_policy(group, seeded=self.always_seeded))
        set_limit(group)
        self.hyper(group)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """True if a `GradScaler` leaves unscaling and skipping to `step`, as with `fused`.

        As in torch, only `fused` decides this: frameworks that clip gradients refuse such an
        optimizer.
        """
        return bool(self.defaults.get("fused"))

    def __getstate__(self) -> dict[str, Any]:
        """Return everything that a copy needs; torch's own method leaves out attributes."""
        return {**super().__getstate__(), "set_grad_none": self.set_grad_none}

    def state_dict(self) -> dict[str, Any]:
        """Return the state; its groups have plain values, even if a user has put in a dtype."""
        for group in self.param_groups:
            group.update(check_policy(group, seeded=self.always_seeded))
        return super().state_dict()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled or loaded state, and the attributes that are derived from it."""
        self.set_grad_none = getattr(self, "set_grad_none", True)
        super().__setstate__(state)
        set_limit(self.defaults, 0.0)
        self._forget()
        loading = self.__dict__.pop("_loading", None)
        for index, group in enumerate(self.param_groups):
            if loading is not None:
                keep_policy(group, loading.policies[index])
            self._settle(group)
        if loading is not None:
            for key, value in loading.states(self.param_groups):
                self.state[key] = moved(value, key, self.home)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this class, of torch's class of that name, or of one with the same keys.

        States keep their own precision, whatever the parameter's: a bfloat16 parameter's float32
        moments stay float32. This optimizer keeps its precision policy, but takes the loaded seed.
        As in torch's optimizers, tensors that need no conversion are used themselves, not copied.

        Raises:
            ValueError: the state is another optimizer's and means something else here, or an entry
                is incomplete. Nothing has been changed.
        """
        policies = [{key: group[key] for key in POLICY_KEYS} for group in self.param_groups]

        # torch would cast every state to its parameter's type and device, so it gets none.
        def keep(_: torch.optim.Optimizer, given: dict[str, Any]) -> dict[str, Any]:
            given = fitted(self, given)
            self._loading = Loading(policies, given)
            return {**given, "state": {}}

        hook = self.register_load_state_dict_pre_hook(keep)
        try:
            super().load_state_dict(state_dict)
        finally:
            hook.remove()
            self.__dict__.pop("_loading", None)
