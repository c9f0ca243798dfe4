"""The choice of GPU architectures to compile for, over plain data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from accel.nvidia.archs import (
    Arch,
    capability_of,
    default_compute_capabilities,
    merged,
    parse_archs,
    supported_by,
)
from accel.probe import Rejected

# One family of devices under two names, by the release that renamed it (CUDA 13.0 release notes).
_RENAMED = (((13, 0), (10, 1), (11, 0)),)


@dataclass(frozen=True, slots=True)
class ArchPlan:
    """The targets of a build.

    Attributes:
        targets: architectures, oldest first; the newest plain one keeps its PTX.
        origin: where the request came from, for people.
        dropped: one sentence for each request that this nvcc cannot meet, or renames.
    """

    targets: tuple[Arch, ...]
    origin: str
    dropped: tuple[str, ...] = ()

    @property
    def flags(self) -> tuple[str, ...]:
        """The ``-gencode`` flags for nvcc."""
        return tuple(arch.flag for arch in self.targets)

    def __str__(self) -> str:
        """Return the targets as a ``TORCH_CUDA_ARCH_LIST`` would spell them."""
        return ";".join(map(str, self.targets))


def plan_archs(
    requested: str = "",
    *,
    origin: str = "TORCH_CUDA_ARCH_LIST",
    visible: Sequence[tuple[int, int]] = (),
    toolkit: tuple[int, int],
    supported: Iterable[str] = (),
) -> ArchPlan | Rejected:
    """Choose the targets of a build.

    Args:
        requested: the user's list, or ``""``; then `visible`, then the toolkit's defaults decide.
        origin: where `requested` was written, for messages.
        visible: compute capabilities of the devices that this process may use.
        toolkit: version of nvcc's release.
        supported: plain architectures that nvcc says it compiles for; empty asks the table.

    Returns:
        The plan, or `Rejected` when the list cannot be read or nothing in it can be compiled.
        The newest plain target keeps its PTX, so that devices newer than nvcc can run it.
    """
    able = tuple(sorted(supported or supported_by(toolkit), key=capability_of))
    nvcc = f"nvcc {toolkit[0]}.{toolkit[1]}"
    if not able:
        return Rejected(
            f"{nvcc} is older than CUDA 11.", "Install a CUDA toolkit of 11.0 or newer."
        )
    if requested.strip(" ;,"):
        try:
            wanted = parse_archs(requested, native=visible, able=able)
        except ValueError as error:
            return Rejected(f"{origin}={requested!r}: {error}", "Correct the list, or unset it.")
        if requested.strip().lower() == "native":
            return _fit_visible(visible, able, nvcc)
        return _fit_requested(wanted, able, toolkit, f"{origin}={requested!r}")
    if visible:
        return _fit_visible(visible, able, nvcc)
    targets = parse_archs(default_compute_capabilities(toolkit))
    kept = tuple(arch for arch in targets if arch.name in able)
    return ArchPlan(_with_ptx(kept), f"defaults of CUDA {toolkit[0]}.{toolkit[1]}")


def _renamed(arch: Arch, toolkit: tuple[int, int]) -> Arch:
    """Return the same devices under the name that `toolkit` uses."""
    for since, old, new in _RENAMED:
        before, after = (old, new) if toolkit >= since else (new, old)
        if arch.capability == before:
            return replace(arch, major=after[0], minor=after[1])
    return arch


def _with_ptx(archs: tuple[Arch, ...]) -> tuple[Arch, ...]:
    """Keep PTX for the newest plain target: code with a suffix runs on no other devices."""
    plain = [arch for arch in archs if not arch.suffix]
    extra = (replace(plain[-1], ptx=True),) if plain else ()
    return merged((*archs, *extra))


def _compiles(arch: Arch, able: tuple[str, ...], toolkit: tuple[int, int]) -> bool:
    if arch.name in able:
        return True
    since = {"a": ((9, 0), (12, 0)), "f": ((10, 0), (12, 9))}.get(arch.suffix)
    return (
        since is not None
        and f"{arch.major}.{arch.minor}" in able
        and arch.capability >= since[0]
        and toolkit >= since[1]
    )


def _fit_requested(
    wanted: tuple[Arch, ...], able: tuple[str, ...], toolkit: tuple[int, int], origin: str
) -> ArchPlan | Rejected:
    nvcc = f"nvcc {toolkit[0]}.{toolkit[1]}"
    has = f"{nvcc} compiles for {', '.join(able)}"
    kept: list[Arch] = []
    notes: list[str] = []
    for arch in wanted:
        other = arch if _compiles(arch, able, toolkit) else _renamed(arch, toolkit)
        if not _compiles(other, able, toolkit):
            notes.append(f"{arch.name}: {has}.")
            continue
        kept.append(other)
        if other != arch:
            notes.append(f"{arch.name}: {nvcc} calls it {other.name}.")
    if not kept:
        names = ", ".join(arch.name for arch in wanted)
        return Rejected(
            f"{origin} asks for {names}; {has}.",
            "Ask for one of these, or use another toolkit (CUDA_HOME).",
        )
    return ArchPlan(_with_ptx(merged(kept)), origin, tuple(notes))


def _fit_visible(
    visible: Sequence[tuple[int, int]], able: tuple[str, ...], nvcc: str
) -> ArchPlan | Rejected:
    targets: list[Arch] = []
    dropped: list[str] = []
    capabilities = [capability_of(name) for name in able if name[-1].isdigit()]
    for device in sorted(set(visible)):
        # A device that nvcc does not know runs the newest older target: code, or else its PTX.
        older = [capability for capability in capabilities if capability <= device]
        if older:
            targets.append(Arch(*older[-1]))
        else:
            dropped.append(f"{device[0]}.{device[1]}: {nvcc} compiles for {', '.join(able)}.")
    if not targets:
        names = ", ".join(f"{major}.{minor}" for major, minor in sorted(set(visible)))
        return Rejected(
            f"The visible devices are of {names}; {nvcc} compiles for {', '.join(able)}.",
            "Use an older CUDA toolkit (CUDA_HOME).",
        )
    return ArchPlan(_with_ptx(merged(targets)), "visible devices", tuple(dropped))
