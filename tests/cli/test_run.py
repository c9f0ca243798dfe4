"""``accel run``: what it starts, with which environment, and what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from accel import registry
from accel.cli import launch
from accel.cli.launch import Launch, Request, plan
from accel.cli.main import main
from accel.cpu import CPUAccelerator
from accel.host import processors
from accel.nvidia import driver

SHOW = """
import os, pathlib, sys, time
names = ("ACCELERATOR", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "LOCAL_RANK", "CUDA_VISIBLE_DEVICES")
print(*(os.environ.get(name, "-") for name in names), os.getpid(), os.getppid(), *sys.argv[1:])
sys.stdout.flush()
if "wait" in sys.argv:
    sys.stdin.read()
# torchrun ends the others as soon as one has failed.
pathlib.Path("shown" + os.environ.get("LOCAL_RANK", "")).touch()
while len([*pathlib.Path().glob("shown*")]) < int(os.environ.get("LOCAL_WORLD_SIZE", 1)):
    time.sleep(0.01)
sys.exit(3)
"""
VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "OMP_PROC_BIND")


@pytest.fixture(autouse=True)
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in the current folder, and none of the variables that a run sets."""
    path = tmp_path / "show.py"
    path.write_text(SHOW)
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return path


def started(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "accel", "run", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **more},
    )


def planned(
    *program: str, accelerator: str = "", nproc: str | None = None, **options: str
) -> Launch:
    named = {"--" + name.replace("_", "-"): value for name, value in options.items()}
    return plan(Request(accelerator, nproc, named, program or ("show.py",)))


def test_it_becomes_the_script() -> None:
    process = started("--accelerator", "cpu", "show.py", "--nproc", "2", "--help")
    out, told = process.communicate()
    *variables, pid, _, first, second, third = out.split()
    assert variables == ["cpu", "1000", "-", "-", "-"]
    assert int(pid) == process.pid and process.returncode == 3
    assert [first, second, third] == ["--nproc", "2", "--help"]
    assert told == "accel run: set ACCELERATOR=cpu GOMP_SPINCOUNT=1000\n"


def test_it_becomes_torchrun() -> None:
    process = started("--nproc", "2", "-m", "show", "-m", "x", OMP_NUM_THREADS="5")
    out, told = process.communicate()
    assert process.returncode == 1  # torchrun's, if a process of it fails.
    ranks = sorted(line.split() for line in out.splitlines())
    assert [rank[:5] for rank in ranks] == [["-", "1000", "5", local, "-"] for local in "01"]
    assert {rank[6] for rank in ranks} == {str(process.pid)}
    assert [rank[7:] for rank in ranks] == [["-m", "x"]] * 2
    first = told.splitlines()[0]
    assert "your own OMP_NUM_THREADS=5" in first and "set GOMP_SPINCOUNT=1000 ACCEL_NUM" in first
    assert first.endswith("torchrun --standalone --nproc-per-node=2")


def test_a_full_disk_behind_stderr_keeps_nothing_from_running() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "accel", "run", "show.py"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, check=False)
    assert done.returncode == 3 and done.stdout


