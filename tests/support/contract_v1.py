"""A backend written for version 1 of the contract, frozen: it must pass for ever as it is."""

import contextlib
import time

import torch

from accel import Accelerator
from accel.base import DeviceProperties
from accel.errors import Unsupported
from accel.probe import Accepted


class Clock:
    def __init__(self, enable_timing=False):
        self.timed = enable_timing
        self.at = None

    def record(self, stream=None):
        self.at = time.perf_counter()

    def wait(self, stream=None):
        pass

    def synchronize(self):
        pass

    def query(self):
        return True

    def elapsed_time(self, end_event):
        if not (self.timed and end_event.timed):
            raise RuntimeError("made without timing")
        return (end_event.at - self.at) * 1000.0


class VersionOne(Accelerator):
    name = "version_one"
    device_type = "cpu"
    contract_version = 1
    lacks = ("streams", "graphs", "memory", "peaks", "pinning")
    communication_backend = "gloo"
    visible_devices_env = ("VERSION_ONE_DEVICES",)
    exported_env = ("VERSION_ONE",)
    op_builders = ""

    def is_available(self):
        return True

    def probe(self):
        return Accepted("always")

    def is_synchronized_device(self):
        return True

    def use_host_timers(self):
        return True

    def resolves_data_dependency(self):
        return True

    def handles_memory_backpressure(self):
        return True

    def set_device(self, device_index):
        if self._index(device_index, "set_device") != 0:
            raise ValueError("there is one device")

    def current_device(self):
        return 0

    def device_count(self):
        return 1

    def synchronize(self, device_index=None):
        self._index(device_index, "synchronize")

    def on_accelerator(self, tensor):
        return tensor.device.type == "cpu"

    def device_properties(self, device_index=None):
        self._index(device_index, "device_properties")
        return DeviceProperties("one", None, 0, None, None)

    def random(self):
        return torch.random

    def get_rng_state(self, device_index=None):
        self._index(device_index, "get_rng_state")
        return torch.get_rng_state()

    def set_rng_state(self, new_state, device_index=None):
        self._index(device_index, "set_rng_state")
        torch.set_rng_state(new_state)

    def manual_seed(self, seed):
        torch.default_generator.manual_seed(seed)

    def manual_seed_all(self, seed):
        torch.default_generator.manual_seed(seed)

    def initial_seed(self):
        return torch.default_generator.initial_seed()

    def default_generator(self, device_index=None):
        self._index(device_index, "default_generator")
        return torch.default_generator

    @property
    def Event(self):
        return Clock

    def stream(self, stream):
        return contextlib.nullcontext()

    def create_graph(self):
        raise Unsupported("version_one has no graphs")

    def empty_cache(self):
        pass

    def memory_allocated(self, device_index=None):
        self._index(device_index, "memory_allocated")
        raise Unsupported("version_one counts no memory")

    def pin_memory(self, tensor, make_copy=True, match_shape=True):
        return tensor if match_shape else tensor.reshape(-1)

    def is_pinned(self, tensor):
        return False

    def unpin_memory(self, tensor):
        return tensor

    def is_bf16_supported(self):
        return True

    def is_fp16_supported(self):
        return False

    def is_fp8_supported(self):
        return False

    def supported_dtypes(self):
        return [torch.float32, torch.bfloat16]

    def is_triton_supported(self):
        return False

    def prefer_triton_grouped_mm(self):
        return False

    def range_push(self, msg, domain=None, category=None):
        super().range_push(msg, domain, category)

    def range_pop(self, domain=None):
        super().range_pop(domain)

    def lazy_call(self, callback):
        callback()

    def communication_backend_name(self):
        return "gloo"

    def get_compile_backend(self):
        return super().get_compile_backend()

    def set_compile_backend(self, backend):
        super().set_compile_backend(backend)

    def export_envs(self):
        return ["VERSION_ONE"]

    def visible_devices_envs(self):
        return ["VERSION_ONE_DEVICES"]

    def set_visible_devices_envs(self, current_env, local_accelerator_ids):
        current_env["VERSION_ONE_DEVICES"] = ",".join(map(str, local_accelerator_ids))

    def op_builder_dir(self):
        return ""

    def get_op_builder(self, class_name):
        return super().get_op_builder(class_name)

    def create_op_builder(self, class_name):
        return self.get_op_builder(class_name)()

    def default_compute_capabilities(self):
        return ""

    def build_extension(self):
        from torch.utils.cpp_extension import BuildExtension

        return BuildExtension
