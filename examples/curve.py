"""The loss curve of a run, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from storage import replacing


def draw_curve(
    path: Path,
    train: Sequence[float],
    held_out: Sequence[tuple[int, float]],
    baseline: float,
    title: str,
) -> bool:
    """Draw the losses of a run, in bits per byte, to the PNG file `path`.

    Args:
        path: the file, replaced in one step.
        train: loss of every step, from the first.
        held_out: pairs of step and loss.
        baseline: the loss of knowing only how frequent each byte is.
        title: printed above.

    Returns:
        Whether the file was drawn: false if matplotlib is not installed.

    Raises:
        RunError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    # A figure made without pyplot draws with Agg and needs no display.
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    steps = range(1, len(train) + 1)
    axes.plot(steps, train, color="tab:blue", alpha=0.25, linewidth=0.8)
    axes.plot(steps, _smoothed(train), color="tab:blue", label="training, smoothed")
    if held_out:
        axes.plot(
            [step for step, _ in held_out],
            [loss for _, loss in held_out],
            color="tab:orange",
            marker="o",
            label=f"held out: {held_out[-1][1]:.2f} at the end",
        )
    axes.axhline(
        baseline, color="tab:gray", linestyle="--", label=f"byte frequencies: {baseline:.2f}"
    )
    axes.set(xlabel="step", ylabel="bits per byte", title=title, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=120)
    return True


def _smoothed(values: Sequence[float], keep: float = 0.9) -> list[float]:
    """Exponential moving average, unbiased from the first value on."""
    average, weight, result = 0.0, 0.0, []
    for value in values:
        average = keep * average + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        result.append(average / weight)
    return result
