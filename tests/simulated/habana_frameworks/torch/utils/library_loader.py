"""Whether the driver is there."""

from simulator.library import device_count


def is_habana_available() -> bool:
    return device_count() > 0
