"""``max_grad_norm``: a step that clips does what torch's `clip_grad_norm_` and a step do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy
import pytest
import torch
from family_cases import CODED, OPTIMIZERS, compiles
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from accel.errors import Unsupported
from accel.optim import CPUAdam, FusedAdam, FusedLamb, FusedLion

CLASSES = [cls for cls in OPTIMIZERS if cls is not FusedLamb]
SHAPES = ((3, 4), (5,), (700, 3), (2,))
# Of 16 bits torch has the norm in 16 bits, too, and rounds the scaled gradients.
CLOSE = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-6},
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
    torch.bfloat16: {"rtol": 2**-6, "atol": 2**-6},
    torch.float16: {"rtol": 2**-9, "atol": 2**-9},
}


@pytest.fixture(params=["native", "reference"])
def rung(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The rung that steps and norms come from."""
    monkeypatch.setenv("ACCEL_OPS", request.param)
    return str(request.param)


def made(dtype: torch.dtype = torch.float32) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in SHAPES]


def give(params: Sequence[Any], seed: int, factor: float = 1.0) -> None:
    """Give gradients to all but the last parameter."""
    generator = torch.Generator().manual_seed(seed)
    for param in params[:-1]:
        param.grad = (torch.randn(param.shape, generator=generator) * factor).to(param.dtype)


def grouped(cls: Any, params: Sequence[Any], **options: Any) -> Any:
    return cls([{"params": params[:1]}, {"params": params[1:]}], lr=1e-2, **options)


def run(cls: Any, dtype: torch.dtype, limit: float, *, fused: bool) -> tuple[list[Any], Tensor]:
    """Return parameters after some steps, and the last norm; `fused`: by the optimizer."""
    params = made(dtype)
    optimizer = grouped(cls, params, **({"max_grad_norm": limit} if fused else {}))
    for seed in range(5):
        give(params, seed, factor=0.001 if seed == 2 else 1.0)
        norm = None if fused else nn.utils.clip_grad_norm_(params, limit)
        optimizer.step()
        norm = optimizer.grad_norm if fused else norm
    assert norm is not None
    return params, norm


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("cls", CLASSES)
def test_it_is_torchs_clipping_and_a_step(cls: Any, dtype: torch.dtype, rung: str) -> None:
    if cls in CODED and dtype == torch.float64:
        pytest.skip("codes have no float64")
    close = dict(CLOSE[dtype])
    if dtype.itemsize == 2 and issubclass(cls, FusedLion):
        close["atol"] += 2e-2 * 2  # A sum near 0 has another sign: a step to the other side.
    if cls in CODED:
        close["atol"] += 2e-3  # A moment that differs in its last place may be coded differently.
    (found, norm), (wanted, torchs) = (run(cls, dtype, 0.5, fused=fused) for fused in (True, False))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, **close)
    torch.testing.assert_close(norm.to(torchs.dtype), torchs, rtol=CLOSE[dtype]["rtol"], atol=0)
    assert norm.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("cls", CLASSES)
def test_the_factor_goes_through_the_kernels_scale(cls: Any, dtype: torch.dtype, rung: str) -> None:
    """With the bits of a step whose scale is that factor, and gradients stay as they are."""
    if cls in CODED and dtype == torch.float64:
        pytest.skip("codes have no float64")
    ours, theirs = made(dtype), made(dtype)
    one, other = grouped(cls, ours, max_grad_norm=0.5), grouped(cls, theirs)
    for seed in range(4):
        give(ours, seed)
        give(theirs, seed)
        one.step()
        exact = torch.cat([p.grad.double().reshape(-1) for p in theirs[:-1]]).norm()
        torch.testing.assert_close(one.grad_norm.double(), exact, rtol=2e-7, atol=0)
        other.grad_scale = (one.grad_norm.double() + 1e-6) / 0.5
        other.step()
        assert all(map(torch.equal, ours, theirs))
        assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours[:-1], theirs[:-1], strict=True))


