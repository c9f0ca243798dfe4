"""Every pitfall that an op of one's own falls into, by number; the frame is to know it.

A test's number is the pitfall's: 1 a compiler, 2 tensors without memory, 3 and 4 no derivative,
5 writes, 6 and 7 the dispatcher's defaults and None, 8 and 9 transforms and tangents, 10 mixed
dtypes, 11 codes that a library lacks, 12 layouts, 13 aliases, 15 empty lists, 16 a module loaded
again, 17 subclasses, 18 exported programs, 22 profilers, 24 tensors that live as long as a call,
25 signs of views. In `test_habits_frame`: 14 and 19 schemas, 20 and 21 handles.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from frame_builds import built
from frame_ops import layers, lists
from torch import Tensor

from accel.errors import AccelError
from accel.ops.frame import dispatch
from accel.ops.frame.declaration import DeclaredOp, OpSet

HERE = Path(__file__).parents[2] / "support"


@pytest.fixture(scope="module")
def op() -> Any:
    return built("layers", "frame_ops.layers:Layers")


@pytest.fixture(scope="module")
def many() -> Any:
    return built("lists", "frame_ops.lists:Lists")


def exact(gate: Tensor, up: Tensor) -> Tensor:
    return torch.nn.functional.silu(gate) * up


def pair(*shape: int, grad: bool = False) -> tuple[Tensor, Tensor]:
    return torch.randn(shape, requires_grad=grad), torch.randn(shape, requires_grad=grad)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("grad", [False, True])
def test_01_a_compiler_sees_one_op_without_a_break(op: Any, backend: str, grad: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda g, u: op.silu_mul(g, u) + 1, fullgraph=True, backend=backend)
    for size in (4, 6, 9):  # the second size makes it dynamic
        gate, up = pair(size, 3, grad=grad)
        found = compiled(gate, up)
        assert torch.allclose(found, exact(gate, up) + 1, atol=1e-6)
        if grad:
            ours = torch.autograd.grad(found.sum(), (gate, up))
            theirs = torch.autograd.grad(exact(gate, up).sum(), (gate, up))
            assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


def test_01_every_op_compiles(op: Any, many: Any) -> None:
    torch._dynamo.reset()

    def everything(x: Tensor, averages: list[Tensor]) -> Any:
        many.moving_average_(averages, [x, x], 0.5)
        scaled = op.scaled(x, x, 3, factor=0.25)
        return many.quantize(scaled, 2), many.total_norm(averages)

    x = torch.randn(8)
    ours, theirs = ([torch.ones(8), torch.zeros(8)] for _ in range(2))
    found = torch.compile(everything, fullgraph=True, backend="aot_eager")(x, ours)
    wanted = everything(x, theirs)
    assert torch.equal(found[0][0], wanted[0][0])
    assert torch.allclose(found[1], wanted[1]) and torch.allclose(ours[0], theirs[0])


def test_02_meta_fake_and_batched_tensors_are_never_read(op: Any, many: Any) -> None:
    meta = torch.empty(3, 2, device="meta")
    assert op.silu_mul(meta, meta).device.type == "meta"
    codes, scales = many.quantize(meta, 3)
    assert codes.dtype == torch.int8 and scales.shape == (3,)
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode:
        inside = torch.empty(3)
        assert type(op.silu_mul(inside, inside)).__name__ == "FakeTensor"
    outside = mode.from_tensor(torch.ones(3))
    assert type(op.silu_mul(outside, outside)).__name__ == "FakeTensor"
    gate, up = pair(5, 3)
    assert torch.allclose(torch.vmap(op.silu_mul)(gate, up), exact(gate, up), atol=1e-6)


@pytest.mark.parametrize("native", [True, False])
def test_03_04_an_op_without_derivative_says_so_on_every_rung(op: Any, native: bool) -> None:
    scaled = op.scaled if native else layers.Scaled()
    x = torch.ones(3, requires_grad=True)
    for given in (x, x.expand(2, 3).T):
        result = scaled(given, None, 2)
        assert result.requires_grad
        with pytest.raises(RuntimeError, match="scaled has no derivative; detach x"):
            result.sum().backward()
    with pytest.raises(RuntimeError, match="no derivative"):
        torch.ops.frame_ops.scaled(x, None, 2).sum().backward()


def test_03_the_second_derivative_is_refused_not_wrong(op: Any) -> None:
    gate, up = pair(3, grad=True)
    (first,) = torch.autograd.grad(op.silu_mul(gate, up).sum(), gate, create_graph=True)
    with pytest.raises(RuntimeError, match="silu_mul_backward has no derivative"):
        first.sum().backward()


def test_05_writes_are_told_to_autograd_and_leaves_are_refused(many: Any) -> None:
    weight = torch.ones(3, requires_grad=True)
    saved = torch.ones(3)
    product = weight * saved
    many.moving_average_([saved], [torch.zeros(3)], 0.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()
    for call in (many.moving_average_, torch.ops.frame_ops.moving_average_):
        with pytest.raises(ValueError, match=r"averages\[0\] requires grad"):
            call([weight], [torch.zeros(3)], 0.5)
    with torch.no_grad():
        many.moving_average_([weight], [torch.zeros(3)], 0.5)
    assert weight.tolist() == [0.5] * 3
    with torch.inference_mode():
        made = torch.ones(2)
        many.moving_average_([made], [torch.zeros(2)], 0.5)
    with pytest.raises(ValueError, match=r"averages\[0\] was made in inference mode"):
        many.moving_average_([made], [torch.zeros(2)], 0.5)


def test_06_07_what_the_dispatcher_leaves_out_and_wants_back(op: Any, many: Any) -> None:
    x = torch.ones(2)
    call = torch.ops.frame_ops.scaled
    assert call(x, None, 4, factor=0.5, negate=False).tolist() == [2.0] * 2
    assert call(x, None, 4, negate=True).tolist() == [-2.0] * 2
    assert torch.ops.frame_ops.moving_average_([x], [x.clone()], 0.5) is None
    assert torch.ops.frame_ops.moving_average_([], [], 0.5) is None


# torch scripts its own decompositions at the first tangent.
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("native", [True, False])
def test_08_09_transforms_give_derivatives_or_refuse(op: Any, native: bool) -> None:
    silu_mul = op.silu_mul if native else layers.SiluMul()
    gate, up = pair(4, 3)

    def loss(function: Any) -> Any:
        return lambda g, u: function(g, u).square().sum()

    close = lambda a, b: torch.allclose(a, b, atol=1e-5)  # noqa: E731
    assert close(torch.func.grad(loss(silu_mul))(gate, up), torch.func.grad(loss(exact))(gate, up))
    per_row = [torch.vmap(torch.func.grad(loss(f)))(gate, up) for f in (silu_mul, exact)]
    assert close(*per_row)
    assert close(*[torch.func.jacrev(f)(gate[0], up[0]) for f in (silu_mul, exact)])
    with pytest.raises(NotImplementedError, match="gate carries a tangent"):
        torch.func.jvp(silu_mul, (gate, up), (gate, up))


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_09_a_tangent_is_refused_instead_of_lost(op: Any) -> None:
    gate, up = pair(3)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(gate, torch.ones(3))
        with pytest.raises(NotImplementedError, match="gate carries a tangent"):
            op.silu_mul(dual, up)
        assert torch.allclose(op.silu_mul(gate, up), exact(gate, up), atol=1e-6)


def test_10_mixed_dtypes_shapes_and_devices_are_refused_by_name(op: Any, many: Any) -> None:
    gate = torch.ones(3)
    for call in (op.silu_mul, torch.ops.frame_ops.silu_mul, layers.SiluMul()):
        with pytest.raises(TypeError, match=r"up has dtype torch\.bfloat16, but gate"):
            call(gate, gate.bfloat16())
        with pytest.raises(ValueError, match=r"up has shape \(2,\), but gate has \(3,\)"):
            call(gate, torch.ones(2))
        with pytest.raises(ValueError, match="up is on meta, but gate is on cpu"):
            call(gate, torch.empty(3, device="meta"))
    with pytest.raises(TypeError, match=r"values has dtype torch\.int64; expected one of float32"):
        many.quantize(torch.arange(4), 2)
    with pytest.raises(ValueError, match="values has 1 tensors, but averages has 2"):
        many.moving_average_([gate, gate], [gate], 0.5)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"x": [1.0]}, TypeError, "x is a list; expected a torch.Tensor"),
        ({"x": torch.eye(2).to_sparse()}, TypeError, "x has layout"),
        ({"bias": 1.0}, TypeError, "bias is a float"),
        ({"times": 1.5}, TypeError, "times is 1.5; expected an int"),
        ({"times": True}, TypeError, "times is True"),
        ({"times": 2**64 + 1}, ValueError, "64 bits"),
        ({"times": -1}, ValueError, "times is -1; expected a number from 0 on"),
        ({"factor": "1"}, TypeError, "factor is '1'; expected a number"),
        ({"negate": 1}, TypeError, "negate is 1; expected a bool"),
    ],
)
def test_10_every_argument_is_checked_by_its_kind(
    op: Any, change: dict[str, Any], kind: type[Exception], message: str
) -> None:
    given: dict[str, Any] = {"x": torch.ones(3), "bias": None, "times": 1}
    for call in (op.scaled, layers.Scaled()):
        with pytest.raises(kind, match=message):
            call(**given | change)
    with pytest.raises(TypeError, match="times"):
        op.scaled(given["x"], None)


def test_11_what_the_library_has_no_code_for_goes_to_the_reference(op: Any, many: Any) -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        gate, up = (one.to(dtype) for one in pair(33))
        assert torch.equal(op.silu_mul(gate, up), exact(gate, up))
    assert torch.equal(many.total_norm([torch.ones(4).double()]), torch.tensor(2.0))
    z = torch.ones(2, dtype=torch.complex64)
    assert torch.equal(op.scaled(z, None, 2), z)
    with pytest.raises(AccelError, match=r"accel_scaled in .* returned 5: out of memory"):
        op.scaled(torch.ones(2), None, 12345)


def test_12_layouts_agree_between_rungs(op: Any) -> None:
    gate, up = pair(4, 6)
    for first, second in ((gate.T, up.T), (gate[:, ::2], up[:, ::2]), (gate.T, up.T.contiguous())):
        for call in (op.silu_mul, layers.SiluMul(), torch.ops.frame_ops.silu_mul):
            found = call(first, second)
            assert found.is_contiguous()
            assert torch.allclose(found, exact(first, second), atol=1e-6)
    tail = torch.randn(10)[4:]
    assert torch.allclose(op.silu_mul(tail, tail), exact(tail, tail), atol=1e-6)


def test_12_freed_and_shrunk_memory_is_refused(op: Any) -> None:
    for start in (0, 4):
        for left in (0, 24):
            gone = torch.randn(10)[start:]
            gone.untyped_storage().resize_(left)
            for call in (op.silu_mul, layers.SiluMul()):
                with pytest.raises(ValueError, match="gate needs"):
                    call(gone, gone)


def test_13_no_result_is_an_argument() -> None:
    class Same(DeclaredOp):
        schema = "frame_same(Tensor x) -> Tensor"
        native = False

        def outputs(self, x: Tensor) -> Tensor:
            return torch.empty_like(x)

        def reference(self, x: Tensor) -> Tensor:
            return x

    x = torch.ones(2)
    assert Same()(x) is not x
    assert Same.register()(x).data_ptr() != x.data_ptr()


def test_opcheck_of_every_op(op: Any, many: Any) -> None:
    """Pitfalls 7, 13: torch's own check of schemas, autograd, fakes and compiling."""
    gate, up = pair(3, 4, grad=True)
    ops = torch.ops.frame_ops
    calls: list[tuple[Any, tuple[Any, ...]]] = [
        (ops.silu_mul, (gate, up)),
        (ops.silu_mul, (gate.detach().T, up.detach().T)),
        (ops.silu_mul_backward, (gate.detach(), gate.detach(), up.detach())),
        (ops.scaled, (gate.detach(), None, 3)),
        (ops.moving_average_, ([gate.detach()], [up.detach()], 0.5)),
        (ops.total_norm, ([gate.detach(), up.detach()],)),
        (ops.quantize, (gate.detach(), 3)),
    ]
    for call, args in calls:
        torch.library.opcheck(call.default, args)


