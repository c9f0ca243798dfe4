"""A step as ``torch.compile`` traces it: one op for each kernel, and nothing kept between steps."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_not
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from accel.errors import Unsupported
from accel.ops import checks
from accel.ops.optimizers.checks import check_gradients
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.optim.grad_limit import KEY, is_clipping
from accel.optim.grad_norm import load, norm_on, scale_down, together
from accel.optim.options import scaling
from accel.optim.part import own_extras
from accel.optim.policy import MASTER
from accel.optim.state import complete_states, keep_states, keys_of

if TYPE_CHECKING:
    from accel.optim.stepped import SteppedOptimizer

Group = dict[str, Any]
Scratch = dict[str, Sequence[Tensor]]
_UNTRACEABLE = "untraceable"


class TracedPart:
    """The tensors of a group that one kernel steps.

    Attributes:
        params: the optimizer's parameters, which may be distributed.
        tensors: this process's part of them.
        key: the kernel's name in the dispatcher.
        scratch: memory that the op works in, by field.
    """

    def __init__(
        self, key: str, tensors: TensorLists, params: Sequence[Tensor], scratch: Scratch
    ) -> None:
        self.key = key
        self.tensors = tensors
        self.params = params
        self.scratch = scratch


class TracedGroup:
    """A group whose step is recorded; takes the place of a `PreparedGroup`.

    Attributes:
        parts: the tensors of each kernel.
        sharded: whether a parameter is distributed, and this process steps its shard.
    """

    def __init__(self, family: Family | None, parts: list[TracedPart], sharded: bool) -> None:
        self.parts = parts
        self.sharded = sharded
        self._family = family

    def step(self, hyper: Hyper) -> None:
        """Step every tensor of the group that has a gradient."""
        assert self._family is not None
        for part in self.parts:
            self._family.dispatch(part.key, part.tensors, hyper)


def complete_group(optimizer: SteppedOptimizer, group: Group, index: int, lists: Any) -> str:
    """Complete a group's states and put the tensors of its next step into lists.

    torch's compiler runs this function when it traces a step, but does not trace it. So states
    exist, and kernels are loaded, before the first compiled step.

    Args:
        optimizer: the group's optimizer.
        group: the parameter group.
        index: the group's number.
        lists: an empty list for parameters, one for gradients, one for each of `keys_of`.

    Returns:
        str: the facts beyond the tensors that `traced_step` needs: the seed of this step, the
        group's own seed, whether parameters are distributed, the indices in the group of those that
        are stepped, and the kernels' keys in the order of the devices.
        If the step cannot be traced, it says so, and no state has been added.
    """
    places = [at for at, param in enumerate(group["params"]) if param.grad is not None]
    params = [group["params"][at] for at in places]
    put_back = keep_states(optimizer, params)
    optimizer.clips = is_clipping(optimizer)
    try:
        limit = group.get(KEY)
        optimizer.judge(index, group)
        if type(limit) is int:
            # A compiler that finds a float here would compile again for each int.
            group[KEY] = limit
        scaling(optimizer)
        _check(optimizer, params)
        states = complete_states(optimizer, group, params, places)
        own = [optimizer.local(param) for param in params]
        devices = dict.fromkeys(param.device for param in own)
        if optimizer.clips:
            for device in devices:
                load(device)
        kernels = [optimizer.kernel(device).key for device in devices]
    except Exception:
        put_back()
        # The step without tracing raises the error, with the caller's traceback.
        _keep_untraced(optimizer)
        return _UNTRACEABLE
    keys = tuple(keys_of(optimizer, group))
    for param, state in zip(params, states, strict=True):
        entries = (param, param.grad, *(state.get(key) for key in keys))
        for listed, entry in zip(lists, entries, strict=True):
            listed.append(entry)
    numbers = Hyper.__new__(Hyper)
    numbers.seed = 0
    optimizer._set_rounding(index, group, numbers)
    sharded = any(map(is_not, own, params))
    known = (numbers.seed, group["seed"], sharded, ",".join(map(str, places)), *kernels)
    return " ".join(map(str, known))


def _check(optimizer: SteppedOptimizer, params: Sequence[Tensor]) -> None:
    own = [optimizer.local(param) for param in params]
    grads = [optimizer.local(param.grad) for param in params if param.grad is not None]
    checks.check_tensors({"params": own, "grads": grads})
    check_gradients("grads", grads)
    if optimizer.clips and any(map(is_not, own, params)):
        raise Unsupported("A norm over the processes' shards needs collectives between two ops.")
    if optimizer.streams:
        raise Unsupported("A step that streams its states waits for files.")
    if optimizer.family is None or any(optimizer.home(param) != param.device for param in own):
        raise Unsupported("A step on another device than the parameters' needs waits and streams.")


def _keep_untraced(optimizer: SteppedOptimizer) -> None:
    if "untraced_step" not in vars(optimizer):
        disable: Any = torch.compiler.disable
        vars(optimizer)["untraced_step"] = disable(optimizer.step_groups)


def traced_step(optimizer: SteppedOptimizer) -> None:
    """Do one step on every parameter that has a gradient, all of it by ops of the dispatcher.

    Errors of the ops are raised when the compiled step runs.
    """
    ready = []
    given: list[Tensor] = []
    scale, found_inf = scaling(optimizer)
    for index, group in enumerate(optimizer.param_groups):
        hyper = optimizer.hyper(group)
        keys = tuple(keys_of(optimizer, group))
        lists: list[list[Any]] = [[] for _ in range(2 + len(keys))]
        known = optimizer._init_group(group, index, *lists)
        if known == _UNTRACEABLE:
            untraced: Any = optimizer
            untraced.untraced_step()
            return
        seed, group_seed, sharded, places, *kernels = known.split(" ")
        # A compiler may treat an int as variable; a comparison makes it a constant.
        if group["seed"] is not None and group["seed"] != int(group_seed):
            raise AssertionError("The seed changed while the step was being traced.")
        at = places.split(",")
        parts = _parts(optimizer, group, lists, at, kernels, sharded == "True")
        traced: Any = TracedGroup(optimizer.family, parts, sharded == "True")
        hyper.grad_scale, hyper.found_inf = scale, found_inf
        hyper.rounding, hyper.seed = group["rounding"], int(seed)
        optimizer.adjust(group, traced, hyper)
        ready.append((traced, hyper))
        given += lists[1]
    _clip(optimizer, given, [hyper for _, hyper in ready])
    for traced, hyper in ready:
        optimizer.run(traced, hyper)


def _clip(optimizer: SteppedOptimizer, grads: Sequence[Tensor], hypers: Sequence[Hyper]) -> None:
    """Clip as `accel.optim.grad_norm.clip` does, on the traced gradients."""
    if not is_clipping(optimizer):
        optimizer.last_norm.value = None
        return
    by_device: dict[torch.device, list[Tensor]] = {}
    for grad in grads:
        by_device.setdefault(grad.device, []).append(grad)
    norms = [norm_on(device, listed) for device, listed in by_device.items()]
    scale_down(optimizer, together(norms, optimizer.param_groups[0]["params"]), hypers)


def _parts(
    optimizer: SteppedOptimizer,
    group: Group,
    lists: list[list[Any]],
    places: Sequence[str],
    kernels: Sequence[str],
    sharded: bool,
) -> list[TracedPart]:
    """Sort tensors by device and by whether there is a master copy."""
    params, grads, *columns = lists
    keys = tuple(keys_of(optimizer, group))
    states = [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
    devices: list[torch.device] = []
    at_of: dict[tuple[int, bool], list[int]] = {}
    for index, param in enumerate(params):
        if param.device not in devices:
            devices.append(param.device)
        place = (devices.index(param.device), states[index][MASTER] is not None)
        at_of.setdefault(place, []).append(index)
    parts = []
    for (number, mastered), at in at_of.items():
        chosen = [states[index] for index in at]
        given = [params[index] for index in at]
        roles: dict[str, Sequence[Tensor]] = {
            "params": given,
            "grads": [grads[index] for index in at],
        }
        for key in optimizer.state_keys(group):
            roles[optimizer.states[key]] = [state[key] for state in chosen]
        if mastered:
            roles["masters"] = [state[MASTER] for state in chosen]
        if sharded:
            roles = {role: [*map(optimizer.local, listed)] for role, listed in roles.items()}
        scratch = optimizer.scratch(roles["params"])
        extras = {
            field: own_extras(
                optimizer.family, field, roles["params"], [state[key] for state in chosen]
            )
            for key, field in optimizer.extra_keys.items()
        }
        steps = [state["step"] for state in chosen]
        whole = len(at) == len(group["params"])
        numbers = None if whole else [int(places[index]) for index in at]
        lists_of = TensorLists(roles, steps, {**extras, **scratch}, numbers)
        parts.append(TracedPart(kernels[number], lists_of, given, scratch))
    return parts
