"""Graphs on the host: a replay calls a block's recorded PyTorch operations again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from accel.errors import Unsupported
from accel.host.streams import HostStream, current_stream

# Their results hold nothing yet, so a replay has nothing to compute or to copy.
_UNINITIALISED = frozenset(
    {"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty"}
    | {"aten::new_empty_strided"}
)


_PAST = "Writes by native code are captured only if it is called through torch.ops."


class _Capturing(threading.local):
    graph: HostGraph | None = None


_capturing = _Capturing()


@dataclass(frozen=True)
class _Call:
    """One recorded operation, and the tensors that it made, with their place in its result."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    made: tuple[tuple[int, Any], ...]

    def run(self) -> None:
        """Call it again and copy its results over those of the first call."""
        result = self.function(*self.args, **self.kwargs)
        results = result if isinstance(result, tuple | list) else (result,)
        for place, tensor in self.made:
            tensor.copy_(results[place])


class HostGraph:
    """Operations to be called again on the same tensors, as a graph of a device does.

    Everything that goes through PyTorch's dispatcher in the capturing thread is recorded and also
    run. A replay uses the same memory for inputs and results as the capture. Random operations draw
    new numbers. Python code is not recorded.
    """

    def __init__(
        self,
        keep_graph: bool = False,
        *,
        pool: tuple[int, int] | None = None,
        capture_error_mode: str = "default",
    ) -> None:
        """Make an empty graph; arguments are those of `torch.accelerator.Graph`, without effect."""
        self.graph_pool = pool
        self.capture_error_mode = capture_error_mode
        self._calls: list[_Call] = []
        self._captured = False
        self._scope: AbstractContextManager[HostGraph] | None = None

    def __enter__(self) -> None:
        """Begin to record, on the current stream."""
        self.capture_begin()

    def __exit__(self, *exc_info: Any) -> None:
        """End the recording; after an exception the graph is empty."""
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.__exit__(*exc_info)

    def capture_begin(self) -> None:
        """Begin to record this thread's operations; raises as `capture` does."""
        scope = capture(self, current_stream())
        scope.__enter__()
        self._scope = scope

    def capture_end(self) -> None:
        """End the recording; raises as `capture` does.

        Raises:
            RuntimeError: `capture_begin` was not called.
        """
        if self._scope is None:
            raise RuntimeError("cpu: capture_end() without an open capture_begin().")
        self.__exit__(None, None, None)

    def instantiate(self) -> None:
        """Do nothing: a recording can be replayed at once."""

    def enable_debug_mode(self) -> None:
        """Do nothing: `debug_dump` needs no preparation."""

    def debug_dump(self, path: str) -> None:
        """Write the names of the recorded operations to a file, one a line."""
        text = "".join(f"{call.function}\n" for call in self._calls)
        Path(path).write_text(text, encoding="utf-8")

    def replay(self) -> None:
        """Run the recorded operations again, in order.

        Raises:
            RuntimeError: nothing was captured.
        """
        import torch

        if not self._captured:
            raise RuntimeError("cpu: this graph is empty; fill it with capture_to_graph() first.")
        with torch.no_grad():
            for call in self._calls:
                call.run()

    def reset(self) -> None:
        """Discard the capture, and free its memory."""
        self._calls.clear()
        self._captured = False

    def pool(self) -> tuple[int, int]:
        """Return a token for another graph's ``pool`` argument; host graphs share all memory."""
        return (0, 0)


def capturing() -> bool:
    """Return whether this thread records a graph, so that work must go through the dispatcher."""
    return _capturing.graph is not None


