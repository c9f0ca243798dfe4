"""LAMB and 8-bit Adam: the CUDA kernels built for the host beside the CPU's, by the C structs."""

import ctypes
import re
from array import array

import pytest
import torch

from accel.jit import Recipe, acquire, csrc_dir
from accel.ops import abi
from accel.ops.optimizers.abi import DTYPES

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
SIZES = (1, 0, 3, 255, 256, 257, 8191, 8192, 8193, 3 * 8192 + 77, 0)
ADAMW, CORRECT = 1, 2
LAMB_CORRECT, INSIDE, LAMB_MAXIMIZE, MOMENTS, APPLY = 1, 2, 4, 8, 16
C_TYPES = {
    "uint64_t": ctypes.c_uint64,
    "int64_t": ctypes.c_int64,
    "int32_t": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "double": ctypes.c_double,
}


def struct_of(name):
    """Return the argument struct as the header declares it."""
    text = (csrc_dir() / f"include/accel/{name}.h").read_text()
    body = re.search(rf"typedef struct accel_{name}_args {{(.*?)}} ", text, re.DOTALL)[1]
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    fields = []
    for line in filter(str.strip, body.split(";")):
        kind, field = re.fullmatch(r"\s*(.*?)(\w+)\s*", line, re.DOTALL).groups()
        fields.append((field, ctypes.c_void_p if "*" in kind else C_TYPES[kind.strip()]))
    return type(f"{name}_args", (ctypes.Structure,), {"_fields_": fields})


def library(name, *, host):
    kind = "cuda" if host else "cpu"
    folders = (csrc_dir() / "include", csrc_dir() / kind)
    common = {"backend": "cpu", "include_dirs": folders}
    if not host:
        sources = (csrc_dir() / f"cpu/optimizers/{name}.cpp",)
        return acquire(Recipe(name=name, sources=sources, openmp=True, **common)).handle
    flags = ("-xc++", "-DACCEL_HOST_BUILD", "-Werror")
    sources = (csrc_dir() / f"cuda/optimizers/{name}.cu",)
    recipe = Recipe(name=f"{name}_on_host", sources=sources, compile_flags=flags, **common)
    return acquire(recipe).handle


def call(name, host, roles, **numbers):
    """Run one step of the library over lists of tensors by field name."""
    args = struct_of(name)()
    args.struct_size = ctypes.sizeof(args)
    args.count = len(roles["params"])
    numels = array("q", (tensor.numel() for tensor in roles["params"]))
    arrays = {role: array("Q", map(torch.Tensor.data_ptr, roles[role])) for role in roles}
    for role, addresses in (arrays | {"numels": numels}).items():
        setattr(args, role, addresses.buffer_info()[0])
    args.param_dtype = DTYPES[roles["params"][0].dtype]
    args.grad_dtype = DTYPES[roles["grads"][0].dtype]
    args.num_threads = 1
    for field, value in numbers.items():
        setattr(args, field, value.data_ptr() if isinstance(value, torch.Tensor) else value)
    step = getattr(library(name, host=host), f"accel_{name}_step")
    step.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    assert step(ctypes.addressof(args), None) == abi.OK


def copied(roles):
    return {role: [tensor.clone() for tensor in listed] for role, listed in roles.items()}


def unaligned(tensor):
    """Return a copy that begins one element after an aligned address."""
    room = torch.empty(tensor.numel() + 64, dtype=tensor.dtype)
    start = -room.data_ptr() % 64 // tensor.element_size() + 1
    return room[start : start + tensor.numel()].copy_(tensor)


def made(param, grad, *, aligned=True, master=False):
    generator = torch.Generator().manual_seed(3)
    sources = [torch.randn(size, generator=generator) for size in SIZES]
    place = torch.clone if aligned else unaligned
    roles = {
        "params": [place(x.to(param)) for x in sources],
        "grads": [place((x * 3).cos().to(grad)) for x in sources],
        "steps": [torch.tensor(float(i % 5)) for i in range(len(SIZES))],
    }
    if master:
        roles["masters"] = [x.clone() for x in sources]
    return roles, sources, place


