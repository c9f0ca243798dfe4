"""The numbers of a job of one or several machines, before torchrun gets them."""

from __future__ import annotations

from collections.abc import Mapping

from accel.errors import InvalidSetting


def check_machines(options: Mapping[str, str]) -> None:
    """Raise `InvalidSetting` for numbers with which torchrun waits forever or prints its usage."""
    text = options.get("--nnodes", "1")
    bounds = [int(part) if is_number(part) else 0 for part in text.split(":")]
    if not (0 < bounds[0] <= bounds[-1] and len(bounds) < 3):
        raise InvalidSetting(
            f"--nnodes {text}: expected the number of machines, N from 1, or MIN:MAX."
        )
    for name, least in (("--node-rank", 0), ("--master-port", 1), ("--max-restarts", 0)):
        value = options.get(name)
        if value is not None and not (is_number(value) and int(value) >= least):
            raise InvalidSetting(f"{name} {value}: expected a whole number from {least}.")
    endpoint = options.get("--rdzv-endpoint", "")
    _, colon, port = endpoint.rpartition(":")
    if colon and not endpoint.endswith("]") and not (is_number(port) and int(port) < 1 << 16):
        raise InvalidSetting(
            f"--rdzv-endpoint {endpoint}: expected HOST:PORT, the port from 0 to 65535."
        )
    rank, most = options.get("--node-rank"), bounds[-1] - 1
    if rank is not None and int(rank) > most:
        numbers = f"0 to {most}" if most else "0"
        raise InvalidSetting(
            f"--node-rank {rank}, but with --nnodes {text} the machines are numbered {numbers}: "
            "give each machine its own of these numbers, or the whole job's --nnodes."
        )
    if "--master-addr" in options and rank is None and most:
        raise InvalidSetting(
            f"--master-addr with --nnodes {text} needs --node-rank, this machine's number from 0 "
            f"to {most}: without it every machine is number 0, and all wait for the others."
        )


def is_number(text: str) -> bool:
    """Return whether a text is a whole number without a sign."""
    return text.isascii() and text.isdigit()