@contextmanager
def capture(graph: HostGraph, stream: HostStream) -> Iterator[HostGraph]:
    """Record the operations inside the ``with`` block into `graph`, on `stream`.

    After an exception the graph is empty.

    Raises:
        RuntimeError: this thread records a graph already, or `graph` holds one.
        Unsupported: inside the block, for an operation whose result Python reads or whose shapes
            depend on values, since a replay would repeat a stale decision; at its end, if
            nothing was recorded, or a tensor was written past the dispatcher.
    """
    if _capturing.graph is not None:
        raise RuntimeError("cpu: a capture is open in this thread; graphs do not nest.")
    if graph._captured:
        raise RuntimeError("cpu: this graph holds a capture; reset() it first.")
    _capturing.graph = graph
    try:
        recorder = _recorder()(graph)
        with stream, recorder:
            yield graph
        recorder.writes.check()
        if not graph._calls:
            raise Unsupported(f"cpu: the captured block has no operation to repeat. {_PAST}")
        graph._captured = True
    except BaseException:
        graph.reset()
        raise
    finally:
        _capturing.graph = None


class _Writes:
    """A comparison of each tensor's version with the writes that were recorded."""

    def __init__(self) -> None:
        self._first: dict[int, tuple[Any, int, int]] = {}
        self._recorded: Counter[int] = Counter()

    def note(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Record the arguments of one call before it runs."""
        import torch
        from torch.utils import _pytree

        declared = function._schema.arguments
        named = [(declared[at], value) for at, value in enumerate(args)]
        named += [(one, kwargs[one.name]) for one in declared if one.name in kwargs]
        for argument, value in named:
            for tensor in _pytree.tree_leaves(value):
                if not isinstance(tensor, torch.Tensor) or tensor.is_inference():
                    continue
                memory = tensor.untyped_storage()._cdata
                first = (tensor, tensor._version, self._recorded[memory])
                self._first.setdefault(id(tensor), first)
                if argument.alias_info is not None and argument.alias_info.is_write:
                    self._recorded[memory] += 1

    def check(self) -> None:
        """Raise `Unsupported` if a tensor was written more often than was recorded."""
        for tensor, version, recorded in self._first.values():
            memory = tensor.untyped_storage()._cdata
            if tensor._version - version > self._recorded[memory] - recorded:
                raise Unsupported(
                    f"cpu: a tensor of shape {tuple(tensor.shape)} was written without PyTorch's "
                    f"dispatcher during the capture, so a replay would skip the write. {_PAST}"
                )


def _results_made(function: Any, result: Any) -> tuple[tuple[int, Any], ...]:
    """Return the tensors that `function` made, without those that alias its arguments."""
    import torch

    results = result if isinstance(result, tuple | list) else (result,)
    schema = function._schema.returns
    fresh = (
        [True] * len(results)
        if len(schema) != len(results)
        else [declared.alias_info is None for declared in schema]
    )
    if len(schema) == 1 and schema[0].alias_info is not None:
        fresh = [False] * len(results)
    return tuple(
        (place, one)
        for place, (one, made) in enumerate(zip(results, fresh, strict=True))
        if made and isinstance(one, torch.Tensor)
    )


def _check_repeatable(function: Any) -> None:
    import torch

    tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    if tags.intersection(function.tags):
        raise Unsupported(
            f"cpu: {function} cannot be captured in a graph: later operations depend on values "
            f"that a replay would not read again. Move it out of the captured block."
        )


@cache
def _recorder() -> type[Any]:
    """Return the dispatch mode that records; made on demand, since it needs torch."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
        repeats = True  # asked by ops that a replay must not repeat bit for bit

        def __init__(self, graph: HostGraph) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.graph = graph
            self.writes = _Writes()

        def __torch_dispatch__(
            self,
            func: Any,
            types: Any,
            args: tuple[Any, ...] = (),
            kwargs: dict[str, Any] | None = None,
        ) -> Any:
            _check_repeatable(func)
            self.writes.note(func, args, kwargs or {})
            result = func(*args, **(kwargs or {}))
            made = _results_made(func, result)
            if (made or func._schema.is_mutable) and func._schema.name not in _UNINITIALISED:
                self.graph._calls.append(_Call(func, args, kwargs or {}, made))
            return result

    return Recorder
