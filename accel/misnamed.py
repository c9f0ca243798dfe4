"""Suggestions for a name that no backend has."""

from __future__ import annotations

from accel.errors import suggestion


def unknown_message(name: str, asked: str, known: list[str]) -> str:
    """Return the message about a name that is not a known backend's.

    Args:
        name: the name.
        asked: how it was asked for, such as ``"ACCELERATOR=gpu"``.
        known: the names of the known backends.
    """
    base = name.strip().partition(":")[0].lower()
    if name.strip() != name or not base:
        found = "which has spaces around the name, or no name."
    elif ":" in name and base in known:
        found = (
            f"which names one device. {asked.partition('=')[0].partition('(')[0]} takes the kind "
            f"('{base}'); choose the device with the variable that limits visible devices or with "
            f"set_device()."
        )
    else:
        found = f"which is not a known backend.{nearest(base, known)}"
    return f"{asked}, {found} Accepted: {', '.join(known)}; 'auto' or nothing detects one."


def nearest(name: str, known: list[str]) -> str:
    """Return the backend that a name means elsewhere, or the one with the closest spelling."""
    from accel.vendors import ELSEWHERE

    if name in ELSEWHERE:
        backend, why = ELSEWHERE[name]
        return f" {why}" + (f" Use '{backend}'." if backend else "")
    return suggestion(name, known)