def test_a_signal_ends_the_script() -> None:
    process = started("show.py", "wait")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--nproc", "0", "show.py"), "--nproc 0: expected a whole number from 1"),
        (("--nproc", "two", "show.py"), "--nproc two: expected"),
        (("shwo.py",), "no script 'shwo.py' in {cwd}. Did you mean 'show.py'?"),
        (("-m", "nowhere.train"), "there is no module 'nowhere' in {cwd}"),
        (("-m",), "the name of a module is missing"),
        ((), "A program is missing"),
        (("--accelerator", "cuda", "show.py"), "--accelerator cuda, but torch"),
        (("--accelerator", "my_npu", "show.py"), "ACCELERATOR=my_npu accel run"),
        (("--nproc", "2", "-c", "pass"), "torchrun starts scripts and modules, not '-c'"),
        (("--nnodes", "2", "show.py"), "needs --rdzv-endpoint HOST:PORT"),
        (("--nnodes", "two", "show.py"), "--nnodes two: expected the number of machines"),
        (("--nnodes", "3:2", "show.py"), "--nnodes 3:2: expected the number of machines"),
        (("--node-rank", "1", "show.py"), "--node-rank 1, but with --nnodes 1 the machines are"),
        (
            ("--nnodes=2", "--node-rank=2", "--master-addr=127.0.0.1", "show.py"),
            "--node-rank 2, but with --nnodes 2 the machines are numbered 0 to 1: give",
        ),
        (("--nnodes=2", "--node-rank=-1", "show.py"), "--node-rank -1: expected a whole number"),
        (("--nnodes=2", "--master-addr=127.0.0.1", "show.py"), "--nnodes 2 needs --node-rank,"),
        (("--master-port", "x", "show.py"), "--master-port x: expected a whole number from 1"),
        (("--rdzv-endpoint", "a:x", "show.py"), "--rdzv-endpoint a:x: expected HOST:PORT"),
        (("--rdzv-endpoint", "a:65536", "show.py"), "the port from 0 to 65535"),
        ((".",), "'.' is a folder without a __main__.py"),
        (("show.py/",), "There is no script 'show.py/'"),
        (("--max-restarts", "-2", "show.py"), "--max-restarts -2: expected a whole number from 0"),
        (("nope.py", "--json"), "no script 'nope.py'"),
        (("--standalone", "--rdzv-endpoint", "a:1", "show.py"), "means one machine"),
    ],
    ids=str,
)
def test_what_cannot_run_is_one_sentence_and_exit_code_2(
    arguments: tuple[str, ...], says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments])
    told = capfd.readouterr().err
    assert ended.value.code == 2
    assert told.startswith("Error: ") and told.count("\n") == 1
    assert says.format(cwd=tmp_path) in told


