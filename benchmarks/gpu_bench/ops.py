"""Checks of every op on a real GPU, for gpu.py: results, replays, memory, other devices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from accel.errors import AccelError, Unsupported
from accel.ops.optimizers.codes8bit import encode
from accel.ops.optimizers.family import Family
from accel.ops.optimizers.kernel import kernel_for
from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.reference.adagrad import ADAGRAD, AdagradHyper
from accel.ops.optimizers.reference.adam import ADAM
from accel.ops.optimizers.reference.adam8bit import ADAM8BIT, Adam8bitHyper
from accel.ops.optimizers.reference.lamb import LAMB, LAMB_BIAS_CORRECTION, PHASES, LambHyper
from accel.ops.optimizers.reference.lion import LION, LionHyper
from accel.optim import Adam8bit, FusedAdagrad, FusedAdam, FusedLamb, FusedLion

from .bench import BF16, F16, F32, Bench, expect
from .tensors import SIZES, copied, hyper, make, worst

_BETAS = {"beta1": 0.9, "beta2": 0.99}
_SHARED = {"lr": 0.02, "weight_decay": 0.1, "step": 3}
OPS: dict[str, tuple[Family, Hyper]] = {
    "FusedLion": (LION, LionHyper(**_SHARED, **_BETAS)),
    "FusedAdagrad": (ADAGRAD, AdagradHyper(**_SHARED, eps=1e-6)),
    "FusedLamb": (
        LAMB,
        LambHyper(**_SHARED, **_BETAS, eps=1e-6, max_coeff=10.0, min_coeff=0.01,
                  flags=PHASES | LAMB_BIAS_CORRECTION),
    ),
}  # fmt: skip
TYPES = ((F32, F32, F32), (BF16, BF16, F32), (F16, F16, F16), (BF16, F32, BF16))
REPLAYED: dict[str, tuple[Any, dict[str, object]]] = {
    "FusedAdam": (FusedAdam, {"lr": 0.02}),
    "FusedAdam, stochastic": (FusedAdam, {"lr": 1e-4, "rounding": "stochastic", "seed": 3}),
    "FusedLion, stochastic": (FusedLion, {"lr": 1e-4, "rounding": "stochastic", "seed": 3}),
    "FusedAdagrad, stochastic": (FusedAdagrad, {"lr": 1e-4, "rounding": "stochastic", "seed": 3}),
    "FusedLamb": (FusedLamb, {"lr": 0.02}),
    "Adam8bit": (Adam8bit, {"lr": 0.02, "seed": 3}),
}
REPLAYS = 3


def _lists(
    bench: Bench,
    family: Family,
    dtypes: tuple[Any, ...],
    offset: int,
    sizes: tuple[int, ...] = SIZES,
) -> TensorLists:
    """Return Adam's tensors with the states of another op."""
    tensors = make(bench, sizes, dtypes, offset=offset, steps=True)
    roles = tensors.roles
    if family is ADAGRAD:
        roles["sums"] = roles.pop("exp_avg_sqs")
        del roles["exp_avgs"]
    elif family is LION:
        del roles["exp_avg_sqs"]
    elif family is LAMB:
        norms = torch.zeros(len(sizes), 2, dtype=torch.float64, device=bench.device)
        coeffs = torch.zeros(len(sizes), device=bench.device)
        tensors.extras = {"norms": norms.unbind(), "coeffs": coeffs.unbind()}
    return tensors


def check_ops(bench: Bench) -> str:
    """Lion, Adagrad and LAMB in every kind of types, aligned and not, against float64."""
    most: dict[str, float] = {}
    for name, (family, numbers) in OPS.items():
        kernel, reference = bench.kernel(name), bench.reference(name)
        # LAMB's step is defined by its moments as they are stored, which float64 does not round.
        for dtypes in [types for types in TYPES if family is not LAMB or types[2] is F32]:
            for offset in (0, 1):
                tensors = _lists(bench, family, dtypes, offset)
                exact = copied(tensors, torch.float64)
                kernel.run(tensors, numbers)
                reference.run(exact, numbers)
                expect([*map(float, tensors.steps or ())] == [*map(float, exact.steps or ())],
                       f"{name}: step counts differ")  # fmt: skip
                most[name] = max(most.get(name, 0.0), worst(tensors, exact))
        # Up to the units of `worst`; LAMB's sums come in another order on every device.
        expect(most[name] <= 1.5, f"{name} is off by {most[name]:.3g} last places")
    parts = ", ".join(f"{name} {error:.2f}" for name, error in most.items())
    return f"types and alignments, in last places at most: {parts}"


MANY = SIZES[:7] * 80
"""More tensors than one launch takes, so that the tables of 32 KB are used, and more than one."""


