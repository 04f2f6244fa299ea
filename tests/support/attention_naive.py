"""The attention agent as its equations say: a loop over frames, agents and heads."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from endmark.nets import AttentionAgent
from endmark.nets.attention import Layer


def attention_naive(agent: AttentionAgent, inputs: list[Tensor]) -> list[Tensor]:
    """Features [N, H] at each frame of one episode, from what each of N agents' first layer reads, [N, I]."""
    x = [agent.encoder(frame) for frame in inputs]
    for module in agent.layers:
        layer = cast(Layer, module)
        qkv = [layer.qkv(normed(layer.attention_norm, frame)) for frame in x]
        after = []
        for t, frame in enumerate(x):
            mixed = torch.stack([attend(agent, [rows[n] for rows in qkv], t) for n in range(len(frame))])
            frame = frame + layer.out(mixed)
            after.append(frame + layer.down(layer.up(normed(layer.mlp_norm, frame)).clamp(min=0)))
        x = after
    return [normed(agent.norm, frame) for frame in x]


def attend(agent: AttentionAgent, qkv: list[Tensor], t: int) -> Tensor:
    """What frame t reads, from the queries, keys and values [3 H] of one agent at all frames."""
    outputs = []
    for head in range(agent.options.heads):
        size = agent.n_features // agent.options.heads
        q, k, v = ([row[part * agent.n_features + head * size :][:size] for row in qkv] for part in range(3))
        seen = range(max(0, t - agent.options.window + 1), t + 1)
        scores = torch.stack([turned(q[t], t) @ turned(k[s], s) / size**0.5 for s in seen])
        weights = scores.exp() / scores.exp().sum()
        outputs.append(sum((weights[i] * v[s] for i, s in enumerate(seen)), torch.zeros_like(v[0])))
    return torch.cat(outputs)


def turned(x: Tensor, t: int) -> Tensor:
    """The pairs (i, i + D/2) as complex numbers, each turned by its own angle."""
    half = len(x) // 2
    angle = torch.tensor([t * 10_000.0 ** (-i / half) for i in range(half)], dtype=x.dtype)
    pairs = torch.complex(x[:half], x[half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([pairs.real, pairs.imag])


def normed(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """(x - mean) / sqrt(variance + 1e-5), then scaled and shifted."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * norm.weight + norm.bias
