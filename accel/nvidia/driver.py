"""Facts from the NVIDIA driver by NVML, without a CUDA context and safe to fork."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache

from accel import environment
from accel.nvidia.nvml import NVML, Calls, session
from accel.nvidia.nvml import NvmlError as NvmlError
from accel.probe import Rejected
from accel.record import Record


class GPU(Record):
    """One GPU, or one MIG instance of a GPU.

    Attributes:
        name: the product's name.
        uuid: ``"GPU-..."`` or ``"MIG-..."``.
        capability: major and minor compute capability.
        memory: total memory in bytes.
        mig: the GPU's MIG instances; ``None`` if MIG mode is off.
        pci: the GPU's address as in Linux's sysfs, ``"0000:3b:00.0"``; ``""`` if it has none.
    """

    name: str
    uuid: str
    capability: tuple[int, int]
    memory: int
    mig: tuple[GPU, ...] | None = None
    pci: str = ""


class Driver(Record):
    """An installed driver.

    Attributes:
        version: the driver's own version, such as ``"580.65.06"``.
        cuda: the newest CUDA release that it runs.
        gpus: all its GPUs, visible or not, in the order of the PCI bus.
    """

    version: str
    cuda: tuple[int, int]
    gpus: tuple[GPU, ...] = ()


@lru_cache(maxsize=4)
def read_driver(library: str = NVML) -> Driver | Rejected:
    """Return the installed driver, or why there is none. `library` is NVML's file name.

    The driver is read once per process, since a failing one may take seconds to answer.
    """
    try:
        return _read_driver(library)
    except (OSError, NvmlError) as error:
        return Rejected(
            f"No usable NVIDIA driver: {error}.",
            "Install the NVIDIA driver, or run the container with its GPUs.",
        )


def has_cuda() -> bool:
    """Return whether the driver's CUDA library can be loaded; true without NVML on a Jetson."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def free_memory(uuid: str, library: str = NVML) -> int:
    """Return the bytes that are free now on the GPU or MIG instance of that UUID.

    Raises:
        OSError: there is no NVML.
        NvmlError: NVML knows no such device or refuses to answer.
    """
    with session(library) as nvml:
        handle = ctypes.c_void_p()
        nvml("nvmlDeviceGetHandleByUUID", uuid.encode(), ctypes.byref(handle))
        return nvml.memory(handle).free


def visible(gpus: Sequence[GPU], selected: str | None) -> tuple[GPU, ...]:
    """Return the GPUs that CUDA would enumerate, by the rules of its programming guide.

    Args:
        gpus: the driver's GPUs.
        selected: the value of ``CUDA_VISIBLE_DEVICES``: indices, ``GPU-`` or ``MIG-`` ids (or the
            beginning of one); ``None`` if it is unset. The list ends at the first entry that
            names no device; a device named twice empties it.

    As soon as one MIG instance is visible, CUDA enumerates the first instance and nothing else.
    """
    found = tuple(gpus) if selected is None else _selected(gpus, selected)
    instances = [
        instance
        for gpu in found
        for instance in ((gpu,) if gpu.uuid.startswith("MIG-") else gpu.mig or ())
    ]
    if instances:
        return (instances[0],)
    return tuple(gpu for gpu in found if gpu.mig is None)


def visible_gpus(driver: Driver) -> tuple[GPU, ...]:
    """Return `visible` of the driver's GPUs for this process's ``CUDA_VISIBLE_DEVICES``."""
    return visible(driver.gpus, environment.visible_devices("CUDA_VISIBLE_DEVICES"))


def pci_addresses() -> tuple[str, ...]:
    """Return the PCI addresses of the visible GPUs in CUDA's order; empty if that is not known.

    Among unlike GPUs, CUDA numbers the fastest first, which the driver's order does not show.
    """
    driver = read_driver()
    if isinstance(driver, Rejected) or len(visible_capabilities(driver)) > 1:
        return ()
    return tuple(gpu.pci for gpu in visible_gpus(driver))


