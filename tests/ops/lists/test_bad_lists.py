"""Bad input of ``multi_tensor``: right or refused by name, the same on every rung."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from list_cases import exact_norm, flag, mixed, rungs, same_bits, within_a_step
from torch import Tensor


@pytest.fixture(scope="module")
def ops() -> dict[str, Any]:
    return rungs()


def ones(*numels: int) -> list[Tensor]:
    return [torch.ones(numel, dtype=torch.float32) for numel in numels]


def gone() -> Tensor:
    tensor = torch.ones(8)
    tensor.untyped_storage().resize_(0)
    return tensor


def leaf() -> Tensor:
    return torch.ones(3, requires_grad=True)


Call = Callable[[Any, Tensor], Any]
BAD: dict[str, tuple[Call, str]] = {
    "no lists": (lambda op, f: op.multi_tensor_scale(1, f, [ones(3)], 1.0), "tensor_lists must be"),
    "a tensor": (
        lambda op, f: op.multi_tensor_l2norm(1, f, [torch.ones(3)]),
        "tensors is a Tensor",
    ),
    "a number": (lambda op, f: op.multi_tensor_l2norm(1, f, [[1.0]]), r"tensors\[0\] is a float"),
    "lengths": (
        lambda op, f: op.multi_tensor_scale(1, f, [ones(3, 3), ones(3)], 1.0),
        "outputs has 1",
    ),
    "shapes": (
        lambda op, f: op.multi_tensor_scale(1, f, [ones(3, 4), ones(3, 5)], 1.0),
        r"outputs\[1\] has shape",
    ),
    "doubles": (
        lambda op, f: op.multi_tensor_l2norm(1, f, [[torch.ones(3).double()]]),
        r"tensors\[0\] has dtype",
    ),
    "ints": (
        lambda op, f: op.multi_tensor_scale(1, f, [ones(3), [torch.ones(3).int()]], 1.0),
        r"outputs\[0\] has dtype",
    ),
    "sparse": (
        lambda op, f: op.multi_tensor_l2norm(1, f, [[torch.ones(3).to_sparse()]]),
        r"tensors\[0\] has layout",
    ),
    "flag of floats": (
        lambda op, f: op.multi_tensor_l2norm(1, f.float(), [ones(3)]),
        "noop_flag has dtype",
    ),
    "flag of bytes": (
        lambda op, f: op.multi_tensor_l2norm(1, f.byte(), [ones(3)]),
        "noop_flag has dtype",
    ),
    "two flags": (
        lambda op, f: op.multi_tensor_scale(1, f.repeat(2), [ones(3), ones(3)], 1.0),
        "noop_flag has shape",
    ),
    "no flag": (
        lambda op, f: op.multi_tensor_l2norm(1, None, [ones(3)]),
        "noop_flag is a NoneType",
    ),
    "flag elsewhere": (
        lambda op, f: op.multi_tensor_l2norm(1, f.to("meta"), [ones(3)]),
        r"tensors\[0\] is on cpu",
    ),
    "meta": (
        lambda op, f: op.multi_tensor_l2norm(1, f, [[torch.ones(3), torch.ones(3, device="meta")]]),
        r"tensors\[1\] is on meta",
    ),
    "chunk of nothing": (lambda op, f: op.multi_tensor_l2norm(0, f, [ones(3)]), "chunk_size is 0"),
    "half a chunk": (lambda op, f: op.multi_tensor_l2norm(0.5, f, [ones(3)]), "chunk_size is 0.5"),
    "scale of words": (
        lambda op, f: op.multi_tensor_scale(1, f, [ones(3), ones(3)], "2"),
        "scale is '2'",
    ),
    "check of two": (
        lambda op, f: op.multi_tensor_axpby(1, f, [ones(3), ones(3), ones(3)], 1.0, 1.0, 2),
        "arg_to_check is 2",
    ),
    "per_tensor of 1": (
        lambda op, f: op.multi_tensor_l2norm(1, f, [ones(3)], 1),
        "per_tensor is 1",
    ),
    "factor of Python": (
        lambda op, f: op.multi_tensor_unscale_l2norm(1, f, [ones(3)], 0.5),
        "inv_scale is 0.5",
    ),
    "two factors": (
        lambda op, f: op.multi_tensor_unscale_l2norm(1, f, [ones(3)], torch.ones(2)),
        "inv_scale has shape",
    ),
    "a leaf": (
        lambda op, f: op.multi_tensor_scale(1, f, [ones(3), [leaf()]], 1.0),
        r"outputs\[0\] requires grad",
    ),
    "a clipped leaf": (
        lambda op, f: op.multi_tensor_clip([leaf()], 1.0),
        r"tensors\[0\] requires grad",
    ),
    "nothing to clip": (lambda op, f: op.multi_tensor_clip([], 1.0), "tensors is empty"),
    "freed": (
        lambda op, f: op.multi_tensor_l2norm(1, f, [[torch.ones(3), gone()]]),
        r"tensors\[1\] needs",
    ),
    "clipped twice": (
        lambda op, f: op.multi_tensor_clip([f.float(), *[torch.ones(3)] * 2], 1.0),
        "shares memory",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_by_name(op: Any, name: str) -> None:
    call, message = BAD[name]
    noop = flag()
    with pytest.raises((TypeError, ValueError), match=message):
        call(op, noop)
    assert noop.item() == 0


def test_outputs_share_no_memory(op: Any) -> None:
    room = torch.arange(12.0)
    before = room.clone()
    for inputs, outputs in (
        (ones(4, 4), [room[:4], room[3:7]]),
        ([room[:4]], [room[1:5]]),
        (ones(4), [room[:1].expand(4)]),
        ([room[:4], room[:4]], [room[:4], room[4:8]]),
    ):
        with pytest.raises(ValueError, match="share"):
            op.multi_tensor_scale(1, flag(), [inputs, outputs], 2.0)
    assert torch.equal(room, before)


def test_an_output_may_be_its_input(op: Any) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        tensors = [torch.arange(5.0).to(dtype), torch.ones(3, 2).to(dtype)]
        views = [one.view(one.shape) for one in tensors]
        op.multi_tensor_scale(1, flag(), [tensors, views], 2.0)
        assert tensors[0].tolist() == [0, 2, 4, 6, 8]
        op.multi_tensor_axpby(1, flag(), [tensors, tensors, tensors], 1.0, 2.0)
        assert tensors[0].tolist() == [0, 6, 12, 18, 24]


def test_empty_lists_and_tensors(op: Any) -> None:
    noop = flag()
    total, each = op.multi_tensor_l2norm(1, noop, [[]], True)
    assert total.tolist() == [0.0] and each.shape == (0,)
    total, each = op.multi_tensor_l2norm(1, noop, [[torch.ones(0), torch.ones(0, 3)]], True)
    assert total.tolist() == [0.0] and each.tolist() == [0.0, 0.0]
    op.multi_tensor_scale(1, noop, [[], []], 2.0)
    op.multi_tensor_axpby(1, noop, [ones(0), ones(0), ones(0)], 2.0, 1.0)
    assert op.multi_tensor_clip(ones(0), 1.0).item() == 0.0
    assert noop.item() == 0


def test_layouts(op: Any) -> None:
    given = mixed(4, (35, 64, 0, 9000))
    strided = [torch.zeros(2 * one.numel(), dtype=one.dtype)[::2].copy_(one) for one in given]
    strided[0] = strided[0].view(5, 7).T
    pairs = torch.view_as_complex(torch.randn(40, 2))
    strided.append(pairs.conj().imag)
    assert strided[-1].is_neg()
    assert within_a_step(op.multi_tensor_l2norm(1, flag(), [strided])[0], exact_norm(strided))
    outputs = [torch.empty_like(one) for one in strided]
    op.multi_tensor_scale(1, flag(), [strided, outputs], 0.5)
    assert same_bits(outputs, [(one.float() * 0.5).to(one.dtype) for one in strided])
    total = op.multi_tensor_clip(strided, 0.5)
    assert within_a_step(total, exact_norm(outputs) * 2) or total.item() > 0
    assert exact_norm(strided) == pytest.approx(0.5, rel=1e-2)


def test_writes_are_told_to_autograd(op: Any) -> None:
    weight, saved = torch.ones(3, requires_grad=True), torch.ones(3)
    product = weight * saved
    op.multi_tensor_clip([saved], 0.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


def test_norms_have_no_derivative(op: Any) -> None:
    total, _ = op.multi_tensor_l2norm(1, flag(), [[leaf()]])
    with pytest.raises(RuntimeError, match="no derivative"):
        total.sum().backward()
    with torch.no_grad():
        assert not op.multi_tensor_l2norm(1, flag(), [[leaf()]])[0].requires_grad


@pytest.mark.parametrize("backend", ["aot_eager"])
def test_compilers_see_one_op(ops: dict[str, Any], backend: str) -> None:
    op = ops["native"]
    torch._dynamo.reset()

    def step(noop: Tensor, grads: list[Tensor], outputs: list[Tensor]) -> Tensor:
        op.multi_tensor_scale(65536, noop, [grads, outputs], 0.5)
        total, _ = op.multi_tensor_l2norm(65536, noop, [outputs])
        return total + op.multi_tensor_clip(outputs, 1.0)

    found = []
    for run in (step, torch.compile(step, backend=backend, fullgraph=True)):
        grads, noop = ones(5, 7), flag()
        outputs = ones(5, 7)
        found.append([run(noop, grads, outputs), *outputs, noop])
    assert same_bits(*found)


def test_torchs_own_check_of_the_ops() -> None:
    calls = torch.ops.accel
    given = (flag(), ones(3, 4))
    torch.library.opcheck(calls.multi_tensor_norm.default, (*given, None, True))
    torch.library.opcheck(calls.multi_tensor_scale_.default, (*given, ones(3, 4), 0.5))
    torch.library.opcheck(
        calls.multi_tensor_axpby_.default, (*given, ones(3, 4), ones(3, 4), 1.0, 2.0)
    )
    torch.library.opcheck(calls.multi_tensor_clip_.default, (ones(3, 4), 0.5))
