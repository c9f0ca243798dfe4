"""The commands ``accel cache``: the folder of compiled ops."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from accel.cli.engine import JSON, builder_of, reason_of
from accel.cli.tables import table
from accel.shown import Sheet

if TYPE_CHECKING:
    from accel.jit.disk.location import Location


_AMOUNT = click.FloatRange(min=0)


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
    """Return the cache's location, with a note on stderr if it is not the usual one."""
    from accel.jit.disk import location

    place = location.locate()
    if place.note:
        click.echo(place.note, err=True)
    return place


@cache.command(short_help="List the cached builds.")
@JSON
def ls(as_json: bool) -> None:
    """List the cached builds: size, age, and why an op would not use one."""
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
    if not rows:
        click.echo("The cache holds no builds: `accel cache path` prints its folder.")
        return
    now = time.time()
    shown = [
        (
            f"{row['name']}-{row['digest'][:8]}",
            row["backend"],
            f"{row['size'] / 1024:.0f} KiB",
            f"{(now - row['created']) / 3600:.1f} h",
            row["trouble"] or "in use",
        )
        for row in rows
    ]
    table(Sheet("Cache", ("artifact", "backend", "size", "age", "reason"), shown))


def _current_digests() -> Iterator[tuple[str, str]]:
    """Yield digest and op of every artifact that a known builder would use now."""
    from accel import registry
    from accel.jit import Plan, make_plan
    from accel.ops.optimizers.prepared import host_watch
    from accel.verdicts import candidates

    for candidate in candidates():
        if candidate.error is not None:
            continue
        for name in registry.builder_names():
            plan = builder_of(name, candidate.name).plan()
            if isinstance(plan, Plan):
                yield plan.digest, name
    if isinstance(watch := make_plan(host_watch.recipe()), Plan):
        yield watch.digest, host_watch.NAME


@cache.command()
@JSON
@click.pass_context
def verify(ctx: click.Context, as_json: bool) -> None:
    """Check every build and its checksum; exit 1 if one is broken."""
    from accel.jit.cache import maintenance

    _place()
    checked = maintenance.verify_all()
    rows = [(str(entry.folder), bool(probe), reason_of(probe)) for entry, probe in checked]
    if as_json:
        names = ("path", "sound", "reason")
        click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
    else:
        for folder, sound, reason in rows:
            click.echo(f"{'sound' if sound else 'broken'}  {folder}  {reason}".rstrip())
    ctx.exit(0 if all(sound for _, sound, _ in rows) else 1)


@cache.command(short_help="Remove broken builds, leftovers, and what options select.")
@click.option("--older-than", type=_AMOUNT, metavar="DAYS", help="Remove builds unused for DAYS.")
@click.option("--max-size", type=_AMOUNT, metavar="MIB", help="Keep the last used, up to MIB.")
@click.option("--orphans", is_flag=True, help="Remove builds that no known op uses now.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed; remove nothing.")
@JSON
def prune(
    older_than: float | None,
    max_size: float | None,
    orphans: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove broken builds, leftovers of killed ones, and the builds that options select."""
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
    what = "would be removed" if dry_run else "removed"
    click.echo(f"{len(rows)} {what}, {freed:.0f} KiB")


def _scaled(value: float | None, scale: Callable[[float], Any]) -> Any:
    return None if value is None else scale(value)
