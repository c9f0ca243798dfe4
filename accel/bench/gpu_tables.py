"""The table of README from results of ``benchmarks/gpu.py``."""

from __future__ import annotations

from typing import Any

from accel.bench.text import Row, duration, lines

Measures = dict[str, dict[str, Any]]
COLUMNS = ("optimizer", "bandwidth, relative to a copy", "speedup over")
# Title, measure, and the peers whose times are in it.
_ROWS = (
    ("Adam, float32", "adam_fp32", ("torch_fused", "torch_foreach")),
    ("Adam, bfloat16 with float32 masters", "adam_bf16_master", ()),
    ("Adam, all bfloat16", "adam_bf16", ("torch_fused",)),
    ("8-bit Adam, float32", "adam8bit_fp32", ("adam_fp32",)),
    ("Lion, float32", "lion_fp32", ()),
    ("LAMB, float32", "lamb_fp32", ()),
)
_PEERS = {
    "torch_fused": "torch fused",
    "torch_foreach": "torch foreach",
    "adam_fp32": "float32 Adam",
    "bitsandbytes": "bitsandbytes",
}


def table(measures: Measures) -> str:
    """Return the optimizers' bandwidths and speedups as Markdown, as far as they were measured.

    Args:
        measures: of the results.
    """
    copy = measures.get("copy", {}).get("bytes_per_s")
    found: list[Row] = []
    for title, name, peers in _ROWS:
        one = measures.get(name, {})
        if "seconds" not in one:
            continue
        rate = f"{one['bytes_per_s'] / copy:.2f}" if copy else ""
        faster = _speedups(one, peers)
        if name == "adam8bit_fp32":
            faster += _speedups(measures.get("bitsandbytes_adam8bit", {}), ("bitsandbytes",))
        found.append((title, rate, ", ".join(faster)))
    for title, name in (
        ("{tensors} tensors", "many_tensors"),
        ("GPT-2, {tensors} tensors", "gpt2"),
    ):
        one = measures.get(name, {})
        if "seconds" in one:
            said = f"{title.format(**one)}, Adam, Python included: {duration(one['seconds'])}"
            found.append((said, "", ", ".join(_speedups(one, ("torch_fused", "torch_foreach")))))
    return lines(COLUMNS, found) + "\n"


def _speedups(one: dict[str, Any], peers: tuple[str, ...]) -> list[str]:
    return [
        f"{_PEERS[peer]} {one[f'times_{peer}']:.2f}" for peer in peers if f"times_{peer}" in one
    ]
