"""From a recipe to a loaded library: prebuilt, cached, or compiled now, in that order."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from accel import environment
from accel.errors import BuildFailed, OpUnavailable
from accel.jit import library
from accel.jit.cache import store
from accel.jit.cache.artifact import Artifact
from accel.jit.disk import location, source_dirs
from accel.jit.disk.lock import gate
from accel.jit.library import Library
from accel.jit.plan import Plan, plan_of
from accel.jit.recipe import Fit, Recipe, platform_refusal, take_fit
from accel.probe import Accepted, Probe, Rejected

_log = logging.getLogger(__name__)
_CHANGES_DURING_BUILD = 3
_looked = threading.local()
_refused: dict[tuple[Path, str], str] = {}


def acquire(recipe: Recipe, *, verbose: bool = False) -> Library:
    """Return the library of `recipe`, loaded; the same one as long as nothing changes.

    Every call checks sources, headers and compiler, so an edit counts in the same process too.

    Args:
        recipe: the declaration of the library.
        verbose: print progress of a build on stderr.

    Raises:
        BuildFailed: a compiler ran and made no library that can be loaded.
        CacheUntrusted: others may write the cache.
        OpUnavailable: nothing prebuilt or cached fits and nothing can be compiled here.
    """
    for _ in range(_CHANGES_DURING_BUILD):
        _looked.at = None
        fitted = _fit_of(recipe)
        _looked.at = (recipe, fitted, None)
        prebuilt = _from_prebuilt(recipe, fitted)
        if isinstance(prebuilt, Library):
            return prebuilt
        plan = plan_of(recipe, fitted)
        _looked.at = (recipe, fitted, plan)
        if isinstance(plan, Rejected):
            return _without_compiler(recipe, fitted, prebuilt, plan)
        digest = plan.digest
        with gate(digest):
            found = library.loaded(digest) or _from_cache(plan, digest)
            if found is None:
                found = _from_build(plan, verbose)
        if found is not None:
            return found
    raise BuildFailed(
        f"{recipe.name} ({recipe.backend}): its sources changed, or the cache was emptied, during "
        f"each build. Load it again once that has stopped."
    )


def forget_inputs() -> None:
    """Clear the `inputs` of this thread's last load."""
    _looked.at = ()


def inputs() -> tuple[list[str], list[str]] | None:
    """Return the files and folders that this thread's last `acquire` read, for `Watch`.

    Empty if it was not called; ``None`` if it could not read its sources.
    """
    from accel.jit.source_changes import inputs_of

    at = _looked.at
    return inputs_of(*at) if at else None if at is None else ([], [])


def refuse_prebuilt(found: Library, reason: str) -> None:
    """Skip a prebuilt library from now on in this process: it was loaded and does not work."""
    _refused[found.path.parent, found.manifest["sha256"]] = reason
    library.forget(found.digest)


def availability(recipe: Recipe) -> tuple[tuple[str, Probe], ...]:
    """Return whether the rungs ``"prebuilt"`` and ``"jit"`` work for `recipe`, with the reasons.

    Compiles nothing, loads nothing, raises nothing.
    """
    try:
        fitted = _fit_of(recipe)
    except Exception as error:
        none = _rejected(error)
        return ("prebuilt", none), ("jit", none)
    return ("prebuilt", _probed(_probe_prebuilt, recipe, fitted)), (
        "jit",
        _probed(_probe_jit, recipe, fitted),
    )


def _probed(probe: Callable[[Recipe, Fit], Probe], recipe: Recipe, fitted: Fit) -> Probe:
    try:
        return probe(recipe, fitted)
    except Exception as error:
        return _rejected(error)


def _rejected(error: Exception) -> Rejected:
    from accel.jit.cache.trouble import describe

    return Rejected(describe(error))


def find_prebuilt(recipe: Recipe, fitted: Fit) -> Artifact | Rejected:
    """Return the first prebuilt artifact that fits, or every folder's reason; never raises."""
    refusals = []
    for folder in source_dirs.prebuilt_dirs():
        found = store.find_fitting(recipe, fitted, folder, private=False)
        if isinstance(found, Artifact):
            reason = _refused.get((found.folder, found.manifest["sha256"]))
            if reason is None:
                return found
            refusals.append(reason)
        else:
            refusals.append(str(found))
    return Rejected(" ".join(refusals) or "no prebuilt folder here.")


def find_in_cache(recipe: Recipe, fitted: Fit) -> Artifact | Rejected:
    """Return a cached artifact of equal fit, whatever compiler made it; raises `CacheUntrusted`."""
    refusal = Rejected("nothing is cached.")
    for root in location.locate().readable:
        found = store.find_fitting(recipe, fitted, root, private=True)
        if isinstance(found, Artifact):
            return found
        refusal = found
    return refusal


