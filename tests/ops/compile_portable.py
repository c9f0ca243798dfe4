"""Compile every Triton kernel for the targets given and print the sizes of the binaries."""

from __future__ import annotations

import json
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from accel.ops.portable.adagrad import adagrad_kernel
from accel.ops.portable.adam import adam_kernel
from accel.ops.portable.adam8bit import adam8bit_kernel
from accel.ops.portable.lamb import (
    apply_kernel,
    clear_kernel,
    coefficients_kernel,
    moments_kernel,
)
from accel.ops.portable.lion import lion_kernel
from accel.ops.portable.optimizer import count_kernel

SLOTS: dict[str, object] = {"WIDTH": 10, "SIZE": 128}
KERNELS: dict[str, tuple[Any, dict[str, object]]] = {
    "adam_step": (
        adam_kernel,
        {"L2": False, "FROM_GRAD": False, "AMSGRAD": True, "ROLLBACK": False, "STEPS": True,
         "ON_DEVICE": True},
    ),
    "lion_step": (lion_kernel, {"ON_DEVICE": True}),
    "adagrad_step": (adagrad_kernel, {"L2": True, "STEPS": True, "ON_DEVICE": True}),
    "adam8bit_step": (
        adam8bit_kernel, {"L2": False, "FROM_GRAD": False, "STEPS": True, "ON_DEVICE": True}
    ),
    "lamb_moments": (moments_kernel, {"INSIDE": False, "ON_DEVICE": True}),
    "lamb_apply": (apply_kernel, {"INSIDE": True, "STEPS": True, "AHEAD": True}),
    "lamb_clear": (clear_kernel, SLOTS),
    "lamb_coefficients": (coefficients_kernel, SLOTS),
    "count": (count_kernel, SLOTS),
}  # fmt: skip
ALL_OPS = {"PARAM": 1, "GRAD": 2, "STATE": 0, "MASTER": True, "STOCHASTIC": True, "ALIGNED": True,
           "WIDTH": 10, "SIZE": 1024}  # fmt: skip
TYPES = {"rows": "*i64", "owners": "*i32", "seed": "i64", "count": "i32"}


def sizes_for(text: str) -> dict[str, int]:
    backend, arch, warp = text.split(":")
    target = GPUTarget(backend, int(arch) if arch.isdigit() else arch, int(warp))
    sizes = {}
    for name, (kernel, own) in KERNELS.items():
        constants = own if own is SLOTS else {**ALL_OPS, **own}
        signature = {
            argument: "constexpr" if argument in constants else TYPES.get(argument, "fp32")
            for argument in kernel.arg_names
        }
        source = ASTSource(kernel, signature=signature, constexprs=constants)
        binary = triton.compile(source, target=target, options={"enable_fp_fusion": False})
        sizes[name] = len(binary.asm["cubin" if backend == "cuda" else "hsaco"])
        if backend == "cuda" and own is not SLOTS:
            assert "ld.global.v4" in binary.asm["ptx"], f"{name} moves single elements"
    return sizes


json.dump({target: sizes_for(target) for target in sys.argv[1:]}, sys.stdout)
