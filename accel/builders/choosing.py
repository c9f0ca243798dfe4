"""Loading an op from the best rung: under ``auto``, only the caller's mistakes raise.

If the machine prevents a load (no thread, no memory, no compiler, no trust, a wrong library), the
next rung is used, with one warning and the reason for `accel explain`.
"""

from __future__ import annotations

import contextlib
import operator
import os
import time
import warnings
from typing import TYPE_CHECKING, Any

from accel import environment
from accel.errors import AccelError, InvalidSetting, OpUnavailable, UnknownOp, cannot_import

if TYPE_CHECKING:
    from accel.builders.declaration import Declaration
    from accel.jit.source_changes import Watch


class SourceMissing(FileNotFoundError):
    """A builder declares a source or a folder that does not exist."""


MISTAKES = (InvalidSetting, UnknownOp, SourceMissing)
"""Mistakes of the caller, or of the author of a builder: raised under every policy."""

_AGAIN_S = 60.0
_warned: set[tuple[str, str]] = set()
_KINDS = ("accel.builders.base", "accel.builders.kinds")


def load(builder: Declaration, verbose: bool) -> Any:
    """Return the op of a builder: the implementation of `OpBuilder.load`."""
    loaded = type(builder)._loaded
    key = ("answer", type(builder), builder.name)
    known = loaded.get(key)
    if known is not None and known.holds(builder):
        return known.op
    answer = None
    with contextlib.suppress(Exception):
        answer = Answer(builder)
    op = _load(builder, verbose)
    with contextlib.suppress(Exception):  # Only speed is lost.
        if answer is not None and answer.settle(builder, op):
            loaded[key] = answer
    return op


def _load(builder: Declaration, verbose: bool) -> Any:
    policy = environment.ops_policy()
    if policy == "reference" and builder.op:
        return _reference(builder, OpUnavailable("ACCEL_OPS=reference allows no other rung."))
    try:
        return builder.jit_load(verbose)
    except MISTAKES:
        raise
    except AccelError as error:
        if policy == "native" or not builder.op:
            keep_note(builder, error)
            raise
        trouble = error
    except Exception as error:
        trouble = _refusal(builder, error)
        trouble.__cause__ = error
        if policy == "native" or not builder.op:
            keep_note(builder, error)
            raise trouble from error
    return _instead(builder, trouble)


def native(builder: Declaration, verbose: bool) -> Any:
    """Return the native op of a builder: the implementation of `OpBuilder.jit_load`.

    If a prebuilt library turns out not to be this op's, it is skipped, and a library is built.
    """
    from accel import jit

    packaged = builder.packaged()
    if packaged is not None:
        return builder._keep(packaged)
    recipe = builder.recipe()
    try:
        library = jit.acquire(recipe, verbose=verbose)
        if library.rung == "prebuilt":
            try:
                return builder._keep(library)
            except MISTAKES:
                raise
            except Exception as error:
                jit.refuse_prebuilt(library, described(error))
                if warn_once(builder, f"{library.path} is skipped: {described(error)}"):
                    keep_note(builder, error)
            library = jit.acquire(recipe, verbose=verbose)
        return builder._keep(library)
    except AccelError:
        raise
    except Exception as error:
        raise _refusal(builder, error) from error


def _refusal(builder: Declaration, error: Exception) -> OpUnavailable:
    return OpUnavailable(f"{builder.name} ({builder.backend}) cannot be loaded: {described(error)}")


def _instead(builder: Declaration, trouble: AccelError) -> Any:
    """Return the op from the next rung that works, with a warning if that is not expected."""
    instead = op = None
    try:
        instead = builder.stand_in()
        op = None if instead is None else builder._keep(instead)
    except MISTAKES:
        raise
    except Exception as error:
        instead = None
        trouble = _and_then(trouble, error)
    if op is None:
        op = _reference(builder, trouble)
    # Without nvcc, or on ROCm, a portable kernel is the intended choice, so there is no warning.
    meant = isinstance(trouble, OpUnavailable) and trouble.__cause__ is None
    expected = meant and (instead is not None or not builder.has_sources())
    if not expected and warn_once(builder, using(instead, trouble)):
        keep_note(builder, trouble)
    return op


def _reference(builder: Declaration, trouble: AccelError) -> Any:
    try:
        return builder._keep(None)
    except Exception as error:
        limit = cannot_import(f"{builder.name} ({builder.backend})", error)
        if limit is None:
            raise
        raise OpUnavailable(f"{limit}\nBefore that: {trouble}") from error


