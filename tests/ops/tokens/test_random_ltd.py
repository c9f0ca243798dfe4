"""``random_ltd`` beyond its spec: DeepSpeed's surface, types, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from accel import registry
from accel.ops.tokens.random_ltd import RandomLTD

OP: Any = RandomLTD()


def drawn(layers: int, batch: int, length: int, kept: int, dtype: Any = torch.int32) -> Tensor:
    weights = torch.ones(layers * batch, length)
    generator = torch.Generator().manual_seed(3)
    found = torch.multinomial(weights, kept, generator=generator)
    return found.view(layers, batch, kept).to(dtype)


@pytest.mark.parametrize("backend", ["cpu", "cuda", "xpu", "npu"])
def test_every_backend_has_the_builder(backend: str) -> None:
    builder = registry.for_device_type(backend).get_op_builder("RandomLTDBuilder")
    assert builder.NAME == "random_ltd" and not builder().has_sources()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_tokens_are_sorted_where_they_are(dtype: torch.dtype) -> None:
    ids = drawn(3, 4, 300, 120, dtype)
    wanted, address = ids.sort(-1).values, ids.data_ptr()
    found = OP.token_sort_(ids, 300)
    assert found is ids and ids.data_ptr() == address and ids.dtype == dtype
    assert torch.equal(ids, wanted)
    strided = drawn(3, 4, 300, 120, dtype).transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(OP.token_sort_(strided, 300), wanted)


def test_repeated_tokens_are_sorted_too() -> None:
    ids = torch.tensor([[[3, 1, 3, 0]]], dtype=torch.int32)
    assert OP.token_sort_(ids, 4).tolist() == [[[0, 1, 3, 3]]]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_bits_are_moved_whatever_the_type(dtype: torch.dtype, batch_first: bool) -> None:
    """DeepSpeed's kernel reads bfloat16 as float16, and only channels in eights."""
    ids = OP.token_sort_(drawn(1, 3, 20, 7), 20)[0]
    given = torch.randn(3, 20, 5).to(dtype)
    given[0, 0, 0], given[1, 1, 1] = float("nan"), float("inf")
    tokens = given if batch_first else given.transpose(0, 1).contiguous()
    found = OP.token_gather(tokens, ids, batch_first)
    wanted = torch.stack([one[at.long()] for one, at in zip(given, ids, strict=True)])
    wanted = wanted if batch_first else wanted.transpose(0, 1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
    assert found.is_contiguous()
    everything = torch.full_like(tokens, 3.0)
    assert OP.token_scatter_(everything, found, ids, batch_first) is everything
    again = OP.token_gather(everything, ids, batch_first)
    torch.testing.assert_close(again, found, rtol=0, atol=0, equal_nan=True)
    assert int((everything == 3.0).sum()) >= 3 * 13 * 5


def test_each_layer_has_masks_of_its_own() -> None:
    """DeepSpeed's kernel takes the first layer's indices for all of them."""
    ids = OP.token_sort_(drawn(2, 2, 9, 4), 9)
    assert not torch.equal(ids[0], ids[1])
    mask = torch.arange(2 * 81).view(2, 1, 9, 9)
    found = OP.mask_gather_bert(mask, ids)
    for layer in range(2):
        for n in range(2):
            at = ids[layer, n].long()
            assert torch.equal(found[layer, n, 0], mask[n, 0][at][:, at])
    corner = OP.mask_gather_gpt(mask.bool(), 4)
    assert corner.dtype == torch.bool and torch.equal(corner, mask.bool()[:, :, :4, :4])
    assert corner.is_contiguous()


def test_what_is_out_of_range_is_named_before_anything_is_written() -> None:
    tokens, ids = torch.zeros(2, 5, 3), torch.tensor([[0, 4], [1, 5]], dtype=torch.int32)
    for call in (
        lambda: OP.token_gather(tokens, ids, True),
        lambda: OP.token_gather(tokens, ids - 2, True),
        lambda: OP.token_scatter_(tokens, torch.ones(2, 2, 3), ids, True),
        lambda: OP.mask_gather_bert(torch.ones(2, 1, 5, 5), ids[None]),
    ):
        with pytest.raises(ValueError, match=r"sorted_indices has (5|-2); expected"):
            call()
    assert not tokens.any()
    with pytest.raises(ValueError, match="unsorted_token_ids has 9"):
        OP.token_sort_(torch.tensor([[[9, 1]]], dtype=torch.int32), 5)
    with pytest.raises(ValueError, match="original_tokens"):
        OP.token_sort_(torch.zeros(1, 1, 6, dtype=torch.int32), 5)
    fine = ids.clamp(max=4)
    for other in (torch.ones(2, 2, 4), torch.ones(2, 2, 3, dtype=torch.float64)):
        with pytest.raises((TypeError, ValueError), match="layer_activations"):
            OP.token_scatter_(tokens, other, fine, True)
    with pytest.raises(ValueError, match="all_activations"):
        OP.token_scatter_(tokens[:1].expand(2, 5, 3), torch.ones(2, 2, 3), fine, True)
    assert not tokens.any()


def test_a_derivative_is_refused_and_not_forgotten() -> None:
    tokens = torch.randn(2, 5, 3, requires_grad=True)
    found = OP.token_gather(tokens, torch.tensor([[0], [1]], dtype=torch.int32), True)
    with pytest.raises(Exception, match="derivative"):
        found.sum().backward()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_compiler_sees_the_ops() -> None:
    ids = OP.token_sort_(drawn(1, 2, 8, 3), 8)[0]
    tokens = torch.randn(2, 8, 4)

    @torch.compile(backend="aot_eager", fullgraph=True)
    def layer(tokens: Tensor, ids: Tensor) -> Tensor:
        some = OP.token_gather(tokens, ids, True) * 2
        result: Tensor = OP.token_scatter_(tokens.clone(), some, ids, True)
        return result

    wanted = tokens.clone()
    for n in range(2):
        wanted[n, ids[n].long()] *= 2
    torch.testing.assert_close(layer(tokens, ids), wanted)
