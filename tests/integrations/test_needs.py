"""A framework that is absent, too old or too new is refused in one sentence."""

import sys

import pytest

from accel.integrations.needs import require


@pytest.mark.parametrize(
    ("first", "end"), [((1, 0), (2, 0)), ((99, 0), (100, 0))], ids=["too new", "too old"]
)
def test_another_release_is_told_with_the_one_that_works(first, end):
    wanted = f"torch>={first[0]}.{first[1]},<{end[0]}.{end[1]}"
    with pytest.raises(
        ImportError, match=rf"^torch \S+ is installed, and accel works with {wanted}"
    ):
        require("torch", first, end)
    assert require("torch", (2, 0), (3, 0)) is None


def test_none_is_told_and_nothing_is_imported(monkeypatch):
    said = r"^no-such-package is not installed, and accel works with .*: pip install '.*'\.$"
    with pytest.raises(ImportError, match=said):
        require("no-such-package", (1, 2), (2, 0))


def test_lightning_is_asked_for_before_it_is_imported():
    try:
        import lightning  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(ImportError, match=r"pip install 'lightning>=2\.5,<3\.0'"):
            import accel.integrations.lightning  # noqa: F401
        assert "accel.integrations.lightning" not in sys.modules