@pytest.mark.parametrize("limit", [1e6, float("inf")])
@pytest.mark.parametrize("cls", [FusedAdam, FusedLion])
def test_a_small_norm_changes_nothing(cls: Any, limit: float, rung: str) -> None:
    plain = made()
    optimizer = grouped(cls, plain)
    for seed in range(5):
        give(plain, seed, factor=0.001 if seed == 2 else 1.0)
        optimizer.step()
    assert optimizer.grad_norm is None
    found, norm = run(cls, torch.float32, limit, fused=True)
    assert all(map(torch.equal, found, plain)) and norm > 1


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize("cls", CLASSES)
def test_what_is_not_finite_acts_as_in_torch(cls: Any, value: str, rung: str) -> None:
    ours, theirs = made(), made()
    one, other = grouped(cls, ours, max_grad_norm=1.0), grouped(cls, theirs)
    for params in (ours, theirs):
        give(params, 1)
        params[0].grad[0, 0] = float(value)
    nn.utils.clip_grad_norm_(theirs, 1.0)
    one.step()
    other.step()
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted, equal_nan=True)
    assert one.grad_norm.isnan() if value == "nan" else one.grad_norm.isposinf()


def scaled_run(cls: Any, *, fused: bool, ours: bool, overflow: bool) -> tuple[list[Any], float]:
    params = made()
    optimizer = grouped(cls, params, fused=fused, **({"max_grad_norm": 0.5} if ours else {}))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for seed in range(3):
        give(params, seed, factor=1024.0)
        if overflow and seed == 1:
            params[2].grad[0, 0] = float("inf")
        scaler.scale(torch.zeros(()))
        if not ours:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(params, 0.5)
        scaler.step(optimizer)
        scaler.update(1024.0)
    return params, optimizer.state[params[0]]["step"].item()


@pytest.mark.parametrize("overflow", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("cls", [FusedAdam, CPUAdam, FusedLion])
def test_a_scalers_scale_is_divided_out_first(
    cls: Any, fused: bool, overflow: bool, rung: str
) -> None:
    found, steps = scaled_run(cls, fused=fused, ours=True, overflow=overflow)
    wanted, counted = scaled_run(cls, fused=fused, ours=False, overflow=overflow)
    assert steps == counted == (2.0 if overflow else 3.0)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_norm_is_that_of_unscaled_gradients(rung: str) -> None:
    params = made()
    optimizer = grouped(FusedAdam, params, max_grad_norm=0.5)
    give(params, 1)
    exact = nn.utils.get_total_norm([param.grad for param in params[:-1]])
    for scale in (8.0, torch.tensor([8.0])):
        give(params, 1, factor=8.0)
        optimizer.grad_scale = scale
        optimizer.step()
        torch.testing.assert_close(optimizer.grad_norm, exact)


def test_each_group_has_its_limit_and_all_have_one_norm(rung: str) -> None:
    params = made()
    optimizer = FusedLion([{"params": params[:1], "max_grad_norm": 0.5}], lr=0.1, betas=(0.0, 0.5))
    optimizer.add_param_group({"params": params[1:2], "max_grad_norm": 0.25})
    optimizer.add_param_group({"params": params[2:]})
    assert [group["max_grad_norm"] for group in optimizer.param_groups] == [0.5, 0.25, 0.0]
    give(params, 1)
    optimizer.step()
    norm = nn.utils.get_total_norm([param.grad for param in params[:-1]])
    for param, limit in zip(params, (0.5, 0.25, None), strict=False):
        factor = 1.0 if limit is None else limit / norm
        moment = optimizer.state[param]["exp_avg"]
        torch.testing.assert_close(moment, param.grad * 0.5 * factor)


def test_no_gradients_have_norm_0(rung: str) -> None:
    params = made()
    optimizer = FusedAdam(params, max_grad_norm=1.0)
    optimizer.step()
    assert optimizer.grad_norm.item() == 0.0
    params[1].grad = torch.zeros(5)
    optimizer.step()
    assert optimizer.grad_norm.item() == 0.0 and all(p.isfinite().all() for p in params)


def test_groups_without_parameters_have_no_part_in_it(rung: str) -> None:
    params = made()
    optimizer = FusedLion([{"params": []}, {"params": params}], max_grad_norm=0.5)
    give(params, 1)
    optimizer.step()
    exact = nn.utils.get_total_norm([param.grad for param in params[:-1]])
    torch.testing.assert_close(optimizer.grad_norm, exact)
    optimizer.param_groups[1]["params"] = []
    optimizer.step()
    assert optimizer.grad_norm.item() == 0.0


def test_a_limit_that_is_deleted_is_asked_for() -> None:
    params = made()
    optimizer = FusedAdam(params, max_grad_norm=0.5)
    give(params, 1)
    del optimizer.param_groups[0]["max_grad_norm"]
    with pytest.raises(ValueError, match=r"param_groups\[0\] has no 'max_grad_norm'"):
        optimizer.step()


ODD: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda grad: grad.t().contiguous().t(),
    "gapped": lambda grad: torch.stack([grad, grad], -1)[..., 0],
    "negated": lambda grad: torch._neg_view(-grad),
    "expanded": lambda grad: grad[:1].expand(grad.shape),
}


