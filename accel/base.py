"""`Accelerator`: the contract, one documented meaning and one return type on every backend.

Its members are in `accel.contract`, by topic; each has a default that forwards to torch's module
for the device, or raises `Unsupported`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from accel.contract.amp import AmpMembers
from accel.contract.dtypes import DtypeMembers, TensorFactory
from accel.contract.forward import CAPABILITIES, Forwarding
from accel.contract.memory import MemoryMembers
from accel.contract.ops import OpMembers
from accel.contract.randomness import RandomMembers
from accel.contract.streams import StreamMembers
from accel.contract.tools import ToolMembers

if TYPE_CHECKING:
    from accel.contract.properties import DeviceProperties

__all__ = ["CAPABILITIES", "Accelerator", "DeviceProperties", "TensorFactory"]


class Accelerator(
    RandomMembers, StreamMembers, DtypeMembers, AmpMembers, MemoryMembers, ToolMembers, OpMembers
):
    """A strategy for one kind of device. A subclass needs a `name` and `is_available`, no more.

    ::

        class NPU(Accelerator):
            name = "npu"

            def is_available(self) -> bool:
                return find_spec("torch_npu") is not None and torch.npu.is_available()

    Creating an instance changes nothing in the process and touches no device. A member that the
    device does not support raises `Unsupported`. If the device or its software is absent, a member
    that needs it raises `BackendUnavailable`. Arguments of a wrong type or range raise `TypeError`
    or `ValueError`, which name them.
    """

    name: ClassVar[str] = ""
    device_type: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Set `device_type` to the backend's name, unless the class or a parent defines it."""
        super().__init_subclass__(**kwargs)
        if not cls.device_type:
            cls.device_type = cls.name

    def __new__(cls, *args: Any, **kwargs: Any) -> Accelerator:
        """Refuse a class without the two required members, naming the missing ones.

        Raises:
            TypeError: the class has no `name` or no `is_available`.
        """
        missing = []
        if not isinstance(cls.name, str) or not cls.name:
            missing.append('name (a class attribute such as name = "npu")')
        if cls.is_available is Forwarding.is_available:
            missing.append("is_available() -> bool")
        if missing:
            raise TypeError(
                f"{cls.__module__}.{cls.__qualname__} is not an accelerator yet: define "
                f"{' and '.join(missing)}. Everything else has a default."
            )
        return super().__new__(cls)

    @property
    def _name(self) -> str:
        """`name`, under the attribute that programs for DeepSpeed's class use."""
        return self.name

    def __repr__(self) -> str:
        """Name the class and the device type."""
        return f"{type(self).__name__}({self.name!r})"


def __getattr__(name: str) -> Any:
    """Return `DeviceProperties`, which is made on first use."""
    if name != "DeviceProperties":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from accel.contract.properties import DeviceProperties

    return DeviceProperties
