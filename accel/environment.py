"""Every environment variable that accel reads, each in one function, read when it is called."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from accel.errors import InvalidSetting

OpsPolicy = Literal["auto", "native", "reference"]
_POLICIES: Mapping[str, OpsPolicy] = {
    "": "auto",
    "auto": "auto",
    "native": "native",
    "reference": "reference",
}
_READ_BY_COMPILERS = (
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "LIBRARY_PATH",
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "NVCC_PREPEND_FLAGS",
    "NVCC_APPEND_FLAGS",
    "NVCC_CCBIN",
)
_READ_BY_LOADER = ("LD_LIBRARY_PATH", "LD_PRELOAD")
# These make compilers write other files or change the plan's flags.
_KEPT_FROM_COMPILERS = frozenset(
    {
        "DEPENDENCIES_OUTPUT",
        "SUNPRO_DEPENDENCIES",
        "CCC_OVERRIDE_OPTIONS",
        "CCC_ADD_ARGS",
        "QA_OVERRIDE_GCC3_OPTIONS",
        "MAKEFLAGS",
        "LANGUAGE",
    }
)
_FALSE = frozenset({"", "0", "false", "no", "off"})


def _text(name: str) -> str:
    return os.environ.get(name, "").strip()


def _positive_int(name: str) -> int | None:
    text = _text(name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise InvalidSetting(f"{name}={text!r}: expected a positive whole number.")
    return int(text)


def _folders(name: str) -> tuple[Path, ...]:
    parts = os.environ.get(name, "").split(os.pathsep)
    return tuple(_folder(name, part) for part in parts if part.strip())


def _folder(name: str, text: str) -> Path:
    """Return a folder as a shell reads it: ``~`` and ``~user`` are expanded."""
    if not text.startswith("~"):
        return Path(text)
    user, _, rest = text.partition("/")
    home = _home() if user == "~" else _home_of(user[1:])
    if not home:
        why = "this user id has no home" if user == "~" else f"there is no user {user[1:]!r} here"
        raise InvalidSetting(f"{name}={text!r}: {why}, so {user} has no meaning. Use a full path.")
    return Path(home, rest.lstrip("/"))


def snapshot() -> Mapping[Any, Any]:
    """Return the variables as they are now, for `unchanged`."""
    return dict(_table())


def unchanged(since: Mapping[Any, Any]) -> bool:
    """Return whether no variable has changed since a `snapshot`; takes about a microsecond."""
    return bool(_table() == since)


def _table() -> Mapping[Any, Any]:
    """Return the undecoded table inside `os.environ`: to decode it takes 20 times as long."""
    table: Mapping[Any, Any] = getattr(os.environ, "_data", os.environ)
    return table


def threads_spin() -> bool:
    """Return whether OpenMP's waiting threads spin: no variable says otherwise."""
    return not (_text("GOMP_SPINCOUNT") or _text("OMP_WAIT_POLICY"))


