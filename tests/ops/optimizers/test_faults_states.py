"""What an optimizer keeps: others' states, plain groups, copies, seeds; and the smallest eps."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from family_cases import CODED
from family_cases import OPTIMIZERS as ALL
from torch import Tensor, nn

from accel.ops.optimizers.codes8bit import blocks
from accel.optim import (
    Adam8bit,
    CPUAdam,
    FusedAdagrad,
    FusedAdam,
    FusedLamb,
)

TORCHS: tuple[Any, ...] = (
    torch.optim.AdamW, torch.optim.Adam, torch.optim.Adagrad, torch.optim.SGD, torch.optim.RMSprop,
    torch.optim.Adamax, torch.optim.Adadelta, torch.optim.Rprop, torch.optim.ASGD,
)  # fmt: skip
KIND = {
    **dict.fromkeys(TORCHS[:2], ("exp_avg", "exp_avg_sq")),
    torch.optim.Adagrad: ("sum",),
    **{cls: tuple(key for key in cls.states if key != "max_exp_avg_sq") for cls in ALL},
}
"""The states that classes keep: those of a kind take over each other's."""
COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda it: pickle.loads(pickle.dumps(it)),
    "save": lambda it: saved(it),
}


def saved(it: Any) -> Any:
    file = io.BytesIO()
    torch.save(it, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def trained(cls: Any, steps: int = 3, **options: Any) -> tuple[nn.Parameter, Any]:
    make = torch.Generator().manual_seed(5)
    param = nn.Parameter(torch.randn(40, 13, generator=make))
    optimizer = cls([param], lr=0.01, **options)
    for _ in range(steps):
        param.grad = torch.randn(40, 13, generator=make)
        optimizer.step()
    return param, optimizer


def again(param: nn.Parameter, optimizer: Any) -> Tensor:
    """Return the parameter after one more step, of the same gradient for all."""
    param.grad = torch.linspace(-1.0, 1.0, 520).view(40, 13)
    optimizer.step()
    return param.detach()


@pytest.mark.parametrize("target", ALL)
@pytest.mark.parametrize(
    "source", [*ALL, *TORCHS], ids=lambda cls: f"{cls.__module__[:5]}{cls.__name__}"
)
def test_every_pair_of_classes_fits_or_is_refused(source: Any, target: Any) -> None:
    options = {"momentum": 0.9} if source is torch.optim.SGD else {}
    _, first = trained(source, **options)
    param, second = trained(target, steps=1)
    before = copy.deepcopy(second.state_dict())
    state = copy.deepcopy(first.state_dict())
    if KIND.get(source) == KIND[target]:
        second.load_state_dict(state)
        assert again(param, second).isfinite().all()
        return
    with pytest.raises(ValueError, match=f"{target.__name__} cannot load this state"):
        second.load_state_dict(state)
    after = second.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for key, value in before["state"][0].items():
        assert torch.equal(after["state"][0][key], value)


@pytest.mark.parametrize("target", [FusedAdam, CPUAdam, FusedLamb])
def test_codes_are_decoded_by_meaning(target: Any) -> None:
    _, first = trained(Adam8bit, seed=1)
    twin, expected = trained(target, steps=1)
    param, found = trained(target, steps=1)
    expected.load_state_dict(copy.deepcopy(first.float_state_dict()))
    found.load_state_dict(copy.deepcopy(first.state_dict()))
    state = found.state[param]
    assert state["exp_avg"].dtype == torch.float32 and "exp_avg_scale" not in state
    assert state["step"] == 3
    assert torch.equal(again(param, found), again(twin, expected))


def test_codes_without_their_scales_are_refused() -> None:
    for change, message in (
        (lambda entry: entry.pop("exp_avg_scale"), "8-bit codes as 'exp_avg'"),
        (lambda entry: entry.update(exp_avg_sq_scale=torch.ones(1)), "codes need 3"),
    ):
        for target in (Adam8bit, FusedAdam):
            state = copy.deepcopy(trained(Adam8bit)[1].state_dict())
            change(state["state"][0])
            with pytest.raises(ValueError, match=message):
                trained(target)[1].load_state_dict(state)


def test_what_users_keep_in_a_state_stays() -> None:
    param, optimizer = trained(FusedAdam)
    optimizer.state[param]["ema"] = torch.ones(3)
    later = FusedAdam([param])
    later.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert torch.equal(later.state[param]["ema"], torch.ones(3))


def plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    if isinstance(value, Mapping):
        return all(map(plain, value.values()))
    return value is None or isinstance(value, str | int | float | bool)


POLICIES: tuple[dict[str, Any], ...] = (
    {"state_dtype": torch.bfloat16},
    {"state_dtype": "bfloat16", "rounding": "stochastic"},
    {"master_dtype": torch.float32},
    {"master_dtype": "float32", "state_dtype": "torch.float16"},
    {"state_dtype": "param"},
)


@pytest.mark.parametrize("cls", ALL)
def test_groups_hold_plain_values(cls: Any) -> None:
    for policy in POLICIES:
        if cls in CODED and "state_dtype" in policy:
            continue
        param = nn.Parameter(torch.ones(600, dtype=torch.bfloat16))
        optimizer = cls([param], **policy)
        param.grad = torch.ones_like(param)
        optimizer.step()
        groups = [{**group, "params": []} for group in optimizer.param_groups]
        assert plain(groups) and plain(optimizer.defaults)
        if "master_dtype" in policy:
            assert optimizer.state[param]["master"].dtype == torch.float32
        if policy.get("state_dtype") in (torch.bfloat16, "bfloat16", "param"):
            assert optimizer.state[param][next(iter(cls.states))].dtype == torch.bfloat16


def test_dtypes_may_still_be_given_and_loaded() -> None:
    param = nn.Parameter(torch.ones(8, dtype=torch.bfloat16))
    param.grad = torch.ones_like(param)
    optimizer = FusedAdam([param])
    optimizer.param_groups[0]["state_dtype"] = torch.float16
    optimizer.param_groups[0]["master_dtype"] = torch.float32
    optimizer.step()
    assert optimizer.state[param]["exp_avg"].dtype == torch.float16
    assert optimizer.state[param]["master"].dtype == torch.float32
    assert plain(optimizer.state_dict()["param_groups"])

    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0].update(state_dtype=torch.float16, master_dtype=torch.float32)
    later = FusedAdam([param], state_dtype=torch.float16, master_weights=True)
    later.load_state_dict(state)
    later.step()
    assert later.state[param]["exp_avg"].dtype == torch.float16
    for wrong in ("int8", "float", torch.float8_e4m3fn, 16):
        with pytest.raises(TypeError, match="state_dtype"):
            FusedAdam([param], state_dtype=wrong)