def check_many(bench: Bench) -> str:
    """Lists of hundreds of tensors against float64, and captured in a graph."""
    ops = {"FusedAdam": (ADAM, hyper()), **OPS}
    errors = []
    for name, (family, numbers) in ops.items():
        for dtypes in ((F32, F32, F32), (BF16, BF16, F32)):
            tensors = _lists(bench, family, dtypes, 0, MANY)
            exact, replayed = copied(tensors, torch.float64), copied(tensors)
            kernel = bench.kernel(name)
            kernel.run(tensors, numbers)
            bench.reference(name).run(exact, numbers)
            error = worst(tensors, exact)
            expect(error <= 1.5, f"{name}, {dtypes[0]}: off by {error:.3g} last places")
            errors.append(error)
            if family is LAMB:
                continue
            graph = bench.accelerator.create_graph()
            with bench.accelerator.capture_to_graph(graph):
                kernel.run(replayed, numbers)
            if bench.device.type != "cpu":  # The host's capture has done the step.
                bench.accelerator.replay_graph(graph)
            for role, listed in replayed.roles.items():
                pairs = zip(listed, tensors.roles[role], strict=True)
                expect(all(torch.equal(*pair) for pair in pairs), f"{name}: replayed {role} differ")
    return f"{len(MANY)} tensors, {len(errors)} cases, at most {max(errors):.2f} last places off"


def check_adam8bit(bench: Bench) -> str:
    """8-bit Adam against the PyTorch reference on the host, codes and scales included."""
    numbers = Adam8bitHyper(**_SHARED, **_BETAS, eps=1e-6, seed=2**63 + 5, flags=3)
    kernel, reference = bench.kernel("Adam8bit"), kernel_for(ADAM8BIT, None, "cpu")
    most = 0.0
    for dtype in (F32, BF16, F16):
        for offset in (0, 1):
            tensors = make(bench, SIZES, (dtype, dtype, F32), offset=offset, steps=True)
            for role, signed in (("exp_avgs", True), ("exp_avg_sqs", False)):
                coded = [encode(x, signed=signed) for x in tensors.roles[role]]
                tensors.roles[role] = [codes for codes, _ in coded]
                tensors.extras[f"{role[:-1]}_scales"] = [scales for _, scales in coded]
            host = copied(tensors, device="cpu")
            kernel.run(tensors, numbers)
            reference.run(host, numbers)
            for role in ("exp_avgs", "exp_avg_sqs"):
                got = torch.cat([x.cpu().int() for x in tensors.roles[role]])
                want = torch.cat([x.int() for x in host.roles[role]])
                expect(int((got - want).abs().max()) <= 1, f"{role}: a code is off by more than 1")
                most = max(most, float((got != want).float().mean()))
            for got, want in zip(tensors.params, host.params, strict=True):
                close = torch.allclose(got.cpu().float(), want.float(), rtol=2.0**-7, atol=1e-6)
                expect(close, f"parameters of {dtype} differ")
    expect(most < 2e-3, f"{most:.2%} of the codes differ")
    return f"6 cases, {most:.4%} of the codes a step off"


def _optimizer(bench: Bench, name: str) -> tuple[Any, list[Tensor]]:
    """Return a fresh optimizer, and all that its steps change."""
    kind, options = REPLAYED[name]
    make_values = torch.Generator().manual_seed(5)
    values = [torch.randn(size, generator=make_values) for size in (1, 8193, 70_000)]
    params = [torch.nn.Parameter(x.to(bench.device, BF16)) for x in values]
    for param, x in zip(params, values, strict=True):
        param.grad = (x * 3).cos().to(bench.device, BF16)
    return kind(params, **options), [param.detach() for param in params]


def check_replays(bench: Bench) -> str:
    """Replays of a captured step do what as many eager steps do, random bits included."""
    differing: dict[str, float] = {}
    for name in REPLAYED:
        captured, ours = _optimizer(bench, name)
        eager, theirs = _optimizer(bench, name)
        captured.step()
        bench.accelerator.synchronize()
        graph = bench.accelerator.create_graph()
        with bench.accelerator.capture_to_graph(graph):
            captured.step()
        # The host's capture has done the step; a device's only wrote it down.
        for _ in range(REPLAYS - (bench.device.type == "cpu")):
            bench.accelerator.replay_graph(graph)
        for _ in range(1 + REPLAYS):
            eager.step()
        bench.accelerator.synchronize()
        pairs = [
            *zip(ours, theirs, strict=True),
            *zip(_states(captured), _states(eager), strict=True),
        ]
        total = sum(got.numel() for got, _ in pairs)
        differing[name] = sum(int((got != want).sum()) for got, want in pairs) / total
        # LAMB adds its norms up in no fixed order.
        expect(differing[name] <= (1e-2 if name == "FusedLamb" else 0.0),
               f"{name}: {differing[name]:.2%} of the elements differ")  # fmt: skip
    return f"{REPLAYS} replays of {len(differing)} optimizers; LAMB differs in " + (
        f"{differing['FusedLamb']:.4%}, the others in nothing"
    )


