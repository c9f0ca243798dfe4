"""Targets of a CUDA build on this machine, and the devices and drivers that run its result."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accel import environment
from accel.jit.tools import nvcc
from accel.jit.tools.nvcc import fits_driver, library_flags
from accel.nvidia import driver as nvidia
from accel.nvidia.arch_plan import ArchPlan, plan_archs
from accel.nvidia.archs import Arch, default_compute_capabilities, parse_archs
from accel.probe import Probe, Rejected
from accel.torch_build import torch_build

# Kernels take more parameters than 4 KiB from this release on, and the driver has to know that.
_LARGE_PARAMETERS = (12, 1)
_FIRST_LARGE = (7, 0)


def plan_targets(
    wanted: Sequence[str], toolkit: tuple[int, int], supported: Sequence[str] = ()
) -> ArchPlan | Rejected:
    """Return the targets of a build, or why nothing can be built.

    Args:
        wanted: what ``--arch`` or the recipe names; empty: ``TORCH_CUDA_ARCH_LIST``, else the
            devices that this process sees, else the toolkit's defaults.
        toolkit: release of nvcc.
        supported: architectures that nvcc listed; empty asks the table.

    A build that names no targets is for this machine, so its driver must run the result.
    """
    driver = nvidia.read_driver()
    visible = () if isinstance(driver, Rejected) else nvidia.visible_capabilities(driver)
    requested, origin = ";".join(wanted), "--arch"
    if not requested:
        requested, origin = environment.torch_cuda_arch_list(), "TORCH_CUDA_ARCH_LIST"
    plan = plan_archs(
        requested, origin=origin, visible=visible, toolkit=toolkit, supported=supported
    )
    if not wanted:
        small = isinstance(plan, ArchPlan) and bool(defines(plan))
        verdict = runs_under(toolkit, driver, small=small)
        if isinstance(verdict, Rejected):
            return verdict
    return plan


def runs_under(
    toolkit: tuple[int, int], driver: nvidia.Driver | Rejected, *, small: bool = False
) -> Probe:
    """Judge whether the project's kernels from `toolkit` run under `driver`; see `fits_driver`.

    `small` says that their parameters fit every driver; see `defines`.
    """
    verdict = fits_driver(toolkit, driver)
    if small or not verdict or isinstance(driver, Rejected):
        return verdict
    if driver.cuda < _LARGE_PARAMETERS <= toolkit:
        have, need = "{}.{}".format(*driver.cuda), "{}.{}".format(*toolkit)
        return Rejected(
            f"kernels compiled by nvcc {need} take more parameters than driver {driver.version} "
            f"(CUDA {have}) can pass.",
            "Install a driver of CUDA 12.1 or newer, or use an older toolkit (CUDA_HOME).",
        )
    return verdict


def release_of(version: str) -> tuple[int, int]:
    """Return major and minor of a version such as ``"13.0.88"``."""
    major, _, rest = version.partition(".")
    return int(major), int(rest.partition(".")[0] or 0)


def toolkit_folders(root: str) -> tuple[str, ...]:
    """Return flags for the library folders of the toolkit in `root`."""
    return library_flags(Path(root))


def defines(plan: ArchPlan) -> tuple[str, ...]:
    """Return the macros that the targets need in the sources."""
    old = any(arch.capability < _FIRST_LARGE for arch in plan.targets)
    return ("-DACCEL_SMALL_PARAMETERS",) if old else ()


def missing_device(targets: Sequence[str]) -> str | None:
    """Return why a library of these targets does not run here, ``None`` if it does.

    Without a driver it is ``None``: there is no device to miss.
    """
    driver = nvidia.read_driver()
    if isinstance(driver, Rejected) or not targets:
        return None
    try:
        archs = parse_archs(";".join(targets))
    except ValueError as error:
        return str(error)
    for capability in nvidia.visible_capabilities(driver):
        if not any(arch.runs_on(capability) for arch in archs):
            return (
                f"it is for {', '.join(targets)}, but a device here is "
                f"{'{}.{}'.format(*capability)}"
            )
    return None


def cannot_run(facts: Mapping[str, Any]) -> str | None:
    """Return why a library with these facts of its manifest does not run here, or ``None``.

    It is for other devices, or its nvcc is too new for the driver here. Without a compiler in
    the manifest only its devices count.
    """
    targets = facts["targets"]
    built_by = re.search(r"(\d+)\.(\d+)", facts.get("compiler", ""))
    if (lack := missing_device(targets)) or built_by is None:
        return lack
    # A user's extension has parameters of its own size.
    small = facts["extension"] or any(arch.capability < _FIRST_LARGE for arch in _read(targets))
    release = int(built_by[1]), int(built_by[2])
    verdict = runs_under(release, nvidia.read_driver(), small=small)
    return f"{verdict.reason} {verdict.fix}".rstrip(".") if isinstance(verdict, Rejected) else None


def _read(targets: Sequence[str]) -> tuple[Arch, ...]:
    try:
        return parse_archs(";".join(targets))
    except ValueError:
        return ()


def torch_note(toolkit: tuple[int, int]) -> str:
    """Return a note on a toolkit that is not torch's, ``""`` for none.

    It does not prevent a build: the runtime is linked statically and nothing of torch is linked.
    """
    build = torch_build()
    need = "{}.{}".format(*toolkit)
    if build is None or not build.cuda or build.cuda == need:
        return ""
    return f"torch has CUDA {build.cuda} and nvcc {need}: harmless, as nothing of torch is linked"


def usual_targets(torch_cuda: str) -> str:
    """Return the targets of a build that names none, without a device and without running a tool.

    For the toolkit whose nvcc would be used, else for torch's CUDA release; ``""`` with neither.
    """
    place = nvcc.locate()
    toolkit = None if isinstance(place, Rejected) else nvcc.toolkit_version(place)
    if toolkit is None and torch_cuda:
        major, _, minor = torch_cuda.partition(".")
        toolkit = (int(major), int(minor or 0))
    return default_compute_capabilities(toolkit) if toolkit else ""
