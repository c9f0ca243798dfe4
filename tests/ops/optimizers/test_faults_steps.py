"""What is prepared for a step holds as long as everything is as it was, and keeps nothing alive.

The oracle is the same optimizer made anew before each step, which has nothing prepared; and where
there is one, torch's optimizer.
"""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import sys
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from family_cases import CODED, as_many
from family_cases import OPTIMIZERS as CLASSES
from mirror import fresh, outcome, step_as_fresh, stepped_by, swapping
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from accel import optim
from accel.optim.policy import POLICY_KEYS

TORCH = {
    optim.FusedAdam: functools.partial(torch.optim.AdamW, weight_decay=0.0),
    optim.CPUAdam: functools.partial(torch.optim.AdamW, weight_decay=0.0),
    optim.FusedAdagrad: torch.optim.Adagrad,
    optim.CPUAdagrad: torch.optim.Adagrad,
}
ADAMS = (optim.FusedAdam, optim.CPUAdam)
SETTLED = 4
"""Steps after which everything is prepared: found out, checked again, and taken natively."""

Optimizer = torch.optim.Optimizer


REFERENCES = (optim.FusedAdam, optim.Adam8bit)
"""Classes whose reference is stepped as well: what is prepared for it is the same for all."""


def of(*classes: Any) -> Callable[[Any], Any]:
    """Let a test run for some classes only."""

    def marked(test: Any) -> Any:
        test.classes = classes
        return test

    return marked


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test for every class on the native rung, and for some on the reference."""
    classes = getattr(metafunc.function, "classes", CLASSES)
    found = [("native", cls) for cls in classes]
    found += [("reference", cls) for cls in classes if cls in REFERENCES]
    metafunc.parametrize(("rung", "cls"), found, ids=[f"{r}-{c.__name__}" for r, c in found])


@pytest.fixture(autouse=True)
def ops(rung: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rung that steps."""
    monkeypatch.setenv("ACCEL_OPS", rung)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def give_grads(params: list[Tensor], seed: int) -> None:
    for number, param in enumerate(params):
        param.grad = random(*param.shape, seed=100 * seed + number).to(param.dtype)


def settled(cls: Any, params: list[Tensor], **options: Any) -> Optimizer:
    """Return an optimizer that has stepped parameters until all is prepared."""
    optimizer: Optimizer = cls(params, lr=0.1, **options)
    for seed in range(SETTLED):
        give_grads(params, seed)
        optimizer.step()
    return optimizer


def three() -> list[Tensor]:
    return [nn.Parameter(random(4, 4, seed=seed)) for seed in range(3)]


def steps_on(optimizer: Optimizer, count: int = SETTLED) -> None:
    for seed in range(count):
        give_grads(stepped_by(optimizer), 50 + seed)
        assert step_as_fresh(optimizer) is None


def set_data(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor, dict[str, Tensor]], None]:
    def habit(param: Tensor, state: dict[str, Tensor]) -> None:
        param.data = change(param.data)

    return habit


def set_state(change: Callable[[Tensor], Any]) -> Callable[[Tensor, dict[str, Tensor]], None]:
    def habit(param: Tensor, state: dict[str, Tensor]) -> None:
        key = "sum" if "sum" in state else "exp_avg"
        change(state[key])

    return habit


def set_grad(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor, dict[str, Tensor]], None]:
    def habit(param: Tensor, state: dict[str, Tensor]) -> None:
        assert param.grad is not None
        param.grad = change(param.grad)

    return habit


