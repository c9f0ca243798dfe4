"""Results as a picture; matplotlib is imported when one is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accel.bench import gpu_picture
from accel.bench.results import Results
from accel.bench.tables import title
from accel.bench.text import duration
from accel.errors import Unsupported

_OURS, _OTHERS, _LIMIT = "#4477aa", "#888888", "#cccccc"


def draw(results: Results, path: Path) -> None:
    """Write the picture of any results file.

    Raises:
        Unsupported: matplotlib is not installed, or the file cannot be written.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise Unsupported(
            "A picture needs matplotlib, which is not installed: pip install 'accel-torch[bench]'"
        ) from error
    matplotlib.use("Agg")
    try:
        if "measures" in results:
            gpu_picture.draw(results, path)
        else:
            _bars(results, path)
    except KeyError as error:
        raise Unsupported(f"The results lack {error}, which the picture shows.") from error
    except (OSError, ValueError) as error:
        raise Unsupported(f"{path} cannot be written: {error}. Name another file.") from error


def _bars(results: Results, path: Path) -> None:
    from matplotlib import pyplot

    cases = [*results["cases"].values()]
    height = max(4.0, 0.25 * max(len(case["contestants"]) for case in cases))
    size = (5 * len(cases), height)
    figure, axes = pyplot.subplots(1, len(cases), figsize=size, squeeze=False)
    for axis, case in zip(axes[0], cases, strict=True):
        _panel(axis, case)
    figure.suptitle(title(results))
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata=gpu_picture.METADATA.get(path.suffix.lower()))
    pyplot.close(figure)


def _panel(axis: Any, case: dict[str, Any]) -> None:
    ordered = sorted(case["contestants"].items(), key=lambda item: (-item[1]["seconds"], item[0]))
    names = [name for name, _ in ordered]
    seconds = [one["seconds"] for _, one in ordered]
    colours = [
        _OURS
        if name.startswith("accel") or name == case.get("best")
        else _LIMIT
        if name == case["limit"]
        else _OTHERS
        for name in names
    ]
    bars = axis.barh(names, [1e3 * one for one in seconds], color=colours)
    axis.bar_label(bars, [duration(one) for one in seconds], padding=3)
    axis.set_xscale("log")
    axis.margins(x=0.25)
    axis.xaxis.set_minor_formatter("")
    axis.set_xlabel("ms, logarithmic")
    axis.set_title(f"{case['title']}: {case['unit']}")
