"""The commands about builds: ``accel explain`` and ``accel build``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from accel.cli.tables import table
from accel.errors import AccelError, OpUnavailable, UnknownOp
from accel.probe import Accepted, Rejected
from accel.shown import Sheet

if TYPE_CHECKING:
    from accel.builders.base import OpBuilder
    from accel.jit import Recipe
    from accel.jit.explain import Comparison, Explanation

JSON = click.option("--json", "as_json", is_flag=True, help="Print machine-readable JSON.")
_ACCELERATOR = click.option(
    "--accelerator", metavar="NAME", default="", help="The backend; default: the one in use."
)
# What an ingredient of the digest is called if it is a file's checksum.
_FILE = "file "


def _backend(name: str) -> str:
    from accel import registry
    from accel.current import get_accelerator

    if not name:
        return get_accelerator().name
    registry.strategy(name)
    return name


def builder_of(op: str, backend: str) -> OpBuilder:
    """Return the builder of an op on a known backend."""
    from accel import registry

    return registry.strategy(backend).create_op_builder(op)


@click.command(short_help="Show how an op runs, how it is built, and why anew.")
@click.argument("op")
@_ACCELERATOR
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also list unused builds in the cache and the files that the digest covers.",
)
@JSON
def explain(op: str, accelerator: str, everything: bool, as_json: bool) -> None:
    """Show every rung of an op, the plan, the digest, and why it would be rebuilt.

    `accel report` lists the ops; fused_adam and FusedAdamBuilder name the same.
    """
    from accel.jit.cache.trouble import last_note
    from accel.jit.explain import explain as explain_recipe

    builder = builder_of(op, _backend(accelerator))
    verdict = builder.compatibility()
    try:
        explanation = explain_recipe(builder.recipe())
    except (AccelError, OSError):
        explanation = None
    note = last_note(builder.backend, builder.name)
    rungs = [(rung, bool(probe), reason_of(probe)) for rung, probe in builder.rungs()]
    if as_json:
        facts: dict[str, Any] = explanation.as_dict() if explanation is not None else {}
        facts |= {
            "op": builder.NAME,
            "backend": builder.backend,
            "verdict": reason_of(verdict),
            "rungs": [dict(zip(("rung", "accepted", "reason"), row, strict=True)) for row in rungs],
            "last_failure": None if note is None else note._asdict(),
            "notes": builder.notes(),
        }
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(f"{builder.NAME} on {builder.backend}: {reason_of(verdict)}\n")
    rows = [(rung, "yes" if usable else "no", reason) for rung, usable, reason in rungs]
    table(Sheet("Rungs", ("rung", "usable", "reason"), rows))
    for line in builder.notes():
        click.echo(f"{line}\n")
    if note is not None:
        click.echo(f"Last failed load of the native library: {note}\n")
    if explanation is not None:
        _show(explanation, op, everything=everything)


def reason_of(probe: Accepted | Rejected) -> str:
    """Return a verdict as text."""
    return probe.note if isinstance(probe, Accepted) else str(probe)


def _show(explanation: Explanation, op: str, *, everything: bool) -> None:
    if isinstance(explanation.plan, Rejected):
        click.echo(f"Plan: none. {explanation.plan}\n")
    else:
        click.echo("Plan")
        for command in explanation.commands:
            click.echo(f"  {command}")
        click.echo(f"\nDigest {explanation.digest}, of")
        files = [name for name in explanation.ingredients if name.startswith(_FILE)]
        for name, value in explanation.ingredients.items():
            if everything or name not in files:
                click.echo(f"  {name}: {value or '-'}")
        if files and not everything:
            click.echo(f"  {len(files)} files: their contents; --all names them")
    click.echo(f"\nCache {explanation.cache or 'none'}. {explanation.note}".rstrip())
    shown = explanation.artifacts if everything else explanation.relevant
    for artifact in shown:
        _show_artifact(artifact, everything=everything)
    if others := len(explanation.artifacts) - len(shown):
        click.echo(
            f"  {others} other build{'s'[: others != 1]} of {explanation.name} that this plan does "
            f"not use: `accel explain {op} --all` lists them, `accel cache prune --orphans` "
            "removes builds that no op uses now."
        )


def _show_artifact(artifact: Comparison, *, everything: bool) -> None:
    click.echo(f"  {artifact.folder}\n    {artifact.verdict or 'would be used as is.'}")
    for change in artifact.changes:
        # The verdict names the files, and their checksums say no more.
        if everything or not change.name.startswith(_FILE):
            click.echo(f"    {change.name}: {_short(change.before)} -> {_short(change.after)}")


def _short(value: str) -> str:
    """Return enough of a checksum to tell two of them apart, and anything else as it is."""
    return f"{value[:12]}…" if len(value) == 64 and value.isalnum() else value


@click.command(short_help="Build ops ahead of time, without a device.")
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
        builder = builder_of(op, backend)
        if not builder.has_sources():
            if everything:
                continue
            raise OpUnavailable(
                f"{op} has no native sources for {backend}, so there is nothing to build: "
                f"`accel explain {op} --accelerator {backend}` shows how it runs."
            )
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
    """Print that architectures do not apply to the host's libraries, if any were asked for."""
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
