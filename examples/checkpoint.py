"""A checkpoint on disk: written whole or not at all, and read without executing anything.

The file is torch's own with a line behind it that holds the checksum of all before.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from storage import RunError as RunError
from storage import replacing
from torch import nn
from torch.optim import Optimizer

FORMAT = 1
_LINE = b"\naccel checkpoint, format %d, sha256 %s\n"
_LAST_LINE = re.compile(rb"\naccel checkpoint, format (\d{1,9}), sha256 ([0-9a-f]{64})\n\Z")
_LONGEST_LINE = 128
_BLOCK = 1 << 20
_START_ANEW = "Start without --resume, or put a sound copy in its place."


class _Summed:
    """A file to write that takes the checksum of what it is given, and keeps its first error."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sum = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self._sum.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._file.flush()

    def last_line(self) -> bytes:
        return _LINE % (FORMAT, self._sum.hexdigest().encode())


def save(path: Path, content: dict[str, Any]) -> None:
    """Replace the file at `path` by `content` in one step.

    Raises:
        RunError: it cannot be written; the old file is kept.
    """
    with replacing(path) as file:
        summed = _Summed(file)
        try:
            torch.save(content, cast("IO[bytes]", summed))
        except RuntimeError:
            # torch's writer tells that something failed, not what.
            if summed.error is not None:
                raise summed.error from None
            raise
        file.write(summed.last_line())


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote, with its tensors on the host.

    Raises:
        RunError: there is no such file, it is damaged, or it is not such a file.
    """
    try:
        if path.exists() and not path.is_file():
            raise RunError(f"{path} is not a file. Name the folder of a checkpoint: --out.")
        with path.open("rb") as file:
            _verify(file, path)
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(
            f"There is no checkpoint at {path}. Start without --resume, or name its folder: --out."
        ) from error
    except OSError as error:
        raise RunError(
            f"{path} cannot be read: {error.strerror or error}. Set its permissions or check its "
            "disk, or start without --resume."
        ) from error
    except RunError:
        raise
    except Exception as error:
        # What was written is what is read: the two torches differ.
        first_line = str(error).partition("\n")[0]
        raise RunError(
            f"{path} is undamaged, but torch {torch.__version__} cannot read it: {first_line} "
            "Use the torch that wrote it, or start without --resume."
        ) from error
    if not isinstance(content, dict) or "settings" not in content:
        raise RunError(f"{path} is not a checkpoint of this program. {_START_ANEW}")
    return content


def _verify(file: BinaryIO, path: Path) -> None:
    """Compare the file with the checksum in its last line; raises `RunError`."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LONGEST_LINE))
    found = _LAST_LINE.search(file.read())
    if found is None:
        raise RunError(
            f"{path} has no checksum at its end: the file is cut off or damaged there, is no "
            f"checkpoint, or is one of an earlier version, which kept none. {_START_ANEW}"
        )
    number, wanted = int(found[1]), found[2].decode()
    if number != FORMAT:
        raise RunError(
            f"{path} has format {number}, and this program reads {FORMAT}: another version wrote "
            "it. Use that version, or start without --resume."
        )
    summed, left = hashlib.sha256(), size - len(found[0])
    file.seek(0)
    while left > 0 and (block := file.read(min(left, _BLOCK))):
        summed.update(block)
        left -= len(block)
    if summed.hexdigest() != wanted:
        raise RunError(
            f"{path} is damaged: its content is not what was written, by the checksum at its end. "
            f"{_START_ANEW}"
        )


def states(model: nn.Module, optimizer: Optimizer, *, sharded: bool) -> dict[str, Any]:
    """Return the states of both under ``"model"`` and ``"optimizer"``; all processes call it.

    The optimizer's is torch's own, indexed by parameter; where the parameters are `sharded` both
    are put together from all processes and the optimizer's is indexed by the parameters' names.
    """
    if sharded:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        whole, whole_optimizer = get_state_dict(model, optimizer, options=options)
        return {"model": whole, "optimizer": whole_optimizer}
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def restore(
    model: nn.Module, optimizer: Optimizer, content: dict[str, Any], *, sharded: bool
) -> None:
    """Put back what `states` returned."""
    if sharded:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

        set_state_dict(
            model,
            optimizer,
            model_state_dict=content["model"],
            optim_state_dict=content["optimizer"],
            options=StateDictOptions(full_state_dict=True, cpu_offload=True),
        )
        return
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
