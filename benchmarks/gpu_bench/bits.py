"""Bits of the device's kernels beside the CPU's, over all float32 numbers that there are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from accel.ops.optimizers.codes8bit import ADAM8BIT_BLOCK
from accel.ops.optimizers.lists import Hyper, TensorLists
from accel.ops.optimizers.reference.adagrad import AdagradHyper
from accel.ops.optimizers.reference.adam8bit import Adam8bitHyper
from accel.ops.optimizers.reference.lion import LionHyper

from .bench import Bench, expect
from .tensors import copied, hyper

NUMBERS: dict[str, tuple[tuple[str, ...], Callable[[], Hyper]]] = {
    "FusedAdam": (("exp_avgs", "exp_avg_sqs"), hyper),
    "FusedLion": (("exp_avgs",), lambda: LionHyper(lr=0.02, weight_decay=0.1, step=3,
                                                   beta1=0.9, beta2=0.99)),
    "FusedAdagrad": (("sums",), lambda: AdagradHyper(lr=0.02, weight_decay=0.1, step=3, eps=1e-6)),
    "Adam8bit": ((), lambda: Adam8bitHyper(lr=0.02, weight_decay=0.1, step=3, beta1=0.9,
                                           beta2=0.99, eps=1e-6, seed=5, flags=3)),
}  # fmt: skip


def check_wide_bits(bench: Bench) -> str:
    """Every op has the CPU kernel's bits, whatever the numbers; NaN counts as NaN."""
    numel = 1 << (16 if bench.small else 25)
    ranges = {"moderate": _moderate, "usual": _usual, "any": _any}
    for name in NUMBERS:
        cpu = _on_host(name)
        for kind, draw in ranges.items():
            host = _tensors(name, numel, draw)
            device = copied(host, device=str(bench.device))
            numbers = NUMBERS[name][1]()
            cpu.run(host, numbers)
            bench.kernel(name).run(device, numbers)
            lists = [*host.roles.items(), *host.extras.items()]
            for role, wanted in lists:
                got = {**device.roles, **device.extras}[role][0].cpu()
                differing = _differing(got, wanted[0])
                expect(not differing, f"{name}, {kind} numbers: {differing} of {role} differ")
    return f"{numel} numbers of {len(ranges)} kinds for each of {len(NUMBERS)} ops"


def _on_host(name: str):  # noqa: ANN202
    from accel.cpu import CPUAccelerator

    return CPUAccelerator().create_op_builder(f"{name}Builder").jit_load().kernel


def _any(numel: int, generator: torch.Generator) -> Tensor:
    """Return every kind of float32: subnormal, infinite and not a number among them."""
    bits = torch.randint(-(2**31), 2**31, (numel,), generator=generator, dtype=torch.int64)
    return bits.to(torch.int32).view(torch.float32)


def _moderate(numel: int, generator: torch.Generator) -> Tensor:
    """Return numbers within 2^-40 and 2^20, some of them 0."""
    sign = torch.randint(-1, 2, (numel,), generator=generator).float()
    return sign * torch.exp2(torch.rand(numel, generator=generator) * 60 - 40)


def _usual(numel: int, generator: torch.Generator) -> Tensor:
    """Return numbers such as a training has."""
    return torch.randn(numel, generator=generator) * 1e-2


def _tensors(name: str, numel: int, draw: Callable[[int, torch.Generator], Tensor]) -> TensorLists:
    generator = torch.Generator().manual_seed(13)
    roles = {role: [draw(numel, generator)] for role in ("params", "grads")}
    for role in NUMBERS[name][0]:
        drawn = draw(numel, generator)
        roles[role] = [drawn if role == "exp_avgs" else drawn.abs()]
    extras = {}
    if name == "Adam8bit":
        blocks = -(-numel // ADAM8BIT_BLOCK)
        for role in ("exp_avgs", "exp_avg_sqs"):
            codes = torch.randint(0, 256, (numel,), generator=generator).to(torch.uint8)
            roles[role] = [codes]
            scales = draw(blocks, generator).abs()
            # A scale is at least 2^-95, or 0 with all its codes.
            extras[f"{role[:-1]}_scales"] = [scales.clamp(2.0**-95, 1e30).nan_to_num(1.0)]
    return TensorLists(roles, None, extras)


def _differing(got: Tensor, wanted: Tensor) -> int:
    if not got.is_floating_point():
        return int((got != wanted).sum())
    same = (got.view(torch.int32) == wanted.view(torch.int32)) | (got.isnan() & wanted.isnan())
    return int((~same).sum())