# At the same address, in another view.
HABITS = {
    "transposed": set_data(Tensor.t),
    "strided": set_data(lambda data: data.as_strided((4, 4), (1, 4))),
    "negated": set_data(torch._neg_view),
    "expanded": set_data(lambda data: data[:1].expand(4, 4)),
    "overlapping": set_data(lambda data: data.as_strided((4, 4), (1, 1))),
    "smaller": set_data(lambda data: data[:2]),
    "flat": set_data(lambda data: data.view(-1)),
    "reshaped": set_data(lambda data: data.view(2, 8)),
    "halves": set_data(lambda data: data.view(torch.bfloat16)[:, :4]),
    "bfloat16": set_data(Tensor.bfloat16),
    "float64": set_data(Tensor.double),
    "set": lambda param, state: param.data.set_(
        param.data.untyped_storage(), 0, (4, 4), (1, 4)
    ),  # type: ignore[call-overload]
    "transposed in place": lambda param, state: param.data.t_(),
    "state transposed in place": set_state(Tensor.t_),
    "state set": set_state(lambda state: state.set_(state.untyped_storage(), 0, (4, 4), (1, 4))),
    "state smaller": set_state(lambda state: state.resize_(2, 4)),
    "state's data": set_state(lambda state: setattr(state, "data", state.data.t())),
    "state's data negated": set_state(
        lambda state: setattr(state, "data", torch._neg_view(state.data))
    ),
    "state's type": set_state(lambda state: setattr(state, "data", state.data.bfloat16())),
}  # fmt: skip

AS_TORCH = [name for name in HABITS if "transposed" in name or "set" in name or "negated" in name]


@pytest.mark.parametrize("habit", HABITS)
def test_another_view_at_the_same_address(cls: Any, habit: str) -> None:
    for grads in ("stale", "new"):
        params = three()
        optimizer = settled(cls, params)
        HABITS[habit](params[1], optimizer.state[params[1]])
        if grads == "new":
            give_grads(params, 20)
        if step_as_fresh(optimizer) is None:
            steps_on(optimizer)


@of(*TORCH)
@pytest.mark.parametrize("habit", AS_TORCH)
def test_another_view_at_the_same_address_as_torch(cls: Any, habit: str) -> None:
    found = []
    for made in (cls, TORCH[cls]):
        params = three()
        optimizer = made(params, lr=0.1)
        for seed in range(2 * SETTLED):
            if seed == SETTLED:
                HABITS[habit](params[1], optimizer.state[params[1]])
            give_grads(params, seed)
            optimizer.step()
        found.append(torch.cat([param.detach().reshape(-1) for param in params]))
    torch.testing.assert_close(*found, equal_nan=True)


@pytest.mark.parametrize("size", [0, 1, 500, 999])
def test_smaller_data_with_a_stale_gradient(cls: Any, size: int) -> None:
    memory = torch.zeros(1000)
    param = nn.Parameter(memory)
    optimizer = cls([param], lr=0.1)
    for _ in range(SETTLED):
        param.grad = torch.ones(1000)
        optimizer.step()
    before = memory.clone()
    param.data = memory[:size]
    assert isinstance(outcome(optimizer.step), ValueError)
    assert torch.equal(memory, before)


REUSED = """
import os, sys, torch
from accel import optim
from accel.optim.policy import POLICY_KEYS
for name in sys.argv[2:]:
    print("stepping", name, flush=True)
    param = torch.nn.Parameter(torch.zeros(1000))
    optimizer = getattr(optim, name)([param], lr=0.1)
    for _ in range(4):
        param.grad = torch.ones(1000)
        optimizer.step()
    at = param.data_ptr()
    param.data = torch.empty(0)
    tried = []
    while len(tried) < 20000 and (not tried or tried[-1].data_ptr() != at):
        tried.append(torch.zeros(250 if len(tried) % 2 else 500))
    # Where the memory is not given out again, the new one is as good a try.
    param.data = tried.pop()
    guards = [torch.zeros(100) for _ in range(20)]
    before = param.detach().clone()
    try:
        optimizer.step()
    except ValueError:
        assert torch.equal(param, before)
        assert not any(map(torch.any, [*tried, *guards]))
        print("refused", name, flush=True)
"""


@functools.cache
def reused(rung: str) -> str:
    """Return what the classes do with smaller data at a reused address, whoever may crash."""
    said, left = "", [cls.__name__ for cls in CLASSES]
    while left:
        ran = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", REUSED, rung, *left],
            env=os.environ | {"ACCEL_OPS": rung},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        said += ran.stdout + ran.stderr
        left = left[max(ran.stdout.count("stepping "), 1) :]
    return said


def test_smaller_data_at_a_reused_address(cls: Any, rung: str) -> None:
    said = reused(rung)
    assert f"refused {cls.__name__}\n" in said, said


SHARDED = CLASSES


