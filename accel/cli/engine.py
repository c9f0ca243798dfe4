"""The commands about builds: ``accel explain``, ``accel build`` and ``accel cache``."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from accel.cli.tables import table
from accel.errors import AccelError, UnknownOp
from accel.probe import Accepted, Rejected

if TYPE_CHECKING:
    from accel.builders.base import OpBuilder
    from accel.jit import Recipe
    from accel.jit.disk.location import Location
    from accel.jit.explain import Comparison, Explanation

JSON = click.option("--json", "as_json", is_flag=True, help="Print machine-readable JSON.")
_ACCELERATOR = click.option(
    "--accelerator", metavar="NAME", default="", help="The backend; default: the one in use."
)


def _backend(name: str) -> str:
    from accel import registry
    from accel.current import get_accelerator

    if not name:
        return get_accelerator().name
    registry.builders_module(name)
    return name


def _builder(op: str, backend: str) -> OpBuilder:
    from accel import registry
    from accel.builders.lookup import find_builder

    return find_builder(op, registry.builders_module(backend), backend)()


@click.command()
@click.argument("op")
@_ACCELERATOR
@JSON
def explain(op: str, accelerator: str, as_json: bool) -> None:
    """Show every rung of an op, the plan, the digest, and why it would be rebuilt."""
    from accel.jit.cache.trouble import last_note
    from accel.jit.explain import explain as explain_recipe

    builder = _builder(op, _backend(accelerator))
    verdict = builder.compatibility()
    try:
        explanation = explain_recipe(builder.recipe())
    except (AccelError, OSError):
        explanation = None
    note = last_note(builder.backend, builder.name)
    rungs = [(rung, bool(probe), _reason(probe)) for rung, probe in builder.rungs()]
    if as_json:
        facts: dict[str, Any] = explanation.as_dict() if explanation is not None else {}
        facts |= {
            "op": builder.NAME,
            "backend": builder.backend,
            "verdict": _reason(verdict),
            "rungs": [dict(zip(("rung", "accepted", "reason"), row, strict=True)) for row in rungs],
            "last_failure": None if note is None else note._asdict(),
            "notes": builder.notes(),
        }
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(f"{builder.NAME} on {builder.backend}: {_reason(verdict)}\n")
    table(
        "Rungs",
        ("rung", "usable", "reason"),
        [(rung, "yes" if usable else "no", reason) for rung, usable, reason in rungs],
    )
    for line in builder.notes():
        click.echo(f"{line}\n")
    if note is not None:
        click.echo(f"Last failed load of the native library: {note}\n")
    if explanation is not None:
        _show(explanation)


def _reason(probe: Accepted | Rejected) -> str:
    return probe.note if isinstance(probe, Accepted) else str(probe)


def _show(explanation: Explanation) -> None:
    if isinstance(explanation.plan, Rejected):
        click.echo(f"Plan: none. {explanation.plan}\n")
    else:
        click.echo("Plan")
        for command in explanation.commands:
            click.echo(f"  {command}")
        click.echo(f"\nDigest {explanation.digest}, of")
        for name, value in explanation.ingredients.items():
            click.echo(f"  {name}: {value or '-'}")
    click.echo(f"\nCache {explanation.cache or 'none'}. {explanation.note}".rstrip())
    for artifact in explanation.artifacts:
        _show_artifact(artifact)


def _show_artifact(artifact: Comparison) -> None:
    click.echo(f"  {artifact.folder}\n    {artifact.verdict or 'would be used as is.'}")
    for change in artifact.changes:
        click.echo(f"    {change.name}: {change.before} -> {change.after}")


@click.command()
@click.argument("ops", nargs=-1)
@_ACCELERATOR
@click.option("--arch", default="", metavar="LIST", help="CUDA targets, such as 8.0,9.0+PTX.")
@click.option(
    "--out",
    default=Path("prebuilt"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The output folder, which ACCEL_PREBUILT_DIR can name.",
)
@JSON
@click.pass_context
def build(
    ctx: click.Context, ops: tuple[str, ...], accelerator: str, arch: str, out: Path, as_json: bool
) -> None:
    """Build OPS (default: all) ahead of time into a portable folder; needs no device."""
    backend = _backend(accelerator)
    recipes = _recipes(ops, backend, arch)
    _say_ignored(arch, recipes, named=bool(ops) and ops != ("all",))
    rows = [_build_one(recipe, names, out) for names, recipe in recipes]
    failed = [row for row in rows if not row["built"]]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        for row in failed:
            click.echo(f"\n{row['artifact']} ({', '.join(row['ops'])}): {row['error']}", err=True)
        click.echo(f"{len(rows) - len(failed)} built, {len(failed)} failed: {out}")
        if not failed:
            click.echo(f"Programs find them with ACCEL_PREBUILT_DIR={out.resolve()}")
    ctx.exit(1 if failed else 0)


def _recipes(ops: tuple[str, ...], backend: str, arch: str) -> list[tuple[list[str], Recipe]]:
    """Return every recipe once, with the ops that share it; raises for an op without sources."""
    from accel import registry
    from accel.ops.optimizers.prepared import host_watch

    everything = not ops or ops == ("all",)
    asked = registry.builder_names() if everything else ops
    by_artifact: dict[tuple[str, str], tuple[list[str], Recipe]] = {}
    for op in asked:
        builder = _builder(op, backend)
        if everything and not builder.has_sources():
            continue
        recipe = builder.recipe()
        # A library of the host has no GPU architectures.
        if arch and recipe.language == "cuda":
            targets = tuple(word for word in arch.replace(";", ",").split(",") if word.strip())
            recipe = recipe.replace(targets=targets)
        by_artifact.setdefault((recipe.backend, recipe.name), ([], recipe))[0].append(builder.NAME)
    if not by_artifact:
        raise UnknownOp(f"{backend} has no op with native sources, so there is nothing to build.")
    return [*by_artifact.values(), *host_watch.needed_by(by_artifact.values())]


def _say_ignored(arch: str, recipes: list[tuple[list[str], Recipe]], *, named: bool) -> None:
    """Say that an architecture has no meaning for the host's libraries, if they were asked for."""
    on_device = {name for ops, recipe in recipes if recipe.language == "cuda" for name in ops}
    names = [name for ops, _ in recipes for name in ops if name not in on_device]
    if arch and names and (named or not on_device):
        click.echo(f"--arch {arch} is ignored for {', '.join(names)}: only CUDA has it.", err=True)