def _states(optimizer: Any) -> list[Tensor]:
    return [
        value
        for param in optimizer.param_groups[0]["params"]
        for value in optimizer.state[param].values()
    ]


def check_random_bits(bench: Bench) -> str:
    """Two replays draw different bits, and a capture without a step on the device is refused."""
    param = torch.full((1 << 16,), 1.0 + 2.0**-9, dtype=F32, device=bench.device)
    rounded = torch.nn.Parameter(param.to(BF16))
    rounded.grad = torch.zeros_like(rounded)
    optimizer = FusedAdam([rounded], lr=0.0, rounding="stochastic", seed=1, master_dtype=F32)
    optimizer.step()
    optimizer.state[rounded]["master"].copy_(param)
    graph = bench.accelerator.create_graph()
    with bench.accelerator.capture_to_graph(graph):
        optimizer.step()
    draws = []
    for _ in range(2):
        bench.accelerator.replay_graph(graph)
        draws.append(rounded.detach() > 1.0)
    ups = [draw.float().mean().item() for draw in draws]
    expect(all(abs(up - 0.25) < 0.02 for up in ups), f"rounded up in {ups}; expected a quarter")
    same = (draws[0] == draws[1]).float().mean().item()
    expect(abs(same - 0.625) < 0.02, f"two replays agree in {same:.1%}; expected 62.5%")
    _refused_in_capture(bench)
    return f"two replays agree in {same:.1%} of the elements, as independent draws do"


def _refused_in_capture(bench: Bench) -> None:
    codes = [torch.zeros(8, dtype=torch.uint8, device=bench.device) for _ in range(2)]
    scales = [torch.zeros(1, device=bench.device) for _ in range(2)]
    floats = [torch.ones(8, device=bench.device) for _ in range(2)]
    lists = [[x] for x in (*floats, codes[0], scales[0], codes[1], scales[1])]
    op = bench.accelerator.create_op_builder("Adam8bitBuilder").load()
    side = torch.zeros(1, device=bench.device)
    refused = False
    with bench.accelerator.capture_to_graph(bench.accelerator.create_graph()):
        side.add_(1)
        try:
            op.multi_tensor_adam8bit(1, None, lists, 0.1, 0.9, 0.99, 1e-8, 1, 1, True, 0.0, 7)
        except Unsupported:
            refused = True
    expect(refused, "a capture with the host's step was accepted")


def check_memory(bench: Bench) -> str:
    """Without room for the states the error is torch's, and the optimizer is as it was."""
    if bench.device.type != "cuda":
        return "left out: not CUDA"
    bench.accelerator.empty_cache()
    numel = int(bench.accelerator.available_memory() * 0.4) // 4
    param = torch.nn.Parameter(torch.ones(numel, device=bench.device))
    param.grad = torch.zeros_like(param)
    optimizer = FusedAdam([param])
    try:
        optimizer.step()
    except torch.OutOfMemoryError as error:
        said = str(error).splitlines()[0][:80]
    else:
        raise AssertionError("a step found memory for states that do not fit")
    expect(not optimizer.state, "a state was kept")
    expect(bool((param == 1).all()), "the parameter was written")
    param.grad = None
    del optimizer, param
    bench.accelerator.empty_cache()
    return said


def check_full_memory(bench: Bench) -> str:
    """A launch on a device without free memory works, or fails with CUDA's name for it."""
    if bench.device.type != "cuda":
        return "left out: not CUDA"
    tensors = _lists(bench, LION, TYPES[0], 0)
    bench.accelerator.empty_cache()
    hoard, size = [], bench.accelerator.available_memory()
    while size >= 1 << 20:
        try:
            hoard.append(torch.empty(size, dtype=torch.uint8, device=bench.device))
        except torch.OutOfMemoryError:
            size //= 2
    try:
        bench.kernel("FusedLion").run(tensors, OPS["FusedLion"][1])
        bench.accelerator.synchronize()
        said = "the launch needed none"
    except AccelError as error:
        expect("cudaError" in str(error), str(error))
        said = str(error)
    hoard.clear()
    bench.accelerator.empty_cache()
    return said


def check_devices(bench: Bench) -> str:
    """Tensors of another device than the current one are stepped there."""
    if bench.device.type != "cuda" or bench.accelerator.device_count() < 2:
        return "left out: one device"
    here = make(bench, SIZES, (BF16, BF16, F32), master=True, steps=True)
    there = copied(here, device="cuda:1")
    for tensors in (here, there):
        bench.kernel().run(tensors, hyper())
    expect(bench.accelerator.current_device() == 0, "the current device was changed")
    for role, listed in here.roles.items():
        for got, want in zip(there.roles[role], listed, strict=True):
            expect(torch.equal(got.cpu(), want.cpu()), f"{role} differ")
    return "cuda:1 under cuda:0"
