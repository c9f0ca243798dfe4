"""Ops with one defect each, as extensions really had them, and what catches them."""

import torch

from accel.builders.kinds import ReferenceOpBuilder
from accel.cpu import CPUAccelerator
from accel.ops.lists.multi_tensor import MultiTensor
from accel.ops.optimizers.adagrad import FusedAdagrad
from accel.ops.optimizers.adam import FusedAdam
from accel.ops.optimizers.adam8bit import Adam8bit

OP_MUTANTS = {}
_RESULTS = ("test_results", "test_results_of_the_reference")


def caught_by(*tests):
    """Note which tests of the kit must fail for the op; make an accelerator that has it."""

    def note(op):
        right = CPUAccelerator().get_op_builder(op.name)
        builder = type(
            right.__name__,
            (ReferenceOpBuilder,),
            {"NAME": op.name, "backend": "cpu", "op": f"op_mutants:{op.__name__}"},
        )

        def get_op_builder(self, class_name):
            if class_name in {right.__name__, right.NAME}:
                return builder
            return CPUAccelerator.get_op_builder(self, class_name)

        accelerator = type(op.__name__, (CPUAccelerator,), {"get_op_builder": get_op_builder})
        OP_MUTANTS[accelerator] = tests
        return op

    return note


class _Adam(FusedAdam):
    """The right op, with its arguments in a dictionary for the mutants to change."""

    names = ("lr", "beta1", "beta2", "epsilon", "step", "mode", "bias_correction", "weight_decay")

    def multi_tensor_adam(self, chunk_size, noop_flag, tensor_lists, *numbers):
        numbers = dict(zip(self.names, numbers, strict=False))
        self.run(chunk_size, noop_flag, tensor_lists, numbers)

    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        super().multi_tensor_adam(chunk_size, noop_flag, tensor_lists, *numbers.values())


@caught_by(*_RESULTS)
class AlwaysAdamW(_Adam):
    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        super().run(chunk_size, noop_flag, tensor_lists, numbers | {"mode": 1})


@caught_by(*_RESULTS)
class NeverCorrectsBias(_Adam):
    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        super().run(chunk_size, noop_flag, tensor_lists, numbers | {"bias_correction": False})


@caught_by(*_RESULTS)
class ForgetsWeightDecay(_Adam):
    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        super().run(chunk_size, noop_flag, tensor_lists, numbers | {"weight_decay": 0.0})


@caught_by(*_RESULTS)
class SwapsTheBetas(_Adam):
    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        swapped = {"beta1": numbers["beta2"], "beta2": numbers["beta1"]}
        super().run(chunk_size, noop_flag, tensor_lists, numbers | swapped)


@caught_by(*_RESULTS)
class ForgetsEpsilon(_Adam):
    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        super().run(chunk_size, noop_flag, tensor_lists, numbers | {"epsilon": 0.0})


@caught_by(*_RESULTS)
class CountsStepsFromZero(_Adam):
    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        super().run(chunk_size, noop_flag, tensor_lists, numbers | {"step": numbers["step"] + 1})


@caught_by(*_RESULTS)
class SkipsTheLastTensor(_Adam):
    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        fewer = [listed[:-1] if len(listed) > 1 else listed for listed in tensor_lists]
        super().run(chunk_size, noop_flag, fewer, numbers)


@caught_by(*_RESULTS)
class LosesTheTail(_Adam):
    """A vector loop without its remainder."""

    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        kept = [[one.detach().clone() for one in listed] for listed in tensor_lists]
        super().run(chunk_size, noop_flag, tensor_lists, numbers)
        for listed, before in zip(tensor_lists, kept, strict=True):
            for one, old in zip(listed, before, strict=True):
                if one.dim() == 1 and one.numel() % 8:
                    whole = one.numel() - one.numel() % 8
                    one[whole:] = old[whole:]


@caught_by(*_RESULTS)
class ComputesInTheDtypeOfStates(_Adam):
    """Moments rounded to bfloat16 on their way."""

    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        super().run(chunk_size, noop_flag, tensor_lists, numbers)
        for one in tensor_lists[2]:
            one.copy_(one.bfloat16())


@caught_by("test_inputs_are_left_alone")
class DecaysTheGradient(_Adam):
    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        super().run(chunk_size, noop_flag, tensor_lists, numbers)
        for grad, param in zip(tensor_lists[0], tensor_lists[1], strict=True):
            grad.add_(param, alpha=0.25)


@caught_by("test_results_repeat")
class RoundsAtRandom(_Adam):
    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        super().run(chunk_size, noop_flag, tensor_lists, numbers)
        for one in tensor_lists[1]:
            one.mul_(1 + (torch.rand_like(one) - 0.5) * 2 * torch.finfo(one.dtype).eps)


@caught_by(*_RESULTS)
class AdagradWithoutDecay(FusedAdagrad):
    def multi_tensor_adagrad(self, chunk, noop, lists, lr, epsilon, mode, weight_decay):
        super().multi_tensor_adagrad(chunk, noop, lists, lr, epsilon, mode, weight_decay * 0)


