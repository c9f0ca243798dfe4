"""The base class: what it requires, what it forwards, and how it says no."""

import ast
import inspect
from pathlib import Path

import pytest
import torch

import accel
from accel.base import CAPABILITIES, Accelerator, TensorFactory
from accel.contract import forward
from accel.errors import BackendUnavailable, Unsupported
from accel.hpu import HPUAccelerator
from accel.xpu import XPUAccelerator, extension

DEEPSPEED_MEMBERS = [
    "is_synchronized_device",
    "use_host_timers",
    "resolves_data_dependency",
    "handles_memory_backpressure",
    "device_name",
    "device",
    "set_device",
    "current_device",
    "current_device_name",
    "device_count",
    "synchronize",
    "random",
    "set_rng_state",
    "get_rng_state",
    "manual_seed",
    "manual_seed_all",
    "initial_seed",
    "default_generator",
    "Stream",
    "stream",
    "current_stream",
    "default_stream",
    "Event",
    "empty_cache",
    "memory_allocated",
    "max_memory_allocated",
    "reset_max_memory_allocated",
    "memory_cached",
    "max_memory_cached",
    "reset_max_memory_cached",
    "memory_stats",
    "reset_peak_memory_stats",
    "memory_reserved",
    "max_memory_reserved",
    "total_memory",
    "available_memory",
    "is_bf16_supported",
    "is_fp16_supported",
    "supported_dtypes",
    "is_available",
    "range_push",
    "range_pop",
    "lazy_call",
    "communication_backend_name",
    "is_triton_supported",
    "prefer_triton_grouped_mm",
    "create_graph",
    "capture_to_graph",
    "replay_graph",
    "BFloat16Tensor",
    "ByteTensor",
    "DoubleTensor",
    "FloatTensor",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "pin_memory",
    "is_pinned",
    "unpin_memory",
    "on_accelerator",
    "op_builder_dir",
    "create_op_builder",
    "get_op_builder",
    "build_extension",
    "export_envs",
    "visible_devices_envs",
    "set_visible_devices_envs",
    "get_compile_backend",
    "set_compile_backend",
    "supports_nvtx_domain",
    "_name",
    "_torch_is_pinned",
    "_pin_memory",
]
OUR_MEMBERS = [
    "name",
    "device_type",
    "contract_version",
    "probe",
    "has",
    "lacks",
    "device_properties",
    "set_stream",
    "is_fp8_supported",
    "range",
    "default_compute_capabilities",
]


class Bare(Accelerator):
    name = "bare"
    device_type = "cpu"

    def is_available(self) -> bool:
        return True


class Absent(Accelerator):
    name = "absent"

    def is_available(self) -> bool:
        return False


@pytest.mark.parametrize("member", DEEPSPEED_MEMBERS + OUR_MEMBERS)
def test_the_contract_has_every_member(member):
    assert hasattr(Accelerator, member)


def test_every_public_member_is_documented_and_annotated():
    for name, member in inspect.getmembers(Accelerator):
        if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        assert member.__doc__, name
        function = member.fget if isinstance(member, property) else member
        assert "return" in inspect.unwrap(function).__annotations__, name


def test_a_subclass_that_forgets_is_told_what():
    class Nothing(Accelerator):
        pass

    class NoName(Accelerator):
        def is_available(self) -> bool:
            return True

    class NoAnswer(Accelerator):
        name = "x"

    with pytest.raises(TypeError, match=r"Nothing.*name .*and is_available"):
        Nothing()
    with pytest.raises(TypeError, match=r"NoName.*name"):
        NoName()
    with pytest.raises(TypeError, match=r"NoAnswer.*define is_available"):
        NoAnswer()


def test_the_device_type_is_the_name_or_the_parents():
    class Child(Bare):
        name = "child"

    assert (Absent.device_type, Bare.device_type, Child.device_type) == ("absent", "cpu", "cpu")


def test_what_torch_lacks_is_unsupported_with_a_way_out():
    with pytest.raises(
        Unsupported, match=r"bare has no memory_allocated: .*torch\.cpu\.memory_all"
    ):
        Bare().memory_allocated()
    with pytest.raises(Unsupported, match=r"Override memory_allocated in Bare"):
        Bare().memory_allocated()


