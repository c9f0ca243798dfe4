"""The host's processors as an accelerator, on which every member has a meaning."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.base import Accelerator
from accel.host import memory, streams
from accel.probe import Accepted, Probe

if TYPE_CHECKING:
    import torch

    from accel.base import DeviceProperties

_resident = memory.ResidentSet()


class CPUAccelerator(Accelerator):
    """The one host device.

    Every non-negative index names it, so that a program which calls ``set_device(local_rank)`` runs
    unchanged; `device_count` is 1 and `current_device` 0. Work is done when its call returns.
    Memory in use is the resident set of this process (`accel.host.memory.ResidentSet`): everything
    in it, not tensors alone, since one allocator serves both.
    """

    name = "cpu"
    communication_backend = "gloo"
    op_builders = "accel.builders.cpu"
    lacks = ("pinning",)

    def is_available(self) -> bool:
        """Return ``True``: there is always a host."""
        return True

    def probe(self) -> Probe:
        """Return `Accepted`, with the kind of processor."""
        return Accepted(f"the host, {platform.machine()}")

    def is_synchronized_device(self) -> bool:
        """Return ``True``: work is done when its call returns."""
        return True

    def device_name(self, device_index: int | None = None) -> str:
        """Return ``"cpu"`` for every index."""
        if device_index is not None:
            self._index(device_index, "device_name")
        return "cpu"

    def set_device(self, device_index: int) -> None:
        """Check the index; there is one device, which is current already."""
        if device_index is None:
            raise TypeError("cpu: set_device(None): expected a device's index.")
        self._index(device_index, "set_device")

    def current_device(self) -> int:
        """Return 0."""
        return 0

    def device_count(self) -> int:
        """Return 1."""
        return 1

    def synchronize(self, device_index: int | None = None) -> None:
        """Check the index; there is nothing to wait for."""
        self._index(device_index, "synchronize")

    def device_properties(self, device_index: int | None = None) -> DeviceProperties:
        """Return the processor's model and the best SIMD level that torch uses on it."""
        import torch

        from accel.base import DeviceProperties

        self._index(device_index, "device_properties")
        level = torch.backends.cpu.get_cpu_capability()
        return DeviceProperties(_processor(), None, memory.total(), level, None)

    def get_device_capability(self, device_index: int | None = None) -> None:
        """Return ``None``: `device_properties` names the instruction set instead."""
        self._index(device_index, "get_device_capability")

    def random(self) -> Any:
        """Return ``torch.random``."""
        import torch

        return torch.random

    def get_rng_state(self, device_index: int | None = None) -> torch.Tensor:
        """Return a copy of the state of torch's host generator."""
        return self.default_generator(device_index).get_state()

    def set_rng_state(self, new_state: torch.Tensor, device_index: int | None = None) -> None:
        """Set torch's host generator to a state from `get_rng_state`."""
        self.default_generator(device_index).set_state(new_state)

    def manual_seed(self, seed: int) -> None:
        """Seed torch's host generator, and no other device's."""
        self.default_generator().manual_seed(int(seed))

    def manual_seed_all(self, seed: int) -> None:
        """Call `manual_seed`: there is one device."""
        self.manual_seed(seed)

    def initial_seed(self) -> int:
        """Return the seed that torch's host generator started from."""
        return int(self.default_generator().initial_seed())

    def default_generator(self, device_index: int | None = None) -> torch.Generator:
        """Return torch's host generator."""
        import torch

        self._index(device_index, "default_generator")
        return torch.default_generator

    @property
    def Stream(self) -> type[streams.HostStream]:
        """Class of streams; see `accel.host.streams.HostStream`."""
        return streams.HostStream

    @property
    def Event(self) -> type[streams.HostEvent]:
        """Class of events, on the host's clock; see `accel.host.streams.HostEvent`."""
        return streams.HostEvent

    def stream(self, stream: Any) -> AbstractContextManager[Any]:
        """Return a context manager inside which `stream` is current; ``None`` changes nothing."""
        return nullcontext() if stream is None else streams.checked(stream)

    def current_stream(self, device_index: int | None = None) -> streams.HostStream:
        """Return this thread's stream."""
        self._index(device_index, "current_stream")
        return streams.current_stream()

    def default_stream(self, device_index: int | None = None) -> streams.HostStream:
        """Return the stream that every thread starts with."""
        self._index(device_index, "default_stream")
        return streams.DEFAULT_STREAM

    def set_stream(self, stream: Any) -> None:
        """Make `stream` this thread's current stream from now on."""
        streams.set_stream(stream)

    @property
    def Graph(self) -> type[Any]:
        """Class of graphs; see `accel.host.graph.HostGraph`."""
        from accel.host.graph import HostGraph

        return HostGraph

    def is_current_stream_capturing(self) -> bool:
        """Return whether this thread records a graph."""
        from accel.host.graph import capturing

        return capturing()

    def create_graph(self) -> Any:
        """Return an empty graph; see `accel.host.graph.HostGraph`."""
        from accel.host.graph import HostGraph

        return HostGraph()

    def capture_to_graph(
        self, graph: Any, pool: Any = None, stream: Any = None
    ) -> AbstractContextManager[Any]:
        """Return a context manager that records, and runs, the operations inside it."""
        from accel.host.graph import capture

        return capture(
            graph, streams.current_stream() if stream is None else streams.checked(stream)
        )

    def empty_cache(self) -> None:
        """Ask the C library to return its free memory to the system."""
        memory.trim()

    def empty_host_cache(self) -> None:
        """Do nothing: no memory is page-locked."""

    def memory_allocated(self, device_index: int | None = None) -> int:
        """Return the resident set of this process."""
        self._index(device_index, "memory_allocated")
        return _resident.usage()[0]

    def max_memory_allocated(self, device_index: int | None = None) -> int:
        """Return the peak of the resident set since the last reset, or the process's start."""
        self._index(device_index, "max_memory_allocated")
        return _resident.usage()[1]

    def memory_reserved(self, device_index: int | None = None) -> int:
        """Return `memory_allocated`: the resident set includes memory held by the C library."""
        return self.memory_allocated(device_index)

    def max_memory_reserved(self, device_index: int | None = None) -> int:
        """Return `max_memory_allocated`."""
        return self.max_memory_allocated(device_index)

    def memory_stats(self, device_index: int | None = None) -> dict[str, int]:
        """Return the resident set and its peak under the names that torch's allocators use."""
        self._index(device_index, "memory_stats")
        now, peak = _resident.usage()
        return {
            f"{kind}_bytes.all.{point}": value
            for kind in ("allocated", "reserved")
            for point, value in (("current", now), ("peak", peak))
        }

    def reset_peak_memory_stats(self, device_index: int | None = None) -> None:
        """Restart the peak of this process's resident set, for everyone who reads it."""
        self._index(device_index, "reset_peak_memory_stats")
        _resident.reset_peak()

    def reset_accumulated_memory_stats(self, device_index: int | None = None) -> None:
        """Check the index; none of its counters only grows."""
        self._index(device_index, "reset_accumulated_memory_stats")

    def total_memory(self, device_index: int | None = None) -> int:
        """Return the bytes of the host, or of the control group if that has fewer."""
        self._index(device_index, "total_memory")
        return memory.total()

    def available_memory(self, device_index: int | None = None) -> int:
        """Return the bytes that are available without swapping."""
        self._index(device_index, "available_memory")
        return memory.available()

    def is_bf16_supported(self) -> bool:
        """Return whether torch has its fast bfloat16 kernels on this processor."""
        return _has_fast_kernels("_is_mkldnn_bf16_supported", "bf16")

    def is_fp16_supported(self) -> bool:
        """Return whether torch has its fast float16 kernels on this processor."""
        return _has_fast_kernels("_is_mkldnn_fp16_supported", "fp16_arith")

    def is_fp64_supported(self) -> bool:
        """Return ``True``."""
        return True

    def lazy_call(self, callback: Callable[[], None]) -> None:
        """Call `callback` now."""
        callback()


def _has_fast_kernels(mkldnn_question: str, arm_feature: str) -> bool:
    """Ask oneDNN, through which torch computes, or the processor without it."""
    import torch

    mkldnn: Any = torch.backends.mkldnn
    if mkldnn.is_available() and hasattr(torch.ops.mkldnn, mkldnn_question):
        return bool(getattr(torch.ops.mkldnn, mkldnn_question)())
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    return bool(torch.cpu.get_capabilities().get(arm_feature, False))


def _processor() -> str:
    """Return the processor's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()
