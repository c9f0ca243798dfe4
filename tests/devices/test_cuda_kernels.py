"""CUDA libraries without a GPU: they compile without a warning, export their header, and load."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from accel.builders.cuda import FusedAdamBuilder
from accel.jit import Recipe, csrc_dir, make_plan
from accel.jit.build.prebuilt import build_prebuilt
from accel.jit.tools import nvcc
from accel.nvidia.driver import read_driver
from accel.ops import abi
from accel.ops.optimizers.reference.adam import ADAM
from accel.probe import Rejected

ARCHS = ("8.0", "9.0", "10.0")
MOST_REGISTERS = 80  # more than that and fewer than 768 threads run on a multiprocessor
MOST_SPILLED = 8  # bytes
RECIPES = {
    source.stem: Recipe(
        name=source.stem,
        backend="cuda",
        sources=(source,),
        include_dirs=(csrc_dir() / "include", csrc_dir() / "cuda"),
        language="cuda",
    )
    for source in sorted((csrc_dir() / "cuda").glob("*/*.cu"))
}

pytestmark = [
    pytest.mark.skipif(isinstance(nvcc.find(), Rejected), reason="needs nvcc"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module", params=sorted(RECIPES))
def built(request, tmp_path_factory):
    """Name, library and ptxas' report of one library, compiled with warnings as errors."""
    folder = tmp_path_factory.mktemp(request.param)
    plan = make_plan(RECIPES[request.param].replace(targets=ARCHS))
    assert not isinstance(plan, Rejected), plan
    strict = ("-Werror", "all-warnings", "-Xcompiler=-Wall,-Wextra,-Werror", "-Xptxas=-v")
    report = ""
    for command in plan.commands:
        argv = (*command.argv, *(strict if command.source else ()))
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        report += done.stderr
    return request.param, folder / f"{request.param}.so", report


def test_its_exports_are_what_its_headers_declare(built):
    name, library, _ = built
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    declared_names = set()
    for header in ("abi", name):
        text = (csrc_dir() / f"include/accel/{header}.h").read_text()
        declared_names |= set(re.findall(r"^ACCEL_EXPORT [^(]*?(\w+)\(", text, re.MULTILINE))
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True
    )
    assert {line.split()[-1] for line in listed.stdout.splitlines()} == declared_names


def test_no_kernel_spills_or_hoards_registers(built, record_property):
    name, _, report = built
    # ptxas says for which function it speaks, then what it spills, then what it uses.
    pattern = (
        r"Compiling entry function '(\w+)' for '(\w+)'\n.*\n"
        r" +(\d+) bytes stack frame, (\d+) bytes spill stores.*\n.*Used (\d+) registers"
    )
    kernels = re.findall(pattern, report)
    used = [int(kernel[-1]) for kernel in kernels]
    most = max(int(kernel[3]) for kernel in kernels)
    said = f"{len(kernels)} kernels, {min(used)} to {max(used)} registers, {most} B spilled"
    record_property(name, said)  # kept by pytest --junit-xml
    print(f"{name}: {said}")  # noqa: T201
    assert len(kernels) == report.count("Compiling entry function")
    assert max(used) <= MOST_REGISTERS
    for function, arch, stack, spilled, _ in kernels:
        # ptxas gives up a word or two where that lets another block run beside.
        assert max(int(stack), int(spilled)) <= MOST_SPILLED, f"{function} for {arch}"


def test_it_links_neither_torch_nor_a_cuda_runtime(built):
    _, library, _ = built
    needed = set(re.findall(rb"\0(lib[\w+-]+)\.so", Path(library).read_bytes()))
    assert b"libc" in needed
    assert not {name for name in needed if b"torch" in name or b"c10" in name or b"cudart" in name}


def test_it_loads_and_says_which_error_the_runtime_had(built):
    _, library, _ = built
    handle = ctypes.CDLL(str(library))
    handle.accel_status_text.restype = ctypes.c_char_p
    assert handle.accel_abi_version() == abi.ABI_VERSION
    assert handle.accel_status_text(abi.DEVICE_ERROR + 2) == b"cudaErrorMemoryAllocation"
    assert handle.accel_status_text(abi.BAD_DTYPE).startswith(b"no kernel")
    assert handle.accel_status_text(99) == b"unknown status"


@pytest.mark.skipif(not isinstance(read_driver(), Rejected), reason="there is a driver")
def test_a_launch_without_a_driver_is_an_error_with_a_name(built):
    name, library, _ = built
    if name != "adam":
        pytest.skip("one library is enough")
    handle = ctypes.CDLL(str(library))
    handle.accel_status_text.restype = ctypes.c_char_p
    handle.accel_adam_step.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    numel, at = (ctypes.c_int64 * 1)(4), (ctypes.c_void_p * 1)(16)
    args = ADAM.args(struct_size=ctypes.sizeof(ADAM.args), count=1)
    args.numels = ctypes.addressof(numel)
    for role in ("params", "grads", "exp_avgs", "exp_avg_sqs"):
        setattr(args, role, ctypes.addressof(at))
    status = handle.accel_adam_step(ctypes.addressof(args), None)
    assert status > abi.DEVICE_ERROR
    assert handle.accel_status_text(status) in (
        b"cudaErrorInsufficientDriver",
        b"cudaErrorNoDevice",
    )


def test_a_prebuilt_folder_needs_no_device(cache_dir, tmp_path):
    recipe = FusedAdamBuilder().recipe().replace(targets=("9.0",))
    folder = build_prebuilt(recipe, tmp_path / "out")
    assert '"9.0+PTX"' in (folder / "manifest.json").read_text()


def test_an_architecture_that_nvcc_dropped_is_an_answer():
    plan = make_plan(RECIPES["adam"].replace(targets=("3.5",)))
    assert isinstance(plan, Rejected)
    assert "3.5" in plan.reason and "nvcc" in plan.reason
