"""What random bits kernels for devices have to draw: tests to inherit, as in `device_checks`."""

from __future__ import annotations

import pytest
import torch
from device_checks import Stepper
from family_cases import CASES, Case, tensors_of

from accel.errors import AccelError
from accel.ops.optimizers.lists import TensorLists

SHAPES = [(300,), (17, 20), (0,), (1024,), (5,), (9000,)]
PARTS = ((0, 2, 5), (1,), (4, 3), ())


def half_lists(case: Case) -> TensorLists:
    """Return tensors of 16 bits; of LAMB no decay, which lets norms change nothing else."""
    state = torch.float32 if case.reference.family.coded else torch.bfloat16
    return case.lists(SHAPES, torch.bfloat16, state=state)


class RandomChecks:
    """Every optimizer's random bits belong to a tensor's number."""

    @pytest.mark.parametrize("name", CASES)
    @pytest.mark.parametrize("seed", [9, 2**63 + 1])
    def test_a_call_steps_any_part_of_a_list(self, stepper: Stepper, name: str, seed: int) -> None:
        case = CASES[name]
        hyper = case.hyper(rounding="stochastic", seed=seed)
        together, expected = half_lists(case), half_lists(case)
        stepper(name)(together, hyper)
        case.reference.family.reference(expected, hyper)
        for ours, theirs in zip(tensors_of(together), tensors_of(expected), strict=True):
            if ours.dtype == torch.bfloat16 or ours.dtype == torch.uint8:
                # A last bit of a result decides where few of them fall; other noise, of most.
                assert ours.numel() < 100 or (ours == theirs).float().mean() > 0.95
        for indices in PARTS:
            part, wanted = half_lists(case).select(indices), together.select(indices)
            stepper(name)(part, hyper)
            for role, listed in wanted.roles.items():
                # LAMB's norms are added up in any order.
                if (name, role) != ("lamb", "params"):
                    assert all(map(torch.equal, part.roles[role], listed))

    @pytest.mark.parametrize("name", CASES)
    def test_parts_of_tensors_are_refused(self, stepper: Stepper, name: str) -> None:
        """Only the CPU steps them, and there no 8-bit codes."""
        case = CASES[name]
        given, before = half_lists(case), half_lists(case)
        given.starts = [256] * len(SHAPES)
        with pytest.raises(AccelError):
            stepper(name)(given, case.hyper(rounding="stochastic"))
        assert all(map(torch.equal, tensors_of(given), tensors_of(before)))
