"""``accel bench io``: a folder's disk under asynchronous I/O, and DeepSpeed's setting for it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import click

from accel.cli.bench import FILE, Amount, progress, refuse_unwritable, save
from accel.cli.tables import table
from accel.shown import Sheet

_MIB = 1 << 20
_WAYS_OUT = {
    errno.ENOENT: "there is no such folder; make it first, or name another",
    errno.ENOTDIR: "it is not a folder; name the folder that is to be measured",
    errno.EACCES: "you may not make files there; change its permissions, or name another folder",
    errno.EPERM: "you may not make files there; change its permissions, or name another folder",
    errno.EROFS: "it is read-only; mount it for writing, or name another folder",
    errno.ENOSPC: "the disk is full; make room, or measure with a smaller --mib",
    errno.EDQUOT: "your quota is used up; make room, or measure with a smaller --mib",
    errno.ENOMEM: "there is no memory for as much; measure with a smaller --mib",
    errno.EFBIG: "a file may not be as large (ulimit -f); measure with a smaller --mib",
}


class _Numbers(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Whole numbers of a range, separated by commas."""

    name = "NUMBERS"

    def __init__(self, highest: int) -> None:
        self._highest = highest

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(dict.fromkeys(int(one) for one in value.split(",")))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers, such as 1,2,4.", param, ctx)
        if not all(1 <= one <= self._highest for one in found):
            self.fail(f"{value!r} has a number that is not from 1 to {self._highest}.", param, ctx)
        return found


@click.command(short_help="Measure a disk, and find DeepSpeed's setting for it.")
@click.argument("folder", metavar="PATH", type=click.Path(path_type=Path))
@click.option(
    "--seconds",
    type=Amount(min=1),
    default=60,
    show_default=True,
    help="About how long to measure.",
)
@click.option(
    "--mib",
    type=click.IntRange(16, 1 << 20),
    default=256,
    show_default=True,
    help="Size of the file, which is removed afterwards; also the memory that is used.",
)
@click.option(
    "--total-gib",
    type=Amount(min=0, max=1 << 20),
    default=32,
    show_default=True,
    help="The most to transfer in all; half of it is written.",
)
@click.option(
    "--block-kib",
    type=_Numbers(1 << 20),
    default=(256, 1024, 4096),
    help="Sizes of a request. Default: 256,1024,4096.",
)
@click.option(
    "--depth",
    type=_Numbers(1 << 20),
    default=(8, 32, 128),
    help="Requests in flight for each thread. Default: 8,32,128.",
)
@click.option("--threads", type=_Numbers(1024), default=(1, 2, 4), help="Threads. Default: 1,2,4.")
@click.option("--png", type=FILE, metavar="FILE", help="Also draw; needs matplotlib.")
@click.option("--json", "out", type=FILE, metavar="FILE", help="Also write the results.")
def io(folder: Path, **options: Any) -> None:
    """Measure reads and writes of files in PATH, and print the best setting for DeepSpeed.

    The last lines are the section "aio" of DeepSpeed's configuration.
    """  # fmt: skip
    from accel.bench import io as benchmark
    from accel.bench import results
    from accel.current import get_accelerator
    from accel.ops.io.choosing import choice

    refuse_unwritable(options)
    blocks = [kib << 10 for kib in options["block_kib"]]
    listed = benchmark.settings(blocks, options["depth"], options["threads"])
    size, total = options["mib"] * _MIB, int(options["total_gib"] * (1 << 30))
    _check_total(benchmark.least_total(len(listed)), total, len(listed))
    _check_folder(folder, size)
    op: Any = get_accelerator().create_op_builder("AsyncIOBuilder").load()
    try:
        with progress(["read and write"]) as advance:
            found = benchmark.measure(
                folder,
                listed,
                benchmark.Budget(size, options["seconds"], total),
                make_engine=op.make_engine,
                advance=lambda part: advance("read and write", part),
            )
    except OSError as error:
        raise _refused(folder, error) from error
    whole = {
        "format": results.FORMAT,
        "benchmark": "io",
        **results.surroundings(None),
        **click.get_current_context().obj.facts(),
        "implementation": op.implementation,
        "engine_reason": choice()[1],
        "seconds": options["seconds"],
        "method": benchmark.METHOD,
        **found,
    }
    _show(whole)
    save(whole, options)


def _refused(folder: Path, error: OSError) -> click.BadParameter:
    known = _WAYS_OUT.get(error.errno or 0)
    reason = known or f"{error.strerror or error}; name another folder"
    return click.BadParameter(f"{folder}: {reason}.", param_hint="PATH")


def _check_folder(folder: Path, size: int) -> None:
    """Refuse a folder that cannot hold the file, before anything is built or measured."""
    try:
        os.listdir(folder)  # noqa: PTH208 - for its error alone
        free = shutil.disk_usage(folder).free
    except PermissionError:
        return  # Files may be made in a folder that cannot be listed.
    except OSError as error:
        raise _refused(folder, error) from error
    if free < size:
        raise click.BadParameter(
            f"{folder} has {free // _MIB} MiB free, and the file has {size // _MIB} MiB; make "
            "room, or measure with a smaller --mib.",
            param_hint="PATH",
        )


def _check_total(least: int, total: int, settings: int) -> None:
    if total < least:
        raise click.BadParameter(
            f"one round of {settings} settings transfers at least {least / (1 << 30):.2f} GiB; "
            "allow that, or name fewer settings.",
            param_hint="--total-gib",
        )


def _show(found: dict[str, Any]) -> None:
    from accel.bench import busy, tables

    cases = found["cases"]
    read = cases["read"]
    click.echo(tables.title(found))
    click.echo(f"{found['folder']}: {found['file_system']}")
    click.echo(_engine(found))
    heading = f"{read['bytes'] // _MIB} MiB a turn, {read['rounds']} rounds"
    table(Sheet(heading, tables.TRANSFERS, tables.transfers(cases)))
    for name, reason in read["left_out"].items():
        click.echo(f"left out: {name}: {reason}")
    click.echo(_limit(found))
    if noise := busy.note(found):
        click.echo(f"busy: {noise}")
    if found["aio"] is None:
        click.echo("No setting was measured both ways: raise --seconds or --mib, or name others.")
        return
    click.echo("The best setting for both, for DeepSpeed's configuration:")
    click.echo(json.dumps({"aio": found["aio"]}, indent=2))


def _engine(found: dict[str, Any]) -> str:
    if found["implementation"] == "reference":
        engine = "Python's threads, as there is no library"
    elif found["engine"] == "io_uring":
        engine = "io_uring"
    else:
        engine = f"threads, without io_uring: {found['engine_reason']}"
    part = found["direct"]
    direct = "used for all bytes" if part == 1 else f"used for {part:.0%} of the bytes"
    return f"engine: {engine}. O_DIRECT: {direct if part else 'not used, all through the cache'}."


def _limit(found: dict[str, Any]) -> str:
    from accel.bench.disk import CALL_THREADS

    cases = found["cases"]
    if not found["direct"]:
        return (
            "The disk's own limit was not measured, as nothing bypassed the page cache: these are "
            "figures of memory."
        )
    rates = [
        f"{way} {case['bytes'] / _MIB / case['contestants'][case['limit']]['seconds']:.0f} MiB/s"
        for way, case in cases.items()
    ]
    how = cases["read"]["limit_is"]
    return (
        f"The disk's own limit, estimated by {CALL_THREADS} threads with system calls {how}: "
        f"{', '.join(rates)}. A setting can be somewhat faster."
    )