class Sharded:
    """A distributed parameter, all of it here, and memory that its shard is a view of."""

    def __init__(self, mesh: Any) -> None:
        self._mesh = mesh
        self.memory = random(4, 4)
        self.param: Any = nn.Parameter(self._shard(self.memory))

    def _shard(self, local: Tensor) -> Any:
        from torch.distributed.tensor import DTensor, Shard

        return DTensor.from_local(local, self._mesh, [Shard(0)])

    def step(self, optimizer: Optimizer, seed: int) -> None:
        self.param.grad = self._shard(random(4, 4, seed=seed))
        optimizer.step()


@of(*SHARDED)
def test_a_shard_transposed(cls: Any, mesh: Any) -> None:
    sharded, plain = Sharded(mesh), nn.Parameter(random(4, 4))
    ours, theirs = cls([sharded.param], lr=0.1), cls([plain], lr=0.1)
    for seed in range(2 * SETTLED):
        if seed == SETTLED:
            sharded.param._local_tensor = sharded.param._local_tensor.t()
            plain.data = plain.data.t()
            theirs = fresh(theirs)
            (plain,) = stepped_by(theirs)
        sharded.step(ours, seed)
        plain.grad = random(4, 4, seed=seed)
        theirs.step()
    torch.testing.assert_close(sharded.param.to_local().detach(), plain.detach())


@of(*SHARDED)
@pytest.mark.parametrize("grads", ["stale", "smaller"])
def test_a_smaller_shard_at_the_same_address(cls: Any, grads: str, mesh: Any) -> None:
    sharded = Sharded(mesh)
    optimizer = cls([sharded.param], lr=0.1)
    for seed in range(SETTLED):
        sharded.step(optimizer, seed)
    before = sharded.memory.clone()
    for tensor in (sharded.param, sharded.param.grad)[: 1 + (grads == "smaller")]:
        tensor._local_tensor = tensor._local_tensor[:2]
    assert isinstance(outcome(optimizer.step), ValueError)
    assert torch.equal(sharded.memory, before)


