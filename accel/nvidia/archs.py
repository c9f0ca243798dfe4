"""A planner of GPU architectures to compile for, over plain data, without device or process."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from accel.errors import suggestion
from accel.probe import Rejected

# Names that torch accepts in TORCH_CUDA_ARCH_LIST (torch.utils.cpp_extension).
NAMED: dict[str, str] = {
    "Kepler+Tesla": "3.7",
    "Kepler": "3.5+PTX",
    "Maxwell+Tegra": "5.3",
    "Maxwell": "5.0;5.2+PTX",
    "Pascal": "6.0;6.1+PTX",
    "Volta+Tegra": "7.2",
    "Volta": "7.0+PTX",
    "Turing": "7.5+PTX",
    "Ampere+Tegra": "8.7",
    "Ampere": "8.0;8.6+PTX",
    "Ada": "8.9+PTX",
    "Hopper": "9.0+PTX",
    "Blackwell+Tegra": "11.0",
    "Blackwell": "10.0;10.3;12.0;12.1+PTX",
}

# Architectures that each release of nvcc added or dropped (CUDA release notes);
# used if nvcc itself cannot be asked.
_RELEASES: tuple[tuple[tuple[int, int], str, str], ...] = (
    ((11, 0), "3.5 3.7 5.0 5.2 5.3 6.0 6.1 6.2 7.0 7.2 7.5 8.0", ""),
    ((11, 1), "8.6", ""),
    ((11, 4), "8.7", ""),
    ((11, 8), "8.9 9.0", ""),
    ((12, 0), "", "3.5 3.7"),
    ((12, 8), "10.0 10.1 12.0", ""),
    ((12, 9), "10.3 12.1", ""),
    ((13, 0), "8.8 11.0", "5.0 5.2 5.3 6.0 6.1 6.2 7.0 7.2 10.1"),
)
# One family of devices under two names, by the release that renamed it (CUDA 13.0 release notes).
_RENAMED = (((13, 0), (10, 1), (11, 0)),)
# As nvcc, CMake and compilers' flags write an architecture.
_FOREIGN = re.compile(r"(?:sm|compute|lto)?_?(\d{1,2})(\d)([af]?)(?:-real|-virtual)?", re.I)
_SPELLING = re.compile(r"(?P<major>\d+)\.(?P<minor>\d)(?P<suffix>[af]?)(?P<ptx>(\+PTX)?)", re.I)


@dataclass(frozen=True, slots=True, order=True)
class Arch:
    """One GPU architecture.

    Attributes:
        major: major compute capability.
        minor: minor compute capability.
        suffix: ``"a"`` for architecture-specific, ``"f"`` for family-specific code, else ``""``.
        ptx: whether PTX is kept too, which newer devices compile for themselves.
    """

    major: int
    minor: int
    suffix: str = ""
    ptx: bool = False

    def __str__(self) -> str:
        """Return the spelling that torch uses, as ``"9.0a"`` or ``"9.0+PTX"``."""
        return f"{self.name}{'+PTX' if self.ptx else ''}"

    @property
    def name(self) -> str:
        """The spelling without ``+PTX``."""
        return f"{self.major}.{self.minor}{self.suffix}"

    @property
    def number(self) -> str:
        """The spelling in nvcc's words, as ``"90a"``."""
        return f"{self.major}{self.minor}{self.suffix}"

    @property
    def capability(self) -> tuple[int, int]:
        """Major and minor compute capability."""
        return (self.major, self.minor)

    def runs_on(self, capability: tuple[int, int]) -> bool:
        """Return whether a device of that compute capability runs this target's code or PTX.

        Code runs within its major family from its minor on, PTX on everything newer; code with
        suffix ``a`` on that very device only, with ``f`` within its family.
        """
        if self.suffix == "a":
            return self.capability == capability
        within = capability[0] == self.major and capability[1] >= self.minor
        return within or (self.ptx and not self.suffix and capability >= self.capability)

    @property
    def flag(self) -> str:
        """The ``-gencode`` flag that makes nvcc emit this target."""
        codes = f"sm_{self.number}" + (f",compute_{self.number}" if self.ptx else "")
        return f"-gencode=arch=compute_{self.number},code=[{codes}]"


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


def supported_by(toolkit: tuple[int, int]) -> tuple[str, ...]:
    """Return the plain architectures that nvcc of `toolkit` compiles for, oldest first.

    From a table (CUDA release notes, 11.0 to 13.0); a newer toolkit gets the newest row, an
    older one ``()``. Example: ``supported_by((11, 1))[-1] == "8.6"``.
    """
    known: set[str] = set()
    for release, added, dropped in _RELEASES:
        if toolkit >= release:
            known = (known | set(added.split())) - set(dropped.split())
    return tuple(sorted(known, key=_capability))


