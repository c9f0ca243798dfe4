"""The reasons for the library that an op gets: every rung, the plan, the digest, the changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel.errors import CacheUntrusted, OpUnavailable
from accel.jit.cache import store
from accel.jit.cache.artifact import Artifact, read_manifest, verify
from accel.jit.cache.trouble import describe
from accel.jit.disk import location, source_dirs
from accel.jit.loading import availability
from accel.jit.plan import Plan, make_plan
from accel.jit.recipe import Recipe, take_fit
from accel.jit.tools.ninja import shell_text
from accel.probe import Probe, Rejected
from accel.shown import Sheet, Shown

_ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Change:
    """One ingredient that differs from an older artifact's; ``"absent"`` if one side lacks it."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """An artifact of the same name, compared with this recipe.

    Attributes:
        folder: its path.
        verdict: ``""`` if it would be used as is, else why not.
        changes: the ingredients in which its fit or digest differs from the plan's.
        prebuilt: whether it is in a prebuilt folder, not in the cache.
    """

    folder: Path
    verdict: str
    changes: tuple[Change, ...]
    prebuilt: bool = False


@dataclass(frozen=True, slots=True)
class Explanation(Shown):
    """All facts that decide which library one recipe gets here and now.

    Attributes:
        name: stem of the artifact.
        backend: the backend that it is for.
        rungs: ``"prebuilt"`` and ``"jit"`` with their verdicts.
        plan: how it would be built, or why it cannot be.
        fit: hex digest of sources and declarations, ``""`` if a source is missing.
        digest: hex digest that names the artifact, ``""`` without a plan.
        ingredients: the facts that `digest` covers, by name.
        commands: the commands of a build, quoted for a shell.
        cache: the folder for new artifacts; ``None`` if it is not trusted.
        note: a note if the cache is unusual, else ``""``.
        artifacts: existing artifacts, newest first, prebuilt folders before the cache.
    """

    name: str
    backend: str
    rungs: tuple[tuple[str, Probe], ...]
    plan: Plan | Rejected
    fit: str
    digest: str
    ingredients: Mapping[str, str]
    commands: tuple[str, ...]
    cache: Path | None
    note: str
    artifacts: tuple[Comparison, ...]

    @property
    def relevant(self) -> tuple[Comparison, ...]:
        """The artifacts that decide what happens now: all prebuilt ones, and one of the cache.

        That one is the digest's own; if there is none, the newest, which shows what has changed.
        """
        prebuilt = [one for one in self.artifacts if one.prebuilt]
        cached = [one for one in self.artifacts if not one.prebuilt]
        own = [one for one in cached if self.digest and one.folder.name.endswith(self.digest)]
        usable = [one for one in cached if not one.verdict]
        return (*prebuilt, *(own or usable or cached)[:1])

    def sheets(self) -> Iterator[Sheet]:
        """Yield a table of the rungs, one of the facts, and one of the relevant artifacts."""
        rungs = [(rung, "yes" if probe else "no", _text_of(probe)) for rung, probe in self.rungs]
        title = f"{self.name} on {self.backend}"
        yield Sheet(title, ("rung", "usable", "reason"), rungs)
        refused = isinstance(self.plan, Rejected)
        facts = [
            ("plan", str(self.plan) if refused else f"{len(self.commands)} commands"),
            ("digest", self.digest or "none"),
            ("cache", f"{self.cache or 'none'}. {self.note}".rstrip(". ")),
        ]
        yield Sheet("Facts", ("fact", "value"), facts)
        if self.artifacts:
            found = [
                (str(one.folder), one.verdict or "would be used as is") for one in self.relevant
            ]
            yield Sheet("Artifacts", ("folder", "verdict"), found)

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain data for JSON."""
        refused = isinstance(self.plan, Rejected)
        return {
            "name": self.name,
            "backend": self.backend,
            "rungs": [
                {"rung": rung, "accepted": bool(probe), "reason": _text_of(probe)}
                for rung, probe in self.rungs
            ],
            "plan": {"rejected": str(self.plan)} if refused else {"commands": list(self.commands)},
            "fit": self.fit,
            "digest": self.digest,
            "ingredients": dict(self.ingredients),
            "cache": str(self.cache) if self.cache else None,
            "note": self.note,
            "artifacts": [
                {
                    "folder": str(artifact.folder),
                    "verdict": artifact.verdict or "would be used",
                    "changes": [
                        {"ingredient": change.name, "before": change.before, "after": change.after}
                        for change in artifact.changes
                    ],
                }
                for artifact in self.artifacts
            ],
        }


