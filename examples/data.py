"""Real text that every machine has: the sources of Python's standard library, as bytes."""

from __future__ import annotations

import hashlib
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

# Tests and generated tables are mostly repetition, and distributions often leave them out.
_LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "encodings"})
_HELD_OUT_ONE_IN = 10


@dataclass(frozen=True)
class Text:
    """Two texts from different files.

    Attributes:
        train: uint8 ``[n]`` on the host, nine files in ten.
        held_out: uint8 ``[m]`` on the host, every tenth file.
        digest: of the contents and the division; equal digests are equal texts.
    """

    train: Tensor
    held_out: Tensor
    digest: str


def load_text(folder: Path | None = None) -> Text:
    """Read every ``.py`` file under `folder` in the order of their names.

    Args:
        folder: where to look; default the standard library of this Python.

    Raises:
        FileNotFoundError: fewer than two files are there.
    """
    root = folder if folder is not None else Path(sysconfig.get_paths()["stdlib"])
    names = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if not _LEFT_OUT.intersection(path.relative_to(root).parts)
    )
    if len(names) < 2:
        raise FileNotFoundError(f"{root} holds {len(names)} Python sources; two or more are needed")
    train, held_out = bytearray(), bytearray()
    for index, name in enumerate(names):
        part = held_out if index % _HELD_OUT_ONE_IN == 0 else train
        part += (root / name).read_bytes()
    digest = hashlib.sha256(len(train).to_bytes(8, "little") + train + held_out).hexdigest()
    return Text(_bytes_tensor(train), _bytes_tensor(held_out), digest)


def _bytes_tensor(content: bytearray) -> Tensor:
    return torch.frombuffer(content, dtype=torch.uint8)


def training_batch(text: Tensor, batch: int, context: int, *, seed: int, draw: int) -> Tensor:
    """Return `batch` windows of ``context + 1`` bytes from random places: int64, on the host.

    A pure function of its arguments, so that a resumed run sees the bytes that it would have seen:
    `draw` is the number of the draw, another one for every step and process.
    """
    mixed = hashlib.sha256(f"{seed} {draw}".encode()).digest()[:8]
    generator = torch.Generator().manual_seed(int.from_bytes(mixed, "little"))
    starts = torch.randint(len(text) - context, (batch,), generator=generator)
    return text[starts[:, None] + torch.arange(context + 1)].long()


def evaluation_windows(text: Tensor, count: int, context: int) -> Tensor:
    """Return `count` windows of ``context + 1`` bytes, evenly spread: int64, on the host."""
    starts = torch.linspace(0, len(text) - context - 1, count, dtype=torch.float64).long()
    return text[starts[:, None] + torch.arange(context + 1)].long()


def byte_entropy(windows: Tensor) -> float:
    """Entropy, in bits per byte, of the bytes to be predicted in `windows`.

    No model that knows only how frequent each byte is can have a lower loss on them.
    """
    share = torch.bincount(windows[:, 1:].reshape(-1), minlength=256).double()
    share = share[share > 0] / share.sum()
    return float(-(share * share.log2()).sum())
