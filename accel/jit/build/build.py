"""From a plan to a published artifact: one process builds, the others use its result."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from accel import environment
from accel.errors import BuildFailed, CacheUntrusted
from accel.jit.build import failures
from accel.jit.build.compiling import compile_plan
from accel.jit.build.progress import Progress
from accel.jit.build.supervised import StartFailed
from accel.jit.cache import store, trouble
from accel.jit.cache.artifact import LOG, MANIFEST, Artifact, verify
from accel.jit.cache.manifest import manifest_of
from accel.jit.disk import location
from accel.jit.disk.holder import Waiting, take_away
from accel.jit.disk.lock import BuildLock
from accel.jit.disk.safe_io import make_private, remove_tree, write_private
from accel.jit.plan import Plan
from accel.jit.recipe import take_fit

_log = logging.getLogger(__name__)
Used = TypeVar("Used")


def build(
    plan: Plan, use: Callable[[Artifact], Used | None], *, verbose: bool = False
) -> Used | None:
    """Build the artifact of `plan`, here or in another process, and return ``use(artifact)``.

    The artifact is not pruned until `use` has returned. If it could not be published, it is in a
    staging folder of this process.

    Args:
        plan: what to build.
        use: called with the artifact; returns ``None`` if the artifact was removed meanwhile.
        verbose: print progress on stderr.

    Returns:
        The result of `use`; ``None`` if the artifact is gone or its sources changed during the
        build, so that the caller plans again.

    Raises:
        BuildFailed: the compiler failed, here or in the process that was waited for; or there
            is no room for the result.
        CacheUntrusted: others may write the cache.
    """
    try:
        root = location.prepare()
    except CacheUntrusted:
        raise
    except OSError as error:
        raise _no_room(plan, error) from error
    known = failures.certain((root,), plan.stem)
    if known is not None:
        raise known
    before = failures.Failure.look(root, plan.stem)
    lock = store.lock_of(root, plan.stem)
    used = _wait_turn(lock, plan, root, before, use)
    if used is not None:
        return used
    try:
        before.raise_if_newer(root, plan.stem)
        found = _published(plan, root) or _build_here(plan, root, verbose, lock.beat)
        return None if found is None else use(found)
    finally:
        lock.release()


def _published(plan: Plan, root: Path) -> Artifact | None:
    found = verify(root / plan.stem, plan.recipe.name)
    return found if isinstance(found, Artifact) else None


def _wait_turn(
    lock: BuildLock,
    plan: Plan,
    root: Path,
    before: failures.Failure,
    use: Callable[[Artifact], Used | None],
) -> Used | None:
    """Wait for another process's build and use it; ``None`` when it is this process's turn."""
    pause = 0.005
    waiting = Waiting(lock.path, _label(plan), environment.build_timeout() + 60)
    announced = False
    while True:
        try:
            if lock.acquire():
                return None
        except OSError as error:
            _log.info("%s: building without a lock: %s", plan.recipe.name, error)
            return None
        if not announced:
            announced = True
            _log.info("%s: another process is building it; waiting.", plan.recipe.name)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
        found = _published(plan, root)
        used = None if found is None else use(found)
        if used is not None:
            return used
        before.raise_if_newer(root, plan.stem)
        warning, idle = waiting.warning()
        if warning:
            _log.warning("%s", warning)
        if idle is not None and not take_away(lock.path, idle):
            return None


def _build_here(plan: Plan, root: Path, verbose: bool, beat: Callable[[], None]) -> Artifact | None:
    try:
        staging = store.new_staging(root)
    except OSError as error:
        raise _no_room(plan, error) from error
    place = None
    try:
        place = _compile_and_publish(plan, root, staging, verbose, beat)
    except StartFailed as error:
        raise BuildFailed(f"{_label(plan)}: {error}", first_error=str(error)) from error
    except OSError as error:
        if not staging.exists():
            _log.info("%s: the cache was emptied during the build; building again.", plan.stem)
            return None
        raise _no_room(plan, error) from error
    except BuildFailed as error:
        failures.keep_failure(root, plan.stem, error)
        raise
    finally:
        if place is None or staging not in place.parents:
            remove_tree(staging)
    failures.forget_failure(root, plan.stem)
    if place is None:
        return None
    found = verify(place, plan.recipe.name)
    if isinstance(found, Artifact):
        return found
    if not place.exists():
        return None
    raise BuildFailed(f"{_label(plan)}: built, but then {found.reason} Check the disk of {root}.")


def _compile_and_publish(
    plan: Plan, root: Path, staging: Path, verbose: bool, beat: Callable[[], None]
) -> Path | None:
    """Compile in `staging` and return the folder that the artifact is in.

    ``None`` if the sources changed meanwhile, since the digest is then not that of the result.
    """
    name = plan.recipe.name
    began = time.monotonic()
    if plan.lacks_openmp:
        _log.warning(
            "%s: %s finds no omp.h, so the library runs in one thread. Install libomp-dev, or "
            "set CXX to g++.",
            _label(plan),
            plan.compiler.label,
        )
    steps, label = len(plan.commands), plan.compiler.label
    with Progress(_label(plan), steps, label, verbose, beat) as progress:
        made = compile_plan(plan, staging, root, progress)
    if not _still_fits(plan):
        _log.info("%s: its sources changed during the build; building again.", name)
        return None
    ready = staging / plan.stem
    make_private(ready)
    manifest = manifest_of(plan, staging, made.library, time.monotonic() - began)
    # Copied: a compiler's own file may be a link, or a hard link into the compiler's cache.
    write_private(ready / f"{name}.so", made.library)
    write_private(ready / LOG, made.log)
    write_private(ready / MANIFEST, json.dumps(manifest, indent=1).encode())
    return store.publish(ready, root / plan.stem, name)


def _still_fits(plan: Plan) -> bool:
    try:
        return take_fit(plan.recipe).digest == plan.fit
    except OSError:
        return False


def _label(plan: Plan) -> str:
    return f"{plan.recipe.name} ({plan.recipe.backend})"


def _no_room(plan: Plan, error: OSError) -> BuildFailed:
    where = f"{error.filename}: " if error.filename else ""
    limited = error.errno in trouble.LIMITS
    what = "the build cannot continue" if limited else "the cache cannot be written"
    way = trouble.remedy(error) or "Set ACCEL_CACHE_DIR to a writable folder."
    return BuildFailed(
        f"{_label(plan)}: {what}: {where}{error.strerror or error}. {way}",
        first_error=str(error),
    )
