"""``accel bench``: benchmarks on this machine, and comparisons with earlier results."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from accel.cli.tables import table
from accel.shown import Sheet

FILE = click.Path(dir_okay=False, path_type=Path)
# Formats that matplotlib writes and every reader can open.

_DRAWN = (".png", ".svg", ".pdf")
Advance = Callable[[str, float], None]


class Amount(click.FloatRange):
    """A number of a range, and not NaN, which is in none but passes its comparisons."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return the number, or fail as click's types do."""
        found = float(super().convert(value, param, ctx))
        if math.isnan(found):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return found


@click.group(short_help="Measure ops and disks, and compare results.")
@click.pass_context
def bench(ctx: click.Context) -> None:
    """Measure ops and optimizers beside other installed libraries, and disks; compare results."""
    from accel.bench.busy import Watch

    ctx.obj = Watch()


def _options(command: Any) -> Any:
    for option in (
        click.option("--seconds", metavar="SECONDS", type=Amount(min=1), default=60,
                     show_default=True,
                     help="About how long to measure, not counting peers that compile."),
        click.option("--no-peers", is_flag=True, help="Measure only accel and the limit."),
        click.option("--png", type=FILE, metavar="FILE", help="Also draw; needs matplotlib."),
        click.option("--json", "out", type=FILE, metavar="FILE", help="Also write the results."),
    ):  # fmt: skip
        command = option(command)
    return command


_ACCELERATOR = click.option(
    "--accelerator", metavar="NAME", default="", help="The backend; default: the one in use."
)
_SHAPES = click.option(
    "--shapes",
    metavar="NAMES",
    default="",
    help="Parameters, any of few and many (100 and 2000 tensors of 1024), middle (300 of 10 000), "
    "big (one of 32 M), gpt2 (its 148). Default: many,middle,big.",
)


@bench.command(short_help="Measure steps of optimizers, beside other libraries.")
@_ACCELERATOR
@_SHAPES
@_options
def optim(accelerator: str, shapes: str, **options: Any) -> None:
    """Measure steps of optimizers, beside torch, DeepSpeed and bitsandbytes if installed."""
    _over_shapes("optim", accelerator, shapes, **options)


@bench.command()
@_ACCELERATOR
@_SHAPES
@_options
def lists(accelerator: str, shapes: str, **options: Any) -> None:
    """Measure clipping of gradients, beside torch."""
    _over_shapes("lists", accelerator, shapes, **options)


@bench.command(short_help="Measure builds and loads of an op.")
@click.option(
    "--op",
    metavar="OP",
    default="cpu_adam",
    show_default=True,
    help="An op of the CPU with sources.",
)
@_options
def build(op: str, **options: Any) -> None:
    """Measure builds and loads of an op, beside the bare compiler and torch's builder."""
    from accel.bench import build as benchmark
    from accel.bench import results

    refuse_unwritable(options)
    with progress([op]) as advance:
        case = benchmark.measure(
            op,
            options["seconds"],
            peers=not options["no_peers"],
            advance=lambda part: advance(op, part),
        )
    _conclude("build", benchmark.METHOD, results.surroundings(None), {op: case}, options)


def _over_shapes(kind: str, accelerator: str, shapes: str, **options: Any) -> None:
    from importlib import import_module

    from accel.bench import results
    from accel.bench.shapes import CASES

    benchmark = import_module(f"accel.bench.{kind}")
    names = [name.strip() for name in shapes.split(",")] if shapes else [*benchmark.DEFAULT]
    for name in names:
        if name not in CASES:
            raise click.BadParameter(
                f"{name!r} is none of {', '.join(CASES)}.", param_hint="--shapes"
            )
    refuse_unwritable(options)
    strategy = _strategy(accelerator)
    found = {}
    with progress(names) as advance:
        for name in names:
            found[name] = benchmark.measure(
                CASES[name],
                strategy,
                options["seconds"] / len(names),
                peers=not options["no_peers"],
                advance=lambda part, name=name: advance(name, part),
            )
            strategy.empty_cache()
    facts = results.surroundings(strategy) | results.conditions(strategy, benchmark.BUILDER)
    _conclude(kind, benchmark.METHOD, facts, found, options)


def _strategy(name: str) -> Any:
    from accel import registry
    from accel.current import get_accelerator

    return registry.require(name, f"--accelerator {name}") if name else get_accelerator()


