"""The tree of errors that accel raises.

AccelError
├── BackendUnavailable    a known backend cannot be used here
├── UnknownBackend        no backend has that name (also a ValueError)
├── UnknownOp             no op has that name (also an AttributeError)
├── OpUnavailable         a known op has no implementation that may be used here
├── BuildFailed           a compiler was run and did not produce the library
├── InvalidSetting        a variable has a value that is not accepted (also a ValueError)
├── CacheUntrusted        the cache could have been written by somebody else
├── SwapFailed            the files of an optimizer's states cannot be used
└── Unsupported           a backend lacks a member of the contract (also a NotImplementedError)

Every message says what was asked, what was found, and what to do about it.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class AccelError(Exception):
    """Base class of every error that accel raises on purpose."""


class BackendUnavailable(AccelError):
    """The backend that was asked for is known and cannot be used on this machine."""


class UnknownBackend(AccelError, ValueError):
    """No backend of that name is built in, installed or registered."""


class UnknownOp(AccelError, AttributeError):
    """No op or builder of that name is built in, installed or registered."""


class OpUnavailable(AccelError):
    """The op is known, and the policy in force leaves no implementation of it here."""


class InvalidSetting(AccelError, ValueError):
    """An environment variable that accel reads has a value that it does not accept."""


class CacheUntrusted(AccelError):
    """The owner or mode of a folder of compiled code lets others change it."""


class SwapFailed(AccelError):
    """The folder or the files of an optimizer's states cannot be used."""


class Unsupported(AccelError, NotImplementedError):
    """The backend does not have this member of the contract; the message names a way out."""


class BuildFailed(AccelError):
    """A build ended without a library.

    Attributes:
        log_path: file with the whole output of the build, or ``None`` if none could be kept.
        command: the command that failed, as a shell would be given it, or ``""``.
        first_error: the compiler's first error line with file and line number, or ``""``.
        certain: whether the same build fails again as long as its inputs stay the same.
    """

    def __init__(
        self,
        message: str,
        *,
        log_path: str | None = None,
        command: str = "",
        first_error: str = "",
        certain: bool = False,
    ) -> None:
        super().__init__(message)
        self.log_path = log_path
        self.command = command
        self.first_error = first_error
        self.certain = certain

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the attributes across pickling, as worker processes need."""
        state = {
            "log_path": self.log_path,
            "command": self.command,
            "first_error": self.first_error,
            "certain": self.certain,
        }
        return (type(self), (str(self),), state)


def cannot_import(op: str, error: Exception) -> OpUnavailable | None:
    """Return the error of an op whose Python files cannot be opened, so that it has no rung.

    ``None`` if `error` is not about open files or memory.
    """
    number = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
    ways = {
        errno.EMFILE: "Raise the limit on open files (ulimit -n), or close some.",
        errno.ENFILE: "Too many files are open on this machine; close some.",
        errno.ENOMEM: "Raise the limit on memory (ulimit -v, or the container's).",
    }
    if number not in ways:
        return None
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    return OpUnavailable(
        f"{op}: not even its PyTorch reference can be imported: {text}. {ways[number]}"
    )


def suggestion(asked: str, known: Iterable[str], ending: str = "") -> str:
    """Return ``" Did you mean 'x'?"`` for the known name closest to `asked`, else ``""``.

    What all names end in, `ending`, is left out of the comparison: it would make any two alike.
    """
    by_folded = {name.removesuffix(ending).casefold(): name for name in known}
    close = difflib.get_close_matches(asked.removesuffix(ending).casefold(), by_folded, n=1)
    return f" Did you mean '{by_folded[close[0]]}'?" if close else ""
