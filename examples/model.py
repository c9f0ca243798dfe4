"""A small transformer that predicts the next byte of a text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

BYTES = 256


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the size of the network.

    Attributes:
        context: bytes that one prediction may look back on.
        width: features per position, a multiple of twice `heads`.
        depth: number of blocks.
        heads: attention heads.
        dropout: share of the features zeroed after every block's two halves, in [0, 1).
    """

    context: int = 128
    width: int = 128
    depth: int = 3
    heads: int = 4
    dropout: float = 0.0


class Attention(nn.Module):
    """Causal self-attention over ``[batch, time, width]``, with rotary positions."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        half = shape.width // shape.heads // 2
        angles = torch.outer(
            torch.arange(shape.context), 10_000.0 ** (-torch.arange(half) / max(1, half))
        )
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def rotate(self, x: Tensor) -> Tensor:
        """Turn pairs of features by an angle that grows with the position (Su et al. 2021)."""
        time = x.shape[-2]
        cos, sin = self.cos[:time].to(x.dtype), self.sin[:time].to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each position gathers from itself and the positions before it."""
        batch, time, width = x.shape
        q, k, v = self.qkv(x).view(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        gathered = functional.scaled_dot_product_attention(
            self.rotate(q), self.rotate(k), v, is_causal=True
        )
        mixed: Tensor = self.out(gathered.transpose(1, 2).reshape(batch, time, width))
        return mixed


class Block(nn.Module):
    """Attention and a two-layer perceptron, each added to its normalised input."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(shape.width)
        self.attention = Attention(shape)
        self.perceptron_norm = nn.LayerNorm(shape.width)
        self.perceptron = nn.Sequential(
            nn.Linear(shape.width, 4 * shape.width),
            nn.GELU(approximate="tanh"),
            nn.Linear(4 * shape.width, shape.width),
        )
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, time, width]`` to the same shape."""
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        y: Tensor = x + self.dropout(self.perceptron(self.perceptron_norm(x)))
        return y


class ByteTransformer(nn.Module):
    """Logits of the next byte at every position of a batch of byte strings."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BYTES, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, BYTES, bias=False)
        self.apply(_initialise)
        for block in self.blocks:
            assert isinstance(block, Block)
            last = block.perceptron[-1]
            assert isinstance(last, nn.Linear)
            # A block that starts as the identity trains faster in the first few hundred steps.
            nn.init.zeros_(block.attention.out.weight)
            nn.init.zeros_(last.weight)

    def forward(self, text: Tensor) -> Tensor:
        """Map int64 ``[batch, time]`` in [0, 256) to logits ``[batch, time, 256]``."""
        x = self.embedding(text)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
