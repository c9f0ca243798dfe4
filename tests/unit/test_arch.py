"""The architecture planner, as tables: spellings, toolkits, devices."""

import re

import pytest

from accel.nvidia.arch_plan import ArchPlan, plan_archs
from accel.nvidia.archs import (
    Arch,
    default_compute_capabilities,
    parse_archs,
    supported_by,
)
from accel.probe import Rejected

CUDA_13 = re.findall(r"\S+", "7.5 8.0 8.6 8.7 8.8 8.9 9.0 10.0 10.3 11.0 12.0 12.1")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("8.0", "8.0"),
        ("8.0;9.0+PTX", "8.0;9.0+PTX"),
        ("9.0+PTX 8.0", "8.0;9.0+PTX"),
        ("8.0,9.0,10.0", "8.0;9.0;10.0"),
        (" 8.0 ; 9.0 ;", "8.0;9.0"),
        ("9.0a", "9.0a"),
        ("12.0f", "12.0f"),
        ("9.0A+ptx", "9.0a+PTX"),
        ("9.0;9.0+PTX;9.0", "9.0+PTX"),
        ("10.0;9.0;12.1", "9.0;10.0;12.1"),
        ("Hopper", "9.0+PTX"),
        ("hopper;Ada", "8.9+PTX;9.0+PTX"),
        ("Ampere+Tegra", "8.7"),
        ("Ampere", "8.0;8.6+PTX"),
        ("Hopper+PTX", "9.0+PTX"),
        ("Blackwell", "10.0;10.3;12.0;12.1+PTX"),
        ("native", "8.6;9.0"),
        ("native;12.0", "8.6;9.0;12.0"),
    ],
)
def test_every_spelling_that_torch_accepts(text, meaning):
    assert ";".join(map(str, parse_archs(text, native=[(9, 0), (8, 6)]))) == meaning


@pytest.mark.parametrize("text", ["90", "sm_90", "9.0b", "9", "8.0+SASS", "Hoper", "8.0|9.0", ""])
def test_other_spellings_are_refused_by_name(text):
    with pytest.raises(ValueError, match="is not an architecture"):
        parse_archs(text)


def test_a_misspelt_name_gets_a_suggestion():
    with pytest.raises(ValueError, match="Did you mean 'Hopper'"):
        parse_archs("Hoper")


def test_native_needs_a_device():
    with pytest.raises(ValueError, match="visible device"):
        parse_archs("native")


@pytest.mark.parametrize(
    ("toolkit", "defaults"),
    [
        ((10, 2), ""),
        ((11, 0), "3.5;5.0;6.0;7.0;8.0+PTX"),
        ((11, 8), "3.5;5.0;6.0;7.0;8.0;9.0+PTX"),
        ((12, 4), "5.0;6.0;7.0;8.0;9.0+PTX"),
        ((12, 8), "5.0;6.0;7.0;8.0;9.0;10.0;12.0+PTX"),
        ((13, 0), "7.5;8.0;9.0;10.0;11.0;12.0+PTX"),
        ((14, 2), "7.5;8.0;9.0;10.0;11.0;12.0+PTX"),
    ],
)
def test_defaults_have_one_target_for_each_family(toolkit, defaults):
    assert default_compute_capabilities(toolkit) == defaults


def test_the_table_agrees_with_what_nvcc_13_said():
    assert list(supported_by((13, 0))) == CUDA_13


def test_nvcc_merges_code_and_ptx_in_one_flag():
    plan = plan_archs("8.0;9.0a", toolkit=(13, 0))
    assert isinstance(plan, ArchPlan)
    assert plan.flags == (
        "-gencode=arch=compute_80,code=[sm_80,compute_80]",
        "-gencode=arch=compute_90a,code=[sm_90a]",
    )


@pytest.mark.parametrize(
    ("requested", "visible", "toolkit", "targets"),
    [
        ("8.0;9.0;10.0", [(7, 5)], (13, 0), "8.0;9.0;10.0+PTX"),
        ("8.0+PTX;9.0", [], (13, 0), "8.0+PTX;9.0+PTX"),
        ("9.0a", [], (13, 0), "9.0a"),
        ("10.0f;8.0", [], (13, 0), "8.0+PTX;10.0f"),
        ("6.0;8.0", [], (13, 0), "8.0+PTX"),
        ("Blackwell", [], (12, 8), "10.0;12.0+PTX"),
        ("native", [(8, 6)], (13, 0), "8.6+PTX"),
        ("", [(8, 6), (8, 6), (9, 0)], (13, 0), "8.6;9.0+PTX"),
        ("", [(12, 0)], (12, 4), "9.0+PTX"),
        ("", [(8, 9)], (11, 0), "8.0+PTX"),
        ("", [(7, 0), (9, 0)], (13, 0), "9.0+PTX"),
        ("", [], (13, 0), "7.5;8.0;9.0;10.0;11.0;12.0+PTX"),
        (" ; ", [], (12, 4), "5.0;6.0;7.0;8.0;9.0+PTX"),
    ],
)
def test_a_plan_is_what_was_asked_and_what_nvcc_can_do(requested, visible, toolkit, targets):
    plan = plan_archs(requested, visible=visible, toolkit=toolkit)
    assert isinstance(plan, ArchPlan), plan
    assert str(plan) == targets


def test_what_nvcc_says_wins_over_the_table():
    plan = plan_archs("8.0;9.0", toolkit=(13, 0), supported=["9.0", "8.9"])
    assert str(plan) == "9.0+PTX"
    assert "8.0" in plan.dropped[0]


@pytest.mark.parametrize(
    ("requested", "visible", "toolkit", "words"),
    [
        ("7.0", [], (13, 0), ("7.0", "nvcc 13.0", "7.5")),
        ("9.0a", [], (11, 8), ("9.0a",)),
        ("10.0f", [], (12, 8), ("10.0f",)),
        ("sm_90", [], (13, 0), ("sm_90", "TORCH_CUDA_ARCH_LIST")),
        ("native", [], (13, 0), ("native", "visible device")),
        ("", [(6, 1)], (13, 0), ("6.1", "nvcc 13.0")),
        ("9.0", [], (10, 2), ("10.2", "CUDA 11")),
    ],
)
def test_an_impossible_wish_is_rejected_with_its_reason(requested, visible, toolkit, words):
    plan = plan_archs(requested, visible=visible, toolkit=toolkit)
    assert isinstance(plan, Rejected)
    assert plan.fix
    for word in words:
        assert word in plan.reason


def test_a_plan_says_what_it_dropped():
    plan = plan_archs("6.0;8.0", toolkit=(13, 0))
    assert isinstance(plan, ArchPlan)
    assert plan.targets == (Arch(8, 0, ptx=True),)
    assert plan.dropped == (f"6.0: nvcc 13.0 compiles for {', '.join(CUDA_13)}.",)


@pytest.mark.parametrize(
    ("target", "runs", "runs_not"),
    [
        ("8.0", [(8, 0), (8, 6), (8, 9)], [(7, 5), (9, 0)]),
        ("8.6", [(8, 6)], [(8, 0)]),
        ("8.0+PTX", [(8, 0), (9, 0), (12, 0)], [(7, 5)]),
        ("9.0a+PTX", [(9, 0)], [(9, 1), (10, 0)]),
        ("10.0f", [(10, 0), (10, 3)], [(11, 0), (9, 0)]),
    ],
)
def test_where_a_target_runs(target, runs, runs_not):
    (arch,) = parse_archs(target)
    assert all(arch.runs_on(capability) for capability in runs)
    assert not any(arch.runs_on(capability) for capability in runs_not)
