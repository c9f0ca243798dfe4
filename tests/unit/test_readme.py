"""README says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import op_builder

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ENVIRONMENT = (ROOT / "accel" / "environment.py").read_text()
READ = re.compile(r'(?:_text|_positive_int|_folders|environ\.get)\("(\w+)"')
# Standard folders that every program looks at.
COMMON = {"HOME", "PATH"}


def test_every_variable_that_is_read_is_listed() -> None:
    read = set(READ.findall(ENVIRONMENT)) - COMMON
    assert {"ACCELERATOR", "ACCEL_OPS", "CXX"} <= read
    assert [name for name in sorted(read) if f"`{name}`" not in README] == []


def test_every_variable_that_is_listed_is_read() -> None:
    table = README[README.index("## Environment") : README.index("## Add a backend")]
    listed = set(re.findall(r"`([A-Z][A-Z0-9_]{2,})`", table))
    assert [name for name in sorted(listed) if f'"{name}"' not in ENVIRONMENT] == []


def test_every_builder_is_listed() -> None:
    for name in op_builder.__op_builders__:
        assert f"`{name}`" in README


def test_it_never_names_another_project_to_install() -> None:
    assert not re.search(r"pip install accel(?!-torch)", README)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
