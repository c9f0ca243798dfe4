"""GPU architectures to compile for, as plain data: no device and no process is needed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from accel.errors import suggestion

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
        """Return the spelling that torch uses, such as ``"9.0a"`` or ``"9.0+PTX"``."""
        return f"{self.name}{'+PTX' if self.ptx else ''}"

    @property
    def name(self) -> str:
        """The spelling without ``+PTX``."""
        return f"{self.major}.{self.minor}{self.suffix}"

    @property
    def number(self) -> str:
        """The spelling that nvcc uses, such as ``"90a"``."""
        return f"{self.major}{self.minor}{self.suffix}"

    @property
    def capability(self) -> tuple[int, int]:
        """Major and minor compute capability."""
        return (self.major, self.minor)

    def runs_on(self, capability: tuple[int, int]) -> bool:
        """Return whether a device of that compute capability runs this target's code or PTX.

        Code runs within its major family from its minor on, PTX on everything newer; code with
        suffix ``a`` on exactly that device, with ``f`` within its family.
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


def supported_by(toolkit: tuple[int, int]) -> tuple[str, ...]:
    """Return the plain architectures that nvcc of `toolkit` compiles for, oldest first.

    From a table (CUDA release notes, 11.0 to 13.0); a newer toolkit gets the newest row, an
    older one ``()``. Example: ``supported_by((11, 1))[-1] == "8.6"``.
    """
    known: set[str] = set()
    for release, added, dropped in _RELEASES:
        if toolkit >= release:
            known = (known | set(added.split())) - set(dropped.split())
    return tuple(sorted(known, key=capability_of))


def default_compute_capabilities(toolkit: tuple[int, int]) -> str:
    """Return the targets of a build that names none, such as ``"8.0;9.0+PTX"``.

    One target for each major family that `toolkit`'s nvcc supports, the family's first member,
    since its code runs on the later ones; PTX of the newest. ``""`` for toolkits before CUDA 11.
    """
    families: dict[int, str] = {}
    for name in supported_by(toolkit):
        families.setdefault(capability_of(name)[0], name)
    return ";".join(families.values()) + "+PTX" if families else ""


def parse_archs(
    text: str, *, native: Sequence[tuple[int, int]] = (), able: Sequence[str] = ()
) -> tuple[Arch, ...]:
    """Read a list of architectures in any spelling that torch or nvcc accepts.

    Entries are divided by ``;``, ``,`` or white space: ``8.0``, ``9.0a``, ``12.0f``, ``8.6+PTX``, a
    name as ``Hopper`` in any case, ``native`` for the `native` capabilities, ``all`` for all that
    nvcc is `able` to compile for, and ``all-major`` for the first of each family of them.

    Raises:
        ValueError: an entry is none of these, or the list has ``native`` and no device is visible.
    """
    every = {"native": [Arch(*capability) for capability in native]}
    if able:
        every["all"] = [Arch(*capability) for capability in sorted(map(capability_of, able))]
        every["all-major"] = [*{arch.major: arch for arch in reversed(every["all"])}.values()]
    found: list[Arch] = []
    for word in re.split(r"[;,\s]+", text.strip(" ;,\t\n")):
        found.extend(_parse_word(word, every))
    return merged(found)


def capability_of(name: str) -> tuple[int, int]:
    """Return major and minor number of a spelling."""
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


def merged(archs: Iterable[Arch]) -> tuple[Arch, ...]:
    """Return every architecture once, in order, with PTX if any of its entries has it."""
    ptx: dict[Arch, bool] = {}
    for arch in archs:
        plain = replace(arch, ptx=False)
        ptx[plain] = ptx.get(plain, False) or arch.ptx
    return tuple(replace(arch, ptx=ptx[arch]) for arch in sorted(ptx))