def test_a_pickle_of_the_version_before() -> None:
    """It holds dtypes in its groups, no `set_grad_none`, and no seed."""
    param, optimizer = trained(Adam8bit, seed=3)
    old = {
        "defaults": {**optimizer.defaults, "master_dtype": torch.float32, "seed": None},
        "state": optimizer.state,
        "param_groups": [
            {**optimizer.param_groups[0], "master_dtype": torch.float32, "seed": None}
        ],
    }
    later = Adam8bit.__new__(Adam8bit)
    later.__setstate__(old)
    assert later.set_grad_none is True and plain(later.defaults["foreach"])
    assert plain([{**group, "params": []} for group in later.param_groups])
    assert again(param, later).isfinite().all()


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("cls", ALL)
def test_copies_keep_every_attribute(cls: Any, how: str) -> None:
    takes = cls is not FusedLamb
    _, optimizer = trained(cls, **({"set_grad_none": False} if takes else {}), fused=True)
    kept = {key: value for key, value in vars(optimizer).items() if key.islower()}
    found = COPIES[how](COPIES[how](optimizer))
    assert found.set_grad_none == (not takes)
    assert found._step_supports_amp_scaling is True
    ours = {"set_grad_none", "adam_w_mode"} & {*kept}
    assert {key: getattr(found, key) for key in ours} == {key: kept[key] for key in ours}
    assert found.defaults == optimizer.defaults
    (param,) = found.param_groups[0]["params"]
    param.grad = torch.ones_like(param)
    found.zero_grad()
    assert (param.grad is None) == (not takes)
    assert again(param, found).isfinite().all()