@pytest.mark.parametrize("name", ODD)
def test_gradients_of_any_layout(name: str, rung: str) -> None:
    ours, theirs = made(), made()
    optimizers = grouped(FusedAdam, ours, max_grad_norm=0.5), grouped(FusedAdam, theirs)
    for seed in range(3):
        for params in (ours, theirs):
            give(params, seed)
            params[2].grad = ODD[name](params[2].grad)
        theirs[2].grad = theirs[2].grad.resolve_neg().contiguous()
        nn.utils.clip_grad_norm_(theirs, 0.5)
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_element_types_that_differ(rung: str) -> None:
    """The norm is of the type that has the most digits, and counts all."""
    params = [nn.Parameter(torch.ones(4, dtype=dtype)) for dtype in CLOSE]
    optimizer = FusedAdam(params, max_grad_norm=0.5)
    for param in params:
        param.grad = torch.full((4,), 2.0, dtype=param.dtype)
    optimizer.step()
    assert optimizer.grad_norm.dtype == torch.float64 and optimizer.grad_norm.item() == 8.0


def test_sparse_gradients_are_refused_as_ever(rung: str) -> None:
    params = made()
    optimizer = FusedAdam(params, max_grad_norm=0.5)
    give(params, 1)
    params[0].grad = params[0].grad.to_sparse()
    before = [param.detach().clone() for param in params]
    with pytest.raises(TypeError, match=r"params\[0\]|grads\[0\]"):
        optimizer.step()
    assert all(map(torch.equal, params, before)) and optimizer.grad_norm is None


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_what_is_no_limit_is_refused_by_name(cls: Any) -> None:
    for value in (-1.0, float("nan"), "1", True, torch.ones(2), None):
        error: Any = ValueError if isinstance(value, float) else TypeError
        with pytest.raises(error, match="max_grad_norm"):
            cls(made(), max_grad_norm=value)
        optimizer = cls(made())
        with pytest.raises(error, match="max_grad_norm"):
            optimizer.add_param_group({"params": made(), "max_grad_norm": value})
        assert len(optimizer.param_groups) == 1
        optimizer.param_groups[0]["max_grad_norm"] = value
        with pytest.raises(error, match="max_grad_norm"):
            optimizer.step()


