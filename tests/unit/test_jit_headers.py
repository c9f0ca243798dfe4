"""Which files the scan finds and what its labels depend on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from accel.jit.headers import scan


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def labels(folder: Path) -> set[str]:
    return set(scan([folder / "a.cpp"], [folder / "inc"], folder).contents)


@pytest.mark.parametrize(
    "line",
    [
        '#include "b.h"',
        "  #  include   <b.h>",
        '#if __has_include("b.h")',
        '#define HEADER "b.h"',
        "#define HEADER <b.h>",
        '#include_next "b.h"',
        '#embed "b.h"',
        '// #include "b.h"',
        '/* # */ #include "b.h" // <a.h>',
        '#include <b.h> // not "a.h"',
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_every_way_to_name_a_header(tmp_path: Path, line: str, ending: str) -> None:
    write(tmp_path, a_cpp=f"{line}{ending}", inc__b_h='#include "sub/c.h"\n', inc__sub__c_h="")
    assert labels(tmp_path) == {"a.cpp", "inc/b.h", "inc/sub/c.h"}


def test_a_name_may_hold_what_begins_a_directive(tmp_path: Path) -> None:
    write(tmp_path, a_cpp='#include "b#c.h"\n')
    (tmp_path / "b#c.h").touch()
    assert labels(tmp_path) == {"a.cpp", "b#c.h"}


def test_beside_the_file_wins_for_quotes_only(tmp_path: Path) -> None:
    write(tmp_path, a_cpp='#include "b.h"\n', b_h="near", inc__b_h="far")
    assert labels(tmp_path) == {"a.cpp", "b.h"}
    write(tmp_path, a_cpp="#include <b.h>\n")
    assert labels(tmp_path) == {"a.cpp", "inc/b.h"}


def test_system_headers_missing_and_circular_ones(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_cpp='#include <vector>\n#include "absent.h"\n#include "/etc/passwd"\n#include "a.cpp"\n'
        '#include "b.h"\n',
        b_h='#include "a.cpp"\n',
    )
    assert labels(tmp_path) == {"a.cpp", "b.h"}


def test_a_moved_folder_has_the_same_scan(tmp_path: Path) -> None:
    write(tmp_path / "one", a_cpp='#include "b.h"\n', b_h="")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    first, second = (
        scan([tmp_path / name / "a.cpp"], [tmp_path / name], tmp_path / name)
        for name in ("one", "two")
    )
    assert first.contents == second.contents
    assert first.edges == second.edges


def test_two_files_that_swap_contents_are_another_scan(tmp_path: Path) -> None:
    write(tmp_path, a_cpp='#include "b.h"\n#include "c.h"\n', b_h="1", c_h="2")
    before = scan([tmp_path / "a.cpp"], [], tmp_path)
    write(tmp_path, b_h="2", c_h="1")
    assert scan([tmp_path / "a.cpp"], [], tmp_path).contents != before.contents


def test_files_of_one_label_are_kept_apart(tmp_path: Path) -> None:
    write(tmp_path / "home", a_cpp='#include "x/h.h"\n#include "y/h.h"\n')
    write(tmp_path / "out", x__h_h='#include "h2.h"\n', y__h_h='#include "h2.h"\n', x__h2_h="1")
    write(tmp_path / "out", y__h2_h="2")
    found = scan([tmp_path / "home" / "a.cpp"], [tmp_path / "out"], tmp_path / "home")
    assert set(found.contents) == {"a.cpp", "x/h.h", "y/h.h", "h2.h", "h2.h#2"}


def test_a_relative_path_is_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, a_cpp='#include "b.h"\n', b_h="1")
    monkeypatch.chdir(tmp_path)
    near, far = (scan([path / "a.cpp"], [path], path) for path in (Path(), tmp_path))
    assert near.contents == far.contents
    assert {*near.contents} == {"a.cpp", "b.h"}


def test_a_source_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not a regular file"):
        scan([Path("/dev/null")], [], tmp_path)


def test_a_link_is_the_file_that_it_names(tmp_path: Path) -> None:
    write(tmp_path, a_cpp='#include "link.h"\n#include "far/b.h"\n#include "b.h"\n', b_h="1")
    (tmp_path / "link.h").symlink_to("b.h")
    (tmp_path / "far").symlink_to(".")
    found = scan([tmp_path / "a.cpp"], [], tmp_path)
    assert set(found.contents) == {"a.cpp", "b.h"}
    assert found.edges == tuple(f"a.cpp > {name} > b.h" for name in ("b.h", "far/b.h", "link.h"))
