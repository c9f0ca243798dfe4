"""The ``sim`` backend: simulated devices, which their maker's `torch_sim` brings to torch."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from accel import Accelerator
from accel.probe import Accepted, Probe, Rejected

_INSTALL = "Put its maker's package torch_sim on the path, and build it: python -m simulator."


class SimAccelerator(Accelerator):
    """Simulated devices; all that is not said here is as for any device of torch's."""

    name = "sim"
    communication_backend = "simccl"
    compile_backend = "aot_eager"
    visible_devices_env = ("SIM_VISIBLE_DEVICES",)
    op_builders = "accel_sim.builders"
    lacks = ("graphs",)

    def is_available(self) -> bool:
        """Whether the maker's package is there and sees a device."""
        return bool(self.probe())

    def probe(self) -> Probe:
        """Return whether the device can be used, else why not; importing gives torch the device."""
        if find_spec("torch_sim") is None:
            return Rejected("torch_sim is not installed.", _INSTALL)
        try:
            count = import_module("torch_sim").sim.device_count()
        except ImportError as error:
            return Rejected(f"torch_sim cannot be imported: {error}", _INSTALL)
        if count == 0:
            return Rejected("torch_sim sees no device.", "Unset SIM_VISIBLE_DEVICES, or name 0.")
        return Accepted(f"{count} simulated device(s)")
