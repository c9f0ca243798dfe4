"""The ``hpu`` backend: Intel Gaudi through `habana_frameworks`. Untested on hardware."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from accel import environment
from accel.base import Accelerator
from accel.probe import FAILURES, Accepted, Probe, Rejected

if TYPE_CHECKING:
    from accel.base import DeviceProperties

_PACKAGE = "habana_frameworks.torch"
_INSTALL = "Install Gaudi's software and its build of torch (https://docs.habana.ai)."
_GRAPHS = "Start the process with PT_HPU_LAZY_MODE=1, or use torch.compile in eager mode."


class HPUAccelerator(Accelerator):
    """Gaudi devices, in eager mode, or lazily under ``PT_HPU_LAZY_MODE=1``.

    Works with the torch that Gaudi ships, which is older than the newest. No global setting of
    torch is changed.
    """

    name = "hpu"
    communication_backend = "hccl"
    compile_backend = "hpu_backend"
    op_builders = "accel.builders.hpu"
    visible_devices_env = ("HABANA_VISIBLE_MODULES",)
    exported_env = ("HCCL", "HABANA", "PT_HPU", "LD_LIBRARY_PATH", "PATH")

    def is_available(self) -> bool:
        """Return whether the software is installed, imports, and finds a device. No context."""
        return bool(self.probe())

    def probe(self) -> Probe:
        """Return whether Gaudi can be used; its package is imported only if it is installed."""
        if not _is_installed():
            return Rejected(f"{_PACKAGE} is not installed.", _INSTALL)
        try:
            hpu = _import_hpu()
            if not hpu.is_available():
                return Rejected(f"{_PACKAGE} finds no device.", "Check the driver with hl-smi.")
            mode = "lazy" if environment.hpu_lazy_mode() else "eager"
            return Accepted(f"{int(hpu.device_count())} device(s), {mode} mode")
        except FAILURES as error:
            reason = f"{_PACKAGE} failed: {type(error).__name__}: {error}."
            return Rejected(reason, f"Install the release of {_PACKAGE} for this torch.")

    def has(self, capability: str) -> bool:
        """Return whether the device has a capability; graphs exist in lazy mode only."""
        return super().has(capability) and (capability != "graphs" or environment.hpu_lazy_mode())

    def resolves_data_dependency(self) -> bool:
        """Return ``True``: the runtime orders work by the data that it shares."""
        return True

    def handles_memory_backpressure(self) -> bool:
        """Return ``True``: the runtime delays work until memory is free."""
        return True

    def synchronize(self, device_index: int | None = None) -> None:
        """Wait for all work on a device; in lazy mode, launch the collected operations first."""
        with self.device_index(device_index):
            self.mark_step()
            self._forward("synchronize")

    def mark_step(self) -> None:
        """Launch the operations collected so far; nothing outside lazy mode."""
        if environment.hpu_lazy_mode():
            self._require("mark_step")
            import_module(f"{_PACKAGE}.core").mark_step()

    def create_graph(self) -> Any:
        """Return an empty graph; raises `Unsupported` outside lazy mode."""
        self._require_lazy("create_graph")
        return super().create_graph()

    def capture_to_graph(
        self, graph: Any, pool: Any = None, stream: Any = None
    ) -> AbstractContextManager[Any]:
        """Return a context manager that captures; the vendor's graphs have no ``pool``."""
        self._require_lazy("capture_to_graph")
        capture = self._attribute("capture_to_graph", "graph")
        return _noted(capture(graph, stream=stream))

    def is_current_stream_capturing(self) -> bool:
        """Return whether this thread is in `capture_to_graph`; the vendor does not report it."""
        return _capturing.depth > 0

    def empty_cache(self) -> None:
        """Do nothing: the runtime does not release its pool."""

    def memory_stats(self, device_index: int | None = None) -> dict[str, int]:
        """Return the runtime's counters (``Limit``, ``InUse``, ...), under torch's names too."""
        found = super().memory_stats(device_index)
        named = {
            "allocated_bytes.all.current": found.get("InUse"),
            "allocated_bytes.all.peak": found.get("MaxInUse"),
        }
        return found | {name: int(count) for name, count in named.items() if count is not None}

    def memory_reserved(self, device_index: int | None = None) -> int:
        """Return `memory_allocated`: the runtime does not report what its pool holds beyond."""
        return self.memory_allocated(device_index)

    def max_memory_reserved(self, device_index: int | None = None) -> int:
        """Return `max_memory_allocated`, for the same reason."""
        return self.max_memory_allocated(device_index)

    def total_memory(self, device_index: int | None = None) -> int:
        """Return the bytes of memory that the runtime may use: ``Limit``."""
        return int(self.memory_stats(device_index)["Limit"])

    def available_memory(self, device_index: int | None = None) -> int:
        """Return ``Limit`` less `memory_allocated`."""
        return self.total_memory(device_index) - self.memory_allocated(device_index)

    def device_properties(self, device_index: int | None = None) -> DeviceProperties:
        """Return the device's properties; Gaudi reports neither a UUID nor a driver version."""
        from accel.base import DeviceProperties

        index = self._index(device_index, "device_properties")
        with self.device_index(index):
            model = str(self._forward("get_device_name", member="device_properties"))
        return DeviceProperties(model, None, self.total_memory(index), model.lower(), None)

    def get_device_capability(self, device_index: int | None = None) -> None:
        """Return ``None``: `device_properties` names the generation instead."""
        self._index(device_index, "get_device_capability")
        self._require("get_device_capability")

    def reset_accumulated_memory_stats(self, device_index: int | None = None) -> None:
        """Check the index; the runtime's counters cannot be reset."""
        self._index(device_index, "reset_accumulated_memory_stats")
        self._require("reset_accumulated_memory_stats")

    def is_bf16_supported(self) -> bool:
        """Return whether there is a device: every generation has bfloat16 arithmetic."""
        return self._is_usable()

    def is_fp16_supported(self) -> bool:
        """Return whether float16 is supported, according to the vendor's package."""
        if not self._is_usable():
            return False
        experimental = import_module(f"{_PACKAGE}.utils.experimental")
        return bool(experimental._is_fp16_supported())

    def is_fp8_supported(self) -> bool:
        """Return whether the device is a Gaudi 2 or 3, which have float8 matrix products."""
        if not self._is_usable():
            return False
        return self.device_properties().name.upper().startswith(("GAUDI2", "GAUDI3"))

    def lazy_call(self, callback: Callable[[], None]) -> None:
        """Call `callback` now."""
        callback()

    def communication_backend_name(self) -> str:
        """Return ``"hccl"``, and let its package register it with torch if that is installed.

        Raises:
            BackendUnavailable: the package is installed and cannot be imported.
        """
        if _is_installed():
            try:
                import_module(f"{_PACKAGE}.distributed.hccl")
            except (ImportError, OSError, RuntimeError) as error:
                raise self._unavailable("communication_backend_name", str(error)) from error
        return self.communication_backend

    def _torch_module(self, member: str) -> Any:
        if not _is_installed():
            raise self._unavailable(member, f"{_PACKAGE} is not installed.")
        try:
            return _import_hpu()
        except (ImportError, OSError, RuntimeError) as error:
            raise self._unavailable(member, str(error)) from error

    def _require_lazy(self, member: str) -> None:
        self._require(member)
        if not environment.hpu_lazy_mode():
            raise self._unsupported(member, "Gaudi has graphs in lazy mode only.", _GRAPHS)


class _Capturing(threading.local):
    """The number of scopes of `capture_to_graph` this thread is in."""

    depth = 0


_capturing = _Capturing()


@contextmanager
def _noted(scope: AbstractContextManager[Any]) -> Iterator[Any]:
    _capturing.depth += 1
    try:
        with scope as found:
            yield found
    finally:
        _capturing.depth -= 1


def _is_installed() -> bool:
    """Return whether the package for torch is installed; others of Gaudi's have its parent only."""
    with suppress(ImportError, ValueError):
        return find_spec(_PACKAGE) is not None
    return False


def _import_hpu() -> Any:
    """Import the vendor's module, which is also ``torch.hpu`` from then on."""
    return import_module(f"{_PACKAGE}.hpu")
