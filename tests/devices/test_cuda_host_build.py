"""CUDA kernels built for the host: index, vector and element code has the CPU kernels' bits."""

import ctypes
from dataclasses import replace

import pytest
import torch
from family_cases import CASES, ELEMENTWISE, FAMILIES
from kernels_on_host import library

from accel.ops import abi
from accel.ops.optimizers.kernel import kernel_for
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.adam import (
    ADAM,
    ADAM_ADAMW,
    ADAM_AMSGRAD,
    ADAM_BIAS_CORRECTION,
    ADAM_MAXIMIZE,
    ADAM_ROLLBACK,
    AdamHyper,
)

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
CHUNK = 8192
SIZES = (1, 0, 3, 4, 5, 8, 1024, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 9, 0)


@pytest.fixture(scope="module")
def host():
    """Adam's CUDA kernels on the host."""
    return library("adam", host=True)


def unaligned(tensor, offset):
    """Return a copy whose memory begins `offset` elements after a 64-byte boundary."""
    room = torch.empty(tensor.numel() + 64, dtype=tensor.dtype)
    start = offset - room.data_ptr() % 64 // tensor.element_size() + 64 // tensor.element_size()
    out = room[start : start + tensor.numel()]
    return out.copy_(tensor)


def make(sizes, param, grad, state, *, master=False, amsgrad=False, steps=False, offset=0):
    generator = torch.Generator().manual_seed(len(sizes))
    sources = [torch.randn(size, generator=generator) for size in sizes]
    move = (lambda tensor: unaligned(tensor, offset)) if offset else torch.clone
    roles = {
        "params": [move(x.to(param)) for x in sources],
        "grads": [move((x * 3).cos().to(grad)) for x in sources],
        "exp_avgs": [move((x * 0.1).to(state)) for x in sources],
        "exp_avg_sqs": [move((x * x * 0.01).to(state)) for x in sources],
    }
    if amsgrad:
        roles["max_exp_avg_sqs"] = [move((x.abs() * 0.01).to(state)) for x in sources]
    if master:
        roles["masters"] = [x.clone() for x in sources]
    return TensorLists(
        roles, [torch.tensor(float(i)) for i in range(len(sizes))] if steps else None
    )


def copied(tensors):
    roles = {role: [one.clone() for one in listed] for role, listed in tensors.roles.items()}
    return TensorLists(roles, None if tensors.steps is None else [s.clone() for s in tensors.steps])


def hyper(**numbers):
    base = {"lr": 0.02, "beta1": 0.9, "beta2": 0.995, "eps": 1e-6, "weight_decay": 0.1, "step": 3}
    base["flags"] = ADAM_ADAMW | ADAM_BIAS_CORRECTION
    return AdamHyper(**(base | numbers))


def assert_same(host, tensors, numbers, family=ADAM):
    """Step the tensors both ways; every bit must agree."""
    expected = copied(tensors)
    kernel_for(family, library(family.name, host=False), "cpu").run(expected, numbers)
    kernel_for(family, host, "cpu").run(tensors, numbers)
    for role, listed in tensors.roles.items():
        for index, (got, want) in enumerate(zip(listed, expected.roles[role], strict=True)):
            same = torch.equal(got.nan_to_num(7.0), want.nan_to_num(7.0))
            assert same and torch.equal(got.isnan(), want.isnan()), f"{role}[{index}]"
    if tensors.steps is not None:
        assert tensors.steps == expected.steps


@pytest.mark.parametrize("param", [F32, BF16, F16], ids=str)
@pytest.mark.parametrize("grad", [F32, BF16, F16], ids=str)
@pytest.mark.parametrize("state", [F32, BF16, F16], ids=str)
def test_every_combination_of_types(host, param, grad, state):
    assert_same(host, make((5, CHUNK + 9), param, grad, state), hyper())


@pytest.mark.parametrize(
    "sizes", [SIZES, (7,) * 500, (0,), ()], ids=["mixed", "many", "empty", "none"]
)
@pytest.mark.parametrize("offset", [0, 1], ids=["aligned", "unaligned"])
def test_sizes_and_counts(host, sizes, offset):
    assert_same(host, make(sizes, F32, F32, F32, offset=offset), hyper())
    assert_same(host, make(sizes, BF16, BF16, F32, offset=offset), hyper())


@pytest.mark.parametrize("count", [*range(10, 15), *range(446, 456), 906])
def test_every_tensor_is_stepped_around_the_capacity_of_a_launch(host, count):
    assert_same(host, make((3,) * count, F32, F32, F32), hyper())


@pytest.mark.parametrize(
    "numbers",
    [
        {"flags": 0},
        {"flags": ADAM_BIAS_CORRECTION | ADAM_MAXIMIZE},
        {"beta1": 0.0, "weight_decay": 0.0},
        {"beta1": 0.4, "beta2": 0.0, "eps": 0.0},
        {"grad_scale": torch.tensor(128.0)},
        {"lr_tensor": torch.tensor(0.5)},
        {"found_inf": torch.tensor(1.0)},
        {"found_inf": torch.tensor(0.0), "noop_flag": torch.tensor(0, dtype=torch.int32)},
        {"noop_flag": torch.tensor(7, dtype=torch.int32)},
    ],
    ids=lambda numbers: "-".join(numbers),
)
def test_numbers_and_flags_read_on_the_device(host, numbers):
    assert_same(host, make((5, CHUNK + 9), F32, F32, F32), hyper(**numbers))
    assert_same(
        host, make((5, CHUNK + 9), BF16, BF16, F32, master=True, steps=True), hyper(**numbers)
    )


