"""The base of the conformance tests: the accelerator under test, expectations, capabilities."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar
from unittest import SkipTest

from accel.base import Accelerator
from accel.current import use_accelerator
from accel.probe import Rejected
from accel.targets import resolve

Suite = TypeVar("Suite", bound="Conformance")


class Undeclared(SkipTest):
    """A capability that the accelerator declares to lack, but that works."""


class Conformance:
    """Base of the suites. A subclass named ``Test...`` sets `accelerator`, the class under test.

    Tests skip by `unittest.SkipTest`, which pytest understands too, and fail by `AssertionError`.
    """

    accelerator: ClassVar[type[Accelerator]]

    def setup_method(self) -> None:
        """Make the accelerator under test and put it in use, for every test.

        Raises:
            TypeError: the suite names no accelerator.
        """
        chosen = getattr(type(self), "accelerator", None)
        if not (isinstance(chosen, type) and issubclass(chosen, Accelerator)):
            raise TypeError(
                f"{type(self).__name__}.accelerator is {chosen!r}: expected a subclass of "
                f"accel.Accelerator."
            )
        self.acc = chosen()
        # Look-ups of the strategy of a tensor's device find this one, registered or not.
        self._in_use = use_accelerator(self.acc)
        self._in_use.__enter__()

    def teardown_method(self) -> None:
        """Put the accelerator out of use again."""
        self._in_use.__exit__(None, None, None)

    def need_device(self) -> None:
        """Skip the test, with the reason of the probe, if the device cannot be used."""
        verdict = self.acc.probe()
        if isinstance(verdict, Rejected):
            raise SkipTest(f"{self.acc.name}: {verdict}")

    def each_device(self) -> list[int]:
        """Return the indices of the devices here, at most the first four."""
        return list(range(min(4, self.acc.device_count())))


def on_device(test: Callable[[Suite], None]) -> Callable[[Suite], None]:
    """Mark a test that needs a usable device."""

    @functools.wraps(test)
    def run(self: Suite) -> None:
        self.need_device()
        test(self)

    return run


def covers(capability: str) -> Callable[[Callable[[Suite], None]], Callable[[Suite], None]]:
    """Mark a test of a capability in `accel.base.CAPABILITIES`.

    If the accelerator declares that it lacks the capability, the test runs but counts as skipped;
    the skip says if it would have passed.
    """

    def decorate(test: Callable[[Suite], None]) -> Callable[[Suite], None]:
        @functools.wraps(test)
        def run(self: Suite) -> None:
            self.need_device()
            if self.acc.has(capability):
                test(self)
                return
            lacks = f"{self.acc.name} declares that it lacks {capability!r}"
            kind = type(self.acc)
            self.acc = type(kind.__name__, (kind,), {"lacks": ()})()
            try:
                test(self)
            except Exception as error:
                raise SkipTest(f"{lacks} ({type(error).__name__})") from error
            raise Undeclared(f"{lacks}, yet {test.__name__} passes: it may be declared.")

        return run

    return decorate


def expect(condition: object, message: str) -> None:
    """Fail with `message` unless `condition` is true."""
    if not condition:
        raise AssertionError(message)


def expect_type(value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Fail unless `value` is a `kind`; a ``bool`` is not an ``int`` here."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    right = isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)
    names = " or ".join(one.__name__ for one in kinds)
    expect(right, f"{what} is {value!r} of type {type(value).__name__}, not {names}.")


def expect_equal(found: object, wanted: object, what: str) -> None:
    """Fail unless `found` equals `wanted`."""
    expect(found == wanted, f"{what} is {found!r}, expected {wanted!r}.")


def expect_none(what: str, call: Callable[..., object], *args: object) -> None:
    """Fail unless ``call(*args)`` returns ``None``."""
    answer = call(*args)
    expect(answer is None, f"{what} returned {answer!r}, expected None.")


def expect_raises(
    errors: type[Exception] | tuple[type[Exception], ...], call: Callable[[], Any], what: str
) -> Exception:
    """Fail unless `call` raises one of `errors`; return the error."""
    wanted = errors if isinstance(errors, tuple) else (errors,)
    names = " or ".join(error.__name__ for error in wanted)
    try:
        answer = call()
    except wanted as error:
        return error
    except Exception as error:
        raise AssertionError(
            f"{what} raised {type(error).__name__} ({error}), expected {names}."
        ) from error
    raise AssertionError(f"{what} returned {answer!r}, expected {names}.")


def strategy_class(accelerator: str | type[Accelerator]) -> type[Accelerator]:
    """Return the class that is given, or named as ``"module:Class"``.

    Raises:
        ValueError: the name has another form.
        TypeError: it is not a strategy.
        ImportError, AttributeError: there is no such class, or importing it ends the process.
    """
    try:
        found: Any = resolve(accelerator) if isinstance(accelerator, str) else accelerator
    except SystemExit as error:
        module = str(accelerator).partition(":")[0]
        raise ImportError(f"importing {module} ends the process: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Accelerator)):
        raise TypeError(f"{accelerator!r} is not a subclass of accel.Accelerator.")
    return found
