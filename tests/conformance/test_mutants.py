"""The kit catches broken accelerators, and every test of it can fail."""

import pytest
import torch
from mutants import MUTANTS
from op_mutants import OP_MUTANTS
from stranger import StrangerAccelerator

from accel.testing import AcceleratorConformance, OpConformance, replay, run

OP_KIT = {name for name in dir(OpConformance) if name.startswith("test_")}
KIT = sorted(name for name in dir(AcceleratorConformance) if name.startswith("test_"))


ALL = {**MUTANTS, **OP_MUTANTS}


@pytest.fixture(autouse=True)
def leave_no_trace(monkeypatch):
    """Undo what the mutants do to this process."""
    monkeypatch.delenv("MUTANT_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("MUTANT_WAS_MADE", raising=False)
    yield
    torch.use_deterministic_algorithms(False)
    from accel.contract import tools
    from accel.host import streams

    streams.set_stream(streams.DEFAULT_STREAM)
    tools._open.closers.clear()


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.__name__)
def test_a_mutant_is_caught_by_the_tests_named_for_it(mutant):
    report = run(mutant, tests=ALL[mutant])
    missed = [one.test for one in report.outcomes if one.verdict != "failed"]
    assert not missed, report


NOISY = {"noisy_mutant:NoisyImport": ("test_import_is_silent",)}


def test_an_import_that_prints_is_caught(monkeypatch):
    monkeypatch.setenv("NOISY", "0")
    for mutant, tests in NOISY.items():
        report = run(mutant, tests=tests)
        assert [one.verdict for one in report.outcomes] == ["failed"], report
        assert "loading the noisy backend" in report.outcomes[0].reason


def test_every_test_of_the_kit_can_fail():
    named = {test for tests in [*MUTANTS.values(), *NOISY.values()] for test in tests}
    assert named == set(KIT)
    assert {test for tests in OP_MUTANTS.values() for test in tests} == OP_KIT
    assert len(ALL) >= 30


@pytest.mark.soak
@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.__name__)
def test_the_whole_kit_against_a_mutant(mutant):
    report = run(mutant)
    failed = {one.test for one in report.outcomes if one.verdict == "failed"}
    assert failed >= set(ALL[mutant])
    assert not report.passed


def test_a_report_is_data():
    report = run(StrangerAccelerator, tests=["test_identity", "test_graphs_replay"])
    assert report.passed
    assert report.counts == {"passed": 1, "failed": 0, "skipped": 1, "undeclared": 0}
    data = report.as_dict()
    assert "PASS: 1 passed, 1 skipped" in report.text()
    assert "skipped: test_graphs_replay\n    stranger declares" in report.text()
    assert data["target"] == "stranger:StrangerAccelerator"
    assert "lacks 'graphs'" in data["outcomes"][1]["reason"]


def test_a_working_capability_that_is_not_declared_is_told():
    report = run("stranger:StrangerAccelerator", tests=["test_no_stream_changes_nothing"])
    assert report.outcomes[0].verdict == "undeclared"
    assert "may be declared" in report.outcomes[0].reason


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("stranger", ValueError),
        ("stranger:Nobody", AttributeError),
        ("nowhere:Class", ImportError),
        ("stranger:torch", TypeError),
    ],
)
def test_what_cannot_be_run_is_an_error(target, error):
    with pytest.raises(error, match=r"stranger|nowhere|Nobody"):
        run(target)


QUITS = """
from accel import Accelerator

class Quits(Accelerator):
    name = "quits"

    def is_available(self):
        raise SystemExit("no licence")
"""


def test_a_backend_that_ends_the_process_fails_by_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "quits.py").write_text(QUITS)
    (tmp_path / "quits_at_once.py").write_text("raise SystemExit('no licence')")
    with pytest.raises(ImportError, match="importing quits_at_once ends the process: no licence"):
        run("quits_at_once:Quits")
    report = run("quits:Quits", tests=["test_probe_answers", "test_import_is_silent"])
    assert {one.verdict for one in report.outcomes} == {"failed"}
    answer, alone = (one.reason for one in report.outcomes)
    assert answer == "SystemExit: no licence"
    assert alone == "quits:Quits ended a fresh process with 1: no licence"
    assert "RuntimeError: no licence" in report.outcomes[1].detail


def test_a_test_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="test_nothing"):
        run(StrangerAccelerator, tests=["test_nothing"])


def test_a_suite_without_an_accelerator_is_told():
    class TestNobody(AcceleratorConformance):
        pass

    with pytest.raises(TypeError, match=r"TestNobody\.accelerator"):
        TestNobody().setup_method()


def test_a_failing_case_is_repeated_by_its_line():
    wrong = next(one for one in OP_MUTANTS if one.__name__ == "AlwaysAdamW")
    reason = run(wrong, tests=["test_results"]).outcomes[0].reason
    line = next(one for one in reason.splitlines() if "replay(" in one)
    case = eval(line.partition("'fused_adam', ")[2].rstrip().removesuffix(")"))
    with pytest.raises(AssertionError, match="off by more than"):
        replay(wrong, "fused_adam", case)
    replay("accel.cpu:CPUAccelerator", "fused_adam", case)
    replay("accel.cpu:CPUAccelerator", "fused_adam", case, reference=True)
