"""What users do to an optimizer between two steps, told as functions of a world."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from mirror import Memory, fresh, stepped_by
from torch import Tensor, nn

Optimizer = torch.optim.Optimizer
Habit = Callable[["World", int, int], Any]
"""Takes a world, the number of the parameter that it is about, and a number to choose by."""


def random(shape: Any, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return values that depend on shape and seed alone, whatever the default type and device."""
    generator = torch.Generator("cpu").manual_seed(seed)
    made = torch.empty(shape, dtype=torch.float32, device="cpu").normal_(generator=generator)
    return made.to(dtype)


class World:
    """An optimizer, every parameter that it has or had, and a state that was saved."""

    def __init__(self, optimizer: Optimizer, params: list[Tensor]) -> None:
        self.optimizer = optimizer
        self.params = params
        self.saved: dict[str, Any] | None = None
        self.pool = [random((4, 4), seed) for seed in range(3)]

    def mirrored(self, make: Callable[..., Optimizer]) -> World:
        """Return a world of the same values and memory, whose optimizer `make` makes."""
        memory = Memory()
        made = World(fresh(self.optimizer, make, memory), [*map(memory.param, self.params)])
        made.saved = copy.deepcopy(self.saved)
        made.pool = [*map(memory.copy, self.pool)]
        return made

    def __getitem__(self, at: int) -> Tensor:
        return self.params[at % len(self.params)]

    def stepped(self, at: int) -> bool:
        """Return whether the optimizer has a parameter in a group."""
        return any(self[at] is other for other in stepped_by(self.optimizer))

    def state(self, at: int) -> dict[str, Any]:
        """Return a parameter's state, an empty one that belongs to nobody where there is none."""
        found: dict[str, Any] = self.optimizer.state.get(self[at], {})
        return found

    def entry(self, at: int, seed: int) -> tuple[dict[str, Any], str]:
        """Return a parameter's state and one of its keys, not the step's."""
        state = self.state(at)
        keys = [key for key in sorted(state) if key != "step"]
        return state, keys[seed % len(keys)]

    def group(self, at: int) -> dict[str, Any]:
        """Return a group."""
        groups: list[dict[str, Any]] = self.optimizer.param_groups
        return groups[at % len(groups)]

    def module(self) -> nn.Module:
        """Return a module with these parameters."""
        made = nn.Module()
        for number, param in enumerate(self.params):
            made.register_parameter(f"p{number}", param)  # type: ignore[arg-type]
        return made

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield all that a user can reach from here, each with a name."""
        for name, tensor in self._given():
            yield name, tensor
            # A view keeps what it is a view of.
            if tensor._base is not None:
                yield name, tensor._base

    def _given(self) -> Iterator[tuple[str, Tensor]]:
        groups = enumerate(self.optimizer.param_groups)
        listed = [(f"p of group {at}", p) for at, group in groups for p in group["params"]]
        listed += [(f"params[{at}]", param) for at, param in enumerate(self.params)]
        for name, param in listed:
            yield name, param
            if param.grad is not None:
                yield f"{name}.grad", param.grad
        yield from (("the pool", tensor) for tensor in self.pool)
        states = [*self.optimizer.state.items()]
        yield from (("a key of the state", key) for key, _ in states)
        if self.saved is not None:
            states += self.saved["state"].items()
        for _, state in states:
            yield from ((key, value) for key, value in state.items() if isinstance(value, Tensor))


HABITS: dict[str, Habit] = {}
SWAPS: set[str] = set()
"""Habits in which torch exchanges tensors, which it does only of those that nobody else holds."""


def habit(function: Habit) -> Habit:
    """Give a habit a name."""
    HABITS[function.__name__] = function
    return function


def of_data(name: str, change: Callable[[Tensor, int], Any]) -> None:
    """Name a habit that gives a parameter's `data` anew, and those of a state and a gradient."""

    def data(world: World, at: int, seed: int) -> None:
        world[at].data = change(world[at].data, seed)

    def state_data(world: World, at: int, seed: int) -> None:
        state, key = world.entry(at, seed)
        state[key].data = change(state[key].data, seed)

    def state_entry(world: World, at: int, seed: int) -> None:
        state, key = world.entry(at, seed)
        state[key] = change(state[key], seed)

    def grad(world: World, at: int, seed: int) -> None:
        world[at].grad = change(world[at].grad, seed)  # type: ignore[arg-type]

    for made in (data, state_data, state_entry, grad):
        HABITS[f"{made.__name__}_{name}"] = made


def _negated(tensor: Tensor, seed: int) -> Tensor:
    if not tensor.is_floating_point():
        raise TypeError("codes have no sign")
    # A negated view would keep the views that it is a view of.
    return tensor.neg() if tensor.is_neg() else torch._neg_view(tensor.detach())


def _strides(tensor: Tensor, seed: int) -> Tensor:
    rows, columns = tensor.shape
    strides = [(1, rows), (columns, 1), (0, 1), (1, 1), (2, 3)][seed % 5]
    needed = (rows - 1) * strides[0] + (columns - 1) * strides[1] + 1
    room = tensor.untyped_storage().nbytes() // tensor.element_size()
    if needed + tensor.storage_offset() > room:
        raise ValueError("out of bounds")
    return tensor.as_strided((rows, columns), strides)


