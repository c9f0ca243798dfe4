"""Train with optimizer states in files: ``python examples/swap.py [FOLDER] [PICTURE.png]``.

The states have four times the memory that they may use. FOLDER, where the files are put, should be
on a fast disk. The picture shows the process's memory, with states in files and in memory.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

import accel
from accel.host.memory import ResidentSet, trim

MIB = 1 << 20
LIMIT = 32 * MIB
LAYERS = 16
STEPS = 12
Curve = list[tuple[float, float]]


def network() -> torch.nn.Sequential:
    """Return a model of 1 M parameters a layer, whose states for Adam have 8 MiB a layer."""
    torch.manual_seed(0)
    return torch.nn.Sequential(*[torch.nn.Linear(1024, 1024, bias=False) for _ in range(LAYERS)])


def train(swap_dir: str | None) -> tuple[torch.Tensor, Curve, float]:
    """Return the trained parameters, the memory over time in MiB, and the seconds of a step."""
    gc.collect()
    trim()
    model = network()
    optimizer = accel.optim.CPUAdam(
        model.parameters(), lr=1e-4, swap_dir=swap_dir, swap_memory=LIMIT
    )
    data = torch.randn(16, 1024, generator=torch.Generator().manual_seed(1))
    curve: Curve = []
    over = threading.Event()
    watcher = threading.Thread(target=watch, args=(curve, over))
    watcher.start()
    stepping = 0.0
    for step in range(1, STEPS + 1):
        loss = (model(data) - data.roll(1, 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        begun = time.perf_counter()
        optimizer.step()
        stepping += time.perf_counter() - begun
        if step in {1, STEPS}:
            print(f"  step {step}: loss {loss.item():.4f}")
    over.set()
    watcher.join()
    most = max(mib for _, mib in curve)
    sizes = [state.nbytes for entry in optimizer.state.values() for state in entry.values()]
    print(f"  states: {sum(sizes) / MIB:.0f} MiB; memory for training: {most:.0f} MiB")
    optimizer.close()
    weights = torch.cat([param.detach().flatten() for param in model.parameters()])
    return weights, curve, stepping / STEPS


def watch(curve: Curve, over: threading.Event) -> None:
    """Record seconds and MiB of resident memory, both from now on, until the end."""
    resident, begun = ResidentSet(), time.perf_counter()
    before = resident.usage()[0]
    while True:
        last = over.is_set()
        curve.append((time.perf_counter() - begun, (resident.usage()[0] - before) / MIB))
        if last:
            return
        over.wait(0.02)


def draw(picture: Path, curves: dict[str, Curve]) -> None:
    """Draw the memory over time to a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        axes.plot([at for at, _ in curve], [mib for _, mib in curve], label=name)
    axes.set(xlabel="seconds", ylabel="memory for training, MiB", ylim=(0, None))
    axes.set_title(f"{STEPS} steps; states of {8 * LAYERS} MiB, buffers of {LIMIT // MIB} MiB")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=120)


def main(folder: str, picture: Path) -> None:
    """Train twice, compare the bits, and draw the memory."""
    with tempfile.TemporaryDirectory(prefix="swap-", dir=folder) as swap_dir:
        print(f"states in files, in {swap_dir}, with {LIMIT // MIB} MiB of buffers:")
        swapped, files, slow = train(swap_dir)
    print("states in memory:")
    plain, memory, fast = train(None)
    same = "the same" if torch.equal(swapped, plain) else "not the same"
    print(f"the parameters have {same} bits; a step took {slow:.3f} s and {fast:.3f} s")
    try:
        draw(picture, {"states in files": files, "states in memory": memory})
        print(f"memory over time: {picture}")
    except ImportError:
        print("no picture: pip install 'accel-torch[bench]'")


if __name__ == "__main__":
    given = dict(enumerate(sys.argv))
    main(given.get(1, "."), Path(given.get(2, "swap.png")))