def warn_once(builder: Declaration, text: str) -> bool:
    """Warn about an op once per process; return whether this was the first time."""
    # Lines after the first name folders, which change with every attempt.
    news = (builder.name, text.partition("\n")[0])
    if news in _warned:
        return False
    _warned.add(news)
    warnings.warn(f"{builder.name}: {text}", RuntimeWarning, stacklevel=4)
    return True


def using(instead: object, trouble: AccelError) -> str:
    """Return a sentence on the implementation that is used instead of a better one, and why."""
    found = "a portable kernel" if instead else "the PyTorch reference, which is slower"
    return f"using {found}: {trouble}"


def _and_then(trouble: AccelError, error: Exception) -> OpUnavailable:
    both = OpUnavailable(f"{trouble}\nThe next rung failed, too: {described(error)}")
    both.__cause__ = error
    return both


def described(error: BaseException) -> str:
    """Return an error's text, with a remedy."""
    try:
        from accel.jit.cache.trouble import describe

        return describe(error)
    except Exception:
        # The cause of the failed load, such as a lack of memory, may also make the import fail.
        return f"{type(error).__name__}: {error}".rstrip(": ")


def keep_note(builder: Declaration, error: BaseException) -> None:
    """Save the reason why this op is not native, for `accel explain` in another process."""
    with contextlib.suppress(Exception):
        from accel.jit.cache import trouble

        trouble.keep_note(builder.backend, builder.name, described(error))


_LISTS = ("sources", "include_paths", "parts", "cxx_args", "gcc_args", "extra_ldflags")
_FACTS = (
    *("op", "backend", "device_type", "artifact", "native_sources", "entry_point", "targets"),
    *("openmp", "cxx_runtime", "language", "recipe", "jit_load", "stand_in", "portable"),
    "nvcc_args",
)
_facts: Any = operator.attrgetter(*_FACTS, *_LISTS)


class Answer:
    """An op, and the state before the load of everything that the load depends on.

    Attributes:
        op: the result of `load`.
    """

    op: Any
    _watch: Watch

    def __init__(self, builder: Declaration) -> None:
        from accel.jit.loading import forget_inputs

        forget_inputs()
        self._until = float("inf")
        self._since = time.time_ns()
        self._facts = _facts(type(builder))
        # The base class's results follow from the other facts, and take longer than all of them.
        names = (*_LISTS, *(("nvcc_args",) if _takes_cuda(builder) else ()))
        self._asked = tuple(name for name in names if _is_overridden(type(builder), name))
        self._own = builder.__dict__.copy()
        self._variables = environment.snapshot()
        self._folder = _folder()
        self._lists: list[Any] | None = None
        # A method of another class may depend on anything.
        own = all(_is_own(type(builder), name) for name in ("recipe", "jit_load", "stand_in"))
        if own and builder.probe_packaged() is None:
            self._lists = self._ask(builder)

    def _ask(self, builder: Declaration) -> list[Any]:
        return [getattr(builder, name)() for name in self._asked]

    def settle(self, builder: Declaration, op: Any) -> bool:
        """Store the op of a finished load; return whether the answer can be used again."""
        from accel.jit.loading import inputs

        looked = inputs()
        if self._lists is None or looked is None:
            return False
        from accel.jit.source_changes import Watch

        self.op = op
        self._watch = Watch(*looked, self._since)
        if getattr(op, "implementation", "jit") not in {"prebuilt", "jit"}:
            # The obstacle to a native library may have gone.
            self._until = time.monotonic() + _AGAIN_S
        return self.holds(builder)

    def holds(self, builder: Declaration) -> bool:
        """Return whether a load would give the same op now."""
        try:
            return (
                self._watch.unchanged()
                and environment.unchanged(self._variables)
                and self._facts == _facts(type(builder))
                and self._own == builder.__dict__
                and self._lists == self._ask(builder)
                and self._folder == _folder()
                and time.monotonic() < self._until
            )
        except Exception:
            return False  # The load raises the error.


def _is_own(kind: type, name: str) -> bool:
    return str(getattr(kind, name).__module__).startswith("accel.")


def _is_overridden(kind: type, name: str) -> bool:
    return getattr(kind, name).__module__ not in _KINDS


def _takes_cuda(builder: Declaration) -> bool:
    return builder.language == "cuda" or _is_overridden(type(builder), "recipe")


def _folder() -> str:
    """Return the current folder, to which paths are relative."""
    try:
        return os.getcwd()  # noqa: PTH109 - asked in each step
    except OSError:
        return ""
