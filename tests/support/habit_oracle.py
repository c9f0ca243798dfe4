"""What a step must do, told by what everybody can see: refuse for a reason, or be as torch's.

The reasons are a specification of their own; the numbers are torch's optimizers', or the documented
formula of those that torch has none of.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from family_cases import CODED, OPS, OPTIMIZERS, exact_of
from mirror import fresh, same_bits, stepped_by
from torch import Tensor

from accel import optim
from accel.ops.checks import is_dense
from accel.ops.optimizers.reference.lamb import LAMB_BIAS_CORRECTION, LAMB_EPS_INSIDE
from accel.optim.policy import MASTER, state_dtype_for, wants_master
from accel.targets import resolve
from accel.testing.specs import SPECS

Optimizer = torch.optim.Optimizer
HOST = torch.device("cpu")
HALVES = (torch.bfloat16, torch.float16)
FLOATS = (torch.float32, *HALVES, torch.float64)
BLOCK = 256

TOLERANCE = {
    # Both round a handful of float32 operations; moments of size 1 cancel to within 30 times that.
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.float64: {"rtol": 1e-9, "atol": 1e-9},
    # The model steps in float32: what is left is one rounding that goes the other way.
    torch.bfloat16: {"rtol": 2**-7, "atol": 1e-5},
    torch.float16: {"rtol": 2**-10, "atol": 1e-5},
}


class Model(torch.optim.Optimizer):
    """An optimizer that torch has none of, by its formula."""

    keys: tuple[str, ...]

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            present = [param for param in group["params"] if param.grad is not None]
            scale = self.scale(group, [param.grad for param in present])
            for param in present:
                state = self.state[param]
                state["step"] = state.get("step", torch.zeros(())) + 1
                for key in self.keys:
                    if key not in state:
                        state[key] = torch.zeros_like(param)
                grad = param.grad * (-scale if group["maximize"] else scale)
                old = [state[key] for key in self.keys]
                made = self.formula(param, grad, old, float(state["step"]), group)
                for tensor, value in zip([param, *old], made, strict=True):
                    tensor.copy_(value)

    def scale(self, group: dict[str, Any], grads: list[Tensor]) -> float:
        return 1.0

    def formula(
        self, p: Tensor, g: Tensor, old: list[Tensor], step: float, group: dict[str, Any]
    ) -> tuple[Tensor, ...]:
        raise NotImplementedError


class SpecModel(Model):
    """An optimizer by the formula of its conformance spec, in float64."""

    ours: Any

    def formula(self, p, g, old, step, group):  # type: ignore[no-untyped-def]
        spec = resolve(SPECS[OPS[self.ours.family.name].name])()
        betas = {f"beta{n}": beta for n, beta in enumerate(group["betas"], start=1)}
        case = {name: value or 0.0 for name, value in (group | betas).items() if name != "params"}
        lists = [[x.double()] for x in (p, g, *old)]
        names = ("params", "grads", *self.ours.states.values())
        found = spec.expected(case | {"step": step}, dict(zip(names, lists, strict=True)))
        return tuple(found[name][0] for name in spec.written)


class LionModel(Model):
    """Lion in the parameter's type, in the documented order, so that signs are the same."""

    keys = ("exp_avg",)

    def formula(self, p, g, old, step, group):  # type: ignore[no-untyped-def]
        (m,), (beta1, beta2), lr = old, group["betas"], float(group["lr"])
        sign = torch.sign(m * beta1 + g * (1 - beta1))
        return p * (1 - lr * group["weight_decay"]) - sign * lr, m * beta2 + g * (1 - beta2)


class LambModel(Model):
    """LAMB in float64."""

    keys = ("exp_avg", "exp_avg_sq")

    def scale(self, group, grads):  # type: ignore[no-untyped-def]
        limit = group["max_grad_norm"]
        norm = float(torch.cat([torch.zeros(1), *(g.double().reshape(-1) for g in grads)]).norm())
        return 1 / max((norm + 1e-6) / limit, 1.0) if limit else 1.0

    def formula(self, p, g, old, step, group):  # type: ignore[no-untyped-def]
        numbers = {key: group[key] for key in ("eps", "weight_decay", "max_coeff", "min_coeff")}
        tensors = (x.double() for x in (p, g, *old))
        return exact_of("lamb")(*tensors, _Hyper(group, step, **numbers))


class _Hyper:
    def __init__(self, group: dict[str, Any], step: float, **numbers: float) -> None:
        self.__dict__.update(numbers, step=step, lr=float(group["lr"]))
        self.beta1, self.beta2 = group["betas"]
        self.flags = (
            LAMB_BIAS_CORRECTION * group["bias_correction"]
            + LAMB_EPS_INSIDE * group["eps_inside_sqrt"]
        )


