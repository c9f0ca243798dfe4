"""The seven shapes of ops that one declaration carries, native and by reference."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from frame_builds import built
from frame_ops import layers, lists
from frame_ops.shared import MeanOverRanks
from triton_marks import needs_triton, passes

from accel.builders.convention import conventional, find
from accel.errors import AccelError
from accel.ops.frame.declaration import DeclaredOp
from accel.ops.utils.byte_views import Utils


@pytest.fixture(scope="module")
def native_layers() -> Any:
    return built("layers", "frame_ops.layers:Layers")


@pytest.fixture(scope="module")
def native_lists() -> Any:
    return built("lists", "frame_ops.lists:Lists")


@pytest.fixture(params=["native", "reference"])
def either_layers(request: Any, native_layers: Any) -> Any:
    return native_layers if request.param == "native" else layers.Layers()


@pytest.fixture(params=["native", "reference"])
def either_lists(request: Any, native_lists: Any) -> Any:
    return native_lists if request.param == "native" else lists.Lists()


def test_in_place_over_lists(either_lists: Any) -> None:
    averages = [torch.ones(3), torch.zeros(0), torch.full((2, 2), 4.0)]
    values = [torch.zeros(3), torch.zeros(0), torch.zeros(2, 2)]
    before = [one._version for one in averages]
    assert either_lists.moving_average_(averages, values, 0.25) is None
    assert averages[0].tolist() == [0.25] * 3
    assert averages[2].tolist() == [[1.0, 1.0]] * 2
    assert averages[0]._version > before[0]
    assert either_lists.moving_average_([], [], 0.5) is None


def test_results_of_another_dtype(either_lists: Any) -> None:
    values = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 4.0]])
    codes, scales = either_lists.quantize(values, 2)
    assert codes.dtype == torch.int8 and codes.shape == (2, 3)
    assert codes.tolist() == [[64, -127, 32], [0, 0, 127]]
    assert torch.allclose(scales, torch.tensor([2.0, 4.0]) / 127)


def test_reduction_to_a_scalar_on_the_device(either_lists: Any) -> None:
    norm = either_lists.total_norm([torch.full((3,), 2.0), torch.full((2, 2), 1.0)])
    assert norm.shape == () and norm.item() == pytest.approx(4.0)


def test_op_with_a_derivative(either_layers: Any) -> None:
    gate, up = (torch.randn(4, 5, requires_grad=True) for _ in range(2))
    result = either_layers.silu_mul(gate, up)
    exact = torch.nn.functional.silu(gate) * up
    assert torch.allclose(result, exact, atol=1e-6)
    grads = torch.autograd.grad(result.sum(), (gate, up))
    for found, wanted in zip(grads, torch.autograd.grad(exact.sum(), (gate, up)), strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)


def test_numbers_of_every_kind(either_layers: Any) -> None:
    x, bias = torch.ones(3), torch.full((3,), 10.0)
    assert either_layers.scaled(x, None, 4).tolist() == [2.0] * 3
    assert either_layers.scaled(x, bias, 4, factor=1, negate=True).tolist() == [6.0] * 3
    assert either_layers.scaled(x, bias=None, times=777).tolist() == [388.5] * 3


def test_handle_with_state_and_errno(tmp_path: Path) -> None:
    op = built("files", "frame_ops.files:Files")
    (tmp_path / "data").write_bytes(b"12345678")
    reader = op.reader(tmp_path / "data")
    buffer = torch.zeros(5, dtype=torch.uint8)
    assert [reader.read(buffer), reader.read(buffer), reader.call("total")] == [5, 3, 8]
    with pytest.raises(FileNotFoundError) as caught:
        op.reader(tmp_path / "none")
    assert caught.value.errno == errno.ENOENT and caught.value.filename == str(tmp_path / "none")
    folder = op.reader(tmp_path)
    with pytest.raises(IsADirectoryError):
        folder.read(buffer)
    reader.close()
    reader.close()
    with pytest.raises(AccelError, match="closed"):
        reader.call("total")


def test_handle_in_a_child_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"1")
    reader = built("files", "frame_ops.files:Files").reader(tmp_path / "data")
    child = os.fork()
    if child == 0:
        try:
            reader.call("total")
        except AccelError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert reader.call("total") == 0


def test_handles_wait_without_the_interpreters_lock(tmp_path: Path) -> None:
    """Pitfall 21: while one thread waits in a handle, this one goes on."""
    (tmp_path / "data").write_bytes(b"1")
    reader = built("files", "frame_ops.files:Files").reader(tmp_path / "data")
    waiting = threading.Thread(target=reader.call, args=("sleep", 500))
    waiting.start()
    turns = 0
    while waiting.is_alive():
        time.sleep(0.01)
        turns += 1
    assert turns > 2


def _rank(rank: int, store: str) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    x = torch.full((3,), float(rank * 2))
    op = MeanOverRanks()
    op(x)
    assert x.tolist() == [1.0] * 3
    compiled = torch.compile(lambda t: op(t), fullgraph=True, backend="aot_eager")
    x = torch.full((3,), float(rank * 4))
    compiled(x)
    assert x.tolist() == [2.0] * 3
    # A rank whose peer has gone already may abort in gloo.
    dist.barrier()
    dist.destroy_process_group()


def test_op_over_two_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_rank, (str(tmp_path / "store"),), nprocs=2)  # type: ignore[no-untyped-call]


def test_bytes_and_views() -> None:
    op = Utils()
    source = torch.randn(3, 4, dtype=torch.bfloat16)
    found = op.cast_to_byte_tensor(source)
    assert found.dtype == torch.uint8 and found.shape == (24,)
    assert found.data_ptr() == source.data_ptr()
    # DeepSpeed's own gives these back as they are: an int8, and floats.
    for small in (torch.ones(1, dtype=torch.int8), torch.zeros(0)):
        assert op.cast_to_byte_tensor(small).dtype == torch.uint8
    many = op.cast_to_byte_tensor([source, torch.ones(2)])
    assert [one.numel() for one in many] == [24, 8]
    # Nor does the memory go with the source.
    kept = op.cast_to_byte_tensor(torch.full((64,), 1.0))
    torch.empty(64).fill_(7.0)
    assert kept.view(torch.float32).tolist() == [1.0] * 64
    for bad, kind in (
        (torch.zeros(8)[::2], ValueError),
        (torch.zeros(1).expand(4), ValueError),
        (torch.zeros(2, dtype=torch.complex64).conj(), ValueError),
        (torch.eye(2).to_sparse(), TypeError),
        ("bytes", TypeError),
        (None, TypeError),
    ):
        with pytest.raises(kind, match="src_tensor"):
            op.cast_to_byte_tensor(bad)


def test_sources_are_found_by_the_ops_name() -> None:
    sources, triton = find("layers", "frame_ops.layers:Layers", "cpu")
    assert sources[0].endswith("frame_ops/csrc/cpu/layers.cpp") and triton == ""
    assert find("silu_mul", "frame_ops.layers:SiluMul", "cuda") == ((), "frame_ops.triton.silu_mul")
    assert find("anything", "no_such_package.module:Op", "cpu") == ((), "")
    builder = conventional("XBuilder", "silu_mul", "frame_ops.layers:SiluMul", "hpu")
    assert builder().load().implementation == "reference"


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("f(float8 x) -> Tensor", "float8"),
        ("f(Tensor[][] x) -> ()", r"Tensor\[\]\[\]"),
        ("f(Tensor x, Tensor x) -> ()", "two arguments"),
        ("f(Tensor x, int a=1.5) -> ()", "default"),
        ("f(Tensor x, int a=1, int b) -> ()", "needs a default"),
        ("f(Tensor x) -> int", "returns"),
        ("f(Tensor x)", "form"),
        ("f(int handle) -> ()", "takes no tensor"),
        ("f(Tensor? x) -> ()", "cannot be None"),
        ("f(Tensor x) -> Tensor", "outputs"),
        ("f(Tensor codes) -> ()", "the name codes itself"),
        ("f(Tensor x, int status) -> ()", "the name status itself"),
        ("run(Tensor x) -> ()", "the name run itself"),
        ("f(Tensor outputs) -> Tensor", "the name outputs itself"),
    ],
)
def test_declarations_that_contradict_themselves(schema: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        type("F", (DeclaredOp,), {"schema": schema, "reference": lambda self, *_: None})


@pytest.mark.parametrize("name", ["layers", "lists"])
def test_first_cases_of_conformance_follow_from_the_declaration(name: str) -> None:
    from accel.builders import lookup
    from accel.cpu import CPUAccelerator
    from accel.testing import OpConformance

    target = f"frame_ops.{name}:{name.title()}"
    lookup.register_op(f"frame_{name}", target)
    try:
        kind: Any = type("Suite", (OpConformance,), {
            "accelerator": CPUAccelerator, "ops": (f"frame_{name}",)})  # fmt: skip
        suite = kind()
        suite.acc = CPUAccelerator()
        [spec] = suite._specs()
        assert {*spec.kinds} == {op.parsed.name for op in getattr(
            {"layers": layers, "lists": lists}[name], name.title()).ops}  # fmt: skip
        native = built(name, target)
        for op in (native, suite._load(spec, reference=True)):
            for case in spec.cases():
                from accel.testing.judging import problem_of

                assert problem_of(spec, op, case, suite.acc) == ""
    finally:
        lookup._registered.pop(f"frame_{name}")


def test_the_documented_op_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs/add-an-op.md").read_text()
    blocks = re.findall(
        r"`my_package/([\w/.]+)`[^`]*(?:`[^`]+`[^`]*)*?:\n\n```\w+\n(.*?)```", page, re.S
    )
    assert [path for path, _ in blocks] == ["layers.py", "csrc/cpu/silu_mul.cpp"]
    for path, text in [*blocks, ("__init__.py", "")]:
        file = tmp_path / "my_package" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    op = built("silu_mul", "my_package.layers:SiluMul")
    gate, up = (torch.randn(5, requires_grad=True) for _ in range(2))
    exact = torch.nn.functional.silu(gate) * up
    for call in (op, op.silu_mul, torch.ops.my_package.silu_mul):
        found = call(gate, up)
        assert torch.allclose(found, exact, atol=1e-6)
        (ours,) = torch.autograd.grad(found.sum(), up)
        assert torch.allclose(ours, torch.nn.functional.silu(gate), atol=1e-6)


@pytest.mark.portable
@needs_triton
def test_the_portable_rung_is_found_by_the_ops_name() -> None:
    passes("test_frame.py")
