"""Loads one library in a process of its own and tells about it as JSON; imports no torch."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

EVENTS: list[str] = []
OPENED: list[str] = []


def main() -> None:
    # A shell starts what runs in its background with interrupts ignored, which is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    job = json.loads(sys.argv[1])
    sys.path.insert(0, job["package"])
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    from accel import jit
    from accel.errors import AccelError

    recipe = jit.Recipe(
        name=job.get("name", "op"),
        backend="cpu",
        sources=tuple(Path(source) for source in job["sources"]),
        include_dirs=tuple(Path(folder) for folder in job.get("include_dirs", ())),
        **job.get("more", {}),
    )
    if job.get("die_at"):
        die_at(job["die_at"])
    if job.get("wait_for"):
        await_file(job["wait_for"])
    if job.get("dawdle"):
        dawdle_before_locking(job["dawdle"])
    if job.get("linger"):
        linger_before_loading(job["linger"])
    if job.get("vanish"):
        remove_before_loading()
    if job.get("fork_first"):
        fork_and_stay(job["fork_first"])
    if job.get("deaf"):
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    if job.get("watch"):
        sys.addaudithook(watch)
    told = {"pid": os.getpid()}
    acquire = jit.acquire
    try:
        libraries = in_threads(job.get("threads", 0), acquire, recipe)
        library = libraries[0]
        assert all(other is library for other in libraries)
        told |= {
            "value": library.handle.value(),
            "rung": library.rung,
            "path": str(library.path),
            "digest": library.digest,
        }
    except AccelError as error:
        told |= {"error": type(error).__name__, "message": str(error)}
        told |= {key: str(value) for key, value in vars(error).items()}
    if job.get("edit"):
        told["again"] = edit_and_load(jit, recipe, job["edit"])
    told |= {"events": EVENTS, "opened": OPENED, "torch": "torch" in sys.modules}
    sys.stdout.write(json.dumps(told))
    sys.stdout.flush()


def watch(event: str, arguments: tuple) -> None:
    if event in {"subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.fork"}:
        EVENTS.append(event)
    elif event == "open":
        OPENED.append(str(arguments[0]))


def in_threads(count: int, function, *arguments) -> list:
    """Call a function at once in that many threads, or in this one, and return every result."""
    if not count:
        return [function(*arguments)]
    results = []
    start = threading.Barrier(count)

    def call() -> None:
        start.wait()
        results.append(function(*arguments))

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == count
    return results


def fork_and_stay(pid_file: str) -> None:
    """Fork a child during the build, as a data loader would; it keeps every descriptor."""

    def fork_later() -> None:
        while not Path(pid_file + ".go").exists():
            time.sleep(0.005)
        if not os.fork():
            Path(pid_file).write_text(str(os.getpid()))
            time.sleep(600)

    threading.Thread(target=fork_later, daemon=True).start()


def await_file(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.002)


def dawdle_before_locking(path: str) -> None:
    """Stop between missing the artifact and asking for the lock, until the file is there."""
    from accel.jit.disk.lock import BuildLock

    acquire = BuildLock.acquire

    def late(lock):
        Path(path + ".reached").touch()
        await_file(path)
        return acquire(lock)

    BuildLock.acquire = late


def linger_before_loading(path: str) -> None:
    """Stop between having the artifact and loading it, until the file is there."""
    from accel.jit import library

    load = library.load

    def late(artifact, rung):
        Path(path + ".reached").touch()
        await_file(path)
        return load(artifact, rung)

    library.load = late


def remove_before_loading() -> None:
    """Remove the first artifact between its build and its loading, as pruning may."""
    from accel.jit import library

    load = library.load

    def late(artifact, rung):
        library.load = load
        shutil.rmtree(artifact.folder)
        return load(artifact, rung)

    library.load = late


def die_at(moment: str) -> None:
    """Kill this process right before or after it publishes."""
    from accel.jit.cache import store

    publish = store.publish

    def dying(*arguments, **options):
        if moment == "before publish":
            os.kill(os.getpid(), 9)
        publish(*arguments, **options)
        os.kill(os.getpid(), 9)

    store.publish = dying


def edit_and_load(jit, recipe, edit: list[str]) -> int:
    Path(edit[0]).write_text(edit[1])
    return jit.acquire(recipe).handle.value()


main()
