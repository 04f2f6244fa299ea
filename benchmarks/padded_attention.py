"""The baseline of attention: the same Transformer on padded tensors, with an exact mask, tuned.

Tensors are (B, C, N, ..), C the frames of the longest episode. This file does not import endmark's networks;
parameters have the same names, so weights are copied by name. Inputs are built once; queries, keys and values
come from one product; `scaled_dot_product_attention` gets the mask as numbers, which is the faster form.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Layer(nn.Module):
    """Attention and MLP, pre-norm."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.up, self.down = nn.Linear(size, 2 * size), nn.Linear(2 * size, size)

    def forward(self, x: Tensor, mask: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(B, N, C, size) to the same."""
        b, n, c, size = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(b, n, c, 3, self.heads, size // self.heads)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # (B, N, heads, C, D) each
        q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        mixed = functional.scaled_dot_product_attention(
            q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), attn_mask=mask
        )
        x = x + self.out(mixed.view(b, n, self.heads, c, -1).transpose(2, 3).reshape(b, n, c, size))
        out: Tensor = x + self.down(torch.relu(self.up(self.mlp_norm(x))))
        return out


class PaddedAttention(nn.Module):
    """The agent on padded episodes. size: its width."""

    def __init__(self, n_inputs: int, size: int, heads: int, layers: int) -> None:
        super().__init__()
        self.heads, self.size = heads, size
        self.encoder = nn.Linear(n_inputs, size)
        self.layers = nn.ModuleList(Layer(size, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(size)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Features (B, N, C, size) of inputs (B, N, C, I). mask (B N, 1, C, C): 0 or -inf."""
        size, half = self.size // self.heads, self.size // self.heads // 2
        turns = torch.arange(inputs.shape[2]).double()[:, None] * 10_000.0 ** (-torch.arange(half) * 2 / size)
        cos, sin = turns.cos().to(inputs.dtype), turns.sin().to(inputs.dtype)
        x = self.encoder(inputs)
        for layer in self.layers:
            x = layer(x, mask, cos, sin)
        out: Tensor = self.norm(x)
        return out


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Each pair (i, i + D/2) turned by its angle."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def inputs_of(obs: Tensor, last_actions: Tensor, n_actions: int) -> Tensor:
    """(B, N, C, I): the observation, the last action and the agent's number, the last two one-hot."""
    b, c, n, _ = obs.shape
    last = functional.one_hot(last_actions + 1, n_actions + 1)[..., 1:].to(obs.dtype)
    ids = torch.eye(n, dtype=obs.dtype).expand(b, c, n, n)
    return torch.cat([obs, last, ids], -1).transpose(1, 2).contiguous()


def exact_mask(filled: Tensor, n_agents: int, dtype: torch.dtype) -> Tensor:
    """(B N, 1, C, C): 0 where a frame may look, at real frames up to itself; -inf elsewhere.

    A row of padding looks at the first frame, lest its softmax has no term.
    """
    b, c = filled.shape
    may = filled[:, None, :] & torch.ones(c, c, dtype=torch.bool).tril()
    mask = torch.zeros(b, c, c, dtype=dtype).masked_fill(~may, -torch.inf)
    return mask[:, None, None].expand(b, n_agents, 1, c, c).reshape(b * n_agents, 1, c, c)