def for_program(wanted: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variables of a program to be started, and those of `wanted` that the user has set.

    The user's win. ``GOMP_SPINCOUNT`` also gives way to ``OMP_WAIT_POLICY``, which says the same.
    """
    names = {name: name for name in wanted}
    if "GOMP_SPINCOUNT" in wanted and not _text("GOMP_SPINCOUNT"):
        names["GOMP_SPINCOUNT"] = "OMP_WAIT_POLICY"
    kept = {names[name]: os.environ[names[name]] for name in wanted if _text(names[name])}
    ours = {name: value for name, value in wanted.items() if names[name] not in kept}
    return {**os.environ, **ours}, kept


def changed(**variables: str) -> dict[str, str]:
    """Return the variables of a process to be started, with others instead of the user's."""
    return {**os.environ, **variables}


def thread_places() -> dict[str, str]:
    """Return the user's variables that bind OpenMP's threads to processors."""
    names = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
    return {name: os.environ[name] for name in names if _text(name)}


def local_rank() -> int:
    """``LOCAL_RANK``: this process's number among those of its job on this machine, default 0."""
    text = _text("LOCAL_RANK")
    return int(text) if text.isascii() and text.isdigit() else 0


def accelerator() -> str:
    """``ACCELERATOR``: the backend asked for, as written; ``""`` means detect."""
    return os.environ.get("ACCELERATOR", "")


def ops_policy() -> OpsPolicy:
    """``ACCEL_OPS``: the rungs that may be used; default ``auto``. Raises `InvalidSetting`."""
    text = _text("ACCEL_OPS")
    if text not in _POLICIES:
        raise InvalidSetting(f"ACCEL_OPS={text!r}: expected auto, native or reference.")
    return _POLICIES[text]


def cache_dir() -> Path | None:
    """``ACCEL_CACHE_DIR``: the folder for compiled ops, or ``None`` for the user's cache folder."""
    text = os.environ.get("ACCEL_CACHE_DIR", "")
    return _folder("ACCEL_CACHE_DIR", text) if text.strip() else None


def user_cache_dir() -> Path | None:
    """Folder for this user's compiled ops: ``accel`` in ``XDG_CACHE_HOME``, else ``~/.cache``.

    ``None`` if neither variable is set and this user id has no passwd entry.
    """
    text = os.environ.get("XDG_CACHE_HOME", "")
    if Path(text).is_absolute():
        return Path(text) / "accel"
    home = _home()
    return Path(home) / ".cache" / "accel" if home else None


def runtime_dir() -> Path | None:
    """``XDG_RUNTIME_DIR``: a folder for this user that lasts as long as the login, or ``None``."""
    text = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(text) if Path(text).is_absolute() else None


def _home() -> str:
    home = os.environ.get("HOME", "")
    return home if Path(home).is_absolute() else _home_of(None)


def _home_of(user: str | None) -> str:
    """Return a user's home by the list of accounts, ``""`` for none; ``None``: this user's."""
    try:
        import pwd

        account = pwd.getpwuid(os.geteuid()) if user is None else pwd.getpwnam(user)
    except (ImportError, KeyError, ValueError):
        return ""
    return account.pw_dir


def prebuilt_dirs() -> tuple[Path, ...]:
    """``ACCEL_PREBUILT_DIR``: read-only folders searched before the cache, in order."""
    return _folders("ACCEL_PREBUILT_DIR")


def cpu_target() -> str:
    """``ACCEL_CPU_TARGET``: the SIMD level to force, or ``""`` for the best that the CPU has."""
    return _text("ACCEL_CPU_TARGET").lower()


def io_engine() -> str:
    """``ACCEL_IO_ENGINE``: ``auto``, ``io_uring`` or ``threads``. Raises `InvalidSetting`."""
    text = _text("ACCEL_IO_ENGINE") or "auto"
    if text not in {"auto", "io_uring", "threads"}:
        raise InvalidSetting(f"ACCEL_IO_ENGINE={text!r}: expected auto, io_uring or threads.")
    return text


def num_threads() -> int | None:
    """``ACCEL_NUM_THREADS``: threads for CPU kernels, or ``None``. Raises `InvalidSetting`."""
    return _positive_int("ACCEL_NUM_THREADS")


def local_world_size() -> int:
    """``LOCAL_WORLD_SIZE``: processes of this job on this machine; 1 if unset or unreadable."""
    text = _text("LOCAL_WORLD_SIZE")
    return max(1, int(text)) if text.isascii() and text.isdigit() else 1


def deepspeed_mode() -> bool:
    """``ACCEL_DEEPSPEED``: whether DeepSpeed in this process takes its builders from here."""
    return _text("ACCEL_DEEPSPEED").lower() not in _FALSE


def max_jobs() -> int | None:
    """``MAX_JOBS``: the most compilers at a time, or ``None``. Raises `InvalidSetting` below 1."""
    return _positive_int("MAX_JOBS")


def build_timeout() -> int:
    """``ACCEL_BUILD_TIMEOUT``: seconds that one build may take; default 3600."""
    return _positive_int("ACCEL_BUILD_TIMEOUT") or 3600


def compiler_variables() -> dict[str, str]:
    """Variables that compilers and linkers read themselves and that change their output."""
    return {name: os.environ[name] for name in _READ_BY_COMPILERS if os.environ.get(name)}


def for_compiler(scratch: Path | None = None) -> dict[str, str]:
    """Environment for a compiler: English messages, temporary files in `scratch`."""
    inherited = {
        name: text for name, text in os.environ.items() if name not in _KEPT_FROM_COMPILERS
    }
    own = {} if scratch is None else {"TMPDIR": str(scratch)}
    return inherited | own | {"LC_ALL": "C", "NINJA_STATUS": "[%f/%t] "}


def loader_variables() -> dict[str, str]:
    """Variables by which the system's loader may load other libraries into a program."""
    return {name: os.environ[name] for name in _READ_BY_LOADER if os.environ.get(name)}


def cxx() -> tuple[str, ...]:
    """``CXX``: the C++ compiler's command, split into words like a shell does; empty if unset."""
    return _words(os.environ.get("CXX", ""))


def nvcc() -> str:
    """``NVCC``: the path of the CUDA compiler; ``""`` if unset."""
    return _text("NVCC")


def chooses_compiler() -> bool:
    """Return whether ``CXX``, ``NVCC``, ``CFLAGS`` or ``CXXFLAGS`` asks for anything."""
    return any(map(_text, ("CXX", "NVCC", "CFLAGS", "CXXFLAGS")))


def cuda_home() -> Path | None:
    """``CUDA_HOME``, else ``CUDA_PATH``: the CUDA toolkit's folder, or ``None``."""
    text = _text("CUDA_HOME") or _text("CUDA_PATH")
    return Path(text) if text else None


def torch_cuda_arch_list() -> str:
    """``TORCH_CUDA_ARCH_LIST``: the CUDA targets asked for, as written."""
    return _text("TORCH_CUDA_ARCH_LIST")


def cflags() -> tuple[str, ...]:
    """``CFLAGS`` then ``CXXFLAGS``: the user's compiler flags, split as a shell splits words."""
    return _words(os.environ.get("CFLAGS", "")) + _words(os.environ.get("CXXFLAGS", ""))


def _words(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    import shlex

    return tuple(shlex.split(text))


def search_path() -> str:
    """``PATH``: where commands are looked up."""
    return os.environ.get("PATH", os.defpath)


def hpu_lazy_mode() -> bool:
    """``PT_HPU_LAZY_MODE``: whether Gaudi collects graphs lazily; its default is eager."""
    return _text("PT_HPU_LAZY_MODE") == "1"


def visible_devices(name: str) -> str | None:
    """Return the variable `name`, which limits the visible devices; ``None`` if unset."""
    return os.environ.get(name)