def test_a_misspelt_option_is_no_program(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--nprocs", "2", "show.py"])
    assert ended.value.code == 2
    assert "'--nproc'" in capfd.readouterr().err


class TwoDevices(CPUAccelerator):
    """Devices that can be counted."""

    name = "two"
    visible_devices_env = ("TWO_VISIBLE",)

    @property
    def device_type(self) -> str:
        return "two"

    def device_count(self) -> int:
        return 2


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    registry.register_accelerator("two", f"{__name__}:TwoDevices")
    monkeypatch.setattr(registry, "resolve", lambda target: TwoDevices)
    monkeypatch.setenv("TWO_VISIBLE", "1,5")
    monkeypatch.setenv("ACCELERATOR", "two")
    assert "--nproc-per-node=2" in planned(nproc="2").arguments
    assert "--nproc-per-node=2" in planned(nproc="auto").arguments
    assert planned(nproc="2").variables["TWO_VISIBLE"] == "1,5"
    with pytest.raises(ValueError, match=r"--nproc 3, but two has 2 devices here \(TWO_VISIBLE=1,"):
        planned(nproc="3")


def test_the_users_variables_win_and_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    monkeypatch.setenv("ACCELERATOR", "cpu")
    made = planned(nproc="1")
    assert "GOMP_SPINCOUNT" not in made.variables
    assert made.variables["OMP_NUM_THREADS"] != ""
    assert "your own ACCELERATOR=cpu OMP_WAIT_POLICY=active" in made.summary
    assert made.summary.startswith("set OMP_NUM_THREADS=")
    # An option is typed later than a variable.
    monkeypatch.setenv("ACCELERATOR", "xpu")
    made = planned(accelerator="cpu")
    assert made.variables["ACCELERATOR"] == "cpu"
    assert "; instead of your ACCELERATOR=xpu; " in made.summary


def test_a_backend_that_the_program_registers_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCELERATOR", "my_npu")
    assert planned(nproc="4").variables["ACCELERATOR"] == "my_npu"


def test_torchruns_options_are_handed_on() -> None:
    arguments = planned("show.py", "a", nproc="1", nnodes="2", rdzv_endpoint="host:1").arguments
    assert arguments[:2] == ("-m", "torch.distributed.run")
    assert {"--nnodes=2", "--rdzv-endpoint=host:1", "--rdzv-backend=c10d"} < {*arguments}
    assert "--standalone" not in arguments and arguments[-2:] == ("show.py", "a")
    assert "--standalone" in planned(nnodes="1").arguments
    for endpoint in ("host", "[::1]", "[::1]:29500"):
        assert f"--rdzv-endpoint={endpoint}" in planned(rdzv_endpoint=endpoint).arguments
    named = planned(nnodes="2", node_rank="1", master_addr="host", max_restarts="0")
    assert {"--node-rank=1", "--max-restarts=0"} < {*named.arguments}


FOUR_AND_FOUR = [frozenset(range(4)), frozenset(range(4, 8))]


@pytest.mark.parametrize(
    ("count", "quota", "expected"),
    [(1, None, "8"), (2, None, "4"), (3, None, "2"), (16, None, "1"), (2, 3, "1"), (1, 3, "3")],
)
def test_threads_are_shared_by_node_and_limited_by_quota(
    monkeypatch: pytest.MonkeyPatch, count: int, quota: int | None, expected: str
) -> None:
    monkeypatch.setattr(processors, "cores", len)
    found = launch.thread_counts(count, FOUR_AND_FOUR, quota, distributed=True)
    assert found == {"OMP_NUM_THREADS": expected, "ACCEL_NUM_THREADS": expected}


def test_one_program_is_limited_by_a_quota_alone() -> None:
    counts = launch.thread_counts
    assert counts(1, FOUR_AND_FOUR, None, distributed=False) == {}
    assert counts(1, FOUR_AND_FOUR, 8, distributed=False) == {}
    assert counts(1, FOUR_AND_FOUR, 3, distributed=False)["OMP_NUM_THREADS"] == "3"


def test_ranks_are_bound_to_numa_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "nodes", lambda cpus: FOUR_AND_FOUR)
    made = planned(nproc="auto")
    assert "bound by rank to their part of 2 NUMA nodes" in made.summary
    at = made.arguments.index("--no-python")
    assert made.arguments[at + 1 :] == (
        *(sys.executable, "-m", "accel.cli.rank", "0,1,2,3;4,5,6,7", "-u", "show.py"),
    )
    monkeypatch.setenv("OMP_PROC_BIND", "close")
    made = planned(nproc="2")
    assert "--no-python" not in made.arguments and "OMP_PROC_BIND=close" in made.summary


class TwoGPUs(TwoDevices):
    """Devices that torch names as CUDA's."""

    @property
    def device_type(self) -> str:
        return "cuda"


@pytest.fixture
def two_nodes(tmp_path: Path) -> tuple[Path, Path]:
    """The kernel's folders of PCI devices and of NUMA nodes: a GPU on each of two nodes."""
    pci, nodes = tmp_path / "pci", tmp_path / "nodes"
    for address, number in ((FIRST, "1\n"), (SECOND, "0\n"), (NOWHERE, "-1\n")):
        (pci / address).mkdir(parents=True)
        (pci / address / "numa_node").write_text(number)
    for number, cpus in enumerate(("0-3", "4-7")):
        (nodes / f"node{number}").mkdir(parents=True)
        (nodes / f"node{number}/cpulist").write_text(cpus)
    return pci, nodes


FIRST, SECOND, NOWHERE = "0000:3b:00.0", "0001:d8:00.0", "0000:01:00.0"


def test_the_processors_beside_a_device_are_read_from_the_kernels_files(
    two_nodes: tuple[Path, Path],
) -> None:
    usable = frozenset(range(1, 8))
    low, high = frozenset({1, 2, 3}), frozenset({4, 5, 6, 7})
    assert processors.beside([FIRST, SECOND], usable, *two_nodes) == [high, low]
    assert processors.beside([FIRST, FIRST], usable, *two_nodes) == [high, high]
    # A device whose node the firmware does not tell, one without an address, one that is absent.
    for other in (NOWHERE, "", "0000:02:00.0"):
        assert processors.beside([FIRST, other], usable, *two_nodes) == []
    assert processors.beside([SECOND], high, *two_nodes) == []


