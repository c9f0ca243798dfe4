"""Compile every Triton kernel for the targets given and print the sizes of the binaries."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from accel.builders.convention import optimizers
from accel.ops.lists.triton.multi_tensor import (
    chunks_kernel,
    tensors_kernel,
    total_kernel,
    work_kernel,
)
from accel.ops.optimizers.triton.adam import adam_kernel, adam_scalars_kernel
from accel.ops.optimizers.triton.adam8bit import adam8bit_kernel
from accel.ops.optimizers.triton.lamb import (
    apply_kernel,
    factor_kernel,
    moments_kernel,
    norms_kernel,
    rates_kernel,
)
from accel.ops.optimizers.triton.lion8bit import lion8bit_kernel
from accel.ops.optimizers.triton.optimizer import count_kernel
from accel.ops.quantizers.triton.blockwise_quantizer import decode_kernel, encode_kernel
from accel.ops.quantizers.triton.fp_quantizer import dequantize_kernel as fp_dequantize_kernel
from accel.ops.quantizers.triton.fp_quantizer import quantize_kernel as fp_quantize_kernel
from accel.ops.quantizers.triton.quantizer import (
    dequantize_kernel,
    quantize_kernel,
    reduce_kernel,
)

ALL_OPS = {"PARAM": 1, "GRAD": 2, "STATE": 0, "MASTER": True, "STOCHASTIC": True, "ALIGNED": True,
           "WIDTH": 16, "SIZE": 1024}  # fmt: skip
SLOTS: dict[str, object] = {"WIDTH": 16, "SIZE": 128}
SCALARS = {**SLOTS, "STEPS": True}
KERNELS: dict[str, tuple[Any, dict[str, object]]] = {
    "adam_step": (
        adam_kernel,
        {"L2": False, "FROM_GRAD": False, "AMSGRAD": True, "ROLLBACK": False, "ON_DEVICE": True},
    ),
    "adam8bit_step": (
        adam8bit_kernel, {"L2": False, "FROM_GRAD": False, "ON_DEVICE": True}
    ),
    "lion8bit_step": (lion8bit_kernel, {"ON_DEVICE": True}),
    "lamb_moments": (moments_kernel, {"INSIDE": False, "ON_DEVICE": True}),
    "lamb_apply": (apply_kernel, {"INSIDE": True, "AHEAD": True}),
    "adam_scalars": (adam_scalars_kernel, {**SCALARS, "AHEAD": 1}),
    "lamb_factor": (factor_kernel, SCALARS),
    "lamb_norms": (norms_kernel, {"WIDTH": 16, "BLOCK": 1024, "SIZE": 1024}),
    "lamb_rates": (rates_kernel, {**SCALARS, "AHEAD": 1, "CORRECT": True, "COEFFS": True}),
    "count": (count_kernel, SLOTS),
}  # fmt: skip
for stem in sorted({*optimizers().values()} - {"adam", "adam8bit", "lamb", "lion8bit"}):
    module = import_module(f"accel.ops.optimizers.triton.{stem}")
    step = getattr(module, f"{stem}_kernel")
    # What a kernel has besides the constants of all ops are its own switches.
    switches = {name for name in step.arg_names if name.isupper()} - {*ALL_OPS}
    KERNELS[f"{stem}_step"] = (step, dict.fromkeys(switches, True))
    KERNELS[f"{stem}_scalars"] = (getattr(module, f"{stem}_scalars_kernel"), SCALARS)
ALL_LISTS = {"WIDTH": 5, "LENGTH": 8192, "SIZE": 1024}
LISTS: dict[str, tuple[Any, dict[str, object]]] = {
    "lists_chunks": (chunks_kernel, {"DTYPE": 1, "SKIP": True, "ALIGNED": True}),
    "lists_tensors": (tensors_kernel, {"SCALED": True, "EACH": True}),
    "lists_total": (total_kernel, {"SCALED": True, "FLAG": True}),
    "lists_axpby": (
        work_kernel,
        {"X": 0, "Y": 1, "OUT": 2, "CHECK": 3, "CLIP": False, "KEEP": False, "ALIGNED": True},
    ),
    "lists_clip": (
        work_kernel,
        {"X": 0, "Y": -1, "OUT": 0, "CHECK": 0, "CLIP": True, "KEEP": True, "ALIGNED": True},
    ),
}
KERNELS |= LISTS
QUANTIZERS: dict[str, tuple[Any, dict[str, object]]] = {
    "blockwise_encode": (
        encode_kernel, {"BLOCK": 256, "DTYPE": 0, "HALF": 128, "ROWS": 8, "PART": 256}
    ),
    "four_bit_encode": (
        encode_kernel, {"BLOCK": 4096, "DTYPE": 1, "HALF": 8, "ROWS": 1, "PART": 1024}
    ),
    "blockwise_decode": (decode_kernel, {"BLOCK": 256, "DTYPE": 2, "FOUR": False, "SIZE": 2048}),
    "four_bit_decode": (decode_kernel, {"BLOCK": 64, "DTYPE": 1, "FOUR": True, "SIZE": 2048}),
    "group_quantize": (quantize_kernel, {"DTYPE": 2, "BITS": 8, "ASYM": False, "PART": 1024}),
    "group_dequantize": (dequantize_kernel, {"DTYPE": 2, "BITS": 4, "ASYM": True, "PART": 1024}),
    "group_reduce": (reduce_kernel, {"DTYPE": 2, "BITS": 4, "ASYM": True, "PART": 1024}),
    "fp_quantize": (
        fp_quantize_kernel,
        {"DTYPE": 1, "BITS": 6, "MANTISSA": 2, "BIAS": 3, "MOST": 28.0, "LEAST": 0.25,
         "ROUNDER": 2.0**19, "STOCHASTIC": True, "PART": 1024},
    ),
    "fp_dequantize": (
        fp_dequantize_kernel,
        {"DTYPE": 1, "BITS": 12, "MANTISSA": 7, "BIAS": 7, "QUANTUM": 2.0**-13, "SELECTED": True,
         "PART": 1024},
    ),
}  # fmt: skip
KERNELS |= QUANTIZERS
TYPES = {
    "rows": "*i64",
    "owners": "*i32",
    "noop_flag": "*i32",
    "sums": "*fp64",
    "results": "*fp64",
    "inv_scale": "*fp32",
    "norms": "*fp32",
    "norm": "*fp32",
    "max_norm": "fp64",
    "partials": "*fp64",
    "seed": "i64",
    "count": "i32",
    "bounds": "*fp32",
    "values": "*fp32",
    "order": "*u8",
    "codes": "*u8",
    "absmax": "*fp32",
    "numel": "i64",
    "blocks": "i64",
}


def compiled(name: str, text: str) -> tuple[Any, bool]:
    """Return a kernel compiled for a target, and whether it is one over elements."""
    backend, arch, warp = text.split(":")
    target = GPUTarget(backend, int(arch) if arch.isdigit() else arch, int(warp))
    kernel, own = KERNELS[name]
    over_elements = "owners" in kernel.arg_names
    if name in QUANTIZERS:
        constants = {key: value for key, value in own.items() if key in kernel.arg_names}
    elif name in LISTS:
        constants = {name: it for name, it in ALL_LISTS.items() if name in kernel.arg_names} | own
    else:
        constants = {**ALL_OPS, **own} if over_elements else own
    types = TYPES | ({"owners": "*i64"} if name in LISTS else {})
    if name in QUANTIZERS:
        element = {0: "*fp32", 1: "*bf16", 2: "*fp16"}[own["DTYPE"]]  # type: ignore[index]
        types |= {"a": element, "vals": element, "out": element}
        if name.startswith("group"):
            numbers = ("pipeline", "nodes", "devices", "contiguous", "in_count", "tensor", "groups")
            types |= dict.fromkeys(("codes", "reduced"), "*i8") | dict.fromkeys(numbers, "i64")
            types |= {"scales": "*fp32", "new_scales": "*fp32", "count": "i64"}
        if name.startswith("fp"):
            types |= {"val": element, "indexes": "*i32", "count": "i64", "each": "i64"}
            types |= {"known": "i64", "out": "*u8", "coded": "*u8"}
    signature = {
        argument: "constexpr" if argument in constants else types.get(argument, "fp32")
        for argument in kernel.arg_names
    }
    source = ASTSource(kernel, signature=signature, constexprs=constants)
    options = {"enable_fp_fusion": False}
    return triton.compile(source, target=target, options=options), over_elements


def sizes_for(text: str) -> dict[str, int]:
    backend = text.split(":", maxsplit=1)[0]
    sizes = {}
    for name in KERNELS:
        binary, over_elements = compiled(name, text)
        sizes[name] = len(binary.asm["cubin" if backend == "cuda" else "hsaco"])
        if backend == "cuda" and over_elements:
            assert "ld.global.v4" in binary.asm["ptx"], f"{name} moves single elements"
    return sizes


if __name__ == "__main__":
    json.dump({target: sizes_for(target) for target in sys.argv[1:]}, sys.stdout)