MODELS: dict[Any, Callable[..., Optimizer] | None] = {
    optim.FusedAdam: functools.partial(torch.optim.AdamW, foreach=False),
    optim.CPUAdam: functools.partial(torch.optim.AdamW, foreach=False),
    **dict.fromkeys(CODED),
    optim.FusedLion: LionModel,
    optim.CPULion: LionModel,
    optim.FusedAdagrad: functools.partial(torch.optim.Adagrad, foreach=False),
    optim.CPUAdagrad: functools.partial(torch.optim.Adagrad, foreach=False),
    optim.FusedLamb: LambModel,
}
MODELS |= {
    cls: type(f"{cls.__name__}Model", (SpecModel,), {"ours": cls, "keys": tuple(cls.states)})
    for cls in OPTIMIZERS
    if cls not in MODELS
}
"""What an optimizer steps as; of those with codes, whose rounding is random, there is none."""

# Copies by pickle look a class up by its name.
globals().update({model.__name__: model for model in MODELS.values() if isinstance(model, type)})


def wide(theirs: Optimizer, keys: Callable[[dict[str, Any]], tuple[str, ...]]) -> Optimizer:
    """Return a model's optimizer that can step what ours can.

    Everything is of the parameter's type, float32 for 16 bits, and states that torch's optimizers
    make at their construction alone are there.
    """
    made = fresh(theirs, lambda params: type(theirs)(params))
    for group in made.param_groups:
        # torch computes with a rate of one element in its type, float32 even for float64.
        group["lr"] = float(group["lr"])
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            dtype = torch.float32 if param.dtype in HALVES else param.dtype
            param.grad = None
            param.data = param.data.to(dtype)
            param.grad = grad.detach().to(dtype)
            _complete(made.state[param], param, keys(group), group)
    if not isinstance(theirs, LambModel):
        _clip(made)
    return made


def _clip(optimizer: Optimizer) -> None:
    """Scale gradients down to the groups' limits, by one norm over all of them."""
    listed = [param for group in optimizer.param_groups for param in group["params"]]
    grads = [param.grad.double().reshape(-1) for param in listed if param.grad is not None]
    norm = float(torch.cat([torch.zeros(1), *grads]).norm())
    for group in optimizer.param_groups:
        limit = group.get("max_grad_norm", 0.0)
        for param in group["params"]:
            if limit and param.grad is not None:
                param.grad = param.grad * min(limit / (norm + 1e-6), 1.0)


def _complete(
    state: dict[str, Any], param: Tensor, keys: tuple[str, ...], group: dict[str, Any]
) -> None:
    if isinstance(state.get("step"), Tensor) and state["step"].dtype == torch.float32:
        pass
    elif "step" in state:
        state["step"] = torch.tensor(float(state["step"]))
    for key in (*keys, *(key for key in state if key != "step")):
        start = group["initial_accumulator_value"] if key == "sum" else 0.0
        entry = state.get(key)
        state[key] = (
            torch.full_like(param, start) if entry is None else entry.to(param.dtype)
        ).detach()
    # torch makes all of a state where it is empty, and else expects all of it.
    state.setdefault("step", torch.zeros(()))


def must_refuse(optimizer: Any) -> list[str]:
    """Return patterns of what a step has to refuse; none: it has to be done."""
    reasons: list[str] = []
    for group in optimizer.param_groups:
        params = [param for param in group["params"] if param.grad is not None]
        if params and isinstance(optimizer, optim.Adam8bit) and group["amsgrad"]:
            reasons.append("amsgrad")
            continue
        mine = [reason for param in params for reason in _of_one(optimizer, group, param)]
        reasons += mine or _of_memory(optimizer, group, params)
    return reasons


