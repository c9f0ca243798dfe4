"""Look-up of op builders on this backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, overload

from accel.contract.forward import Forwarding
from accel.errors import cannot_import

if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from accel.builders.base import OpBuilder
    from accel.ops.io.async_io import AsyncIO
    from accel.ops.io.pin_memory import PinMemory
    from accel.ops.lists.multi_tensor import MultiTensor
    from accel.ops.optimizers.adagrad import CPUAdagrad, FusedAdagrad
    from accel.ops.optimizers.adam import CPUAdam, FusedAdam
    from accel.ops.optimizers.adam8bit import Adam8bit
    from accel.ops.optimizers.ademamix import FusedAdEMAMix
    from accel.ops.optimizers.lamb import FusedLamb
    from accel.ops.optimizers.lion import CPULion, FusedLion
    from accel.ops.optimizers.lion8bit import Lion8bit
    from accel.ops.quantizers.blockwise_quantizer import BlockwiseQuantizer
    from accel.ops.quantizers.fp_quantizer import FPQuantizer
    from accel.ops.quantizers.quantizer import Quantizer
    from accel.ops.tokens.random_ltd import RandomLTD

    _FusedAdam: TypeAlias = Literal["FusedAdamBuilder", "fused_adam"]
    _CPUAdam: TypeAlias = Literal["CPUAdamBuilder", "cpu_adam"]
    _FusedLion: TypeAlias = Literal["FusedLionBuilder", "fused_lion"]
    _CPULion: TypeAlias = Literal["CPULionBuilder", "cpu_lion"]
    _FusedAdagrad: TypeAlias = Literal["FusedAdagradBuilder", "fused_adagrad"]
    _CPUAdagrad: TypeAlias = Literal["CPUAdagradBuilder", "cpu_adagrad"]
    _FusedAdEMAMix: TypeAlias = Literal["FusedAdEMAMixBuilder", "fused_ademamix"]
    _FusedLamb: TypeAlias = Literal["FusedLambBuilder", "fused_lamb"]
    _Adam8bit: TypeAlias = Literal["Adam8bitBuilder", "adam8bit"]
    _Lion8bit: TypeAlias = Literal["Lion8bitBuilder", "lion8bit"]
    _MultiTensor: TypeAlias = Literal["MultiTensorBuilder", "multi_tensor"]
    _BlockwiseQuantizer: TypeAlias = Literal["BlockwiseQuantizerBuilder", "blockwise_quantizer"]
    _FPQuantizer: TypeAlias = Literal["FPQuantizerBuilder", "fp_quantizer"]
    _Quantizer: TypeAlias = Literal["QuantizerBuilder", "quantizer"]
    _AsyncIO: TypeAlias = Literal["AsyncIOBuilder", "async_io"]
    _PinMemory: TypeAlias = Literal["PinMemoryBuilder", "pin_memory"]
    _RandomLTD: TypeAlias = Literal["RandomLTDBuilder", "random_ltd"]


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

    @overload
    def get_op_builder(self, class_name: _FusedAdam) -> type[OpBuilder[FusedAdam]]: ...
    @overload
    def get_op_builder(self, class_name: _CPUAdam) -> type[OpBuilder[CPUAdam]]: ...
    @overload
    def get_op_builder(self, class_name: _FusedLion) -> type[OpBuilder[FusedLion]]: ...
    @overload
    def get_op_builder(self, class_name: _CPULion) -> type[OpBuilder[CPULion]]: ...
    @overload
    def get_op_builder(self, class_name: _FusedAdagrad) -> type[OpBuilder[FusedAdagrad]]: ...
    @overload
    def get_op_builder(self, class_name: _CPUAdagrad) -> type[OpBuilder[CPUAdagrad]]: ...
    @overload
    def get_op_builder(self, class_name: _FusedAdEMAMix) -> type[OpBuilder[FusedAdEMAMix]]: ...
    @overload
    def get_op_builder(self, class_name: _FusedLamb) -> type[OpBuilder[FusedLamb]]: ...
    @overload
    def get_op_builder(self, class_name: _Adam8bit) -> type[OpBuilder[Adam8bit]]: ...
    @overload
    def get_op_builder(self, class_name: _Lion8bit) -> type[OpBuilder[Lion8bit]]: ...
    @overload
    def get_op_builder(self, class_name: _MultiTensor) -> type[OpBuilder[MultiTensor]]: ...
    @overload
    def get_op_builder(
        self, class_name: _BlockwiseQuantizer
    ) -> type[OpBuilder[BlockwiseQuantizer]]: ...
    @overload
    def get_op_builder(self, class_name: _Quantizer) -> type[OpBuilder[Quantizer]]: ...
    @overload
    def get_op_builder(self, class_name: _FPQuantizer) -> type[OpBuilder[FPQuantizer]]: ...
    @overload
    def get_op_builder(self, class_name: _AsyncIO) -> type[OpBuilder[AsyncIO]]: ...
    @overload
    def get_op_builder(self, class_name: _PinMemory) -> type[OpBuilder[PinMemory]]: ...
    @overload
    def get_op_builder(self, class_name: _RandomLTD) -> type[OpBuilder[RandomLTD]]: ...
    @overload
    def get_op_builder(self, class_name: str) -> type[OpBuilder[Any]]: ...
    def get_op_builder(self, class_name: str) -> type[OpBuilder]:
        """Return the builder class of that name (or of that op's name) for this backend.

        Raises:
            UnknownOp: no op of that name exists; the message suggests one.
            OpUnavailable: the system cannot even open the files of its reference.
        """
        try:
            from accel.builders.lookup import find_builder

            module = self.op_builder_dir()
            return find_builder(class_name, module, self.name, self.uses_triton, self.device_type)
        except Exception as error:
            limit = cannot_import(f"{class_name} ({self.name})", error)
            if limit is None:
                raise
            raise limit from error

    @overload
    def create_op_builder(self, class_name: _FusedAdam) -> OpBuilder[FusedAdam]: ...
    @overload
    def create_op_builder(self, class_name: _CPUAdam) -> OpBuilder[CPUAdam]: ...
    @overload
    def create_op_builder(self, class_name: _FusedLion) -> OpBuilder[FusedLion]: ...
    @overload
    def create_op_builder(self, class_name: _CPULion) -> OpBuilder[CPULion]: ...
    @overload
    def create_op_builder(self, class_name: _FusedAdagrad) -> OpBuilder[FusedAdagrad]: ...
    @overload
    def create_op_builder(self, class_name: _CPUAdagrad) -> OpBuilder[CPUAdagrad]: ...
    @overload
    def create_op_builder(self, class_name: _FusedAdEMAMix) -> OpBuilder[FusedAdEMAMix]: ...
    @overload
    def create_op_builder(self, class_name: _FusedLamb) -> OpBuilder[FusedLamb]: ...
    @overload
    def create_op_builder(self, class_name: _Adam8bit) -> OpBuilder[Adam8bit]: ...
    @overload
    def create_op_builder(self, class_name: _Lion8bit) -> OpBuilder[Lion8bit]: ...
    @overload
    def create_op_builder(self, class_name: _MultiTensor) -> OpBuilder[MultiTensor]: ...
    @overload
    def create_op_builder(
        self, class_name: _BlockwiseQuantizer
    ) -> OpBuilder[BlockwiseQuantizer]: ...
    @overload
    def create_op_builder(self, class_name: _Quantizer) -> OpBuilder[Quantizer]: ...
    @overload
    def create_op_builder(self, class_name: _FPQuantizer) -> OpBuilder[FPQuantizer]: ...
    @overload
    def create_op_builder(self, class_name: _AsyncIO) -> OpBuilder[AsyncIO]: ...
    @overload
    def create_op_builder(self, class_name: _PinMemory) -> OpBuilder[PinMemory]: ...
    @overload
    def create_op_builder(self, class_name: _RandomLTD) -> OpBuilder[RandomLTD]: ...
    @overload
    def create_op_builder(self, class_name: str) -> OpBuilder[Any]: ...
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
