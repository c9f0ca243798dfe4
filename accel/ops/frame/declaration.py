"""`DeclaredOp`: an op as one declaration, from which the rest follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from accel.ops import abi
from accel.ops.base import Implementation, Op
from accel.ops.frame import autograd, dispatch
from accel.ops.frame.call import CallText
from accel.ops.frame.checks import CallChecks
from accel.ops.frame.interface import Declaration, check_declaration
from accel.ops.frame.schema import parse
from accel.ops.frame.tensors import dense, has_own_dispatch
from accel.ops.frame.watchers import has_tangents, is_recorded, is_transformed
from accel.ops.native import NATIVE_RUNGS, NativeLibrary, bind, current_device

_TO_REFERENCE = frozenset({abi.UNSUPPORTED, abi.BAD_DTYPE})
_plain: dict[tuple[type[DeclaredOp], str], DeclaredOp] = {}


class DeclaredOp(Declaration):
    """One function of one schema.

    A subclass is a declaration::

        class SiluMul(DeclaredOp):
            schema = "silu_mul(Tensor gate, Tensor up) -> Tensor"
            same = ("up",)
            sizes = ("gate.numel()",)

            def outputs(self, gate, up): return torch.empty_like(gate)
            def reference(self, gate, up): return torch.nn.functional.silu(gate) * up

    Its instances have the function under its own name, ``op.silu_mul``, and can also be called.
    The methods below take all arguments by position, in the schema's order.

    Attributes:
        schema: in torch's notation.
        same: tensors that have the first tensor's shape and dtype; see `CallChecks`.
        types: the allowed element types of arguments, by name; any if it is not named.
        sizes: arguments of C after the addresses and numbers; see `CallText`.
        dtypes: names of the tensors whose element types are passed to C. Default: the first tensor.
        paired: names of lists that are as long as the first list, with its tensors' shapes.
        in_place: names of lists whose tensors may be the written tensors at the same index.
        examples: the arguments, by name, of calls that the conformance suite makes, one mapping a
            call. The suite makes the tensors; arguments with a default may be left out.
        native: whether a library has a C function for it, ``accel_<name>``.
        backward: the op that is its derivative. Its arguments are a gradient for each float result,
            then the result of `save`; it returns a gradient for each tensor.
    """

    def __init_subclass__(cls, **named: Any) -> None:
        """Read the declaration.

        Raises:
            ValueError: it contradicts itself, or needs something that the frame does not support.
        """
        super().__init_subclass__(**named)
        if not cls.schema:
            return
        cls.parsed = parse(cls.schema)
        cls.name = cls.__dict__.get("name") or cls.parsed.name
        cls.functions = (cls.parsed.name,)
        cls.checks = CallChecks(cls.parsed, cls.same, cls.types, cls.paired, cls.in_place)
        check_declaration(cls)

    def __init__(self, library: Implementation | None = None, *, backend: str = "cpu") -> None:
        super().__init__(library, backend=backend)
        self.derivative = None if self.backward is None else self.backward(library, backend=backend)
        self._dispatched = dispatch.register(type(self))
        self._places = [at for at, one in enumerate(self.parsed.arguments) if one.kind.is_tensor]
        self._run: Callable[..., Any] | None = None
        self._library: NativeLibrary | None = None
        self._native: Any = None
        self._surface = self._bind(library if self.native else None)
        setattr(self, self.parsed.name, self._surface)
        if self._run is not None:
            dispatch.use(self)

    def _bind(self, library: Implementation | None) -> Callable[..., Any]:
        """Return the function that users call, bound to `library`."""
        codes = self.dtypes or (self.parsed.tensors[0].name,)
        works = type(self).workspace is not DeclaredOp.workspace
        text = CallText(self.parsed, self.same, self.types, self.sizes, codes, self.backend,
                        workspace=works)  # fmt: skip
        names: dict[str, Any] = {
            "workspace": self.workspace,
            "careful": self.careful,
            "followed": self._followed,
            "check": self.check,
            "outputs": self.outputs,
            "refused": self._refused,
            "run": self._by_reference,
        }
        if library is not None and library.rung in NATIVE_RUNGS:
            self._library = bind(library, f"accel_{self.parsed.name}")
            self._native = names["native"] = self._library.function(text.argtypes)
        elif library is not None:
            self._run = names["run"] = self._launched(library.bind(self.parsed.name), works)
        checked = type(self).check is not DeclaredOp.check
        source = text.surface(native=self._library is not None, checked=checked)
        if self._library is None:
            return text.compile(source, self.implementation, **names)[self.parsed.name]
        made = text.compile(f"{source}\n{text.run()}", str(self.path), **names)
        self._run = made["run"]
        return made[self.parsed.name]

    def _launched(self, launch: Callable[..., None], works: bool) -> Callable[..., Any]:
        """Return a function that runs a kernel on tensors: arguments, results, workspace."""

        def run(*args: Any) -> Any:
            result = self.outputs(*args) if self.parsed.returns else None
            results = result if isinstance(result, tuple) else (result,)
            leader = next(tensor for _, tensor in self.checks.tensors(args))
            with current_device(leader.device):
                work = (self.workspace(*args),) if works else ()
                launch(*args, *(results if self.parsed.returns else ()), *work)
            for one, value in zip(self.parsed.arguments, args, strict=True):
                if one.kind.written:
                    increment_version(value if one.kind.listed else (value,))
            return result

        return run

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Call the op's function."""
        return self._surface(*args, **named)

    @classmethod
    def register(cls) -> Any:
        """Put the op into the dispatcher and return it, as loading it does.

        This is for a process that runs an exported program and loads no op.
        """
        return dispatch.register(cls)

    @classmethod
    def plain(cls, backend: str) -> DeclaredOp:
        """Return the op without a library, which runs its reference."""
        found = _plain.get((cls, backend))
        return found or _plain.setdefault((cls, backend), cls(None, backend=backend))

    def checked(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """Return the arguments, checked before anything is written.

        Raises:
            TypeError: an argument has the wrong kind, element type or layout.
            ValueError: a value, a shape, a device or a list's length is wrong.
        """
        given = self.checks(args)
        self.check(*given)
        return given

    def careful(self, *args: Any) -> Any:
        """Run a call that is unusual, or wrong."""
        if is_recorded():
            return self._by_dispatcher(args)
        given = self.checked(args)
        if self.parsed.is_view:
            return self.reference(*given)
        if has_tangents():
            autograd.refuse_forward_mode(self, given)
        tensors = [tensor for _, tensor in self.checks.tensors(given)]
        if is_transformed():
            if self.parsed.written or self.checks.has_lists:
                return self.compute(*given)
            return autograd.follow_transformed(self, self.compute, given)
        if any(has_own_dispatch(tensor) for tensor in tensors):
            return self._by_dispatcher(given)
        self.checks.check_memory(given)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            return autograd.follow(self, self.compute, given, tensors)
        return self.compute(*given)

    def _followed(self, *args: Any) -> Any:
        """Run a usual call that may need a derivative; written tensors must not require one."""
        if self.parsed.written:
            return self.careful(*args)
        tensors = [args[at] for at in self._places if args[at] is not None]
        return autograd.follow(self, self._run or self._by_reference, args, tensors)

    def _by_dispatcher(self, args: Sequence[Any]) -> Any:
        by_position, by_name = self.parsed.split(args)
        return self._dispatched(*by_position, **by_name)

    def compute(self, *args: Any) -> Any:
        """Run a checked call by the loaded implementation if it can, else by the reference."""
        tensors = [tensor for _, tensor in self.checks.tensors(args)]
        if not tensors:
            return None  # Nothing to write; a call with results has been refused before.
        if tensors[0].device.type == "meta":
            return self.fake(*args)
        if self._run is not None and self._takes(tensors):
            return self._run(*args)
        return self._by_reference(*args)

    def fake(self, *args: Any) -> Any:
        """Return results without values, for compilers."""
        return dense(self.outputs(*args)) if self.parsed.returns else None

    def _by_reference(self, *args: Any) -> Any:
        result = self.reference(*args)
        return dense(result, args) if self.parsed.returns else None

    def _takes(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether addresses describe the tensors fully, on the library's own devices."""
        return not is_transformed() and all(
            tensor.device.type == self.backend
            and tensor.is_contiguous()
            and not tensor.is_neg()
            and tensor.dtype in abi.ELEMENTS
            and not has_own_dispatch(tensor)
            and (tensor.numel() > 0 or self.checks.has_lists)
            for tensor in tensors
        )

    def _refused(self, status: int, *args: Any) -> Any:
        """Return the reference's results for a call that the library does not support.

        Raises:
            AccelError: the library failed for another reason.
        """
        if status in _TO_REFERENCE:
            return self._by_reference(*args)
        assert self._library is not None
        raise self._library.refusal(status)


class OpSet(Op):
    """A group of functions that one builder loads, each a `DeclaredOp`.

    Attributes:
        ops: the functions; one library has all of them.
    """

    ops: ClassVar[tuple[type[DeclaredOp], ...]] = ()

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        if not cls.__dict__.get("functions"):
            cls.functions = tuple(op.parsed.name for op in cls.ops)

    def __init__(self, library: Implementation | None = None, *, backend: str = "cpu") -> None:
        super().__init__(library, backend=backend)
        self._loaded = {kind: kind(library, backend=backend) for kind in self.ops}
        for kind, op in self._loaded.items():
            if not hasattr(self, kind.parsed.name):
                setattr(self, kind.parsed.name, op)
