"""The process that ``accel run`` becomes: Python's arguments, environment, a line about both."""

from __future__ import annotations

import importlib.machinery
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from accel import environment, registry
from accel.cli.machines import check_machines, is_number
from accel.errors import InvalidSetting, UnknownBackend, suggestion
from accel.host import processors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from accel.base import Accelerator

_AUTO = "auto"

# GNU OpenMP spins 300,000 times: beside a busy process, training then takes three times as long.
# With 0, each short parallel region pays for a thread's waking: torch's fused optimizers take six
# times as long on an idle machine.
SPIN_COUNT = "1000"


@dataclass(frozen=True)
class Request:
    """The command line.

    Attributes:
        accelerator: the backend's name, or ``""``.
        nproc: processes on this machine as written, ``None`` if not given.
        options: torchrun's other options by name, as written; ``""`` for one without a value.
        program: the script, or ``-m`` and a module, with its arguments.
    """

    accelerator: str
    nproc: str | None
    options: Mapping[str, str]
    program: tuple[str, ...]

    @property
    def distributed(self) -> bool:
        """``True`` if torchrun starts the program."""
        return self.nproc is not None or bool(self.options)


@dataclass(frozen=True)
class Launch:
    """A process to become: Python's `arguments`, its `variables`, and a line for people."""

    arguments: tuple[str, ...]
    variables: dict[str, str]
    summary: str


def plan(request: Request) -> Launch:
    """Return the process to start.

    Raises:
        InvalidSetting: the program, the number of processes or an option is wrong.
        BackendUnavailable, UnknownBackend: the accelerator asked for cannot be used.
    """
    check_program(request)
    strategy = _strategy(request)
    count = _process_count(request.nproc, strategy)
    nodes = processors.nodes(processors.usable())
    places = environment.thread_places()
    shares = [] if places else _shares(strategy, count, nodes)
    quota = processors.quota()
    wanted = {
        "GOMP_SPINCOUNT": SPIN_COUNT,
        **thread_counts(count, nodes, quota, distributed=request.distributed, shares=shares),
    }
    variables, kept = environment.for_program(wanted)
    ours = {
        name: value
        for name, value in wanted.items()
        if name not in kept and variables.get(name) == value
    }
    replaced = {}
    if request.accelerator:
        if environment.accelerator() not in {"", request.accelerator}:
            replaced = {"ACCELERATOR": environment.accelerator()}
        variables["ACCELERATOR"] = request.accelerator
        ours = {"ACCELERATOR": request.accelerator, **ours}
    elif environment.accelerator():
        kept = {"ACCELERATOR": environment.accelerator(), **kept}
    launcher = _rendezvous(request, count) if request.distributed else ()
    said = [
        _written("set", ours),
        _written("instead of your", replaced),
        _written("your own", {**kept, **(places if count > 1 else {})}),
        f"bound by rank to their part of {len(nodes)} NUMA nodes" if shares else "",
        f"torchrun {' '.join(launcher)}" if launcher else "",
    ]
    arguments = request.program
    if launcher:
        started = _bound(request.program, shares) if shares else request.program
        arguments = ("-m", "torch.distributed.run", *launcher, *started)
    return Launch(arguments, variables, "; ".join(filter(None, said)))


def _written(verb: str, variables: Mapping[str, str]) -> str:
    text = " ".join(f"{name}={value}" for name, value in variables.items())
    return f"{verb} {text}" if text else ""


def check_program(request: Request) -> None:
    """Raise `InvalidSetting` if there is no such script or module, or torchrun cannot start it."""
    if not request.program:
        raise InvalidSetting(
            "A program is missing: accel run [OPTIONS] SCRIPT.PY ARGS..., or -m MODULE ARGS..."
        )
    first, *rest = request.program
    if first == "-m":
        if not rest:
            raise InvalidSetting("-m: the name of a module is missing after it.")
        top = rest[0].partition(".")[0]
        path = [str(Path.cwd()), *sys.path]
        found = top in sys.builtin_module_names or importlib.machinery.PathFinder.find_spec(
            top, path
        )
        if not found:
            raise InvalidSetting(
                f"-m {rest[0]}: there is no module {top!r} in {Path.cwd()} or among the packages "
                f"of {sys.executable}; go to its folder, or install it there."
            )
    elif first.startswith("-"):
        if request.distributed:
            raise InvalidSetting(
                f"torchrun starts scripts and modules, not {first!r}: name a SCRIPT.PY, or leave "
                "out --nproc and torchrun's other options."
            )
    elif Path(first).is_dir() and not (Path(first) / "__main__.py").exists():
        raise InvalidSetting(
            f"{first!r} is a folder without a __main__.py, which Python would run: name a script."
        )
    elif not Path(first).exists() or (first.endswith("/") and not Path(first).is_dir()):
        scripts = [path.name for path in Path(first).parent.glob("*.py")]
        raise InvalidSetting(
            f"There is no script {first!r} in {Path.cwd()}.{suggestion(Path(first).name, scripts)} "
            "Give its path; to run a module, put -m before its name."
        )