@pytest.fixture
def torch_seed() -> Iterator[None]:
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


@pytest.mark.parametrize("how", ["state_dict", *COPIES])
@pytest.mark.parametrize(
    ("cls", "options"),
    [(Adam8bit, {}), (FusedAdam, {"rounding": "stochastic"})],
    ids=["8bit", "16"],
)
def test_a_resumed_run_draws_the_same_noise(
    cls: Any, options: dict[str, Any], how: str, torch_seed: None
) -> None:
    def run(split: bool) -> list[Tensor]:
        torch.manual_seed(11)
        param = nn.Parameter(torch.ones(600, dtype=torch.bfloat16))
        optimizer = cls([param], seed=31, **options)
        make = torch.Generator().manual_seed(1)
        for step in range(6):
            if step == 3 and split:
                torch.manual_seed(12)
                if how == "state_dict":
                    state = copy.deepcopy(optimizer.state_dict())
                    optimizer = cls([param], **options)
                    optimizer.load_state_dict(state)
                else:
                    optimizer = COPIES[how](optimizer)
                    (param,) = optimizer.param_groups[0]["params"]
            param.grad = torch.randn(600, generator=make).bfloat16()
            optimizer.step()
        return [param.detach(), *optimizer.state[param].values()]

    assert all(map(torch.equal, run(split=False), run(split=True)))


@pytest.mark.parametrize("late", [False, True])
def test_replicas_draw_alike_whatever_their_processes_seeds(late: bool, torch_seed: None) -> None:
    def run(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        param = nn.Parameter(torch.ones(600, dtype=torch.bfloat16))
        optimizer = FusedAdam([param], rounding="nearest" if late else "stochastic")
        optimizer.param_groups[0]["rounding"] = "stochastic"
        coded = nn.Parameter(torch.ones(600))
        both = (optimizer, param), (Adam8bit([coded]), coded)
        for stepping, stepped in both:
            stepped.grad = torch.linspace(-1, 1, 600, dtype=stepped.dtype)
            stepping.step()
            stepping.step()
        return [param.detach(), coded.detach(), *both[1][0].state[coded].values()]

    assert all(map(torch.equal, run(1), run(2)))


def test_where_the_seed_comes_from(torch_seed: None) -> None:
    param = nn.Parameter(torch.ones(8))
    torch.manual_seed(21)
    seeded, unseeded = Adam8bit([param]), FusedAdam([param])
    assert seeded.param_groups[0]["seed"] == 0
    assert unseeded.param_groups[0]["seed"] is None
    own = Adam8bit([param], seed=7)
    own.load_state_dict(unseeded.state_dict())
    assert own.param_groups[0]["seed"] == 7
    own.load_state_dict(seeded.state_dict())
    assert own.param_groups[0]["seed"] == 0


@pytest.mark.parametrize("rung", ["native", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("cls", [FusedAdam, CPUAdam, Adam8bit, FusedAdagrad])
def test_the_smallest_eps_is_torchs(
    cls: Any, dtype: torch.dtype, rung: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cls is Adam8bit and dtype == torch.float64:
        return
    if rung == "reference":
        monkeypatch.setenv("ACCEL_OPS", "reference")
    theirs: Any = torch.optim.Adagrad if cls is FusedAdagrad else torch.optim.Adam
    for eps in (1e-45, 1e-46, 5e-324, 0.0):
        results = []
        # torch's own moments of bfloat16 parameters are bfloat16: float32 shows what eps does.
        for made, kind in (
            (cls, dtype),
            (theirs, max(dtype, torch.float32, key=lambda t: t.itemsize)),
        ):
            param = nn.Parameter(torch.ones(300, dtype=kind))
            param.grad = torch.zeros_like(param)
            optimizer = made([param], eps=eps, lr=0.1)
            for _ in range(2):
                optimizer.step()
            results.append(param.detach().to(dtype))
        torch.testing.assert_close(*results, equal_nan=True, rtol=0.0, atol=0.0)


def test_scales_are_counted_as_codes_are() -> None:
    assert [*map(blocks, (0, 1, 256, 257))] == [0, 1, 1, 2]