def visible_capabilities(driver: Driver) -> tuple[tuple[int, int], ...]:
    """Return the compute capabilities that code for this process may meet, each once.

    Among unlike GPUs, indices mean another order unless ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` (CUDA
    then numbers the fastest first), so that every GPU's capability counts there.
    """
    order = environment.visible_devices("CUDA_DEVICE_ORDER")
    selected = environment.visible_devices("CUDA_VISIBLE_DEVICES")
    chosen = visible_gpus(driver)
    unlike = len({gpu.capability for gpu in driver.gpus}) > 1
    by_index = selected is not None and not selected.startswith(("GPU-", "MIG-"))
    if chosen and unlike and by_index and order != "PCI_BUS_ID":
        chosen = driver.gpus
    return tuple(sorted({gpu.capability for gpu in chosen}))


def _selected(gpus: Sequence[GPU], text: str) -> tuple[GPU, ...]:
    by_id = {gpu.uuid: gpu for gpu in gpus}
    by_id |= {instance.uuid: instance for gpu in gpus for instance in gpu.mig or ()}
    found: list[GPU] = []
    for entry in map(str.strip, text.split(",")):
        if entry.startswith(("GPU-", "MIG-")):
            matches = [gpu for uuid, gpu in by_id.items() if uuid.startswith(entry)]
        else:
            index = _leading_number(entry)
            matches = list(gpus[index : index + 1]) if index is not None else []
        if len(matches) != 1:
            break
        if matches[0] in found:
            return ()
        found.append(matches[0])
    return tuple(found)


def _leading_number(text: str) -> int | None:
    """Read as C's strtoul does, so that ``"1gpu"`` is 1; ``None`` if no digit leads."""
    digits = len(text) - len(text.lstrip("0123456789"))
    return int(text[:digits]) if digits and text.isascii() else None


def _read_driver(library: str) -> Driver:
    with session(library) as nvml:
        release = ctypes.c_int()
        nvml("nvmlSystemGetCudaDriverVersion_v2", ctypes.byref(release))
        count = ctypes.c_uint()
        nvml("nvmlDeviceGetCount_v2", ctypes.byref(count))
        gpus: list[GPU] = []
        for index in range(count.value):
            handle = ctypes.c_void_p()
            nvml("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
            gpus.append(_gpu(nvml, handle))
        cuda = (release.value // 1000, release.value % 1000 // 10)
        return Driver(nvml.text("nvmlSystemGetDriverVersion"), cuda, tuple(gpus))


def _gpu(nvml: Calls, handle: ctypes.c_void_p) -> GPU:
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvml("nvmlDeviceGetCudaComputeCapability", handle, ctypes.byref(major), ctypes.byref(minor))
    capability = (major.value, minor.value)
    name = nvml.text("nvmlDeviceGetName", handle)
    instances = None
    pci = nvml.pci_address(handle)
    if (handles := _mig_handles(nvml, handle)) is not None:
        instances = tuple(_describe(nvml, mig, name, capability, pci) for mig in handles)
    return _describe(nvml, handle, name, capability, pci, instances)


def _describe(
    nvml: Calls,
    handle: ctypes.c_void_p,
    name: str,
    capability: tuple[int, int],
    pci: str,
    mig: tuple[GPU, ...] | None = None,
) -> GPU:
    uuid = nvml.text("nvmlDeviceGetUUID", handle)
    try:
        memory = nvml.memory(handle).total
    except NvmlError:  # integrated GPUs share the host's memory and have no figure of their own
        memory = 0
    return GPU(name, uuid, capability, memory, mig, pci)


def _mig_handles(nvml: Calls, handle: ctypes.c_void_p) -> list[ctypes.c_void_p] | None:
    current, pending = ctypes.c_uint(), ctypes.c_uint()
    try:
        nvml("nvmlDeviceGetMigMode", handle, ctypes.byref(current), ctypes.byref(pending))
    except NvmlError:  # a GPU or driver without MIG
        return None
    if not current.value:
        return None
    most = ctypes.c_uint()
    nvml("nvmlDeviceGetMaxMigDeviceCount", handle, ctypes.byref(most))
    found: list[ctypes.c_void_p] = []
    for index in range(most.value):
        instance = ctypes.c_void_p()
        arguments = (handle, ctypes.c_uint(index), ctypes.byref(instance))
        try:
            nvml("nvmlDeviceGetMigDeviceHandleByIndex", *arguments)
        except NvmlError:  # slots may be empty, in any place
            continue
        found.append(instance)
    return found
