"""A stranger's accelerator: the host under another name, written from the README alone."""

import torch

import accel


class StrangerAccelerator(accel.Accelerator):
    name = "stranger"
    device_type = "cpu"
    communication_backend = "gloo"
    lacks = ("streams", "events", "graphs", "memory", "peaks", "pinning")

    def is_available(self):
        return True

    def is_synchronized_device(self):
        return True

    def current_device(self):
        return 0

    def get_rng_state(self, device_index=None):
        self._index(device_index, "get_rng_state")
        return torch.get_rng_state()

    def set_rng_state(self, new_state, device_index=None):
        self._index(device_index, "set_rng_state")
        torch.set_rng_state(new_state)

    def manual_seed(self, seed):
        torch.default_generator.manual_seed(seed)

    def manual_seed_all(self, seed):
        self.manual_seed(seed)

    def initial_seed(self):
        return torch.initial_seed()

    def default_generator(self, device_index=None):
        self._index(device_index, "default_generator")
        return torch.default_generator
