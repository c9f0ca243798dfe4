"""The ``accel`` command: reports and conformance; `accel.cli.engine` has builds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from accel.cli.bench import bench
from accel.cli.bench_io import io
from accel.cli.cache import cache
from accel.cli.engine import JSON, build, explain
from accel.cli.output import standard_output
from accel.cli.run import run
from accel.errors import AccelError

_JSON_ASKED = "accel.json"


class _JSONError(click.ClickException):
    """An error whose text is a JSON object on stdout, for ``--json``."""

    def __init__(self, kind: str, message: str, code: int) -> None:
        super().__init__(message)
        self.kind = kind
        setattr(self, "exit_code", code)  # noqa: B010 - declared of the class, read of the object

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it."""
        click.echo(json.dumps({"error": {"type": self.kind, "message": self.message}}, indent=2))


class _Group(click.Group):
    """A group that prints an `AccelError` as one paragraph, or as JSON, without a traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        with standard_output():
            return super().main(*args, **extra)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        as_json = _asks_for_json(args[1] if len(args) > 1 else extra["args"])
        with _told(as_json):
            made = super().make_context(*args, **extra)
            made.meta[_JSON_ASKED] = as_json
            return made

    def invoke(self, ctx: click.Context) -> Any:
        with _told(bool(ctx.meta.get(_JSON_ASKED))):
            return super().invoke(ctx)


def _asks_for_json(words: list[str]) -> bool:
    """Return whether errors must be JSON; ``--json`` may also name a file, or be a program's."""
    if words[:1] == ["run"] or (words[:1] == ["bench"] and words[1:2] != ["compare"]):
        return False
    return "--json" in words


@contextmanager
def _told(as_json: bool) -> Iterator[None]:
    """Turn errors meant for the user into click's, or into JSON."""
    try:
        yield
    except (AccelError, click.ClickException) as error:
        mine = isinstance(error, AccelError)
        message = str(error) if isinstance(error, AccelError) else error.format_message()
        if as_json:
            code = 1 if isinstance(error, AccelError) else error.exit_code
            raise _JSONError(type(error).__name__, message, code) from error
        if mine:
            raise click.ClickException(f"{type(error).__name__}: {message}") from error
        raise


@click.group(cls=_Group, invoke_without_command=True)
@click.version_option(package_name="accel-torch", prog_name="accel")
@JSON
@click.pass_context
def main(ctx: click.Context, as_json: bool) -> None:
    """Hardware abstraction for PyTorch. Without a command: the report."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(report, everything=False, as_json=as_json)


@main.command(short_help="Show the accelerator in use and how its ops run.")
@click.option("--all", "everything", is_flag=True, help="Every backend and op, with all reasons.")
@JSON
def report(everything: bool, as_json: bool) -> None:
    """Show the accelerator in use and its ops, each with the reason for its verdict."""
    from accel.cli.overview import show
    from accel.cli.report import report as gather

    facts = gather()
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        show(facts, everything=everything)


@main.command(short_help="Test an accelerator class against the contract.")
@click.argument("target", metavar="MODULE:CLASS")
@JSON
@click.pass_context
def conformance(ctx: click.Context, target: str, as_json: bool) -> None:
    """Test an accelerator class against the contract; exit 1 if it fails.

    For example: accel conformance accel.cpu:CPUAccelerator
    """
    from accel.testing.kit import strategy_class
    from accel.testing.runner import run as prove

    try:
        accelerator = strategy_class(target)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        # A class that cannot be found is the caller's mistake, not a failure of the kit.
        raise click.BadParameter(str(error), param_hint="MODULE:CLASS") from error
    result = prove(accelerator)
    click.echo(json.dumps(result.as_dict(), indent=2) if as_json else result.text())
    ctx.exit(0 if result.passed else 1)


bench.add_command(io)
main.add_command(bench)
main.add_command(build)
main.add_command(cache)
main.add_command(explain)
main.add_command(run)