@pytest.fixture
def mesh() -> Iterator[Any]:
    """A mesh of this process alone."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


RESETS: dict[str, Callable[[Optimizer, Tensor], Any]] = {
    "all new": lambda optimizer, param: setattr(optimizer, "state", defaultdict(dict)),
    "cleared": lambda optimizer, param: optimizer.state.clear(),
    "deleted": lambda optimizer, param: optimizer.state.__delitem__(param),
    "popped": lambda optimizer, param: optimizer.state.pop(param),
    "an empty one": lambda optimizer, param: optimizer.state.__setitem__(param, {}),
    "emptied": lambda optimizer, param: optimizer.state[param].clear(),
    "a copy": lambda optimizer, param: setattr(
        optimizer, "state", defaultdict(dict, {k: dict(v) for k, v in optimizer.state.items()})
    ),
    "cloned tensors": lambda optimizer, param: optimizer.state.__setitem__(
        param, {key: value.clone() for key, value in optimizer.state[param].items()}
    ),
    "the first without its last": lambda optimizer, param: optimizer.state[param].popitem(),
}  # fmt: skip


@pytest.mark.parametrize("reset", RESETS)
def test_the_state_is_what_it_says(cls: Any, reset: str) -> None:
    params = three()
    optimizer = settled(cls, params)
    RESETS[reset](optimizer, params[0])
    steps_on(optimizer)
    saved = optimizer.state_dict()["state"]
    assert [*saved] == [0, 1, 2] or reset in ("deleted", "popped")
    assert sorted(saved) == [0, 1, 2]
    for number, param in enumerate(params):
        assert all(saved[number][key] is value for key, value in optimizer.state[param].items())


def test_states_exchanged(cls: Any) -> None:
    params = three()
    optimizer = settled(cls, params)
    state = optimizer.state
    state[params[0]], state[params[1]] = state[params[1]], state[params[0]]
    steps_on(optimizer)
    one, other = state[params[1]], state[params[2]]
    for key in one:
        one[key], other[key] = other[key], one[key]
    steps_on(optimizer)


@of(*ADAMS)
@pytest.mark.parametrize("reset", ["all new", "cleared", "deleted", "an empty one"])
def test_the_state_is_what_it_says_as_torch(cls: Any, reset: str) -> None:
    found = []
    for made in (cls, TORCH[cls]):
        params = three()
        optimizer = made(params, lr=0.1)
        for seed in range(2 * SETTLED):
            if seed == SETTLED:
                RESETS[reset](optimizer, params[0])
            give_grads(params, seed)
            optimizer.step()
        found.append([param.detach() for param in params])
    torch.testing.assert_close(*found)


def alive(refs: list[Any]) -> int:
    """Return how many tensors are alive, or pieces of memory."""
    gc.collect()
    return sum(
        not ref.expired() if isinstance(ref, StorageWeakRef) else ref() is not None for ref in refs
    )


def watched(tensors: Any) -> list[Any]:
    kept = list(tensors)
    memory = [StorageWeakRef(tensor.untyped_storage()) for tensor in kept]
    return [*map(weakref.ref, kept), *memory]


def test_replaced_states_are_freed(cls: Any) -> None:
    params = three()
    optimizer = settled(cls, params)
    refs = watched(value for param in params for value in optimizer.state[param].values())
    for param in params:
        state = optimizer.state[param]
        for key in [*state]:
            state[key] = state[key].clone()
    assert alive(refs) == 0
    steps_on(optimizer)


@pytest.mark.parametrize("reset", ["all new", "cleared", "deleted", "an empty one", "emptied"])
def test_forgotten_states_are_freed(cls: Any, reset: str) -> None:
    params = three()
    optimizer = settled(cls, params)
    refs = watched(optimizer.state[params[0]].values())
    RESETS[reset](optimizer, params[0])
    assert alive(refs) == 0


DROPS: dict[str, Callable[[Optimizer], Any]] = {
    "groups cleared": lambda optimizer: optimizer.param_groups.clear(),
    "a group cleared": lambda optimizer: optimizer.param_groups[0].clear(),
    "its list cleared": lambda optimizer: optimizer.param_groups[0]["params"].clear(),
    "another list": lambda optimizer: optimizer.param_groups[0].update(params=[]),
    "other groups": lambda optimizer: setattr(optimizer, "param_groups", []),
}


@pytest.mark.parametrize("drop", DROPS)
def test_dropped_parameters_are_freed(cls: Any, drop: str) -> None:
    params = three()
    optimizer = settled(cls, params)
    states = [*optimizer.state.values()]
    refs = watched([*params, *(value for state in states for value in state.values())])
    DROPS[drop](optimizer)
    optimizer.state.clear()
    states.clear()
    params.clear()
    assert alive(refs) == 0


def test_one_dropped_parameter_is_freed(cls: Any) -> None:
    params = three()
    optimizer = settled(cls, params)
    refs = watched([params[1], *optimizer.state[params[1]].values()])
    del optimizer.state[params[1]], optimizer.param_groups[0]["params"][1], params[1]
    assert alive(refs) == 0
    steps_on(optimizer)


def test_a_removed_group_is_freed(cls: Any) -> None:
    params = three()
    optimizer = settled(cls, params)
    optimizer.add_param_group({"params": [nn.Parameter(random(5))]})
    steps_on(optimizer)
    (added,) = optimizer.param_groups[1]["params"]
    refs = watched([added, *optimizer.state[added].values()])
    optimizer.param_groups.pop()
    del optimizer.state[added], added
    assert alive(refs) == 0
    steps_on(optimizer)


def test_replaced_data_and_gradients_are_freed(cls: Any) -> None:
    params = three()
    optimizer = settled(cls, params)
    refs = watched(param.grad for param in params)
    refs += [StorageWeakRef(param.untyped_storage()) for param in params]
    for param in params:
        param.grad = None
        param.data = param.data.clone()
    assert alive(refs) == 0
    steps_on(optimizer)


def test_the_optimizer_is_freed(cls: Any) -> None:
    params = three()
    optimizer = settled(cls, params)
    refs = watched(value for state in optimizer.state.values() for value in state.values())
    refs.append(weakref.ref(optimizer))
    del optimizer
    assert alive(refs) == 0


def linear() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(4, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_swapped_on_conversion(cls: Any, dtype: torch.dtype) -> None:
    model = linear()
    optimizer = settled(cls, [*model.parameters()])
    before = [id(param) for param in model.parameters()]
    optimizer.zero_grad()
    with swapping():
        model.to(dtype)
    assert [id(param) for param in model.parameters()] == before
    assert {param.dtype for param in model.parameters()} == {dtype}
    give_grads([*model.parameters()], 20)
    error = step_as_fresh(optimizer)
    assert isinstance(error, TypeError if cls in CODED and dtype.itemsize == 8 else object)


@pytest.mark.parametrize("assign", [False, True])
def test_swapped_on_loading(cls: Any, assign: bool) -> None:
    model, other = linear(), linear()
    optimizer = settled(cls, [*model.parameters()])
    with swapping():
        model.load_state_dict(other.state_dict(), assign=assign)
    assert torch.equal(model.weight, other.weight)
    steps_on(optimizer)


def test_swapped_by_hand(cls: Any) -> None:
    params = three()
    optimizer = settled(cls, params)
    for made in (torch.zeros(4, 4), random(4, 4).t(), random(3), random(4, 4)):
        torch.utils.swap_tensors(params[1], nn.Parameter(made))
        give_grads(params, 20)
        if params[1].shape != (4, 4):
            assert isinstance(step_as_fresh(optimizer), ValueError)
        else:
            steps_on(optimizer)
    for value in optimizer.state[params[0]].values():
        torch.utils.swap_tensors(value, value.clone())
    steps_on(optimizer)


@of(*ADAMS)
@pytest.mark.parametrize("first", [False, True])
def test_amsgrad_changed_in_mid_run(cls: Any, first: bool) -> None:
    found = []
    for made in (cls, TORCH[cls]):
        params = three()
        optimizer = made(params, lr=0.1, amsgrad=first)
        for seed in range(4 * SETTLED):
            if seed % SETTLED == 0:
                optimizer.param_groups[0]["amsgrad"] = first ^ bool(seed // SETTLED % 2)
                if not hasattr(optimizer, "home") and optimizer.param_groups[0]["amsgrad"]:
                    # torch makes this state with the others alone, and then misses it.
                    for state in optimizer.state.values():
                        if "max_exp_avg_sq" not in state:
                            state["max_exp_avg_sq"] = torch.zeros(4, 4)
            give_grads(params, seed)
            optimizer.step()
        found.append([param.detach() for param in params])
    torch.testing.assert_close(*found)


SETTINGS: dict[str, tuple[Any, ...]] = {
    "amsgrad": (False, True, False),
    "maximize": (False, True, False),
    "bias_correction": (True, False, True),
    "decoupled_weight_decay": (True, False, True),
    "eps_inside_sqrt": (False, True, False),
    "weight_decay": (0.0, 0.1, 0),
    "betas": ((0.9, 0.99), (0.5, 0.9), [0.0, 0.0]),
    "lr": (0.1, torch.tensor(0.2), 0.3),
    "eps": (1e-8, 1e-2, 0.0),
    "lr_decay": (0.0, 0.1, 0.0),
    "alpha": (2.0, 0.0, 8),
    "alpha_warmup": (None, 10, 6),
    "beta3_warmup": (None, 10, 6),
    "max_grad_norm": (0.0, 0.5, 0.0),
    "master_dtype": (None, torch.float32, None),
    "state_dtype": (None, torch.bfloat16, "param", torch.float32),
    "rounding": ("nearest", "stochastic", "nearest"),
    "seed": (1, 2, None),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_changed_in_mid_run(cls: Any, name: str) -> None:
    params = three()
    if name in POLICY_KEYS:
        for param in params:
            param.data = param.data.bfloat16()
    optimizer = settled(cls, params)
    group = optimizer.param_groups[0]
    # Of these optimizers with codes have one value alone.
    if name in group and not (cls in CODED and name in ("amsgrad", "state_dtype")):
        for value in SETTINGS[name]:
            group[name] = as_many(value, group) if name == "betas" else value
            steps_on(optimizer, 3)


def columns(cls: Any, views: Callable[[Tensor], list[Tensor]]) -> tuple[list[Any], Tensor]:
    """Return parameters that are views of one buffer, stepped, and the buffer."""
    buffer = random(6, 8)
    params = [nn.Parameter(view) for view in views(buffer)]
    optimizer = cls(params, lr=0.1)
    for seed in range(SETTLED):
        give_grads(params, seed)
        assert step_as_fresh(optimizer) is None
    return params, buffer


APART: dict[str, Callable[[Tensor], list[Tensor]]] = {
    "columns": lambda buffer: [buffer[:, :3], buffer[:, 3:]],
    "columns with a gap": lambda buffer: [buffer[:, 5:], buffer[:, :2]],
    "rows and columns": lambda buffer: [buffer[:3, :3], buffer[3:, :3], buffer[:, 3:]],
    "a tail and a block": lambda buffer: [buffer[1:5, 2:6], buffer[0], buffer[5]],
    "columns transposed": lambda buffer: [buffer[:, :3].t(), buffer[:, 3:].t()],
    "every second": lambda buffer: [buffer.view(-1)[::2], buffer.view(-1)[1::2]],
    "every third": lambda buffer: [buffer.view(-1)[at::3] for at in (2, 0, 1)],
    "every second column": lambda buffer: [buffer[:, ::2], buffer[:, 1::2]],
    "rows": lambda buffer: [buffer[:3], buffer[3:]],
}


@pytest.mark.parametrize("views", APART)
def test_views_that_share_no_element(cls: Any, views: str) -> None:
    params, buffer = columns(cls, APART[views])
    plain, _ = columns(cls, lambda other: [view.clone() for view in APART[views](other)])
    for param, alone in zip(params, plain, strict=True):
        if cls in CODED:
            # Moments have blocks in memory's order, which is another of a transposed clone.
            assert param.isfinite().all() and not torch.equal(param, torch.zeros_like(param))
        else:
            torch.testing.assert_close(param, alone)
    if "gap" in views:
        assert torch.equal(buffer[:, 2:5], random(6, 8)[:, 2:5])


OVERLAPPING: dict[str, Callable[[Tensor], list[Tensor]]] = {
    "columns": lambda buffer: [buffer[:, :4], buffer[:, 3:]],
    "a column in rows": lambda buffer: [buffer[:, :1], buffer[2:3]],
    "every second and third": lambda buffer: [buffer.view(-1)[::2], buffer.view(-1)[1::3]],
    "transposed": lambda buffer: [buffer[:6, :6], buffer[:6, :6].t()],
    "a block in a block": lambda buffer: [buffer, buffer[1:5, 2:6]],
    "one element": lambda buffer: [buffer[:, 3], buffer[5, 3:4]],
    "the same": lambda buffer: [buffer[:, 2:4], buffer[:, 2:4]],
}


@pytest.mark.parametrize("views", OVERLAPPING)
def test_views_that_share_an_element_are_refused(cls: Any, views: str) -> None:
    buffer = random(6, 8)
    params = [nn.Parameter(view) for view in OVERLAPPING[views](buffer)]
    optimizer = cls(params, lr=0.1)
    give_grads(params, 0)
    before = buffer.clone()
    with pytest.raises(ValueError, match="shares memory"):
        optimizer.step()
    assert torch.equal(buffer, before)
    assert not optimizer.state


def test_a_gradient_beside_its_parameter(cls: Any) -> None:
    buffer = random(6, 8)
    param = nn.Parameter(buffer[:, :4])
    optimizer = cls([param], lr=0.1)
    for _ in range(SETTLED):
        param.grad = buffer[:, 4:]
        assert step_as_fresh(optimizer) is None
    assert torch.equal(buffer[:, 4:], random(6, 8)[:, 4:])
    assert not torch.equal(buffer[:, :4], random(6, 8)[:, :4])
    before = buffer.clone()
    param.grad = buffer[:, 3:7]
    with pytest.raises(ValueError, match="shares memory"):
        optimizer.step()
    assert torch.equal(buffer, before)


def test_a_view_that_comes_to_overlap_is_refused(cls: Any) -> None:
    buffer = random(6, 8)
    params = [nn.Parameter(buffer[:, :4]), nn.Parameter(buffer[:, 4:])]
    optimizer = cls(params, lr=0.1)
    for seed in range(SETTLED):
        give_grads(params, seed)
        if isinstance(outcome(optimizer.step), ValueError):
            pytest.fail("columns are refused")
    before = buffer.clone()
    params[1].data = buffer[:, 3:7]
    with pytest.raises(ValueError, match="shares memory"):
        optimizer.step()
    assert torch.equal(buffer, before)