def _build_one(recipe: Recipe, names: list[str], out: Path) -> dict[str, Any]:
    from accel.jit.build.prebuilt import build_prebuilt

    row: dict[str, Any] = {"artifact": recipe.name, "backend": recipe.backend, "ops": names}
    start = time.perf_counter()
    try:
        path = build_prebuilt(recipe, out, verbose=True)
    except AccelError as error:
        return {**row, "built": False, "error": str(error)}
    return {**row, "built": True, "path": str(path), "seconds": time.perf_counter() - start}


@click.group()
def cache() -> None:
    """Inspect and clean the folder of compiled ops."""


@cache.command()
@JSON
def path(as_json: bool) -> None:
    """Print the cache's folder."""
    place = _place()
    facts = {"path": str(place.path), "note": place.note}
    click.echo(json.dumps(facts) if as_json else os.fsencode(place.path))


def _place() -> Location:
    """Return where the cache is, with a note on stderr if it is not the usual place."""
    from accel.jit.disk import location

    place = location.locate()
    if place.note:
        click.echo(place.note, err=True)
    return place


@cache.command()
@JSON
def ls(as_json: bool) -> None:
    """List the cached artifacts: size, age, and why an op would not use one."""
    from accel.jit.cache import maintenance

    _place()
    wanted = dict(_current_digests())
    rows = []
    for entry in maintenance.entries():
        reason = entry.trouble or ("" if entry.digest in wanted else "no known op uses it now.")
        rows.append({**dataclasses.asdict(entry), "folder": str(entry.folder), "trouble": reason})
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    now = time.time()
    table(
        "Cache",
        ("artifact", "backend", "size", "age", "reason"),
        [
            (
                f"{row['name']}-{row['digest'][:8]}",
                row["backend"],
                f"{row['size'] / 1024:.0f} KiB",
                f"{(now - row['created']) / 3600:.1f} h",
                row["trouble"] or "in use",
            )
            for row in rows
        ],
    )


def _current_digests() -> Iterator[tuple[str, str]]:
    """Yield digest and op of everything that a known builder would use now."""
    from accel import registry
    from accel.jit import Plan, make_plan
    from accel.ops.optimizers.prepared import host_watch

    for candidate in registry.candidates():
        if candidate.error is not None:
            continue
        for name in registry.builder_names():
            plan = _builder(name, candidate.name).plan()
            if isinstance(plan, Plan):
                yield plan.digest, name
    if isinstance(watch := make_plan(host_watch.recipe()), Plan):
        yield watch.digest, host_watch.NAME


@cache.command()
@JSON
@click.pass_context
def verify(ctx: click.Context, as_json: bool) -> None:
    """Check every artifact and its checksum; exit 1 if one is broken."""
    from accel.jit.cache import maintenance

    _place()
    checked = maintenance.verify_all()
    rows = [(str(entry.folder), bool(probe), _reason(probe)) for entry, probe in checked]
    if as_json:
        names = ("path", "sound", "reason")
        click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
    else:
        for folder, sound, reason in rows:
            click.echo(f"{'sound' if sound else 'broken'}  {folder}  {reason}".rstrip())
    ctx.exit(0 if all(sound for _, sound, _ in rows) else 1)


@cache.command()
@click.option("--older-than", type=float, metavar="DAYS", help="Remove what is unused for DAYS.")
@click.option("--max-size", type=float, metavar="MIB", help="Keep the last used, up to MIB.")
@click.option("--orphans", is_flag=True, help="Remove artifacts that no known op uses now.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed; remove nothing.")
@JSON
def prune(
    older_than: float | None,
    max_size: float | None,
    orphans: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove broken artifacts, leftovers of killed builds, and what the options select."""
    from accel.jit.cache import maintenance

    _place()
    removals = maintenance.prune(
        older_than=_scaled(older_than, lambda days: days * 86400),
        max_bytes=_scaled(max_size, lambda size: int(size * 1024 * 1024)),
        current=dict(_current_digests()) if orphans else None,
        dry_run=dry_run,
    )
    rows = [{**dataclasses.asdict(one), "path": str(one.path)} for one in removals]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{'would remove' if dry_run else 'removed'} {row['path']}: {row['reason']}")
    freed = sum(row["size"] for row in rows) / 1024
    click.echo(f"{len(rows)} removed, {freed:.0f} KiB" if not dry_run else f"{freed:.0f} KiB")


def _scaled(value: float | None, scale: Callable[[float], Any]) -> Any:
    return None if value is None else scale(value)
