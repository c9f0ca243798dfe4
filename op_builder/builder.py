"""Classes and functions for builders and installers, under the names of DeepSpeed's module."""

from __future__ import annotations

import warnings

from accel.builders.base import OpBuilder as OpBuilder
from accel.builders.kinds import CPUOpBuilder as CPUOpBuilder
from accel.builders.kinds import CUDAOpBuilder as CUDAOpBuilder
from accel.builders.torch_extension import TorchOpBuilder as TorchOpBuilder
from op_builder import get_default_compute_capabilities as get_default_compute_capabilities


class MissingCUDAException(Exception):
    """There is no CUDA toolkit to compile with."""


class CUDAMismatchException(Exception):
    """The CUDA toolkit and torch are of different releases."""


def installed_cuda_version(name: str = "") -> tuple[int, int]:
    """Return major and minor of the CUDA toolkit that would compile; `name` is for messages.

    Raises:
        MissingCUDAException: there is none; the message says where it was searched for.
    """
    from accel.jit.tools import nvcc
    from accel.probe import Rejected

    found = nvcc.find()
    if isinstance(found, Rejected):
        raise MissingCUDAException(f"{name}: {found}" if name else str(found))
    return found.version


def assert_no_cuda_mismatch(name: str = "") -> bool:
    """Return true if the toolkit can compile extensions of torch, which have to be of its release.

    Releases of one major version are compatible. Plain kernels link nothing of torch's, so that
    they are not concerned.

    Raises:
        MissingCUDAException: there is no toolkit.
        CUDAMismatchException: torch was built for another major version, or for none.
    """
    from accel.torch_build import torch_build

    major, minor = installed_cuda_version(name)
    build = torch_build()
    wanted = build.cuda if build is not None else ""
    if wanted.partition(".")[0] != str(major):
        of_torch = f"CUDA {wanted}" if wanted else "no CUDA"
        version = build.version if build is not None else "that is not installed"
        raise CUDAMismatchException(
            f"{name + ': ' if name else ''}the toolkit is CUDA {major}.{minor}, but torch "
            f"{version} is for {of_torch}. Point CUDA_HOME at a toolkit of torch's release, or "
            f"install a torch for CUDA {major}."
        )
    return True


def probe_is_compatible(builder: OpBuilder, verbose: bool = False) -> bool:
    """Return ``builder.is_compatible(verbose)``; a builder that raises is not, with a warning."""
    try:
        return bool(builder.is_compatible(verbose))
    except Exception as error:
        warnings.warn(
            f"{builder.name} cannot be asked whether it is compatible: "
            f"{type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
