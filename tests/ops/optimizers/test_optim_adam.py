"""`FusedAdam` and `CPUAdam` beside ``torch.optim.AdamW``: the same numbers, the same habits."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from accel.errors import Unsupported
from accel.optim import CPUAdam, FusedAdam

Make = Callable[..., torch.optim.Optimizer]


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(1)
    made = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    return made.to(memory_format=torch.channels_last).to(dtype)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, start: int = 0) -> None:
    dtype = next(model.parameters()).dtype
    for index in range(start, start + steps):
        data = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(index)).to(dtype)
        optimizer.zero_grad()
        model(data).square().mean().backward()
        optimizer.step()


def assert_same(left: nn.Module, right: nn.Module, atol: float = 1e-6) -> None:
    for ours, theirs in zip(left.parameters(), right.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("cls", [FusedAdam, CPUAdam])
@pytest.mark.parametrize(
    "options",
    [
        {"lr": 1e-2},
        {"lr": 1e-2, "weight_decay": 0.5},
        {"lr": 1e-2, "weight_decay": 0.1, "amsgrad": True},
        {"lr": torch.tensor(1e-2), "maximize": True, "betas": (0.5, 0.9), "eps": 1e-3},
    ],
)
def test_trains_like_torch(cls: Make, options: dict) -> None:
    ours, theirs = network(), network()
    train(ours, cls(ours.parameters(), **options), 10)
    train(theirs, torch.optim.AdamW(theirs.parameters(), **{"weight_decay": 0.0, **options}), 10)
    assert_same(ours, theirs)


def test_l2_mode_is_torchs_adam() -> None:
    ours, theirs = network(), network()
    train(ours, FusedAdam(ours.parameters(), adam_w_mode=False, weight_decay=0.3), 8)
    train(theirs, torch.optim.Adam(theirs.parameters(), weight_decay=0.3), 8)
    assert_same(ours, theirs)
    undecayed = network()
    train(undecayed, FusedAdam(undecayed.parameters()), 8)
    with pytest.raises(AssertionError):
        assert_same(undecayed, theirs)


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_switching_in_mid_training_changes_nothing(amsgrad: bool, fused: bool) -> None:
    options = {"lr": 1e-2, "weight_decay": 0.1, "amsgrad": amsgrad}
    plain = network()
    train(plain, torch.optim.AdamW(plain.parameters(), **options), 12)

    model = network()
    first = torch.optim.AdamW(model.parameters(), fused=fused, **options)
    train(model, first, 4)
    second = FusedAdam(model.parameters(), lr=123.0)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    train(model, second, 4, start=4)
    third = torch.optim.AdamW(model.parameters(), lr=123.0)
    third.load_state_dict(copy.deepcopy(second.state_dict()))
    train(model, third, 4, start=8)
    assert_same(model, plain)


def test_state_has_torchs_shape() -> None:
    model = network()
    optimizer = FusedAdam(model.parameters())
    train(model, optimizer, 3)
    other = torch.optim.AdamW(model.parameters())
    train(model, other, 3)
    ours, theirs = optimizer.state_dict(), other.state_dict()
    assert ours["state"].keys() == theirs["state"].keys()
    for number, state in theirs["state"].items():
        mine = ours["state"][number]
        assert mine.keys() == state.keys()
        assert mine["step"].dtype == torch.float32 and mine["step"].shape == ()
        assert mine["step"] == state["step"]
        assert mine["exp_avg"].stride() == state["exp_avg"].stride()
    assert theirs["param_groups"][0].keys() <= ours["param_groups"][0].keys()


def test_low_precision_parameters_get_float32_states() -> None:
    model = network(torch.bfloat16)
    optimizer = FusedAdam(model.parameters(), lr=1e-2)
    train(model, optimizer, 2)
    assert all(state["exp_avg"].dtype == torch.float32 for state in optimizer.state.values())
    saved = copy.deepcopy(optimizer.state_dict())
    again = FusedAdam(model.parameters(), lr=1e-2)
    again.load_state_dict(saved)
    for number, param in enumerate(model.parameters()):
        assert torch.equal(again.state[param]["exp_avg"], saved["state"][number]["exp_avg"])
    train(model, again, 2, start=2)


def test_precision_policy() -> None:
    model = network(torch.bfloat16)
    optimizer = FusedAdam(model.parameters(), lr=1e-4, state_dtype=torch.bfloat16,
                          master_dtype=torch.float32)  # fmt: skip
    exact = network()
    exact.load_state_dict(model.state_dict())
    train(model, optimizer, 5)
    for param in model.parameters():
        state = optimizer.state[param]
        assert state["exp_avg"].dtype == torch.bfloat16
        assert state["master"].dtype == torch.float32
        assert torch.equal(state["master"].bfloat16(), param)
        assert not torch.equal(state["master"], param.float())
    cpu = CPUAdam(model.parameters(), fp32_optimizer_states=False)
    train(model, cpu, 1)
    assert all(state["exp_avg"].dtype == torch.bfloat16 for state in cpu.state.values())


def test_stochastic_rounding_moves_on_average() -> None:
    """Steps far below half a bfloat16 step: to nearest they are lost, else they add up."""
    moved = {}
    for rounding in ("nearest", "stochastic"):
        param = nn.Parameter(torch.ones(10_000, dtype=torch.bfloat16))
        optimizer = FusedAdam([param], lr=1e-4, rounding=rounding, seed=3)
        for _ in range(50):
            param.grad = torch.ones_like(param)
            optimizer.step()
        moved[rounding] = 1 - param.double().mean().item()
    assert moved["nearest"] == 0
    assert abs(moved["stochastic"] - 50e-4) < 5e-4


def test_stochastic_rounding_is_repeatable_and_resumes() -> None:
    def run(split: bool) -> Tensor:
        param = nn.Parameter(torch.ones(1000, dtype=torch.bfloat16))
        optimizer = FusedAdam([param], lr=1e-3, rounding="stochastic", seed=3)
        for index in range(6):
            if split and index == 3:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = FusedAdam([param], rounding="stochastic", seed=3)
                optimizer.load_state_dict(state)
            param.grad = torch.ones_like(param)
            optimizer.step()
        return param.detach()

    assert torch.equal(run(split=False), run(split=True))


def test_gradients_come_and_go() -> None:
    ours, theirs = ([nn.Parameter(torch.ones(5)) for _ in range(4)] for _ in range(2))
    mine, torchs = FusedAdam(ours), torch.optim.AdamW(theirs, weight_decay=0.0)
    for present in [(0, 1), (0, 1, 2, 3), (), (2,), (0, 3)]:
        for params in (ours, theirs):
            for index, param in enumerate(params):
                param.grad = torch.full((5,), index + 1.0) if index in present else None
        mine.step()
        torchs.step()
        for left, right in zip(ours, theirs, strict=True):
            torch.testing.assert_close(left, right)
            if right in torchs.state:
                assert mine.state[left]["step"] == torchs.state[right]["step"]
            else:
                assert left not in mine.state


def test_memory_that_moves_is_noticed() -> None:
    param = nn.Parameter(torch.ones(1000))
    optimizer = FusedAdam([param], lr=0.1)
    for change in ("none", "data", "state", "state data", "grad kept"):
        if change == "data":
            param.data = param.data.clone()
        elif change == "state":
            optimizer.state[param]["exp_avg"] = optimizer.state[param]["exp_avg"].clone()
        elif change == "state data":
            optimizer.state[param]["exp_avg_sq"].data = torch.ones(1000)
        param.grad = torch.ones(1000)
        before = param.detach().clone()
        optimizer.step()
        assert (param < before).all(), change
        assert (optimizer.state[param]["exp_avg"] > 0).all()


def test_gradient_layout_may_change() -> None:
    ours, theirs = nn.Parameter(torch.ones(6, 4)), nn.Parameter(torch.ones(6, 4))
    mine, torchs = FusedAdam([ours]), torch.optim.AdamW([theirs], weight_decay=0.0)
    for grad in (
        torch.rand(6, 4),
        torch.rand(4, 6).t(),
        torch.rand(6, 4),
        torch.rand(6, 8)[:, ::2],
    ):
        ours.grad = theirs.grad = grad
        mine.step()
        torchs.step()
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_go_on(copied: Callable) -> None:
    model, plain = network(), network()
    optimizer = FusedAdam(model.parameters(), lr=1e-2, amsgrad=True)
    train(model, optimizer, 3)
    model, optimizer = copied((model, optimizer))
    train(model, optimizer, 3, start=3)
    train(plain, FusedAdam(plain.parameters(), lr=1e-2, amsgrad=True), 6)
    assert_same(model, plain, atol=0)


def test_state_saved_with_weights_only() -> None:
    model = network(torch.bfloat16)
    optimizer = FusedAdam(model.parameters(), master_dtype=torch.float32, rounding="stochastic")
    train(model, optimizer, 2)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    optimizer.load_state_dict(torch.load(file, weights_only=True))
    train(model, optimizer, 1)


def test_closure_hooks_groups_and_schedulers() -> None:
    ours, theirs = network(), network()
    calls: list[str] = []

    def groups(model: nn.Module) -> list[dict]:
        first, second = model[0], model[3]
        return [{"params": first.parameters(), "lr": 0.1}, {"params": second.parameters()}]

    mine = FusedAdam(groups(ours), lr=1e-2)
    torchs = torch.optim.AdamW(groups(theirs), lr=1e-2, weight_decay=0.0)
    mine.register_step_pre_hook(lambda *_: calls.append("before"))
    mine.register_step_post_hook(lambda *_: calls.append("after"))
    data = torch.randn(4, 3, 8, 8)
    for model, optimizer in ((ours, mine), (theirs, torchs)):
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, [0.1, 0.01], total_steps=8)

        def closure(model: nn.Module = model, opt: torch.optim.Optimizer = optimizer) -> Tensor:
            opt.zero_grad()
            loss = model(data).square().mean()
            loss.backward()
            return loss

        losses = []
        for _ in range(6):
            losses.append(optimizer.step(closure).item())
            scheduler.step()
        assert losses[-1] < losses[0]
    assert_same(ours, theirs)
    assert calls == ["before", "after"] * 6


@pytest.mark.parametrize("overflow", [False, True])
def test_grad_scaler_skips_without_a_wait(overflow: bool) -> None:
    ours, theirs = nn.Parameter(torch.ones(100)), nn.Parameter(torch.ones(100))
    results = []
    for param, cls in ((ours, FusedAdam), (theirs, torch.optim.AdamW)):
        optimizer = cls([param], lr=0.1, weight_decay=0.0)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for index in range(3):
            optimizer.zero_grad()
            loss = (param * (index + 1)).sum()
            if overflow and index == 1:
                loss = loss * float("inf")
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        results.append((scaler.get_scale(), optimizer.state[param]["step"].item()))
    torch.testing.assert_close(ours, theirs)
    assert results[0] == results[1]


def test_every_group_is_checked_before_any_is_stepped() -> None:
    first, second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = FusedAdam([{"params": [first]}, {"params": [second]}])
    first.grad = torch.ones(3)
    second.grad = torch.ones(3).to_sparse()
    with pytest.raises(TypeError, match=r"grads\[0\] has layout torch.sparse_coo"):
        optimizer.step()
    assert torch.equal(first, torch.ones(3))
    assert second not in optimizer.state
    second.grad = torch.ones(3)
    optimizer.param_groups[1]["lr"] = -1.0
    with pytest.raises(ValueError, match=r"lr is -1\.0"):
        optimizer.step()
    assert torch.equal(first, torch.ones(3))
    optimizer.param_groups[1]["lr"] = 1.0
    optimizer.step()
    assert not torch.equal(first, torch.ones(3))


def test_parameters_that_share_memory_are_refused() -> None:
    memory = torch.ones(10)
    params = [nn.Parameter(memory[:6]), nn.Parameter(memory[5:])]
    optimizer = FusedAdam(params)
    for param in params:
        param.grad = torch.ones_like(param)
    with pytest.raises(ValueError, match="shares memory"):
        optimizer.step()
    assert not optimizer.state and torch.equal(memory, torch.ones(10))


def test_gradient_that_aliases_its_parameter_is_refused() -> None:
    param = nn.Parameter(torch.ones(10))
    optimizer = FusedAdam([param])
    param.grad = torch.ones(10)
    optimizer.step()
    before = param.detach().clone()
    param.grad = param.detach()
    with pytest.raises(ValueError, match="shares memory"):
        optimizer.step()
    assert torch.equal(param, before)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"lr": -1.0}, ValueError, "lr"),
        ({"lr": torch.ones(2)}, ValueError, "lr"),
        ({"betas": (0.9, 1.0)}, ValueError, r"betas\[1\]"),
        ({"eps": -1e-8}, ValueError, "eps"),
        ({"weight_decay": float("nan")}, ValueError, "weight_decay"),
        ({"differentiable": True}, Unsupported, "differentiable"),
        ({"state_dtype": torch.int8}, TypeError, "state_dtype"),
        ({"master_dtype": torch.bfloat16}, TypeError, "master_dtype"),
        ({"rounding": "up"}, ValueError, "rounding"),
        ({"seed": 1.5}, TypeError, "seed"),
    ],
)
def test_constructor_refuses_by_name(options: dict, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        FusedAdam([nn.Parameter(torch.ones(1))], **options)


def test_argument_order_of_the_classes_it_stands_in_for() -> None:
    param = nn.Parameter(torch.ones(1))
    fused = FusedAdam([param], 0.5, False, (0.1, 0.2), 1e-3, False, 0.25, True, False)
    group = fused.param_groups[0]
    assert (group["lr"], group["betas"], group["eps"]) == (0.5, (0.1, 0.2), 1e-3)
    assert (group["weight_decay"], group["amsgrad"], group["bias_correction"]) == (
        0.25,
        True,
        False,
    )
    assert (fused.adam_w_mode, fused.set_grad_none) == (0, False)
    cpu = CPUAdam([param], 0.5, False, (0.1, 0.2), 1e-3, 0.25, True, False, False)
    group = cpu.param_groups[0]
    assert (group["weight_decay"], group["amsgrad"], group["eps"]) == (0.25, True, 1e-3)
    assert (cpu.adam_w_mode, group["state_dtype"]) == (0, "param")


# torch's own, when it first traces any optimizer.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_step() -> None:
    ours, theirs = network(), network()
    optimizer = FusedAdam(ours.parameters(), lr=1e-2)
    train(ours, optimizer, 1)
    compiled = torch.compile(optimizer.step, backend="aot_eager")
    for index in range(1, 3):
        data = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(index))
        optimizer.zero_grad()
        ours(data).square().mean().backward()
        compiled()
    train(theirs, FusedAdam(theirs.parameters(), lr=1e-2), 3)
    assert_same(ours, theirs, atol=0)


def test_thousands_of_tensors_of_every_size() -> None:
    sizes = [(index * 37) % 1500 for index in range(3000)]
    ours = [nn.Parameter(torch.ones(size)) for size in sizes]
    theirs = [nn.Parameter(torch.ones(size)) for size in sizes]
    mine = FusedAdam(ours, lr=1e-2, weight_decay=0.1)
    torchs = torch.optim.AdamW(theirs, lr=1e-2, weight_decay=0.1, foreach=True)
    for index in range(3):
        for number, (left, right) in enumerate(zip(ours, theirs, strict=True)):
            left.grad = torch.full_like(left, number % 7 - 3.0 + index)
            right.grad = left.grad.clone()
        mine.step()
        torchs.step()
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-7)


def test_gradients_are_let_go_after_the_step() -> None:
    """Nothing holds on to gradients that the caller has dropped."""
    param = nn.Parameter(torch.ones(10))
    for cls in (FusedAdam, CPUAdam):
        optimizer = cls([param])
        for _ in range(3):
            grad = torch.ones(10)
            held = grad._use_count()
            param.grad = grad
            optimizer.step()
            param.grad = None
            assert grad._use_count() == held
