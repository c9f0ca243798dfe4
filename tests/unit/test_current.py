"""Selecting the accelerator: environment, detection, scopes, threads and forks."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import accel
from accel import current, registry
from accel.base import Accelerator
from accel.errors import BackendUnavailable, UnknownBackend
from accel.probe import Accepted, Probe, Rejected


class Fake(Accelerator):
    name = "fake"
    device_type = "cpu"
    verdict: Probe = Accepted("it is made of paper.")

    def is_available(self) -> bool:
        return bool(self.verdict)

    def probe(self) -> Probe:
        return self.verdict


class Absent(Fake):
    name = "absent"
    verdict = Rejected("there is none.", "Buy one.")


class Raising(Fake):
    name = "raising"

    def probe(self) -> Probe:
        raise RuntimeError("driver on fire")


class Misnamed(Fake):
    name = "other"


not_a_backend = object()


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_instances", {})
    accel.set_accelerator(None)


def register(name: str, target: str | None = None, **options: object) -> None:
    accel.register_accelerator(name, target or f"{__name__}:{name.title()}", **options)  # type: ignore[arg-type]


def test_the_environment_names_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    register("fake")
    monkeypatch.setenv("ACCELERATOR", "fake")
    assert isinstance(accel.get_accelerator(), Fake)
    assert accel.get_accelerator() is accel.get_accelerator()


@pytest.mark.parametrize("text", ["", "auto"])
def test_without_a_name_the_highest_accepted_one_is_detected(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register("absent", priority=9000)
    register("raising", priority=8000)
    register("fake", priority=7000)
    monkeypatch.setenv("ACCELERATOR", text)
    assert accel.get_accelerator().name == "fake"


def test_a_plugin_never_outranks_the_cpu_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    register("absent")
    assert accel.get_accelerator().name in {"cuda", "xpu", "hpu", "cpu"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (" ", "spaces around the name, or no name"),
        ("cpu ", "spaces around"),
        ("CPU", "Did you mean 'cpu'"),
        ("cuda:1", r"takes the kind \('cuda'\)"),
        ("quantum", "not a known backend"),
    ],
)
def test_a_name_that_is_none_says_what_is_accepted(
    text: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATOR", text)
    with pytest.raises(UnknownBackend, match=says) as caught:
        accel.get_accelerator()
    assert "Accepted: cpu, cuda, hpu, mlu" in str(caught.value)


def test_an_unusable_explicit_choice_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    register("absent")
    monkeypatch.setenv("ACCELERATOR", "absent")
    with pytest.raises(BackendUnavailable) as caught:
        accel.get_accelerator()
    assert str(caught.value).startswith("ACCELERATOR=absent, but there is none. Buy one.")


@pytest.mark.parametrize("name", ["xpu", "hpu"])
def test_a_device_that_is_not_here_is_refused_by_reason(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATOR", name)
    with pytest.raises(BackendUnavailable, match=f"ACCELERATOR={name}, but "):
        accel.get_accelerator()


@pytest.mark.parametrize(
    ("name", "target", "says"),
    [
        ("raising", f"{__name__}:Raising", "driver on fire"),
        ("missing", "no_such_module_here:Thing", "No module named"),
        ("nothing", f"{__name__}:not_a_backend", "not a subclass"),
        ("misnamed", f"{__name__}:Misnamed", "its name is 'other'"),
    ],
)
def test_a_broken_backend_is_a_rejected_candidate_with_its_traceback(
    name: str, target: str, says: str
) -> None:
    register(name, target, hint="Install it again.")
    verdict = {candidate.name: candidate for candidate in accel.candidates()}[name]
    assert not verdict.accepted
    assert says in verdict.reason
    assert verdict.fix == "Install it again."
    assert verdict.error is not None and "Traceback" in verdict.error
    with pytest.raises(BackendUnavailable, match=says):
        accel.set_accelerator(name)


def test_candidates_are_in_the_order_of_detection() -> None:
    priorities = [candidate.priority for candidate in accel.candidates()]
    assert priorities == sorted(priorities, reverse=True)
    assert {candidate.name for candidate in accel.candidates()} >= {"cuda", "xpu", "hpu", "cpu"}
    for candidate in accel.candidates():
        assert candidate.reason, candidate


def test_registering_twice_is_fine_and_another_needs_replace() -> None:
    register("fake")
    register("fake")
    with pytest.raises(ValueError, match="replace=True"):
        accel.register_accelerator("fake", f"{__name__}:Absent")
    with pytest.raises(ValueError, match="built in"):
        accel.register_accelerator("cpu", f"{__name__}:Fake")
    accel.register_accelerator("fake", f"{__name__}:Absent", replace=True)


@pytest.mark.parametrize(
    ("name", "target"), [("A", "m:C"), ("a b", "m:C"), ("a", "m"), ("a", "m:")]
)
def test_a_malformed_registration_is_refused(name: str, target: str) -> None:
    with pytest.raises(ValueError, match="register_accelerator"):
        accel.register_accelerator(name, target)


def test_set_takes_an_object_a_name_or_nothing() -> None:
    fake = Fake()
    accel.set_accelerator(fake)
    assert accel.get_accelerator() is fake
    accel.set_accelerator("cpu")
    assert accel.get_accelerator().name == "cpu"
    with pytest.raises(TypeError, match=r"Fake\(\)"):
        accel.set_accelerator(Fake)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not int"):
        accel.set_accelerator(3)  # type: ignore[arg-type]
    assert accel.get_accelerator().name == "cpu"


def test_a_scope_is_this_contexts_own_and_ends_with_its_block() -> None:
    accel.set_accelerator("cpu")
    fake = Fake()
    with accel.use_accelerator(fake) as inside:
        assert inside is fake is accel.get_accelerator()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(accel.get_accelerator).result().name == "cpu"
        with accel.use_accelerator("cpu"):
            assert accel.get_accelerator().name == "cpu"
        assert accel.get_accelerator() is fake
    assert accel.get_accelerator().name == "cpu"
    with pytest.raises(RuntimeError), accel.use_accelerator(fake):
        raise RuntimeError
    assert accel.get_accelerator().name == "cpu"
    assert current._open_scopes == 0


def test_accelerator_for_follows_the_device_not_the_choice() -> None:
    import torch

    accel.set_accelerator("cpu")
    assert accel.accelerator_for("cuda:1").name == "cuda"
    assert accel.accelerator_for(torch.device("xpu", 0)).name == "xpu"
    assert accel.accelerator_for(torch.zeros(1)).name == "cpu"
    fake = Fake()
    with accel.use_accelerator(fake):
        assert accel.accelerator_for("cpu") is fake
    with pytest.raises(UnknownBackend, match="'meta'"):
        accel.accelerator_for("meta")
    with pytest.raises(TypeError, match="not int"):
        accel.accelerator_for(3)


def test_sixteen_threads_get_one_object() -> None:
    register("fake", priority=9000)
    barrier = threading.Barrier(16)

    def get() -> Accelerator:
        barrier.wait()
        return accel.get_accelerator()

    with ThreadPoolExecutor(16) as pool:
        found = [future.result() for future in [pool.submit(get) for _ in range(16)]]
    assert len({id(one) for one in found}) == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_selects_does_not_hang() -> None:
    accel.get_accelerator()
    accel.set_accelerator(None)
    held = threading.Event()
    release = threading.Event()

    def hold() -> None:
        with current._lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if accel.get_accelerator().name else 1)
    deadline = time.monotonic() + 20
    done, status = 0, 1
    while not done and time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.02)
    release.set()
    thread.join()
    if not done:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert done and status == 0


def test_the_choice_traces_under_compile() -> None:
    import torch

    accel.set_accelerator("cpu")

    @torch.compile(fullgraph=True, backend="eager")
    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if accel.get_accelerator().device_name() == "cpu" else x

    assert double(torch.ones(2)).tolist() == [2, 2]
