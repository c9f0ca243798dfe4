"""What LAMB and 8-bit states have to do on a device: tests to inherit, like `device_checks`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from device_checks import FLOATS, Stepper, assert_close, ulps
from torch import Tensor

from accel.ops.optimizers.codes8bit import decode, encode
from accel.ops.optimizers.lists import TensorLists
from accel.ops.optimizers.reference.adam8bit import (
    ADAM8BIT,
    ADAM8BIT_ADAMW,
    ADAM8BIT_BIAS_CORRECTION,
    Adam8bitHyper,
)
from accel.ops.optimizers.reference.lamb import (
    LAMB,
    LAMB_APPLY,
    LAMB_BIAS_CORRECTION,
    LAMB_EPS_INSIDE,
    LAMB_MAXIMIZE,
    LAMB_MOMENTS,
    PHASES,
    LambHyper,
)
from accel.ops.optimizers.reference.lion8bit import LION8BIT, LION8BIT_MAXIMIZE, Lion8bitHyper

LAMB_HYPER = LambHyper(
    lr=1e-2, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0.1, max_coeff=10.0, min_coeff=0.01,
    step=3, flags=PHASES | LAMB_BIAS_CORRECTION,
)  # fmt: skip
HYPER_8BIT = Adam8bitHyper(
    lr=1e-2, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.1, step=3, seed=77,
    flags=ADAM8BIT_ADAMW | ADAM8BIT_BIAS_CORRECTION,
)  # fmt: skip
LION8BIT_HYPER = Lion8bitHyper(
    lr=1e-2, beta1=0.9, beta2=0.99, weight_decay=0.1, step=3, seed=77, flags=LION8BIT_MAXIMIZE,
)  # fmt: skip


def copied(given: TensorLists) -> TensorLists:
    def copy(listed: list[Tensor]) -> list[Tensor]:
        return [tensor.clone() for tensor in listed]

    return TensorLists(
        {role: copy(list(listed)) for role, listed in given.roles.items()},
        None if given.steps is None else copy(list(given.steps)),
        {role: copy(list(listed)) for role, listed in given.extras.items()},
    )


def assert_extras_close(ours: TensorLists, theirs: TensorLists, rtol: float) -> None:
    for role, listed in theirs.extras.items():
        for index, expected in enumerate(listed):
            torch.testing.assert_close(
                ours.extras[role][index], expected, rtol=rtol, atol=0.0, equal_nan=True,
                msg=lambda text, at=f"{role}[{index}]": f"{at}: {text}",
            )  # fmt: skip


def lamb_lists(*sizes: int, param: torch.dtype = torch.float32, scale: float = 1.0) -> TensorLists:
    make = torch.Generator().manual_seed(0)
    params = [(torch.randn(size, generator=make) * scale).to(param) for size in sizes]
    grads = [torch.randn(size, generator=make).to(param) for size in sizes]
    exp_avgs = [torch.randn(size, generator=make) for size in sizes]
    exp_avg_sqs = [torch.rand(size, generator=make) for size in sizes]
    return TensorLists(
        {"params": params, "grads": grads, "exp_avgs": exp_avgs, "exp_avg_sqs": exp_avg_sqs},
        None,
        {
            "norms": [torch.full((2,), 5.0, dtype=torch.float64) for _ in sizes],
            "coeffs": [torch.zeros(()) for _ in sizes],
        },
    )


class LambChecks:
    """LAMB in two phases."""

    @pytest.mark.parametrize("inside", [0, LAMB_EPS_INSIDE])
    @pytest.mark.parametrize("counted", [False, True])
    def test_lamb(self, stepper: Stepper, inside: int, counted: bool) -> None:
        hyper = replace(LAMB_HYPER, flags=LAMB_HYPER.flags | inside | LAMB_MAXIMIZE)
        given = lamb_lists(1, 17, 5000, 4096, *range(90, 99))
        if counted:
            given.steps = [torch.tensor(float(n)) for n in range(len(given.params))]
        expected = copied(given)
        LAMB.reference(expected, hyper)
        stepper("lamb")(given, hyper)
        assert_extras_close(given, expected, rtol=1e-5)
        assert_close(given, expected, rtol=1e-5, atol=1e-6)

    def test_lamb_in_two_calls(self, stepper: Stepper) -> None:
        given = lamb_lists(3000, 20)
        given.steps = [torch.tensor(1.0), torch.tensor(2.0)]
        expected = copied(given)
        LAMB.reference(expected, LAMB_HYPER)
        for phase in (LAMB_MOMENTS, LAMB_APPLY):
            flags = phase | LAMB_BIAS_CORRECTION
            stepper("lamb")(given, replace(LAMB_HYPER, flags=flags))
        assert_extras_close(given, expected, rtol=1e-5)
        assert_close(given, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("scale", [0.0, 1e-18, 1e-3, 100.0, 1e17])
    def test_norms_and_bounds(self, stepper: Stepper, scale: float) -> None:
        hyper = replace(LAMB_HYPER, weight_decay=0.0)
        given = lamb_lists(1000, scale=scale)
        expected = copied(given)
        LAMB.reference(expected, hyper)
        stepper("lamb")(given, hyper)
        assert_extras_close(given, expected, rtol=1e-5)
        torch.testing.assert_close(
            given.extras["coeffs"], expected.extras["coeffs"], rtol=1e-5, atol=0.0
        )
        assert_close(given, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("param", FLOATS)
    def test_lamb_norms_what_is_stored(self, stepper: Stepper, param: torch.dtype) -> None:
        given = lamb_lists(2000, param=param)
        for role in ("exp_avgs", "exp_avg_sqs"):
            given.roles[role] = [tensor.to(param) for tensor in given.roles[role]]
        expected = copied(given)
        LAMB.reference(expected, LAMB_HYPER)
        stepper("lamb")(given, LAMB_HYPER)
        assert_extras_close(given, expected, rtol=1e-4)
        rtol = 1e-5 if param == torch.float32 else ulps(1, param)
        assert_close(given, expected, rtol=rtol, atol=1e-6)

    def test_lamb_skips(self, stepper: Stepper) -> None:
        given = lamb_lists(2000)
        before = copied(given)
        stepper("lamb")(given, replace(LAMB_HYPER, found_inf=torch.tensor(1.0)))
        for role, listed in before.roles.items():
            assert torch.equal(given.roles[role][0], listed[0])


ADAMS = (("exp_avgs", True), ("exp_avg_sqs", False))


def coded_lists(
    *sizes: int,
    param: torch.dtype = torch.float32,
    moments: tuple[tuple[str, bool], ...] = ADAMS,
) -> TensorLists:
    make = torch.Generator().manual_seed(0)
    roles = {
        "params": [torch.randn(size, generator=make).to(param) for size in sizes],
        "grads": [torch.randn(size, generator=make).to(param) for size in sizes],
    }
    extras = {}
    for role, signed in moments:
        values = [torch.randn(size, generator=make) ** 3 for size in sizes]
        coded = [encode(v if signed else v.abs(), signed=signed) for v in values]
        roles[role] = [codes for codes, _ in coded]
        extras[f"{role[:-1]}_scales"] = [scale for _, scale in coded]
    return TensorLists(roles, None, extras)


class Adam8bitChecks:
    """Adam with 8-bit moments."""

    @pytest.mark.parametrize("mode", [0, ADAM8BIT_ADAMW])
    @pytest.mark.parametrize("param", FLOATS)
    def test_adam8bit(self, stepper: Stepper, mode: int, param: torch.dtype) -> None:
        hyper = replace(HYPER_8BIT, flags=mode | ADAM8BIT_BIAS_CORRECTION)
        given = coded_lists(1, 255, 256, 257, 5000, *range(20, 27), param=param)
        given.steps = [torch.tensor(float(n)) for n in range(len(given.params))]
        expected = copied(given)
        ADAM8BIT.reference(expected, hyper)
        stepper("adam8bit")(given, hyper)
        assert_extras_close(given, expected, rtol=0.0)
        rtol = ulps(16, param) if param == torch.float32 else ulps(1, param)
        for ours, theirs in zip(given.params, expected.params, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=rtol, atol=1e-6)
        for role in ADAM8BIT.states:
            ours = torch.cat(list(given.roles[role])).int()
            theirs = torch.cat(list(expected.roles[role])).int()
            # A last bit of a moment may decide where its rounding falls.
            assert (ours - theirs).abs().max() <= 1
            assert (ours != theirs).float().mean() < 2e-3
        assert [*map(float, given.steps)] == [*map(float, expected.steps or ())]

    def test_adam8bit_with_nan(self, stepper: Stepper) -> None:
        given = coded_lists(1000)
        given.grads[0][300] = float("nan")
        expected = copied(given)
        ADAM8BIT.reference(expected, HYPER_8BIT)
        stepper("adam8bit")(given, HYPER_8BIT)
        for scales in given.extras.values():
            assert scales[0].isnan().tolist() == [False, True, False, False]
        moments = decode(given.roles["exp_avgs"][0], given.extras["exp_avg_scales"][0], signed=True)
        assert torch.equal(moments.isnan().nonzero().flatten(), torch.arange(256, 512))

    @pytest.mark.parametrize("beta1", [0.9, 0.0])
    def test_adam8bit_keeps_a_block_with_a_huge_gradient(
        self, stepper: Stepper, beta1: float
    ) -> None:
        given = coded_lists(1000)
        given.grads[0][[3, 300, 600]] = torch.tensor([5e20, -1e30, 3.4e38])
        # Without a first moment infinity is NaN, as in torch.
        given.grads[0][990] = float("inf") if beta1 else 1.0
        expected = copied(given)
        for step in (3, 4):
            hyper = replace(HYPER_8BIT, beta1=beta1, step=step)
            ADAM8BIT.reference(expected, hyper)
            stepper("adam8bit")(given, hyper)
            assert_extras_close(given, expected, rtol=0.0)
            for role in ADAM8BIT.states:
                ours, theirs = given.roles[role][0].int(), expected.roles[role][0].int()
                assert (ours - theirs).abs().max() <= 1, role
            found = given.params[0]
            torch.testing.assert_close(
                found, expected.params[0], rtol=ulps(16, torch.float32), atol=1e-6, equal_nan=True
            )
            assert found.isnan().nonzero().flatten().tolist() == [990] * (beta1 > 0.0)
            given.grads[0][990] = expected.grads[0][990] = 1.0

    def test_adam8bit_skips(self, stepper: Stepper) -> None:
        given = coded_lists(1000)
        before = copied(given)
        stepper("adam8bit")(given, replace(HYPER_8BIT, found_inf=torch.tensor(1.0)))
        for role, listed in before.roles.items():
            assert torch.equal(given.roles[role][0], listed[0])
        assert_extras_close(given, before, rtol=0.0)


LIONS = ADAMS[:1]


class Lion8bitChecks:
    """Lion with an 8-bit moment."""

    @pytest.mark.parametrize("counted", [False, True])
    @pytest.mark.parametrize("param", FLOATS)
    def test_lion8bit(self, stepper: Stepper, counted: bool, param: torch.dtype) -> None:
        sizes = (1, 255, 256, 257, 5000, *range(20, 27))
        given = coded_lists(*sizes, param=param, moments=LIONS)
        given.grads[4][300:400] = 0.0
        given.roles["exp_avgs"][4][300:400] = 0
        if counted:
            given.steps = [torch.tensor(float(n)) for n in range(len(given.params))]
        expected = copied(given)
        LION8BIT.reference(expected, LION8BIT_HYPER)
        stepper("lion8bit")(given, LION8BIT_HYPER)
        assert_extras_close(given, expected, rtol=0.0)
        rtol = ulps(4, param) if param == torch.float32 else ulps(1, param)
        for ours, theirs in zip(given.params, expected.params, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=rtol, atol=1e-7)
        ours = torch.cat(list(given.roles["exp_avgs"])).int()
        theirs = torch.cat(list(expected.roles["exp_avgs"])).int()
        # A last bit of a moment may decide where its rounding falls.
        assert (ours - theirs).abs().max() <= 1
        assert (ours != theirs).float().mean() < 2e-3
        if counted:
            assert [*map(float, given.steps or ())] == [*map(float, expected.steps or ())]

    def test_lion8bit_with_nan_and_huge_gradients(self, stepper: Stepper) -> None:
        given = coded_lists(1000, moments=LIONS)
        given.grads[0][300] = float("nan")
        given.grads[0][[3, 600]] = torch.tensor([float("inf"), -3.4e38])
        expected = copied(given)
        LION8BIT.reference(expected, LION8BIT_HYPER)
        stepper("lion8bit")(given, LION8BIT_HYPER)
        (scales,) = given.extras["exp_avg_scales"]
        assert scales.isnan().tolist() == [False, True, False, False]
        assert_extras_close(given, expected, rtol=0.0)
        assert torch.equal(given.roles["exp_avgs"][0], expected.roles["exp_avgs"][0])
        assert given.params[0].isnan().nonzero().flatten().tolist() == [300]

    def test_lion8bit_skips(self, stepper: Stepper) -> None:
        given = coded_lists(1000, moments=LIONS)
        before = copied(given)
        stepper("lion8bit")(given, replace(LION8BIT_HYPER, found_inf=torch.tensor(1.0)))
        for role, listed in before.roles.items():
            assert torch.equal(given.roles[role][0], listed[0])
        assert_extras_close(given, before, rtol=0.0)
