"""Tests of streams, events and graphs."""

from __future__ import annotations

import threading
import time
from typing import Any
from unittest import SkipTest

import torch

from accel.errors import Unsupported
from accel.testing.kit import (
    Conformance,
    covers,
    expect,
    expect_equal,
    expect_none,
    expect_raises,
    expect_type,
)

_PAUSE_S = 0.03


class StreamTests(Conformance):
    """Streams, events and graphs."""

    @covers("streams")
    def test_stream_scopes_restore(self) -> None:
        """After a scope, also nested or after an exception, the previous stream is current."""
        before = self.acc.current_stream()
        outer, inner = self.acc.Stream(), self.acc.Stream()
        with self.acc.stream(outer):
            expect(self.acc.current_stream() == outer, "a scope does not make its stream current.")
            with self.acc.stream(inner):
                expect(self.acc.current_stream() == inner, "a nested scope does not.")
            expect(self.acc.current_stream() == outer, "a nested scope does not restore.")
        expect(self.acc.current_stream() == before, "a scope does not restore.")

        def fail() -> None:
            with self.acc.stream(outer):
                raise KeyError("on purpose")

        expect_raises(KeyError, fail, "an exception in a stream's scope")
        expect(self.acc.current_stream() == before, "an exception leaves the scope's stream.")

    @covers("streams")
    def test_no_stream_changes_nothing(self) -> None:
        """``stream(None)`` is a scope without effect."""
        before = self.acc.current_stream()
        with self.acc.stream(None):
            expect(self.acc.current_stream() == before, "stream(None) changes the stream.")

    @covers("streams")
    def test_set_stream(self) -> None:
        """`set_stream` lasts until the next one."""
        before, other = self.acc.current_stream(), self.acc.Stream()
        try:
            expect_none("set_stream()", self.acc.set_stream, other)
            expect(self.acc.current_stream() == other, "set_stream() has no effect.")
        finally:
            self.acc.set_stream(before)
        expect(self.acc.current_stream() == before, "set_stream() does not set back.")

    @covers("streams")
    def test_default_stream(self) -> None:
        """A thread starts on the default stream, even if another thread has set a stream."""
        default = self.acc.default_stream()
        seen: list[Any] = []
        with self.acc.stream(self.acc.Stream()):
            expect(self.acc.default_stream() == default, "default_stream() follows the current.")
            thread = threading.Thread(target=lambda: seen.append(self.acc.current_stream()))
            thread.start()
            thread.join()
        expect(seen and seen[0] == default, f"a new thread is on {seen}, not on {default}.")

    @covers("streams")
    def test_streams_by_index(self) -> None:
        """Every device has a current and a default stream."""
        for index in self.each_device():
            for member in (self.acc.current_stream, self.acc.default_stream):
                expect(member(index) is not None, f"{member.__name__}({index}) is None.")

    @covers("streams")
    def test_streams_wait_for_one_another(self) -> None:
        """A stream may use another's results after waiting for it, by event or by stream."""
        ones = torch.ones(256, 256, dtype=torch.float32, device=self.acc.device())
        self.acc.synchronize()
        maker, user = self.acc.Stream(), self.acc.Stream()
        for by_event in (False, True):
            for _ in range(4):
                with self.acc.stream(maker):
                    made = ones
                    for _ in range(16):
                        made = (made @ ones) / 256
                    made = made + 1
                    event = maker.record_event()
                user.wait_event(event) if by_event else user.wait_stream(maker)
                with self.acc.stream(user):
                    used = made * 2
                user.synchronize()
                expect(bool((used == 4).all()), f"wait_{'event' if by_event else 'stream'} failed.")
        expect_type(user.query(), bool, "Stream.query()")
        expect(user.query(), "query() is False after synchronize().")

    @covers("events")
    def test_events_time_in_milliseconds(self) -> None:
        """The time between two events is a float in milliseconds."""
        start, end = (self.acc.Event(enable_timing=True) for _ in range(2))
        start.record()
        start.synchronize()  # A device may be late; the pause must begin after the first event.
        time.sleep(_PAUSE_S)
        end.record()
        end.synchronize()
        took = start.elapsed_time(end)
        expect_type(took, float, "elapsed_time()")
        least = _PAUSE_S * 1000 * 0.9
        expect(least < took < 60_000, f"{_PAUSE_S * 1000} ms were timed as {took} ms.")

    @covers("events")
    def test_events_are_waited_for(self) -> None:
        """After waiting, an event has happened."""
        event = self.acc.Event()
        torch.ones(8, dtype=torch.float32, device=self.acc.device()).sum()
        event.record()
        event.wait()
        event.synchronize()
        expect_type(event.query(), bool, "Event.query()")
        expect(event.query(), "query() is False after synchronize().")

    @covers("events")
    def test_events_without_timing_refuse(self) -> None:
        """The time of events that were not made for it is an error, not a number."""
        start, end = self.acc.Event(), self.acc.Event()
        start.record()
        end.record()
        end.synchronize()
        expect_raises((RuntimeError, ValueError), lambda: start.elapsed_time(end), "elapsed_time()")

    def _captured(self) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Return a graph of ``made = given * 2 + 1``, and both tensors."""
        given = torch.ones(16, dtype=torch.float32, device=self.acc.device())
        warm = given * 2 + 1
        self.acc.synchronize()
        graph = self.acc.create_graph()
        with self.acc.capture_to_graph(graph):
            made = given * 2 + 1
        expect_equal(warm.shape, made.shape, "the shape of a captured result")
        return graph, given, made

    @covers("graphs")
    def test_graphs_replay(self) -> None:
        """A replay computes again, from the inputs' current values, into the same outputs."""
        graph, given, made = self._captured()
        for value in (3.0, -1.0):
            given.fill_(value)
            expect_none("replay_graph()", self.acc.replay_graph, graph)
            self.acc.synchronize()
            expect_equal(made.cpu().tolist(), [value * 2 + 1] * 16, "what a replay computes")

    @covers("graphs")
    def test_captures_are_seen(self) -> None:
        """`is_current_stream_capturing` is true inside a capture only."""
        given = torch.ones(16, dtype=torch.float32, device=self.acc.device())
        seen = [self.acc.is_current_stream_capturing()]
        with self.acc.capture_to_graph(self.acc.create_graph()):
            given.add_(1)
            seen.append(self.acc.is_current_stream_capturing())
        seen.append(self.acc.is_current_stream_capturing())
        expect_equal(seen, [False, True, False], "the answers before, in and after a capture")

    @covers("graphs")
    def test_graphs_as_scopes(self) -> None:
        """`Graph` captures its own ``with`` block on the current stream, and replays it."""
        try:
            graph = self.acc.Graph()
        except Unsupported as error:
            raise SkipTest(str(error)) from error
        given = torch.ones(16, dtype=torch.float32, device=self.acc.device())
        stream = self.acc.Stream()
        self.acc.synchronize()
        with self.acc.stream(stream):
            given * 2 + 1
            stream.synchronize()
            with graph:
                made = given * 2 + 1
        self.acc.synchronize()
        given.fill_(3.0)
        self.acc.synchronize()
        graph.replay()
        self.acc.synchronize()
        expect_equal(made.cpu().tolist(), [7.0] * 16, "what a replay computes")
        graph.reset()

    @covers("graphs")
    def test_empty_graphs_refuse(self) -> None:
        """An empty graph cannot be replayed."""
        graph = self.acc.create_graph()
        expect_raises(
            (RuntimeError, ValueError), lambda: self.acc.replay_graph(graph), "an empty graph"
        )

    @covers("graphs")
    def test_failed_captures_end(self) -> None:
        """After an exception inside a capture the device works as before, and captures again."""
        before = self.acc.current_stream()
        given = torch.ones(16, dtype=torch.float32, device=self.acc.device())

        def fail() -> None:
            with self.acc.capture_to_graph(self.acc.create_graph()):
                given.add_(1)  # torch warns about a graph without work.
                raise KeyError("on purpose")

        expect_raises((KeyError, RuntimeError), fail, "an exception in a capture")
        expect(self.acc.current_stream() == before, "a failed capture leaves its stream current.")
        graph, given, made = self._captured()
        given.fill_(2.0)
        self.acc.replay_graph(graph)
        self.acc.synchronize()
        expect_equal(float(made[0]), 5.0, "a capture after a failed one")
