"""`TransferError`: an `OSError` that says which bytes of which file it is about."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence


class TransferError(OSError):
    """A transfer between a file and memory failed.

    It is a `FileNotFoundError`, `PermissionError` or `IsADirectoryError`, too, for their reasons.

    Attributes:
        errno: the system's number of the reason.
        filename: the file's path, or ``"descriptor N"``.
        offset: where in the file the bytes begin that could not be transferred.
        length: how many bytes the failing part has.
        failures: every failure that the call met, this one first.
        completed: how many other transfers the call has completed.
    """

    offset: int = 0
    length: int = 0
    failures: tuple[TransferError, ...] = ()
    completed: int = 0


class MissingFileError(TransferError, FileNotFoundError):
    """The file, or its folder, does not exist."""


class DeniedError(TransferError, PermissionError):
    """The process may not do this to the file."""


class FolderError(TransferError, IsADirectoryError):
    """The path is a folder's."""


_KINDS: dict[int, type[TransferError]] = {
    errno.ENOENT: MissingFileError,
    errno.EACCES: DeniedError,
    errno.EPERM: DeniedError,
    errno.EISDIR: FolderError,
}
_MEANINGS = {
    errno.ENODATA: "the file ends before that",
    errno.ESPIPE: "it is neither a regular file nor a block device",
    errno.EISDIR: "it is a folder",
    errno.ENOENT: "the file or its folder is missing",
    errno.EBADF: "the descriptor is closed, or not open for this",
    errno.ENOSPC: "the disk is full",
    errno.EFBIG: "the file would be larger than the process (ulimit -f) or file system allows",
    errno.ECANCELED: "it was cancelled",
    errno.EIO: "the device failed, or it took no bytes",
}
_APPENDS = "the descriptor was opened to append, and would ignore the offset"


def failure(
    number: int, name: str, offset: int, length: int, *, write: bool, meaning: str = ""
) -> TransferError:
    """Return the error of one transfer.

    Args:
        number: the errno.
        name: the file's path, or how else it is called.
        offset: where in the file the failing bytes begin.
        length: how many they are.
        write: whether the file was to be written.
        meaning: what happened, in words. Default: what `number` means here.
    """
    appends = number == errno.EINVAL and write and name.startswith("descriptor ")
    meaning = meaning or (_APPENDS if appends else _MEANINGS.get(number, ""))
    what = f"{'write' if write else 'read'} of {length} bytes at offset {offset}"
    text = ": ".join(one for one in (os.strerror(number), what, meaning) if one)
    error = _KINDS.get(number, TransferError)(number, text, name)
    error.offset, error.length = offset, length
    error.failures = (error,)
    return error


def joined(failures: Sequence[TransferError], completed: int) -> TransferError:
    """Return the first failure, to be raised for all of them."""
    first = failures[0]
    first.failures = tuple(failures)
    first.completed = completed
    if len(failures) > 1:
        first.strerror = f"{first.strerror}; {len(failures) - 1} more failed: see .failures"
    return first
