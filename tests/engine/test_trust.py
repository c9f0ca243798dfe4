"""Trust: who could have put code into a folder, asked of real folders, users and processes."""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_tools import REPOSITORY, Workshop, unloadable

from accel import jit
from accel.errors import CacheUntrusted, InvalidSetting
from accel.host import process
from accel.jit import library
from accel.jit.build.prebuilt import build_prebuilt
from accel.jit.cache import maintenance
from accel.jit.cache.artifact import Artifact, verify
from accel.jit.disk import location
from accel.jit.explain import explain

OTHER = 64_321
ACCOUNT = f"accel{os.getpid()}"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="has to act as another user")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def owned(path: Path, user: int, group: int, permissions: int) -> None:
    os.chown(path, user, group)
    path.chmod(permissions)


def as_user(user: int, group: int, script: str, *arguments: object, **env: str) -> Any:
    """Run a script as another user, after the imports for which it may lack the rights."""
    begin = (
        "import ctypes, grp, json, os, pwd, shutil, sys, tempfile\n"
        "from pathlib import Path\n"
        "from accel import environment, jit\n"
        "from accel.errors import *\n"
        "from accel.jit import loading\n"
        "from accel.jit.build import prebuilt\n"
        "from accel.jit.cache import artifact, store\n"
        "from accel.jit.disk import location, trust\n"
        f"os.setgroups([]); os.setgid({group}); os.setuid({user})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", begin + script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def recipe(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> jit.Recipe:
    for name, text in workshop.environment.items():
        monkeypatch.setenv(name, text)
    return jit.Recipe("op", "cpu", (workshop.source,), (workshop.include,))


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are private."""
    folder = Path(f"/tmp/accel-trust-{os.getpid()}-{os.urandom(4).hex()}")
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


# --- Folders on the way -----------------------------------------------------------------------

UNSAFE: dict[str, Callable[[Path], None]] = {
    "of another user": lambda folder: owned(folder, OTHER, OTHER, 0o755),
    "of another user and sticky": lambda folder: owned(folder, OTHER, OTHER, 0o1777),
    "writable by all": lambda folder: owned(folder, 0, 0, 0o777),
    "writable by a group": lambda folder: owned(folder, 0, OTHER, 0o775),
    "writable by the group of users without an account": lambda f: owned(f, 0, 0, 0o775),
}
SAFE: dict[str, Callable[[Path], None]] = {
    "readable by all": lambda folder: owned(folder, 0, OTHER, 0o755),
    "sticky": lambda folder: owned(folder, 0, 0, 0o1777),
    "sticky for a group": lambda folder: owned(folder, 0, OTHER, 0o1775),
}


@pytest.fixture
def nested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders above a cache, which is named by ``ACCEL_CACHE_DIR`` and may not exist."""
    monkeypatch.setenv("ACCEL_CACHE_DIR", str(tmp_path / "outer" / "inner" / "cache"))
    (tmp_path / "outer" / "inner").mkdir(parents=True, mode=0o755)
    return tmp_path / "outer"


@needs_root
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("above", ["outer", "outer/inner"])
@pytest.mark.parametrize("how", UNSAFE)
def test_no_cache_lies_in_a_folder_that_others_may_change(
    nested: Path, monkeypatch: pytest.MonkeyPatch, how: str, above: str, exists: bool
) -> None:
    cache, folder = nested / "inner" / "cache", nested.parent / above
    if exists:
        cache.mkdir(mode=0o700)
    UNSAFE[how](folder)
    place = location.locate()
    assert place.path != cache
    assert cache not in place.readable
    assert str(folder) in place.note
    assert f"compiled ops go to {place.path} instead" in place.note
    monkeypatch.setenv("ACCEL_OPS", "native")
    with pytest.raises(CacheUntrusted, match=str(folder)):
        location.locate()


@needs_root
@pytest.mark.parametrize("how", SAFE)
def test_a_cache_may_lie_in_a_folder_that_others_cannot_change(nested: Path, how: str) -> None:
    SAFE[how](nested)
    assert location.locate().path == nested / "inner" / "cache"
    assert location.prepare() == nested / "inner" / "cache"
    assert location.locate() == location.Location(nested / "inner" / "cache", (location.prepare(),))


@needs_root
def test_a_link_is_trusted_as_a_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sticky, real = tmp_path / "sticky", tmp_path / "real"
    sticky.mkdir()
    sticky.chmod(0o1777)
    real.mkdir()
    (sticky / "link").symlink_to("../sticky/.././real/.")
    monkeypatch.setenv("ACCEL_CACHE_DIR", str(sticky / "link" / "cache"))
    assert location.locate().path == real / "cache"
    assert location.prepare() == real / "cache"
    os.lchown(sticky / "link", OTHER, OTHER)
    assert f"{sticky}/link belongs to user id {OTHER}" in location.locate().note
    assert real / "cache" not in location.locate().readable


def test_links_that_lead_in_a_circle_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    monkeypatch.setenv("ACCEL_CACHE_DIR", str(tmp_path / "one" / "cache"))
    assert "symbolic links" in location.locate().note


@pytest.fixture
def account() -> Iterator[tuple[int, int]]:
    """A user with an account and a group of the same name, as Debian and Fedora make them."""
    made = subprocess.run(
        ["useradd", "--user-group", "--no-create-home", ACCOUNT], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip(f"no account can be made here: {made.stderr.decode()}")
    import pwd

    found = pwd.getpwnam(ACCOUNT)
    yield found.pw_uid, found.pw_gid
    subprocess.run(["userdel", ACCOUNT], check=True, capture_output=True)


LOCATE = """
print(json.dumps({"path": str(location.locate().path), "note": location.locate().note}))
"""


@needs_root
def test_a_group_counts_unless_it_is_the_owners_own(public: Path, account: tuple[int, int]) -> None:
    user, group = account
    folder = public / "home"
    (folder / "cache").mkdir(parents=True, mode=0o775)
    for path in (folder, folder / "cache"):
        owned(path, user, group, 0o775)

    def place() -> dict[str, str]:
        return as_user(user, group, LOCATE, ACCEL_CACHE_DIR=str(folder / "cache"))

    assert place() == {"path": str(folder / "cache"), "note": ""}
    subprocess.run(["usermod", "-aG", ACCOUNT, "nobody"], check=True)
    assert f"Others may write {folder} " in place()["note"]
    subprocess.run(["gpasswd", "-d", "nobody", ACCOUNT], check=True, capture_output=True)
    assert place()["note"] == ""
    second = ["useradd", "--no-create-home", "--gid", str(group), f"{ACCOUNT}2"]
    subprocess.run(second, check=True, capture_output=True)
    try:
        assert f"Others may write {folder} " in place()["note"]
    finally:
        subprocess.run(["userdel", f"{ACCOUNT}2"], check=True, capture_output=True)
    _let_write(folder, OTHER)
    assert f"Others may write {folder} " in place()["note"], "a list of rights lets another write"


def _let_write(folder: Path, user: int) -> None:
    """Set an access control list (linux/posix_acl_xattr.h) that lets one more user write."""
    entries = [(1, 7, -1), (2, 7, user), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
    data = (2).to_bytes(4, "little")
    for tag, rights, who in entries:
        data += tag.to_bytes(2, "little") + rights.to_bytes(2, "little")
        data += (who & 0xFFFFFFFF).to_bytes(4, "little")
    try:
        os.setxattr(folder, "system.posix_acl_access", data)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error}")


@needs_root
def test_the_group_of_a_user_without_an_account_counts(public: Path) -> None:
    folder = public / "cache"
    folder.mkdir()
    owned(folder, OTHER, OTHER, 0o775)
    told = as_user(OTHER, OTHER, LOCATE, ACCEL_CACHE_DIR=str(folder))
    assert f"Others may write {folder} (mode 0775, group id {OTHER}" in told["note"]
    folder.chmod(0o755)
    assert as_user(OTHER, OTHER, LOCATE, ACCEL_CACHE_DIR=str(folder))["note"] == ""


# --- What was verified is what is opened ------------------------------------------------------

EXCHANGE = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
os.chdir(sys.argv[1]); os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
AT_FDCWD, RENAME_EXCHANGE = -100, 2
if libc.renameat2(AT_FDCWD, b"cache", AT_FDCWD, b"evil", RENAME_EXCHANGE):
    sys.exit("no renameat2 here")
print("ready", flush=True)
while os.getppid() == int(sys.argv[3]):
    libc.renameat2(AT_FDCWD, b"cache", AT_FDCWD, b"evil", RENAME_EXCHANGE)
"""
# Loads in children, each of which has never loaded anything.
LOADS = """
import collections, json, os, sys, time
from pathlib import Path
from accel import jit
from accel.jit import headers, library, loading, plan
from accel.jit.cache import artifact, store
recipe = jit.Recipe("op", "cpu", (Path(sys.argv[1]),), (Path(sys.argv[2]),))
seen = collections.Counter()
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end and 66 not in seen:
    if not (child := os.fork()):
        try:
            os._exit(min(jit.acquire(recipe).handle.value(), 99))
        finally:
            os._exit(99)
    seen[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])] += 1
print(json.dumps(seen))
"""


@needs_root
@pytest.mark.parametrize("kind", ["cache", "prebuilt"])
def test_a_folder_exchanged_all_the_time_never_runs_anothers_code(
    workshop: Workshop, recipe: jit.Recipe, public: Path, kind: str
) -> None:
    if kind == "cache":
        folder = Path(workshop.load()["path"]).parent
    else:
        folder = build_prebuilt(recipe, workshop.folder / "out")
    home = public / "home"
    home.mkdir()
    for name in ("cache", "evil"):
        shutil.copytree(folder.parent, home / name)
    evil = home / "evil" / folder.name
    (public / "evil.cpp").write_text('extern "C" int value() { return 66; }\n')
    compiler = shutil.which("g++") or shutil.which("clang++") or "c++"
    command = [compiler, "-shared", "-fPIC", "-o", evil / "op.so", public / "evil.cpp"]
    subprocess.run(command, check=True)
    for path in (home, home / "evil", *(home / "evil").rglob("*")):
        os.chown(path, OTHER, OTHER)
    attacker = subprocess.Popen(
        [sys.executable, "-c", EXCHANGE, str(home), str(OTHER), str(os.getpid())],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert attacker.stdout is not None
    if attacker.stdout.readline() != "ready\n":
        pytest.skip("no renameat2 here")
    folders = {"ACCEL_CACHE_DIR": str(home / "cache"), "TMPDIR": str(workshop.folder)}
    if kind == "prebuilt":
        folders |= {
            "ACCEL_CACHE_DIR": str(workshop.cache),
            "ACCEL_PREBUILT_DIR": str(home / "cache"),
        }
    done = subprocess.run(
        [sys.executable, "-c", LOADS, str(workshop.source), str(workshop.include), "3"],
        env={**os.environ, **folders, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    attacker.kill()
    attacker.communicate()
    seen = json.loads(done.stdout)
    assert set(seen) == {"7"}, (seen, done.stderr[-2000:])


def test_what_was_verified_is_what_is_mapped(workshop: Workshop, recipe: jit.Recipe) -> None:
    first = Path(workshop.load()["path"]).parent
    workshop.set_value(8)
    second = Path(workshop.load()["path"]).parent
    verified = verify(first, "op")
    assert isinstance(verified, Artifact)
    (second / "op.so").replace(first / "op.so")
    assert library.load(verified, "jit").handle.value() == 7
    assert verified.library == first / "op.so"


def test_a_descriptors_number_used_again_names_another_library(
    workshop: Workshop, recipe: jit.Recipe
) -> None:
    numbers, values = set(), []
    for number in range(20, 23):
        workshop.set_value(number)
        folder = Path(workshop.load()["path"]).parent
        verified = verify(folder, "op")
        assert isinstance(verified, Artifact)
        numbers.add(verified.file.fd)
        values.append(library.load(verified, "jit").handle.value())
        assert verified.file.fd == -1, "it is closed once the library is mapped"
    assert values == [20, 21, 22]
    assert len(numbers) == 1


def test_a_library_that_finds_others_beside_itself_is_mapped_by_its_place(
    workshop: Workshop, recipe: jit.Recipe
) -> None:
    beside = recipe.replace(name="beside", link_flags=("-Wl,-rpath,$ORIGIN",))
    found = jit.acquire(beside)
    assert found.handle._name == str(found.path)
    assert not jit.acquire(recipe).handle._name.startswith(str(workshop.cache))


def test_the_loaders_own_words_name_the_library(workshop: Workshop, recipe: jit.Recipe) -> None:
    folder = Path(workshop.load()["path"]).parent
    junk = unloadable(workshop.folder)
    (folder / "op.so").write_bytes(junk)
    from accel.jit.disk.safe_io import sha256

    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"sha256": sha256(junk), "size": len(junk)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    verified = verify(folder, "op")
    assert isinstance(verified, Artifact)
    with pytest.raises(OSError, match=str(folder / "op.so")) as caught:
        library.load(verified, "jit")
    assert "/proc/self" not in str(caught.value)


# --- Prebuilt folders -------------------------------------------------------------------------

EXPOSED: dict[str, Callable[[Path], object]] = {
    "of another user": lambda folder: [
        os.chown(path, OTHER, OTHER) for path in (folder.parent, folder, *folder.iterdir())
    ],
    "writable by all": lambda folder: folder.parent.chmod(0o777),
    "below one that is writable by all": lambda folder: folder.parent.parent.chmod(0o777),
    "writable by a group": lambda folder: owned(folder.parent, 0, OTHER, 0o775),
    "an artifact of another user": lambda folder: os.chown(folder, OTHER, OTHER),
    "an artifact that all may write": lambda folder: folder.chmod(0o777),
    "a library that all may write": lambda folder: (folder / "op.so").chmod(0o666),
    "a manifest that all may write": lambda folder: (folder / "manifest.json").chmod(0o666),
    "a library of another user": lambda folder: os.chown(folder / "op.so", OTHER, OTHER),
}


@pytest.fixture
def prebuilt(
    workshop: Workshop, recipe: jit.Recipe, public: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An artifact in a prebuilt folder; the cache is empty."""
    made = build_prebuilt(recipe, public / "shared" / "prebuilt")
    shutil.rmtree(workshop.cache)
    monkeypatch.setenv("ACCEL_PREBUILT_DIR", str(made.parent))
    return made


@needs_root
@pytest.mark.parametrize("how", EXPOSED)
def test_a_prebuilt_that_others_could_change_is_refused_with_the_reason(
    workshop: Workshop, recipe: jit.Recipe, prebuilt: Path, how: str
) -> None:
    EXPOSED[how](prebuilt)
    told = workshop.load()
    assert (told["value"], told["rung"]) == (7, "jit")
    of_artifact = how.startswith(("an ", "a "))
    assert told["log"].count("So nothing is loaded from") == (0 if of_artifact else 1)
    reason = str(dict(explain(recipe).rungs)["prebuilt"])
    assert "Others may write /tmp/accel-trust" in reason or f"user id {OTHER}" in reason
    assert explain(recipe).artifacts[0].verdict


@needs_root
def test_a_prebuilt_of_root_or_of_the_user_is_trusted(prebuilt: Path, recipe: jit.Recipe) -> None:
    script = """
found = store.verify(Path(sys.argv[1]), "op", private=False)
print(json.dumps([isinstance(found, artifact.Artifact), str(found)]))
"""
    accepted, why = as_user(OTHER, OTHER, script, prebuilt)
    assert accepted, why
    for path in (prebuilt.parent, prebuilt, *prebuilt.iterdir()):
        os.chown(path, OTHER, OTHER)
    accepted, why = as_user(OTHER, OTHER, script, prebuilt)
    assert accepted, why


@needs_root
def test_the_packages_own_prebuilt_folder_is_trusted_as_the_package_is(
    workshop: Workshop, prebuilt: Path, public: Path
) -> None:
    package = public / "site"
    shutil.copytree(REPOSITORY / "accel", package / "accel")
    shutil.copytree(prebuilt.parent, package / "accel" / "_prebuilt")
    for path in (package, *package.rglob("*")):
        os.chown(path, OTHER, OTHER)
    told = workshop.load(package=str(package), env={"ACCEL_PREBUILT_DIR": None})
    assert (told["value"], told["rung"]) == (7, "prebuilt")
    assert told["path"] == str(package / "accel" / "_prebuilt" / prebuilt.name / "op.so")


@needs_root
@pytest.mark.parametrize("what", ["prebuilt", "prebuilt/op", "prebuilt/op/op.so"])
def test_a_prebuilt_that_may_not_be_read_is_told_as_that(
    prebuilt: Path, recipe: jit.Recipe, what: str
) -> None:
    closed = {"prebuilt": prebuilt.parent, "prebuilt/op": prebuilt}.get(what, prebuilt / "op.so")
    closed.chmod(0o700 if closed.is_dir() else 0o600)
    script = """
recipe = jit.Recipe("op", "cpu", (Path(sys.argv[1]),), ())
fit = recipe.replace(sources=(Path(sys.argv[1]),))
found = loading.find_prebuilt(recipe, jit.recipe.take_fit(recipe))
print(json.dumps(str(found)))
"""
    source = prebuilt.parent.parent.parent / "op.cpp"
    source.write_text("int unused;\n")
    told = as_user(OTHER, OTHER, script, source)
    if what != "prebuilt/op/op.so":
        assert "cannot be read: Permission denied" in told
        assert str(prebuilt.parent) in told
    script = """
found = store.verify(Path(sys.argv[1]), "op", private=False)
print(json.dumps(str(found)))
"""
    assert "cannot be read: Permission denied" in as_user(OTHER, OTHER, script, prebuilt)


@needs_root
def test_a_cache_that_may_not_be_read_is_told_as_that(public: Path) -> None:
    (public / "cache").mkdir(mode=0o700)
    told = as_user(OTHER, OTHER, LOCATE, ACCEL_CACHE_DIR=str(public / "cache"))
    assert "cannot be read (Permission denied)" in told["note"]
    assert "it belongs to user id 0" in told["note"]
    (public / "cache").chmod(0o755)
    told = as_user(OTHER, OTHER, LOCATE, ACCEL_CACHE_DIR=str(public / "cache"))
    assert "cannot be written (it belongs to user id 0)" in told["note"]
    told = as_user(OTHER, OTHER, LOCATE, ACCEL_CACHE_DIR="/root/x/cache")
    assert mode(Path("/root")) & 0o001 or "Permission denied" in told["note"]


def test_a_prebuilt_folder_that_is_not_there_is_told_as_that(
    recipe: jit.Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCEL_PREBUILT_DIR", "/nonexistent/prebuilt")
    assert "no folder /nonexistent/prebuilt" in str(dict(explain(recipe).rungs)["prebuilt"])


# --- What accel itself makes ------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_all_that_is_made_is_private_whatever_the_umask(
    workshop: Workshop, tmp_path: Path, umask: int
) -> None:
    usual = {"ACCEL_CACHE_DIR": None, "XDG_CACHE_HOME": None, "HOME": str(tmp_path)}
    old = os.umask(umask)
    try:
        told = workshop.load(env=usual)
        workshop.source.write_text("#error no\n")
        assert workshop.load(env=usual)["error"] == "BuildFailed"
    finally:
        os.umask(old)
    assert told["path"].startswith(str(tmp_path / ".cache" / "accel"))
    made = [tmp_path / ".cache", *(tmp_path / ".cache").rglob("*")]
    assert {path.name for path in made} >= {".locks", ".staging", ".failed", ".toolchains"}
    for path in made:
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path


def test_prebuilt_folders_are_made_so_that_they_are_trusted(
    workshop: Workshop, recipe: jit.Recipe, tmp_path: Path
) -> None:
    old = os.umask(0)
    try:
        made = build_prebuilt(recipe, tmp_path / "new" / "out")
    finally:
        os.umask(old)
    for path in (made.parent.parent, made.parent, made):
        assert mode(path) == 0o755, path
    shutil.rmtree(workshop.cache)
    assert workshop.load(env={"ACCEL_PREBUILT_DIR": str(made.parent)})["rung"] == "prebuilt"


def test_building_into_a_folder_that_would_not_be_trusted_says_so(
    recipe: jit.Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o777)
    made = build_prebuilt(recipe, tmp_path / "out")
    assert build_prebuilt(recipe, tmp_path / "out") == made
    assert [path.name for path in (tmp_path / "out").iterdir()] == [made.name]
    (said,) = {record.getMessage() for record in caplog.records if record.levelname == "WARNING"}
    assert f"Others may write {tmp_path}/out (mode 0777" in said


def test_the_report_works_under_any_umask(tmp_path: Path) -> None:
    script = "umask 0; HOME=$0 exec $1 -m accel report; exec $1 -m accel report"
    for _ in range(2):
        done = subprocess.run(
            ["/bin/sh", "-c", script, str(tmp_path), sys.executable],
            env={name: text for name, text in os.environ.items() if name != "ACCEL_CACHE_DIR"}
            | {"ACCELERATOR": "cpu", "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Others may write" not in done.stdout + done.stderr
        assert mode(tmp_path / ".cache") == 0o700


EXPOSED_CACHES: dict[str, Callable[[Path], None]] = {
    "0777": lambda cache: cache.chmod(0o777),
    "0775 of a group": lambda cache: owned(cache, 0, OTHER, 0o775),
    "in an emptyDir": lambda cache: cache.parent.chmod(0o777),
    "of another owner": lambda cache: os.chown(cache, OTHER, OTHER),
}


@needs_root
@pytest.mark.parametrize("how", EXPOSED_CACHES)
def test_under_auto_an_exposed_cache_gives_way_to_a_private_place(
    workshop: Workshop, tmp_path: Path, how: str
) -> None:
    cache, temporary = tmp_path / "volume" / "cache", tmp_path / "tmp"
    cache.mkdir(parents=True, mode=0o700)
    temporary.mkdir()
    EXPOSED_CACHES[how](cache)
    env: dict[str, str | None] = {"ACCEL_CACHE_DIR": str(cache), "TMPDIR": str(temporary)}
    told = workshop.load(env=env)
    private = temporary / f"accel-{os.geteuid()}"
    assert told["value"] == 7, told
    assert told["path"].startswith(f"{private}/op-")
    assert mode(private) == 0o700
    assert told["log"].count(f"compiled ops go to {private} instead") == 1
    assert [*cache.iterdir()] == []
    assert workshop.load(env=env)["path"] == told["path"]
    assert workshop.compiles() == 1
    told = workshop.load(env=env | {"ACCEL_OPS": "native"})
    assert told["error"] == "CacheUntrusted"


NOWHERE = """
import json, os, sys, warnings
import accel
from accel.errors import CacheUntrusted
accel.set_accelerator("cpu")
builder = accel.get_accelerator().create_op_builder("FusedAdamBuilder")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    told = [builder.load().implementation for _ in range(2)]
os.environ["ACCEL_OPS"] = "native"
try:
    builder.load()
except CacheUntrusted as error:
    told.append(str(error))
print(json.dumps(told + [str(one.message) for one in caught]))
"""


@needs_root
def test_without_any_safe_place_the_next_rung_is_taken_with_one_warning() -> None:
    """A container whose every writable folder is a volume that all may write."""
    if REPOSITORY.is_relative_to("/tmp") or Path(sys.prefix).is_relative_to("/tmp"):
        pytest.skip("what runs lies where the volume is mounted")
    script = (
        "for at in /tmp /var/tmp /run; do mount -t tmpfs -o mode=0777 tmpfs $at || exit 77; done;"
        'cd "$2"; exec "$0" -c "$1"'
    )
    done = subprocess.run(
        ["unshare", "-m", "/bin/sh", "-c", script, sys.executable, NOWHERE, str(REPOSITORY)],
        env={**os.environ, "ACCEL_CACHE_DIR": "/run/cache", "TMPDIR": "/tmp"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode in {1, 77} and "ermitted" in done.stderr:
        pytest.skip("may not mount a file system")
    assert done.returncode == 0, done.stderr
    first, second, refusal, *warned = json.loads(done.stdout)
    assert (first, second) == ("reference", "reference")
    assert "Others may write /run (mode 0777" in refusal
    (only,) = warned
    assert "Others may write /run (mode 0777" in only


@needs_root
def test_a_temporary_folder_that_others_may_change_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, runtime = tmp_path / "shared", tmp_path / "runtime"
    shared.mkdir()
    shared.chmod(0o777)
    runtime.mkdir(mode=0o700)
    script = "print(json.dumps(str(location.locate().path)))"
    env = {"ACCEL_CACHE_DIR": str(shared / "cache"), "TMPDIR": str(shared)}
    told = as_user(0, 0, script, **env, XDG_RUNTIME_DIR=str(runtime))
    assert told == f"{runtime}/accel-0"
    assert as_user(0, 0, script, **env, XDG_RUNTIME_DIR=str(shared)).startswith("/tmp/accel-0")


# --- Odd settings and odd contents ------------------------------------------------------------


@needs_root
def test_a_tilde_is_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: tuple[int, int]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for text, expected in (
        ("~/x y", tmp_path / "x y"),
        ("~", tmp_path),
        ("~//x", tmp_path / "x"),
        (f"~{ACCOUNT}/x", Path(f"/home/{ACCOUNT}/x")),
        ("./~/x", Path("~/x")),
        ("a~b", Path("a~b")),
    ):
        monkeypatch.setenv("ACCEL_CACHE_DIR", text)
        monkeypatch.setenv("ACCEL_PREBUILT_DIR", f"/first:{text}")
        from accel import environment

        assert environment.cache_dir() == expected
        assert environment.prebuilt_dirs() == (Path("/first"), expected)
    monkeypatch.delenv("HOME")
    monkeypatch.setenv("ACCEL_CACHE_DIR", "~/x")
    assert environment.cache_dir() == Path("/root/x")
    monkeypatch.setenv("ACCEL_CACHE_DIR", "~no-such-user/x")
    with pytest.raises(InvalidSetting, match=r"='~no-such-user/x'.*no user 'no-such"):
        environment.cache_dir()


@pytest.mark.parametrize("kind", ["a file", "a pipe", "a link", "a folder for all"])
def test_odd_things_in_the_place_of_the_engines_folders_are_replaced(
    workshop: Workshop, tmp_path: Path, kind: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    odd = [workshop.cache / name for name in (".locks", ".staging", ".failed", ".toolchains")]
    for path in odd:
        if kind == "a file":
            path.touch()
        elif kind == "a pipe":
            os.mkfifo(path)
        elif kind == "a link":
            path.symlink_to(elsewhere)
        else:
            path.mkdir()
            path.chmod(0o777)
    assert workshop.load()["value"] == 7
    for path in odd:
        assert path.is_dir() and not path.is_symlink()
        assert mode(path) == 0o700
    assert [*elsewhere.iterdir()] == []


def test_text_that_cannot_be_encoded_does_not_end_a_command(
    workshop: Workshop, recipe: jit.Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / os.fsdecode(b"cache-\xff")
    shutil.copytree(workshop.cache, cache)
    monkeypatch.setenv("ACCEL_CACHE_DIR", str(cache))
    good = Path(workshop.load(env={"ACCEL_CACHE_DIR": str(cache)})["path"]).parent
    for number, change in enumerate(
        (
            {"backend": "\ud800"},
            {"compiler": "\udfff", "ingredients": {"\ud800": "\udc00"}},
            {"engine": "\ud800"},
            {"headers": {"/\ud800": [0, 0, 0, ""]}},
        )
    ):
        manifest = json.loads((good / "manifest.json").read_text())
        digest = f"{number}" * 32
        folder = cache / f"op-{digest}"
        shutil.copytree(good, folder)
        (folder / "manifest.json").write_text(json.dumps(manifest | {"digest": digest} | change))
    odd = cache / os.fsdecode(b"\xff\xfe-x")
    odd.mkdir()
    (cache / ".staging" / f"{process.machine()}-\u00b2-1-x").mkdir()
    for command in ("ls", "verify", "path", "prune --dry-run"):
        done = subprocess.run(
            [sys.executable, "-m", "accel", "cache", *command.split()],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            check=False,
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert done.returncode == (1 if command == "verify" else 0), done.stderr
        if command == "path":
            assert done.stdout == os.fsencode(cache) + b"\n"
    assert maintenance.prune()
    assert not odd.exists()


def test_the_cache_command_tells_that_it_looks_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-m", "accel", "cache", "path"],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "ACCEL_CACHE_DIR": str(tmp_path / "cache"),
            "TMPDIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{tmp_path}/accel-{os.geteuid()}\n"
    assert f"Others may write {tmp_path}/cache (mode 0777" in done.stderr
    assert f"chmod go-w '{tmp_path}/cache'" in done.stderr


def test_nothing_is_told_about_a_usual_cache(
    cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert location.prepare() == cache_dir
    assert caplog.records == []


def test_each_process_that_avoids_the_users_cache_says_so_once(
    workshop: Workshop, tmp_path: Path
) -> None:
    """Not only the one that builds: the later ones find everything in the private place."""
    workshop.cache.chmod(0o777)
    elsewhere = {"TMPDIR": str(tmp_path)}
    for compiled in (1, 1):
        told = workshop.load(env=elsewhere)
        assert told["path"].startswith(f"{tmp_path}/accel-")
        assert told["log"].count(f"Others may write {workshop.cache}") == 1
        assert f"chmod go-w '{workshop.cache}'" in told["log"]
        assert workshop.compiles() == compiled
    report = subprocess.run(
        [sys.executable, "-m", "accel", "report"],
        env={**os.environ, **workshop.environment, **elsewhere, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in report.stdout.splitlines() if line.startswith("cache: ")]
    assert f"Others may write {workshop.cache}" in line
    assert f"compiled ops go to {tmp_path}/accel-{os.geteuid()} instead" in line
    workshop.cache.chmod(0o700)
    assert "Others may write" not in workshop.load(env=elsewhere)["log"]


@needs_root
def test_a_cache_that_is_only_read_is_used_in_silence(workshop: Workshop, public: Path) -> None:
    """A layer that an image brings is meant to be read: its users did nothing wrong."""
    workshop.load()
    (built,) = workshop.cache.glob("op-*")
    shutil.copytree(built, public / "cache" / built.name)
    for path in (public / "cache", *(public / "cache").rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    script = """
found, said = store.find("op", sys.argv[1].partition("-")[2]), location.say_once.cache_info()
print(json.dumps([str(getattr(found, "folder", found)), bool(location.locate().note), said.misses]))
"""
    layer = str(public / "cache")
    told = as_user(OTHER, OTHER, script, built.name, ACCEL_CACHE_DIR=layer)
    assert told == [f"{layer}/{built.name}", True, 0]