def test_15_empty_lists_and_empty_tensors(op: Any, many: Any) -> None:
    nothing = torch.zeros(0, 3)
    for call in (op.silu_mul, layers.SiluMul(), torch.ops.frame_ops.silu_mul):
        assert call(nothing, nothing).shape == (0, 3)
    for call in (many.total_norm, lists.TotalNorm()):
        with pytest.raises(ValueError, match="tensors is empty; expected at least one"):
            call([])
    assert many.total_norm([nothing]).item() == 0.0


def test_16_an_op_stays_when_its_module_is_loaded_again() -> None:
    def declare(schema: str) -> Any:
        def reference(self: Any, x: Tensor) -> Tensor:
            return x + 1

        members = {"schema": schema, "reference": reference, "native": False}
        members["outputs"] = lambda self, x: torch.empty_like(x)
        return type("Again", (DeclaredOp,), members)

    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert declare("frame_again(Tensor x) -> Tensor")()(torch.ones(1)).item() == 2
    with pytest.raises(ValueError, match=r"frame_again.* already"):
        declare("frame_again(Tensor y) -> Tensor")()
    assert __name__.partition(".")[0] in dispatch._libraries


def test_17_tensor_subclasses_go_to_the_dispatcher(op: Any) -> None:
    from torch.testing._internal.two_tensor import TwoTensor

    gate, up = pair(3)
    both = op.silu_mul(TwoTensor(gate, gate * 2), TwoTensor(up, up))
    assert torch.allclose(both.b, exact(gate * 2, up), atol=1e-6)
    parameter = torch.nn.Parameter(gate)
    assert torch.allclose(op.silu_mul(parameter, up), exact(gate, up), atol=1e-6)