def _fit_of(recipe: Recipe) -> Fit:
    refusal = platform_refusal()
    if refusal is not None:
        raise OpUnavailable(f"{recipe.name} ({recipe.backend}): {refusal}")
    try:
        return take_fit(recipe)
    except OSError as error:
        from accel.jit.cache.trouble import remedy

        way = remedy(error) or "Restore it, or reinstall the package that it belongs to."
        raise OpUnavailable(
            f"{recipe.name} ({recipe.backend}): {error.filename} cannot be read: "
            f"{error.strerror}. {way}"
        ) from error


def _probe_prebuilt(recipe: Recipe, fitted: Fit) -> Probe:
    found = find_prebuilt(recipe, fitted)
    return found if isinstance(found, Rejected) else Accepted(str(found.folder))


def _probe_jit(recipe: Recipe, fitted: Fit) -> Probe:
    plan = plan_of(recipe, fitted)
    if isinstance(plan, Rejected):
        cached = find_in_cache(recipe, fitted)
        return Accepted("cached") if isinstance(cached, Artifact) else plan
    cached = store.find(recipe.name, plan.digest)
    if isinstance(cached, Artifact):
        return Accepted("cached")
    failed = _known_to_fail(plan)
    if failed is not None:
        return failed
    alone = " without OpenMP, so in one thread" if plan.lacks_openmp else ""
    return Accepted(f"compiles with {plan.compiler.label}{alone}{_for_targets(plan)}")


def _known_to_fail(plan: Plan) -> Rejected | None:
    from accel.jit.build.failures import certain

    error = certain(location.locate().readable, plan.stem)
    return None if error is None else Rejected(str(error))


def _for_targets(plan: Plan) -> str:
    """Return a note on a CUDA build: targets, their origin, a toolkit that is not torch's."""
    if plan.archs is None:
        return ""
    from accel.jit.tools.cuda_targets import release_of, torch_note

    notes = (*plan.archs.dropped, torch_note(release_of(plan.compiler.version)))
    notes_text = "".join(f"; {note.rstrip('.')}" for note in notes if note)
    return f" for {plan.archs} ({plan.archs.origin}){notes_text}"


def _from_prebuilt(recipe: Recipe, fitted: Fit) -> Library | Rejected:
    found = find_prebuilt(recipe, fitted)
    if isinstance(found, Rejected):
        store.warn_of_refused()
        return found
    try:
        return library.load(found, "prebuilt")
    except OSError as error:
        reason = f"{found.library} cannot be loaded: {error}."
        _log.warning("prebuilt %s", reason)
        return Rejected(reason)


def _from_cache(plan: Plan, digest: str) -> Library | None:
    found = store.find(plan.recipe.name, digest)
    if isinstance(found, Rejected):
        return None
    try:
        return library.load(found, "jit")
    except OSError as error:
        if _lacks_memory(error):
            raise
        _log.warning("%s cannot be loaded (%s); building it again.", found.library, error)
        _set_aside(found.folder)
        return None


def _lacks_memory(error: OSError) -> bool:
    """Return whether the loader lacked memory, rather than the library being at fault."""
    return "allocate memory" in str(error)


def _set_aside(folder: Path) -> None:
    try:
        root = location.prepare()
        store.move(folder, store.new_staging(root) / folder.name)
    except OSError:
        return  # A read-only layer stays as it is; the build's result is used from its own place.


def _from_build(plan: Plan, verbose: bool) -> Library | None:
    """Build and load; ``None`` when the sources changed or the artifact was removed meanwhile."""
    from accel.jit.build.build import build

    def load(artifact: Artifact) -> Library | None:
        try:
            return library.load(artifact, "jit")
        except OSError as error:
            if not artifact.library.exists():
                return None
            raise BuildFailed(
                f"{plan.recipe.name} ({plan.recipe.backend}): it was built and cannot be loaded: "
                f"{error}. Is {artifact.folder.parent} on a file system that forbids execution?",
                log_path=str(artifact.folder / "build.log"),
                first_error=str(error),
            ) from error

    return build(plan, load, verbose=verbose)


def _without_compiler(recipe: Recipe, fitted: Fit, prebuilt: Rejected, plan: Rejected) -> Library:
    cached = find_in_cache(recipe, fitted)
    if isinstance(cached, Artifact):
        if environment.chooses_compiler():
            location.say_once(
                f"{recipe.name} ({recipe.backend}): CXX, CFLAGS, CXXFLAGS or NVCC cannot be "
                f"followed: {plan} Using the library built before: {cached.folder}"
            )
        try:
            return library.loaded(cached.digest) or library.load(cached, "jit")
        except OSError as error:
            cached = Rejected(f"{cached.library} cannot be loaded: {error}.")
    raise OpUnavailable(
        f"{recipe.name} ({recipe.backend}) has no native library here.\n"
        f"  prebuilt: {prebuilt}\n  cached: {cached}\n  jit: {plan}"
    )
