"""The picture of results of ``benchmarks/gpu.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Without the date and the version of what draws, so that the same results give the same file.
METADATA: dict[str, dict[str, None]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}


def draw(facts: dict[str, Any], file: Path) -> None:
    """Draw the bandwidths beside the copy's, and the wall times of many tensors.

    Raises:
        ImportError: matplotlib is not installed.
        KeyError: a measure that is drawn is not among the facts.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = facts["measures"]
    rates = _rates(found)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), width_ratios=(2, 1))
    colors = ["#888888" if "accel" not in name else "#4477aa" for name in rates]
    left.barh([*rates][::-1], [rate / 1e9 for rate in rates.values()][::-1], color=colors[::-1])
    left.axvline(rates["copy"] / 1e9, color="#888888", linestyle=":")
    left.set_xlabel("GB/s, read plus written")
    left.set_title(f"{found['adam_fp32']['elements']:,} elements")
    many = found["many_tensors"]
    walls = {"accel": many["seconds"], "torch\nfused": many["torch_fused_seconds"],
             "torch\nforeach": many["torch_foreach_seconds"]}  # fmt: skip
    bars = ["#4477aa", "#888888", "#888888"]
    right.bar([*walls], [seconds * 1e6 for seconds in walls.values()], color=bars)
    right.set_ylabel("µs a step, Python included")
    right.set_title(f"{many['tensors']} tensors of 1024")
    figure.suptitle(f"{facts['gpu']}, torch {facts.get('torch')}, {facts['date'][:10]}")
    figure.tight_layout()
    figure.savefig(file, dpi=120, metadata=METADATA.get(file.suffix.lower()))
    pyplot.close(figure)


def _bitsandbytes(found: dict[str, Any]) -> dict[str, float]:
    peer = found.get("bitsandbytes_adam8bit", {})
    if "bitsandbytes_seconds" not in peer:
        return {}
    moved = found["adam8bit_fp32"]["bytes_each"] * peer["elements"]
    return {"bitsandbytes Adam 8-bit": moved / peer["bitsandbytes_seconds"]}


def _rates(found: dict[str, Any]) -> dict[str, float]:
    """Return bytes a second; a peer's are those that its step must move, over its time."""
    fp32 = found["adam_fp32"]
    moved = 28 * fp32["elements"]
    return {
        "copy": found["copy"]["bytes_per_s"],
        "accel Adam fp32": fp32["bytes_per_s"],
        "torch fused fp32": moved / fp32["torch_fused_seconds"],
        "torch foreach fp32": moved / fp32["torch_foreach_seconds"],
        "accel Adam bf16 + masters": found["adam_bf16_master"]["bytes_per_s"],
        "accel Adam 8-bit": found["adam8bit_fp32"]["bytes_per_s"],
        **_bitsandbytes(found),
        "accel Lion fp32": found["lion_fp32"]["bytes_per_s"],
        "accel LAMB fp32": found["lamb_fp32"]["bytes_per_s"],
    }