of_data("transposed", lambda tensor, seed: tensor.t())
of_data("strided", _strides)
of_data("negated", _negated)
of_data("smaller", lambda tensor, seed: tensor[: seed % 3])
of_data("narrower", lambda tensor, seed: tensor[..., seed % 2 : 2 + seed % 2])
of_data("flat", lambda tensor, seed: tensor.reshape(-1))
of_data("reshaped", lambda tensor, seed: tensor.reshape(2, -1))
of_data("expanded", lambda tensor, seed: tensor[:1].expand(tensor.shape))
of_data("cloned", lambda tensor, seed: tensor.clone())
of_data("bfloat16", lambda tensor, seed: tensor.to(torch.bfloat16))
of_data("float16", lambda tensor, seed: tensor.to(torch.float16))
of_data("float32", lambda tensor, seed: tensor.to(torch.float32))
of_data("float64", lambda tensor, seed: tensor.to(torch.float64))
of_data("fortran", lambda tensor, seed: tensor.t().contiguous().t())
of_data("gapped", lambda tensor, seed: torch.stack([tensor, tensor], -1)[..., seed % 2])
of_data("conjugated", lambda tensor, seed: torch.complex(tensor, tensor).conj())


@habit
def data_exchanged(world: World, at: int, seed: int) -> None:
    one, other = world[at], world[at + 1]
    one.data, other.data = other.data, one.data


@habit
def data_columns(world: World, at: int, seed: int) -> None:
    """Two parameters become columns of one buffer, with a column in common for some seeds."""
    buffer = random((4, 8), seed)
    world[at].data, world[at + 1].data = buffer[:, :4], buffer[:, 4 - seed % 2 : 8 - seed % 2]


@habit
def data_interleaved(world: World, at: int, seed: int) -> None:
    buffer = random((32,), seed)
    world[at].data = buffer[::2].view(4, 4)
    world[at + 1].data = buffer[1::2][: 16 - seed].view(4, -1)


@habit
def data_in_the_pool(world: World, at: int, seed: int) -> None:
    """Data and gradient come to lie where they may have been, each other's places included."""
    world[at].grad = None
    world[at].data = world.pool[seed % 3]
    world[at].grad = world.pool[(seed + 1 + seed // 3) % 3]


@habit
def data_in_one_buffer(world: World, at: int, seed: int) -> None:
    flat = torch.cat([param.data.reshape(-1) for param in world.params])
    start = 0
    for param in world.params:
        stop = start + param.numel()
        param.data, start = flat[start:stop].view(param.shape), stop


@habit
def transposed_in_place(world: World, at: int, seed: int) -> None:
    world[at].data.t_()


@habit
def set_in_place(world: World, at: int, seed: int) -> None:
    data = world[at].data
    data.set_(data.untyped_storage(), data.storage_offset(), data.shape[::-1])


@habit
def state_transposed_in_place(world: World, at: int, seed: int) -> None:
    state, key = world.entry(at, seed)
    state[key].t_()


@habit
def state_set_in_place(world: World, at: int, seed: int) -> None:
    state, key = world.entry(at, seed)
    entry = state[key]
    entry.set_(entry.untyped_storage(), entry.storage_offset(), entry.shape[::-1])


@habit
def state_resized(world: World, at: int, seed: int) -> None:
    state, key = world.entry(at, seed)
    state[key].resize_(2, 2)


@habit
def memory_moved(world: World, at: int, seed: int) -> None:
    """Memory grows, by which it moves."""
    storage = world[at].untyped_storage()
    storage.resize_(storage.nbytes() + 4096 * seed)


@habit
def state_all_new(world: World, at: int, seed: int) -> None:
    world.optimizer.state = defaultdict(dict)


@habit
def state_cleared(world: World, at: int, seed: int) -> None:
    world.optimizer.state.clear()


@habit
def state_deleted(world: World, at: int, seed: int) -> None:
    del world.optimizer.state[world[at]]


@habit
def state_another(world: World, at: int, seed: int) -> None:
    world.optimizer.state[world[at]] = {}


@habit
def state_emptied(world: World, at: int, seed: int) -> None:
    world.state(at).clear()


@habit
def state_copied(world: World, at: int, seed: int) -> None:
    world.optimizer.state[world[at]] = dict(world.optimizer.state[world[at]])


@habit
def state_incomplete(world: World, at: int, seed: int) -> None:
    state, key = world.entry(at, seed)
    del state[key]


@habit
def state_offloaded(world: World, at: int, seed: int) -> None:
    """Every tensor of the state is replaced by a copy, as offloading does."""
    for state in world.optimizer.state.values():
        for key in [*state]:
            state[key] = state[key].clone()


@habit
def states_exchanged(world: World, at: int, seed: int) -> None:
    state, one, other = world.optimizer.state, world[at], world[at + 1]
    state[one], state[other] = state[other], state[one]


@habit
def state_entries_exchanged(world: World, at: int, seed: int) -> None:
    state, key = world.entry(at, seed)
    other = world.state(at + 1)
    state[key], other[key] = other[key], state[key]


@habit
def state_shared(world: World, at: int, seed: int) -> None:
    world.optimizer.state[world[at]] = world.optimizer.state[world[at + 1]]


@habit
def state_in_the_data(world: World, at: int, seed: int) -> None:
    state, key = world.entry(at, seed)
    state[key] = world[at].data


@habit
def step_of_another_kind(world: World, at: int, seed: int) -> None:
    state = world.state(at)
    number = float(state["step"])
    kinds = (number, int(number), torch.tensor(number, dtype=torch.float64, device="cpu"))
    state["step"] = kinds[seed % 3]