def test_what_is_declared_lacking_is_unsupported():
    class Less(Bare):
        name = "less"
        lacks = ("events", "streams", "graphs")

    for ask in (lambda: Less().Event, lambda: Less().Stream, Less().create_graph):
        with pytest.raises(Unsupported, match=r"less has no .*Ask has\('"):
            ask()
    assert not Less().has("graphs")
    assert Less().has("rng")
    with pytest.raises(ValueError, match="known are rng"):
        Less().has("wings")


@pytest.mark.parametrize("backend", [Absent, XPUAccelerator, HPUAccelerator])
def test_an_absent_device_says_why(backend):
    acc = backend()
    if acc.is_available():
        pytest.skip(f"{acc.name} is here")
    verdict = acc.probe()
    assert verdict.reason and verdict.fix
    assert acc.device_count() == 0
    for ask in (acc.synchronize, acc.current_device, lambda: acc.Event, lambda: acc.FloatTensor):
        with pytest.raises(BackendUnavailable, match=f"{acc.name}: .*asked for, but "):
            ask()


def test_a_probe_that_raises_is_a_rejection():
    class Broken(Accelerator):
        name = "broken"

        def is_available(self) -> bool:
            raise OSError("no driver")

    verdict = Broken().probe()
    assert not verdict
    assert "OSError: no driver" in verdict.reason


def test_a_probe_that_asks_torch_ends():
    class Asking(Accelerator):
        name = "asking"

        def is_available(self) -> bool:
            return bool(self._forward("is_available"))

    assert "asking" in Asking().probe().reason
    with pytest.raises(BackendUnavailable, match="synchronize was asked for"):
        Asking().synchronize()


def test_an_error_of_a_device_that_is_there_is_left_alone(monkeypatch):
    def fail() -> None:
        raise RuntimeError("out of cheese")

    monkeypatch.setattr(torch.cpu, "empty_cache", fail, raising=False)
    with pytest.raises(RuntimeError, match="out of cheese"):
        Bare().empty_cache()


def test_the_default_backends_come_from_torch():
    assert Bare().communication_backend_name() == "gloo"
    with pytest.raises(Unsupported, match="Set communication_backend in Absent"):
        Absent().communication_backend_name()


def test_bf16_is_tried_where_torch_cannot_tell():
    assert Bare().is_bf16_supported() is True
    assert Absent().is_bf16_supported() is False


def test_factories_have_one_meaning():
    factory = TensorFactory(torch.int32, torch.device("cpu"))
    assert factory().shape == (0,)
    assert factory(5).shape == (5,)
    assert factory(torch.Size([2, 3])).shape == (2, 3)
    assert factory([5]).tolist() == [5]
    assert factory((5, 6)).tolist() == [5, 6]
    given = torch.tensor([1, 2], dtype=torch.int32)
    factory(given).zero_()
    assert given.tolist() == [1, 2]
    with pytest.raises(TypeError, match="shape"):
        factory(2, "x")


def forwarded_names(path: Path) -> set[str]:
    """Names given as text to the members that forward to torch's module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        place = {"_forward": 0, "_forward_at": 0, "_attribute": 1}.get(node.func.attr)
        if place is not None and len(node.args) > place:
            argument = node.args[place]
            if isinstance(argument, ast.Constant):
                found.add(argument.value)
    return found


def test_every_name_that_xpu_forwards_is_in_torch():
    package = Path(accel.__file__).parent
    files = [*Path(forward.__file__).parent.glob("*.py"), package / "xpu.py"]
    names = set().union(*(forwarded_names(file) for file in files))
    assert len(names) > 20
    guarded = {"default_stream", "_lazy_call", "empty_host_cache"}
    if not hasattr(torch.xpu, "XPUGraph"):
        guarded.add("graph")
    missing = {name for name in names - guarded if not hasattr(torch.xpu, name)}
    assert not missing
    assert not {name for name in names if name.startswith("reset_max")}


def test_xpu_needs_no_extension_package():
    assert "not installed" in extension().reason


def test_gaudi_is_lazy_only_when_asked(monkeypatch):
    acc = HPUAccelerator()
    assert acc.mark_step() is None
    assert not acc.has("graphs")
    monkeypatch.setenv("PT_HPU_LAZY_MODE", "1")
    assert acc.has("graphs")


def test_capabilities_are_explained():
    assert all(CAPABILITIES.values())
