"""More habits: of gradients, groups, numbers, copies, and torch's exchange of tensors."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import torch
from family_cases import as_many
from habits import HABITS, SWAPS, World, habit, random
from mirror import swapping
from torch import nn

NUMBERS: dict[str, tuple[Any, ...]] = {
    "lr": (0.1, 0.0, 0.02, 1),
    "betas": ((0.9, 0.99), (0.5, 0.9), (0.0, 0.0), [0.9, 0.999]),
    "eps": (1e-8, 1e-3, 1e-6, 0.1),
    "weight_decay": (0.0, 0.1, 0, 1.0),
    "amsgrad": (False, True),
    "maximize": (False, True),
    "lr_decay": (0.0, 0.1),
    "alpha": (2.0, 0.0, 8),
    "alpha_warmup": (None, 6),
    "beta3_warmup": (None, 6),
    "max_grad_norm": (0.0, 0.5),
    "eps_inside_sqrt": (False, True),
    "master_dtype": (None, torch.float32),
    "state_dtype": (None, torch.bfloat16, "param"),
    "rounding": ("nearest", "stochastic"),
    "seed": (1, 2),
}
TENSOR_LR = 0.05


@habit
def grad_none(world: World, at: int, seed: int) -> None:
    world[at].grad = None


@habit
def grads_none(world: World, at: int, seed: int) -> None:
    world.optimizer.zero_grad(set_to_none=bool(seed % 2))


@habit
def grad_new(world: World, at: int, seed: int) -> None:
    world[at].grad = random(world[at].shape, seed, world[at].dtype)


@habit
def grad_of_the_next(world: World, at: int, seed: int) -> None:
    world[at].grad = world[at + 1].grad


@habit
def grad_in_the_data(world: World, at: int, seed: int) -> None:
    world[at].grad = world[at + seed % 2].data


@habit
def grad_in_the_state(world: World, at: int, seed: int) -> None:
    state, key = world.entry(at, seed)
    world[at].grad = state[key]


@habit
def grad_beside_the_data(world: World, at: int, seed: int) -> None:
    """Parameter and gradient are columns of one buffer, with one in common for some seeds."""
    buffer = random((4, 8), seed)
    world[at].grad = None
    world[at].data = buffer[:, :4]
    world[at].grad = buffer[:, 4 - seed % 2 : 8 - seed % 2]


@habit
def grad_requires_grad(world: World, at: int, seed: int) -> None:
    world[at].grad.requires_grad_(seed % 3 != 0)  # type: ignore[union-attr]


@habit
def requires_no_grad(world: World, at: int, seed: int) -> None:
    world[at].requires_grad_(seed % 2 == 0)


@habit
def group_added(world: World, at: int, seed: int) -> None:
    shape = [(4, 4), (6,), (0,), ()][seed % 4]
    added = nn.Parameter(random(shape, seed))
    world.params.append(added)
    world.optimizer.add_param_group({"params": [added], "lr": 0.1})


@habit
def group_removed(world: World, at: int, seed: int) -> None:
    """A group goes, with the states of its parameters for some seeds."""
    group = world.optimizer.param_groups.pop(at % len(world.optimizer.param_groups))
    for param in group["params"]:
        if seed % 2:
            world.optimizer.state.pop(param, None)
            world.params[:] = [other for other in world.params if other is not param]


@habit
def param_dropped(world: World, at: int, seed: int) -> None:
    group = world.group(seed)
    param = group["params"].pop(at % len(group["params"]))
    world.optimizer.state.pop(param, None)
    if len(world.params) > 1:
        world.params[:] = [other for other in world.params if other is not param]


@habit
def params_reordered(world: World, at: int, seed: int) -> None:
    params = world.group(seed)["params"]
    params.append(params.pop(0))


@habit
def params_listed_anew(world: World, at: int, seed: int) -> None:
    group = world.group(seed)
    group["params"] = [*reversed(group["params"])]


@habit
def param_into_another_group(world: World, at: int, seed: int) -> None:
    world.group(seed + 1)["params"].append(world.group(seed)["params"].pop())


@habit
def param_listed_twice(world: World, at: int, seed: int) -> None:
    world.group(seed)["params"].append(world[at])


@habit
def param_replaced(world: World, at: int, seed: int) -> None:
    """Surgery: another parameter takes the place of one, with its state for some seeds."""
    group = world.group(seed)
    place = at % len(group["params"])
    old = group["params"][place]
    new = nn.Parameter(old.detach().clone())
    state = world.optimizer.state.pop(old, None)
    if state is not None and seed % 2:
        world.optimizer.state[new] = state
    group["params"][place] = new
    world.params[:] = [new if other is old else other for other in world.params]


def _number(name: str) -> None:
    def number(world: World, at: int, seed: int) -> None:
        group, values = world.group(at), NUMBERS[name]
        if name not in group:
            raise KeyError(name)
        value = values[seed % len(values)]
        group[name] = as_many(value, group) if name == "betas" else value

    HABITS[f"number_{name}"] = number


for _name in NUMBERS:
    _number(_name)


@habit
def number_lr_tensor(world: World, at: int, seed: int) -> None:
    group = world.group(at)
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].mul_(0.5)
    else:
        group["lr"] = torch.tensor(TENSOR_LR, dtype=torch.float32, device="cpu")


@habit
def saved(world: World, at: int, seed: int) -> None:
    world.saved = copy.deepcopy(world.optimizer.state_dict())


@habit
def loaded(world: World, at: int, seed: int) -> None:
    assert world.saved is not None
    world.optimizer.load_state_dict(copy.deepcopy(world.saved))


@habit
def loaded_from_itself(world: World, at: int, seed: int) -> None:
    world.optimizer.load_state_dict(world.optimizer.state_dict())


@habit
def loaded_from_a_file(world: World, at: int, seed: int) -> None:
    file = io.BytesIO()
    torch.save(world.optimizer.state_dict(), file)
    file.seek(0)
    world.optimizer.load_state_dict(torch.load(file, weights_only=True))


@habit
def copied(world: World, at: int, seed: int) -> None:
    world.params, world.optimizer = copy.deepcopy((world.params, world.optimizer))


@habit
def pickled(world: World, at: int, seed: int) -> None:
    world.params, world.optimizer = pickle.loads(pickle.dumps((world.params, world.optimizer)))


@habit
def module_to(world: World, at: int, seed: int) -> None:
    world.module().to((torch.bfloat16, torch.float64, torch.float32)[seed % 3])


@habit
def module_loaded(world: World, at: int, seed: int) -> None:
    module = world.module()
    module.load_state_dict({name: -value for name, value in module.state_dict().items()})


@habit
def swapped_to(world: World, at: int, seed: int) -> None:
    with swapping():
        module_to(world, at, seed)


@habit
def swapped_loaded(world: World, at: int, seed: int) -> None:
    with swapping():
        module_loaded(world, at, seed)


@habit
def swapped(world: World, at: int, seed: int) -> None:
    shape = world[at].shape if seed % 2 else (2, 3)
    torch.utils.swap_tensors(world[at], nn.Parameter(random(shape, seed)))


@habit
def swapped_state(world: World, at: int, seed: int) -> None:
    state, key = world.entry(at, seed)
    torch.utils.swap_tensors(state[key], state[key].clone())


SWAPS |= {name for name in HABITS if name.startswith("swapped")}
RESTORES = {name for name in HABITS if name.startswith(("loaded", "copied", "pickled"))}
"""Habits in which an optimizer's state is made anew from another one."""
