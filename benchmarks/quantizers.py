"""Quantizers beside the bare pass over memory and bitsandbytes' CPU functions, in one process.

    python benchmarks/quantizers.py [--numel 16777216] [--rounds 15] [--out runs/quantizers]

Contestants take turns; read ratios, not times: whatever else the machine does is in the figures.
`pass` reads the same bytes and writes the same bytes, and all results but torch's own lie in memory
that was written before. bitsandbytes is left out if it is not installed; its slow ones take fewer
turns. On a busy machine, count processor time of one thread:

    ACCEL_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/quantizers.py --cpu-time
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from accel import get_accelerator  # noqa: E402
from accel.jit import Recipe, acquire  # noqa: E402
from accel.ops.threads import cpu_threads  # noqa: E402

Turn = Callable[[], Any]
SLOW = 3  # turns of a contestant that takes a second


def passes(x: Tensor) -> dict[str, Turn]:
    """Return the passes over memory that encode and decode need at least."""
    source = Path(__file__).with_name("quantizers.cpp")
    recipe = Recipe(name="quantizers_bench", backend="cpu", sources=(source,), openmp=True)
    handle = acquire(recipe).handle
    codes = torch.zeros(x.numel(), dtype=torch.uint8, device="cpu")
    out = torch.zeros_like(x)
    for one in (handle.bench_encode_pass, handle.bench_decode_pass):
        one.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32,
                        ctypes.c_int32]  # fmt: skip

    def encode(four: int) -> Turn:
        return lambda: handle.bench_encode_pass(
            codes.data_ptr(), x.data_ptr(), x.numel(), four, cpu_threads()
        )

    def decode(four: int) -> Turn:
        return lambda: handle.bench_decode_pass(
            out.data_ptr(), codes.data_ptr(), x.numel(), four, cpu_threads()
        )

    return {"encode 8": encode(0), "encode 4": encode(1), "decode 8": decode(0),
            "decode 4": decode(1)}  # fmt: skip


def natives(x: Tensor, room: tuple[Tensor, ...]) -> dict[str, Turn]:
    """Return the C functions on memory that the caller keeps: codes, numbers, elements."""
    load = get_accelerator().get_op_builder
    op, groups = (load(name)().load() for name in ("BlockwiseQuantizerBuilder", "QuantizerBuilder"))
    n, threads = x.numel(), cpu_threads()
    a, c, m, o = (one.data_ptr() for one in (x, *room))
    encode, decode, encode_four, decode_four = (
        kind._native for kind in (op._encode, op._decode, op._encode_four, op._decode_four)
    )
    quantize, dequantize = groups._quantize._native, groups._dequantize._native
    size = n // 2048
    numbers = float_codes(x, room[2])
    return {
        "encode 8, dynamic map": lambda: encode(a, None, None, c, m, 256, n, threads, 0, None),
        "encode 4, nf4": lambda: encode_four(a, c, m, 64, 0, n, threads, 0, None),
        "encode 8, groups": lambda: quantize(a, c, m, size, 8, 0, 1, 1, 1, n, threads, 0, None),
        "encode 4, groups": lambda: quantize(a, c, m, size, 4, 0, 1, 1, 1, n, threads, 0, None),
        "decode 8, dynamic map": lambda: decode(c, m, None, o, 256, 0, n, threads, 5, None),
        "decode 4, nf4": lambda: decode_four(c, m, o, 64, 0, n, 0, threads, 5, None),
        "decode 8, groups": lambda: dequantize(c, m, o, size, 8, 0, 0, n, threads, 4, None),
        "decode 4, groups": lambda: dequantize(c, m, o, size, 4, 0, 0, n // 2, threads, 4, None),
        **numbers,
    }


def float_codes(x: Tensor, out: Tensor) -> dict[str, Turn]:
    """Return the C functions that encode as floating-point numbers, in groups of 128."""
    op = get_accelerator().get_op_builder("FPQuantizerBuilder")().load()
    quantize, dequantize = op._quantize._native, op._dequantize._native
    n, threads, turns = x.numel(), cpu_threads(), {}
    for bits, mantissa in ((8, 3), (4, 1)):
        room = torch.zeros((n // 128, 16 * bits + 4), dtype=torch.uint8, device="cpu")

        def encode(bits: int = bits, mantissa: int = mantissa, room: Tensor = room) -> int:
            return quantize(x.data_ptr(), room.data_ptr(), 128, bits, mantissa, 0, 0, n,
                            room.numel(), threads, 0, None)  # fmt: skip

        def decode(bits: int = bits, mantissa: int = mantissa, room: Tensor = room) -> int:
            return dequantize(out.data_ptr(), room.data_ptr(), 128, bits, mantissa, n,
                              room.numel(), threads, 0, None)  # fmt: skip

        if encode() or decode():
            raise RuntimeError("fp_quantizer refused the benchmark's call.")
        turns |= {f"encode {bits}, floats": encode, f"decode {bits}, floats": decode}
    return turns


def surfaces(x: Tensor) -> dict[str, Turn]:
    """Return what users call, whose results are new memory."""
    op = get_accelerator().get_op_builder("BlockwiseQuantizerBuilder")().load()
    codes, packed = op.quantize_blockwise(x), op.quantize_4bit(x)
    return {
        "encode 8": lambda: op.quantize_blockwise(x),
        "encode 4": lambda: op.quantize_4bit(x),
        "decode 8": lambda: op.dequantize_blockwise(*codes),
        "decode 4": lambda: op.dequantize_4bit(*packed),
    }


def bitsandbytes(x: Tensor) -> dict[str, Turn]:
    """Return bitsandbytes' functions of the same results, nothing if it is not installed."""
    logging.disable(logging.WARNING)
    try:
        import bitsandbytes.functional as peer
    except ImportError:
        return {}
    codes, packed = (
        peer.quantize_blockwise(x, blocksize=256),
        peer.quantize_4bit(x, quant_type="nf4"),
    )
    return {
        "encode 8": lambda: peer.quantize_blockwise(x, blocksize=256),
        "encode 4": lambda: peer.quantize_4bit(x, quant_type="nf4"),
        "decode 8": lambda: peer.dequantize_blockwise(*codes),
        "decode 4": lambda: peer.dequantize_4bit(*packed),
    }


