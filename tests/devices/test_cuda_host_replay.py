"""Random bits of a captured step: a replay of one launch draws those of the step it has come to.

A graph repeats a launch with the arguments that it was captured with. So does a plan that steps
again, on the CUDA kernels built for the host.
"""

import pytest
import torch
from family_cases import CASES, tensors_of
from kernels_on_host import library

from accel.ops.optimizers.kernel import kernel_for
from accel.ops.optimizers.prepared.plan import Plan

BF16 = torch.bfloat16
SHAPES = [(700,), (0,), (8192 + 5,)]


@pytest.fixture(params=[*CASES])
def case(request):
    return CASES[request.param]


@pytest.fixture
def kernel(case):
    """The op's CUDA kernels on the host."""
    family = case.reference.family
    return kernel_for(family, library(family.name, host=True), "cpu")


def low_precision(case, **options):
    return case.lists(SHAPES, dtype=BF16, state=BF16, **options)


def assert_equal(found, wanted):
    for left, right in zip(tensors_of(found), tensors_of(wanted), strict=False):
        assert torch.equal(left, right)


def test_replays_are_the_eager_steps(case, kernel):
    hyper = case.hyper(rounding="stochastic", seed=2**63 + 5)
    captured, eager = low_precision(case, steps=4.0), low_precision(case)
    plan = Plan(kernel, captured)
    for step in (5, 6, 7):
        plan.step(captured, hyper)
        kernel.run(eager, case.hyper(rounding="stochastic", seed=2**63 + 5, step=step))
        assert_equal(captured, eager)
    assert [*map(float, captured.steps)] == [7.0] * len(SHAPES)


def test_every_replay_draws_other_bits(case, kernel):
    """So late that corrections and warm-ups are over: nothing else depends on the step."""
    hyper = case.hyper(rounding="stochastic", seed=3, flags=0)
    first, again, later = (low_precision(case, steps=step) for step in (1e5, 1e5, 1e5 + 1))
    for lists in (first, again, later):
        kernel.run(lists, hyper)
    assert_equal(first, again)
    written = case.reference.family.states
    for role in ("params", *written):
        ones, others = (torch.cat([*lists.roles[role]]) for lists in (first, later))
        differing = (ones != others).float().mean()
        # Of two draws, up to a half round a value differently; 8-bit codes are coarser.
        assert 0.05 < differing < 0.75, role


def test_a_tensor_draws_by_its_own_step(case, kernel):
    hyper = case.hyper(rounding="stochastic", seed=3)
    mixed, early, late = (low_precision(case, steps=step) for step in (4.0, 4.0, 9.0))
    mixed.steps[2].fill_(9.0)
    for lists in (mixed, early, late):
        kernel.run(lists, hyper)
    for role in ("params", *case.reference.family.states):
        assert torch.equal(mixed.roles[role][0], early.roles[role][0]), role
        assert torch.equal(mixed.roles[role][2], late.roles[role][2]), role


def test_a_skipped_step_moves_nothing_on(case, kernel):
    """The step after it draws what it would have drawn."""
    flag = torch.ones((), dtype=torch.int32)
    skipping, plain = low_precision(case, steps=4.0), low_precision(case, steps=4.0)
    plan = Plan(kernel, skipping)
    hyper = case.hyper(rounding="stochastic", seed=3, noop_flag=flag)
    plan.step(skipping, hyper)
    flag.zero_()
    plan.step(skipping, hyper)
    kernel.run(plain, case.hyper(rounding="stochastic", seed=3))
    assert_equal(skipping, plain)