@caught_by("test_layouts_are_right_or_refused")
class UpdatesACopy(_Adam):
    """``contiguous()`` makes a copy of strided memory, and the step is lost with it."""

    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        copies = [[one.contiguous() for one in listed] for listed in tensor_lists]
        super().run(chunk_size, noop_flag, copies, numbers)


@caught_by("test_bad_calls_are_refused")
class TakesAnyNumber(_Adam):
    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        super().run(chunk_size, noop_flag, tensor_lists, numbers | {"lr": abs(numbers["lr"])})


@caught_by("test_bad_calls_are_refused")
class WritesBeforeItChecks(_Adam):
    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        if numbers["lr"] < 0:
            tensor_lists[1][0].zero_()
        super().run(chunk_size, noop_flag, tensor_lists, numbers)


@caught_by("test_bad_calls_are_refused")
class RefusesWithoutAName(_Adam):
    def run(self, chunk_size, noop_flag, tensor_lists, numbers):
        try:
            super().run(chunk_size, noop_flag, tensor_lists, numbers)
        except (TypeError, ValueError):
            raise ValueError("bad call") from None


@caught_by("test_call_surface")
class PromisesMore(_Adam):
    functions = ("multi_tensor_adam", "multi_tensor_adam_capturable")


@caught_by("test_every_op_has_a_spec")
class NamesASpecThatIsAbsent(_Adam):
    conformance = "op_mutants:NoSuchSpec"


@caught_by("test_call_surface")
class UnknownRung(_Adam):
    def __init__(self, library=None, *, backend="cpu"):
        super().__init__(library, backend=backend)
        self.implementation = "magic"


@caught_by(*_RESULTS)
class KeepsTheOldScales(Adam8bit):
    """New codes beside the scales of the step before."""

    def multi_tensor_adam8bit(self, chunk_size, noop_flag, tensor_lists, *numbers):
        old = [[one.clone() for one in tensor_lists[place]] for place in (3, 5)]
        super().multi_tensor_adam8bit(chunk_size, noop_flag, tensor_lists, *numbers)
        for place, scales in zip((3, 5), old, strict=True):
            for one, before in zip(tensor_lists[place], scales, strict=True):
                one.copy_(before)


@caught_by(*_RESULTS)
class ForgetsTheLastNorm(MultiTensor):
    """A reduction whose last chunk is lost."""

    def multi_tensor_l2norm(self, chunk_size, noop_flag, tensor_lists, per_tensor=False):
        fewer = [tensor_lists[0][:-1]]
        _, norms = super().multi_tensor_l2norm(chunk_size, noop_flag, tensor_lists, per_tensor)
        return super().multi_tensor_l2norm(chunk_size, noop_flag, fewer)[0], norms


@caught_by(*_RESULTS)
class NeverFlags(MultiTensor):
    """The flag of an overflow is written to a copy."""

    def multi_tensor_scale(self, chunk_size, noop_flag, tensor_lists, scale):
        super().multi_tensor_scale(chunk_size, noop_flag.clone(), tensor_lists, scale)


@caught_by(*_RESULTS)
class ChecksTheOtherArgument(MultiTensor):
    def multi_tensor_axpby(self, chunk_size, noop_flag, tensor_lists, a, b, arg_to_check=-1):
        other = 1 - arg_to_check if arg_to_check >= 0 else -1
        super().multi_tensor_axpby(chunk_size, noop_flag, tensor_lists, a, b, other)


@caught_by(*_RESULTS)
class RunsWhereTheFlagIsSet(MultiTensor):
    def multi_tensor_l2norm_mp(self, *arguments):
        return self.multi_tensor_l2norm(*arguments)


@caught_by(*_RESULTS)
class ScalesUpToTheNorm(MultiTensor):
    """A coefficient of clipping that is not bounded by 1."""

    def multi_tensor_clip(self, tensors, max_norm, keep_nonfinite=False):
        total = super().multi_tensor_clip(tensors, float("inf"))
        for one in tensors:
            one.mul_(max_norm / (total + 1e-6))
        return total


@caught_by(*_RESULTS)
class SquaresInTheDtypeOfTensors(MultiTensor):
    def multi_tensor_unscale_l2norm(self, chunk_size, noop_flag, tensor_lists, inv_scale, each):
        rounded = [[(one * inv_scale).to(one.dtype) for one in tensor_lists[0]]]
        super().multi_tensor_l2norm(chunk_size, noop_flag, rounded, each)
        norms = torch.stack([one.norm() for one in rounded[0]])
        return norms.norm().float().reshape(1), norms.float()[: len(norms) if each else 0]


@caught_by("test_bad_calls_are_refused")
class TakesAnyChunk(MultiTensor):
    def multi_tensor_scale(self, chunk_size, noop_flag, tensor_lists, scale):
        super().multi_tensor_scale(max(1, chunk_size), noop_flag, tensor_lists, scale)


@caught_by("test_inputs_are_left_alone")
class UnscalesInPlace(MultiTensor):
    def multi_tensor_unscale_l2norm(self, chunk_size, noop_flag, tensor_lists, inv_scale, each):
        for one in tensor_lists[0]:
            one.mul_(inv_scale)
        return self.multi_tensor_l2norm(chunk_size, noop_flag, tensor_lists, each)
