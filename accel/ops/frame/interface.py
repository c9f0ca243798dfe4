"""`Declaration`: an op's declarations, and the members that dispatcher and autograd use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from accel.ops.base import Op
from accel.ops.frame.call import TAKEN
from accel.ops.frame.checks import CallChecks, Types
from accel.ops.frame.schema import Schema


class Declaration(Op):
    """The part of `DeclaredOp` that does not depend on how calls run; documented there."""

    schema: ClassVar[str] = ""
    same: ClassVar[tuple[str, ...]] = ()
    types: ClassVar[Types] = {}
    sizes: ClassVar[tuple[str, ...]] = ()
    dtypes: ClassVar[tuple[str, ...]] = ()
    paired: ClassVar[tuple[str, ...]] = ()
    in_place: ClassVar[tuple[str, ...]] = ()
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)
    native: ClassVar[bool] = True
    backward: ClassVar[type[Declaration] | None] = None

    parsed: ClassVar[Schema]
    checks: ClassVar[CallChecks]

    derivative: Declaration | None

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Call the op's function."""
        raise NotImplementedError

    def outputs(self, *args: Any) -> Any:
        """Return uninitialized results; compilers trace the op by this, too."""
        raise NotImplementedError(f"{self.name} has no outputs(): it returns nothing new.")

    def workspace(self, *args: Any) -> Tensor | None:
        """Return a kernel's temporary memory. Default: none."""
        return None

    def reference(self, *args: Any) -> Any:
        """Return the results, or write the tensors that the schema marks, in plain PyTorch."""
        raise NotImplementedError(f"{self.name} has no reference.")

    def check(self, *args: Any) -> None:
        """Check values beyond kinds: raise `TypeError` or `ValueError` naming the argument."""

    def save(self, args: tuple[Any, ...], result: Any) -> tuple[Any, ...]:
        """Return the values that the derivative needs. Default: all arguments."""
        return args

    @classmethod
    def namespace(cls) -> str:
        """Return the dispatcher's namespace: the package that declares the op."""
        return cls.__module__.partition(".")[0]

    @classmethod
    def plain(cls, backend: str) -> Declaration:
        """Return the op without a library, which runs its reference."""
        raise NotImplementedError

    def checked(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """Return the arguments, checked."""
        raise NotImplementedError


def check_declaration(cls: type[Declaration]) -> None:
    """Raise `ValueError` if a declaration contradicts itself."""
    schema, told = cls.parsed, f"{cls.__qualname__} ({cls.parsed.name})"
    # Only calls that return something new make it by a name of their own.
    others = TAKEN if schema.returns else TAKEN - {"outputs"}
    if taken := sorted(others.intersection((schema.name, *schema.names))):
        raise ValueError(
            f"{told}: the generated source of its calls uses the name {', '.join(taken)} itself; "
            f"choose another name."
        )
    if not schema.tensors:
        raise ValueError(
            f"{told} takes no tensor: a compiler would treat it as a constant, or remove it. "
            f"Make it a method of a plain class over the library, such as a Handle."
        )
    if schema.tensors[0].kind.optional:
        raise ValueError(f"{told}: {schema.tensors[0].name}, the first tensor, cannot be None.")
    if cls.reference is Declaration.reference:
        raise ValueError(f"{told} has no reference(), which every device without a kernel needs.")
    if schema.is_view:
        # Its reference is made of views, which torch itself follows.
        cls.native = False
        if cls.backward is not None:
            raise ValueError(f"{told} returns views, whose derivatives are torch's own.")
    elif schema.returns and cls.outputs is Declaration.outputs:
        raise ValueError(f"{told} returns tensors, and has no outputs() to make them.")
    if cls.backward is not None and (schema.written or cls.checks.has_lists):
        raise ValueError(
            f"{told} has a derivative, so it may not take lists of tensors or write a tensor."
        )
