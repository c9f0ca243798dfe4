"""Look-up of op builders on this backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from accel.contract.forward import Forwarding
from accel.errors import cannot_import

if TYPE_CHECKING:
    from accel.builders.base import OpBuilder


class OpMembers(Forwarding):
    """Op members of the contract; none of them creates a device context or compiles.

    Attributes:
        op_builders: the module that holds this backend's builders, such as ``"my_npu.builders"``;
            ``""``: none of its own, so every op comes from the portable or the reference rung.
    """

    op_builders: ClassVar[str] = ""

    def op_builder_dir(self) -> str:
        """Return `op_builders`."""
        return self.op_builders

    def get_op_builder(self, class_name: str) -> type[OpBuilder]:
        """Return the builder class of that name (or of that op's name) for this backend.

        Raises:
            UnknownOp: no op of that name exists; the message suggests one.
            OpUnavailable: the system cannot even open the files of its reference.
        """
        try:
            from accel.builders.lookup import find_builder

            return find_builder(class_name, self.op_builder_dir(), self.name)
        except Exception as error:
            limit = cannot_import(f"{class_name} ({self.name})", error)
            if limit is None:
                raise
            raise limit from error

    def create_op_builder(self, class_name: str) -> OpBuilder:
        """Return ``get_op_builder(class_name)()``."""
        return self.get_op_builder(class_name)()

    def default_compute_capabilities(self) -> str:
        """Return the targets for CUDA sources, such as ``"8.0;9.0+PTX"``; ``""`` off CUDA."""
        return ""

    def build_extension(self) -> type[Any]:
        """Return the setuptools command class that builds torch extensions."""
        from torch.utils.cpp_extension import BuildExtension

        found: type[Any] = BuildExtension
        return found
