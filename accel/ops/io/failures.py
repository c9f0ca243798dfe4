"""`TransferError`: an `OSError` with the file and the bytes that failed."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence


class TransferError(OSError):
    """A transfer between a file and memory failed.

    For their reasons, it is also a `FileNotFoundError`, `PermissionError` or `IsADirectoryError`.

    Attributes:
        errno: the system's error number.
        filename: the file's path, or ``"descriptor N"``.
        offset: offset in the file of the bytes that could not be transferred.
        length: number of bytes of the failing part.
        failures: every failure of the call, this one first.
        completed: number of other transfers that the call has completed.
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
    """The path is that of a folder."""


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
        name: the file's path, or another name for it.
        offset: offset of the failing bytes in the file.
        length: number of failing bytes.
        write: whether the file was to be written.
        meaning: description of the failure. Default: the one for `number`.
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
