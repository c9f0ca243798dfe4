"""The CPU backend beyond the conformance kit: events, graphs, memory, imports."""

import subprocess
import sys
import threading
import time

import pytest
import torch

from accel.cpu import CPUAccelerator
from accel.errors import Unsupported
from accel.host import memory
from accel.host.graph import capturing


@pytest.fixture
def cpu():
    return CPUAccelerator()


def test_naming_the_device_needs_no_torch():
    code = (
        "import sys, accel.cpu as c; a = c.CPUAccelerator(); a.device_name(3), a.device_count(),"
        "a.memory_allocated(), a.current_stream(), a.probe(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_index_is_the_one_device(cpu):
    cpu.set_device(7)
    assert cpu.current_device() == 0
    assert cpu.device_name(7) == "cpu"
    assert cpu.device(7) == torch.device("cpu")
    assert cpu.current_device_name() == "cpu"
    with pytest.raises(TypeError, match="set_device"):
        cpu.set_device(None)


def test_seeds_are_the_hosts_alone(cpu, monkeypatch):
    def fail(seed: int) -> None:
        raise AssertionError("another device was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", fail)
    cpu.manual_seed(3)
    assert torch.initial_seed() == 3


def test_streams_are_each_threads_own(cpu):
    stream = cpu.Stream(priority=-1)
    seen = []
    with cpu.stream(stream):
        thread = threading.Thread(target=lambda: seen.append(cpu.current_stream()))
        thread.start()
        thread.join()
        assert cpu.current_stream() is stream
    assert seen == [cpu.default_stream()]
    with pytest.raises(TypeError, match="expected a CPU stream"):
        cpu.stream(torch.ones(1))


def test_events_use_the_hosts_clock(cpu):
    start, end = cpu.Event(enable_timing=True), cpu.Event(enable_timing=True)
    with pytest.raises(RuntimeError, match="record"):
        start.elapsed_time(end)
    began = time.perf_counter()
    start.record()
    time.sleep(0.02)
    end.record()
    took = (time.perf_counter() - began) * 1000
    assert 20 <= start.elapsed_time(end) <= took


def capture(cpu, function):
    graph = cpu.create_graph()
    with cpu.capture_to_graph(graph):
        result = function()
    return graph, result


def test_a_captured_training_step_is_the_eager_one(cpu):
    def make():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 1))
        return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(model, optimizer, batch):
        optimizer.zero_grad(set_to_none=False)
        loss = model(batch).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss

    batches = [torch.randn(4, 8) for _ in range(4)]
    eager, eager_optimizer = make()
    losses = [step(eager, eager_optimizer, batch).item() for batch in batches]

    model, optimizer = make()
    static = batches[0].clone()
    found = [step(model, optimizer, static).item()]
    static.copy_(batches[1])
    graph, loss = capture(cpu, lambda: step(model, optimizer, static))
    found.append(loss.item())
    for batch in batches[2:]:
        static.copy_(batch)
        cpu.replay_graph(graph)
        found.append(loss.item())
    assert found == losses


def test_replays_draw_anew(cpu):
    graph, drawn = capture(cpu, lambda: torch.rand(8))
    first = drawn.clone()
    graph.replay()
    assert not torch.equal(first, drawn)


def test_what_depends_on_values_is_not_captured(cpu):
    given = torch.ones(3)
    for function in (lambda: given.sum().item(), lambda: given.nonzero()):
        with pytest.raises(Unsupported, match="cannot be captured"):
            capture(cpu, function)
    assert not capturing()


