"""A run on disk: written whole or not at all, and read without executing anything."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


class RunError(Exception):
    """The run cannot go on for a reason that its user can change; the message says how."""


def save(path: Path, content: dict[str, Any]) -> None:
    """Replace the file at `path` by `content` in one step.

    Whoever reads `path`, whenever this process ends, finds the old content or the new.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with staged.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote, with its tensors on the host.

    Raises:
        RunError: there is no such file, or it is not such a file.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(
            f"There is no checkpoint at {path}. Start without --resume, or name its folder: --out."
        ) from error
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        first_line = str(error).partition("\n")[0]
        raise RunError(f"{path} cannot be read as a checkpoint: {first_line}") from error
    if not isinstance(content, dict) or "settings" not in content:
        raise RunError(f"{path} is not a checkpoint of this program.")
    return content


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
