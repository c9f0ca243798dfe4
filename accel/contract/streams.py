"""Streams, events and graphs."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from accel.contract.device import DeviceMembers

if TYPE_CHECKING:
    from accel.contract.protocols import DeviceEvent, DeviceStream

_NO_STREAMS = "Ask has('streams') first; without streams, work runs in the order of its calls."
_NO_GRAPHS = "Ask has('graphs') first, and call the captured function instead."


class StreamMembers(DeviceMembers):
    """Stream, event and graph members of the contract.

    `accel.contract.protocols` has what streams and events can do on every device; a graph has
    ``replay`` and ``reset``.
    """

    @property
    def Stream(self) -> type[DeviceStream]:
        """Class of streams, ``Stream(device=None, priority=0)``. One may create a context."""
        self._require("Stream", "streams")
        found: type[DeviceStream] = self._attribute("Stream", "Stream", _NO_STREAMS)
        return found

    @property
    def Event(self) -> type[DeviceEvent]:
        """Class of events: ``Event(enable_timing=False)``. Recording one may create a context."""
        self._require("Event", "events")
        found: type[DeviceEvent] = self._attribute("Event", "Event")
        return found

    def stream(self, stream: Any) -> AbstractContextManager[Any]:
        """Return a context manager inside which work goes to `stream`; ``None`` changes nothing.

        The previous stream is current again afterwards, also after an exception. May create a
        context.
        """
        if stream is None:
            return nullcontext()
        scope: AbstractContextManager[Any] = self._forward("stream", stream, way_out=_NO_STREAMS)
        return scope

    def current_stream(self, device_index: int | None = None) -> DeviceStream:
        """Return this thread's stream on a device; default the current. May create a context."""
        found: DeviceStream = self._forward_at("current_stream", device_index)
        return found

    def default_stream(self, device_index: int | None = None) -> DeviceStream:
        """Return the stream that every thread starts with on a device. May create a context."""
        self._index(device_index, "default_stream")
        if hasattr(self._torch_module("default_stream"), "default_stream"):
            found: DeviceStream = self._forward_at("default_stream", device_index)
            return found
        return self._stream_of_a_new_thread(device_index)

    def set_stream(self, stream: Any) -> None:
        """Make `stream` this thread's current stream from now on. May create a context."""
        self._forward("set_stream", stream, way_out=_NO_STREAMS)

    @property
    def Graph(self) -> type[Any]:
        """Class of graphs that are their own context managers, as `torch.accelerator.Graph`.

        ``Graph(keep_graph=False, *, pool=None, capture_error_mode="default")`` captures the work of
        its ``with`` block on the current stream.

        Raises:
            Unsupported: the device lacks graphs, or torch has no such class for it (none has
                before 2.13).
        """
        self._require("Graph", "graphs")
        found: type[Any] | None = self._torch_accelerator("Graph")
        way_out = "Use create_graph() and capture_to_graph()."
        if found is None:
            raise self._unsupported("Graph", "torch.accelerator has no Graph for it.", way_out)
        try:
            found()
        except RuntimeError as error:
            said = str(error).partition("\n")[0]
            raise self._unsupported("Graph", f"{said}.", way_out) from error
        return found

    def is_current_stream_capturing(self) -> bool:
        """Return whether this thread's current stream is captured into a graph. No device context.

        Default: torch's answer, ``False`` if it has none.
        """
        if not (self.has("graphs") and self._is_usable()):
            return False
        if not hasattr(self._torch_module("graphs"), "is_current_stream_capturing"):
            return False
        return bool(self._forward("is_current_stream_capturing"))

    def create_graph(self) -> Any:
        """Return an empty graph for `capture_to_graph`. May create a context."""
        self._require("create_graph", "graphs")
        own = f"{self.device_type.upper()}Graph"
        return self._forward(own, member="create_graph", way_out=_NO_GRAPHS)

    def capture_to_graph(
        self, graph: Any, pool: Any = None, stream: Any = None
    ) -> AbstractContextManager[Any]:
        """Return a context manager that captures the work inside it into `graph`.

        Args:
            graph: from `create_graph`.
            pool: another graph's ``pool()`` to share memory with, or ``None``.
            stream: the stream to capture on, or ``None`` for one of its own.
        """
        self._require("capture_to_graph", "graphs")
        scope: AbstractContextManager[Any] = self._forward(
            "graph", graph, pool, stream, member="capture_to_graph", way_out=_NO_GRAPHS
        )
        return scope

    def replay_graph(self, graph: Any) -> None:
        """Run the captured work again, on the same memory, on the current stream."""
        graph.replay()

    def _stream_of_a_new_thread(self, device_index: int | None) -> DeviceStream:
        """Return the default stream of a device whose module has no function for it.

        The current stream is kept per thread and begins as the default one, so a thread that has
        set none sees it.
        """
        index = self._index(device_index, "default_stream")
        if index is None:
            index = self.current_device()
        answers: list[DeviceStream] = []
        errors: list[Exception] = []

        def ask() -> None:
            try:
                answers.append(self.current_stream(index))
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=ask, name="accel-default-stream")
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return answers[0]