def explain(recipe: Recipe) -> Explanation:
    """Explain `recipe`; compiles nothing, loads nothing, raises nothing."""
    rungs = availability(recipe)
    cache, note, readable = _cache()
    plan = _planned(recipe)
    try:
        fitted = take_fit(recipe)
    except Exception as error:
        if isinstance(plan, Plan):
            plan = Rejected(describe(error))
        return Explanation(
            recipe.name, recipe.backend, rungs, plan, "", "", {}, (), cache, note, ()
        )
    ready = isinstance(plan, Plan)
    ingredients = plan.ingredients() if isinstance(plan, Plan) else fitted.ingredients
    commands = tuple(shell_text(c.argv) for c in plan.commands) if isinstance(plan, Plan) else ()
    digest = plan.digest if isinstance(plan, Plan) else ""
    found = [
        _compare(recipe, folder, ingredients, digest, prebuilt=prebuilt, exact=ready)
        for place, prebuilt in [(p, True) for p in source_dirs.prebuilt_dirs()]
        + [(p, False) for p in readable]
        for folder in store.folders_of(recipe.name, place)
    ]
    return Explanation(
        recipe.name,
        recipe.backend,
        rungs,
        plan,
        fitted.digest,
        digest,
        ingredients,
        commands,
        cache,
        note,
        tuple(artifact for artifact in found if artifact is not None),
    )


def _planned(recipe: Recipe) -> Plan | Rejected:
    try:
        return make_plan(recipe)
    except Exception as error:
        return Rejected(describe(error))


def _cache() -> tuple[Path | None, str, tuple[Path, ...]]:
    try:
        place = location.locate()
    except (CacheUntrusted, OpUnavailable, OSError) as error:
        return None, describe(error), ()
    return place.path, place.note, place.readable


def _compare(
    recipe: Recipe,
    folder: Path,
    now: Mapping[str, str],
    digest: str,
    *,
    prebuilt: bool,
    exact: bool,
) -> Comparison | None:
    """Compare an artifact with the current plan; ``None`` if it is another backend's."""
    manifest = read_manifest(folder)
    if isinstance(manifest, Rejected):
        return Comparison(folder, manifest.reason, (), prebuilt)
    if manifest["backend"] != recipe.backend:
        return None
    before: Mapping[str, str] = manifest["ingredients"]
    # Without a compiler, and for prebuilt artifacts, only the facts of the fit count.
    by_fit = prebuilt or not exact
    names = [name for name in {**before, **now} if not (by_fit and _of_tools(name))]
    changes = tuple(
        Change(name, before.get(name, _ABSENT), now.get(name, _ABSENT))
        for name in names
        if before.get(name) != now.get(name)
    )
    found = verify(folder, recipe.name, private=not prebuilt)
    verdict = "" if isinstance(found, Artifact) else found.reason
    if not verdict and changes:
        verdict = f"differs in {', '.join(change.name for change in changes)}."
    return Comparison(folder, verdict, changes, prebuilt)


def _of_tools(name: str) -> bool:
    tools = {"compiler", "host compiler", "flags", "host flags", "libraries", "libc version"}
    return name in tools or name.startswith("machine ")


def _text_of(probe: Probe) -> str:
    return str(probe) if isinstance(probe, Rejected) else probe.note