def test_18_an_exported_program_runs_where_the_op_is_registered(op: Any, tmp_path: Path) -> None:
    class Model(torch.nn.Module):
        def forward(self, gate: Tensor, up: Tensor) -> Tensor:
            result: Tensor = op.silu_mul(gate, up)
            return result

    program = torch.export.export(Model(), pair(3))
    torch.export.save(program, tmp_path / "model.pt2")
    code = (
        "import sys, torch; from frame_ops.layers import SiluMul; SiluMul.register();"
        f"program = torch.export.load({str(tmp_path / 'model.pt2')!r});"
        "print(program.module()(torch.zeros(3), torch.ones(3)).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE
    )
    assert done.stdout.strip() == "[0.0, 0.0, 0.0]"


def test_22_a_profiler_and_a_tracer_see_the_op(op: Any) -> None:
    gate, up = pair(3)
    with torch.profiler.profile() as seen:
        op.silu_mul(gate, up)
    assert "frame_ops::silu_mul" in {event.key for event in seen.key_averages()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(lambda g, u: op.silu_mul(g, u), (gate, up))
    assert torch.allclose(traced(gate * 2, up), exact(gate * 2, up), atol=1e-6)


def test_25_negated_views_keep_their_sign(op: Any) -> None:
    pairs = torch.randn(4, dtype=torch.complex64)
    negated = torch._neg_view(pairs.real.contiguous())
    assert negated.is_neg()
    for call in (op.silu_mul, layers.SiluMul(), torch.ops.frame_ops.silu_mul):
        assert torch.allclose(call(negated, negated), exact(negated, negated), atol=1e-6)


def test_what_is_written_shares_no_memory(many: Any) -> None:
    x = torch.ones(4)
    with pytest.raises(ValueError, match=r"averages\[1\] shares memory with averages\[0\]"):
        many.moving_average_([x[:3], x[2:]], [torch.ones(3), torch.ones(2)], 0.5)
    with pytest.raises(ValueError, match="shares memory"):
        many.moving_average_([x], [x], 0.5)
    assert x.tolist() == [1.0] * 4


def test_a_set_is_a_set() -> None:
    assert issubclass(layers.Layers, OpSet) and layers.Layers.functions == ("silu_mul", "scaled")


def test_the_text_of_a_call_is_what_a_traceback_shows(op: Any) -> None:
    import inspect

    surface = op.silu_mul.silu_mul
    assert "native(gate.data_ptr()" in inspect.getsource(surface)
    assert str(inspect.signature(op.scaled.scaled)) == (
        "(x, bias, times, *, factor=0.5, negate=False)"
    )


def test_24_results_live_as_long_as_the_call(op: Any) -> None:
    """Arguments that nobody else holds, and a result whose memory is taken again at once."""
    for _ in range(200):
        found = op.silu_mul(torch.zeros(1000), torch.ones(1000))
        torch.empty(1000).fill_(9.0)
        assert not found.any()


def test_the_usual_call_asks_no_less_than_the_checks(op: Any, many: Any) -> None:
    """Whatever the careful way refuses, the short way does not run."""
    gate = torch.ones(4)
    bad = [
        (gate, None),
        (gate, 1),
        (gate, gate.double()),
        (gate, gate[:2]),
        (gate, gate.to("meta")),
    ]
    for args in bad:
        for call in (op.silu_mul, op.silu_mul.careful):
            with pytest.raises((TypeError, ValueError)):
                call(*args)
    for args in ((gate.int(), 2), (gate, 3), (gate, 0), (gate, 2.0)):
        for call in (many.quantize, many.quantize.careful):
            with pytest.raises((TypeError, ValueError)):
                call(*args)


@pytest.mark.parametrize("backend", ["cuda", "xpu", "hpu", "npu"])
def test_the_text_for_devices_launches_on_their_current_stream(backend: str) -> None:
    """No such device is needed to write the call, nor to see that it goes the careful way here."""
    from accel.ops.frame.call import CallText

    kind = layers.SiluMul
    text = CallText(kind.parsed, kind.same, kind.types, kind.sizes, ("gate",), backend)
    source = f"{text.surface(native=True, checked=False)}\n{text.run()}"
    assert "with current_device(gate.device):\n        status = native(" in source
    assert "codes[gate.dtype], stream_of(gate.device))" in source
    names = {"careful": lambda *_: "careful", "outputs": torch.empty_like}
    made = text.compile(source, "text", **names)
    assert made["silu_mul"](torch.ones(2), torch.ones(2)) == "careful"
    op = kind(None, backend=backend)
    gate, up = pair(3)
    assert torch.equal(op(gate, up), exact(gate, up))
