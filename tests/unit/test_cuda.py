"""The cuda strategy without a GPU: verdicts from facts given as data, and an answer per member."""

import inspect
import subprocess
import sys

import pytest

from accel import cuda
from accel.cuda import CUDAAccelerator
from accel.errors import AccelError
from accel.jit.tools import nvcc
from accel.nvidia import driver as nvidia
from accel.nvidia.driver import GPU, Driver
from accel.probe import Accepted, Rejected
from accel.torch_build import TorchBuild, parse_version

CPU_BUILD = TorchBuild("2.13.0+cpu", "", "")
CU130 = TorchBuild("2.13.0+cu130", "13.0", "")
ROCM = TorchBuild("2.13.0+rocm7.0", "", "7.0.1")
H100 = GPU("NVIDIA H100", "GPU-1", (9, 0), 80 << 30)
T4 = GPU("Tesla T4", "GPU-2", (7, 5), 16 << 30)
V13 = Driver("580.65", (13, 0), (H100, H100))
NO_DRIVER = Rejected("No usable NVIDIA driver: libnvidia-ml.so.1: not found.", "Install it.")


@pytest.fixture
def machine(monkeypatch):
    """Return a function that makes the strategy see a build of torch and a driver."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def make(build, driver=NO_DRIVER):
        monkeypatch.setattr(cuda, "torch_build", lambda: build)
        monkeypatch.setattr(nvidia, "read_driver", lambda: driver)
        monkeypatch.setattr(nvidia, "has_cuda", lambda: False)
        return CUDAAccelerator()

    return make


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip = None\n", CPU_BUILD),
        ("__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\nhip = None\n", CU130),
        ('__version__ = "2.13.0+rocm7.0"\nhip: Optional[str] = "7.0.1"\n', ROCM),
    ],
)
def test_torchs_build_is_read_from_its_version_file(text, expected):
    assert parse_version(text) == expected


@pytest.mark.parametrize(
    ("build", "driver", "words"),
    [
        (None, V13, "torch is not installed"),
        (CPU_BUILD, V13, "2.13.0+cpu was built without CUDA"),
        (CU130, NO_DRIVER, "libnvidia-ml.so.1"),
        (CU130, Driver("570.1", (12, 8), (H100,)), "driver 570.1 runs at most CUDA 12.8"),
        (CU130, Driver("580.65", (13, 0)), "0 GPU(s)"),
        (ROCM, NO_DRIVER, "ROCm 7.0.1 (untested)"),
    ],
)
def test_a_machine_without_cuda_is_rejected_with_what_was_found(machine, build, driver, words):
    verdict = machine(build, driver).probe()
    assert isinstance(verdict, Rejected)
    assert words in verdict.reason and verdict.fix
    assert not machine(build, driver).is_available()


def test_a_machine_with_cuda_is_accepted(machine, monkeypatch):
    accelerator = machine(CU130, V13)
    assert accelerator.probe() == Accepted("2 x NVIDIA H100, driver 580.65")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" in accelerator.probe().reason


@pytest.mark.parametrize(
    ("gpu", "bf16", "fp8"), [(H100, True, True), (T4, False, False)], ids=["H100", "T4"]
)
def test_numbers_are_answered_from_the_capability(machine, gpu, bf16, fp8):
    accelerator = machine(CU130, Driver("580.65", (13, 0), (gpu,)))
    assert accelerator.is_fp16_supported() is True
    assert accelerator.is_bf16_supported() is bf16
    assert accelerator.is_fp8_supported() is fp8


def test_free_memory_is_asked_of_the_driver_before_the_first_use(machine, monkeypatch):
    accelerator = machine(CU130, V13)
    monkeypatch.setattr(nvidia, "free_memory", {"GPU-1": 123}.__getitem__)
    assert accelerator.available_memory() == accelerator.available_memory(1) == 123


@pytest.mark.parametrize(
    ("build", "place", "defaults"),
    [
        (CU130, Rejected("none"), "7.5;8.0;9.0;10.0;11.0;12.0+PTX"),
        (TorchBuild("2.6", "11.8", ""), Rejected("none"), "3.5;5.0;6.0;7.0;8.0;9.0+PTX"),
        (CPU_BUILD, Rejected("none"), ""),
        (ROCM, Rejected("none"), ""),
    ],
)
def test_default_targets_follow_torch_where_there_is_no_toolkit(
    machine, monkeypatch, build, place, defaults
):
    monkeypatch.setattr(nvcc, "locate", lambda: place)
    assert machine(build).default_compute_capabilities() == defaults


def test_default_targets_follow_the_toolkit(machine, monkeypatch, tmp_path):
    (tmp_path / "version.json").write_text('{"cuda": {"version": "12.4.1"}}')
    place = nvcc.Location(tmp_path / "bin/nvcc", tmp_path, "CUDA_HOME")
    monkeypatch.setattr(nvcc, "locate", lambda: place)
    assert machine(CU130).default_compute_capabilities() == "5.0;6.0;7.0;8.0;9.0+PTX"


def test_rocm_is_recognised(machine):
    accelerator = machine(ROCM)
    assert accelerator.visible_devices_envs() == ["HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"]
    assert machine(CU130).visible_devices_envs() == ["CUDA_VISIBLE_DEVICES"]


def test_a_pop_without_a_push_is_an_error(machine):
    with pytest.raises(RuntimeError, match="range_pop"):
        machine(CU130).range_pop()
    with pytest.raises(RuntimeError, match="'loader'"):
        machine(CU130).range_pop("loader")


def answers(accelerator, member):
    """Call a member with plain arguments and return what came of it."""
    import torch

    value = getattr(accelerator, member)
    if not callable(value):
        return value
    plain = {
        "tensor": torch.zeros(2),
        "seed": 1,
        "device_index": 0,
        "msg": "range",
        "stream": None,
        "graph": None,
        "new_state": torch.zeros(8, dtype=torch.uint8),
        "callback": lambda: None,
        "backend": "inductor",
        "current_env": {},
        "local_accelerator_ids": [0],
        "class_name": "FusedAdamBuilder",
        "capability": "graphs",
        "module": None,
        "size": 2,
        "dtype": torch.float32,
        "new_states": [torch.zeros(8, dtype=torch.uint8)],
        "address": 4096,
        "num_bytes": 4096,
    }
    parameters = inspect.signature(value).parameters.values()
    needed = [one for one in parameters if one.default is one.empty]
    named = {one.name: plain[one.name] for one in needed if one.kind is one.KEYWORD_ONLY}
    return value(*(plain[one.name] for one in needed if one.kind is not one.KEYWORD_ONLY), **named)


MEMBERS = sorted(
    name
    for name, value in inspect.getmembers(CUDAAccelerator)
    if not name.startswith("_") and name not in ("name", "replay_graph")
)


@pytest.mark.skipif(CUDAAccelerator().is_available(), reason="there is a GPU")
@pytest.mark.parametrize("member", MEMBERS)
def test_every_member_answers_without_a_device(member):
    """With a value, or with an error of ours that names the backend; never with torch's own."""
    try:
        answers(CUDAAccelerator(), member)
    except AccelError as error:
        assert "cuda" in str(error)
    except RuntimeError as error:
        assert member == "range_pop", error


def test_asking_initialises_nothing_and_imports_no_torch():
    code = (
        "import sys; from accel.cuda import CUDAAccelerator; a = CUDAAccelerator();"
        "a.probe(); a.default_compute_capabilities(); a.is_triton_supported();"
        "assert 'torch' not in sys.modules"
    )
    if CUDAAccelerator().is_available():
        pytest.skip("Jetson and ROCm ask torch")
    subprocess.run([sys.executable, "-c", code], check=True)