def default_compute_capabilities(toolkit: tuple[int, int]) -> str:
    """Return the targets of a build that names none, as ``"8.0;9.0+PTX"``.

    One target for each major family that `toolkit`'s nvcc supports, the family's first member,
    since its code runs on the later ones; PTX of the newest. ``""`` for toolkits before CUDA 11.
    """
    families: dict[int, str] = {}
    for name in supported_by(toolkit):
        families.setdefault(_capability(name)[0], name)
    return ";".join(families.values()) + "+PTX" if families else ""


def parse_archs(
    text: str, *, native: Sequence[tuple[int, int]] = (), able: Sequence[str] = ()
) -> tuple[Arch, ...]:
    """Read a list of architectures in any spelling that torch or nvcc accepts.

    Entries are divided by ``;``, ``,`` or white space: ``8.0``, ``9.0a``, ``12.0f``, ``8.6+PTX``, a
    name as ``Hopper`` in any case, ``native`` for the `native` capabilities, ``all`` for all that
    nvcc is `able` to compile for, and ``all-major`` for the first of each family of them.

    Raises:
        ValueError: an entry is none of these, or ``native`` is asked for and nothing is visible.
    """
    every = {"native": [Arch(*capability) for capability in native]}
    if able:
        every["all"] = [Arch(*capability) for capability in sorted(map(_capability, able))]
        every["all-major"] = [*{arch.major: arch for arch in reversed(every["all"])}.values()]
    found: list[Arch] = []
    for word in re.split(r"[;,\s]+", text.strip(" ;,\t\n")):
        found.extend(_parse_word(word, every))
    return _merged(found)


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
    able = tuple(sorted(supported or supported_by(toolkit), key=_capability))
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


def _capability(name: str) -> tuple[int, int]:
    major, minor = name.split(".")
    return int(major), int(re.sub(r"\D", "", minor))


def _parse_word(word: str, every: Mapping[str, list[Arch]]) -> list[Arch]:
    folded = word.casefold()
    if folded == "native" and not every["native"]:
        raise ValueError("'native' needs a visible device, and there is none.")
    if folded in every:
        return every[folded]
    names = {name.casefold(): name for name in NAMED}
    if (bare := folded.removesuffix("+ptx")) in names:
        return [arch for part in NAMED[names[bare]].split(";") for arch in _parse_word(part, {})]
    match = _SPELLING.fullmatch(word)
    if match is None:
        foreign = _FOREIGN.fullmatch(word)
        meant = f" Did you mean '{foreign[1]}.{foreign[2]}{foreign[3].lower()}'?" if foreign else ""
        raise ValueError(
            f"{word!r} is not an architecture: expected 9.0, 9.0a, 9.0+PTX and the like, 'native', "
            f"'all', 'all-major' or one of {', '.join(NAMED)}.{meant or suggestion(word, NAMED)}"
        )
    capability = int(match["major"]), int(match["minor"])
    return [Arch(*capability, match["suffix"].lower(), bool(match["ptx"]))]


def _renamed(arch: Arch, toolkit: tuple[int, int]) -> Arch:
    """Return the same devices by the name that `toolkit` has for them."""
    for since, old, new in _RENAMED:
        before, after = (old, new) if toolkit >= since else (new, old)
        if arch.capability == before:
            return replace(arch, major=after[0], minor=after[1])
    return arch


def _merged(archs: Iterable[Arch]) -> tuple[Arch, ...]:
    ptx: dict[Arch, bool] = {}
    for arch in archs:
        plain = replace(arch, ptx=False)
        ptx[plain] = ptx.get(plain, False) or arch.ptx
    return tuple(replace(arch, ptx=ptx[arch]) for arch in sorted(ptx))


def _with_ptx(archs: tuple[Arch, ...]) -> tuple[Arch, ...]:
    """Keep PTX for the newest plain target: code with a suffix is of no use to other devices."""
    plain = [arch for arch in archs if not arch.suffix]
    extra = (replace(plain[-1], ptx=True),) if plain else ()
    return _merged((*archs, *extra))


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
    return ArchPlan(_with_ptx(_merged(kept)), origin, tuple(notes))


def _fit_visible(
    visible: Sequence[tuple[int, int]], able: tuple[str, ...], nvcc: str
) -> ArchPlan | Rejected:
    targets: list[Arch] = []
    dropped: list[str] = []
    capabilities = [_capability(name) for name in able if name[-1].isdigit()]
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
    return ArchPlan(_with_ptx(_merged(targets)), "visible devices", tuple(dropped))