def race(numel: int, rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Return the seconds of every contestant, taking turns."""
    x = torch.randn(numel, dtype=torch.float32, device="cpu")
    room = (
        torch.zeros(numel, dtype=torch.uint8, device="cpu"),
        torch.ones(numel // 32, dtype=torch.float32, device="cpu"),
        torch.zeros_like(x),
    )
    sets = {"pass": passes(x), "native": natives(x, room), "accel": surfaces(x),
            "bitsandbytes": bitsandbytes(x)}  # fmt: skip
    field = {f"{who}: {what}": turn for who, turns in sets.items() for what, turn in turns.items()}
    seconds: dict[str, list[float]] = {name: [] for name in field}
    for number in range(rounds + 1):
        for name, turn in field.items():
            if number >= SLOW and name == "bitsandbytes: encode 4":
                continue
            began = clock()
            turn()
            seconds[name].append(clock() - began)
    return {name: listed[1:] for name, listed in seconds.items()}


def rows(seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return what is compared: ours and what it stands beside, with the ratios of medians."""
    found = []
    for name, listed in seconds.items():
        who, _, what = name.partition(": ")
        if who not in ("native", "accel"):
            continue
        kind = what.partition(",")[0]
        beside = f"pass: {kind}" if who == "native" else f"bitsandbytes: {kind}"
        if beside in seconds:
            ours, other = (statistics.median(one) for one in (listed, seconds[beside]))
            least = min(seconds[beside]) / min(listed)
            found.append({"name": name, "beside": beside, "ms": ours * 1e3, "speed": other / ours,
                          "least": least})  # fmt: skip
    return found


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """Draw the share of the pass's speed that each kernel has."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    bars = [one for one in found if one["beside"].startswith("pass")]
    names = [one["name"].removeprefix("native: ") for one in bars]
    figure, axes = plt.subplots(figsize=(7, 0.45 * len(bars) + 1.2), layout="constrained")
    axes.barh(names, [one["speed"] for one in bars])
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("speed, relative to a pass over the same memory (medians, shared machine)")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the race and write what it found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--numel", type=int, default=1 << 24)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/quantizers"))
    options = parser.parse_args()
    if options.numel % (1 << 16):
        parser.error(f"--numel is {options.numel}; expected a multiple of {1 << 16}.")
    seconds = race(
        options.numel, options.rounds,
        time.process_time if options.cpu_time else time.perf_counter,
    )  # fmt: skip
    found = rows(seconds)
    print(f"{options.numel} float32 elements, {cpu_threads()} threads; a shared machine")
    for one in found:
        print(f"  {one['name']:32s} {one['ms']:9.2f} ms   {one['speed']:6.2f} times the speed of "
              f"{one['beside']} (by the least times {one['least']:.2f})")  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "quantizers.json").write_text(json.dumps({"seconds": seconds}, indent=2))
    draw(found, options.out / "quantizers.png")
    print(f"\nWritten: {options.out}/quantizers.json, quantizers.png")


if __name__ == "__main__":
    main()
