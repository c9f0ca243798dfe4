"""Optimizers with everything they see in memory of their own: a fresh one has nothing prepared."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from accel.errors import AccelError

Optimizer = torch.optim.Optimizer
REFUSALS = (type(None), TypeError, ValueError, AccelError)
"""What may come of a step: nothing raised, or what a user can understand."""


class Memory:
    """Copies of tensors that lie as their originals do and share memory where these do."""

    def __init__(self) -> None:
        self._storages: dict[int, tuple[Any, Any]] = {}
        self._params: dict[int, tuple[Tensor, Tensor]] = {}

    def copy(self, tensor: Tensor) -> Tensor:
        """Return a plain copy: strides, offset, negative and conjugate bit are the original's."""
        plain = tensor.detach()
        if plain.is_neg():
            plain = torch._neg_view(plain)
        if plain.is_conj():
            plain = torch._conj(plain)
        memory = plain.untyped_storage()
        _, storage = self._storages.setdefault(memory._cdata, (memory, memory.clone()))
        made = torch.empty(0, dtype=plain.dtype, device=plain.device)
        made.set_(storage, plain.storage_offset(), plain.size(), plain.stride())
        # Of a tensor that reaches out of its memory, `set_` has made the memory larger.
        storage.resize_(memory.nbytes())
        if tensor.is_conj():
            made = torch._conj(made)
        return torch._neg_view(made) if tensor.is_neg() else made

    def param(self, param: Any) -> Any:
        """Return a copy of a parameter with its gradient; the same one for the same parameter."""
        if not isinstance(param, Tensor):
            return param
        if id(param) not in self._params:
            self._params[id(param)] = (param, self._new_param(param))
        return self._params[id(param)][1]

    def _new_param(self, param: Tensor) -> Tensor:
        data, grad = self.copy(param), param.grad
        made = nn.Parameter(data if grad is None else torch.empty_like(grad), param.requires_grad)
        if grad is not None:
            # torch checks a gradient's shape and type where it is given, not where data change.
            made.grad = self.copy(grad).requires_grad_(grad.requires_grad)
            made.data = data
        return made

    def value(self, value: Any) -> Any:
        """Return a copy of what a state or a group holds."""
        return self.copy(value) if isinstance(value, Tensor) else value


def stepped_by(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters of an optimizer's groups, each once."""
    listed = [param for group in optimizer.param_groups for param in group["params"]]
    return [*{id(param): param for param in listed}.values()]


def fresh(
    optimizer: Optimizer,
    make: Callable[..., Optimizer] | None = None,
    memory: Memory | None = None,
) -> Optimizer:
    """Return an optimizer made anew from what another one shows: its groups and its state.

    Args:
        optimizer: what is copied, and whose class the result has.
        make: makes an optimizer of another class from a list of parameters.
        memory: what has been copied already.
    """
    memory = memory or Memory()
    made = (make or type(optimizer))([nn.Parameter(torch.zeros(1))])
    made.defaults = dict(optimizer.defaults)
    made.param_groups[:] = [
        {
            **{key: memory.value(value) for key, value in group.items()},
            "params": [memory.param(param) for param in group["params"]],
        }
        for group in optimizer.param_groups
    ]
    made.state = defaultdict(dict)
    states: dict[int, dict[str, Any]] = {}
    for param, state in optimizer.state.items():
        # Two parameters may have one state.
        if id(state) not in states:
            states[id(state)] = {key: memory.value(value) for key, value in state.items()}
        made.state[memory.param(param)] = states[id(state)]
    return made


def outcome(step: Callable[[], Any]) -> Exception | None:
    """Return what a step raises, without the frames, which would keep their tensors alive."""
    try:
        step()
    except Exception as error:
        raised: BaseException | None = error
        while raised is not None:
            raised.__traceback__ = None
            raised = raised.__context__
        return error
    return None


def entries(optimizer: Optimizer) -> Iterator[tuple[str, Any]]:
    """Yield everything that a step may change, with a name for it."""
    for number, param in enumerate(stepped_by(optimizer)):
        yield f"param {number}", param
        for key, value in sorted(optimizer.state.get(param, {}).items()):
            yield f"{key} of param {number}", value
    yield "number of states", len(optimizer.state)


def same_bits(ours: Any, theirs: Any) -> bool:
    """Return whether two values are alike to the last bit, NaN being like NaN."""
    if not isinstance(ours, Tensor) or not isinstance(theirs, Tensor):
        return bool(ours == theirs)
    return (
        ours.dtype == theirs.dtype
        and ours.shape == theirs.shape
        and torch.equal(torch.isnan(ours), torch.isnan(theirs))
        and torch.equal(*(x.masked_fill(x.isnan(), 0) for x in (ours, theirs)))
    )


def assert_alike(ours: Optimizer, theirs: Optimizer) -> None:
    """Assert that parameters and states are alike to the last bit."""
    found, wanted = dict(entries(ours)), dict(entries(theirs))
    differ = sorted(found.keys() ^ wanted.keys())
    assert not differ, f"only with one of ours and one made anew: {differ}"
    for name, value in found.items():
        assert same_bits(value, wanted[name]), f"{name} is {value}, and {wanted[name]} if made anew"


def assert_alike_error(error: Exception | None, wanted: Exception | None) -> None:
    """Assert that both or neither raised, and the same kind."""
    if type(error) is not type(wanted):
        raise AssertionError(f"raised {error!r}, and {wanted!r} if made anew") from error


def step_as_fresh(optimizer: Optimizer) -> Exception | None:
    """Step as an optimizer made anew does, and assert that it is so; returns what both raise.

    What is refused leaves everything as it was.
    """
    before, twin = fresh(optimizer), fresh(optimizer)
    wanted = outcome(twin.step)
    if not isinstance(wanted, REFUSALS):
        raise AssertionError("refused in other words than ours") from wanted
    error = outcome(optimizer.step)
    assert_alike_error(error, wanted)
    assert_alike(optimizer, twin if error is None else before)
    return error


@contextlib.contextmanager
def swapping() -> Iterator[None]:
    """Let modules exchange their parameters on conversion and when they load a state."""
    was = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(was)
