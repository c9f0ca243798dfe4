"""Builds ahead of time: the same artifact, in a folder that can be moved."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from accel.errors import BuildFailed, OpUnavailable
from accel.jit.build.build import build
from accel.jit.cache import store
from accel.jit.cache.artifact import MANIFEST, Artifact, verify
from accel.jit.disk import location
from accel.jit.disk.safe_io import make_private, remove_tree
from accel.jit.plan import Plan, make_plan
from accel.jit.recipe import Recipe
from accel.probe import Rejected


def build_prebuilt(recipe: Recipe, out_dir: Path, *, verbose: bool = False) -> Path:
    """Build `recipe` for other machines and return the artifact's folder in `out_dir`.

    Needs no device and loads nothing. ``ACCEL_PREBUILT_DIR`` can name `out_dir`, which may be
    moved. A valid artifact that is already there is kept.

    Args:
        recipe: what to build; its targets say for which SIMD levels or GPUs.
        out_dir: created if it is missing.
        verbose: print progress on stderr.

    Raises:
        OpUnavailable: nothing can be compiled here; the message says why.
        BuildFailed: the compiler failed, or `out_dir` cannot be written.
        CacheUntrusted: others may write the cache, which the build goes through.
    """
    plan = make_plan(recipe)
    if isinstance(plan, Rejected):
        raise OpUnavailable(f"{recipe.name} ({recipe.backend}) cannot be built here: {plan}")
    target = out_dir / plan.stem
    if isinstance(verify(target, recipe.name, private=False), Artifact):
        return target
    made = _build_into(target, plan, verbose)
    usable = verify(made, recipe.name, private=False)
    if isinstance(usable, Rejected):
        location.say_once(f"{made} was built, but could not be loaded from there: {usable}")
    return made


def _build_into(target: Path, plan: Plan, verbose: bool) -> Path:
    recipe, out_dir = plan.recipe, target.parent
    try:
        cached = store.find(recipe.name, plan.digest)
        if isinstance(cached, Artifact):
            return _copy(cached, target)
        made = build(plan, lambda artifact: _copy(artifact, target), verbose=verbose)
        if made is None:
            raise BuildFailed(
                f"{recipe.name} ({recipe.backend}): its sources changed, or the cache was "
                f"emptied, during the build. Build it again once that has stopped."
            )
        return made
    except OSError as error:
        raise BuildFailed(
            f"{recipe.name} ({recipe.backend}): {error.filename or out_dir} cannot be written: "
            f"{error.strerror}. Choose another folder."
        ) from error


def _copy(made: Artifact, target: Path) -> Path:
    """Copy library and manifest, but not the log, which names folders of this machine."""
    _make_readable(target.parent)
    staging = target.with_name(f".{target.name}-{os.getpid()}-{os.urandom(4).hex()}")
    make_private(staging)
    try:
        # A second level, so that the folder has its final name while it is checked.
        ready = staging / target.name
        make_private(ready)
        for file in (made.library, made.folder / MANIFEST):
            shutil.copyfile(file, ready / file.name)
            (ready / file.name).chmod(0o644)
        ready.chmod(0o755)
        if store.publish(ready, target, made.manifest["name"], private=False) != target:
            raise OSError(None, "it cannot be replaced", str(target))
    finally:
        remove_tree(staging)
    return target


def _make_readable(folder: Path) -> None:
    """Create missing folders that all can read and no others can write, whatever the umask."""
    if not folder.is_dir():
        _make_readable(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)
