"""The basis of the contract's members: identity, index checks, look-ups in torch's module."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from accel.errors import BackendUnavailable, Unsupported
from accel.probe import FAILURES, Accepted, Probe, Rejected

CAPABILITIES: Mapping[str, str] = MappingProxyType(
    {
        "rng": "the state of its random numbers can be read and set",
        "streams": "work can be put on streams that are made, entered and waited for",
        "events": "events measure time between two points of a stream",
        "graphs": "work can be captured once and replayed",
        "memory": "bytes in use are counted",
        "peaks": "the most bytes in use are kept, and can be reset",
        "pinning": "host memory can be page-locked for faster copies",
    }
)
_MISSING = object()


class Forwarding:
    """Identity of a backend, and look-ups in ``torch.<device_type>``.

    Attributes:
        name: the backend's name, the value for ``ACCELERATOR``. Required of every subclass.
        device_type: torch's device type. Default: `name`, or that of the parent class.
        contract_version: version of the contract that the class was written for. Members that
            later versions add come with defaults, so an older class keeps working.
        lacks: the names in `CAPABILITIES` that this device does not have. Default: none.
        uses_triton: whether ops without a native library run accel's Triton kernels, if ``triton``
            is installed and compiles for these devices. Default: ``False``.
        supports_nvtx_domain: whether ranges keep NVTX domains apart. Default: ``False``.
    """

    name: ClassVar[str]
    device_type: ClassVar[str]
    contract_version: ClassVar[int] = 2
    lacks: ClassVar[tuple[str, ...]] = ()
    uses_triton: ClassVar[bool] = False
    supports_nvtx_domain: ClassVar[bool] = False

    # True once the device was found, so that checks on hot paths cost nothing.
    _seen: bool = False
    _explaining: bool = False

    def is_available(self) -> bool:
        """Return whether this process can use a device of this kind. Required of every subclass.

        Creates no device context, compiles nothing, prints nothing and changes nothing.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no is_available().")

    def probe(self) -> Probe:
        """Return `Accepted`, or `Rejected` with the reason and a fix. Default: from `is_available`.

        Creates no device context, compiles nothing, prints nothing, raises nothing.
        """
        try:
            available = self.is_available()
        except FAILURES as error:
            reason = f"{type(self).__name__}.is_available() raised {type(error).__name__}: {error}."
            return Rejected(reason, "Fix the backend, or the software it asks.")
        if available:
            return Accepted()
        return Rejected(
            f"{type(self).__name__}.is_available() is False: no {self.name} device can be used.",
            f"Check the device, its driver and that torch was built for {self.device_type}.",
        )

    def has(self, capability: str) -> bool:
        """Return whether the device has a capability; use this instead of testing its name.

        Args:
            capability: one of `CAPABILITIES`. Default answer: ``True``, unless in `lacks`.

        Raises:
            ValueError: no capability has that name.
        """
        if capability not in CAPABILITIES:
            raise ValueError(f"has({capability!r}): known are {', '.join(CAPABILITIES)}.")
        return capability not in self.lacks

    def _index(self, device_index: int | None, member: str) -> int | None:
        """Return `device_index` as a plain int, ``None`` as it is.

        Raises:
            TypeError: not a whole number (``True`` is none).
            ValueError: negative.
        """
        if device_index is None:
            return None
        if isinstance(device_index, bool) or not hasattr(device_index, "__index__"):
            raise TypeError(
                f"{self.name}: {member}(device_index={device_index!r}): expected a whole number "
                f"or None, not {type(device_index).__name__}."
            )
        index = operator.index(device_index)
        if index < 0:
            raise ValueError(f"{self.name}: {member}(device_index={index}): devices count from 0.")
        return index

    def _torch_module(self, member: str) -> Any:
        """Return torch's module for the device.

        Raises:
            Unsupported: there is none, although the device can be used.
            BackendUnavailable: there is none, and the device cannot be used here.
        """
        import torch

        try:
            return torch.get_device_module(self.device_type)
        except RuntimeError as error:
            raise self._unknown_to_torch(member, str(error)) from error

    def _unknown_to_torch(self, member: str, said: str) -> BackendUnavailable | Unsupported:
        """Return the error for a member that needs a device type which torch does not have."""
        usable = False
        if not self._explaining:
            # The backend's own probe may call this member.
            self._explaining = True
            try:
                usable = self._is_usable()
            except FAILURES:
                usable = False
            finally:
                self._explaining = False
        if not usable:
            return self._unavailable(member, said)
        import torch

        return self._unsupported(
            member,
            f"torch {torch.__version__} has no module torch.{self.device_type}.",
            f"Override {member} in {type(self).__name__}, import the package that adds "
            f"{self.device_type!r} to torch, or set device_type to the name that torch has for it.",
        )

    def _attribute(self, member: str, attribute: str, way_out: str = "") -> Any:
        """Return ``torch.<device_type>.<attribute>``, or that of its ``random`` module.

        Raises:
            Unsupported: torch has neither.
        """
        module = self._torch_module(member)
        value = getattr(module, attribute, _MISSING)
        if value is _MISSING:
            value = getattr(getattr(module, "random", None), attribute, _MISSING)
        if value is _MISSING:
            import torch

            found = f"torch {torch.__version__} has no torch.{self.device_type}.{attribute}."
            raise self._unsupported(member, found, way_out)
        return value

    def _forward(self, attribute: str, *args: Any, member: str = "", way_out: str = "") -> Any:
        """Call ``torch.<device_type>.<attribute>(*args)`` for `member` (default: the same name).

        Raises:
            Unsupported: torch's module has no such function.
            BackendUnavailable: the call failed and the device cannot be used here.
        """
        member = member or attribute
        function = self._attribute(member, attribute, way_out)
        try:
            return function(*args)
        except (RuntimeError, AssertionError, ImportError, AttributeError) as error:
            if self._is_usable():
                raise
            raise self._unavailable(member, str(error)) from error

    def _torch_accelerator(self, attribute: str) -> Any:
        """Return ``torch.accelerator.<attribute>``; ``None`` if it is absent or for another device.

        No device context.
        """
        import torch

        device = torch.accelerator.current_accelerator()
        if device is None or device.type != self.device_type:
            return None
        return getattr(torch.accelerator, attribute, None)

    def _forward_at(
        self, attribute: str, device_index: int | None, *args: Any, member: str = ""
    ) -> Any:
        """Call `_forward` with the device index last, or without one if it is ``None``."""
        index = self._index(device_index, member or attribute)
        where = () if index is None else (index,)
        return self._forward(attribute, *args, *where, member=member)

    def _is_usable(self) -> bool:
        """Return `is_available`; once it was true, it is not called again."""
        if not self._seen:
            self._seen = bool(self.is_available())
        return self._seen

    def _require(self, member: str, capability: str = "") -> None:
        """Raise `Unsupported` without the capability, `BackendUnavailable` without the device."""
        if capability and not self.has(capability):
            way_out = f"Ask has({capability!r}) first."
            raise self._unsupported(member, f"the device lacks {capability!r}.", way_out)
        if not self._is_usable():
            raise self._unavailable(member, "the device is not available")

    def _unavailable(self, member: str, found: str) -> BackendUnavailable:
        """Return the error for a device that cannot be used here, with the probe's reason."""
        why: object = found.strip().partition("\n")[0]
        if not self._explaining:
            # A probe may itself fail here; then it must not run again.
            self._explaining = True
            try:
                verdict = self.probe()
            finally:
                self._explaining = False
            why = verdict if isinstance(verdict, Rejected) else why
        return BackendUnavailable(f"{self.name}: {member} was asked for, but {why}")

    def _unsupported(self, member: str, found: str, way_out: str = "") -> Unsupported:
        """Return the error for a member that this backend does not have; the caller raises it."""
        hint = way_out or f"Override {member} in {type(self).__name__}, or do without it."
        return Unsupported(f"{self.name} has no {member}: {found} {hint}")