def test_pieces_of_fsdp1_are_refused_once_they_are_clipped() -> None:
    params = made()
    params[0]._fsdp_flattened = True
    optimizer = FusedAdam(params)
    for seed in range(3):
        give(params, seed)
        optimizer.step()
    optimizer.param_groups[0]["max_grad_norm"] = 1.0
    with pytest.raises(Unsupported, match=r"max_grad_norm.*fully_shard"):
        optimizer.step()
    with pytest.raises(Unsupported, match=r"max_grad_norm.*fully_shard"):
        FusedAdam(params, max_grad_norm=1.0)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_resumed_run_clips_as_before(cls: Any) -> None:
    params = made()
    optimizer = grouped(cls, params, max_grad_norm=0.5, **({"seed": 3} if cls in CODED else {}))

    def train(optimizer: Any, params: Sequence[Any], seeds: range) -> None:
        for seed in seeds:
            give(params, seed)
            optimizer.step()

    train(optimizer, params, range(3))
    kept = [param.detach().clone() for param in params]
    state = copy.deepcopy(optimizer.state_dict())
    copied, again = (
        copy.deepcopy((params, optimizer)),
        pickle.loads(pickle.dumps((params, optimizer))),
    )
    train(optimizer, params, range(3, 6))
    others = [nn.Parameter(one) for one in kept]
    # As with every other setting, the state's value replaces the constructor's.
    loaded = grouped(cls, others, max_grad_norm=7.0)
    loaded.load_state_dict(state)
    assert {group["max_grad_norm"] for group in loaded.param_groups} == {0.5}
    for theirs, resumed in (copied, again, (others, loaded)):
        assert resumed.grad_norm is None
        train(resumed, theirs, range(3, 6))
        assert all(map(torch.equal, params, theirs))


def test_states_without_a_limit_take_the_constructors() -> None:
    params = made()
    theirs = torch.optim.AdamW(params)
    give(params, 1)
    theirs.step()
    ours = FusedAdam(params, max_grad_norm=0.5)
    ours.load_state_dict(theirs.state_dict())
    assert ours.param_groups[0]["max_grad_norm"] == 0.5
    torch.optim.AdamW(params).load_state_dict(ours.state_dict())
    old = pickle.loads(pickle.dumps(FusedAdam(made())))
    state = {**FusedAdam(made()).__getstate__(), "defaults": dict(old.defaults)}
    del state["defaults"]["max_grad_norm"], state["param_groups"][0]["max_grad_norm"]
    old.__setstate__(state)
    assert old.defaults["max_grad_norm"] == old.param_groups[0]["max_grad_norm"] == 0.0


def test_a_limit_set_in_mid_run_holds_from_the_next_step(rung: str) -> None:
    params = made()
    optimizer = FusedLion(params, lr=0.1, betas=(0.0, 0.0))
    for seed, limit in enumerate((0.0, 0.5, 2, 0.0, numpy.float64(0.25))):
        optimizer.param_groups[0]["max_grad_norm"] = limit
        give(params, seed)
        optimizer.step()
        norm = nn.utils.get_total_norm([param.grad for param in params[:-1]])
        factor = float(limit / norm) if limit else 1.0
        torch.testing.assert_close(optimizer.state[params[1]]["exp_avg"], params[1].grad * factor)
        assert (optimizer.grad_norm is None) == (not limit)


@compiles
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("cls", "dtype"), [(FusedAdam, torch.float32), (FusedLion, torch.float64)])
def test_a_compiled_step_has_the_bits_of_the_eager_one(cls: Any, dtype: torch.dtype) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    runs = []
    for compiled in (True, False):
        params = made(dtype)
        optimizer = grouped(cls, params, max_grad_norm=0.5)
        step = optimizer.step
        if compiled:
            step = torch.compile(step, backend=counter, fullgraph=True)
        norms = []
        for seed in range(6):
            # Two graphs: of the first limit, and of one that varies.
            if seed > 2:
                for group in optimizer.param_groups:
                    group["max_grad_norm"] = 0.5 / seed
            give(params, seed)
            if seed == 5:
                params[0].grad[0, 0] = float("inf")
            step()
            norms.append(optimizer.grad_norm.clone())
        runs.append([*params, *norms])
    assert counter.frame_count <= 2
    for one, other in zip(*runs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@compiles
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    "limits", [range(1, 6), [0.5 / n for n in range(1, 6)]], ids=["int", "float"]
)
def test_limits_that_vary_are_compiled_twice(limits: Sequence[float]) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    found = []
    for compiled in (True, False):
        params = made()
        optimizer = grouped(FusedAdam, params, max_grad_norm=0.7)
        step = torch.compile(optimizer.step, backend=counter) if compiled else optimizer.step
        for seed, limit in enumerate(limits):
            for group in optimizer.param_groups:
                group["max_grad_norm"] = limit
            give(params, seed)
            step()
        found.append(params)
    assert counter.frame_count <= 2
    assert all(map(torch.equal, *found))