def refuse_unwritable(options: dict[str, Any]) -> None:
    """Refuse a file that cannot be written, or drawn, before anything is measured."""
    from importlib.util import find_spec

    from accel.errors import InvalidSetting

    for name, path in (("--json", options["out"]), ("--png", options["png"])):
        if path is not None and not path.parent.is_dir():
            raise InvalidSetting(f"{name} {path}: there is no folder {path.parent}; make it first.")
        if path is not None and not os.access(path.parent, os.W_OK):
            raise InvalidSetting(f"{name} {path}: {path.parent} is read-only; name another folder.")
    if options["png"] is not None and options["png"].suffix.lower() not in _DRAWN:
        raise InvalidSetting(f"--png {options['png']}: its name must end in {', '.join(_DRAWN)}.")
    if options["png"] is not None and find_spec("matplotlib") is None:
        raise InvalidSetting(
            "--png needs matplotlib, which is not installed: pip install 'accel-torch[bench]'"
        )


def _conclude(
    kind: str, method: str, surroundings: dict[str, Any], cases: dict[str, Any], options: Any
) -> None:
    from accel.bench import results

    found = {
        "format": results.FORMAT,
        "benchmark": kind,
        **surroundings,
        **click.get_current_context().obj.facts(),
        "seconds": options["seconds"],
        "method": method,
        "cases": cases,
    }
    _show(found)
    save(found, options)


def save(found: dict[str, Any], options: dict[str, Any]) -> None:
    """Write and draw results where `options` ask for it."""
    from accel.bench import results

    if options["out"] is not None:
        results.write(found, options["out"])
    if options["png"] is not None:
        from accel.bench import picture

        picture.draw(found, options["png"])
    for path in (options["out"], options["png"]):
        if path is not None:
            click.echo(f"written: {path}", err=True)


def _show(found: dict[str, Any]) -> None:
    from accel.bench import busy, tables
    from accel.cli import report

    how = f", {found['implementation']} implementation" if "implementation" in found else ""
    click.echo(f"{tables.title(found)}{how}")
    for case in found["cases"].values():
        heading = f"{case['title']}: {case['unit']}, {tables.rounds(case)}"
        table(Sheet(heading, tables.columns(case), tables.rows(case)))
    left_out: dict[str, str] = {}
    for case in found["cases"].values():
        left_out |= case["left_out"]
    for name, reason in left_out.items():
        click.echo(f"left out: {name}: {reason}")
    if any(case["limit"] for case in found["cases"].values()):
        click.echo("'of the limit': the limit's time over the contestant's. --json has the method.")
    if noise := busy.note(found):
        click.echo(f"busy: {noise}")
    # The load now is the benchmark's own, so what others used meanwhile decides.
    if noise and report.threads()["spin"]:
        click.echo(
            "threads: torch's idle threads spin, which takes time from others and from accel: "
            f"accel run -m accel bench {found['benchmark']}"
        )


@contextmanager
def progress(names: list[str]) -> Iterator[Advance]:
    """Show a bar on stderr if that is a terminal; give a function that moves it."""
    if not sys.stderr.isatty():
        yield lambda name, part: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=len(names))

        def advance(name: str, part: float) -> None:
            bar.update(task, description=name, completed=names.index(name) + part)

        advance(names[0], 0.0)
        yield advance


@bench.command()
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print machine-readable JSON.")
def compare(before: Path, after: Path, as_json: bool) -> None:
    """Compare two results of the same benchmark, files written by --json.

    If the two times differ in load, "of the limit" says more than the times: the limit was
    measured in turns with the contestants.
    """
    from accel.bench import busy, results, tables

    old, new = results.read(before), results.read(after)
    found = [*results.compare(old, new)]
    unlike = results.unlike(old, new)
    if as_json:
        rows = [one._asdict() for one in found]
        click.echo(json.dumps({"unlike": unlike, "contestants": rows}, indent=2))
        return
    table(Sheet("", tables.COMPARED, tables.differences(found)))
    if not found:
        click.echo("They have no contestant in common.")
    for line in unlike:
        click.echo(f"not alike: {line}")
    for path, one in ((before, old), (after, new)):
        if noise := busy.note(one):
            click.echo(f"busy: {path}: {noise}")


@bench.command()
@click.argument("results_file", metavar="RESULTS.json", type=FILE)
@click.option("--png", type=FILE, metavar="FILE", help="Also draw the picture; needs matplotlib.")
def plot(results_file: Path, png: Path | None) -> None:
    """Print results as Markdown, and draw their picture.

    Takes files written by --json, and those of benchmarks/gpu.py in benchmarks/results. The same
    file gives the same text and, by the same matplotlib, the same picture.
    """
    from accel.bench import picture, results, tables

    found = results.read(results_file)
    click.echo(tables.markdown(found), nl=False)
    if png is not None:
        picture.draw(found, png)
        click.echo(f"written: {png}", err=True)