def _strategy(request: Request) -> Accelerator | None:
    """Return the accelerator that the program will use, ``None`` if that need not be known."""
    asked = request.accelerator or environment.accelerator()
    if asked.lower() not in {"", _AUTO}:
        try:
            how = "--accelerator " if request.accelerator else "ACCELERATOR="
            return registry.require(asked, f"{how}{asked}")
        except UnknownBackend as error:
            if request.accelerator:
                raise UnknownBackend(
                    f"{error} If the program itself registers it: ACCELERATOR={asked} accel run ..."
                ) from None
            # The program may register it.
            return None
    return registry.detect() if request.distributed else None


def _process_count(text: str | None, strategy: Accelerator | None) -> int:
    """Return the number of processes on this machine; raises if its devices are fewer."""
    if text is None:
        return 1
    on_host = strategy is None or strategy.device_type == "cpu"
    if text == _AUTO:
        if on_host or strategy is None:
            return len(processors.nodes(processors.usable()))
        return max(1, strategy.device_count())
    if not (is_number(text) and int(text) > 0):
        raise InvalidSetting(
            f"--nproc {text}: expected a whole number from 1, or auto: one for each device."
        )
    if strategy is None or on_host:
        return int(text)
    devices = strategy.device_count()
    if int(text) > devices:
        limits = [
            f"{name}={value}"
            for name in strategy.visible_devices_env
            if (value := environment.visible_devices(name)) is not None
        ]
        limit = f" ({', '.join(limits)})" if limits else ""
        raise InvalidSetting(
            f"--nproc {text}, but {strategy.name} has {devices} device{'s'[: devices != 1]} "
            f"here{limit}: use --nproc {max(1, devices)}, or --accelerator cpu."
        )
    return int(text)


def _shares(
    strategy: Accelerator | None, count: int, nodes: list[frozenset[int]]
) -> list[frozenset[int]]:
    """Return the CPUs of each rank: of its device's NUMA node, on the CPU of its part of all nodes.

    Empty if a device's node is not known. Each rank uses the device of its number.
    """
    if strategy is None or count < 2 or len(nodes) < 2:
        return []
    if strategy.device_type == "cpu":
        return [processors.share(rank, count, nodes) for rank in range(count)]
    if strategy.device_type != "cuda":
        return []
    from accel.nvidia import driver

    addresses = driver.pci_addresses()[:count]
    return processors.beside(addresses, processors.usable()) if len(addresses) == count else []


def thread_counts(
    count: int,
    nodes: list[frozenset[int]],
    quota: int | None,
    *,
    distributed: bool,
    shares: Sequence[frozenset[int]] = (),
) -> dict[str, str]:
    """Return the variables for the threads of each of `count` processes.

    Each gets its part of the physical cores of its NUMA node, so that all together have one thread
    for each core; a CPU quota limits that further. A single program without torchrun gets none,
    unless a quota limits it: torch then takes the cores by itself. `shares` are the CPUs that each
    process is bound to, if it is.
    """
    cpus = frozenset[int]().union(*nodes)
    if not distributed:
        if quota is None or quota >= len(cpus):
            return {}
        threads = quota
    else:
        parts = [*shares] or [processors.share(rank, count, nodes) for rank in range(count)]
        threads = min(processors.cores(own) // parts.count(own) for own in parts)
        if quota is not None:
            threads = min(threads, quota // count)
    text = str(max(1, threads))
    return {"OMP_NUM_THREADS": text, "ACCEL_NUM_THREADS": text}


def _rendezvous(request: Request, count: int) -> tuple[str, ...]:
    """Return torchrun's own arguments."""
    options = dict(request.options)
    check_machines(options)
    machines = options.get("--nnodes", "1")
    meets = [name for name in options if name in {"--rdzv-endpoint", "--master-addr"}]
    if machines not in {"1", "1:1"} and not meets:
        raise InvalidSetting(
            f"--nnodes {machines} needs --rdzv-endpoint HOST:PORT, an address of one machine, the "
            "same on all of them."
        )
    if "--standalone" in options and meets:
        raise InvalidSetting(f"--standalone means one machine: leave it out, or {meets[0]}.")
    if not meets:
        options = {"--standalone": "", **options}
    elif "--rdzv-endpoint" in options:
        options.setdefault("--rdzv-backend", "c10d")
    return (
        *(f"{name}={value}" if value else name for name, value in options.items()),
        f"--nproc-per-node={count}",
    )


def _bound(program: tuple[str, ...], shares: Sequence[frozenset[int]]) -> tuple[str, ...]:
    """Return a program for torchrun that binds itself to its rank's processors first."""
    places = ";".join(",".join(map(str, sorted(own))) for own in shares)
    return ("--no-python", sys.executable, "-m", "accel.cli.rank", places, "-u", *program)
