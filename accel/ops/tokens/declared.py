"""The functions of ``random_ltd``, each as one declaration; `RandomLTD` has DeepSpeed's names."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from accel.ops.checks import shown
from accel.ops.frame.declaration import DeclaredOp

_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_INDICES = (torch.int32, torch.int64)


class TokenSort(DeclaredOp):
    """Sort token numbers along the last dimension, in place."""

    schema = "random_ltd_token_sort_(Tensor(a!) unsorted_token_ids, int original_tokens) -> ()"
    types: ClassVar = {"unsorted_token_ids": _INDICES}
    native = False

    def check(self, unsorted_token_ids: Tensor, original_tokens: int) -> None:
        """Check the shape, and that there are enough different numbers."""
        _check_dim("unsorted_token_ids", unsorted_token_ids, 3, "[layers, batch, kept tokens]")
        _check_count(unsorted_token_ids.shape[2], "original_tokens", original_tokens)

    def reference(self, unsorted_token_ids: Tensor, original_tokens: int) -> None:
        """Write the sorted numbers."""
        ids = unsorted_token_ids
        _check_range("unsorted_token_ids", ids, original_tokens)
        if ids.is_cpu:
            # Marking the numbers that occur takes a tenth of the time of comparing them.
            rows = ids.flatten(0, 1).long()
            marks = torch.zeros(
                (rows.shape[0], original_tokens), dtype=torch.bool, device=ids.device
            )
            found = marks.scatter_(1, rows, True).nonzero()[:, 1]
            if found.numel() == ids.numel():
                ids.copy_(found.view(ids.shape))
                return
        ids.copy_(ids.sort(dim=-1).values)


class TokenGather(DeclaredOp):
    """The tokens of activations at the indices of each sequence."""

    schema = (
        "random_ltd_token_gather(Tensor activations, Tensor sorted_indices, bool batch_first) "
        "-> Tensor"
    )
    types: ClassVar = {"activations": _FLOATS, "sorted_indices": _INDICES}
    native = False

    def check(self, activations: Tensor, sorted_indices: Tensor, batch_first: bool) -> None:
        """Check the shapes."""
        _check_tokens("activations", activations, sorted_indices, batch_first)

    def outputs(self, activations: Tensor, sorted_indices: Tensor, batch_first: bool) -> Tensor:
        """Return uninitialized memory for the tokens, laid out like the activations."""
        batch, kept = sorted_indices.shape
        sizes = (batch, kept) if batch_first else (kept, batch)
        return activations.new_empty((*sizes, activations.shape[2]))

    def reference(self, activations: Tensor, sorted_indices: Tensor, batch_first: bool) -> Tensor:
        """Return the tokens."""
        length = activations.shape[1 if batch_first else 0]
        _check_range("sorted_indices", sorted_indices, length)
        first, second = _places(sorted_indices, batch_first)
        if not (activations.is_cpu and activations.is_contiguous()):
            return activations[first, second]
        # Indexing whole rows is the only form of indexing that is as fast as a copy on the host.
        at = (first * activations.shape[1] + second).reshape(-1)
        taken = activations.flatten(0, 1).index_select(0, at)
        sizes = sorted_indices.shape if batch_first else sorted_indices.shape[::-1]
        return taken.view(*sizes, activations.shape[2])


class TokenScatter(DeclaredOp):
    """Write tokens back to the indices from which they were taken, in place."""

    schema = (
        "random_ltd_token_scatter_(Tensor(a!) all_activations, Tensor layer_activations, "
        "Tensor sorted_indices, bool batch_first) -> ()"
    )
    same = ("layer_activations.dtype",)
    types: ClassVar = {"all_activations": _FLOATS, "sorted_indices": _INDICES}
    native = False

    def check(
        self, all_activations: Tensor, layer_activations: Tensor, sorted_indices: Tensor,
        batch_first: bool,
    ) -> None:  # fmt: skip
        """Check the shapes."""
        _check_tokens("all_activations", all_activations, sorted_indices, batch_first)
        sizes = tuple(sorted_indices.shape)
        wanted = (*(sizes if batch_first else sizes[::-1]), all_activations.shape[2])
        if tuple(layer_activations.shape) != wanted:
            raise ValueError(
                f"layer_activations has shape {tuple(layer_activations.shape)}; expected {wanted}, "
                f"one token for each of sorted_indices."
            )

    def reference(
        self, all_activations: Tensor, layer_activations: Tensor, sorted_indices: Tensor,
        batch_first: bool,
    ) -> None:  # fmt: skip
        """Write the tokens."""
        length = all_activations.shape[1 if batch_first else 0]
        _check_range("sorted_indices", sorted_indices, length)
        all_activations.index_put_(_places(sorted_indices, batch_first), layer_activations)


class MaskGatherBert(DeclaredOp):
    """The rows and columns of masks that belong to the kept tokens of each layer."""

    schema = "random_ltd_mask_gather_bert(Tensor dense_mask, Tensor sorted_indices) -> Tensor"
    types: ClassVar = {"sorted_indices": _INDICES}
    native = False

    def check(self, dense_mask: Tensor, sorted_indices: Tensor) -> None:
        """Check the shapes."""
        _check_mask(dense_mask)
        _check_dim("sorted_indices", sorted_indices, 3, "[layers, batch, kept tokens]")
        if sorted_indices.shape[1] != dense_mask.shape[0]:
            raise ValueError(
                f"sorted_indices is for a batch of {sorted_indices.shape[1]}, but dense_mask has "
                f"{dense_mask.shape[0]}."
            )

    def outputs(self, dense_mask: Tensor, sorted_indices: Tensor) -> Tensor:
        """Return uninitialized memory for the masks: [layers, batch, 1, kept, kept]."""
        layers, batch, kept = sorted_indices.shape
        return dense_mask.new_empty((layers, batch, 1, kept, kept))

    def reference(self, dense_mask: Tensor, sorted_indices: Tensor) -> Tensor:
        """Return the masks."""
        _check_range("sorted_indices", sorted_indices, dense_mask.shape[3])
        at = sorted_indices.long()
        batch = torch.arange(at.shape[1], dtype=torch.int64, device=at.device)
        found = dense_mask[:, 0][batch[None, :, None, None], at[..., :, None], at[..., None, :]]
        return found.unsqueeze(2)


class MaskGatherGpt(DeclaredOp):
    """The upper left corner of masks, as of a shorter sequence."""

    schema = "random_ltd_mask_gather_gpt(Tensor dense_mask, int truncated_seq_len) -> Tensor"
    native = False

    def check(self, dense_mask: Tensor, truncated_seq_len: int) -> None:
        """Check the shape and the length."""
        _check_mask(dense_mask)
        if not 0 <= truncated_seq_len <= dense_mask.shape[3]:
            raise ValueError(
                f"truncated_seq_len is {shown(truncated_seq_len)}; expected a number from 0 to "
                f"{dense_mask.shape[3]}, the mask's length."
            )

    def outputs(self, dense_mask: Tensor, truncated_seq_len: int) -> Tensor:
        """Return uninitialized memory for the masks."""
        return dense_mask.new_empty((dense_mask.shape[0], 1, truncated_seq_len, truncated_seq_len))

    def reference(self, dense_mask: Tensor, truncated_seq_len: int) -> Tensor:
        """Return the masks, as a copy."""
        corner = dense_mask[:, :, :truncated_seq_len, :truncated_seq_len]
        return corner.clone(memory_format=torch.contiguous_format)


def _check_dim(name: str, tensor: Tensor, dimensions: int, expected: str) -> None:
    if tensor.dim() != dimensions:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {expected}.")


def _check_mask(mask: Tensor) -> None:
    square = mask.dim() == 4 and mask.shape[1] == 1 and mask.shape[2] == mask.shape[3]
    if not square:
        raise ValueError(
            f"dense_mask has shape {tuple(mask.shape)}; expected [batch, 1, sequence, sequence]."
        )


def _check_tokens(name: str, tokens: Tensor, indices: Tensor, batch_first: bool) -> None:
    expected = "[batch, sequence, channels]" if batch_first else "[sequence, batch, channels]"
    _check_dim(name, tokens, 3, expected)
    _check_dim("sorted_indices", indices, 2, "[batch, kept tokens]")
    batch, length = tokens.shape[:2] if batch_first else (tokens.shape[1], tokens.shape[0])
    if indices.shape[0] != batch:
        raise ValueError(
            f"sorted_indices is for a batch of {indices.shape[0]}, but {name} has {batch} with "
            f"batch_first={batch_first}."
        )
    _check_count(indices.shape[1], "the sequence's length", length)


def _check_count(kept: int, name: str, length: int) -> None:
    if kept > length:
        raise ValueError(f"{kept} tokens are kept, but {name} is {shown(length)}.")


def _check_range(name: str, indices: Tensor, length: int) -> None:
    """Refuse indices out of range on the host; on a device, reading them would be a wait."""
    if not indices.is_cpu or not indices.numel():
        return
    low, high = (int(one) for one in indices.aminmax())
    if low < 0 or high >= length:
        raise ValueError(
            f"{name} has {low if low < 0 else high}; expected numbers from 0 to {length - 1}."
        )


def _places(indices: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    """Return the indices of the first two dimensions of activations."""
    batch = torch.arange(indices.shape[0], dtype=torch.int64, device=indices.device)
    if batch_first:
        return batch[:, None], indices.long()
    return indices.t().long(), batch[None, :]