@pytest.mark.parametrize("param", [BF16, F16], ids=str)
def test_masters_and_amsgrad(host, param):
    sizes = (5, CHUNK + 9)
    assert_same(host, make(sizes, param, param, F32, master=True), hyper())
    amsgrad = hyper().flags | ADAM_AMSGRAD
    assert_same(host, make(sizes, param, param, F32, amsgrad=True), hyper(flags=amsgrad))
    assert_same(host, make(sizes, F32, F32, F32, amsgrad=True, offset=1), hyper(flags=amsgrad))


@pytest.mark.parametrize("param", [BF16, F16], ids=str)
@pytest.mark.parametrize("state", [F32, None], ids=["wide", "narrow"])
def test_stochastic_rounding_draws_the_same_bits_everywhere(host, param, state):
    tensors = make((0, 5, CHUNK + 9), param, param, state or param)
    assert_same(host, tensors, hyper(rounding="stochastic", seed=2**63 + 5))


def test_steps_of_a_tensor_each(host):
    assert_same(host, make((3,) * 5000, F32, F32, F32, steps=True), hyper())


@pytest.mark.parametrize("steps", [False, True])
def test_a_step_can_be_undone(host, steps):
    tensors = make((5, CHUNK + 9), F32, F32, F32, steps=steps)
    assert_same(host, tensors, hyper())
    assert_same(host, tensors, hyper(flags=hyper().flags | ADAM_ROLLBACK))


def test_special_values_survive(host):
    tensors = make((64,), F16, F16, F16)
    for role in ("params", "grads"):
        values = torch.tensor([float("nan"), float("inf"), -float("inf"), 65504.0, 1e-7, -0.0])
        tensors.roles[role][0][: len(values)] = values.to(F16)
    assert_same(host, tensors, hyper())
    assert_same(host, tensors, hyper(rounding="stochastic"))


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("struct_size", 8, abi.BAD_STRUCT),
        ("count", -1, abi.BAD_ARGUMENT),
        ("params", None, abi.BAD_ARGUMENT),
        ("flags", 1 << 20, abi.BAD_ARGUMENT),
        ("flags", ADAM_AMSGRAD, abi.BAD_ARGUMENT),
        ("rounding", 2, abi.BAD_ARGUMENT),
        ("grad_dtype", 3, abi.BAD_DTYPE),
        ("state_dtype", -1, abi.BAD_DTYPE),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(host, field, value, status):
    call = host.handle.accel_adam_step
    call.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    numel = (ctypes.c_int64 * 1)(4)
    memory = (ctypes.c_float * 4)(1, 2, 3, 4)
    at = (ctypes.c_void_p * 1)(ctypes.addressof(memory))
    args = ADAM.args(struct_size=ctypes.sizeof(ADAM.args), count=1, lr=1.0, num_threads=1)
    args.numels = ctypes.addressof(numel)
    for role in ("params", "grads", "exp_avgs", "exp_avg_sqs"):
        setattr(args, role, ctypes.addressof(at))
    setattr(args, field, value)
    assert call(ctypes.addressof(args), None) == status
    assert list(memory) == [1, 2, 3, 4]


OTHERS = [stem for stem in ELEMENTWISE if stem != "adam"]


def made_for(family, *arguments, **options):
    """Return `make`'s tensors with the states of another op; squares are no less than 0."""
    tensors = make(*arguments, **options)
    squares, means = tensors.roles.pop("exp_avg_sqs"), tensors.roles.pop("exp_avgs")
    signed = dict(zip(family.states, CASES[family.name].signed, strict=True))
    for role, is_signed in signed.items():
        move = options.get("offset", 0)
        values = means if is_signed else squares
        tensors.roles[role] = [unaligned(x, move) if move else x.clone() for x in values]
    return tensors


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("param", [F32, BF16, F16], ids=str)
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_the_other_ops(name, param, rounding):
    family, on_host = FAMILIES[name], library(name, host=True)
    for numbers in ({}, *CASES[name].options):
        given = CASES[name].hyper(**numbers, rounding=rounding, seed=11)
        check_other(family, on_host, given, param)


def check_other(family, on_host, given, param):
    for grad, state in ((param, F32), (F32, param), (param, param)):
        for offset in (0, 1):
            tensors = made_for(family, SIZES, param, grad, state, offset=offset)
            assert_same(on_host, tensors, given, family)
    tensors = made_for(family, SIZES, param, param, F32, master=param != F32, steps=True)
    assert_same(on_host, tensors, replace(given, flags=1, weight_decay=0.0), family)
    skipped = replace(given, found_inf=torch.tensor(1.0), grad_scale=torch.tensor(64.0))
    assert_same(on_host, tensors, skipped, family)