def test_writes_past_the_dispatcher_are_not_lost_silently(cpu, cache_dir, monkeypatch):
    from accel.optim import FusedAdam

    def step(policy):
        monkeypatch.setenv("ACCEL_OPS", policy)
        parameter = torch.nn.Parameter(torch.ones(8))
        parameter.grad = torch.ones(8)
        optimizer = FusedAdam([parameter], lr=0.1)
        graph, _ = capture(cpu, lambda: (parameter * 2, optimizer.step(), optimizer.step()))
        before = parameter.detach().clone()
        graph.replay()
        return bool((parameter < before).all())

    # Either what the op does is recorded, or the capture says that it cannot be.
    for policy in ("native", "reference"):
        try:
            assert step(policy)
        except Unsupported as error:
            assert "a replay would" in str(error)


def test_a_written_parameter_is_noticed(cpu):
    parameter = torch.ones(4)

    def write_natively():
        made = parameter * 2
        torch.autograd.graph.increment_version(parameter)
        return made

    with pytest.raises(Unsupported, match="without PyTorch's dispatcher"):
        capture(cpu, write_natively)


def test_an_empty_capture_is_refused(cpu):
    with pytest.raises(Unsupported, match="no operation to repeat"):
        capture(cpu, lambda: None)


def test_graphs_do_not_nest_and_reset(cpu):
    graph, made = capture(cpu, lambda: torch.ones(3) * 2)
    with pytest.raises(RuntimeError, match="reset"), cpu.capture_to_graph(graph):
        pass
    with (
        pytest.raises(RuntimeError, match="nest"),
        cpu.capture_to_graph(cpu.create_graph()),
        cpu.capture_to_graph(cpu.create_graph()),
    ):
        pass
    graph.reset()
    with pytest.raises(RuntimeError, match="empty"):
        graph.replay()
    assert made.tolist() == [2, 2, 2]


def test_views_of_a_captured_result_follow_it(cpu):
    given = torch.zeros(2, 3)
    graph, view = capture(cpu, lambda: (given + 1).T[0])
    given.fill_(4)
    graph.replay()
    assert view.tolist() == [5, 5]


def test_peaks_without_a_kernel_that_keeps_them(tmp_path):
    resident = memory.ResidentSet(clear_refs=tmp_path / "none" / "clear_refs")
    block = torch.ones(16 << 20)
    resident.reset_peak()
    now, peak = resident.usage()
    del block
    assert peak >= now
    assert resident.usage()[1] == max(peak, resident.usage()[0])


def test_memory_without_proc(tmp_path):
    resident = memory.ResidentSet(status=tmp_path / "status", clear_refs=tmp_path / "x" / "y")
    now, peak = resident.usage()
    assert peak >= now > 1 << 20


def write_group(folder, limit, used, stat=""):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(limit)
    (folder / "memory.current").write_text(used)
    (folder / "memory.stat").write_text(stat)


def test_control_groups_limit_memory(tmp_path):
    membership = tmp_path / "cgroup"
    membership.write_text("0::/job/step\n")
    write_group(tmp_path / "job", "1000", "700", "anon 400\ninactive_file 300\n")
    write_group(tmp_path / "job" / "step", "max", "10")
    assert memory.control_groups(tmp_path, membership) == [(1000, 400)]
    membership.write_text("5:cpu,memory:/job\n")
    old = tmp_path / "memory" / "job"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("64")
    (old / "memory.usage_in_bytes").write_text("32")
    assert memory.control_groups(tmp_path, membership) == [(64, 32)]


def test_dtypes_are_what_torch_computes_fast(cpu):
    assert cpu.is_bf16_supported() is bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    assert cpu.is_fp16_supported() is bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())


def test_properties_name_the_processor(cpu):
    found = cpu.device_properties()
    assert found.name
    assert found.capability == torch.backends.cpu.get_cpu_capability()
    assert found.total_memory == cpu.total_memory()


def test_ranges_are_in_the_profile(cpu):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        cpu.range_push("pushed")
        with cpu.range("scoped"):
            torch.ones(2).sum()
        cpu.range_pop()
    names = {event.name for event in profile.events()}
    assert {"pushed", "scoped"} <= names


def test_no_random_states_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got no state, and this process sees 1 device"):
        CPUAccelerator().set_rng_state_all([])
