"""`TorchOpBuilder`: builds a user's pybind11 or ``TORCH_LIBRARY`` sources with the same engine."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from accel import jit
from accel.builders.base import OpBuilder

if TYPE_CHECKING:
    from accel.ops.base import Implementation


class TorchOpBuilder(OpBuilder):
    """A kind of builder: sources with torch's headers; `load` returns the extension module.

    Sources, include folders and flags are given as for every builder; ``.cu`` files are compiled
    by nvcc with `nvcc_args`, all others with `cxx_args`. Torch's folders and libraries are added.

    Attributes:
        python_module: whether the sources define a Python module (``PYBIND11_MODULE``). If false,
            they register with torch (``TORCH_LIBRARY``), and `load` returns the `Library`.
    """

    backend = "cpu"
    python_module: ClassVar[bool] = True

    def recipe(self) -> jit.Recipe:
        """Return the recipe; torch's files are read, but it is not imported.

        Raises:
            OpUnavailable: torch is not installed.
            FileNotFoundError: a source does not exist.
        """
        from accel.jit.tools.torch_extension import torch_recipe

        return torch_recipe(
            self.artifact or self.name,
            self.backend,
            [self._locate(source) for source in self.sources()],
            include_dirs=[self._locate(folder) for folder in self.include_paths()],
            cxx_flags=[flag for flag in self.cxx_args() if flag],
            cuda_flags=[flag for flag in self.nvcc_args() if flag],
            link_flags=[flag for flag in self.extra_ldflags() if flag],
            targets=self.targets,
        )

    def include_paths(self) -> list[str]:
        """Return the folders of the extension's own headers."""
        return []

    def _keep(self, library: Implementation | None) -> Any:
        if isinstance(library, jit.Library) and self.python_module and not self.op:
            if "module" in library.manifest:
                # A module of an installed package is imported only once.
                return import_module(library.manifest["module"])
            return library.load_module()
        return super()._keep(library)
