"""``random_ltd``: random layerwise token dropping (Yao et al. 2022), with DeepSpeed's functions.

The implementation is torch's own indexing on every device: on the host it is nearly as fast as a
copy of the tokens, so a kernel would gain nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from accel.ops.frame.declaration import OpSet
from accel.ops.tokens.declared import (
    MaskGatherBert,
    MaskGatherGpt,
    TokenGather,
    TokenScatter,
    TokenSort,
)


class RandomLTD(OpSet):
    """The op of ``RandomLTDBuilder``, torch's own indexing on every device.

    Activations are float32, bfloat16, float16 or float64; indices int32 or int64, from 0 to the
    length of the sequence, which is checked only on the host. Autograd does not follow these
    functions, because DeepSpeed's layers have their own derivatives.
    """

    name: ClassVar[str] = "random_ltd"
    ops: ClassVar = (TokenSort, TokenGather, TokenScatter, MaskGatherBert, MaskGatherGpt)
    functions: ClassVar[tuple[str, ...]] = (
        "token_sort_",
        "token_gather",
        "token_scatter_",
        "mask_gather_bert",
        "mask_gather_gpt",
    )

    def __init__(self, library: Any = None, *, backend: str = "cpu") -> None:
        super().__init__(library, backend=backend)
        self._sort, self._gather, self._scatter, self._bert, self._gpt = (
            self._loaded[kind] for kind in self.ops
        )

    def token_sort_(self, unsorted_token_ids: Tensor, original_tokens: int) -> Tensor:
        """Sort token numbers of every layer and sequence, in place; return the tensor.

        Args:
            unsorted_token_ids: [layers, batch, kept tokens], numbers below `original_tokens`.
            original_tokens: the length of the sequences.

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: a shape or a number is out of range; nothing has been written.
        """
        self._sort(unsorted_token_ids, original_tokens)
        return unsorted_token_ids

    def token_gather(
        self, activations: Tensor, sorted_indices: Tensor, batch_first: bool
    ) -> Tensor:
        """Return the tokens at `sorted_indices`, with the activations' order of dimensions.

        Args:
            activations: [batch, sequence, channels], or [sequence, batch, channels].
            sorted_indices: [batch, kept tokens].
            batch_first: whether `activations` has the first of the two shapes.

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: shapes do not match, or, on the host, an index is out of range.
        """
        found: Tensor = self._gather(activations, sorted_indices, batch_first)
        return found

    def token_scatter_(
        self,
        all_activations: Tensor,
        layer_activations: Tensor,
        sorted_indices: Tensor,
        batch_first: bool,
    ) -> Tensor:
        """Write `layer_activations` over the tokens that `token_gather` took; return the tensor.

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: shapes do not match, memory is shared, or, on the host, an index is out of
                range; nothing has been written.
        """
        self._scatter(all_activations, layer_activations, sorted_indices, batch_first)
        return all_activations

    def mask_gather_bert(self, dense_mask: Tensor, sorted_indices: Tensor) -> Tensor:
        """Return the masks of the kept tokens, [layers, batch, 1, kept, kept].

        Each layer has its own indices; DeepSpeed's kernel takes the first layer's for all.

        Args:
            dense_mask: [batch, 1, sequence, sequence], of any element type.
            sorted_indices: [layers, batch, kept tokens].

        Raises:
            TypeError: an argument has the wrong kind or element type.
            ValueError: shapes do not match, or, on the host, an index is out of range.
        """
        found: Tensor = self._bert(dense_mask, sorted_indices)
        return found

    def mask_gather_gpt(self, dense_mask: Tensor, truncated_seq_len: int) -> Tensor:
        """Return the masks of sequences of `truncated_seq_len`, [batch, 1, length, length].

        Raises:
            TypeError: an argument has the wrong kind.
            ValueError: a shape or the length is out of range.
        """
        found: Tensor = self._gpt(dense_mask, truncated_seq_len)
        return found
