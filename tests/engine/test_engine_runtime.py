"""Libraries that need no C++ runtime: linked sooner, and at home beside any libstdc++."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from compilers import compilers

from accel import jit
from accel.builders import cpu
from accel.errors import BuildFailed

THROWS = """#include <new>
extern "C" __attribute__((visibility("default"))) int value(int n) {
  try {
    if (n) throw std::bad_alloc();
  } catch (const std::bad_alloc &) {
    return 7;
  }
  return 0;
}
"""
# Steps that differ make the kernel keep numbers for each of two million tensors, for which there
# is no memory left.
STEPS_WITHOUT_MEMORY = """
import ctypes, resource
import torch
from accel import jit
from accel.builders import cpu
from accel.ops.optimizers.reference.adam import ADAM

step = jit.acquire(cpu.FusedAdamBuilder().recipe()).handle.accel_adam_step
count = 1 << 21  # more than what malloc keeps aside for a thread
values, steps = torch.ones(4), torch.zeros(count)
steps[1] = 1.0
numels = torch.zeros(count, dtype=torch.int64)
numels[0] = 1
lists = [torch.full((count,), value.data_ptr()) for value in values]
first = steps.data_ptr()
each_step = torch.arange(first, first + 4 * count, 4)
args = ADAM.args(struct_size=ctypes.sizeof(ADAM.args), count=count, num_threads=1, lr=0.1, flags=2)
args.numels, args.steps = numels.data_ptr(), each_step.data_ptr()
for name, where in zip(("params", "grads", "exp_avgs", "exp_avg_sqs"), lists, strict=True):
    setattr(args, name, where.data_ptr())

def state():
    return values.tolist(), steps[:3].tolist()

before = state()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), -1))
status = step(ctypes.byref(args), None)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print(status, state() == before, step(ctypes.byref(args), None), state() == before)
"""


@pytest.mark.parametrize("compiler", compilers())
def test_the_kernels_ask_for_no_runtime_but_c_and_openmp(
    compiler: str, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler)
    if shutil.which("readelf") is None:
        pytest.skip("reads what a library needs with readelf")
    for builder in (cpu.FusedAdamBuilder, cpu.FusedLambBuilder, cpu.Adam8bitBuilder):
        path = jit.acquire(builder().recipe()).path
        told = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True)
        needed = set(re.findall(r"\(NEEDED\).*\[lib(\w+)\.so", told.stdout))
        assert needed - {"gomp", "omp"} == {"c", "m"}


def test_sources_that_throw_are_linked_with_the_runtime(tmp_path: Path, cache_dir: Path) -> None:
    source = tmp_path / "op.cpp"
    source.write_text(THROWS)
    recipe = jit.Recipe("op", "cpu", (source,))
    assert jit.acquire(recipe).handle.value(1) == 7
    with pytest.raises(BuildFailed, match="undefined reference"):
        jit.acquire(recipe.replace(cxx_runtime=False))


def test_a_kernel_without_memory_says_so_and_has_written_nothing(cache_dir: Path) -> None:
    script = [sys.executable, "-c", STEPS_WITHOUT_MEMORY]
    told = subprocess.run(script, capture_output=True, text=True, check=True, timeout=120)
    assert told.stdout.split() == ["5", "True", "0", "False"], told
