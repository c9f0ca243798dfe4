"""Ranges for profilers, deferred calls, and settings for launchers and compilers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from accel.contract.forward import Forwarding
from accel.errors import suggestion


class _OpenRanges(threading.local):
    """Functions that close this thread's open ranges, innermost last."""

    def __init__(self) -> None:
        self.closers: list[Callable[[], object]] = []


_open = _OpenRanges()


class ToolMembers(Forwarding):
    """Tool members of the contract.

    Attributes:
        communication_backend: name of its ``torch.distributed`` backend; ``""``: torch's default.
        compile_backend: name of its ``torch.compile`` backend. Default ``"inductor"``.
        visible_devices_env: the variables that limit which devices a process sees. Default: none.
        exported_env: the variables, or prefixes of them, that launchers pass on. Default: none.
    """

    communication_backend: ClassVar[str] = ""
    compile_backend: ClassVar[str] = "inductor"
    visible_devices_env: ClassVar[tuple[str, ...]] = ()
    exported_env: ClassVar[tuple[str, ...]] = ()

    _chosen_compile_backend: str | None = None

    def range_push(self, msg: str, domain: str | None = None, category: str | None = None) -> None:
        """Open a named range in profiles of this thread. No device context.

        Args:
            msg: the range's name.
            domain: group of ranges; ignored unless `supports_nvtx_domain`.
            category: sub-group of ranges, likewise.
        """
        _open.closers.append(self._open_range(msg))

    def range_pop(self, domain: str | None = None) -> None:
        """Close this thread's innermost open range.

        Raises:
            RuntimeError: none is open.
        """
        if not _open.closers:
            raise RuntimeError(f"{self.name}: range_pop() without an open range_push().")
        _open.closers.pop()()

    def _open_range(self, msg: str) -> Callable[[], object]:
        """Open one range and return what closes it. Default: one of torch's own profiler."""
        from torch.profiler import record_function

        opened: Any = record_function(msg)
        opened.__enter__()
        return lambda: opened.__exit__(None, None, None)

    @contextmanager
    def range(
        self, msg: str, domain: str | None = None, category: str | None = None
    ) -> Iterator[None]:
        """Name the work inside a ``with`` block in profiles; closed after an exception too."""
        self.range_push(msg, domain, category)
        try:
            yield
        finally:
            self.range_pop(domain)

    def lazy_call(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the device is initialised: now, if it is. No device context.

        Default: torch's own queue for the device; called at once if torch has none.
        """
        if hasattr(self._torch_module("lazy_call"), "_lazy_call"):
            self._forward("_lazy_call", callback, member="lazy_call")
        else:
            callback()

    def communication_backend_name(self) -> str:
        """Return the ``torch.distributed`` backend for this device. No device context.

        Raises:
            Unsupported: the class names none and torch has no default for the device.
        """
        if self.communication_backend:
            return self.communication_backend
        from torch import distributed

        try:
            found: str = distributed.get_default_backend_for_device(self.device_type)
        except (AttributeError, ValueError, RuntimeError) as error:
            way_out = f"Set communication_backend in {type(self).__name__}."
            raise self._unsupported("communication_backend_name", f"{error}.", way_out) from error
        return found

    def get_compile_backend(self) -> str:
        """Return the ``torch.compile`` backend in use. No device context."""
        return self._chosen_compile_backend or self.compile_backend

    def set_compile_backend(self, backend: str) -> None:
        """Use another ``torch.compile`` backend.

        Raises:
            ValueError: torch knows no backend of that name.
        """
        import torch._dynamo

        known = {*torch._dynamo.list_backends(exclude_tags=()), self.compile_backend}
        if backend not in known:
            raise ValueError(
                f"{self.name}: set_compile_backend({backend!r}): torch knows no such backend."
                f"{suggestion(str(backend), known)} Known: {', '.join(sorted(known))}."
            )
        self._chosen_compile_backend = backend

    def export_envs(self) -> list[str]:
        """Return the variables (or prefixes) that a launcher passes on to other machines."""
        return [*self.exported_env]

    def visible_devices_envs(self) -> list[str]:
        """Return the variables that limit which devices a process sees; none on the CPU."""
        return [*self.visible_devices_env]

    def set_visible_devices_envs(
        self, current_env: MutableMapping[str, str], local_accelerator_ids: Sequence[int | str]
    ) -> None:
        """Write a list of devices into `current_env`, the environment of a process to be started.

        Args:
            current_env: changed in place; this process's own environment is left alone.
            local_accelerator_ids: the devices, as the variable's own syntax numbers or names them.
        """
        text = ",".join(str(one) for one in local_accelerator_ids)
        for variable in self.visible_devices_envs():
            current_env[variable] = text