def test_ranks_of_gpus_are_bound_to_the_gpus_nodes(
    two_nodes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    registry.register_accelerator("two", f"{__name__}:TwoGPUs")
    monkeypatch.setattr(registry, "resolve", lambda target: TwoGPUs)
    monkeypatch.setenv("ACCELERATOR", "two")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    pci, nodes = two_nodes
    monkeypatch.setattr(processors, "nodes", partial(processors.nodes, folder=nodes))
    monkeypatch.setattr(processors, "beside", partial(processors.beside, pci=pci, folder=nodes))
    monkeypatch.setattr(processors, "usable", lambda: frozenset(range(8)))
    gpus = [driver.GPU("H100", f"GPU-{at}", (9, 0), 80, None, at) for at in (FIRST, SECOND)]
    found = driver.Driver("580", (13, 0), tuple(gpus))
    monkeypatch.setattr(driver, "read_driver", lambda: found)
    made = planned(nproc="2")
    at = made.arguments.index("--no-python")
    assert made.arguments[at + 4] == "4,5,6,7;0,1,2,3"
    assert "bound by rank to their part of 2 NUMA nodes" in made.summary
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert "0,1,2,3;4,5,6,7" in planned(nproc="auto").arguments
    assert "--no-python" not in planned(nproc="1").arguments
    # CUDA would number unlike GPUs by their speed, which the driver does not tell.
    found = driver.Driver("580", (13, 0), (*gpus, driver.GPU("T4", "GPU-x", (7, 5), 16)))
    assert "--no-python" not in planned(nproc="2").arguments


def test_processes_that_share_a_node_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "cores", len)
    high = FOUR_AND_FOUR[1]
    found = launch.thread_counts(2, FOUR_AND_FOUR, None, distributed=True, shares=[high, high])
    assert found["OMP_NUM_THREADS"] == "2"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
@pytest.mark.parametrize("places", ["{other};{cpu}", "{cpu}"])
def test_a_rank_binds_itself_and_becomes_the_program(places: str) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    text = places.format(cpu=cpus[-1], other=cpus[0])
    ask = "import os, sys; print(os.getpid(), *os.sched_getaffinity(0), sys.argv[1])"
    process = subprocess.Popen(
        [sys.executable, "-m", "accel.cli.rank", text, "-c", ask, "x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "LOCAL_RANK": "1"},
    )
    out, told = process.communicate()
    pid, *bound, last = out.split()
    assert int(pid) == process.pid and last == "x"
    if ";" in places:
        assert bound == [str(cpus[-1])] and not told
    else:
        assert sorted(map(int, bound)) == cpus and "rank 1 is not bound" in told


def test_processors_are_read_from_the_kernels_files(tmp_path: Path) -> None:
    for number, cpus in enumerate(("0-3,8", "4-7", "16-31")):
        (tmp_path / f"node{number}").mkdir()
        (tmp_path / f"node{number}/cpulist").write_text(f"{cpus}\n")
    usable = frozenset({0, 1, 2, 3, 6, 7, 8})
    nodes = processors.nodes(usable, tmp_path)
    assert nodes == [frozenset({0, 1, 2, 3, 8}), frozenset({6, 7})]
    assert processors.nodes(usable, tmp_path / "absent") == [usable]
    assert [processors.share(rank, 3, nodes) for rank in range(3)] == [nodes[0], nodes[0], nodes[1]]
    assert processors.share(0, 1, nodes) == usable
    for cpu in range(4):
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(
            f"{cpu % 2},{cpu % 2 + 2}"
        )
    assert processors.cores(frozenset(range(4)), tmp_path) == 2
    assert processors.cores(frozenset({7, 8}), tmp_path) == 2
