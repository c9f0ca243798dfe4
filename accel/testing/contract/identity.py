"""Tests of identity, probes, semantics and of how members are declared."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from accel.base import CAPABILITIES, Accelerator
from accel.errors import AccelError, Unsupported
from accel.probe import Accepted, Rejected
from accel.testing.kit import Conformance, expect, expect_equal, expect_type

PREDICATES = (
    "is_available",
    "is_synchronized_device",
    "use_host_timers",
    "resolves_data_dependency",
    "handles_memory_backpressure",
    "is_bf16_supported",
    "is_fp16_supported",
    "is_fp8_supported",
    "is_fp64_supported",
    "is_triton_supported",
    "prefer_triton_grouped_mm",
    "is_current_stream_capturing",
)
# Members to call for each capability that a device may lack, with simple arguments.
_BY_CAPABILITY: dict[str, Callable[[Accelerator], Any]] = {
    "rng": lambda acc: acc.get_rng_state(),
    "streams": lambda acc: acc.Stream(),
    "events": lambda acc: acc.Event(enable_timing=True),
    "graphs": lambda acc: acc.create_graph(),
    "memory": lambda acc: acc.memory_allocated(),
    "peaks": lambda acc: acc.max_memory_allocated(),
}
# These change the process, or need a device to undo their effect.
_NOT_CALLED = frozenset({"empty_cache", "empty_host_cache", "build_extension"})


def public_members() -> list[str]:
    """Return the names of all members of the contract."""
    return sorted(name for name in dir(Accelerator) if not name.startswith("_"))


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return [one for one in inspect.signature(function).parameters.values() if one.name != "self"]


class IdentityTests(Conformance):
    """Identity, probes, semantics, declarations."""

    def test_identity(self) -> None:
        """The names are lower-case identifiers; the contract version is a known one."""
        for what in ("name", "device_type"):
            value = getattr(self.acc, what)
            expect_type(value, str, what)
            expect(value.isidentifier() and value == value.lower(), f"{what} is {value!r}.")
        version = self.acc.contract_version
        expect_type(version, int, "contract_version")
        newest = Accelerator.contract_version
        expect(1 <= version <= newest, f"contract_version {version} is not in 1..{newest}.")

    def test_capabilities_are_known(self) -> None:
        """The contract knows every name in `lacks`."""
        unknown = sorted(set(self.acc.lacks) - set(CAPABILITIES))
        expect(not unknown, f"lacks names {unknown}; known are {', '.join(CAPABILITIES)}.")

    def test_probe_answers(self) -> None:
        """The probe agrees with `is_available`, and a rejection has a reason and a fix."""
        verdict = self.acc.probe()
        expect_type(verdict, (Accepted, Rejected), "probe()")
        expect_equal(bool(verdict), self.acc.is_available(), "bool(probe())")
        if isinstance(verdict, Rejected):
            expect(verdict.reason and verdict.fix, f"{verdict!r} lacks a reason or a fix.")

    def test_predicates_are_bools(self) -> None:
        """Every yes-or-no member answers ``True`` or ``False``, device or not."""
        for member in PREDICATES:
            expect_type(getattr(self.acc, member)(), bool, f"{member}()")

    def test_signatures_are_the_contracts(self) -> None:
        """A member takes the contract's arguments, by position and by name."""
        for member in public_members():
            base, mine = getattr(Accelerator, member), getattr(type(self.acc), member, None)
            expect(mine is not None, f"{member} is missing.")
            if not inspect.isfunction(base) or not inspect.isfunction(mine):
                continue
            wanted, found = _parameters(base), _parameters(mine)
            names = [one.name for one in found[: len(wanted)]]
            expect_equal(names, [one.name for one in wanted], f"the arguments of {member}")
            added = [one.name for one in found[len(wanted) :] if one.default is one.empty]
            added = [one for one in added if one not in {"args", "kwargs"}]
            expect(not added, f"{member} requires {added}, which the contract does not have.")

    def test_members_answer_or_say_why(self) -> None:
        """Without a usable device, a member answers, or raises an error of accel's."""
        if self.acc.probe():
            return self._lacking_members_say_so()
        for member in public_members():
            if member in _NOT_CALLED:
                continue
            try:
                value = getattr(self.acc, member)
                if inspect.ismethod(value) and all(
                    one.default is not one.empty for one in _parameters(value)
                ):
                    value()
            except AccelError as error:
                expect(self.acc.name in str(error), f"{member}: {error} does not name the backend.")
            except RuntimeError as error:
                expect(member == "range_pop", f"{member} raised {error!r}.")
            except Exception as error:
                raise AssertionError(f"{member} raised {type(error).__name__}: {error}.") from error
        return None

    def _lacking_members_say_so(self) -> None:
        for capability in set(self.acc.lacks) & set(_BY_CAPABILITY):
            try:
                _BY_CAPABILITY[capability](self.acc)
            except Unsupported as error:
                expect(self.acc.name in str(error), f"{error} does not name the backend.")
            except Exception as error:
                raise AssertionError(
                    f"it lacks {capability!r} and raises {type(error).__name__} ({error}), "
                    f"expected Unsupported."
                ) from error