def _of_one(optimizer: Any, group: dict[str, Any], param: Tensor) -> Iterator[str]:
    grad: Any = param.grad
    eight = isinstance(optimizer, CODED)
    for tensor in (param, grad):
        if tensor.dtype not in FLOATS[: 3 if eight else 4]:
            yield "complex|float64"
    if (param.dtype == torch.float64) != (grad.dtype == torch.float64):
        yield "float64"
    if grad.requires_grad:
        yield "requires grad"
    if grad.shape != param.shape:
        yield "shape"
    for key, entry, _ in _kept(optimizer, group, param):
        scale = key in optimizer.extra_keys
        blocks = -(-param.numel() // BLOCK)
        if entry.shape != ((blocks,) if scale else param.shape):
            yield "shape|scale|element"
        # Scales count codes as they lie in memory.
        coded = eight and entry.dtype == torch.uint8
        if (scale and not entry.is_contiguous()) or (coded and not is_dense(entry)):
            yield "strides"
        if entry.dtype not in (*FLOATS, *[torch.uint8] * (eight and key != MASTER)):
            yield "dtype"
    tensors = [param, grad, *(entry for _, entry, _ in _kept(optimizer, group, param))]
    if any(_reach(tensor) > tensor.untyped_storage().nbytes() for tensor in tensors):
        yield "memory|storage"


def _kept(optimizer: Any, group: dict[str, Any], param: Tensor) -> Iterator[tuple[str, Any, bool]]:
    """Yield the entries of a state that a step works with, and whether it does so in place."""
    state = optimizer.state.get(param, {})
    coded = (torch.uint8,) if isinstance(optimizer, CODED) else ()
    blank = param if is_dense(param) else torch.empty(param.shape)
    for key in (*optimizer.state_keys(group), *optimizer.extra_keys, MASTER):
        entry = state.get(key)
        if entry is None or (key == MASTER and not wants_master(param, group, HOST)):
            continue
        floats = key == MASTER or key in optimizer.extra_keys
        dtypes = (torch.float32,) if floats else coded or (state_dtype_for(param, group),)
        # Codes that do not lie as their parameter does are encoded anew.
        moves = bool(coded) and not floats and entry.stride() != blank.stride()
        yield key, entry, entry.dtype in dtypes and not moves


def _reach(tensor: Tensor) -> int:
    if not tensor.numel():
        return 0
    ends = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return (tensor.storage_offset() + ends + 1) * tensor.element_size()


def _bytes(tensor: Tensor) -> list[int]:
    """Return the addresses of a tensor's bytes, those of elements that share memory repeatedly."""
    found = [tensor.storage_offset() * tensor.element_size()]
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        found = [at + i * stride * tensor.element_size() for at in found for i in range(size)]
    start = tensor.untyped_storage().data_ptr()
    return [start + at + byte for at in found for byte in range(tensor.element_size())]


def _of_memory(optimizer: Any, group: dict[str, Any], params: list[Tensor]) -> list[str]:
    states = [id(optimizer.state[p]) for p in params if p.numel() and p in optimizer.state]
    if len(set(states)) < len(states):
        # Whatever is made for the one is the other's, too.
        return ["."]
    taken: set[int] = set()
    total = 0
    for param in params:
        for tensor in (param, *(e for _, e, here in _kept(optimizer, group, param) if here)):
            listed = _bytes(tensor)
            taken.update(listed)
            total += len(listed)
    read = {byte for param in params for byte in _bytes(param.grad)}  # type: ignore[arg-type]
    return ["share"] if len(taken) < total or read & taken else []


def may_refuse(optimizer: Any) -> bool:
    """Return whether a step may be refused or done.

    Of strides that do not nest nobody can tell quickly whether elements share memory; 8-bit codes
    and scales of other types, or one without the other, may be converted.
    """
    for param in stepped_by(optimizer):
        state = optimizer.state.get(param, {})
        if not all(map(_nests, (param, *state.values()))):
            return True
        for scale in optimizer.extra_keys:
            dtypes = [getattr(state.get(key), "dtype", None) for key in (scale[:-6], scale)]
            if dtypes != [torch.uint8, torch.float32] and dtypes != [None, None]:
                return True
    return False


def _nests(tensor: Any) -> bool:
    reach = 0
    if isinstance(tensor, Tensor):
        for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
            if size > 1:
                if stride <= reach:
                    return False
                reach += stride * (size - 1)
    return True


def groups_meet(optimizer: Optimizer) -> bool:
    """Return whether groups, which are stepped one after the other, share memory."""
    seen: set[int] = set()
    for group in optimizer.param_groups:
        mine: set[int] = set()
        for param in group["params"]:
            state = optimizer.state.get(param, {})
            for tensor in (param, param.grad, *state.values()):
                if isinstance(tensor, Tensor) and tensor.untyped_storage().nbytes():
                    mine.add(tensor.untyped_storage().data_ptr())
        if seen & mine:
            return True
        seen |= mine
    return False


def assert_as_model(ours: Any, theirs: Optimizer) -> None:
    """Assert that parameters and states are those of the model's step."""
    pairs = zip(stepped_by(ours), stepped_by(theirs), strict=True)
    for number, (param, wanted) in enumerate(pairs):
        if param.grad is None:
            assert same_bits(param, wanted), f"param {number} has no gradient, and was stepped"
            continue
        _assert_close(f"param {number}", param, wanted)
        state, model = ours.state[param], theirs.state[wanted]
        assert float(state["step"]) == float(model["step"]), f"step of param {number}"
        for group in ours.param_groups:
            if any(param is other for other in group["params"]):
                for key in ours.state_keys(group):
                    _assert_close(f"{key} of param {number}", state[key], model[key])


def _assert_close(name: str, found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(
        found.detach(),
        wanted.detach().to(found.dtype),
        **TOLERANCE[found.dtype],
        equal_nan=True,
        msg=lambda text: f"{name}: {text}",
    )
