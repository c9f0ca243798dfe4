"""A builder as an extension for ``setup.py``, whose ``build_ext`` builds it with the engine.

The library is exactly what `load` would build; `accel.builders.packaging` finds and loads it.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.builders.packaging import DIGITS, END, extension_name, renamed_recipe
from accel.errors import AccelError, OpUnavailable

if TYPE_CHECKING:
    from accel.builders.declaration import Declaration
    from accel.jit import Recipe

_KEPT = ("backend", "fit", "digest", "extension", "targets", "compiler", "glibc", "sha256")


def extension(builder: Declaration) -> Any:
    """Return a ``setuptools.Extension`` of a builder's sources; see `OpBuilder.builder`."""
    if type(builder).__module__.startswith("accel.builders."):
        raise OpUnavailable(
            f"{type(builder).__name__} is accel's own: accel compiles it on first use, so no "
            f"other package builds it. Take it out of ext_modules and depend on accel-torch. To "
            f"ship it compiled, run `accel build --out FOLDER` and set ACCEL_PREBUILT_DIR."
        )
    from setuptools import Extension

    from accel.jit.recipe import take_fit

    _teach_setuptools()
    recipe = renamed_recipe(builder)
    openmp = ["-fopenmp"] if recipe.openmp else []
    made = Extension(
        name=extension_name(builder),
        # Only paths relative to setup.py are included in a source distribution.
        sources=[_from_here(source) for source in recipe.sources],
        depends=[_from_here(path) for path in map(Path, take_fit(recipe).files.values())],
        include_dirs=[str(path) for path in (*recipe.include_dirs, *recipe.system_include_dirs)],
        library_dirs=[str(folder) for folder in recipe.library_dirs],
        extra_compile_args=["-std=c++17", "-O3", *recipe.compile_flags, *openmp],
        extra_link_args=[*recipe.link_flags, *openmp],
        language="c++",
    )
    vars(made)["accel_recipe"] = recipe
    return made


def _from_here(path: Path) -> str:
    here = Path.cwd().resolve()
    real = path.resolve()
    return real.relative_to(here).as_posix() if real.is_relative_to(here) else str(path)


def _teach_setuptools() -> None:
    """Make every ``build_ext`` of this process build our extensions with the engine.

    Extensions cannot define how they are built, and a ``cmdclass`` of ours would exclude those of
    torch and Cython.
    """
    from setuptools.command.build_ext import build_ext

    plain = build_ext.build_extension
    if hasattr(plain, "accel"):
        return

    @functools.wraps(plain)
    def build_extension(self: Any, ext: Any) -> None:
        recipe = vars(ext).get("accel_recipe")
        if recipe is None:
            plain(self, ext)
        else:
            _build(recipe, Path(self.build_temp), Path(self.get_ext_fullpath(ext.name)))

    vars(build_extension)["accel"] = True
    build_ext.build_extension = build_extension  # type: ignore[method-assign]


def _build(recipe: Recipe, scratch: Path, target: Path) -> None:
    """Build one library to `target`; a failure is an error of setuptools, without a traceback."""
    from setuptools.errors import CompileError

    from accel.jit.build.prebuilt import build_prebuilt
    from accel.jit.cache.artifact import MANIFEST

    try:
        folder = build_prebuilt(recipe, scratch.absolute() / "accel", verbose=True)
    except AccelError as error:
        raise CompileError(str(error)) from error
    manifest = json.loads((folder / MANIFEST).read_bytes())
    record = {name: manifest[name] for name in _KEPT} | {"identity": dict(recipe.identity)}
    text = b"\n" + json.dumps(record, sort_keys=True).encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    library = (folder / f"{recipe.name}.so").read_bytes()
    staged = target.with_name(f".{target.name}.{os.getpid()}")
    staged.write_bytes(library + text + b"%0*d" % (DIGITS, len(text)) + END)
    staged.chmod(0o755)
    # A process that has mapped the old file keeps it.
    staged.replace(target)