def eight_bit(param, grad, *, states=("exp_avg", "exp_avg_sq"), **options):
    roles, sources, place = made(param, grad, **options)
    blocks = [torch.zeros((x.numel() + 255) // 256) for x in sources]
    for state in states:
        roles[f"{state}s"] = [place(torch.zeros(x.numel(), dtype=torch.uint8)) for x in sources]
        roles[f"{state}_scales"] = [scale.clone() for scale in blocks]
    return roles


@pytest.mark.parametrize("aligned", [True, False], ids=["aligned", "unaligned"])
@pytest.mark.parametrize(
    ("param", "grad", "master"),
    [(F32, F32, False), (BF16, BF16, True), (BF16, F32, False), (F16, F16, False)],
    ids=str,
)
def test_eight_bit_adam_has_the_cpus_bits(param, grad, master, aligned):
    roles = eight_bit(param, grad, aligned=aligned, master=master)
    numbers = {"lr": 0.02, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1}
    numbers |= {"flags": ADAMW | CORRECT, "seed": 99, "rounding": int(param == BF16)}
    expected = copied(roles)
    for turn in range(3):
        more = {"seed": 99 + turn} | ({"flags": CORRECT} if turn == 2 else {})
        call("adam8bit", True, roles, **(numbers | more))
        call("adam8bit", False, expected, **(numbers | more))
    for role, listed in roles.items():
        for index, (got, want) in enumerate(zip(listed, expected[role], strict=True)):
            assert torch.equal(got, want), f"{role}[{index}]"
    assert any(bool(codes.any()) for codes in roles["exp_avgs"])


@pytest.mark.parametrize("aligned", [True, False], ids=["aligned", "unaligned"])
@pytest.mark.parametrize(
    ("param", "grad", "master"),
    [(F32, F32, False), (BF16, BF16, True), (F16, F32, False)],
    ids=str,
)
def test_eight_bit_lion_has_the_cpus_bits(param, grad, master, aligned):
    roles = eight_bit(param, grad, states=("exp_avg",), aligned=aligned, master=master)
    roles["grads"][5][:100] = 0.0
    roles["grads"][6][:3] = torch.tensor([3e38, -3e38, float("inf")]).to(grad)
    numbers = {"lr": 0.02, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}
    numbers |= {"rounding": int(param == BF16)}
    expected = copied(roles)
    for turn in range(3):
        more = {"seed": 99 + turn, "flags": int(turn == 2)}
        call("lion8bit", True, roles, **(numbers | more))
        call("lion8bit", False, expected, **(numbers | more))
    for role, listed in roles.items():
        for index, (got, want) in enumerate(zip(listed, expected[role], strict=True)):
            assert torch.equal(got, want), f"{role}[{index}]"
    assert any(bool(codes.any()) for codes in roles["exp_avgs"])


def test_eight_bit_adam_keeps_nan_and_tiny_values_as_the_cpu_does():
    roles = eight_bit(F32, F32)
    roles["grads"][3][7] = float("nan")
    roles["grads"][5].mul_(1e-20)
    roles["grads"][6][:256] = torch.logspace(-38, 3, 256)
    roles["grads"][7][100] = float("inf")
    numbers = {"lr": 0.02, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "flags": CORRECT, "seed": 5}
    expected = copied(roles)
    for _ in range(2):
        call("adam8bit", True, roles, **numbers)
        call("adam8bit", False, expected, **numbers)
    for role, listed in roles.items():
        for got, want in zip(listed, expected[role], strict=True):
            assert torch.equal(got.isnan(), want.isnan()), role
            assert torch.equal(got.nan_to_num(), want.nan_to_num()), role


def lamb(param, grad, state, **options):
    roles, sources, place = made(param, grad, **options)
    roles["exp_avgs"] = [place((x * 0.1).to(state)) for x in sources]
    roles["exp_avg_sqs"] = [place((x * x * 0.01).to(state)) for x in sources]
    roles["norms"] = [torch.full((2,), 7.0, dtype=torch.float64) for _ in SIZES]
    roles["coeffs"] = [torch.full((), 7.0) for _ in SIZES]
    return roles


def assert_close(roles, expected):
    for role, listed in roles.items():
        for index, (got, want) in enumerate(zip(listed, expected[role], strict=True)):
            # Sums are added in another order, so that a rounding may fall to the other side.
            tolerance = {F32: 2e-6, BF16: 2.0**-7, F16: 2.0**-10}.get(got.dtype, 1e-6)
            close = torch.allclose(got.double(), want.double(), rtol=tolerance, atol=1e-6)
            assert close, f"{role}[{index}]"


@pytest.mark.parametrize("aligned", [True, False], ids=["aligned", "unaligned"])
@pytest.mark.parametrize(
    ("param", "grad", "state", "master"),
    [
        (F32, F32, F32, False),
        (BF16, BF16, F32, True),
        (F16, F16, F32, False),
        (F32, BF16, BF16, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("flags", [LAMB_CORRECT, INSIDE | LAMB_MAXIMIZE], ids=["plain", "inside"])
def test_lamb_in_one_call_and_in_two(param, grad, state, master, aligned, flags):
    numbers = {"lr": 0.02, "beta1": 0.9, "beta2": 0.99, "eps": 1e-6, "weight_decay": 0.1}
    numbers |= {"max_coeff": 10.0, "min_coeff": 0.01, "state_dtype": DTYPES[state]}
    roles = lamb(param, grad, state, aligned=aligned, master=master)
    halves = lamb(param, grad, state, aligned=aligned, master=master)
    expected, before = copied(roles), copied(roles)
    call("lamb", False, expected, **numbers, flags=flags | MOMENTS | APPLY)
    call("lamb", True, roles, **numbers, flags=flags | MOMENTS | APPLY)
    assert_close(roles, expected)
    call("lamb", True, halves, **numbers, flags=flags | MOMENTS)
    assert torch.equal(halves["params"][5], before["params"][5])
    call("lamb", True, halves, **numbers, flags=flags | APPLY)
    for role, listed in halves.items():
        assert all(map(torch.equal, listed, roles[role])), role
    assert roles["coeffs"][1].item() == 1.0  # an empty tensor has no norm


def test_lamb_skips_everything_where_a_flag_says_so():
    roles = lamb(F32, F32, F32)
    before = copied(roles)
    flag = torch.ones((), dtype=torch.int32)
    call("lamb", True, roles, lr=1.0, flags=MOMENTS | APPLY, noop_flag=flag)
    for role, listed in roles.items():
        assert all(map(torch.equal, listed, before[role])), role
