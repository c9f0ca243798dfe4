"""Tests of ranges, launcher variables, compile backends and op look-up."""

from __future__ import annotations

import os

import torch

from accel.errors import UnknownOp
from accel.testing.kit import (
    Conformance,
    expect,
    expect_equal,
    expect_none,
    expect_raises,
    expect_type,
    on_device,
)

_KNOWN_OP = "FusedAdamBuilder"


class ToolTests(Conformance):
    """Tools for profilers, launchers and compilers, and look-up of ops."""

    @on_device
    def test_ranges(self) -> None:
        """Ranges nest and close, after an exception too; closing none is an error."""
        expect_none("range_push()", self.acc.range_push, "outer")
        self.acc.range_push("inner", "domain", "category")
        expect_none("range_pop()", self.acc.range_pop, "domain")

        def fail() -> None:
            with self.acc.range("scope"):
                raise KeyError("on purpose")

        expect_raises(KeyError, fail, "an exception in a range")
        self.acc.range_pop()
        expect_raises(RuntimeError, self.acc.range_pop, "range_pop() without a range")

    @on_device
    def test_lazy_calls_are_called_once(self) -> None:
        """On an initialised device a callback is called at once, and once."""
        torch.ones(1, dtype=torch.float32, device=self.acc.device())
        called: list[int] = []
        self.acc.lazy_call(lambda: called.append(1))
        expect_equal(called, [1], "the calls of a callback")

    def test_communication_backend(self) -> None:
        """It has a name, which is not torch's placeholder for none."""
        found = self.acc.communication_backend_name()
        expect_type(found, str, "communication_backend_name()")
        expect(found not in {"", "fake", "undefined"}, f"communication backend {found!r}.")

    def test_compile_backend(self) -> None:
        """It can be set to torch's backends only, and for this object only."""
        first = self.acc.get_compile_backend()
        expect_type(first, str, "get_compile_backend()")
        expect_none("set_compile_backend()", self.acc.set_compile_backend, "eager")
        expect_equal(self.acc.get_compile_backend(), "eager", "get_compile_backend()")
        expect_equal(type(self.acc)().get_compile_backend(), first, "that of another object")
        expect_raises(
            ValueError, lambda: self.acc.set_compile_backend("no such"), "an unknown backend"
        )
        expect_equal(self.acc.get_compile_backend(), "eager", "get_compile_backend() after it")

    def test_visible_devices(self) -> None:
        """The variables are written to the given mapping, never to this process's environment."""
        names = self.acc.visible_devices_envs()
        expect_type(names, list, "visible_devices_envs()")
        outside = dict(os.environ)
        inside = {"KEPT": "yes"}
        self.acc.set_visible_devices_envs(inside, [1, 3])
        expect_equal(inside, {"KEPT": "yes"} | dict.fromkeys(names, "1,3"), "the environment")
        expect_equal(dict(os.environ), outside, "this process's environment")
        names.append("CHANGED")
        expect("CHANGED" not in self.acc.visible_devices_envs(), "callers can change the list.")

    def test_exported_variables(self) -> None:
        """They are a list of names that callers cannot change."""
        names = self.acc.export_envs()
        expect_type(names, list, "export_envs()")
        expect(all(isinstance(one, str) and one for one in names), f"export_envs() is {names}.")
        names.append("CHANGED")
        expect("CHANGED" not in self.acc.export_envs(), "callers can change the list.")

    def test_op_builders(self) -> None:
        """A known op has a builder class, and `create_op_builder` makes one; others are errors."""
        expect_type(self.acc.op_builder_dir(), str, "op_builder_dir()")
        found = self.acc.get_op_builder(_KNOWN_OP)
        expect_type(found, type, f"get_op_builder({_KNOWN_OP!r})")
        made = self.acc.create_op_builder(_KNOWN_OP)
        expect(isinstance(made, found), f"create_op_builder() made a {type(made).__name__}.")
        error = expect_raises(
            UnknownOp, lambda: self.acc.get_op_builder("FusedAdmaBuilder"), "an unknown op"
        )
        expect(_KNOWN_OP in str(error), f"{error} suggests nothing.")

    def test_build_answers(self) -> None:
        """The members for builds of extensions return the declared types."""
        expect_type(self.acc.default_compute_capabilities(), str, "default_compute_capabilities()")
        expect_type(self.acc.build_extension(), type, "build_extension()")

    @on_device
    def test_the_name_traces(self) -> None:
        """`device_name` does not break a graph of `torch.compile`."""
        acc = self.acc

        def double(given: torch.Tensor) -> torch.Tensor:
            return given.to(acc.device_name()) * 2

        traced = torch.compile(double, fullgraph=True, backend="eager")
        expect_equal(
            traced(torch.ones(2, dtype=torch.float32, device="cpu")).cpu().tolist(),
            [2.0, 2.0],
            "a traced function",
        )
        torch.compiler.reset()
